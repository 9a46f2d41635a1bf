"""Real pictures, then samples of one or more runs at some steps, side by side; none is picked.

    python benchmarks/side_by_side.py RUN... --step 4000 --step 20000 -o docs/images/pictures.png

Each block has the first 36: of RUN/real.png, and of the run's own sample grids (the same latents at every step).
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.data.batches import to_float
from gankit.report.sample_grid import enlarged, grid, taken_apart
from gankit.report.story import picture
from gankit.trained.run import Run

SHOWN, COLUMNS, SCALE, GAP, GREY = 36, 6, 2, 10, 128


def block(run: Run, sheet: Path) -> Tensor:
    """The first pictures of a sheet of the run, enlarged, as one picture (H, W, 3) with a grey edge to its left."""
    with picture(run, sheet) as opened:
        pictures = taken_apart(np.asarray(opened.convert("RGB")), int(run.config["image_size"]))[:SHOWN]
    drawn = grid(enlarged(to_float(torch.from_numpy(pictures.copy())), SCALE), COLUMNS)
    return torch.nn.functional.pad(drawn, (0, 0, GAP, 0), value=GREY)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option("--step", "steps", type=int, multiple=True, required=True)
@click.option("-o", "--out", required=True)
def main(names: tuple[str, ...], steps: tuple[int, ...], out: str) -> None:
    runs = [Run(name) for name in names]
    sheets = [(runs[0], runs[0].real_path), *((run, dict(run.samples())[step]) for run in runs for step in steps)]
    row = torch.cat([block(*sheet) for sheet in sheets], 1)[:, GAP:]
    Image.fromarray(row.numpy()).quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
