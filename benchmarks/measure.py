"""How the samples of runs cover the pictures that they were trained on: the tables of docs/evidence.

    python benchmarks/measure.py RUN... [--n 1755] [--raw]

Prints precision, recall, density and coverage (Naeem et al. 2020, k = 5, pixels averaged to 16×16), the mean distance
between samples and the spread of their mean colours over those of the real pictures, for every checkpoint; first, for
scale, real against other real pictures. `--raw` takes the bare generator and not the averaged one.
"""

from __future__ import annotations

import click
import numpy as np
import torch
from torch import Tensor

from gankit import Run, checkpoint
from gankit.api import open_data
from gankit.config import RunConfig, validate
from gankit.data.batches import to_float
from gankit.metrics.features import chroma, pixels
from gankit.metrics.neighbours import mean_distance, neighbours
from gankit.plugins import Catalogue
from gankit.recorder import Watcher
from gankit.training import build_model


def real_pictures(run: Run) -> Tensor:
    """All of the run's pictures, held out or not, in an order that depends on nothing but their number."""
    config = validate(RunConfig, run.config, str(run.folder), "option")
    data = open_data(config, Catalogue(), Watcher())
    pictures = to_float(torch.from_numpy(np.concatenate([data.train, data.held_out])))
    return pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))]


@torch.no_grad()
def samples(run: Run, step: int, n: int, raw: bool) -> Tensor:
    """From latents of a fixed seed."""
    config = validate(RunConfig, run.config, str(run.folder), "option")
    model, networks, _ = build_model(config, tuple(run.data["shape"]), Catalogue(), run.data["labels"])
    _, tensors = checkpoint.read(run, step)
    bare = {k.removeprefix("generator/"): v for k, v in tensors["networks"].items() if k.startswith("generator/")}
    generator = networks["generator"].eval()
    generator.load_state_dict(bare if raw else tensors["averaged"])
    torch.manual_seed(1)
    asked = {"generator": generator}
    cpu = torch.device("cpu")
    made = [model.generate(asked, model.latents(min(100, n - i), cpu), None) for i in range(0, n, 100)]
    return torch.cat(made).clamp(-1, 1)


def row(real: Tensor, fake: Tensor) -> list[float]:
    """What the table holds of one set of samples."""
    a, b = pixels(real), pixels(fake)
    spread = [float(chroma(p).var(0, correction=0).sum().sqrt()) for p in (real, fake)]
    return [*neighbours(a, b), mean_distance(b) / mean_distance(a), spread[1] / max(spread[0], 1e-9)]


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--n", default=1755, show_default=True, help="Pictures of each side, at most half of the data.")
@click.option("--raw", is_flag=True, help="Of the bare generator.")
def main(runs: tuple[str, ...], n: int, raw: bool) -> None:
    first = Run(runs[0])
    everything = real_pictures(first)
    n = min(n, len(everything) // 2)
    real, other = everything[:n], everything[n : 2 * n]
    print("| run | step | precision | recall | density | coverage | distance | colours |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| real against real, {n:,} | | " + " | ".join(f"{value:.3f}" for value in row(real, other)) + " |")
    for name in runs:
        run = Run(name)
        for step in run.checkpoints():
            if step:
                shown = " | ".join(f"{value:.3f}" for value in row(real, samples(run, step, n, raw)))
                print(f"| {run.folder.name} | {step:,} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
