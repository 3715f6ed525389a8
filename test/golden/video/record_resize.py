"""Records what torchvision's functional resize makes of 8-bit frames given by formula.

For a uint8 tensor that function converts to float32, calls torch.nn.functional.interpolate with
antialias=True, clamps to 0..255, rounds half to even and converts back; the same is done here with torch
alone, and compared with torchvision where it can be imported. Recorded with torch 2.13 on a CPU with AVX2.
Writes resize.txt beside this file, one case a line, in the format of ../resample/cases.txt.
"""

import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "resample"))
from patterns import fnv1a, picture  # noqa: E402

torch.set_num_threads(1)

CASES = [
    # pattern, seed, from, to
    ("waves", 0, (70, 50), (56, 56)),
    ("noise", 1, (100, 75), (112, 84)),
    ("noise", 2, (640, 480), (644, 476)),
    ("noise", 3, (300, 200), (28, 28)),
    ("noise", 4, (56, 56), (56, 56)),
    ("noise", 5, (56, 77), (56, 84)),
    ("noise", 6, (91, 56), (84, 56)),
    ("noise", 7, (1, 1), (56, 56)),
    ("noise", 8, (2, 1), (84, 28)),
    ("noise", 9, (97, 1), (560, 28)),
    ("noise", 10, (1, 97), (28, 560)),
    ("noise", 11, (199, 1), (812, 28)),
    ("noise", 12, (1920, 1080), (1008, 560)),
    ("noise", 13, (1920, 1080), (420, 224)),
    ("noise", 14, (1280, 720), (504, 280)),
    ("noise", 15, (1500, 1100), (56, 28)),
    ("noise", 16, (57, 57), (1, 1)),
    ("noise", 17, (3, 500), (500, 3)),
    ("noise", 18, (161, 121), (364, 280)),
    ("noise", 19, (854, 480), (448, 252)),
    ("checker", 0, (64, 48), (56, 56)),
    ("checker", 1, (30, 30), (224, 224)),
    ("checker", 0, (500, 500), (84, 84)),
    ("stripes", 0, (128, 96), (112, 84)),
    ("stripes", 1, (33, 65), (84, 56)),
    ("stripes", 0, (400, 400), (28, 28)),
    ("gradient", 0, (256, 3), (252, 28)),
    ("gradient", 5, (500, 333), (504, 336)),
    ("gradient", 9, (50, 333), (28, 364)),
    ("dots", 0, (40, 40), (280, 280)),
    ("dots", 3, (211, 97), (112, 56)),
    ("dots", 1, (17, 4), (308, 84)),
    ("waves", 2, (1024, 768), (1036, 756)),
    ("waves", 3, (84, 84), (336, 336)),
]


def resize(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3]; the tensor is TCHW as the reference holds frames."""
    frames = torch.tensor(frame[None]).permute(0, 3, 1, 2)
    if frames.shape[-2:] == (height, width):
        out = frames
    else:
        out = torch.nn.functional.interpolate(
            frames.to(torch.float32), size=[height, width], mode="bicubic", align_corners=False, antialias=True
        )
        out = torch.round(out.clamp(0, 255)).to(torch.uint8)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())


def check(frame: np.ndarray, out: np.ndarray) -> None:
    try:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize as torchvision_resize
    except ImportError:
        return
    frames = torch.tensor(frame[None]).permute(0, 3, 1, 2)
    theirs = torchvision_resize(frames, list(out.shape[:2]), interpolation=InterpolationMode.BICUBIC, antialias=True)
    assert np.array_equal(theirs[0].permute(1, 2, 0).numpy(), out)


def main() -> None:
    lines = [f"# torch {torch.__version__}; see record_resize.py"]
    for pattern, seed, (width, height), (new_width, new_height) in CASES:
        frame = picture(pattern, width, height, seed)
        out = resize(frame, new_width, new_height)
        check(frame, out)
        spots = [out[0, 0], out[new_height // 3, new_width // 2], out[-1, -1]]
        fields = [pattern, seed, width, height, new_width, new_height, f"{fnv1a(out.tobytes()):016x}"]
        fields += [int(out.sum(dtype=np.int64)), *(int(v) for spot in spots for v in spot)]
        lines.append(" ".join(map(str, fields)))
    (HERE / "resize.txt").write_text("\n".join(lines) + "\n")


main()
