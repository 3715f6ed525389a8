"""Records what Pillow's Image.resize(size, BICUBIC) makes of pictures given by formula.

Recorded with Pillow 12.3.0. Writes cases.txt beside this file, one case a line:
pattern seed width height new_width new_height fnv1a(samples) sum(samples) and the RGB samples of the
output's upper left pixel, of [row height / 3, column width / 2] and of the lower right pixel.
"""

import pathlib

import numpy as np
import PIL
from PIL import Image

from patterns import fnv1a, picture

HERE = pathlib.Path(__file__).parent

CASES = [
    # pattern, seed, from, to
    ("waves", 0, (70, 50), (56, 56)),  # one side shrinks, the other grows
    ("noise", 1, (100, 75), (112, 84)),
    ("noise", 2, (640, 480), (644, 476)),
    ("noise", 3, (300, 200), (28, 28)),
    ("noise", 4, (56, 56), (56, 56)),  # nothing to do
    ("noise", 5, (56, 77), (56, 84)),  # vertical pass only
    ("noise", 6, (91, 56), (84, 56)),  # horizontal pass only
    ("noise", 7, (1, 1), (56, 56)),
    ("noise", 8, (2, 1), (84, 28)),
    ("noise", 9, (97, 1), (560, 28)),  # one pixel high
    ("noise", 10, (1, 97), (28, 560)),  # one pixel wide
    ("noise", 11, (199, 1), (812, 28)),  # ratio near 200
    ("noise", 12, (1, 200), (28, 812)),
    ("waves", 13, (28, 2000), (28, 1400)),
    ("noise", 14, (1999, 10), (784, 28)),
    ("noise", 15, (1500, 1100), (56, 28)),  # shrink by 27 and 39
    ("noise", 16, (57, 57), (1, 1)),
    # More than 100 times as high as wide and shrinking: Pillow does the vertical pass first.
    ("noise", 17, (3, 500), (500, 3)),
    ("noise", 18, (5, 1000), (28, 812)),
    ("waves", 19, (19, 1901), (28, 1876)),
    ("noise", 20, (19, 1900), (28, 1876)),  # exactly 100 times: it does not
    ("noise", 21, (1000, 5), (812, 28)),  # nor for a wide one
    ("noise", 22, (28, 3000), (28, 2800)),
    ("checker", 0, (64, 48), (56, 56)),
    ("checker", 1, (30, 30), (224, 224)),
    ("checker", 0, (500, 500), (84, 84)),
    ("stripes", 0, (128, 96), (112, 84)),
    ("stripes", 1, (33, 65), (84, 56)),
    ("stripes", 0, (400, 400), (28, 28)),
    ("gradient", 0, (256, 3), (252, 28)),
    ("gradient", 5, (500, 333), (504, 336)),
    ("gradient", 9, (50, 333), (28, 364)),
    ("dots", 0, (40, 40), (280, 280)),  # enlarging: overshoot is clipped at both ends
    ("dots", 3, (211, 97), (112, 56)),
    ("dots", 1, (17, 4), (308, 84)),
    ("waves", 2, (1024, 768), (1036, 756)),
    ("waves", 7, (5, 5), (4, 6)),
]


def main() -> None:
    lines = [f"# Pillow {PIL.__version__}; see record.py"]
    for pattern, seed, (width, height), (new_width, new_height) in CASES:
        image = Image.fromarray(picture(pattern, width, height, seed))
        out = np.asarray(image.resize((new_width, new_height), Image.BICUBIC))
        spots = [out[0, 0], out[new_height // 3, new_width // 2], out[-1, -1]]
        fields = [pattern, seed, width, height, new_width, new_height, f"{fnv1a(out.tobytes()):016x}"]
        fields += [int(out.sum(dtype=np.int64)), *(int(v) for spot in spots for v in spot)]
        lines.append(" ".join(map(str, fields)))
    (HERE / "cases.txt").write_text("\n".join(lines) + "\n")


main()
