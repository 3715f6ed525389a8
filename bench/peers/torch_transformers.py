#!/usr/bin/env python3
"""transformers on torch's CPU backend. Prints a line of JSON for each case of cases.ts.

    pip install torch transformers safetensors
    python torch_transformers.py <checkpoint folder> f32|bf16 <threads>
"""
import json
import os
import sys
import time

folder, dtype, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = str(threads)

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(threads)
PATCH_VALUES = 1176


def emit(case, value):
    print(json.dumps({"case": case, "value": value}, ensure_ascii=False), flush=True)


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def load():
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=kind, attn_implementation="sdpa")
    return model.eval()


def decode(model, tokens):
    out = model(input_ids=random_ids(64), use_cache=True, logits_to_keep=1)

    def steps():
        cache, last = out.past_key_values, out.logits[:, -1:].argmax(-1)
        for _ in range(tokens):
            step = model(input_ids=last, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, last = step.past_key_values, step.logits[:, -1:].argmax(-1)

    return tokens / seconds(steps)


def random_ids(count):
    return torch.randint(0, 151643, (1, count))


with torch.inference_mode():
    begin = time.perf_counter()
    model = load()
    model(input_ids=random_ids(1), logits_to_keep=1)
    emit("load", time.perf_counter() - begin)
    for tokens in (128, 512):
        ids = random_ids(tokens)
        emit(f"prefill {tokens}", tokens / seconds(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1)))
    emit("decode", decode(model, 32))
    # Rows and columns of patches of 448x448 and of 1024x768, which becomes 1036x756.
    for size, rows, columns in (("448×448", 32, 32), ("1024×768", 54, 74)):
        pixels = torch.randn(rows * columns, PATCH_VALUES).to(model.dtype)
        grid = torch.tensor([[1, rows, columns]])
        emit(f"image {size}", seconds(lambda: model.model.visual(pixels, grid_thw=grid)))
