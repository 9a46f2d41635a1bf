"""What is written and said of a training while it goes on: lines, readings, alarms, and what is done about them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.components import Alarm, Artifact, Diagnostic, Reaction, Snapshot
from gankit.config.resolve import RunConfig
from gankit.data.batches import Batches
from gankit.errors import UserError, told
from gankit.files import Lines
from gankit.model import Remedy
from gankit.report.grid import save_grid
from gankit.runs.folder import RESULT, RunFolder, rescues, strict, to_resume
from gankit.training import checkpoint
from gankit.training.rescue import TRIES, Plan, open_remedies
from gankit.training.showing import Showing, looking
from gankit.training.state import LOOKING, Training

GRID = 64  # pictures in a sample grid
PATIENCE = 5.0  # seconds that a diagnostic may take before its share of the time is looked at


class Watcher:
    """Who is told how the training goes. This one keeps silent; the command line shows it."""

    lost = ""  # why nobody hears it any more

    def notice(self, text: str) -> None:
        """Something that a person should read, in one line."""

    def decoding(self, done: int, total: int) -> None:
        """Pictures are being read into the cache."""

    def begin(self, training: Training) -> None:
        """The first step is next."""

    def line(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""

    def sampled(self, step: int) -> None:
        """A sample grid was written."""

    def alarm(self, alarm: Mapping[str, Any]) -> None:
        """A line of alarms.jsonl was written."""

    def health(self, word: str) -> None:
        """A diagnostic's word on the training's health."""

    def end(self) -> None:
        """The last step is done."""


class Recorder:
    """Writes the lines of a run, hands them on, and acts on alarms."""

    def __init__(
        self,
        run: RunFolder,
        training: Training,
        batches: Batches,
        catalogue: Catalogue,
        watcher: Watcher,
        refused: Iterable[str] = (),
    ) -> None:
        self.run, self.training = run, training
        self.catalogue, self.watcher = catalogue, watcher
        reaction = catalogue.get("reactions", training.config.on_alarm)
        self.reaction: Reaction = reaction(reaction.Options(**training.config.reactions.get(reaction.name, {})))
        self.artifacts: dict[str, Artifact] = {}
        for name, table in training.config.artifacts.items():
            cls = catalogue.get("artifacts", name)
            with self.left_out_if_it_fails(name):
                self.artifacts[name] = cls(cls.Options(**table), run)
        self.showing = Showing(training, batches.data)
        self.pictures_a_step = batches.batch_size * batches.updates
        self.metrics = run.append_to(run.metrics_path)
        self.alarms = run.append_to(run.alarms_path)
        self.readings = run.append_to(run.readings_path)
        self.last = (training.number, training.seconds)
        self.words: dict[str, str] = {}
        self.looked: dict[str, int] = {}  # diagnostic -> the step of its last look
        self.refused = set(refused)  # remedies that turned out not to fit
        self.began = perf_counter()
        self.took: dict[str, float] = {}  # diagnostic -> the seconds of its looks since then
        self.over_budget: set[str] = set()  # diagnostics of which that was told
        self.unsaved = False  # a checkpoint was due that the disk did not take
        self.complained: set[str] = set()
        self.stopping = self.keep_best = False
        self.ended_in = ""  # the kind of the last critical alarm
        self.plan: Plan | None = None

    def all_well(self, number: int) -> bool:
        """Whether every diagnostic that gives a verdict looked at this very step, and saw nothing wrong."""
        verdicts = self.training.verdicts
        return bool(verdicts) and all(well and self.looked.get(name) == number for name, well in verdicts.items())

    def close(self) -> None:
        for lines in (self.metrics, self.readings, self.alarms):
            lines.close()

    def follow(self) -> None:
        """Go on where the run folder is by now. Raises `FolderGone` where there is none any more."""
        if self.run.follow():
            self.watcher.notice(f"the run folder was moved: the training goes on in {self.run.folder}")

    def _append(self, lines: Lines, line: str) -> None:
        try:
            lines.write(f"{line}\n")
        except OSError as error:
            self.unwritten("lines", error)

    def save(self) -> bool:
        """Write a checkpoint. Returns whether there was room; the training goes on, and it is tried again."""
        try:
            checkpoint.save(self.run, self.training)
        except (OSError, UserError, SafetensorError) as error:
            self.unwritten("checkpoints", error)
            self.unsaved = True
            return False
        if self.unsaved:
            self.watcher.notice(f"step {self.training.number:,} is saved: there is room again")
        self.unsaved = False
        self.complained.clear()
        return True

    def unwritten(self, what: str, error: Exception) -> None:
        """Say once what the disk does not take, so that somebody can make room."""
        if what not in self.complained:
            self.complained.add(what)
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            self.watcher.notice(
                f"warning: {what} cannot be written in {self.run.folder} ({reason}): the training goes on, and writes "
                "again when it can"
            )

    def record(self, readings: Mapping[str, Tensor]) -> None:
        """Write this step's line, with the readings of the diagnostics whose turn it is."""
        line = self.line(readings)
        self.diagnose(line)
        self.write(line)

    def line(self, readings: Mapping[str, Tensor]) -> dict[str, Any]:
        """This step's metrics, on the host: one transfer for all of them."""
        training, seconds = self.training, self.training.seconds
        values = torch.stack([value.float().reshape(()) for value in readings.values()]).cpu().numpy()
        steps, since = training.number - self.last[0], seconds - self.last[1]
        self.last = (training.number, seconds)
        line: dict[str, Any] = {
            "step": training.number,
            "images": training.number * self.pictures_a_step,
            "seconds": round(seconds, 3),
            "images_per_second": round(steps * self.pictures_a_step / max(since, 1e-9), 1),
            # The shortest decimals that give the float32 back.
            **{name: float(str(np.float32(value))) for name, value in zip(readings, values, strict=True)},
        }
        return line | self.attempt

    @property
    def attempt(self) -> dict[str, int]:
        """What marks a line of a later attempt."""
        return {"attempt": self.training.attempt} if self.training.attempt > 1 else {}

    def diagnose(self, line: dict[str, Any]) -> None:
        """Let the diagnostics that are due look; their readings join the line, their alarms are acted on."""
        training = self.training
        for name, diagnostic in training.diagnostics.items():
            if training.number % diagnostic.every or name in training.disabled:
                continue
            began = perf_counter()
            try:
                with looking(training, LOOKING, training.number):
                    reading = diagnostic.read(self.snapshot(line))
                values = {f"{name}/{key}": float(value) for key, value in reading.values.items()}
                details = json.dumps(strict(reading.details), ensure_ascii=False, allow_nan=False)
                json.dumps(strict(diagnostic.state()))  # or the next checkpoint could not be written
            except Exception as error:  # a broken observer must not end a training of three days
                training.disabled[name] = told(error)
                training.verdicts.pop(name, None)
                self.words.pop(name, None)
                self.watcher.notice(f"diagnostic {name!r} failed and is switched off: {training.disabled[name]}")
                self.alarm(
                    name,
                    Alarm("diagnostic-failed", "warning", f"It is switched off: {training.disabled[name]}"),
                )
                continue
            self._keep_to_budget(name, diagnostic, perf_counter() - began)
            line |= values
            if reading.details:
                self.detail(name, details)
            self.looked[name] = training.number
            well = False if any(alarm.severity == "critical" for alarm in reading.alarms) else reading.healthy
            if well is not None:
                training.verdicts[name] = well
            if reading.health:
                self.words[name] = reading.health
            else:
                self.words.pop(name, None)
            ill = [word for other, word in self.words.items() if not training.verdicts.get(other, True)]
            self.watcher.health(", ".join(ill) or next(reversed(self.words.values()), ""))
            for alarm in reading.alarms:
                self.alarm(name, alarm)

    def snapshot(self, line: Mapping[str, Any]) -> Snapshot:
        """The training as a diagnostic sees it at this step."""
        training, showing = self.training, self.showing
        return Snapshot(
            training.number,
            dict(line),
            training.model,
            showing.generate,
            showing.real,
            showing.judge,
            training.since,
            self.remedies,
            training.start,
        )

    def _keep_to_budget(self, name: str, diagnostic: Diagnostic, seconds: float) -> None:
        """Tell once of a diagnostic that takes more time than it may; it goes on, since the clock decides nothing."""
        took = self.took[name] = self.took.get(name, 0.0) + seconds
        share = took / max(perf_counter() - self.began, 1e-9)
        if took < PATIENCE or share <= diagnostic.budget or name in self.over_budget:
            return
        self.over_budget.add(name)
        self.watcher.notice(
            f"warning: diagnostic {name!r} has taken {took:.0f} s, {share:.0%} of this training's time (its budget is "
            f"{diagnostic.budget:.0%}); it goes on: its author can let it look at less, or more rarely than every "
            f"{diagnostic.every} steps"
        )

    def detail(self, diagnostic: str, details: str) -> None:
        """Write a line of readings.jsonl; `details` is JSON already."""
        record = {"step": self.training.number, "diagnostic": diagnostic, **self.attempt}
        head = json.dumps(record, ensure_ascii=False)
        self._append(self.readings, f'{head[:-1]}, "details": {details}}}')

    def alarm(self, diagnostic: str, alarm: Alarm) -> None:
        action = "warned"
        if alarm.severity == "critical":
            self.ended_in = alarm.kind
            try:
                action = self.reaction.react(alarm, self)
            except Exception as error:  # nor must a letter that could not be sent
                action = f"the reaction failed: {told(error)}"
                self.watcher.notice(f"alarm {alarm.kind!r}: {action}")
        ill = alarm.severity == "critical" or not all(self.training.verdicts.values())
        record = {
            "step": self.training.number,
            "diagnostic": diagnostic,
            **asdict(alarm),
            "before": alarm.before if alarm.before is not None or not ill else self.training.healthy,
            "advice": [pasted for text in alarm.advice if (pasted := self._to_paste(text))],
            "action": action,
            **self.attempt,
        }
        self._write_alarm(record)
        self.watcher.alarm(record)
        for failed in self.catalogue.notify("gankit_alarm_raised", run=self.run, alarm=record):
            self.watcher.notice(failed)

    def _write_alarm(self, record: Mapping[str, Any]) -> None:
        self._append(self.alarms, json.dumps(strict(record), ensure_ascii=False, allow_nan=False))

    def tell_of_rescue(self, words: str) -> None:
        """A line of alarms.jsonl that says what came of a rescue."""
        record = {"step": self.training.number, "diagnostic": "rescue", "kind": RESULT, "severity": "info"}
        self._write_alarm(record | {"message": words, "advice": [], "action": "recorded", **self.attempt})
        self.watcher.notice(words)

    def came_of_rescue(self) -> None:
        """Tell how the attempt that a rescue began has gone so far, if one did."""
        training, done = self.training, rescues(self.training.config.history)
        if not done or training.number <= done[-1]["step"]:
            return
        changed = ", ".join(f"{key} = {_short(value)}" for key, value in done[-1]["changed"].items())
        end = f"ended in {self.ended_in} at step" if self.ended_in else "is without a critical alarm up to step"
        self.tell_of_rescue(
            f"Rescue {len(done)} of {TRIES} (from step {done[-1]['step']:,}, {changed}) {end} {training.number:,}."
        )

    def stop(self, keep_best: bool = False) -> None:
        """End the training after this step; `keep_best`: what came after the last healthy checkpoint is set aside."""
        self.stopping, self.keep_best = True, keep_best

    def _to_paste(self, advice: str) -> str:
        """RUN as the folder's name, from the last healthy checkpoint, with the plugins that the run needs.

        `gankit run AGAIN` as the command that began the run, with another folder; "" where that is not known.
        """
        if "gankit run AGAIN" in advice:
            began = shlex.split(str(self.run.environment.get("command") or ""))
            if began[:2] != ["gankit", "run"]:
                return ""
            if "--out" in began:
                place = began.index("--out")
                del began[place : place + 2]
            advice = advice.replace("gankit run AGAIN", shlex.join(began))
        folder, back = str(self.run.folder), self.training.healthy
        resume = to_resume(self.run.folder, self.training.config.plugins) + (
            f" --from {back}" if back in self.run.checkpoints() else ""
        )
        told = {"gankit resume RUN": resume, "RUN-again": shlex.quote(f"{folder}-again"), "RUN": shlex.quote(folder)}
        # In one pass: a folder may be named RUN itself.
        return re.sub(r"gankit resume RUN\b|RUN-again\b|\bRUN\b", lambda found: told[found[0]], advice)

    def remedies(self, alarm: str) -> list[Remedy]:
        """What the model has against an alarm of that kind and this run has not yet."""
        return [remedy for remedy, _ in self._open(alarm, self.training.number)]

    def _open(self, alarm: str, step: int) -> list[tuple[Remedy, RunConfig]]:
        training = self.training
        try:
            found = list(open_remedies(training.config, training.model, self.catalogue, alarm, step))
        except Exception as error:  # nor must a model's ladder silence the alarm
            self.watcher.notice(f"the remedies of {training.model.name!r} failed: {told(error)}")
            return []
        return [(remedy, changed) for remedy, changed in found if remedy.flags not in self.refused]

    def go_back(self, alarm: Alarm) -> tuple[bool, str]:
        """Return to the last healthy checkpoint with the next remedy, after this step. See `Control`."""
        back, tries = self.training.healthy, len(rescues(self.training.config.history))
        if self.plan:  # a second alarm at the same step
            return True, self.plan.words
        if back not in self.run.checkpoints():
            return False, "there is no healthy checkpoint to go back to"
        if tries >= TRIES:
            return False, f"{TRIES} rescues did not help"
        for remedy, changed in self._open(alarm.kind, back):
            if remedy.new_run:
                continue
            words = f"rescue {tries + 1} of {TRIES}: back to step {back:,}, and on with {remedy.flags}"
            self.plan = Plan(back, alarm, remedy, changed, words)
            return True, words
        return False, "no remedy is left to try"

    def does_not_fit(self, plan: Plan, error: Exception) -> bool:
        """A remedy turned out to be none here: plan the next one. Returns whether there is one."""
        self.refused.add(plan.remedy.flags)
        self.plan = None
        going, words = self.go_back(plan.alarm)
        self.tell_of_rescue(f"{plan.remedy.flags} does not fit this run ({' '.join(str(error).split())}); {words}")
        if not going:
            self.stop(keep_best=True)
        return going

    def write(self, line: dict[str, Any]) -> None:
        self._append(self.metrics, json.dumps(strict(line), ensure_ascii=False, allow_nan=False))
        self.watcher.line(line)
        for name, artifact in list(self.artifacts.items()):
            with self.left_out_if_it_fails(name):
                artifact.line(line)

    def draw(self) -> None:
        """Let every artifact finish; after the last line."""
        for name, artifact in list(self.artifacts.items()):
            with self.left_out_if_it_fails(name):
                artifact.finish()

    @contextmanager
    def left_out_if_it_fails(self, name: str) -> Iterator[None]:
        """A broken artifact is reported once and then left out."""
        try:
            yield
        except Exception as error:
            self.artifacts.pop(name, None)
            self.watcher.notice(f"artifact {name!r} failed and is left out: {told(error)}")

    def sample(self) -> None:
        """The grid of fixed latents."""
        number, path = self.training.number, self.run.sample_path(self.training.number)
        grid = self.showing.fixed(GRID)
        try:
            self.run.make(path.parent.name)
            save_grid(grid, path)
        except (OSError, UserError) as error:
            self.unwritten("samples", error)
            return
        self.watcher.sampled(number)
        for name, artifact in list(self.artifacts.items()):
            with self.left_out_if_it_fails(name):
                artifact.sampled(number, path)


def _short(value: Any) -> str:
    """What a setting became: a loss term's weight, a number."""
    return f"{value['weight']:g}" if isinstance(value, Mapping) and "weight" in value else f"{value}"
