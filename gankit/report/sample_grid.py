"""The sample grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gankit.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

COLUMNS, PADDING = 8, 2  # of a sample grid


def grid(pictures: Tensor, columns: int = COLUMNS, padding: int = PADDING) -> Tensor:
    """Pictures (n, C, H, W) in [-1, 1] as one uint8 picture (H, W, C), `columns` in a row, on white.

    Pictures with opacity (2 or 4 channels) lie on a transparent ground.
    """
    from torchvision.utils import make_grid

    sheet = make_grid(
        pictures.float().cpu(), nrow=columns, padding=padding, pad_value=-1.0 if pictures.shape[1] in (2, 4) else 1.0
    )
    return sheet.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0)


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


def save_grid(pictures: Tensor, path: Path, columns: int = COLUMNS) -> None:
    """Write the grid as a PNG, whole or not at all. Points (n, D) are drawn as a scatter of the first two numbers."""
    from PIL import Image

    picture = Image.fromarray(grid(pictures, columns).numpy()) if pictures.ndim == 4 else _scatter(pictures)
    with replacing(path) as beside:
        picture.save(beside, format="PNG")


def _scatter(points: Tensor) -> Image.Image:  # type: ignore[name-defined]  # noqa: F821
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(3, 3), dpi=96)
    axes = figure.add_subplot(aspect="equal")
    axes.plot(*points[:, :2].float().cpu().T, ".", markersize=3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer, formats=["PNG"]).convert("RGB")
