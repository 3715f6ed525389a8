"""Writes the picture files of files/: small ones, each with one property that decoders disagree about.

Pillow writes what it can; PNGs of other kinds and edited JPEGs are put together here. Used by record.py.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFilter

FILES = Path(__file__).parent / "files"


def pattern(height, width):
    """The formula picture of the specification's resampling vectors."""
    x = np.arange(width)[None, :]
    y = np.arange(height)[:, None]
    channels = [7 * x + 3 * y, 5 * x + 11 * y + 40, x * x + y]
    return np.stack([np.broadcast_to(c % 256, (height, width)) for c in channels], 2).astype(np.uint8)


def smooth(height, width):
    """A gentle picture, so that large files stay small."""
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    channels = [np.sin(5 * x + 2 * y), np.cos(3 * x - 4 * y), np.sin(9 * x * y)]
    return np.stack([np.round(127.5 + 120 * c) for c in channels], 2).astype(np.uint8)


def ramp(height, width, bits=8):
    """One channel that uses the whole range of its type."""
    x = np.arange(width)[None, :]
    y = np.arange(height)[:, None]
    if bits == 16:
        return ((x * 1021 + y * 4093 + 129) % 65536).astype(np.uint16)
    return ((9 * x + 5 * y) % (1 << bits)).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, colour_type, interlace=False, extra=()):
    """A PNG of samples [H, W] or [H, W, C], unfiltered; `extra` chunks stand before the pixels."""
    height, width = samples.shape[:2]
    passes = [samples]
    if interlace:
        starts_and_steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [samples[y::dy, x::dx] for y, x, dy, dx in starts_and_steps]
    scanlines = b""
    for part in passes:
        if part.size == 0:
            continue
        for row in part.reshape(part.shape[0], -1):
            if bits == 16:
                packed = row.astype(">u2").tobytes()
            elif bits == 8:
                packed = row.astype(np.uint8).tobytes()
            else:
                digits = "".join(f"{v:0{bits}b}" for v in row)
                digits += "0" * (-len(digits) % 8)
                packed = bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
            scanlines += b"\0" + packed
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlace))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(scanlines, 9)), chunk(b"IEND", b"")]
    )


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def without_segment(jpeg, marker):
    """The JPEG without its segments of this marker (0xEE is Adobe's)."""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        size = 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        if jpeg[at + 1] != marker:
            out += jpeg[at : at + size]
        at += size
    return out + jpeg[at:]


def swapped_profile():
    """An sRGB profile whose red and blue primaries are exchanged: who applies it sees other colours."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)  # the creation time, which would vary
    offsets = {}
    for i in range(struct.unpack(">I", profile[128:132])[0]):
        entry = profile[132 + 12 * i : 144 + 12 * i]
        offsets[bytes(entry[:4])] = struct.unpack(">I", entry[4:8])[0]
    red, blue = offsets[b"rXYZ"], offsets[b"bXYZ"]
    profile[red : red + 20], profile[blue : blue + 20] = profile[blue : blue + 20], profile[red : red + 20]
    return bytes(profile)


def jpegs():
    image = Image.fromarray(pattern(61, 83)).filter(ImageFilter.GaussianBlur(2))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    yield "odd-420.jpg", encoded(image, format="JPEG", quality=85, subsampling=2)
    yield "odd-422.jpg", encoded(image, format="JPEG", quality=85, subsampling=1)
    yield "full-chroma.jpg", encoded(image, format="JPEG", quality=85, subsampling=0)
    yield "progressive.jpg", encoded(image, format="JPEG", quality=70, progressive=True)
    yield "restart-markers.jpg", encoded(image, format="JPEG", quality=60, restart_marker_blocks=2)
    yield "grey.jpg", encoded(image.convert("L"), format="JPEG", quality=80)
    yield "exif-rotated.jpg", encoded(image, format="JPEG", quality=80, exif=rotated)
    yield "icc-profile.jpg", encoded(image, format="JPEG", quality=80, icc_profile=swapped_profile())
    cmyk = encoded(Image.fromarray(np.dstack([smooth(40, 56), ramp(40, 56)]), "CMYK"), format="JPEG", quality=90)
    yield "cmyk-adobe.jpg", cmyk
    yield "cmyk-plain.jpg", without_segment(cmyk, 0xEE)
    # The last byte of Adobe's segment says whether the samples are CMYK (0) or YCCK (2).
    adobe = cmyk.index(b"Adobe")
    yield "ycck.jpg", cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :]


def pngs():
    rgb = pattern(29, 37)
    alpha = ramp(29, 37)
    yield "rgb.png", png(rgb, 8, 2)
    yield "rgb-large.png", encoded(Image.fromarray(smooth(205, 307)), format="PNG", optimize=True)
    yield "legal-size.png", encoded(Image.fromarray(smooth(84, 112)), format="PNG", optimize=True)
    yield "one-pixel.png", png(np.array([[[200, 100, 50]]]), 8, 2)
    yield "one-row.png", png(pattern(1, 200), 8, 2)
    yield "one-column.png", png(pattern(150, 1), 8, 2)
    yield "ratio-199.png", png(pattern(3, 597), 8, 2)
    yield "interlaced.png", png(rgb, 8, 2, interlace=True)
    yield "gamma.png", png(rgb, 8, 2, extra=[chunk(b"gAMA", struct.pack(">I", 100000))])
    icc = b"swapped\0\0" + zlib.compress(swapped_profile())
    yield "icc-profile.png", png(rgb, 8, 2, extra=[chunk(b"iCCP", icc)])
    yield "alpha.png", png(np.dstack([rgb, alpha]), 8, 6)
    yield "alpha-interlaced.png", png(np.dstack([rgb, alpha]), 8, 6, interlace=True)
    key = struct.pack(">3H", *(int(v) for v in rgb[3, 3]))
    yield "rgb-colour-key.png", png(rgb, 8, 2, extra=[chunk(b"tRNS", key)])
    yield "grey.png", png(ramp(29, 37), 8, 0)
    yield "grey-1-bit.png", png(ramp(29, 37, 1), 1, 0)
    yield "grey-2-bit.png", png(ramp(29, 37, 2), 2, 0)
    yield "grey-4-bit.png", png(ramp(29, 37, 4), 4, 0)
    yield "grey-transparent.png", png(ramp(29, 37), 8, 0, extra=[chunk(b"tRNS", struct.pack(">H", 77))])
    yield "grey-alpha.png", png(np.dstack([ramp(29, 37), rgb[..., 2]]), 8, 4)
    yield "grey-alpha-16-bit.png", png(np.dstack([ramp(29, 37, 16), ramp(29, 37, 16)[::-1]]), 16, 4)
    palette = chunk(b"PLTE", pattern(1, 16).tobytes())
    yield "palette.png", png(ramp(29, 37, 4), 4, 3, extra=[palette])
    yield "palette-transparent.png", png(ramp(29, 37, 4), 4, 3, extra=[palette, chunk(b"tRNS", bytes(range(0, 160, 10)))])
    wide = np.dstack([ramp(29, 37, 16), ramp(29, 37, 16).T.repeat(2, 1)[: 37, :29].T, ramp(29, 37, 16)[:, ::-1]])
    yield "rgb-16-bit.png", png(wide, 16, 2)
    yield "alpha-16-bit.png", png(np.dstack([wide, ramp(29, 37, 16)[::-1]]), 16, 6)
    yield "grey-16-bit.png", png(ramp(29, 37, 16), 16, 0)
    frames = [Image.fromarray(smooth(30, 40)), Image.fromarray(smooth(30, 40)[::-1].copy())]
    yield "animated.png", encoded(frames[0], format="PNG", save_all=True, append_images=frames[1:])


def others():
    rgb = Image.fromarray(smooth(45, 61))
    alpha = Image.fromarray(np.dstack([smooth(45, 61), ramp(45, 61)]))
    frames = [rgb, Image.fromarray(smooth(45, 61)[::-1].copy())]
    palette = rgb.quantize(16)
    yield "palette.gif", encoded(palette, format="GIF")
    yield "transparent.gif", encoded(palette, format="GIF", transparency=3)
    yield "animated.gif", encoded(frames[0].quantize(16), format="GIF", save_all=True, append_images=[frames[1].quantize(16)])
    yield "interlaced.gif", encoded(palette, format="GIF", interlace=1)
    yield "lossy.webp", encoded(rgb, format="WEBP", quality=70)
    yield "lossless-alpha.webp", encoded(alpha, format="WEBP", lossless=True, exact=True)
    yield "lossy-alpha.webp", encoded(alpha, format="WEBP", quality=70)
    yield "animated.webp", encoded(frames[0], format="WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield "lzw.tif", encoded(rgb, format="TIFF", compression="tiff_lzw")
    yield "alpha.tif", encoded(alpha.resize((31, 23)), format="TIFF", compression="tiff_adobe_deflate")
    yield "cmyk.tif", encoded(Image.fromarray(np.dstack([smooth(20, 30), ramp(20, 30)]), "CMYK"), format="TIFF", compression="tiff_lzw")
    yield "fax.tif", encoded(rgb.convert("1"), format="TIFF", compression="group4")
    yield "jpeg.tif", encoded(rgb, format="TIFF", compression="jpeg", quality=80)
    yield "palette.tif", encoded(palette, format="TIFF", compression="tiff_lzw")
    yield "rotated.tif", encoded(rgb, format="TIFF", compression="tiff_lzw", tiffinfo={274: 6})
    yield "pages.tif", encoded(frames[0], format="TIFF", compression="tiff_lzw", save_all=True, append_images=frames[1:])
    yield "colour.avif", encoded(rgb, format="AVIF", quality=80)


def write_all():
    FILES.mkdir(exist_ok=True)
    for stale in FILES.iterdir():
        stale.unlink()
    for make in (jpegs, pngs, others):
        for name, data in make():
            (FILES / name).write_bytes(data)
