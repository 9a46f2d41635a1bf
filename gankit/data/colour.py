"""Convert pictures of every pixel format to opaque 8-bit sRGB on a background."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# PNG gives its transparent colour at the file's bit depth, while Pillow scales the pixels to 8 bits.
_KEY_TO_8_BITS = {
    "1": lambda value: 255 if value else 0,
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}


class Unusable(Exception):
    """A file is unusable; the message is the reason, in a few words."""


def flatten(image: Image.Image, background: tuple[int, int, int], raw_mode: str = "") -> Image.Image:
    """Return a loaded picture in mode RGB, sRGB, over `background` (RGB, 0..255) where it is transparent.

    `raw_mode`: Pillow's name for how a PNG stores its pixels. Raises `Unusable` for numbers without a defined
    brightness.
    """
    profile = image.info.get("icc_profile")
    colours, alpha = _colours_and_alpha(image, raw_mode)
    colours = _to_srgb(colours, profile)
    if alpha is None or alpha.getextrema() == (255, 255):
        return colours
    page = Image.new("RGB", image.size, background)
    page.paste(colours, (0, 0), alpha)
    return page


def _colours_and_alpha(image: Image.Image, raw_mode: str) -> tuple[Image.Image, Image.Image | None]:
    """The colours, in mode RGB or CMYK, and the opacity, in mode L."""
    mode = image.mode
    if mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        if mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if mode == "CMYK":
        return image, None
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _cms(image, ImageCms.ImageCmsProfile(lab)), None
    key = image.info.get("transparency")
    if mode == "F" or mode.startswith("I"):
        grey, alpha = _grey_numbers(image, key)
        return grey.convert("RGB"), alpha
    if mode == "1":
        image = image.convert("L")
    alpha = None if key is None or image.mode not in ("L", "RGB") else _key_alpha(image, key, raw_mode)
    return image.convert("RGB"), alpha


def _grey_numbers(image: Image.Image, key: Any) -> tuple[Image.Image, Image.Image | None]:
    """16-bit and floating-point grey, scaled: clipping would turn nearly every 16-bit picture white."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (values.min() >= 0 and values.max() <= 1):  # in this form NaN fails too
            raise Unusable("floating-point brightness outside 0 to 1")
        return Image.fromarray((values * 255 + 0.5).astype(np.uint8)), None
    if values.min() < 0 or values.max() > 65535:
        raise Unusable("32-bit brightness outside 0 to 65535")
    grey = (values.astype(np.uint32) * 255 + 32767) // 65535
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    return Image.fromarray(grey.astype(np.uint8)), alpha


def _key_alpha(image: Image.Image, key: Any, raw_mode: str) -> Image.Image | None:
    """The opacity of a grey or RGB picture that declares one colour transparent."""
    scale = _KEY_TO_8_BITS.get(raw_mode, lambda value: value)
    values = np.asarray(image).reshape(image.height, image.width, -1)
    colour = [scale(value) for value in (key if isinstance(key, tuple) else (key,)) if isinstance(value, int)]
    if len(colour) != values.shape[2]:
        return None
    return Image.fromarray(np.where((values == colour).all(axis=2), 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and _profile_space(profile) == image.mode:
        try:
            return _cms(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # ignore a profile that cannot be applied
    return image.convert("RGB")


@lru_cache(maxsize=64)  # the pictures of a folder mostly share one profile
def _profile_space(profile: bytes) -> str:
    """The colour space of a profile ("RGB", "CMYK"), or "" for sRGB and for an unreadable one."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return ""
        return opened.profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return ""


def _cms(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # it is None only for a conversion in place
    return converted
