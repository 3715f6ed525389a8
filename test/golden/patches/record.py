"""Records pixel_values of pictures given by formula.

Recorded with transformers 5.18.0 (Qwen2VLImageProcessorPil; the frames of videos through the same
rescale() and normalize(), then through patchify() of Qwen2VLVideoProcessor), torch 2.13.0, torchvision
0.28.0, Pillow 12.3.0. Writes cases.txt beside this file, one case a line:
kind(image|video) pattern seed frames width height new_width new_height grid_t grid_h grid_w constants
fnv1a(float32 bytes, little-endian), then five times: row column bits(float32, hexadecimal).
Frame f of a video is the pattern with seed + f. new_width, new_height: size after the processor's resize.
"""

import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "resample"))
from patterns import fnv1a, picture  # noqa: E402

# The video processor imports torchvision but uses none of its compiled operators here; without them the
# package only imports when these two are declared.
for operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, operator):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil  # noqa: E402
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor  # noqa: E402

torch.set_num_threads(1)

CONSTANTS = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "half": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}

IMAGES = [
    # pattern, seed, size, constants, resize
    ("waves", 0, (84, 56), "clip", False),
    ("noise", 1, (56, 56), "clip", False),
    ("noise", 2, (28, 112), "clip", False),
    ("noise", 3, (140, 84), "half", False),
    ("noise", 4, (28, 28), "imagenet", False),
    ("checker", 0, (196, 56), "clip", False),
    ("noise", 5, (37, 201), "clip", True),
    ("noise", 6, (101, 99), "clip", True),
    ("gradient", 2, (1, 1), "clip", True),
    ("noise", 7, (400, 3), "clip", True),
    ("waves", 8, (333, 250), "imagenet", True),
]
VIDEOS = [
    # pattern, seed, frames, size, constants
    ("waves", 0, 2, (84, 56), "clip"),
    ("noise", 10, 1, (56, 84), "clip"),
    ("noise", 11, 3, (56, 84), "clip"),
    ("noise", 12, 4, (112, 28), "half"),
    ("noise", 13, 5, (84, 112), "clip"),
    ("gradient", 1, 6, (28, 56), "imagenet"),
]


def processor(constants: str) -> Qwen2VLImageProcessorPil:
    mean, std = CONSTANTS[constants]
    return Qwen2VLImageProcessorPil(image_mean=mean, image_std=std, min_pixels=3136, max_pixels=12845056)


def record_image(pattern, seed, size, constants, resize):
    image = Image.fromarray(picture(pattern, *size, seed))
    out = processor(constants)(images=[image], do_resize=resize, return_tensors="np")
    return out["pixel_values"], out["image_grid_thw"][0]


def record_video(pattern, seed, frames, size, constants):
    pil = processor(constants)
    mean, std = CONSTANTS[constants]
    clip = [picture(pattern, *size, seed + f).transpose(2, 0, 1) for f in range(frames)]
    clip = [pil.normalize(pil.rescale(frame, pil.rescale_factor), mean, std) for frame in clip]
    video = torch.from_numpy(np.stack(clip))[None]
    rows, t, h, w = Qwen2VLVideoProcessor().patchify(video, patch_size=14, merge_size=2, temporal_patch_size=2)
    return rows[0].numpy(), (t, h, w)


def line(kind, pattern, seed, frames, size, constants, rows, grid):
    rows = np.ascontiguousarray(rows)
    assert rows.dtype == np.float32 and rows.shape == (np.prod(grid), 1176)
    fields = [kind, pattern, seed, frames, *size, grid[2] * 14, grid[1] * 14, *grid, constants]
    fields.append(f"{fnv1a(rows.tobytes()):016x}")
    last = len(rows) - 1
    for row, col in ((0, 0), (1 % len(rows), 14), (last // 2, 196), (last // 3, 587), (last, 1175)):
        fields += [row, col, f"{rows[row, col].view(np.uint32):08x}"]
    return " ".join(map(str, fields))


def main() -> None:
    lines = [f"# transformers {transformers.__version__}; see record.py"]
    for case in IMAGES:
        pattern, seed, size, constants, _ = case
        lines.append(line("image", pattern, seed, 1, size, constants, *record_image(*case)))
    for case in VIDEOS:
        pattern, seed, frames, size, constants = case
        lines.append(line("video", pattern, seed, frames, size, constants, *record_video(*case)))
    (HERE / "cases.txt").write_text("\n".join(lines) + "\n")


main()
