"""Are the single dark pixels of samples noise, or eyes? Their number and their places beside those of real pictures.

    python benchmarks/specks.py RUN...

A speck is a pixel that is darker than each of its eight neighbours, by at least the contrast of the row (0 to 1, mean
of the channels). Noise has more specks than real pictures, and anywhere; the eyes of small faces are where real eyes
are. The last column is the correlation of the maps of places; the first rows have that of two halves of the real ones.
"""

from __future__ import annotations

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.trained.real_and_generated import Real, generated, open_for
from gankit.trained.run import Run
from gankit.trained.sampling import rebuild

CONTRASTS = (0.04, 0.08, 0.12, 0.2)


def darker(pictures: Tensor) -> Tensor:
    """(N, C, S, S) in [-1, 1] -> (N, S, S): by how much each pixel is darker than its darkest neighbour, in [-1, 1]."""
    grey = pictures.mean(1, keepdim=True).add(1).div(2)
    side = grey.shape[-1]
    around = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    darkest = torch.stack([around[..., y : y + side, x : x + side] for y, x in shifts]).amin(0)
    return (darkest - grey)[:, 0]


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--n", default=2000, show_default=True, help="Pictures of each side.")
def main(runs: tuple[str, ...], n: int) -> None:
    first = rebuild(Run(runs[0]))
    data = open_for(first, None, Catalogue())
    real = darker(Real(data.train)[: 2 * n])
    half, other = real[: len(real) // 2], real[len(real) // 2 :]
    sides = {"real": other} | {name: darker(generated(rebuild(Run(name)), data, n)) for name in runs}
    print("| | contrast | specks a picture | of real ones | places alike |\n|---|---|---|---|---|")
    for name, side in sides.items():
        for contrast in CONTRASTS:
            here, there = ((some > contrast).float().mean(0) for some in (side, half))
            alike = torch.corrcoef(torch.stack([here.flatten(), there.flatten()]))[0, 1]
            print(f"| {name} | {contrast} | {here.sum():.3f} | {there.sum():.3f} | {alike:.2f} |")


if __name__ == "__main__":
    main()
