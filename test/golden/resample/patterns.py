"""Test pictures by formula, so that recordings need to hold only hashes of what was made from them.

The same formulas are in test/native/io/patterns.h. All arithmetic is on non-negative integers.
"""

import numpy as np

PATTERNS = ("noise", "checker", "stripes", "gradient", "waves", "dots")


def picture(pattern: str, width: int, height: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]."""
    y, x, c = np.meshgrid(
        np.arange(height, dtype=np.uint64),
        np.arange(width, dtype=np.uint64),
        np.arange(3, dtype=np.uint64),
        indexing="ij",
    )
    s = np.uint64(seed)
    if pattern == "noise":
        i = (y * np.uint64(width) + x) * np.uint64(3) + c
        h = ((i + np.uint64(1)) * np.uint64(2654435761) + (s + np.uint64(1)) * np.uint64(40503)) & np.uint64(0xFFFFFFFF)
        h ^= h >> np.uint64(15)
        h = (h * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
        h ^= h >> np.uint64(13)
        v = h >> np.uint64(24)
    elif pattern == "checker":  # squares of 3 pixels, black and white
        v = (x // np.uint64(3) + y // np.uint64(3) + c + s) % np.uint64(2) * np.uint64(255)
    elif pattern == "stripes":  # the highest frequency there is
        v = np.where(c == 1, y + s, x + s) % np.uint64(2) * np.uint64(255)
    elif pattern == "gradient":
        v = (x * np.uint64(255) // np.uint64(max(width - 1, 1)) * (c + np.uint64(1)) + y + s) % np.uint64(256)
    elif pattern == "waves":  # R = 7x + 3y, G = 5x + 11y + 40, B = x * x + y
        xs = x + np.uint64(9) * s
        v = np.choose(c.astype(np.int64), [7 * xs + 3 * y, 5 * xs + 11 * y + 40, xs * xs + y]) % np.uint64(256)
    elif pattern == "dots":  # single bright pixels on black: every output shows the filter itself
        v = np.where((x * np.uint64(5) + y * np.uint64(3) + c + s) % np.uint64(17) == 0, np.uint64(255), np.uint64(0))
    else:
        raise ValueError(pattern)
    return v.astype(np.uint8)


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
