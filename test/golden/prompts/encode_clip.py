"""Writes clip.mp4: 40 frames of 90 x 70 pixels, ten a second, in which a red square crosses a pale picture.

    python test/golden/prompts/encode_clip.py

Encoded with ffmpeg 5.1 and libx264; another version may write other bytes, so the file is kept.
"""

import subprocess
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FRAMES = 90, 70, 40
y, x = np.mgrid[:HEIGHT, :WIDTH]
frames = []
for n in range(FRAMES):
    frame = np.stack([200 + x // 3, 230 - y // 4, 210 + (x + y) // 8], 2).astype(np.uint8)
    frame[24:46, n + 5 : n + 27] = (220, 30, 40)
    frames.append(frame)
command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "10", "-i", "-"]
command += ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-fflags", "+bitexact"]
subprocess.run([*command, str(Path(__file__).parent / "clip.mp4")], input=np.stack(frames).tobytes(), check=True)
