"""Trainings as processes: each run of a comparison or a sweep is a `gankit run` of its own, below one folder.

The output of a run goes to RUN.log, and a lock on that file lasts as long as the run's process. So a crash affects only
its own run, a run outlives the process that started it, and a later start waits for it and goes on.
"""

from __future__ import annotations

import json
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from gankit.config.schema import RunConfig
from gankit.data.decode import cores
from gankit.errors import UserError
from gankit.files import below, fcntl, finite, opened, read, relative
from gankit.runs.advice import with_plugins
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.launch import launch, log_of
from gankit.runs.lock import locked
from gankit.training.interrupts import Interrupts
from gankit.training.watcher import Watcher

EVERY = 30.0  # seconds between two progress notices of a run
REDRAW = 60.0  # seconds between two drawings of report.html, at least
RESTS = 30  # the pause is at least this many times the time of the last drawing
OVER = ("finished", "stopped", "failed")  # outcomes of a run that has ended
Row = dict[str, Any]  # of a run: its "folder", its "seed", and what came of it


class Process(Protocol):
    """A run under way, as `Popen` is one."""

    returncode: Any

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int, /) -> None: ...


class Here:
    """Where runs are trained: in processes of this machine. `cluster.engine` has another such place."""

    def agree(self, configs: Sequence[RunConfig], digest: str, jobs: int | None) -> int:
        """How many runs train side by side. Raises UserError where they cannot be the same runs as on this machine.

        `digest`: of the pictures; `jobs`: as asked for.
        """
        return jobs or 1

    def begin(self, folder: Path, watcher: Watcher) -> None:
        """What comes before the first run in a folder."""
        return None

    def start(self, folder: Path, path: Path, arguments: Sequence[str], jobs: int) -> Process:
        """Start `gankit` with arguments that train the run at `path`, one of `jobs` runs side by side."""
        threads = max(1, cores() // jobs) if jobs > 1 else None  # too many slow each other down
        return launch(folder, path, ["-m", "gankit", *arguments], threads=threads)


class Work(ABC):
    """Trainings under way below `folder`: `plan` is what its JSON file holds, with a row for each run.

    A run is a function of a request and a folder (`request`, `path`); `engine` says where a process computes it.
    """

    what: str  # "comparison"; also the name of the JSON file
    command: str  # "compare"

    def __init__(
        self, folder: Path, plan: dict[str, Any], plugins: Sequence[str], watcher: Watcher, engine: Here
    ) -> None:
        self.folder, self.plan, self.plugins, self.watcher, self.engine = folder, plan, plugins, watcher, engine
        self.noticed: dict[str, float] = {}  # folder of a run -> time of its last notice
        self.restarted: set[str] = set()  # folders of runs whose process was killed and started again
        self.jobs = 1
        self.redraw_at = 0.0  # when report.html may be drawn again

    # What a comparison and a sweep say for themselves.

    seconds: float | None = None  # of training that each run has, where they decide the length

    def begin(self) -> None:
        """What comes first, once no other start works on the folder."""
        return None

    @abstractmethod
    def next_row(self) -> Row | None:
        """The next run to train, each once; None if there is none now."""

    @abstractmethod
    def request(self, row: Row) -> list[str]:
        """The arguments of the `gankit run` that begins a run, without --out."""

    @abstractmethod
    def name(self, row: Row) -> str:
        """A run as messages name it."""

    @abstractmethod
    def finish(self, row: Row, code: int | None = None) -> None:
        """Record how a run ended. `code`: its process's, if this start trained it."""

    @abstractmethod
    def tell(self, row: Row) -> bool:
        """Report the progress of a run that trains; True to end it now, with a checkpoint."""

    @abstractmethod
    def write(self) -> None:
        """Write the results so far."""

    @abstractmethod
    def write_page(self) -> None:
        """Write report.html."""

    # Training.

    def work_through(self, jobs: int) -> None:
        """Train the remaining runs, `jobs` at a time, until all are done or a signal comes."""
        with _locked(self.folder, self.command), Interrupts() as interrupts:
            self.engine.begin(self.folder, self.watcher)
            self.begin()
            self.write()
            self.train(jobs, interrupts)
            self.plan["state"] = "interrupted" if interrupts.signal else "finished"
            self.plan["reason"] = interrupts.signal
            self.write()

    def train(self, jobs: int, interrupts: Interrupts) -> None:
        """Train every run to its end, `jobs` at a time, or until a signal to its checkpoint."""
        self.jobs = jobs
        busy: list[tuple[Row, Process]] = []
        sent: set[str] = set()  # folders of runs whose process has received a signal
        while True:
            while len(busy) < jobs and not interrupts.signal and (row := self.next_row()) is not None:
                if self.over(row, interrupts):
                    self.finish(row)
                elif not interrupts.signal:
                    busy.append((row, self.start(row)))
            if not busy:
                return
            for row, process in list(busy):
                if process.poll() is not None:
                    busy.remove((row, process))
                    if not interrupts.signal and row["folder"] not in sent and self.lost(row, process):
                        busy.append((row, self.start(row)))
                    elif not interrupts.signal or self.over(row):
                        self.finish(row, process.returncode)
                    continue
                end = self.tell(row)
                if (interrupts.signal or end) and row["folder"] not in sent:
                    process.send_signal(getattr(signal, interrupts.signal or "SIGTERM"))
                    sent.add(row["folder"])
            if busy and time.monotonic() > self.redraw_at:
                self.draw()
            time.sleep(0.1)

    def path(self, row: Row) -> Path:
        return below(self.folder, *relative(row["folder"]).parts)

    def over(self, row: Row, interrupts: Interrupts | None = None) -> bool:
        """Whether a run has ended, in any way. Waits for a run that an earlier start left training, until a signal
        comes.
        """
        path, noticed = self.path(row), False
        while _under_way(path):
            if not noticed:
                self.watcher.notice(f"{path} is still being trained by an earlier start: waiting for it")
            noticed = True
            if interrupts and interrupts.signal:
                return False
            time.sleep(0.2)
        return outcome_of(path) in OVER

    def lost(self, row: Row, process: Process) -> bool:
        """Whether a run was killed or interrupted before its end, by others, for the first time: it starts again."""
        killed = process.returncode < 0
        if not killed and outcome_of(self.path(row)) != "interrupted":
            return False
        if row["folder"] in self.restarted or self.over(row):
            return False
        self.restarted.add(row["folder"])
        what = f"killed (signal {-process.returncode})" if killed else f"interrupted (exit code {process.returncode})"
        how = getattr(process, "how", "") or f"its process was {what}"
        self.watcher.notice(f"{self.name(row)}: {how}; once more")
        return True

    def start(self, row: Row) -> Process:
        """Start or resume a run."""
        path = self.path(row)
        begun = bool((path / "config.json").exists() and RunFolder(path).checkpoints())
        if begun:
            arguments = ["resume", str(path), *with_plugins(self.plugins)]
            if self.seconds is not None:
                arguments += ["--time", f"{max(self.seconds - RunFolder(path).trained(), 0.001):.3f}"]
        else:
            self.set_aside(path)
            arguments = [*self.request(row), "--out", str(path)]
        self.watcher.notice(f"{self.name(row)}: {'goes on' if begun else 'starts'}; its output is in {path}.log")
        return self.engine.start(self.folder, path, arguments, self.jobs)

    def set_aside(self, path: Path) -> None:
        """Make room for a new start of a run without a checkpoint. Its folder is kept under a hidden name."""
        number = 1
        while os.path.lexists(aside := path.with_name(f".{path.name}.{number}")):
            number += 1
        if os.path.lexists(path):
            path.rename(aside)
            self.watcher.notice(f"{path} has no checkpoint to go on from: it is set aside as {aside}")

    def progress(self, row: Row) -> str:
        """How far a run is, every EVERY seconds; else ""."""
        now, path = time.monotonic(), self.path(row)
        if now - self.noticed.setdefault(row["folder"], now) < EVERY or not (path / "config.json").exists():
            return ""
        self.noticed[row["folder"]] = now
        line = RunFolder(path).last_line()
        if not line:
            return ""
        goal, pace = RunFolder(path).config.get("steps"), finite(line.get("images_per_second"))
        of = f" of {goal:,}" if isinstance(goal, int) else ""
        return f"step {line['step']:,}{of}" + ("" if pace is None else f", {pace:,.0f} images/s")

    def last_words(self, row: Row) -> str:
        """The last line that a run printed."""
        path = self.path(row)
        try:
            lines = read(path.parent, log_of(path).name).decode(errors="replace").splitlines()
        except (OSError, UserError):
            lines = []
        return lines[-1].removeprefix("gankit: ") if lines else "it printed nothing"

    def write_plan(self) -> None:
        """Write the JSON file, atomically."""
        write_json(self.folder / f"{self.what}.json", self.plan)

    def draw(self) -> None:
        """Draw report.html, and set the next time: drawing must take only a small part of the time."""
        began = time.monotonic()
        try:
            self.write_page()
        except Exception as error:  # a failing page must not end the training
            self.watcher.notice(f"report.html is not written: {error}")
        ended = time.monotonic()
        self.redraw_at = ended + max(REDRAW, RESTS * (ended - began))


@contextmanager
def _locked(folder: Path, command: str) -> Iterator[None]:
    """Keep other starts from working on the folder."""
    os.close(opened(folder, ".lock", os.O_RDWR | os.O_CREAT))  # refuses a link: locking would truncate its target
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder} is being worked on by another `gankit {command}`: wait for it") from None
    try:
        yield
    finally:
        lock.release()


def earlier(
    folder: Path | None,
    what: str,
    read_plan: Callable[[Path], dict[str, Any]],
    request: Mapping[str, Any],
    grows: str,
    may_begin: Sequence[str] = (),
) -> dict[str, Any]:
    """The plan of an earlier start in that folder, or {}. Raises UserError if its request was another.

    `grows`: the number in the request that may be larger now. `may_begin`: flags that may be given now.
    """
    if folder is None or not folder.exists():
        return {}
    if not (folder / f"{what}.json").is_file():
        raise UserError(f"--out {folder} exists and is no {what}, and nothing is overwritten: choose another folder")
    plan = read_plan(folder)
    old = plan["asked"]
    if request[grows] < old[grows]:
        raise UserError(f"{folder} has {old[grows]} {grows} already: give --{grows} {old[grows]} or more")
    for key in [*request, *(key for key in old if key not in request)]:
        now, then = (json.loads(json.dumps(one.get(key))) for one in (request, old))
        if key != grows and (now or None) != (then or None) and not (key in may_begin and now):
            shown = [" ".join(map(str, value)) if isinstance(value, list) else value for value in (then, now)]
            raise UserError(
                f"{folder} has another --{key.replace('_', '-')} ({shown[0]}, and now {shown[1]}): "
                "repeat the earlier command, or choose another --out"
            )
    return plan


def outcome_of(path: Path) -> Any:
    """How a run has ended, as its result.json says; None without one."""
    return RunFolder(path).result.get("outcome") if (path / "config.json").exists() else None


def _under_way(path: Path) -> bool:
    """Whether a process trains that run or is about to."""
    if fcntl and log_of(path).exists():  # on Windows a process is seen once it has a run folder
        # A network file system locks only files that are open for writing.
        with os.fdopen(opened(path.parent, log_of(path).name, os.O_WRONLY | os.O_APPEND), "ab") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                pass  # no locks here: check the lock of the run folder
    if not (path / "config.json").exists():
        return False
    try:
        with locked(RunFolder(path)):
            return False
    except UserError:
        return True
