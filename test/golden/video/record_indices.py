"""Records which frames the reference picks: torch.linspace(first, last, n).round() in float32.

Recorded with torch 2.13. Writes indices.txt beside this file, one case a line:
first last n sum(index) sum(index * (position + 1)) mod 2^32
"""

import pathlib
import random

import torch

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def cases():
    for last, n in [(4, 4), (8, 4), (9, 4), (99, 8), (299, 20), (35999, 768), (1, 2)]:
        yield 0, last, n
    rng = random.Random(7)
    for _ in range(400):
        total = rng.choice([rng.randint(2, 300), rng.randint(300, 40000), rng.randint(40000, 2_000_000)])
        first = rng.choice([0, 0, rng.randint(0, total - 2)])
        n = 2 * rng.randint(1, min(384, (total - first) // 2))
        yield first, total - 1, n


lines = [f"# torch {torch.__version__}; see record_indices.py"]
for first, last, n in cases():
    indices = torch.linspace(first, last, n).round().long()
    weighted = int((indices * torch.arange(1, n + 1)).sum()) % 2**32
    lines.append(f"{first} {last} {n} {int(indices.sum())} {weighted}")
(HERE / "indices.txt").write_text("\n".join(lines) + "\n")
