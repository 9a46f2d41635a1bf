"""Run a training to its end, through the attempts that rescues begin, and write its result, whatever happens."""

from __future__ import annotations

import math
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from gankit.catalogue import Catalogue
from gankit.components import Alarm, Return, Stop
from gankit.data.batches import Batches
from gankit.device import peak_memory
from gankit.errors import TrainingError, UserError
from gankit.files import replacing
from gankit.runs.advice import to_resume
from gankit.runs.environment import record_rescue
from gankit.runs.folder import FolderGone, RunFolder, write_json
from gankit.runs.score import SCORE, best, recorded
from gankit.training import checkpoint
from gankit.training.diagnose import Decided, Watch
from gankit.training.interrupts import Interrupts
from gankit.training.loop import Ending, Session, train
from gankit.training.pictures import Showing
from gankit.training.record import Recorder
from gankit.training.rescue import amended, outcome
from gankit.training.resume import find_best
from gankit.training.start import assemble, describe_data
from gankit.training.state import Training
from gankit.training.threads import Threads
from gankit.training.watcher import Watcher
from gankit.training.workers import ProcessGone, Team

RESERVE = 1 << 16  # bytes of disk kept free for result.json


def session(
    run: RunFolder,
    training: Training,
    batches: Batches,
    catalogue: Catalogue,
    watcher: Watcher,
    threads: Threads,
    refused: Iterable[str] = (),
    team: Team | None = None,
) -> Session:
    """A training with its recorder and its watch; `refused`: the flags of remedies that do not fit it."""
    recorder = Recorder(run, training, batches.batch_size * batches.updates, catalogue, watcher)
    showing = Showing(training, batches.data)
    watch = Watch(recorder, training, showing, catalogue, watcher, refused)
    return Session(training, batches, showing, recorder, watch, threads, team.ranks if team else None)


class Attempts:
    """The attempts of one start: the first session, and one after each rescue."""

    def __init__(
        self, run: RunFolder, first: Session, catalogue: Catalogue, watcher: Watcher, team: Team | None = None
    ) -> None:
        self.run, self.now, self.catalogue, self.watcher, self.team = run, first, catalogue, watcher, team

    def drive(self, interrupts: Interrupts, alarms: Sequence[tuple[str, Alarm]]) -> dict[str, Any]:
        """Train until no rescue follows; return the result. `alarms`: alarms to react to before the first step."""
        training, recorder = self.now.training, self.now.recorder
        if not self.run.checkpoints():
            self.now.showing.settle()
            checkpoint.save(self.run, training)
        if not self.run.sample_path(training.number).exists():
            recorder.sample(self.now.showing)
        done = training.config.steps is not None and training.number >= training.config.steps and not alarms
        if not done and "report" in recorder.artifacts and self.run.report_path.is_file():
            self.watcher.notice(f"look at it while it trains: {self.run.report_path.resolve().as_uri()}")
        deadline = perf_counter() + (training.config.time or math.inf)
        self.watcher.begin(training)
        advice = self.now.watch.snapshot({}).advice
        decided = self.now.watch.react([(name, replace(alarm, advice=advice(alarm.kind))) for name, alarm in alarms])
        ending = self._attempt(interrupts, deadline, decided)
        while isinstance(ending.decided.decision, Return):
            self.watcher.end()
            decided = self._return(ending.decided, ending.decided.decision)
            if isinstance(decided.decision, Stop):
                ending = replace(ending, reason="alarm", decided=decided)
            elif isinstance(decided.decision, Return):  # with another remedy
                ending = replace(ending, decided=decided)
            else:
                self.watcher.begin(self.now.training)
                ending = self._attempt(interrupts, deadline, decided)
        return ending.result | self._healthy(ending)

    def _attempt(self, interrupts: Interrupts, deadline: float, decided: Decided) -> Ending:
        if self.team:
            self.team.begin(self.now.training)
        ending = train(self.now, interrupts, deadline, decided)
        kind = ending.decided.alarm.kind if ending.decided.alarm else ""
        rescue = outcome(self.now.training.config, ending.steps, kind)
        if rescue:
            self.now.recorder.rescue(rescue)
            self.watcher.notice(rescue["message"])
        return ending

    def _return(self, decided: Decided, decision: Return) -> Decided:
        """Return to the decided step and set later files aside; if the remedy does not fit, decide again."""
        old, step = self.now, decision.step
        try:
            changed, _ = amended(old.training.config, decision.remedy, self.catalogue, step)
            training, batches = assemble(changed, old.batches.data, self.catalogue)
            checkpoint.load(self.run, step, training)
        except (UserError, TrainingError, torch.OutOfMemoryError) as error:
            return old.watch.reconsider(decided, error)
        training.healthy = step  # the checkpoint's own value may be an older step, whose checkpoint is gone
        training.attempt, training.since = self.run.abandon_after(step), step
        find_best(self.run, training, step)
        write_json(self.run.folder / "config.json", changed.model_dump(mode="json"))
        record_rescue(self.run, changed, self.catalogue)
        old.recorder.close()
        self.now = session(
            self.run, training, batches, self.catalogue, self.watcher, old.threads, old.watch.refused, self.team
        )
        return Decided()

    def _healthy(self, ending: Ending) -> dict[str, int]:
        """The last healthy step, if an alarm ended the training; with `keep_best`, set later files aside."""
        if ending.reason != "alarm":
            return {}
        healthy, decision = self.now.training.healthy, ending.decided.decision
        if isinstance(decision, Stop) and decision.keep_best and healthy in self.run.checkpoints():
            self.run.abandon_after(healthy)
        return {"healthy": healthy}


def go(
    run: RunFolder,
    training: Training,
    batches: Batches,
    catalogue: Catalogue,
    watcher: Watcher,
    interrupts: Interrupts,
    alarms: Sequence[tuple[str, Alarm]] = (),
    team: Team | None = None,
) -> None:
    """Train, write result.json (whatever happens), draw the artifacts and call the plugins' hooks.

    `alarms`: (diagnostic, alarm) to react to before the first step. `team`: the processes to train with. Raises
    `TrainingError` if the training fails.
    """
    threads = Threads(training.config.device, watcher, alone=team is None)
    first_session = session(run, training, batches, catalogue, watcher, threads, team=team)
    attempts = Attempts(run, first_session, catalogue, watcher, team)
    threads.begin()
    first, before, failure = training.number, run.result, None
    (run.folder / "result.json").unlink(missing_ok=True)
    for line in catalogue.notify("gankit_run_started", run=run):
        watcher.notice(line)
    reserve = _reserve(run)
    try:
        result = attempts.drive(interrupts, alarms)
        if result["steps"] == first and before.get("images_per_second"):
            result["images_per_second"] = before["images_per_second"]
    except BaseException as error:
        failure = error
    watcher.end()
    threads.end()
    attempts.now.recorder.close()
    reserve.close()
    try:
        attempts.now.recorder.follow()
    except FolderGone:
        raise TrainingError(
            f"run folder {run.folder} was deleted under its training, which ends at step "
            f"{attempts.now.training.number:,}: nothing of it is left to go on from, and nothing is made in its place"
        ) from None
    if failure is not None:
        result = _failed(run, attempts.now.training, failure)
    result |= {"output": f"lost: {watcher.lost}"} if watcher.lost else {}
    result["peak_memory"], result["threads"] = peak_memory(training.config.device), sorted(threads.used)
    result |= _scores(run)
    if batches.data.streamed:  # with what could not be decoded
        write_json(run.folder / "data.json", describe_data(batches.data))
    write_json(run.folder / "result.json", result)
    attempts.now.recorder.draw()
    for line in catalogue.notify("gankit_run_finished", run=run, result=result):
        watcher.notice(line)
    if failure is not None:
        gone = team.lost(failure) if team and isinstance(failure, RuntimeError) else ""
        if gone and run.checkpoints():
            raise ProcessGone(gone) from failure
        _raise(failure, run, attempts.now.training)


def _scores(run: RunFolder) -> dict[str, Any]:
    """The score of the last look, and the step and score of the best checkpoint; nothing where none was measured."""
    try:
        lines = run.looks()
    except (OSError, UserError):  # result.json is written whatever happens
        return {}
    scores, looks = run.scores(lines), [line[SCORE] for line in recorded(lines).values()]
    first = best(scores)
    found: dict[str, Any] = {"score": looks[-1]} if looks else {}
    return found if first is None else found | {"best": {"step": first, "score": scores[first]}}


def _reserve(run: RunFolder) -> ExitStack:
    """Reserve room for result.json on a disk that fills up; closing it frees the room."""
    reserve = ExitStack()
    with suppress(OSError):
        reserve.enter_context(tempfile.TemporaryFile(dir=run.folder, buffering=0)).write(bytes(RESERVE))  # noqa: SIM115
    return reserve


def _failed(run: RunFolder, training: Training, error: BaseException) -> dict[str, Any]:
    """The result of a failed training; writes its traceback into the run folder."""
    with suppress(UserError), replacing(run.folder / "traceback.txt") as beside:
        beside.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return {
        "outcome": "failed",
        "reason": type(error).__name__,
        "steps": training.number,
        "seconds": round(training.seconds, 3),
        "images_per_second": None,
        "message": " ".join(str(error).split()),
    }


def _raise(failure: BaseException, run: RunFolder, training: Training) -> None:
    """Raise a `TrainingError` in one line that says how to go on; raise a KeyboardInterrupt and the like as it is."""
    if not isinstance(failure, Exception):
        raise failure
    command = to_resume(run.folder, training.config.plugins)
    go_on = f"; go on from the last checkpoint with `{command}`" if run.checkpoints() else ""
    raise TrainingError(
        f"the training failed after step {training.number}: {type(failure).__name__}: "
        f"{' '.join(str(failure).split())} (traceback in {run.folder / 'traceback.txt'}{go_on})"
    ) from failure
