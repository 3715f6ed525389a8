"""Records what transformers makes of prompts for random tiny Qwen2-VL models: logits and greedy answers.

Recorded with torch 2.13.0 (CPU) and transformers 5.18.0, float32, eager attention. Run: python record.py
Weights and pictures are formulas that test/native/model/formula_checkpoint.h and test/native/io/patterns.h share, so only
results are stored. Weights of 16-bit cases are rounded to that type and computed with in float32.

Writes cases.txt, words separated by white space, and one NAME.f32 a case: the logits of all positions of the prompt
[tokens, vocab_size], little-endian float32.

    case NAME
    config KEY VALUE ...                         numbers; mrope_section has three
    weights TYPE published|newer SEED GAIN       as stored, names of the published or the newer layout
    item image|video PATTERN WIDTH HEIGHT FRAMES SEED     frame f has the pattern's seed SEED + f
    prompt COUNT ids...
    greedy COUNT ids...
    margin VALUE                                 least distance of the best logit to the second, over the answer

The seeds were searched so that the margin is far above the tolerance of a comparison in float32. Videos keep
t <= max(h / 2, w / 2): beyond that transformers 5 gives the text after a video other positions than 4.x did.
"""

import os
import sys

import numpy as np
import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "resample"))
from patterns import picture  # noqa: E402

torch.set_num_threads(1)

ANSWER_TOKENS = 32
LEAST_MARGIN = 5e-3
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

BASE = dict(
    hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4, num_kv_heads=2, vocab_size=64, rms_norm_eps=1e-6,
    rope_theta=1e6, mrope_section=(2, 3, 3), tie_word_embeddings=0, image_token_id=60, video_token_id=61,
    vision_depth=2, vision_embed_dim=32, vision_num_heads=2, vision_mlp_ratio=4,
)
START, END = 58, 59  # of vision; text tokens to the model

IMAGE, VIDEO = "image", "video"


def text(count, seed):
    """`count` ids below 58."""
    return [int(v) for v in np.random.RandomState(seed).randint(0, 58, count)]


def case(name, parts, dtype="F32", names="published", gain=3.4, **config):
    """`parts`: lists of token ids, and items (kind, pattern, width, height, frames, seed)."""
    return dict(name=name, parts=parts, dtype=dtype, names=names, gain=gain, config={**BASE, **config})


CASES = [
    case("text", [text(21, 1)], num_layers=3),
    case("text-tied-nested-bf16", [text(40, 2)], "BF16", "newer", 5.0, tie_word_embeddings=1),
    case("one-token", [[7]], "F16"),
    case("image-multi-head", [text(3, 3), [START], (IMAGE, "noise", 84, 56, 1, 5), [END], text(6, 4)],
         names="newer", num_kv_heads=4),
    case("image-gqa7-bf16", [text(2, 5), [START], (IMAGE, "waves", 140, 84, 1, 2), [END], text(9, 6)], "BF16",
         hidden_size=112, num_heads=7, num_kv_heads=1, intermediate_size=128, num_layers=3),
    case("thin-image", [text(1, 7), [START], (IMAGE, "gradient", 28, 196, 1, 0), [END], text(4, 8)],
         gain=5.0, tie_word_embeddings=1),
    case("three-images-f16", [text(2, 9), [START], (IMAGE, "noise", 56, 56, 1, 1), [END], text(2, 10),
                              [START], (IMAGE, "dots", 196, 28, 1, 0), [END], [START], (IMAGE, "checker", 84, 112, 1, 1),
                              [END], text(7, 11)], "F16", "newer"),
    case("video-odd-frames", [text(2, 12), [START], (VIDEO, "waves", 84, 56, 5, 0), [END], text(5, 13)]),
    case("image-and-video-bf16", [text(1, 14), [START], (IMAGE, "waves", 56, 84, 1, 1), [END], [START],
                                  (VIDEO, "noise", 112, 56, 4, 3), [END], text(3, 15), [START],
                                  (IMAGE, "stripes", 84, 28, 1, 0), [END], text(3, 16)], "BF16", "newer", 5.0,
         tie_word_embeddings=1),
    case("videos-around-image", [[START], (VIDEO, "gradient", 56, 112, 3, 1), [END, START],
                                 (IMAGE, "noise", 28, 28, 1, 2), [END, START], (VIDEO, "noise", 28, 56, 1, 9), [END], text(2, 17)],
         vision_depth=3),
    case("long-system-prompt", [text(300, 18), [START], (IMAGE, "noise", 112, 84, 1, 6), [END], text(20, 19)], num_layers=3),
    case("ends-in-image", [text(2, 20), [START], (IMAGE, "waves", 56, 56, 1, 4)]),
    case("uneven-sizes", [text(4, 21), [START], (IMAGE, "noise", 84, 84, 1, 7), [END], text(5, 22)],
         hidden_size=50, num_heads=5, num_kv_heads=1, intermediate_size=37, vocab_size=97, mrope_section=(1, 2, 2),
         vision_embed_dim=36, vision_num_heads=3, vision_mlp_ratio=3),
    case("small-heads-bf16", [text(5, 23), [START], (IMAGE, "waves", 112, 28, 1, 3), [END], text(8, 24)], "BF16", "newer",
         hidden_size=48, num_heads=6, num_kv_heads=1, intermediate_size=40, num_layers=4, mrope_section=(2, 1, 1),
         rope_theta=1e4, rms_norm_eps=1e-5, vision_embed_dim=16, vision_num_heads=2, vision_depth=1),
    case("large-heads", [text(5, 25), [START], (VIDEO, "noise", 56, 56, 4, 3), [END], text(3, 26)],
         hidden_size=96, num_heads=3, num_kv_heads=3, vocab_size=80, mrope_section=(4, 6, 6),
         vision_embed_dim=48, vision_num_heads=1),
    case("image-of-many-patches", [text(2, 27), [START], (IMAGE, "noise", 336, 364, 1, 8), [END], text(4, 28)], "BF16"),
    case("video-of-many-patches", [text(2, 29), [START], (VIDEO, "noise", 196, 252, 6, 8), [END], text(4, 30)], names="newer"),
]


def tensor_value(name, shape, order, seed, gain):
    count = int(np.prod(shape))
    mask = np.uint64(0xFFFFFFFF)
    i = np.arange(count, dtype=np.uint64)
    x = ((i + np.uint64(1)) * np.uint64(2654435761) + np.uint64((order + 1 + seed) * 40503)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & mask
    x ^= x >> np.uint64(13)
    v = x.astype(np.float64) / 2.0**32 - 0.5
    if name.endswith("bias"):
        w = 0.2 * v
    elif len(shape) == 1:
        w = 1 + 0.2 * v
    elif name == "model.embed_tokens.weight":
        w = 2 * v
    else:
        w = v * gain / np.sqrt(count / shape[0])
    return torch.from_numpy(w.astype(np.float32).reshape(shape))


def published_name(name):
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def build(case, seed):
    c = case["config"]
    text_config = dict(
        hidden_size=c["hidden_size"], intermediate_size=c["intermediate_size"], num_hidden_layers=c["num_layers"],
        num_attention_heads=c["num_heads"], num_key_value_heads=c["num_kv_heads"], vocab_size=c["vocab_size"],
        rms_norm_eps=c["rms_norm_eps"], max_position_embeddings=32768, bos_token_id=None, eos_token_id=None,
        pad_token_id=None, tie_word_embeddings=bool(c["tie_word_embeddings"]),
        rope_parameters=dict(rope_type="default", rope_theta=c["rope_theta"], mrope_section=list(c["mrope_section"])),
    )
    config = Qwen2VLConfig(
        text_config=text_config, tie_word_embeddings=bool(c["tie_word_embeddings"]),
        image_token_id=c["image_token_id"], video_token_id=c["video_token_id"], vision_start_token_id=START,
        vision_end_token_id=END,
        vision_config=dict(depth=c["vision_depth"], embed_dim=c["vision_embed_dim"], num_heads=c["vision_num_heads"],
                           mlp_ratio=c["vision_mlp_ratio"], hidden_size=c["hidden_size"]),
    )
    config._attn_implementation = "eager"
    model = Qwen2VLForConditionalGeneration(config).eval()
    assert model.config._attn_implementation == "eager"
    state = model.state_dict()
    if c["tie_word_embeddings"]:
        del state["lm_head.weight"]
    names = sorted(state, key=published_name)
    for order, name in enumerate(names):
        value = tensor_value(published_name(name), tuple(state[name].shape), order, seed, case["gain"])
        state[name] = value.to(DTYPES[case["dtype"]]).float()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def patches(frames):
    """[t * h * w, 1176] of uint8 frames, as Qwen2VLImageProcessor orders and normalises them."""
    if len(frames) % 2:
        frames = frames + frames[-1:]
    x = np.stack(frames).astype(np.float64) * (1 / 255)
    x = (x.astype(np.float32) - MEAN) / STD
    count, height, width, _ = x.shape
    t, h, w = count // 2, height // 14, width // 14
    x = x.reshape(t, 2, h // 2, 2, 14, w // 2, 2, 14, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return torch.from_numpy(x.reshape(t * h * w, 1176)), (t, h, w)


def check_patches_against_processor(frame):
    processed = Qwen2VLImageProcessorPil(do_resize=False)(images=[frame], return_tensors="pt", input_data_format="channels_last")
    own, grid = patches([frame])
    assert tuple(processed["image_grid_thw"][0].tolist()) == grid
    assert torch.equal(processed["pixel_values"], own), (processed["pixel_values"] - own).abs().max()


def inputs(case):
    ids, values, grids = [], {IMAGE: [], VIDEO: []}, {IMAGE: [], VIDEO: []}
    types = []
    for part in case["parts"]:
        if isinstance(part, list):
            ids += part
            types += [0] * len(part)
            continue
        kind, pattern, width, height, count, seed = part
        frames = [picture(pattern, width, height, seed + f) for f in range(count)]
        if kind == IMAGE:
            check_patches_against_processor(frames[0])
        rows, grid = patches(frames)
        assert grid[0] <= max(grid[1], grid[2]) // 2
        values[kind].append(rows)
        grids[kind].append(grid)
        tokens = grid[0] * grid[1] * grid[2] // 4
        ids += [case["config"][f"{kind}_token_id"]] * tokens
        types += [1 if kind == IMAGE else 2] * tokens
    out = dict(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
               mm_token_type_ids=torch.tensor([types], dtype=torch.int))
    if grids[IMAGE]:
        out |= dict(pixel_values=torch.cat(values[IMAGE]), image_grid_thw=torch.tensor(grids[IMAGE]))
    if grids[VIDEO]:
        out |= dict(pixel_values_videos=torch.cat(values[VIDEO]), video_grid_thw=torch.tensor(grids[VIDEO]))
    return out


@torch.no_grad()
def run(case, seed):
    model = build(case, seed)
    given = inputs(case)
    logits = model(**given).logits[0]
    count = logits.shape[0]
    # Answers by whole passes with explicit positions: token k after the prompt has T = H = W = k + delta. generate() of
    # transformers 5 agrees, but for a prompt that ends in an image, where it counts on from each axis of the last patch
    # (4.x did not).
    types, grids = given["mm_token_type_ids"], {k: v for k, v in given.items() if k.endswith("grid_thw")}
    if grids:
        positions, delta = model.model.get_rope_index(given["input_ids"], types, attention_mask=given["attention_mask"], **grids)
        delta = int(delta)
    else:
        positions, delta = torch.arange(count).expand(3, 1, -1), 0
    positions = torch.cat([positions, (torch.arange(count, count + ANSWER_TOKENS) + delta).expand(3, 1, -1)], dim=-1)
    ids, margin = given["input_ids"], float("inf")
    for length in range(count, count + ANSWER_TOKENS):
        step = model(inputs_embeds=embed(model, given, ids), position_ids=positions[..., :length]).logits[0, -1]
        best = step.topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[None, :1]], dim=1)
    answer = ids[0, count:].tolist()
    if isinstance(case["parts"][-1], list):
        generated = model.generate(**given, max_new_tokens=ANSWER_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert generated[0, count:].tolist() == answer
    return given["input_ids"][0].tolist(), logits, answer, margin


def embed(model, given, ids):
    """Token embeddings of `ids`, prompt and answer, with the visual tokens in the prompt's places."""
    embeds = model.get_input_embeddings()(ids).clone()
    types = torch.nn.functional.pad(given["mm_token_type_ids"], (0, ids.shape[1] - given["input_ids"].shape[1]))
    for kind, type_id, key in ((IMAGE, 1, "pixel_values"), (VIDEO, 2, "pixel_values_videos")):
        if key in given:
            rows = model.model.visual(given[key], grid_thw=given[f"{kind}_grid_thw"]).pooler_output
            embeds[types == type_id] = rows
    return embeds


def words(values):
    return " ".join(str(v) for v in values)


def config_words(config):
    return words(f"{k} {words(v) if isinstance(v, tuple) else v}" for k, v in config.items())


def main():
    with open(os.path.join(HERE, "cases.txt"), "w") as out:
        out.write("# Made by record.py, which says what the lines mean.\n")
        for index, c in enumerate(CASES):
            for seed in range((index + 1) * 1000, (index + 1) * 1000 + 100):
                prompt, logits, answer, margin = run(c, seed)
                if margin > LEAST_MARGIN and len(set(answer)) > 3:
                    break
            else:
                raise SystemExit(f"{c['name']}: no seed with a safe margin")
            print(c["name"], "seed", seed, "tokens", len(prompt), "margin", margin, "distinct", len(set(answer)), "max", float(logits.abs().max()))
            out.write(f"case {c['name']}\nconfig {config_words(c['config'])}\n")
            out.write(f"weights {c['dtype']} {c['names']} {seed} {c['gain']}\n")
            for part in c["parts"]:
                if isinstance(part, tuple):
                    out.write(f"item {words(part)}\n")
            out.write(f"prompt {len(prompt)} {words(prompt)}\n")
            out.write(f"greedy {len(answer)} {words(answer)}\nmargin {margin:.6f}\n")
            logits.numpy().astype("<f4").tofile(os.path.join(HERE, f"{c['name']}.f32"))


if __name__ == "__main__":
    main()
