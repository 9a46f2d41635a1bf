"""How the cost of a step grows: `python benchmarks/growth.py --figure docs/images/growth.png`.

Images/s and peak memory of BEGAN with gankit's defaults over the side of the pictures, n and the batch, one varied at a
time from 32×32, n = 32, a batch of 16; and batches/s of the data path over the number of pictures, which are random
and not stored. Each point runs in its own process, one after the other.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed import commit, machine, peak_memory, save

SIDE, N, BATCH = 32, 32, 16
SIDES = (16, 32, 64, 128, 256)
FILTERS = (8, 16, 32, 64, 128)
BATCHES = (4, 8, 16, 32, 64, 128)
PICTURES = (1_000, 10_000, 100_000, 1_000_000)
SECONDS, FEWEST = 5.0, 3  # for each point; the least number of steps


def rate(step: Callable[[], object], warm: int) -> float:
    """Calls/s."""
    for _ in range(warm):
        step()
    started, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < SECONDS or done < FEWEST:
        step()
        done += 1
    return done / taken


def training(pipe: Any, side: int, n: int, batch: int, threads: int | None) -> None:
    """Sends images/s and the peak memory in MiB."""
    import torch

    from gankit.catalogue import Catalogue
    from gankit.config.request import RunRequest
    from gankit.config.resolve import resolve
    from gankit.training import start
    from gankit.training.loop import step_once
    from gankit.training.watcher import Watcher

    if threads:
        torch.set_num_threads(threads)
    catalogue = Catalogue([])
    asked = RunRequest(data="demo", image_size=side, batch_size=batch, set={"filters": n})
    resolved = resolve("began", asked, catalogue)
    started, batches = start.assemble(resolved, start.open_data(resolved, catalogue, Watcher()), catalogue)
    pipe.send((batch * rate(lambda: step_once(started, batches), 2), peak_memory()))


def reading(pipe: Any, pictures: int) -> None:
    """Sends batches/s of 16 pictures of 32×32, and the peak memory in MiB beside the pictures themselves."""
    import torch

    from gankit.data.batches import Batches
    from gankit.data.source import Data

    drawn = np.random.default_rng(0).integers(0, 256, (pictures, SIDE, SIDE, 3), dtype=np.uint8)
    data = Data("drawn", drawn, drawn[:0], digest="")
    batches = Batches(data, BATCH, seed=0, device=torch.device("cpu"), mirror=False, updates=1)
    numbers = iter(range(1, 1 << 60))
    pipe.send((rate(lambda: batches(next(numbers), 0), 10), peak_memory() - drawn.nbytes / 2**20))


def alone(act: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """The result of `act`, from its own process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=act, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:  # the system ended it: too little memory
        return math.nan, math.nan
    finally:
        process.join()


Line = tuple[str, Sequence[int], list[tuple[float, float]]]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Rates above, memory below, on logarithmic scales."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.4), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(lines))
    for (what, at, found), above, below in zip(lines, axes[0], axes[1], strict=True):
        rates, memory = zip(*found, strict=True)
        above.loglog(at, rates, "o-", color="#2a6f97")
        above.set_ylim(min(rates) / 2, max(rates) * 3)
        below.semilogx(at, memory, "o-", color="#a4553a")
        below.set_ylim(0, 1.25 * max(memory))
        for axis, values in ((above, rates), (below, memory)):
            axis.set_xticks(at, [f"{x // 1000:,}k" if x >= 1000 else f"{x}" for x in at])
            axis.minorticks_off()
            axis.margins(x=0.12)
            axis.grid(alpha=0.3)
            for x, value in zip(at, values, strict=True):
                axis.annotate(f"{value:,.0f}", (x, value), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        above.set_title(what, fontsize=10)
    axes[0][0].set_ylabel("images/s")
    axes[0][-1].set_ylabel("batches/s")
    axes[1][0].set_ylabel("peak memory, MiB")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="How the cost of a step grows.")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--figure", type=Path, help="draw it as a PNG")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/DATE-growth.md")
    asked = parser.parse_args()
    said: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        said.append(line)

    threads = asked.threads
    say(f"{machine()}. Commit: {commit()}.\n")
    lines: list[Line] = []
    for what, at, measured in (
        ("side of the pictures", SIDES, lambda x: alone(training, x, N, BATCH, threads)),
        ("n", FILTERS, lambda x: alone(training, SIDE, x, BATCH, threads)),
        ("batch", BATCHES, lambda x: alone(training, SIDE, N, x, threads)),
        ("pictures, the data path alone", PICTURES, lambda x: alone(reading, x)),
    ):
        say(f"| {what} | {'batches/s' if at is PICTURES else 'images/s'} | MiB |\n|---|---|---|")
        found = []
        for x in at:
            found.append(measured(x))
            say(f"| {x:,} | {found[-1][0]:,.0f} | {found[-1][1]:,.0f} |")
        say("")
        fitted = [(x, point) for x, point in zip(at, found, strict=True) if not math.isnan(point[0])]
        lines.append((what, [x for x, _ in fitted], [point for _, point in fitted]))
    say("From 32×32, n = 32 and a batch of 16, one of them varied at a time. MiB: the peak resident memory of the")
    say("process, of the data path without the pictures themselves.")
    if asked.figure:
        draw(lines, asked.figure)
    if asked.save:
        save("How cost grows", "-growth", said)


if __name__ == "__main__":
    main()
