"""The core's artifacts: files drawn at the end of a run, tables and logs."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from gankit.components import Artifact
from gankit.errors import UserError
from gankit.files import replacing
from gankit.options import Options

if TYPE_CHECKING:
    from gankit.runs.folder import RunFolder


SHARE = 0.02  # of the time, at most, for a report of a training that goes on
MINUTE = 60.0  # seconds between two such reports, where no sample comes in between


class Losses(Artifact):
    """losses.png: losses, energies, controllers and learning rates over the steps."""

    name = "losses"
    summary = "losses.png: losses, energies, controllers and learning rates over the steps"

    def finish(self) -> Path | None:
        from gankit.report import draw_losses

        return draw_losses(self.run) if self.run.has_metrics() else None


class Animation(Artifact):
    """animation.gif: the sample grids over the steps."""

    name = "animation"
    summary = "animation.gif: the same latents over the steps"

    def finish(self) -> Path | None:
        from gankit.report import animate

        return animate(self.run) if self.run.samples() else None


class Report(Artifact):
    """report.html: the whole run in one file, from the first sample on.

    It is written again at each sample grid, and once a minute, unless that would take more than `SHARE` of the time.
    It comes last, because at the end it shows the other artifacts.
    """

    name = "report"
    summary = "report.html: the run in one self-contained page, from the first sample on"

    def __init__(self, options: Options, run: RunFolder) -> None:
        super().__init__(options, run)
        self.written, self.cost = -math.inf, 0.0  # when the last page was written, and the seconds that it took

    def line(self, line: Mapping[str, Any]) -> None:
        if perf_counter() - self.written >= MINUTE:
            self.refresh()

    def sampled(self, step: int, path: Path) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Write the page of a training that goes on. On a full disk it is tried again like any other time."""
        from gankit.report import write_report
        from gankit.trained.memorisation import draw_real

        if perf_counter() - self.written < self.cost / SHARE:
            return
        begun = perf_counter()
        try:
            if not self.run.real_path.exists():
                draw_real(self.run)
            write_report(self.run, live=True)
        finally:
            self.written = perf_counter()
            self.cost = self.written - begun

    def finish(self) -> Path | None:
        from gankit.report import write_report
        from gankit.trained.memorisation import draw_neighbours, draw_real

        try:
            draw_neighbours(self.run)
            draw_real(self.run)
        finally:
            path = write_report(self.run)
        return path


class Csv(Artifact):
    """metrics.csv: metrics.jsonl as one table, for spreadsheets. A cell is empty if its line has no such number."""

    name = "csv"
    summary = "metrics.csv: the metrics as one table"

    def finish(self) -> Path:
        names = dict.fromkeys(name for line in self.run.each_line() for name in line)
        path = self.run.folder / "metrics.csv"
        with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names, lineterminator="\n")
            table.writeheader()
            table.writerows(self.run.each_line())
        return path


class TensorBoardOptions(Options):
    @model_validator(mode="after")
    def _there(self) -> Any:
        if find_spec("tensorboard") is None:
            raise UserError(
                "--artifact tensorboard needs TensorBoard: pip install 'gankit[tensorboard]', or leave it out"
            )
        return self


class TensorBoard(Artifact[TensorBoardOptions]):
    """tensorboard/attempt-N: every metric, sample grid and alarm, during the run.

    A resume that repeats steps hides the earlier ones; an attempt that a rescue abandons stays as a separate curve.
    """

    name = "tensorboard"
    summary = "tensorboard/: metrics, sample grids and alarms (`tensorboard --logdir RUN`)"

    def __init__(self, options: TensorBoardOptions, run: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(options, run)
        self.folder = run.make("tensorboard", f"attempt-{run.attempt}")
        kept = [line["step"] for line in run.each_line() if line.get("attempt", 1) == run.attempt]
        self.alarms = len(run.alarms())
        self.writer = SummaryWriter(str(self.folder), purge_step=kept[-1] + 1 if kept else 0)

    def line(self, line: Mapping[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "attempt") and value is not None:
                self.writer.add_scalar(name, value, line["step"])
        for alarm in self.run.alarms()[self.alarms :]:
            text = f"**{alarm['kind']}**: {alarm['message']} ({alarm['action']})"
            self.writer.add_text(f"alarms/{alarm['diagnostic']}", text, alarm["step"])
            self.alarms += 1
        self.writer.flush()  # a killed process would lose the writer's queue

    def sampled(self, step: int, path: Path) -> None:
        import numpy as np

        from gankit.report.story import picture

        with picture(self.run, path) as grid:
            self.writer.add_image("samples", np.asarray(grid.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> Path:
        self.writer.close()
        return self.folder
