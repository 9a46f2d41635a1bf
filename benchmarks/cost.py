"""The cost of each part of BEGAN's defaults: processor milliseconds a step, all variants in turn in one process.

    OMP_NUM_THREADS=1 python benchmarks/cost.py [--turns 12]

Medians over the turns, and their ratio to the defaults. On the demo figures at 32×32, batch 32; no diagnostics.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import click
import torch

from gankit.testing import training as prepare
from gankit.training.loop import step_once

STEPS = 8  # in a turn
LINEAR = {"strided-autoencoder.output": "linear"}
VARIANTS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "without the critic": {"losses": {"critic": 0}},
    "without the critic, edges and the opacity": {"losses": {"critic": 0}, "set": {"edges": 0, **LINEAR}},
    "without imle": {"losses": {"imle": 0}},
}


@click.command()
@click.option("--turns", default=12, show_default=True)
def main(turns: int) -> None:
    torch.set_num_threads(1)
    data = {"data": "demo:500", "image_size": 32, "steps": 0}
    made = {name: prepare("began", [], data | options) for name, options in VARIANTS.items()}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(turns + 1):
        for name, (training, batches) in made.items():
            began = time.process_time()
            for _ in range(STEPS):
                step_once(training, batches)
            if turn:  # the first warms up
                taken[name].append((time.process_time() - began) / STEPS * 1e3)
    first = median(taken["the defaults"])
    print("| BEGAN, 32×32, batch 32 | ms a step | over the defaults |\n|---|---|---|")
    for name, found in taken.items():
        print(f"| {name} | {median(found):.1f} | {median(found) / first:.2f} |")


if __name__ == "__main__":
    main()
