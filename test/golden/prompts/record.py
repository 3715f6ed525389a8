"""Records what the reference makes of whole conversations: prompts.json beside this script.

    python test/golden/prompts/record.py

Made with transformers 5.18.0, torch 2.13.0 (CPU, one thread) and Pillow 12.3.0, with the bundled checkpoint
in float32 and eager attention. conversations.json says what is asked; both this script and
test/lib/prompts.test.ts read it. Paths in it start at the repository. What JSON cannot say is written as

  {"$bytes": path}, {"$url": path}, {"$stream": path}, ...                        ways to hand over a file
  {"$dataUrl": path, "mediaType": "image/png"}                                    data:image/png;base64,...
  {"$pixels": [width, height, channels]}     raw pixels: (7x + 3y + 31c + (x * y) div 8) mod 256

`limits` are the pixel limits of the checkpoint (default: those of the bundled one), `loadOptions` what the model
is loaded with, limits among it. `prompt` in the place of `messages` does not go through the template. Pictures go through
../images/record.py, which has the rules of qwen-vl-utils; those for videos are here. Video files are
decoded by ffmpeg 5.1. Of every conversation prompts.json has

  text        rendered by the checkpoint's template, before placeholders are expanded
  ids         after expansion; a run of one id is written "id*length"
  grids       image_grid_thw and video_grid_thw
  patches     sha256 of pixel_values and pixel_values_videos, float32 [rows, 1176]; of both where both exist
  positions   sha256 of T, H and W of every token, int32 [3, tokens]
  delta       what is added to the number of a later token to give its position
  answer      greedy, at most 24 tokens, up to and with the one that ends it; only where the best logit is
              ahead of the second by more than 1e-2 at each step, so that rounding cannot decide

Positions follow the published models: a text after a video goes on after its largest position. Transformers 5
does so only where a video has no more steps in time than tokens along its longer side; there the two are compared.
"""

import hashlib
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import (
    AutoTokenizer,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    Qwen2VLForConditionalGeneration,
    RepetitionPenaltyLogitsProcessor,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TINY = ROOT / "models" / "qwen2-vl-tiny"
sys.path.insert(0, str(HERE.parent / "images"))
import record as pictures  # noqa: E402

ANSWER_TOKENS = 24
LEAST_MARGIN = 1e-2
IMAGE_PAD, VIDEO_PAD = 1258, 1259
ENDS = (1248, 1246)
OPTIONS = {
    **{"min_pixels": "minPixels", "max_pixels": "maxPixels", "resized_height": "resizedHeight", "resized_width": "resizedWidth"},
    **{"min_frames": "minFrames", "max_frames": "maxFrames", "total_pixels": "totalPixels", "fps": "fps", "nframes": "nframes"},
    **{"video_start": "videoStart", "video_end": "videoEnd"},
}

torch.set_num_threads(1)


def open_source(source, load_options):
    """The picture of a source as RGB."""
    if isinstance(source, dict) and "$pixels" in source:
        width, height, channels = source["$pixels"]
        y, x, c = np.ogrid[:height, :width, :channels]
        values = ((7 * x + 3 * y + 31 * c + (x * y) // 8) % 256).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(values[..., 0] if channels == 1 else values).save(file, format="PNG")
    else:
        file = io.BytesIO((ROOT / path_of(source)).read_bytes())
    if load_options.get("alpha") == "drop":  # qwen-vl-utils 0.0.8
        return Image.open(file).convert("RGB")
    if load_options.get("exif") == "apply":  # transformers' own loader
        return ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    return pictures.load(file)[1]


def path_of(source):
    return source if isinstance(source, str) else next(value for key, value in source.items() if key[0] == "$")


def media_of(conversation):
    """(kind, sources, options) in order of appearance, as qwen-vl-utils collects them."""
    for content in contents_of(conversation):
        for part in content if isinstance(content, list) else []:
            if isinstance(part, str):
                continue
            part = in_reference_words(part)
            options = {OPTIONS.get(k, k): v for k, v in part.items() if OPTIONS.get(k, k) in OPTIONS.values()}
            if "image" in part or "image_url" in part:
                source = part.get("image", part.get("image_url"))
                if isinstance(source, dict) and "url" in source:
                    options |= {OPTIONS[k]: v for k, v in source.items() if k in OPTIONS}
                    source = source["url"]
                yield "image", [source], options
            elif "video" in part:
                yield "video", part["video"], options


def contents_of(conversation):
    if "prompt" in conversation:
        return [conversation["prompt"]]
    return [message["content"] for message in conversation["messages"]]


def in_reference_words(part):
    """A file part of the AI SDK and a video_url are images and videos in other words."""
    if part.get("type") == "file":
        kind = part["mediaType"].split("/")[0]
        return {**{k: v for k, v in part.items() if k not in ("data", "mediaType")}, "type": kind, kind: part["data"]}
    if part.get("type") == "video_url":
        inner = part["video_url"] if "url" in part["video_url"] else {"url": part["video_url"]}
        outer = {k: v for k, v in part.items() if k != "video_url"}
        return {**outer, **{k: v for k, v in inner.items() if k != "url"}, "type": "video", "video": inner["url"]}
    return part


def frame_patches(frames):
    """Patches of frames of one size by the plain formula; an odd last frame stands twice."""
    frames = frames + frames[-1:] * (len(frames) % 2)
    values = np.stack([(np.asarray(f).astype(np.float64) * (1 / 255)).astype(np.float32) for f in frames])
    values = (values - np.array(pictures.MEAN, np.float32)) / np.array(pictures.STD, np.float32)
    t, h, w = len(frames) // 2, frames[0].height // 14, frames[0].width // 14
    patches = values.transpose(0, 3, 1, 2).reshape(t, 2, 3, h // 2, 2, 14, w // 2, 2, 14)
    patches = patches.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 1176)
    return [t, h, w], np.ascontiguousarray(patches)


def decode_video(path):
    """All frames as ffmpeg gives them, and the average rate."""
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height,avg_frame_rate", "-of", "csv=p=0"]
    width, height, rate = subprocess.run([*probe, path], capture_output=True, check=True, text=True).stdout.strip().split(",")
    to_rgb = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact,format=rgb24"
    decode = ["ffmpeg", "-v", "error", "-i", path, "-vf", to_rgb, "-f", "rawvideo", "-"]
    frames = np.frombuffer(subprocess.run(decode, capture_output=True, check=True).stdout, np.uint8)
    over, under = rate.split("/")
    return frames.reshape(-1, int(height), int(width), 3), int(over) / int(under)


def sampled_indices(total, video_fps, options, later):
    """A range in seconds is as version 0.0.14 has it."""
    first, last = 0, total - 1
    if "videoStart" in options or "videoEnd" in options:
        first = math.ceil(options.get("videoStart", 0) * video_fps)
        last = min(math.floor(options.get("videoEnd", math.inf) * video_fps), last) if "videoEnd" in options else last
    total = last - first + 1
    if "nframes" in options:
        count = round(options["nframes"] / 2) * 2
    else:
        low = math.ceil(options.get("minFrames", 4) / 2) * 2
        high = math.floor(options.get("maxFrames", min(768, total)) / 2) * 2
        count = min(max(total / video_fps * options.get("fps", 2.0), low), high)
        count = math.floor(min(count, total) / 2) * 2 if later else round(count / 2) * 2
    assert 2 <= count <= total
    return torch.linspace(first, last, count).round().long().tolist()


def frame_size(height, width, count, options, later):
    if "resizedHeight" in options:
        return pictures.utils_smart_resize(options["resizedHeight"], options["resizedWidth"], pictures.UTILS_MIN, pictures.UTILS_MAX)
    low = options.get("minPixels", 128 * 28 * 28)
    total = options.get("totalPixels", int(128000 * 28 * 28 * 0.9) if later else 24576 * 28 * 28)
    cap = max(min(768 * 28 * 28, total / count * 2), int(low * 1.05))
    high = options.get("maxPixels", cap)
    return pictures.utils_smart_resize(height, width, low, min(high, cap) if later else high)


def video_file_item(source, options, limits, later):
    """By the rules of qwen-vl-utils 0.0.8, or those of its later versions."""
    frames, video_fps = decode_video(ROOT / path_of(source))
    indices = sampled_indices(len(frames), video_fps, options, later)
    size = frame_size(*frames.shape[1:3], len(indices), options, later)
    chosen = torch.from_numpy(frames[indices]).permute(0, 3, 1, 2)
    if chosen.shape[-2:] != size:  # torchvision leaves alone what has the size already
        chosen = torch.nn.functional.interpolate(chosen.float(), size=size, mode="bicubic", align_corners=False, antialias=True)
        chosen = chosen.clamp(0, 255).round().to(torch.uint8)
    # The processor's own limits, which are those of an image, change nothing here.
    assert limits["minPixels"] <= size[0] * size[1] <= limits["maxPixels"]
    grid, patches = frame_patches([Image.fromarray(frame) for frame in chosen.permute(0, 2, 3, 1).numpy()])
    return {"kind": "video", "grid": grid, "patches": patches}


def vision_item(kind, sources, options, limits, load_options):
    if not isinstance(sources, list):
        return video_file_item(sources, options, limits, load_options.get("videoProfile") == "utils-later")
    prepared = [pictures.prepare(open_source(source, load_options), options, limits) for source in sources]
    if kind == "image":
        return {"kind": kind, "grid": prepared[0][1], "patches": prepared[0][2]}
    grid, patches = frame_patches([frame for frame, _, _ in prepared])
    return {"kind": kind, "grid": grid, "patches": patches}


def tokens_of(item):
    t, h, w = item["grid"]
    return t * h * w // 4


def render(tokenizer, conversation):
    def option(camel, snake, default):
        return conversation.get(camel, conversation.get(snake, default))

    if "prompt" in conversation:
        return raw_prompt(conversation["prompt"])
    messages = [
        {**m, "content": m["content"] if isinstance(m["content"], str) else [in_reference_words(part) for part in m["content"]]}
        for m in conversation["messages"]
    ]
    return tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=option("addGenerationPrompt", "add_generation_prompt", True),
        add_vision_id=option("addVisionId", "add_vision_id", False),
    )


def raw_prompt(prompt):
    """As the template of the base models writes a list: markers and texts, nothing else."""
    text = ""
    for part in [prompt] if isinstance(prompt, str) else prompt:
        if isinstance(part, str) or "text" in part:
            text += part if isinstance(part, str) else part["text"]
        else:
            text += f"<|vision_start|><|{part['type']}_pad|><|vision_end|>"
    return text


def expand(text, items):
    for kind in ("image", "video"):
        pad = f"<|{kind}_pad|>"
        for item in items:
            if item["kind"] == kind:
                text = text.replace(pad, "<|placeholder|>" * tokens_of(item), 1)
        assert pad not in text
        text = text.replace("<|placeholder|>", pad)
    return text


def positions_of(ids, items):
    """T, H, W of every token [3, tokens], and the delta of later ones."""
    waiting = {pad: [i for i in items if i["kind"] == kind] for pad, kind in ((IMAGE_PAD, "image"), (VIDEO_PAD, "video"))}
    columns, p, at = [], 0, 0
    while at < len(ids):
        if ids[at] not in waiting:
            columns.append((p, p, p))
            p, at = p + 1, at + 1
            continue
        item = waiting[ids[at]].pop(0)
        t, h, w = item["grid"][0], item["grid"][1] // 2, item["grid"][2] // 2
        assert set(ids[at : at + t * h * w]) == {ids[at]}
        columns += [(p + a, p + b, p + c) for a in range(t) for b in range(h) for c in range(w)]
        p, at = p + max(t, h, w), at + t * h * w
    return np.array(columns, np.int32).T.copy(), p - len(ids)


def model_inputs(ids, items):
    inputs = {"input_ids": torch.tensor([ids])}
    for kind, values in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        chosen = [item for item in items if item["kind"] == kind]
        if chosen:
            inputs[values] = torch.from_numpy(np.concatenate([item["patches"] for item in chosen]))
            inputs[f"{kind}_grid_thw"] = torch.tensor([item["grid"] for item in chosen])
    return inputs


def check_positions(model, inputs, items, positions, delta):
    if not items or any(i["grid"][0] > max(i["grid"][1:]) // 2 for i in items):
        return False
    ids = inputs["input_ids"]
    types = ((ids == IMAGE_PAD).int() + 2 * (ids == VIDEO_PAD).int()).int()
    grids = {key: value for key, value in inputs.items() if key.endswith("_grid_thw")}
    theirs, their_delta = model.model.get_rope_index(ids, types, attention_mask=torch.ones_like(ids), **grids)
    assert np.array_equal(theirs[:, 0].numpy(), positions) and int(their_delta) == delta
    return True


def processors_of(conversation):
    """In the reference's order."""
    penalty = conversation.get("repetition_penalty", conversation.get("repetitionPenalty"))
    ngram = conversation.get("no_repeat_ngram_size", conversation.get("noRepeatNgramSize"))
    processors = LogitsProcessorList()
    if penalty:
        processors.append(RepetitionPenaltyLogitsProcessor(float(penalty)))
    if ngram:
        processors.append(NoRepeatNGramLogitsProcessor(ngram))
    return processors


@torch.no_grad()
def answer(model, inputs, positions, delta, processors):
    """Greedy ids, and the least lead of a best logit over the second."""
    count = positions.shape[1]
    ids, margin, cache = [], float("inf"), None
    step = {**inputs, "position_ids": torch.from_numpy(positions).long()[:, None]}
    ids_key = inputs["input_ids"]
    step["mm_token_type_ids"] = ((ids_key == IMAGE_PAD).int() + 2 * (ids_key == VIDEO_PAD).int()).int()
    while True:
        output = model(**step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        seen = torch.cat([inputs["input_ids"], torch.tensor([ids], dtype=torch.long)], dim=1)
        best = processors(seen, output.logits[:, -1])[0].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
        if ids[-1] in ENDS or len(ids) == ANSWER_TOKENS:
            return ids, margin
        place = torch.full((3, 1, 1), count + len(ids) - 1 + delta)
        step = {"input_ids": torch.tensor([ids[-1:]]), "position_ids": place}


def runs(ids):
    """"1247 490 1258*16": ids in the order of the prompt."""
    words, at = [], 0
    while at < len(ids):
        end = at
        while end < len(ids) and ids[end] == ids[at]:
            end += 1
        words.append(str(ids[at]) if end == at + 1 else f"{ids[at]}*{end - at}")
        at = end
    return " ".join(words)


def record_one(model, tokenizer, conversation):
    load_options = conversation.get("loadOptions", {})
    limits = {"minPixels": 3136, "maxPixels": 200704} | conversation.get("limits", {})
    limits |= {name: value for name, value in load_options.items() if name in limits}
    items = [vision_item(*media, limits, load_options) for media in media_of(conversation)]
    text = render(tokenizer, conversation)
    ids = tokenizer(expand(text, items), add_special_tokens=False)["input_ids"]
    inputs = model_inputs(ids, items)
    positions, delta = positions_of(ids, items)
    checked = check_positions(model, inputs, items, positions, delta)
    recorded = {"text": text, "ids": runs(ids)}
    for kind, values in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if values in inputs:
            recorded[f"{kind}Grids"] = inputs[f"{kind}_grid_thw"].tolist()
            recorded[f"{kind}Patches"] = pictures.digest(inputs[values].numpy())
    recorded |= {"positions": pictures.digest(positions), "delta": delta}
    ids, margin = answer(model, inputs, positions, delta, processors_of(conversation))
    if margin > LEAST_MARGIN:
        recorded |= {"answer": ids, "answerText": tokenizer.decode(ids, skip_special_tokens=True)}
    print(f"{conversation['name']}: {positions.shape[1]} tokens, margin {margin:.3f}, positions {'compared' if checked else 'by the rule'}")
    print("   ", tokenizer.decode(ids))
    return recorded


def main():
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = Qwen2VLForConditionalGeneration.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager").eval()
    conversations = json.loads((HERE / "conversations.json").read_text())
    prompts = {c["name"]: record_one(model, tokenizer, c) for c in conversations}
    assert len(prompts) == len(conversations)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in prompts.items())
    (HERE / "prompts.json").write_text(f"{{\n{lines}\n}}\n")
    print(len(prompts), "prompts,", sum("answer" in p for p in prompts.values()), "answers")


if __name__ == "__main__":
    main()
