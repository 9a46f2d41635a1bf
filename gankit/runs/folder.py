"""The run folder. Reading it needs neither the model nor torch.

RUN/config.json  environment.json  data.json  result.json     one object each, written atomically
RUN/metrics.jsonl  alarms.jsonl  readings.jsonl  rescues.jsonl  one object a line, appended
RUN/samples/NNNNNN.png  checkpoints/NNNNNN/                    by step
RUN/losses.png  animation.gif  report.html                     drawn from the other files
RUN/neighbours.png  neighbours.json                            the last samples beside their nearest training pictures
RUN/abandoned/N/                                               attempt N's samples and checkpoints after a return
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gankit import files
from gankit.errors import UserError, nearest
from gankit.files import replacing
from gankit.runs.score import SCORE, Looks, best, recorded

OBJECTS = ("config.json", "environment.json", "data.json", "result.json")
LINES = ("metrics.jsonl", "alarms.jsonl", "readings.jsonl", "rescues.jsonl")
_DRAWN = ("losses.png", "animation.gif", "report.html", "real.png", "neighbours.png", "neighbours.json")
_OTHERS = (
    *("metrics.csv", "interpolation.gif", "sample.png", "inversion.png", "traceback.txt"),
    *("scores.csv", "scores.png", "share.html"),
)
UNFINISHED = re.compile(  # what `files.replacing` writes before it renames
    rf"[.][0-9a-f]{{8}}[.]({'|'.join(map(re.escape, (*OBJECTS, *LINES, *_DRAWN, *_OTHERS)))}|[0-9]{{6,18}}[.]png)"
)
MOST_STEPS = 10**18  # as many digits as the name of a checkpoint has
LAST = "last"  # as a run: the newest one below runs/
COVERAGE = "mode-collapse/coverage"  # the metric for a run's coverage, measured during the run


def strict(value: Any) -> Any:
    """The value with None in place of numbers that are not finite, which strict JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def json_text(value: Any) -> str:
    """The value as strict, indented JSON."""
    return json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON object atomically."""
    with replacing(path) as beside:
        beside.write_text(json_text(value) + "\n", encoding="utf-8", errors="replace")  # names may not be UTF-8


def read_lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl file that have a step; damaged and cut-off lines are left out."""
    with suppress(FileNotFoundError):
        for line in files.read_lines(folder, name):
            record = record_of(line)
            if record is not None:
                yield record


def record_of(line: bytes) -> dict[str, Any] | None:
    """The object of a line of a .jsonl file, with a step ≥ 0 and maybe an attempt ≥ 1; None for a damaged line."""
    try:
        record = files.parse(line)
    except ValueError:
        return None
    step, attempt = (record.get("step"), record.get("attempt", 1)) if isinstance(record, dict) else (None, 1)
    return record if counts(step, 0) and counts(attempt, 1) else None


def counts(value: Any, least: int) -> bool:
    """Whether a value of JSON is a whole number of steps, at least so many."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < MOST_STEPS


def rescues(history: Any) -> list[Mapping[str, Any]]:
    """The rescues in a configuration's history; none in what is no history."""
    entries = history if isinstance(history, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping) and entry.get("by") == "rescue"]


def near(folder: Path) -> str:
    """A suffix for an error message: the run of a similar name, beside the folder or below runs/, or `last`."""
    with suppress(OSError):
        beside = [path.parent for place in (folder.parent, Path("runs")) for path in place.glob("*/config.json")]
        return nearest(str(folder), [LAST, *map(str, beside)])
    return ""


class FolderGone(Exception):
    """A run folder was deleted, or moved to an unknown place, during its training."""


class RunFolder:
    """A run folder: its settings, metrics, samples and checkpoints."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self._held: int | None = None
        if not (self.folder / "config.json").is_file():
            what = "is no run folder (it has no config.json)" if self.folder.is_dir() else "does not exist"
            raise UserError(
                f"run folder {self.folder} {what}{near(self.folder)}: give the folder that `gankit run` printed, or "
                f"`{LAST}` for the newest below runs/"
            )

    @classmethod
    def create(cls, out: str | Path | None, model: str, fill: Callable[[Path], object] | None = None) -> Path:
        """Make a new folder, which `fill` fills: `out`, or a free name under runs/. UserError if `out` exists."""
        stem = f"{model}-{time.strftime('%Y%m%d-%H%M%S')}"
        free = [Path("runs") / name for name in (stem, *(f"{stem}-{n}" for n in range(2, 1000)))]
        for folder in free if out is None else [Path(os.path.expanduser(out))]:
            try:
                if out is not None:
                    cls.refuse_existing(folder)
                files.make(folder, fill)
                return folder
            except FileExistsError as error:
                if out is not None:  # a file where a folder above it should be
                    raise UserError(f"--out {folder} cannot be made: {error.filename} exists") from None
            except OSError as error:
                shown = f"{folder} cannot be made: {error.strerror}"
                raise UserError(
                    f"{shown}; give another place with --out" if out is None else f"--out {shown}"
                ) from None
        raise UserError(f"no free name for a run like runs/{stem}: give one with --out")

    @staticmethod
    def refuse_existing(folder: Path) -> None:
        """Raise UserError if the folder of a new run exists."""
        if os.path.lexists(folder):
            raise UserError(
                f"--out {folder} exists, and a run is never overwritten: "
                f"choose another folder, or go on with `gankit resume {shlex.quote(str(folder))}`"
            )

    # Its place during a training.

    def hold(self) -> None:
        """Keep the folder open, so that `follow` finds it after a move."""
        if hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder in use cannot be moved
            self._held = os.open(self.folder, os.O_RDONLY)

    def follow(self) -> bool:
        """Whether the held folder has moved since the last call; then `folder` is its new place.

        Raises `FolderGone` if it no longer exists: the training must not make a new one under the old name.
        """
        if self._held is None:
            return False
        held = os.fstat(self._held)
        with suppress(OSError):
            if os.path.samestat(held, os.stat(self.folder)):
                return False
        with suppress(OSError, ValueError):
            now = Path(files.place_of(self._held))
            if os.path.samestat(held, os.stat(now)):
                self.folder = now
                return True
        raise FolderGone(self.folder)

    def let_go(self) -> None:
        """Close the folder that `hold` opened."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    # Contents.

    @property
    def config(self) -> dict[str, Any]:
        """config.json: the whole resolved configuration."""
        return self._json("config.json")

    @property
    def environment(self) -> dict[str, Any]:
        """environment.json: versions, device, command line."""
        return self._json("environment.json")

    @property
    def data(self) -> dict[str, Any]:
        """data.json: training and held-out pictures, skipped files, warnings."""
        return self._json("data.json")

    @property
    def result(self) -> dict[str, Any]:
        """result.json, or an empty mapping during the run."""
        return self._json("result.json")

    @property
    def neighbours(self) -> dict[str, Any]:
        """neighbours.json: the numbers for neighbours.png, or an empty mapping without it."""
        return self._json("neighbours.json")

    def read(self, path: str | Path) -> bytes:
        """The bytes of a file in this folder.

        Raises UserError if a link leads to it (the folder is not trusted), or if it is no ordinary file.
        """
        return files.read(self.folder, path)

    def append_to(self, path: str | Path) -> files.Lines:
        """Open a file of lines in this folder for appending; create it if needed. Raises as `read` does."""
        return files.Lines(files.opened(self.folder, path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))

    def refuse_links(self) -> None:
        """Raise UserError if a link stands where a training will write, before the training starts."""
        for name in ("samples", "checkpoints", "abandoned", "tensorboard"):
            files.below(self.folder, name)
        for path in (self.folder / "checkpoints").glob("[0-9]*"):
            if path.is_symlink():
                raise files.linked(path)
        for name in (*OBJECTS, *LINES, *(f"{name}.damaged" for name in LINES), ".lock"):
            with suppress(FileNotFoundError):  # objects are replaced, the others are written to
                os.close(files.opened(self.folder, name, os.O_RDONLY if name in OBJECTS else os.O_WRONLY))

    def clear_unfinished(self) -> None:
        """Remove the files that killed processes of gankit left half-written; the caller holds the run's lock."""
        for folder in (self.folder, self.folder / "samples"):
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        os.unlink(entry.path)

    def make(self, *parts: str) -> Path:
        """A subfolder, created if needed. Raises UserError if a link stands in its place."""
        return files.below(self.folder, *parts, make=True)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return files.read_object(self.folder, name)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{self.folder / name} is damaged: {error}") from None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, in the order of writing. A million take 3 GB: see `each_line`."""
        return list(self.each_line())

    def each_line(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl one by one, in the order of writing."""
        return read_lines(self.folder, "metrics.jsonl")

    def last_line(self) -> dict[str, Any] | None:
        """The last line of metrics.jsonl, or None."""
        return next(iter(deque(self.each_line(), maxlen=1)), None)

    def begun(self) -> bool:
        """Whether the run has more than its settings: a kill before its first checkpoint leaves no more."""
        return bool(self.checkpoints()) or self.has_metrics()

    def has_metrics(self) -> bool:
        """Whether metrics.jsonl has a line."""
        return next(self.each_line(), None) is not None

    def looks(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that a verdict reads: see `score.Looks`."""
        looks = Looks(self.checkpoints())
        deque(looks.see(self.each_line()), maxlen=0)
        return looks.lines

    def alarms(self) -> list[dict[str, Any]]:
        """The alarms, in order."""
        return list(read_lines(self.folder, "alarms.jsonl"))

    def rescues(self) -> list[dict[str, Any]]:
        """The outcomes of rescues, in order."""
        return list(read_lines(self.folder, "rescues.jsonl"))

    def readings(self) -> list[dict[str, Any]]:
        """The `details` of diagnostics' readings, in order."""
        return list(read_lines(self.folder, "readings.jsonl"))

    def samples(self) -> list[tuple[int, Path]]:
        """(step, picture) of every sample grid, by step."""
        return self._grids("samples")

    def _grids(self, *parts: str) -> list[tuple[int, Path]]:
        return [(int(path.stem), path) for path in self._numbered("[0-9]{6,18}[.]png", *parts) if not path.is_dir()]

    def _numbered(self, pattern: str, *parts: str) -> list[Path]:
        """The entries of a subfolder whose number-like names match, in order; links are left out."""
        with suppress(UserError, OSError), os.scandir(files.below(self.folder, *parts)) as entries:
            paths = [e.path for e in entries if re.fullmatch(pattern, e.name) and not e.is_symlink()]
            return sorted(map(Path, paths), key=lambda path: int(path.stem))
        return []

    def sample_at(self, step: int, attempt: int = 1) -> tuple[int, Path] | None:
        """The attempt's last sample grid up to `step`, even if a later attempt has replaced it."""
        aside = self._grids("abandoned", str(attempt), "samples")
        grids = [(number, path) for number, path in (*self.samples(), *aside) if number <= step]
        return max(grids, key=lambda one: (one[0], one in aside), default=None)

    def checkpoints(self) -> list[int]:
        """The steps with a checkpoint, in order."""
        return [int(path.name) for path in self._numbered("[0-9]{6,18}", "checkpoints") if path.is_dir()]

    def scores(self, metrics: Sequence[Mapping[str, Any]] | None = None) -> dict[int, float]:
        """The score of every checkpoint for which it was measured, by step. `metrics`: its lines, if already read."""
        lines = self.looks() if metrics is None else metrics
        measured = recorded(lines)
        return {step: float(measured[step][SCORE]) for step in self.checkpoints() if step in measured}

    def trained(self, step: int | str | None = None) -> float:
        """Seconds of training up to a checkpoint, the "best" or by default the last; 0 without one."""
        last = self.best() if step == "best" else max(self.checkpoints(), default=0) if step is None else step
        lines = (line for line in self.each_line() if isinstance(last, int) and line["step"] <= last)
        return max((files.finite(line.get("seconds")) or 0.0 for line in lines), default=0.0)

    def best(self) -> int | None:
        """The step of the checkpoint with the highest score, the first of equal ones; None without a score."""
        return best(self.scores())

    # Paths.

    metrics_path = property(lambda self: self.folder / "metrics.jsonl")
    alarms_path = property(lambda self: self.folder / "alarms.jsonl")
    readings_path = property(lambda self: self.folder / "readings.jsonl")
    rescues_path = property(lambda self: self.folder / "rescues.jsonl")
    report_path = property(lambda self: self.folder / "report.html")
    animation_path = property(lambda self: self.folder / "animation.gif")
    losses_path = property(lambda self: self.folder / "losses.png")
    neighbours_path = property(lambda self: self.folder / "neighbours.png")
    real_path = property(lambda self: self.folder / "real.png")
    lock_path = property(lambda self: self.folder / ".lock")

    def sample_path(self, step: int) -> Path:
        return self.folder / "samples" / f"{step:06d}.png"

    def checkpoint_path(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"{step:06d}"

    def damaged_lines(self) -> dict[str, int]:
        """The number of damaged lines by file, without those that a kill has cut off."""
        counts = {}
        for name in LINES:
            with suppress(FileNotFoundError):
                counts[name] = sum(record_of(line) is None for line in files.read_lines(self.folder, name))
        return {name: count for name, count in counts.items() if count}

    # Returns to an earlier step.

    @property
    def attempt(self) -> int:
        """The number of the current attempt, from 1."""
        aside = self._numbered("[1-9][0-9]{0,8}", "abandoned")
        logged = max((line.get("attempt", 1) for line in self.each_line()), default=1)
        return max([1, *(1 + int(path.name) for path in aside), logged])

    def drop_lines(self, gone: Callable[[int], bool], attempt: int | None = None) -> None:
        """Remove the lines of the steps for which `gone` is true (of `attempt` only, if given), and cut-off lines.

        The training will write them again. Damaged lines go to NAME.damaged.
        """
        for name in LINES:
            if not (self.folder / name).exists():
                continue
            damaged = []
            with replacing(self.folder / name) as beside:
                with open(beside, "wb") as kept:
                    for text in files.read_lines(self.folder, name):
                        line = record_of(text)
                        if line is None:
                            damaged.append(text)
                        elif not gone(line["step"]) or attempt not in (None, line.get("attempt", 1)):
                            kept.write(text)
                if damaged:  # before the others take the file's name, so that a kill loses none
                    with closing(self.append_to(f"{name}.damaged")) as aside:
                        aside.write(b"".join(damaged))

    def abandon_after(self, step: int) -> int:
        """Move later samples and checkpoints to abandoned/N and return the next attempt's number.

        The lines of metrics.jsonl stay; the next attempt's lines carry its number.
        """
        attempt = self.attempt
        later = [path for number, path in self.samples() if number > step]
        later += [self.checkpoint_path(number) for number in self.checkpoints() if number > step]
        for path in later:
            os.rename(path, self.make("abandoned", str(attempt), path.parent.name) / path.name)  # into no linked folder
        self.drop_lines(lambda number: False)
        return attempt + 1
