"""A list of all runs below a folder and their state, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from gankit.errors import UserError
from gankit.files import fcntl, opened
from gankit.runs.folder import COVERAGE, LAST, RunFolder
from gankit.runs.score import SCORE, Looks, best, recorded
from gankit.runs.verdict import copies_of, last_state, open_alarm, verdict


class Row(BaseModel):
    """One run; unknown values are None. An unreadable run has only `path` and `error`."""

    model_config = ConfigDict(frozen=True)

    path: str
    error: str | None = None
    model: str | None = None
    data: str | None = None
    state: str | None = None  # training | finished | stopped | interrupted | failed | broken off
    step: int | None = None
    steps: int | None = None  # total length
    health: str | None = None  # "well", an alarm's kind, or None without a verdict
    verdict: str | None = None  # in a few words, as the report has it
    score_now: float | None = None  # the last one, which the verdict rests on
    score: float | None = None  # of the best checkpoint, or of the best look where no checkpoint has one
    best: int | None = None  # its step
    coverage: float | None = None  # the averaged generator's best, by mode-collapse
    coverage_step: int | None = None
    started: str | None = None  # ISO date


def overview(folder: str | Path) -> list[Row]:
    """The runs at or below a folder, the latest first; unreadable ones come last, with the reason.

    Raises `UserError` if there is no such folder.
    """
    top = Path(os.path.expanduser(folder))
    if not top.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder that your runs lie in, by default runs")
    unreadable: list[OSError] = []
    rows = [_row(path) for path in run_folders(top, unreadable.append)]
    rows += [Row(path=str(error.filename), error=_unread(error)) for error in unreadable]
    rows.sort(key=lambda row: row.started or "", reverse=True)
    return sorted(rows, key=lambda row: row.error is not None)


def standing_for(run: str | Path) -> Path:
    """The folder of a run that is named by its folder, or as `last`: the newest below runs/, first in `gankit runs`.

    A run folder of the name `last` is itself. Raises `UserError` if there is no run.
    """
    folder = Path(os.path.expanduser(run))
    if str(run) != LAST or (folder / "config.json").is_file():
        return folder
    started = {}
    for path in run_folders(Path("runs")):
        with suppress(UserError, OSError):
            started[path] = str(RunFolder(path).environment.get("started") or "")
    if not started:
        raise UserError(f"there is no run below runs/: give the folder of a run in place of `{LAST}`")
    return max(started, key=lambda path: started[path])


def run_folders(top: Path, unread: Callable[[OSError], object] | None = None) -> list[Path]:
    """Folders with a config.json; it does not look inside a run. `unread` gets the error of a folder without a list."""
    runs = []
    for where, folders, files in os.walk(top, onerror=unread):
        if "config.json" in files:
            runs.append(Path(where))
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return runs


def _row(path: Path) -> Row:
    try:
        run = RunFolder(path)
        config, result = run.config, run.result
        if not isinstance(config.get("model"), dict):
            return Row(path=str(path), error="its config.json is not that of a run")
        looks, alarms = Looks(run.checkpoints()), run.alarms()
        lines = looks.see(run.each_line())
        covered = [(line[COVERAGE], line["step"]) for line in lines if isinstance(line.get(COVERAGE), float | int)]
        coverage, at = max(covered, default=(None, None))
        metrics = looks.lines
        scores = run.scores(metrics)
        looks_seen = {step: line[SCORE] for step, line in recorded(metrics).items()}
        top, looks_at = best(scores), scores or looks_seen
        return Row(
            path=str(path),
            model=config["model"].get("name"),
            data=config.get("data"),
            state=result.get("outcome") or _unended(run),
            step=result.get("steps", metrics[-1]["step"] if metrics else 0),
            steps=config.get("steps"),
            health=_health(run, result, alarms),
            verdict=verdict(run, metrics, alarms, result, copies_of(run)).word,
            score_now=next(reversed(looks_seen.values()), None),
            score=max(looks_at.values(), default=None),
            best=top,
            coverage=coverage,
            coverage_step=at,
            started=run.environment.get("started"),
        )
    except UserError as error:
        return Row(path=str(path), error=str(error))
    except OSError as error:
        return Row(path=str(path), error=_unread(error))
    except ValidationError as error:
        first = error.errors()[0]
        return Row(path=str(path), error=f"is damaged: {first['loc'][0]} is {first['input']!r:.40}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Row(path=str(path), error=f"is damaged ({type(error).__name__}: {error})")


def _unread(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or 'error').lower()}"


def _unended(run: RunFolder) -> str:
    """ "training" if the process of a run without a result holds its lock, else "broken off"."""
    if not run.lock_path.exists():
        return "broken off"
    try:
        held = opened(run.folder, run.lock_path)
    except FileNotFoundError:
        return "broken off"
    try:
        if fcntl:  # a shared lock, released at once
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "broken off"
        with FileLock(run.lock_path, timeout=0):
            return "broken off"
    except (BlockingIOError, Timeout):
        return "training"
    finally:
        os.close(held)


def _health(run: RunFolder, result: dict[str, Any], alarms: list[dict[str, Any]]) -> str | None:
    """The kind of the open critical alarm, or "well" by the last checkpoint's diagnostics; None without a verdict."""
    alarm = open_alarm(run, result, alarms)
    if alarm:
        return str(alarm.get("kind"))
    verdicts = last_state(run)["verdicts"]
    ill = [name for name, well in verdicts.items() if not well]
    if ill:
        kinds = [str(alarm.get("kind")) for alarm in alarms if alarm.get("diagnostic") == ill[0]]
        return kinds[-1] if kinds else ill[0]
    return "well" if verdicts else None
