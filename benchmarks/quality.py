"""The time a training takes to a quality: a diagnostic, and the table of what it measured.

    gankit compare began r3gan --plugin benchmarks/quality.py --diagnostic quality --budget 20m ...
    python benchmarks/quality.py COMPARISON/runs/* [--kid 0.5 --kid 0.3]

Every 1,000 steps the diagnostic compares 1,000 samples of the averaged generator with the held-out pictures: KID by
EfficientNet-Lite0, and with as many training pictures: precision, recall and coverage (k = 5) on 16×16 averages. Its
own time (some seconds a look) counts as training time, for every model alike. A time to a KID lies between two looks:
the table gives that of the first look at or below it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Run
from gankit.metrics.distances import kernel_distance
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import neighbours
from gankit.metrics.spaces import Space, deep
from gankit.trained.evaluation import NEIGHBOURS, SIDE


class QualityOptions(gankit.Options):
    pictures: int = Field(1000, ge=50, le=10_000, description="generated pictures at each look")


class Quality(gankit.Diagnostic[QualityOptions]):
    """KID of the averaged generator against held-out pictures, and precision, recall, coverage, during a training."""

    name = "quality"
    summary = "KID, precision, recall and coverage during the training"
    every = 1000
    budget = 0.5
    space: Space | None = None
    held_out: Tensor
    real: Tensor

    def read(self, snapshot: gankit.Snapshot) -> gankit.Reading:
        if self.space is None:
            held_out = snapshot.real(self.options.pictures, held_out=True)
            self.space, self.real = deep(held_out.shape[1]), pixels(snapshot.real(self.options.pictures), SIDE)
            self.held_out = self.space.features(held_out)
        samples = snapshot.generate(self.options.pictures)
        found = neighbours(self.real, pixels(samples, SIDE), NEIGHBOURS)
        readings = {"kid": kernel_distance(self.held_out, self.space.features(samples)).value}
        readings |= {"precision": found.precision, "recall": found.recall, "coverage": found.coverage}
        return gankit.Reading(readings)


@gankit.hookimpl
def gankit_diagnostics() -> list[type[gankit.Diagnostic]]:
    return [Quality]


def looks(run: Run) -> list[dict[str, float]]:
    """The lines of metrics.jsonl with a reading."""
    return [line for line in run.metrics() if "quality/kid" in line]


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--kid", "targets", type=float, multiple=True, default=(0.5, 0.3), show_default=True)
def main(folders: tuple[str, ...], targets: tuple[float, ...]) -> None:
    """The times to each KID, and the last look, of runs with the diagnostic `quality`."""
    print("| run | " + " | ".join(f"minutes to KID {target:g}" for target in targets), end=" | ")
    print("at the end: minutes | step | images/s | precision | recall | coverage | KID |")
    print("|---" * (len(targets) + 8) + "|")
    for folder in folders:
        found = looks(Run(folder))
        if not found:
            sys.exit(
                f"{folder} has no reading of quality: train with --plugin benchmarks/quality.py --diagnostic quality"
            )
        cells = [Path(folder).name]
        for target in targets:
            there = [line["seconds"] for line in found if line["quality/kid"] <= target]
            cells.append(f"{there[0] / 60:.1f}" if there else "not reached")
        last = found[-1]
        cells += [f"{last['seconds'] / 60:.1f}", f"{last['step']:,}", f"{last['images'] / last['seconds']:.0f}"]
        cells += [f"{last[f'quality/{name}']:.3f}" for name in ("precision", "recall", "coverage", "kid")]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
