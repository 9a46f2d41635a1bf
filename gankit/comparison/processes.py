"""A comparison under way: its runs as processes, their results, and the files that record them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

from gankit.comparison import results
from gankit.comparison.arms import Arm, flags, steps_of, together
from gankit.errors import UserError
from gankit.files import below, fcntl, opened, read, relative, replacing
from gankit.report.words import duration as words
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.lock import locked
from gankit.training.interrupts import Interrupts
from gankit.training.watcher import Watcher

EVERY = 30.0  # seconds between two progress notices of a run
REDRAW = 60.0  # seconds between two drawings of report.html, at least
PACE = 100  # steps of a run after which its pace is known
RESTS = 30  # the pause is at least this many times the time of the last drawing
Row = dict[str, Any]


class Comparison:
    """A comparison under way: the runs still to do, and the results so far."""

    def __init__(
        self,
        folder: Path,
        plan: dict[str, Any],
        arms: Sequence[Arm],
        shared: Mapping[str, Any],
        plugins: Sequence[str],
        watcher: Watcher,
    ) -> None:
        self.folder, self.plan, self.plugins, self.watcher = folder, plan, plugins, watcher
        self.arms = {arm.name: arm for arm in arms}
        self.shared = shared
        self.noticed: dict[str, float] = {}  # folder of a run -> time of its last notice
        self.jobs = 1
        self.estimated = False  # whether the time of the whole was told
        self.measuring = 0.0  # seconds that the last run's measuring took; 0 before the first
        self.looked = 0.0  # when it was last tried
        self.redraw_at = 0.0  # when report.html may be drawn again

    def train(self, jobs: int, interrupts: Interrupts) -> None:
        """Train every run to its end, `jobs` at a time, or until a signal to its checkpoint."""
        self.jobs = jobs
        waiting: list[Row] = list(self.plan["runs"])
        busy: list[tuple[Row, Popen[bytes]]] = []
        sent: set[int] = set()  # processes that have received the signal
        while busy or (waiting and not interrupts.signal):
            while waiting and len(busy) < jobs and not interrupts.signal:
                row = waiting.pop(0)
                if self.over(row, interrupts):
                    self.finish(row)
                elif not interrupts.signal:
                    busy.append((row, self.start(row, jobs)))
            for row, process in list(busy):
                if interrupts.signal and process.pid not in sent:
                    process.send_signal(getattr(signal, interrupts.signal))
                    sent.add(process.pid)
                if process.poll() is not None:
                    busy.remove((row, process))
                    if not interrupts.signal or self.over(row):
                        self.finish(row, process.returncode)
                else:
                    self.tell(row)
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
        return (path / "config.json").exists() and RunFolder(path).result.get("outcome") in (
            "finished",
            "stopped",
            "failed",
        )

    def start(self, row: Row, jobs: int) -> Popen[bytes]:
        """Start or resume a run. Its output goes to a file: it must outlive the reader of this process's output."""
        path, number = self.path(row), self.plan["runs"].index(row) + 1
        begun = (path / "config.json").exists() and RunFolder(path).checkpoints()
        if begun:
            arguments = ["resume", str(path), *flags({"plugins": self.plugins})]
            if self.plan["budget"] is not None:
                arguments += ["--time", f"{max(self.plan['budget'] - _trained(RunFolder(path)), 0.001):.3f}"]
        else:
            self.set_aside(path)
            arm = self.arms[row["arm"]]
            length = None if self.plan["images"] is None else steps_of(arm, self.plan["images"])
            options = together(self.shared, arm.options)
            options |= {"seed": row["seed"], "out": str(path)} | ({"steps": length} if length is not None else {})
            arguments = ["run", arm.model, *flags(options)]
        self.watcher.notice(
            f"{row['arm']}, seed {row['seed']} ({number} of {len(self.plan['runs'])}): "
            f"{'goes on' if begun else 'starts'}; its output is in {path}.log"
        )
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if jobs > 1:  # threads of too many processes slow each other down
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        below(self.folder, path.parent.name, make=True)
        with os.fdopen(opened(path.parent, _log(path).name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            if fcntl:  # the child inherits the open file, so that the lock lasts until the child ends
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its own session: this process passes Ctrl-C on, once.
            return Popen(
                [sys.executable, "-m", "gankit", *arguments],
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=environment,
                start_new_session=True,
            )

    def set_aside(self, path: Path) -> None:
        """Make room for a new start of a run without a checkpoint. Its folder is kept under a hidden name."""
        number = 1
        while os.path.lexists(aside := path.with_name(f".{path.name}.{number}")):
            number += 1
        if os.path.lexists(path):
            path.rename(aside)
            self.watcher.notice(f"{path} has no checkpoint to go on from: it is set aside as {aside}")

    def tell(self, row: Row) -> None:
        """Report the progress of a run, every EVERY seconds."""
        now, path = time.monotonic(), self.path(row)
        if not self.estimated and now - self.looked > 1:
            self.looked = now
            left = self.left()
            if left is not None:
                self.estimated = True
                without = "" if self.measuring else ", without the measuring"
                self.watcher.notice(f"the whole comparison takes about {words(left)} more{without}")
        if now - self.noticed.setdefault(row["folder"], now) < EVERY or not (path / "config.json").exists():
            return
        self.noticed[row["folder"]] = now
        line = RunFolder(path).last_line()
        if line:
            goal = RunFolder(path).config.get("steps")
            self.watcher.notice(
                f"{row['arm']}, seed {row['seed']}: step {line['step']:,}{f' of {goal:,}' if goal else ''}, "
                f"{line['images_per_second']:,.0f} images/s; {self._whole()}"
            )

    def _whole(self) -> str:
        """How far the whole comparison is."""
        runs, left = self.plan["runs"], self.left()
        over = sum(bool(row.get("outcome")) for row in runs)
        return f"{over} of {len(runs)} runs are done" + (f", about {words(left)} left" if left else "")

    def left(self) -> float | None:
        """Seconds until all runs are done, by the pace so far; None before a run has made PACE steps.

        The measuring counts once a run is measured. A run whose model has no pace yet counts by the mean of the
        others', for as many pictures.
        """
        budget, done = self.plan["budget"], {row["folder"]: self._done(row) for row in self.plan["runs"]}
        paces: dict[str, list[float]] = {}  # seconds a picture, by model
        for row in self.plan["runs"]:
            steps, seconds = done[row["folder"]]
            if steps >= PACE or (row.get("outcome") and steps):
                paces.setdefault(row["arm"], []).append(seconds / steps / self.arms[row["arm"]].pictures_a_step)
        if not paces and budget is None:
            return None
        means = {arm: sum(some) / len(some) for arm, some in paces.items()}
        left = 0.0
        for row in (row for row in self.plan["runs"] if not row.get("outcome")):
            (steps, seconds), arm = done[row["folder"]], self.arms[row["arm"]]
            if budget is not None:
                left += max(budget - seconds, 0.0)
            else:
                goal = steps_of(arm, self.plan["images"])
                pace = means.get(arm.name, sum(means.values()) / len(means))
                left += max(goal - steps, 0) * arm.pictures_a_step * pace
        unmeasured = sum("measures" not in row and "unmeasured" not in row for row in self.plan["runs"])
        return left / self.jobs + unmeasured * self.measuring

    def _done(self, row: Row) -> tuple[int, float]:
        """The steps that a run has made, and their seconds."""
        if row.get("outcome"):
            return int(row["steps"]), float(row.get("seconds") or 0.0)
        path = self.path(row)
        line = RunFolder(path).last_line() if (path / "config.json").exists() else None
        return (int(line["step"]), float(line["seconds"])) if line else (0, 0.0)

    def finish(self, row: Row, code: int | None = None) -> None:
        """Record how a run ended, and measure its pictures unless that is done."""
        path = self.path(row)
        if not (path / "config.json").exists() or not RunFolder(path).result:
            row |= results.no_row(f"its process ended with code {code}; {_last_words(path)}")
        else:
            run = RunFolder(path)
            row |= results.row(run, self.arms[row["arm"]].pictures_a_step)
            steps = run.checkpoints()
            if row["outcome"] != "failed" and steps and row.get("measured_step") != steps[-1]:
                self.measure(row, run, steps[-1])
        how = results.ending(row)
        self.watcher.notice(f"{row['arm']}, seed {row['seed']}: {how}; {self._whole()}")
        self.write()

    def measure(self, row: Row, run: RunFolder, step: int) -> None:
        """Measure a run's samples against the held-out pictures, at its last checkpoint."""
        from gankit.trained.evaluation import evaluate

        request = self.plan["asked"]
        row.pop("unmeasured", None)
        began = time.monotonic()
        try:
            evaluation = evaluate(run, step=step, n=request["samples"], fid=request["fid"], plugins=self.plugins)
        except Exception as error:  # points, non-finite numbers, no memory: the other runs go on
            row["unmeasured"] = str(error) or type(error).__name__
            return
        row["measures"] = {name: one.value for name, one in evaluation.measures.items()}
        row["measured_step"] = step
        self.measuring = time.monotonic() - began
        self.plan["about"] = {
            name: {"better": one.better, "space": one.space, "against": one.against, "ceiling": one.ceiling}
            for name, one in evaluation.measures.items()
        }
        notes = [note for note in evaluation.notes if note not in evaluation.own]
        self.plan["notes"] = list(dict.fromkeys([*self.plan["notes"], *notes]))

    def forget_other_measures(self) -> None:
        """Drop measures by other features than the current: an older gankit, or another set of extras, made them."""
        from gankit.builtin.mode_collapse import LEAST
        from gankit.trained import evaluation

        measured = [row["measures"] for row in self.plan["runs"] if row.get("measures")]
        channels = self.plan["data"]["shape"][0]
        space = evaluation.deep(channels).name if measured else ""  # type: ignore[attr-defined]  # as `evaluate` does
        wanted = {f"kid-{space}", "copies", "clipped-density"} | ({"fid"} if self.plan["asked"]["fid"] else set())
        # With fewer pictures there may be no score.
        wanted |= {"score"} if self.plan["data"]["train"] >= 3 * LEAST else set()
        missing = {name for measures in measured for name in wanted - measures.keys()}
        if not missing:
            return
        self.watcher.notice(f"pictures are now compared by {', '.join(sorted(missing))}: all runs are measured again")
        for row in self.plan["runs"]:
            if row.pop("measures", None) and not RunFolder(self.path(row)).checkpoints():
                row["unmeasured"] = "it was measured by other features, and its checkpoints are gone"
            row.pop("measured_step", None)
        self.plan |= {"about": {}, "notes": []}

    def write(self) -> None:
        """Write comparison.json, comparison.csv and report.html."""
        plan, ended = self.plan, [row for row in self.plan["runs"] if row.get("outcome")]
        curves = {row["folder"]: results.coverage_curve(RunFolder(self.path(row))) for row in ended if row["steps"]}
        whole = [curves.get(row["folder"], []) for row in ended if row["outcome"] != "failed"]
        level = plan["asked"]["coverage"] or results.common_level(whole)
        for row in ended:
            row["seconds_to_coverage"] = results.seconds_to(curves.get(row["folder"], []), level)
        plan["coverage"] = level
        plan["measures"] = results.table(list(self.arms), ended, plan["about"])
        plan["summary"] = results.summary(plan)
        write_json(self.folder / "comparison.json", plan)
        with replacing(self.folder / "comparison.csv") as beside:
            beside.write_text(results.as_csv(plan), encoding="utf-8")
        self.draw()

    def draw(self) -> None:
        """Draw report.html, and set the next time: drawing must take only a small part of the time."""
        from gankit.report.comparison_page import write_comparison

        began = time.monotonic()
        try:
            write_comparison(self.folder)
        except Exception as error:  # a failing page must not end the training
            self.watcher.notice(f"report.html is not written: {error}")
        ended = time.monotonic()
        self.redraw_at = ended + max(REDRAW, RESTS * (ended - began))


def _trained(run: RunFolder) -> float:
    """Seconds of training up to the last checkpoint, where a resume starts."""
    step = run.checkpoints()[-1]
    return max((line["seconds"] for line in run.each_line() if line["step"] <= step), default=0.0)


def _log(path: Path) -> Path:
    """The output of a run's process, and the lock that it holds."""
    return Path(f"{path}.log")


def _under_way(path: Path) -> bool:
    """Whether a process trains that run or is about to."""
    if fcntl and _log(path).exists():  # on Windows a process is seen once it has a run folder
        # A network file system locks only files that are open for writing.
        with os.fdopen(opened(path.parent, _log(path).name, os.O_WRONLY | os.O_APPEND), "ab") as log:
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


def _last_words(path: Path) -> str:
    try:
        lines = read(path.parent, _log(path).name).decode(errors="replace").splitlines()
    except (OSError, UserError):
        lines = []
    return lines[-1].removeprefix("gankit: ") if lines else "it printed nothing"
