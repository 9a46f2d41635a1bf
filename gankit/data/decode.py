"""Decode a picture file to a square uint8 picture."""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from gankit.data.colour import Unusable, flatten
from gankit.data.shards import Item
from gankit.data.source import Request
from gankit.files import Unreachable, ordinary

VERSION = 1  # raise it when the same file gives other pixels, so that old caches are not used

# Recognised by content, not by suffix. Only these, because some of Pillow's other readers start programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_SMALL = 1 << 25  # bytes; larger files are not read into memory at once
_LARGEST = 1 << 30  # bytes of a file; an uncompressed picture of the most pixels is smaller
_PIXELS = 1 << 27  # of one picture, and of all pictures that threads decode at once: 0.5 GB at 4 bytes a pixel
_WAITING = 1 << 26  # bytes of pictures from shards that wait in memory
_BAND = 1 << 20  # pixels that are converted at once
_GAP = 3  # averaging leaves this many times the size that is needed, and bicubic resampling does the rest
# glibc gives blocks of more than 32 MB back to the system, but keeps smaller ones for the thread that freed them.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined]  # Pillow has no other name for it
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
_NO_MEMORY = "too large for the memory of this machine"
_NOT_FOR_US = (  # other files among pictures, by their first bytes in lower case
    (b"<!doctype html", "a web page, not a picture (a failed download?)"),
    (b"<html", "a web page, not a picture (a failed download?)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture: fetch it with `git lfs pull`"),
    (b"8bps", "a Photoshop file: export it as PNG"),
    (b"par1", "a Parquet file among pictures: give its own path to --data"),
    (b"%pdf", "a PDF: export it as PNG"),
    (b"%!ps", "PostScript: export it as PNG"),
    (b"\x89png", _DAMAGED),
    (b"\xff\xd8\xff", _DAMAGED),
    (b"gif8", _DAMAGED),
    (b"ii*\0", _DAMAGED),
    (b"mm\0*", _DAMAGED),
)


def read(source: str | Path | bytes, request: Request) -> tuple[np.ndarray, str]:
    """Return the picture, uint8 (S, S, 3), of a file or of a file's bytes, and the hash of the bytes (hex).

    Raises `Unusable` with the reason if it holds no usable picture.
    """
    if isinstance(source, bytes):
        return _whole(io.BytesIO(source), request)
    try:
        with ordinary(source) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST:
                raise Unusable(f"too large: {size / 1e9:,.1f} GB, and gankit reads 1 GB at most")
            return _whole(file if size > _SMALL else io.BytesIO(file.read(_SMALL)), request)
    except Unreachable:  # the scan saw a file
        raise Unusable("not an ordinary file") from None
    except FileNotFoundError:
        raise Unusable("vanished while it was looked at") from None
    except OSError as error:
        raise Unusable(f"cannot be read: {(error.strerror or 'error').lower()}") from None


def _whole(file: BinaryIO, request: Request) -> tuple[np.ndarray, str]:
    pixels = picture(file, request)
    file.seek(0)
    return pixels, hashlib.file_digest(file, "blake2b").hexdigest()[:32]  # type: ignore[arg-type]


def picture(file: BinaryIO, request: Request) -> np.ndarray:
    """Return the picture in an open file, uint8 (S, S, 3), sized and fitted by `request`. Raises `Unusable`."""
    image, raw_mode, cost = _opened(file, request)
    with _budget.of(cost):
        _load(image)
        try:
            return np.asarray(_square(_upright(image), raw_mode, request))
        except Unusable:
            raise
        except MemoryError:
            raise Unusable(_NO_MEMORY) from None
        except Exception:  # one odd picture among a hundred thousand must not end the run
            raise Unusable(f"its pixels ({image.mode}) cannot be converted") from None
        finally:
            del image  # before others get the room


def decoded(
    pool: ThreadPoolExecutor, items: Iterator[Item], request: Request
) -> Iterator[tuple[Item, np.ndarray | None, str]]:
    """Each item in order, with its picture and content hash, or with None and the reason for skipping it."""

    def one(item: Item) -> tuple[Item, np.ndarray | None, str]:
        if item.content is None:
            return item, None, item.reason
        try:
            return item, *read(item.content, request)
        except Unusable as reason:
            return item, None, str(reason)

    while window := list(_some(items)):
        yield from pool.map(one, window)


def _some(items: Iterator[Item]) -> Iterator[Item]:
    """The next items, not all at once: decoded pictures and those from shards wait in memory."""
    waiting = 0
    for item in islice(items, 16 * cores()):
        yield item
        waiting += len(item.content) if isinstance(item.content, bytes) else 0
        if waiting > _WAITING:
            return


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


class _Budget:
    """Lets threads decode only as many pixels at once as memory should hold."""

    def __init__(self, most: int) -> None:
        self._free, self._most, self._changed = most, most, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for `pixels`. Raises `Unusable` if there can never be."""
        if pixels > self._most:
            raise Unusable(f"too large: {pixels // 1_000_000:,} million pixels, more than {self._most // 1_000_000}")
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._free)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_budget = _Budget(_PIXELS)


def is_blank(pixels: np.ndarray) -> bool:
    """Whether a picture (S, S, 3) has one colour only, up to rounding."""
    flat = pixels.reshape(-1, 3)
    return bool((flat.max(axis=0) - flat.min(axis=0)).max() <= 2)


def opened(file: BinaryIO | Path) -> ImageFile.ImageFile:
    """Open a picture with the decoders of the supported formats only."""
    Image.init()
    return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])


def _opened(file: BinaryIO, request: Request) -> tuple[ImageFile.ImageFile, str, int]:
    """A picture whose pixels are not read yet, how a PNG stores them, and the pixels that decoding holds in memory."""
    try:
        image = opened(file)
        raw_mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
        # The decoders of WebP and AVIF hold a picture twice, and progressive JPEG's holds all coefficients.
        held = image.width * image.height * (image.format in ("WEBP", "AVIF") or "progressive" in image.info)
        if image.format in ("JPEG", "MPO"):
            # Decode a large photo at a half, a quarter or an eighth, but no smaller than twice the need.
            side = max(image.size) if request.fit == "pad" else min(image.size)
            shrink = min(1.0, 2 * request.image_size / side)
            image.draft(None, (max(1, int(image.width * shrink)), max(1, int(image.height * shrink))))
    except UnidentifiedImageError:
        raise Unusable(_what_it_is(file)) from None
    except Image.DecompressionBombError:
        raise Unusable("too large: more than 178 million pixels") from None
    except MemoryError:
        raise Unusable(_NO_MEMORY) from None
    except Exception:  # Pillow's readers raise many kinds of errors for damaged files
        raise Unusable(_DAMAGED) from None
    return image, raw_mode if isinstance(raw_mode, str) else "", image.width * image.height + held


def _load(image: ImageFile.ImageFile) -> None:
    """Read the pixels of the first frame."""
    try:
        image.load()
    except MemoryError:
        raise Unusable(_NO_MEMORY) from None
    except Exception:
        raise Unusable(_DAMAGED) from None


def _what_it_is(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(4096).lstrip(b"\xef\xbb\xbf").lower()
    if not start:
        return "an empty file"
    for sign, reason in _NOT_FOR_US:
        if start.lstrip().startswith(sign) or start.startswith(sign):
            return reason
    if start[257:262] == b"ustar":
        return "a tar file among pictures: give its own path to --data"
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


def _square(image: Image.Image, raw_mode: str, request: Request) -> Image.Image:
    """Flatten a picture, and crop or pad it to a square of the requested size."""
    side, (width, height) = request.image_size, image.size
    if request.fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        return _resized(image, raw_mode, request, (side, side), (left, top, left + edge, top + edge))
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = _resized(image, raw_mode, request, size, (0, 0, width, height))
    if size == (side, side):
        return image
    page = Image.new("RGB", (side, side), request.background)
    page.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return page


def _resized(
    image: Image.Image, raw_mode: str, request: Request, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    """The part `box` of a picture, flattened, at another size.

    The pixels are those of `flatten(image).resize(size, BICUBIC, box, reducing_gap=_GAP)`. But a whole flattened
    picture, and the copies on the way to it, take several times the memory of the picture. So this converts a band
    after the other, and averages blocks of pixels at once.
    """
    across, down = ((end - start) / wanted for start, end, wanted in zip(box[:2], box[2:], size, strict=True))
    block = int(across / _GAP) or 1, int(down / _GAP) or 1
    left, top, right, bottom = 0, 0, *image.size
    if block != (1, 1):  # bicubic resampling also looks at the pixels around the box
        left, top = max(0, int(box[0] - 1.5 * across)), max(0, int(box[1] - 1.5 * down))
        right, bottom = min(right, math.ceil(box[2] + 1.5 * across)), min(bottom, math.ceil(box[3] + 1.5 * down))
    rows = max(1, _BAND // ((right - left) * block[1])) * block[1]
    small = Image.new("RGB", (-((left - right) // block[0]), -((top - bottom) // block[1])))
    for start in range(top, bottom, rows):
        band = flatten(image.crop((left, start, right, min(start + rows, bottom))), request.background, raw_mode)
        small.paste(band.reduce(block), (0, (start - top) // block[1]))
    x0, y0, x1, y1 = ((edge - first) / by for edge, first, by in zip(box, (left, top) * 2, block * 2, strict=True))
    return small.resize(size, Image.Resampling.BICUBIC, (x0, y0, x1, y1))
