"""The cost of a diagnostic's reading, as a share of the steps between two: BEGAN on the demo, batch 16.

Processor time of one thread in one process, medians; other programs do not count.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from speed import assemble

from gankit.builtin.cleanliness import Cleanliness
from gankit.builtin.mode_collapse import ModeCollapse
from gankit.components import Diagnostic, Snapshot
from gankit.training.loop import step_once
from gankit.training.pictures import looking
from gankit.training.state import LOOKING

STEPS, LOOKS = 40, 7


def timed(act: Callable[[], object]) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started


def row(diagnostic: type[Diagnostic], size: int) -> str:
    """A line of the table, for pictures of that side."""
    with tempfile.TemporaryDirectory() as scratch:
        at = assemble("demo", size, Path(scratch))
        training, batches, showing = at.training, at.batches, at.showing
        detector = diagnostic(diagnostic.Options())

        def look() -> None:
            snapshot = Snapshot(0, {}, training.model, showing.generate, showing.real, showing.judge)
            with looking(training, LOOKING, training.number):
                detector.read(snapshot)

        def step() -> None:
            step_once(training, batches)

        for _ in range(5):
            step()
        steps = statistics.median(timed(step) for _ in range(STEPS))
        first = timed(look)
        later = statistics.median(timed(look) for _ in range(LOOKS))
        at.recorder.close()
    share = 100 / (steps * detector.every)
    return (
        f"| {diagnostic.name} | {size}×{size} | {steps * 1e3:.1f} | {later * 1e3:.0f} | {first * 1e3:.0f} "
        f"| {later * share:.2f} | {first * share:.2f} |"
    )


def costs() -> str:
    """Markdown."""
    torch.set_num_threads(1)
    return "\n".join(
        (
            "BEGAN as it is by default, processor time of one thread: `benchmarks/collapse_cost.py`.",
            "",
            "| | | step, ms | look, ms | first look, ms | share of the steps between two, % | the first's, % |",
            "|---|---|---|---|---|---|---|",
            *(row(diagnostic, size) for diagnostic in (ModeCollapse, Cleanliness) for size in (32, 64)),
        )
    )


if __name__ == "__main__":
    print(costs())
