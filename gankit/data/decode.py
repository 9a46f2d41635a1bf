"""Decode a picture file to a square uint8 picture."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from gankit.data.colour import Unusable, flatten
from gankit.data.source import Request

VERSION = 1  # raise it when the same file gives other pixels, so that old caches are not used

# Recognised by content, not by suffix. Only these, because some of Pillow's other readers start programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_SMALL = 1 << 25  # bytes; larger files are not read into memory at once
_UPRIGHT = {  # EXIF orientation -> the operation that makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGED = "damaged or cut short"
_NOT_FOR_US = (  # other files among pictures, by their first bytes in lower case
    (b"<!doctype html", "a web page, not a picture (a failed download?)"),
    (b"<html", "a web page, not a picture (a failed download?)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture: fetch it with `git lfs pull`"),
    (b"8bps", "a Photoshop file: export it as PNG"),
    (b"%pdf", "a PDF: export it as PNG"),
    (b"%!ps", "PostScript: export it as PNG"),
    (b"\x89png", _DAMAGED),
    (b"\xff\xd8\xff", _DAMAGED),
    (b"gif8", _DAMAGED),
    (b"ii*\0", _DAMAGED),
    (b"mm\0*", _DAMAGED),
)


def read(path: str | Path, request: Request) -> tuple[np.ndarray, str]:
    """Return a file's picture, uint8 (S, S, 3), and the hash of its bytes (hex).

    Raises `Unusable` with the reason if it holds no usable picture.
    """
    try:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
            size = file.tell()
            file.seek(0)
            return picture(file if size > _SMALL else io.BytesIO(file.read()), request), content
    except FileNotFoundError:
        raise Unusable("vanished while it was looked at") from None
    except OSError as error:
        raise Unusable(f"cannot be read: {(error.strerror or 'error').lower()}") from None


def picture(file: BinaryIO, request: Request) -> np.ndarray:
    """Return the picture in an open file, uint8 (S, S, 3), sized and fitted by `request`. Raises `Unusable`."""
    image, raw_mode = _load(file, request)
    try:
        return np.asarray(_square(flatten(_upright(image), request.background, raw_mode), request))
    except Unusable:
        raise
    except Exception:  # one odd picture among a hundred thousand must not end the run
        raise Unusable(f"its pixels ({image.mode}) cannot be converted") from None


def is_blank(pixels: np.ndarray) -> bool:
    """Whether a picture (S, S, 3) has one colour only, up to rounding."""
    flat = pixels.reshape(-1, 3)
    return bool((flat.max(axis=0) - flat.min(axis=0)).max() <= 2)


def opened(file: BinaryIO | Path) -> ImageFile.ImageFile:
    """Open a picture with the decoders of the supported formats only."""
    Image.init()
    return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])


def _load(file: BinaryIO, request: Request) -> tuple[Image.Image, str]:
    """The first frame of a picture, and how a PNG stores its pixels."""
    try:
        image = opened(file)
        raw_mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
        if image.format in ("JPEG", "MPO"):
            # Decode a large photo at a half, a quarter or an eighth, but no smaller than twice the need.
            side = max(image.size) if request.fit == "pad" else min(image.size)
            shrink = min(1.0, 2 * request.image_size / side)
            image.draft(None, (max(1, int(image.width * shrink)), max(1, int(image.height * shrink))))
        image.load()
    except UnidentifiedImageError:
        raise Unusable(_what_it_is(file)) from None
    except Image.DecompressionBombError:
        raise Unusable("too large: more than 178 million pixels") from None
    except MemoryError:
        raise Unusable("too large for the memory of this machine") from None
    except Exception:  # Pillow's readers raise many kinds of errors for damaged files
        raise Unusable(_DAMAGED) from None
    return image, raw_mode if isinstance(raw_mode, str) else ""


def _what_it_is(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(4096).lstrip(b"\xef\xbb\xbf").lower()
    if not start:
        return "an empty file"
    for sign, reason in _NOT_FOR_US:
        if start.lstrip().startswith(sign) or start.startswith(sign):
            return reason
    if b"<svg" in start:
        return "an SVG drawing: export it as PNG"
    if start[4:8] == b"ftyp" and start[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return "a HEIC photo: export it as JPEG or PNG"
    return "not a picture"


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # a broken EXIF block says nothing about the picture
        return image
    if orientation not in _UPRIGHT:
        return image
    upright = image.transpose(_UPRIGHT[orientation])
    upright.info = image.info
    return upright


def _square(image: Image.Image, request: Request) -> Image.Image:
    """Crop or pad an RGB picture to a square of the requested size."""
    side, (width, height) = request.image_size, image.size
    if request.fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        return _resize(image, (side, side), (left, top, left + edge, top + edge))
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = _resize(image, size, (0, 0, width, height))
    if size == (side, side):
        return image
    page = Image.new("RGB", (side, side), request.background)
    page.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return page


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
