"""Records what the reference makes of the pictures of files/: cases.json beside this script.

    python test/golden/images/record.py

Made with Pillow 12.3.0, numpy and transformers 5.18.0 (Qwen2VLImageProcessorPil). qwen-vl-utils is not
imported: its rules for images (fetch_image, smart_resize, white behind RGBA) are written out below. For
every case:

  mode       what Pillow calls the decoded picture
  rgb        sha256 of the decoded picture after conversion to RGB, [height, width, 3] uint8
  resized    sha256 of the picture after both resizes
  patches    sha256 of pixel_values, float32 [rows, 1176]

Where the reference has nothing to follow, `decision` names the rule of this package that replaces it.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import encode

HERE = Path(__file__).parent
UTILS_MIN, UTILS_MAX = 4 * 28 * 28, 16384 * 28 * 28
PUBLISHED = {"minPixels": 3136, "maxPixels": 12845056}
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def utils_smart_resize(height, width, minimum, maximum, factor=28):
    assert max(height, width) / min(height, width) <= 200
    h = max(factor, round(height / factor) * factor)
    w = max(factor, round(width / factor) * factor)
    if h * w > maximum:
        beta = math.sqrt((height * width) / maximum)
        h, w = math.floor(height / beta / factor) * factor, math.floor(width / beta / factor) * factor
    elif h * w < minimum:
        beta = math.sqrt(minimum / (height * width))
        h, w = math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return h, w


def load(path):
    """Pillow's picture as RGB, white behind RGBA as qwen-vl-utils >= 0.0.10 has it."""
    image = Image.open(path)
    image.load()
    mode = image.mode
    if mode == "I;16":
        # Pillow clips 16-bit grey to 255, which is of no use to anybody; the decision is the high byte,
        # as Pillow itself does for 16-bit RGB.
        high = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return mode, high.convert("RGB"), "16-bit grey: high byte"
    if mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.split()[3])
        return mode, white, None
    return mode, image.convert("RGB"), None


def prepare(image, options, limits):
    """fetch_image's resize, then the processor's own, and its patches."""
    if "resizedHeight" in options and "resizedWidth" in options:
        size = utils_smart_resize(options["resizedHeight"], options["resizedWidth"], UTILS_MIN, UTILS_MAX)
    else:
        size = utils_smart_resize(
            image.height, image.width, options.get("minPixels", UTILS_MIN), options.get("maxPixels", UTILS_MAX)
        )
    first = image.resize((size[1], size[0]))
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": limits["minPixels"], "longest_edge": limits["maxPixels"]}, image_mean=MEAN, image_std=STD
    )
    output = processor(images=[first], return_tensors="np")
    grid = [int(v) for v in output["image_grid_thw"][0]]
    final = first.resize((grid[2] * 14, grid[1] * 14), Image.BICUBIC)
    return final, grid, checked_patches(final, output["pixel_values"])


def checked_patches(image, pixel_values):
    """pixel_values, compared with the plain formula of the slow processor."""
    values = (np.asarray(image).astype(np.float64) * (1 / 255)).astype(np.float32)
    values = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    frames = np.stack([values, values]).transpose(0, 3, 1, 2)
    h, w = image.height // 14, image.width // 14
    patches = frames.reshape(1, 2, 3, h // 2, 2, 14, w // 2, 2, 14).transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    patches = np.ascontiguousarray(patches.reshape(h * w, 1176))
    assert np.array_equal(patches, pixel_values.astype(np.float32)), np.abs(patches - pixel_values).max()
    return patches


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def cases():
    """Every file as published checkpoints see it, then the options on some of them."""
    for path in sorted(encode.FILES.iterdir()):
        if path.suffix != ".avif":  # another AV1 decoder, another conversion from YUV
            yield path.stem + path.suffix, path.name, {}, PUBLISHED
    small = {"minPixels": 3136, "maxPixels": 20000}
    yield "shrunk by the request", "rgb-large.png", {"minPixels": 12544, "maxPixels": 25088}, PUBLISHED
    yield "enlarged by the request", "rgb.png", {"minPixels": 50176}, PUBLISHED
    yield "shrunk by the checkpoint, so resized twice", "rgb-large.png", {}, small
    yield "shrunk by both", "rgb-large.png", {"maxPixels": 40000}, small
    yield "enlarged by the checkpoint", "rgb.png", {}, {"minPixels": 50176, "maxPixels": 100352}
    yield "a size asked for", "rgb.png", {"resizedHeight": 100, "resizedWidth": 60}, PUBLISHED
    yield "a size asked for wins over limits", "rgb.png", {"resizedHeight": 100, "resizedWidth": 60, "maxPixels": 3136}, PUBLISHED
    yield "half a size asked for is ignored", "rgb.png", {"resizedHeight": 100}, PUBLISHED
    yield "thin, shrunk by the checkpoint", "ratio-199.png", {}, small


def record():
    encode.write_all()
    recorded = []
    for name, file, options, limits in cases():
        mode, image, decision = load(HERE / "files" / file)
        final, grid, patches = prepare(image, options, limits)
        case = {
            "name": name,
            "file": file,
            "options": options,
            "preprocessor": limits,
            "mode": mode,
            "size": [image.width, image.height],
            "resized": [final.width, final.height],
            "gridThw": grid,
            "sha256": {"rgb": digest(np.asarray(image)), "resized": digest(np.asarray(final)), "patches": digest(patches)},
        }
        if decision:
            case["decision"] = decision
        recorded.append(case)
    (HERE / "cases.json").write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{len(recorded)} cases")


if __name__ == "__main__":
    record()
