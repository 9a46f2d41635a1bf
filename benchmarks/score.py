"""What the score of a run says of pictures that are known to be good or bad: the table in docs/measures.md.

    python benchmarks/score.py FOLDER [--image-size 32] [RUN...]

A row for other real pictures, for pictures that no training should make, and for the last checkpoint of each RUN.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from gankit import Run
from gankit.catalogue import Catalogue
from gankit.data.open import open_source
from gankit.data.source import Request
from gankit.metrics.features import pixels
from gankit.runs.score import parts, score
from gankit.trained.real_and_generated import generated, open_for
from gankit.trained.sampling import rebuild
from gankit.trained.scored import PICTURES, Scale
from gankit.training.pictures import real_pictures


def blur(pictures: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(F.pad(pictures, (side // 2,) * 4, mode="replicate"), side, 1)


def halves(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of the pictures by their first principal component, at a glance of 4×4."""
    points = pixels(pictures, 4)
    along = (points - points.mean(0)) @ torch.linalg.svd(points - points.mean(0), full_matrices=False).Vh[0]
    return pictures[along > along.median()], pictures[along <= along.median()]


def planted(train: Tensor, other: Tensor) -> dict[str, Tensor]:
    """`PICTURES` pictures each: real ones, and what is wrong with them."""
    stream = torch.Generator().manual_seed(0)
    noise = torch.rand(other.shape, generator=stream) * 2 - 1
    chosen = train[torch.randperm(len(train), generator=stream)[: 2 * PICTURES]]
    return {
        "other real pictures": other,
        "blurred, 3×3": blur(other, 3),
        "blurred, 5×5": blur(other, 5),
        "noise of σ 0.1": (other + 0.1 * torch.randn(other.shape, generator=stream)).clamp(-1, 1),
        "one half of the modes": halves(chosen)[0],
        "the other half": halves(chosen)[1],
        "means of two pictures": (chosen[:PICTURES] + chosen[PICTURES:]) / 2,
        "half noise, half real": torch.cat([noise[: PICTURES // 2], other[: PICTURES // 2]]),
        "30 % copies": torch.cat([chosen[: round(0.3 * PICTURES)], other[: PICTURES - round(0.3 * PICTURES)]]),
        "half of them one picture": torch.cat([other[: PICTURES // 2], (other[:1] + 0.02 * noise)[PICTURES // 2 :]]),
        "one picture": other[:1] + 0.02 * noise,
        "grey": 0.02 * noise,
        "uniform noise": noise,
    }


@click.command()
@click.argument("folder")
@click.argument("runs", nargs=-1)
@click.option("--image-size", default=32, show_default=True)
def main(folder: str, runs: tuple[str, ...], image_size: int) -> None:
    data = open_source(folder, Request(image_size), Catalogue(()))
    other = real_pictures(data, PICTURES, held_out=True)
    scale = Scale(partial(real_pictures, data))
    cases: dict[str, Any] = planted(real_pictures(data, len(data.train)), other)
    for name in runs:
        run = Run(name)
        rebuilt = rebuild(run)
        cases[f"{run.folder.name}, step {run.checkpoints()[-1]:,}"] = generated(
            rebuilt, open_for(rebuilt, None, Catalogue(())), PICTURES
        )
    print("| samples | variety | form | clean | score |\n|---|---|---|---|---|")
    for name, pictures in cases.items():
        line = scale.line(pictures)
        cells = " | ".join(f"{value:.2f}" for value in (parts(line) or {}).values())
        print(f"| {name} | {cells} | {score(line):.2f} |", flush=True)


if __name__ == "__main__":
    main()
