"""The sample grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gankit.files import MARK, replacing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

COLUMNS, PADDING = 8, 2  # of a sample grid
VISIBLE = 128  # pixels of a picture's side that a person sees well


def grid(pictures: Tensor, columns: int = COLUMNS, padding: int = PADDING) -> Tensor:
    """Pictures (n, C, H, W) in [-1, 1] as one uint8 picture (H, W, C), `columns` in a row, on white.

    Pictures with opacity (2 or 4 channels) lie on a transparent ground.
    """
    from torchvision.utils import make_grid

    sheet = make_grid(
        pictures.float().cpu(), nrow=columns, padding=padding, pad_value=-1.0 if pictures.shape[1] in (2, 4) else 1.0
    )
    return sheet.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0)


def factor(side: int, least: int) -> int:
    """The smallest whole factor that enlarges `side` pixels to `least` or more."""
    return max(1, -(-least // side))


def enlarged(pictures: Tensor, scale: int, smooth: bool = False) -> Tensor:
    """Pictures (n, C, H, W) in [-1, 1] at `scale` times their size: each pixel as a square, or bicubic if `smooth`.

    The last of 2 or 4 channels is an opacity. Colours count by it, so that none shows of what it hides.
    """
    import torch
    from torch.nn.functional import interpolate

    if scale == 1:
        return pictures
    pictures = pictures.float()
    if not smooth:
        return interpolate(pictures, scale_factor=scale, mode="nearest-exact")
    if pictures.shape[1] not in (2, 4):
        return interpolate(pictures, scale_factor=scale, mode="bicubic").clamp(-1, 1)
    opacity = (pictures[:, -1:] + 1) / 2
    weighed = torch.cat([pictures[:, :-1] * opacity, opacity], 1)
    weighed = interpolate(weighed, scale_factor=scale, mode="bicubic")
    opacity = weighed[:, -1:]
    colours = torch.where(opacity > 0, weighed[:, :-1] / opacity, 0.0)
    return torch.cat([colours, opacity * 2 - 1], 1).clamp(-1, 1)


def taken_apart(sheet: np.ndarray, side: int) -> np.ndarray:
    """The pictures (n, side, side, C) of a sheet (H, W, C) that `grid` drew. ValueError for any other sheet.

    A run folder keeps its samples only as such sheets.
    """
    cell = side + PADDING
    rows = (sheet.shape[0] - PADDING) // cell
    if sheet.shape[:2] != (rows * cell + PADDING, COLUMNS * cell + PADDING) or not rows:
        raise ValueError(f"a sheet of {sheet.shape} is no grid of pictures of {side}×{side}")
    cells = sheet[PADDING:, PADDING:].reshape(rows, cell, COLUMNS, cell, -1)[:, :side, :, :side]
    return cells.swapaxes(1, 2).reshape(rows * COLUMNS, side, side, -1)


def save_grid(
    pictures: Tensor, path: Path, columns: int = COLUMNS, scale: int | None = 1, smooth: bool = False
) -> None:
    """Write the grid as a PNG, whole or not at all. Points (n, D) are drawn as a scatter of the first two numbers.

    `scale` and `smooth` as `enlarged` has them; None enlarges a picture to at least VISIBLE pixels.
    """
    from PIL.Image import fromarray

    if pictures.ndim == 4:
        pictures = enlarged(pictures, scale or factor(pictures.shape[-2], VISIBLE), smooth)
        picture = fromarray(grid(pictures, columns).numpy())
    else:
        picture = _scatter(pictures)
    with replacing(path) as beside:
        save_png(picture, beside)


def save_png(picture: Image, path: Path) -> None:
    """Write a PNG that says that gankit drew it."""
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("Software", MARK)
    picture.save(path, format="PNG", pnginfo=told)


def _scatter(points: Tensor) -> Image:
    import io

    from matplotlib.figure import Figure
    from PIL.Image import open as opened

    figure = Figure(figsize=(3, 3), dpi=96)
    axes = figure.add_subplot(aspect="equal")
    axes.plot(*points[:, :2].float().cpu().T, ".", markersize=3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return opened(buffer, formats=["PNG"]).convert("RGB")
