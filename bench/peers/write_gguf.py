#!/usr/bin/env python3
"""Writes the text part of a Qwen2-VL checkpoint folder as a GGUF file, for llama.cpp and node-llama-cpp.

    pip install gguf safetensors
    python write_gguf.py <checkpoint folder> <file.gguf>

Weights stay bf16, norms and biases become fp32, as llama.cpp keeps them. llama-quantize makes the
quantised files from this one. Tensors are written one by one: the peak of memory is the embedding.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, MODEL_ARCH, TokenType, get_tensor_name_map


def read_tensors(folder):
    """(name, bf16 bits as uint16, shape) of every tensor of the language model."""
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        data = np.memmap(file, np.uint8, "r", offset=8 + length)
        for name, entry in header.items():
            if name == "__metadata__" or name.startswith("visual."):
                continue
            if entry["dtype"] != "BF16":
                sys.exit(f"{name} is {entry['dtype']}; this script reads BF16 checkpoints")
            begin, end = entry["data_offsets"]
            yield name, data[begin:end].view(np.uint16).reshape(entry["shape"])


def add_tokenizer(writer, folder, vocab_size):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [TokenType.UNUSED] * vocab_size
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index], types[index] = token, TokenType.NORMAL
    for token in tokenizer["added_tokens"]:
        tokens[token["id"]], types[token["id"]] = token["content"], TokenType.CONTROL
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])


def main():
    folder, out = Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    writer = GGUFWriter(out, "qwen2vl")
    writer.add_name(folder.name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_sections([*config["rope_scaling"]["mrope_section"], 0])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(32)  # mostly bf16
    add_tokenizer(writer, folder, config["vocab_size"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)

    names = get_tensor_name_map(MODEL_ARCH.QWEN2VL, config["num_hidden_layers"])
    for name, bits in read_tensors(folder):
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            sys.exit(f"{name} has no name in GGUF")
        if bits.ndim == 1:
            writer.add_tensor(target, (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            writer.add_tensor(target, bits.view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=True)
    writer.close()


if __name__ == "__main__":
    main()
