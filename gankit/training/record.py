"""Write a training's lines, samples, checkpoints and artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.components import Artifact
from gankit.errors import UserError, in_one_line
from gankit.files import Lines
from gankit.report.sample_grid import save_grid
from gankit.runs.folder import RunFolder, strict
from gankit.runs.score import SCORE
from gankit.training import checkpoint
from gankit.training.pictures import Showing
from gankit.training.state import Training
from gankit.training.watcher import Watcher

GRID = 64  # pictures in a sample grid
COLUMNS = ("step", "images", "seconds", "images_per_second", "attempt", SCORE)  # gankit's own, of each line


class Recorder:
    """Writes a training into its run folder, and passes each line to the artifacts and the watcher."""

    def __init__(
        self, run: RunFolder, training: Training, pictures_a_step: int, catalogue: Catalogue, watcher: Watcher
    ) -> None:
        self.run, self.training, self.pictures_a_step, self.watcher = run, training, pictures_a_step, watcher
        self.artifacts: dict[str, Artifact] = {}
        for name, table in training.config.artifacts.items():
            cls = catalogue.get("artifacts", name)
            with self._left_out_if_it_fails(name):
                self.artifacts[name] = cls(cls.Options(**table), run)
        self.metrics = run.append_to(run.metrics_path)
        self.alarms = run.append_to(run.alarms_path)
        self.readings = run.append_to(run.readings_path)
        self.last = (training.number, training.seconds)
        self.complained: set[str] = set()

    def close(self) -> None:
        for lines in (self.metrics, self.readings, self.alarms):
            lines.close()

    def follow(self) -> None:
        """Follow the run folder to its current place. Raises `FolderGone` if it no longer exists."""
        if self.run.follow():
            self.watcher.notice(f"the run folder was moved: the training goes on in {self.run.folder}")

    # Lines.

    @property
    def attempt(self) -> dict[str, int]:
        """The mark of a later attempt's lines."""
        return {"attempt": self.training.attempt} if self.training.attempt > 1 else {}

    def line(self, readings: Mapping[str, Tensor]) -> dict[str, Any]:
        """This step's metrics, moved to the host in one transfer."""
        training, seconds = self.training, self.training.seconds
        values = torch.stack([value.float().reshape(()) for value in readings.values()]).cpu().numpy()
        steps, since = training.number - self.last[0], seconds - self.last[1]
        self.last = (training.number, seconds)
        line: dict[str, Any] = {
            "step": training.number,
            "images": training.number * self.pictures_a_step,
            "seconds": round(seconds, 3),
            "images_per_second": round(steps * self.pictures_a_step / max(since, 1e-9), 1),
            # The shortest decimals that round-trip to the float32.
            **{name: float(str(np.float32(value))) for name, value in zip(readings, values, strict=True)},
        }
        return line | self.attempt

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        self._append(self.metrics, line)
        self.watcher.line(line)
        for name, artifact in list(self.artifacts.items()):
            with self._left_out_if_it_fails(name, again=True):
                artifact.line(strict(line))

    def detail(self, diagnostic: str, details: Any) -> None:
        """Append a line to readings.jsonl."""
        record = {"step": self.training.number, "diagnostic": diagnostic, **self.attempt}
        self._append(self.readings, record | {"details": details})

    def alarm(self, record: Mapping[str, Any]) -> None:
        """Append a line to alarms.jsonl."""
        self._append(self.alarms, record)

    def rescue(self, record: Mapping[str, Any]) -> None:
        """Append a rescue's outcome to rescues.jsonl."""
        with closing(self.run.append_to(self.run.rescues_path)) as lines:
            self._append(lines, {"step": self.training.number, **record, **self.attempt})

    def _append(self, lines: Lines, record: Mapping[str, Any]) -> None:
        try:
            lines.write(f"{json.dumps(strict(record), ensure_ascii=False, allow_nan=False)}\n")
        except OSError as error:
            self._unwritten("lines", error)

    # Samples and checkpoints.

    def sample(self, showing: Showing) -> None:
        """Write the sample grid of the fixed latents."""
        number, path = self.training.number, self.run.sample_path(self.training.number)
        showing.settle()
        grid = showing.fixed(GRID)
        try:
            self.run.make(path.parent.name)
            save_grid(grid, path)
        except (OSError, UserError) as error:
            self._unwritten("samples", error)
            return
        self.watcher.sampled(number)
        for name, artifact in list(self.artifacts.items()):
            with self._left_out_if_it_fails(name, again=True):
                artifact.sampled(number, path)

    def save(self) -> bool:
        """Write a checkpoint; return False if it fails, so that the training goes on and tries again."""
        try:
            checkpoint.save(self.run, self.training)
        except (OSError, UserError, SafetensorError) as error:
            self._unwritten("checkpoints", error)
            return False
        if "checkpoints" in self.complained:
            self.watcher.notice(f"step {self.training.number:,} is saved: there is room again")
        self.complained -= {"lines", "samples", "checkpoints"}  # for artifacts, once is enough
        return True

    def _unwritten(self, what: str, error: Exception) -> None:
        """Warn once that the disk refuses a kind of file, so that somebody can make room."""
        if what not in self.complained:
            self.complained.add(what)
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            self.watcher.notice(
                f"warning: {what} cannot be written in {self.run.folder} ({reason}): the training goes on, and writes "
                "again when it can"
            )

    # Artifacts.

    def draw(self) -> None:
        """Finish every artifact, after the last line."""
        for name, artifact in list(self.artifacts.items()):
            with self._left_out_if_it_fails(name):
                self.follow()
                artifact.finish()

    @contextmanager
    def _left_out_if_it_fails(self, name: str, again: bool = False) -> Iterator[None]:
        """Report an artifact that raises, and drop it; with `again` it stays where the disk refused its file."""
        try:
            yield
        except Exception as error:
            if again and isinstance(error, OSError | UserError):
                self._unwritten(f"artifact {name!r}", error)
                return
            self.artifacts.pop(name, None)
            self.watcher.notice(f"artifact {name!r} failed and is left out: {in_one_line(error)}")
