"""Every line of metrics, every sample grid and every alarm of a run, for `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from gankit import Artifact, Run


class TensorBoard(Artifact):
    """Event files in RUN/tensorboard/attempt-N, one curve a metric.

    A resume that writes steps again hides those from before; what a rescue abandons stays as a curve of its own.
    """

    name = "tensorboard"
    summary = "RUN/tensorboard: metrics, sample grids and alarms (`tensorboard --logdir RUN`)"

    def __init__(self, options: Any, run: Run) -> None:
        super().__init__(options, run)
        self.folder = run.folder / "tensorboard" / f"attempt-{run.attempt}"
        kept = [line["step"] for line in run.metrics() if line.get("attempt", 1) == run.attempt]
        self.writer = SummaryWriter(str(self.folder), purge_step=kept[-1] + 1 if kept else None)

    def line(self, line: Mapping[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "attempt"):
                self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()  # what is still in the writer's queue would be lost with the process

    def sampled(self, step: int, path: Path) -> None:
        with Image.open(path) as grid:
            self.writer.add_image("samples", np.asarray(grid.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> Path:
        for alarm in self.run.alarms():
            if alarm.get("attempt", 1) == self.run.attempt:
                said = f"**{alarm['kind']}**: {alarm['message']} ({alarm['action']})"
                self.writer.add_text(f"alarms/{alarm['diagnostic']}", said, alarm["step"])
        self.writer.close()
        return self.folder
