"""Inverted pictures as a sheet, and the way between two latents as a film or a strip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.errors import UserError
from gankit.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from gankit.trained.latents import Inversion

LETTERS = 13  # height of the captions in pixels
GAP = 8  # pixels between cells
INK, PALE = (28, 31, 35), (110, 114, 120)
PAUSE = 0.06  # seconds a frame of an interpolation

Cell = tuple["np.ndarray", str]  # a uint8 picture (S, S, 3), and what is written below it


def words(found: Inversion, names: Sequence[str]) -> list[str]:
    """One line a picture: its errors, means over the values of pictures in [-1, 1]."""
    lines = []
    for n, (name, errors) in enumerate(zip(names, found.errors, strict=True)):
        line = f"{name}: |x − G(z)| {found.error[n]:.4f}"
        if len(errors) > 1:
            line += f" (the {len(errors)} starts: {errors.min():.4f} to {errors.max():.4f})"
        if found.reconstruction_error is not None:
            line += f", |x − D(x)| {found.reconstruction_error[n]:.4f}"
        lines.append(line)
    return lines


def draw_inversion(found: Inversion, names: Sequence[str], path: Path) -> None:
    """A PNG with a row a picture: the picture, D's reconstruction where there is one, G(z)."""
    # Pillow's own font has no other letters.
    captions = [name if name.isascii() else f"picture {n}" for n, name in enumerate(names, start=1)]
    columns = [("picture", found.pictures, captions)]
    if found.reconstructed is not None and found.reconstruction_error is not None:
        columns.append(("D's reconstruction", found.reconstructed, _told(found.reconstruction_error)))
    columns.append(("G(z)", found.generated, _told(found.error)))
    cells = [list(zip(_pixels(pictures), captions, strict=True)) for _, pictures, captions in columns]
    _save(_sheet([title for title, _, _ in columns], list(zip(*cells, strict=True)), side=160), path)


def draw_strip(made: Tensor, ends: Tensor | None, path: Path) -> None:
    """A PNG with a row a pair: G(z) (rows, frames, C, S, S) side by side, between the pictures `ends` (rows, 2, …)."""
    rows: list[list[Cell]] = []
    for n, frames in enumerate(made):
        cells = _pixels(frames)
        if ends is not None:
            a, b = _pixels(ends[n])
            cells = [a, *cells, b]
        rows.append([(cell, "") for cell in cells])
    titles = ["G(z)", *[""] * (made.shape[1] - 2), "G(z)"]
    _save(_sheet(titles if ends is None else ["picture", *titles, "picture"], rows, side=96), path)


def draw_film(made: Tensor, ends: Tensor | None, path: Path, background: Sequence[np.ndarray] = ()) -> None:
    """A GIF or MP4 that goes from the first frame of `made` (rows, frames, C, S, S) to the last and back.

    All rows move at once: each between its two pictures `ends` (rows, 2, C, S, S), or four abreast without.
    """
    import torch

    from gankit.report.animation import write_film
    from gankit.report.grid import grid

    there = []
    for frame in made.unbind(1):
        if ends is None:
            there.append(grid(frame, columns=4).numpy())
        else:
            there.append(grid(torch.stack([ends[:, 0], frame, ends[:, 1]], 1).flatten(0, 1), columns=3).numpy())
    write_film(path, there + there[-2:0:-1], PAUSE, background=background)


def refuse_input(path: Path, inputs: Sequence[str]) -> None:
    """Raise `UserError` where the output would take the place of one of the pictures that are read."""
    if any(path.exists() and Path(name).exists() and path.samefile(name) for name in inputs):
        raise UserError(f"-o {path} is one of the pictures that are read: give another name")


def _told(errors: Tensor) -> list[str]:
    return [f"error {error:.3f}" for error in errors.tolist()]


def _pixels(pictures: Tensor) -> list[np.ndarray]:
    from gankit.report.grid import grid

    return [grid(picture[None], columns=1, padding=0).numpy() for picture in pictures]


def _sheet(titles: Sequence[str], rows: Sequence[Sequence[Cell]], side: int) -> Image.Image:
    """Columns under titles; every pixel a square of pixels, until a picture is at least `side` wide."""
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1, -(-side // rows[0][0][0].shape[1]))
    side = rows[0][0][0].shape[1] * factor
    line = LETTERS + GAP // 2
    high = side + GAP + (line if any(caption for row in rows for _, caption in row) else 0)
    sheet = Image.new("RGB", (len(titles) * (side + GAP) + GAP, line + 2 * GAP + len(rows) * high), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LETTERS)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (side + GAP), GAP), _short(title, font, side), fill=INK, font=font)
    for number, row in enumerate(rows):
        top = line + 2 * GAP + number * high
        for column, (pixels, caption) in enumerate(row):
            left = GAP + column * (side + GAP)
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, top))
            draw.rectangle((left - 1, top - 1, left + side, top + side), outline=(220, 220, 220))
            if caption:
                draw.text((left, top + side + 3), _short(caption, font, side), fill=PALE, font=font)
    return sheet


def _short(text: str, font: object, width: int) -> str:
    """The text with its middle left out, where it is wider than `width` pixels."""
    kept = len(text)
    shown = text
    while kept > 1 and font.getlength(shown) > width:  # type: ignore[attr-defined]
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - kept + kept // 2 :]}"
    return shown


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as beside:
        picture.save(beside, format="PNG")
