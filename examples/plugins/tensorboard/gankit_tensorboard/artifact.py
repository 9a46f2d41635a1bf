"""The settings and last metrics of runs, for the table of `tensorboard --logdir runs`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gankit import Artifact

SHOWN = ("model", "networks", "losses", "controllers", "views")


class Hparams(Artifact):
    """One row a run: the settings of the model and its components, and the last value of every metric."""

    name = "hparams"
    summary = "RUN/hparams: settings and last metrics for TensorBoard's table of runs (`tensorboard --logdir runs`)"

    def finish(self) -> Path:
        folder = self.run.folder / "hparams"
        shutil.rmtree(folder, ignore_errors=True)  # one row a run, also after a resume
        settings = flat({name: self.run.config[name] for name in SHOWN})
        last = {name: value for line in self.run.metrics() for name, value in line.items() if value is not None}
        with SummaryWriter(str(folder)) as writer:
            for summary in hparams(settings, {f"last/{name}": value for name, value in last.items()}):
                writer.file_writer.add_summary(summary)
            for name, value in last.items():
                writer.add_scalar(f"last/{name}", value)
        return folder


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; values other than numbers, booleans and strings become strings."""
    rows: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows |= flat(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return rows
