"""Draws inverted pictures as a sheet, and interpolations between latents as a film or a strip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.errors import UserError
from gankit.files import replacing
from gankit.report.sample_grid import PADDING, enlarged, factor, save_png

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.trained.latents import Inversion
    from gankit.trained.outliers import Ranked

LETTERS = 13  # height of the captions in pixels
GAP = 8  # pixels between cells
INK, PALE = (28, 31, 35), (110, 114, 120)
PAUSE = 0.06  # seconds a frame of an interpolation

Cell = tuple["np.ndarray", str]  # a uint8 picture (S, S, 3), and its caption


def words(inversion: Inversion, names: Sequence[str]) -> list[str]:
    """One line per picture: its mean errors, for values in [-1, 1]."""
    lines = []
    for n, (name, errors) in enumerate(zip(names, inversion.errors, strict=True)):
        line = f"{name}: |x − G(z)| {inversion.error[n]:.4f}"
        if len(errors) > 1:
            line += f" (the {len(errors)} starts: {errors.min():.4f} to {errors.max():.4f})"
        if inversion.reconstruction_error is not None:
            line += f", |x − D(x)| {inversion.reconstruction_error[n]:.4f}"
        lines.append(line)
    return lines


def draw_inversion(
    inversion: Inversion, names: Sequence[str], path: Path, scale: int | None = None, smooth: bool = False
) -> list[str]:
    """Draw a PNG with one row per picture: the picture, D's reconstruction if D is an autoencoder, G(z).

    `scale` and `smooth` enlarge the pictures, by default to at least 160 pixels, in all drawings here. Returns a line
    for each name that no font on this machine can write: the sheet has "picture N" in its place.
    """
    captions = [
        name if all(font for _, font in _parts(name)) else f"picture {n}" for n, name in enumerate(names, start=1)
    ]
    columns = [("picture", inversion.pictures, captions)]
    if inversion.reconstructed is not None and inversion.reconstruction_error is not None:
        columns.append(("D's reconstruction", inversion.reconstructed, _captions(inversion.reconstruction_error)))
    columns.append(("G(z)", inversion.generated, _captions(inversion.error)))
    scale = scale or factor(inversion.pictures.shape[-1], 160)
    cells = [list(zip(_pixels(some, scale, smooth), captions, strict=True)) for _, some, captions in columns]
    _save(_sheet([title for title, _, _ in columns], list(zip(*cells, strict=True))), path)
    return [
        f"{name} is {caption!r} in the drawing: no font here has its letters"
        for name, caption in zip(names, captions, strict=True)
        if name != caption
    ]


def draw_strip(
    pictures: Tensor, ends: Tensor | None, path: Path, scale: int | None = None, smooth: bool = False
) -> None:
    """Draw a PNG: G(z) (rows, frames, C, S, S), one row per pair, between the pictures `ends` (rows, 2, …)."""
    rows: list[list[Cell]] = []
    scale = scale or factor(pictures.shape[-1], 96)
    for n, frames in enumerate(pictures):
        cells = _pixels(frames, scale, smooth)
        if ends is not None:
            a, b = _pixels(ends[n], scale, smooth)
            cells = [a, *cells, b]
        rows.append([(cell, "") for cell in cells])
    titles = ["G(z)", *[""] * (pictures.shape[1] - 2), "G(z)"]
    _save(_sheet(titles if ends is None else ["picture", *titles, "picture"], rows), path)


def draw_ranked(ranked: Ranked, path: Path, scale: int | None = None, smooth: bool = False) -> None:
    """Draw a PNG: the worst pictures of a ranking, six in a row, each with its error and its name."""
    scale, columns = scale or factor(ranked.worst.shape[-1], 96), 6
    names = [f"{error:.3f} {Path(name).name}" for error, name in zip(ranked.errors, ranked.names, strict=True)]
    captions = [name if all(font for _, font in _parts(name)) else name.split()[0] for name in names]
    cells = list(zip(_pixels(ranked.worst, scale, smooth), captions, strict=False))
    blank = (cells[0][0] * 0 + 255, "")
    cells += [blank] * (-len(cells) % columns)
    rows = [cells[n : n + columns] for n in range(0, len(cells), columns)]
    _save(_sheet(["largest errors", *[""] * (columns - 1)], rows), path)


def draw_film(
    pictures: Tensor,
    ends: Tensor | None,
    path: Path,
    background: Sequence[np.ndarray] = (),
    scale: int | None = None,
    smooth: bool = False,
) -> None:
    """Draw a GIF or MP4 that goes from the first frame of `pictures` (rows, frames, C, S, S) to the last and back.

    All rows move at once: each between its two pictures `ends` (rows, 2, C, S, S), or four abreast without.
    """
    import torch

    from gankit.report.animation import WIDTH, write_film
    from gankit.report.sample_grid import grid

    columns, sheets = 4 if ends is None else 3, []
    scale = scale or factor(columns * (pictures.shape[-1] + PADDING) + PADDING, WIDTH)
    for frame in pictures.unbind(1):
        shown = frame if ends is None else torch.stack([ends[:, 0], frame, ends[:, 1]], 1).flatten(0, 1)
        sheets.append(grid(enlarged(shown, scale, smooth) if smooth else shown, columns).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_film(path, sheets + sheets[-2:0:-1], PAUSE, background=background, scale=1 if smooth else scale)


def refuse_input(path: Path, inputs: Sequence[str]) -> None:
    """Raise `UserError` where the output would overwrite an input picture."""
    if any(path.exists() and Path(name).exists() and path.samefile(name) for name in inputs):
        raise UserError(f"--out {path} is one of the input pictures: give another name")


def _captions(errors: Tensor) -> list[str]:
    return [f"error {error:.3f}" for error in errors.tolist()]


def _pixels(pictures: Tensor, scale: int, smooth: bool) -> list[np.ndarray]:
    from gankit.report.sample_grid import grid

    return [grid(picture[None], columns=1, padding=0).numpy() for picture in enlarged(pictures, scale, smooth)]


def _sheet(titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Columns under titles."""
    from PIL import Image, ImageDraw

    side = rows[0][0][0].shape[1]
    line = LETTERS + GAP // 2
    high = side + GAP + (line if any(caption for row in rows for _, caption in row) else 0)
    sheet = Image.new("RGB", (len(titles) * (side + GAP) + GAP, line + 2 * GAP + len(rows) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        _write(draw, (GAP + column * (side + GAP), GAP), title, side, INK)
    for number, row in enumerate(rows):
        top = line + 2 * GAP + number * high
        for column, (pixels, caption) in enumerate(row):
            left = GAP + column * (side + GAP)
            sheet.paste(Image.fromarray(pixels), (left, top))
            draw.rectangle((left - 1, top - 1, left + side, top + side), outline=(220, 220, 220))
            if caption:
                _write(draw, (left, top + side + 3), caption, side, PALE)
    return sheet


def _write(draw: Any, at: tuple[int, int], text: str, width: int, fill: Any) -> None:
    """The text on a line, with its middle cut out if it is wider than `width` pixels."""
    left, top = at
    for part, font in _parts(_short(text, width)):
        draw.text((left, top), part, fill=fill, font=font)
        left += round(font.getlength(part))


def _parts(text: str) -> list[tuple[str, Any]]:
    """Runs of ASCII letters and of others, each with its font: many fonts of other letters have no ASCII."""
    return [(part, _font(part)) for part in re.findall(r"[\x00-\x7f]+|[^\x00-\x7f]+", text)]


@lru_cache(maxsize=256)
def _font(text: str) -> Any:
    """A font with all letters of the text: Pillow's own for ASCII, or the first that has them; or None."""
    from matplotlib import font_manager
    from PIL import ImageFont

    if text.isascii():
        return ImageFont.load_default(LETTERS)
    letters = set(map(ord, text))
    for path in (font_manager.findfont("DejaVu Sans"), *sorted(font_manager.findSystemFonts())):
        if letters <= _letters(path):
            return ImageFont.truetype(path, LETTERS)
    return None


@lru_cache(maxsize=1024)
def _letters(font: str) -> frozenset[int]:
    """The characters of a font's file; none for a file that cannot be read, and for boxes that stand for letters."""
    from matplotlib.ft2font import FT2Font

    if "lastresort" in Path(font).name.lower():
        return frozenset()
    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _short(text: str, width: int) -> str:
    kept = len(text)
    shown = text
    while kept > 1 and sum(font.getlength(part) for part, font in _parts(shown)) > width:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - kept + kept // 2 :]}"
    return shown


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path, folders=True) as beside:
        save_png(picture, beside)
