"""The person in the demo pictures: flat shapes without outlines, so that 32 pixels are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

VERSION = 1  # raise it with each change of the drawing, so that old caches are not used

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": ("pale", "tan", "brown", "dark"),
    "hair": ("black", "silver", "blond", "red", "blue"),
    "style": ("short", "long", "bun", "pigtails"),
    "shirt": ("red", "orange", "yellow", "green", "blue", "purple"),
    "arms": ("down", "out", "up"),
}

# The number of steps of the place across and down (one step is 1/64 of the side) and of the size (one is 2.5 %).
NUISANCE = (5, 5, 5)
STEPS = 64
_MIDDLE = (2, 2, 2)
_SCALE = 0.91  # keeps the largest person at the extreme places inside the picture

_SKIN = ("#ffe0c4", "#f0b98a", "#bd7c4d", "#784b32")
_HAIR = ("#22222a", "#a8b2c0", "#ffd34d", "#e0512f", "#4a7be0")
_SHIRT = ("#e63946", "#ff9a2e", "#ffe04a", "#3fb55a", "#3f8fe8", "#9a56c8")
_TROUSERS, _SHOES, _EYES, _MOUTH, _CHEEKS = "#34496b", "#6b4630", "#2b2320", "#b0403c", "#f28b82"

_OVER = 4  # supersampling: the drawing is this many times larger, then averaged


def draw(
    values: Sequence[int] | np.ndarray,
    size: int,
    background: tuple[int, int, int] = (255, 255, 255),
    differences: Sequence[int] | np.ndarray = _MIDDLE,
) -> np.ndarray:
    """Return the person with these `ATTRIBUTES` (an index each), uint8 (size, size, 3).

    `differences` are steps of `NUISANCE`; by default the person stands in the middle at middle size.
    """
    from PIL import Image, ImageDraw

    skin, hair, style, shirt, arms = (int(value) for value in values)
    right, down, growth = (int(step) - middle for step, middle in zip(differences, _MIDDLE, strict=True))
    canvas = Image.new("RGB", (size * _OVER, size * _OVER), background)
    pen = _Pen(ImageDraw.Draw(canvas), canvas.width, right / STEPS, down / STEPS, _SCALE * (1 + growth / 40))
    _hair_behind(pen, _HAIR[hair], ATTRIBUTES["style"][style])
    _body(pen, _SKIN[skin], _SHIRT[shirt], ATTRIBUTES["arms"][arms])
    _head(pen, _SKIN[skin], _HAIR[hair], ATTRIBUTES["style"][style])
    return np.asarray(canvas.reduce(_OVER))


class _Pen:
    """Draws in units of the picture, x and y from 0 to 1 downwards."""

    def __init__(self, draw: ImageDraw, side: int, right: float, down: float, scale: float) -> None:
        self._draw = draw
        self._side, self._right, self._down, self._scale = side, right, down, scale

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels; the figure grows about its middle."""
        scaled = 0.5 + (x - 0.5) * self._scale + self._right, 0.5 + (y - 0.5) * self._scale + self._down
        return scaled[0] * self._side - 0.5, scaled[1] * self._side - 0.5

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str) -> None:
        self._draw.ellipse((*self._at(x - rx, y - ry), *self._at(x + rx, y + ry)), fill=colour)

    def arc(self, x: float, y: float, rx: float, ry: float, start: int, end: int, colour: str) -> None:
        self._draw.chord((*self._at(x - rx, y - ry), *self._at(x + rx, y + ry)), start, end, fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, radius: float, colour: str) -> None:
        corners = (*self._at(x0, y0), *self._at(x1, y1))
        self._draw.rounded_rectangle(corners, radius * self._side * self._scale, fill=colour)

    def shape(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        self._draw.polygon([self._at(x, y) for x, y in points], fill=colour)

    def limb(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: str) -> None:
        pixels = max(1, round(width * self._side * self._scale))
        self._draw.line((*self._at(x0, y0), *self._at(x1, y1)), fill=colour, width=pixels)
        for x, y in ((x0, y0), (x1, y1)):
            self.oval(x, y, width / 2, width / 2, colour)


def _hair_behind(pen: _Pen, colour: str, style: str) -> None:
    if style == "long":
        pen.box(0.235, 0.22, 0.765, 0.73, 0.16, colour)
    elif style == "bun":
        pen.oval(0.5, 0.105, 0.105, 0.095, colour)
    elif style == "pigtails":
        for side in (-1, 1):
            pen.oval(0.5 + side * 0.30, 0.29, 0.10, 0.125, colour)


def _body(pen: _Pen, skin: str, shirt: str, arms: str) -> None:
    sleeve = _darker(shirt)
    hand_x, hand_y = {"down": (0.235, 0.81), "out": (0.40, 0.645), "up": (0.37, 0.45)}[arms]
    for side in (-1, 1):
        pen.limb(0.5 + side * 0.075, 0.80, 0.5 + side * 0.085, 0.93, 0.11, _TROUSERS)
        pen.oval(0.5 + side * 0.10, 0.955, 0.075, 0.035, _SHOES)
        x, y, hand = 0.5 + side * 0.13, 0.645, 0.5 + side * hand_x
        pen.oval(hand, hand_y, 0.058, 0.058, skin)
        pen.limb(x, y, x + (hand - x) * 0.72, y + (hand_y - y) * 0.72, 0.095, sleeve)
    pen.shape([(0.38, 0.62), (0.62, 0.62), (0.65, 0.85), (0.35, 0.85)], shirt)
    pen.box(0.37, 0.58, 0.63, 0.70, 0.06, shirt)


def _head(pen: _Pen, skin: str, hair: str, style: str) -> None:
    if style != "long":
        for side in (-1, 1):
            pen.oval(0.5 + side * 0.215, 0.40, 0.045, 0.05, skin)
    pen.arc(0.5, 0.355, 0.232, 0.225, 172, 368, hair)
    pen.oval(0.5, 0.395, 0.205, 0.195, skin)
    pen.arc(0.5, 0.345, 0.232, 0.215, 170, 336, hair)  # a slanting fringe
    for side in (-1, 1):
        pen.oval(0.5 + side * 0.085, 0.415, 0.026, 0.034, _EYES)
        pen.oval(0.5 + side * 0.14, 0.475, 0.035, 0.024, _CHEEKS)
    pen.arc(0.5, 0.485, 0.055, 0.05, 0, 180, _MOUTH)


def _darker(colour: str) -> str:
    """A darker shade, so that the arms stand out from the body."""
    red, green, blue = (int(colour[i : i + 2], 16) * 88 // 100 for i in (1, 3, 5))
    return f"#{red:02x}{green:02x}{blue:02x}"
