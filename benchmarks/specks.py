"""Are the single dark pixels of samples noise, or eyes? Their number and their places beside those of real pictures.

    python benchmarks/specks.py RUN... [--colours]

A speck is a pixel that is darker than each of its eight neighbours, by at least the contrast of the row (0 to 1, mean
of the channels); with --colours one that is darker or lighter in any channel. Noise has more specks than real pictures,
and anywhere; the eyes of small faces are where real eyes are. "At one place" is the share of pictures with a speck at
the commonest place. The last column is the correlation of the maps of places; the first rows have that of two halves
of the real ones.
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
    """(N, C, S, S) in [0, 1] -> (N, C, S, S): by how much each pixel is darker than its darkest neighbour."""
    side = pictures.shape[-1]
    around = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    return torch.stack([around[..., y : y + side, x : x + side] for y, x in shifts]).amin(0) - pictures


def contrast(pictures: Tensor, colours: bool) -> Tensor:
    """(N, C, S, S) in [-1, 1] -> (N, S, S): of each pixel with its neighbours, below 0 where it is between them."""
    pictures = pictures.add(1).div(2)
    if colours:
        return torch.maximum(darker(pictures), darker(1 - pictures)).amax(1)
    return darker(pictures.mean(1, keepdim=True))[:, 0]


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--n", default=2000, show_default=True, help="Pictures of each side.")
@click.option("--colours", is_flag=True, help="Darker or lighter, in any channel.")
def main(runs: tuple[str, ...], n: int, colours: bool) -> None:
    if len({Run(name).data["digest"] for name in runs}) > 1:
        raise click.UsageError("the runs have different pictures, and all are compared with those of the first")
    first = rebuild(Run(runs[0]))
    data = open_for(first, None, Catalogue())
    real = contrast(Real(data.train)[: 2 * n], colours)
    half, other = real[: len(real) // 2], real[len(real) // 2 :]
    sides = {"real": other} | {name: contrast(generated(rebuild(Run(name)), data, n), colours) for name in runs}
    print("| | contrast | specks a picture | of real ones | at one place | of real ones | places alike |")
    print("|---|---|---|---|---|---|---|")
    for name, side in sides.items():
        for least in CONTRASTS:
            here, there = ((some > least).float().mean(0) for some in (side, half))
            alike = torch.corrcoef(torch.stack([here.flatten(), there.flatten()]))[0, 1]
            cells = [f"{some:.3f}" for some in (here.sum(), there.sum(), here.max(), there.max())]
            print(f"| {name} | {least} | {' | '.join(cells)} | {alike:.2f} |")


if __name__ == "__main__":
    main()
