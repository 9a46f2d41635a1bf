"""How the samples of runs cover the pictures that they were trained on: the tables of docs/evidence.

    python benchmarks/measure.py RUN... [--n 1755] [--raw]

Prints precision, recall, density and coverage (Naeem et al. 2020, k = 5, pixels averaged to 16×16), the mean distance
between samples and the spread of their mean colours over those of the real pictures, for every checkpoint; first, for
scale, real against other real pictures. `--raw` takes the bare generator and not the averaged one. Real are all
pictures here, held out or not; `gankit evaluate` measures against held-out ones.
"""

from __future__ import annotations

import click
import numpy as np
from torch import Tensor

from gankit import Run
from gankit.evaluation import NEIGHBOURS, SIDE
from gankit.metrics.features import chroma, pixels
from gankit.metrics.neighbours import mean_distance, neighbours
from gankit.pictures import Real, generated, open_for
from gankit.plugins import Catalogue
from gankit.sampling import rebuild


def row(real: Tensor, fake: Tensor) -> list[float]:
    """What the table holds of one set of samples."""
    a, b = pixels(real, SIDE), pixels(fake, SIDE)
    spread = [float(chroma(p).var(0, correction=0).sum().sqrt()) for p in (real, fake)]
    return [*neighbours(a, b, NEIGHBOURS), mean_distance(b) / mean_distance(a), spread[1] / max(spread[0], 1e-9)]


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--n", default=1755, show_default=True, help="Pictures of each side, at most half of the data.")
@click.option("--raw", is_flag=True, help="Of the bare generator.")
def main(runs: tuple[str, ...], n: int, raw: bool) -> None:
    data = open_for(rebuild(Run(runs[0])), None, Catalogue())
    everything = Real(np.concatenate([data.train, data.held_out]))
    n = min(n, len(everything) // 2)
    real, other = everything[:n], everything[n : 2 * n]
    print("| run | step | precision | recall | density | coverage | distance | colours |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| real against real, {n:,} | | " + " | ".join(f"{value:.3f}" for value in row(real, other)) + " |")
    for name in runs:
        run = Run(name)
        for step in run.checkpoints():
            if step:
                samples = generated(rebuild(run, step, averaged=not raw), data, n)
                shown = " | ".join(f"{value:.3f}" for value in row(real, samples))
                print(f"| {run.folder.name} | {step:,} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
