"""Call the diagnostics, and the reaction for their critical alarms; the loop acts on the decision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

from gankit.catalogue import Catalogue
from gankit.components import (
    Alarm,
    Continue,
    Decision,
    Diagnostic,
    Reaction,
    Reading,
    Return,
    Situation,
    Snapshot,
    Stop,
)
from gankit.errors import in_one_line
from gankit.model import Remedy
from gankit.runs.advice import sentences
from gankit.runs.folder import rescues, strict
from gankit.runs.score import SCORE, score
from gankit.training import checkpoint
from gankit.training.pictures import Showing, looking
from gankit.training.record import Recorder
from gankit.training.rescue import is_on, open_remedies
from gankit.training.state import LOOKING, Training
from gankit.training.watcher import Watcher

PATIENCE = 5.0  # seconds of a diagnostic before its share of the time counts


@dataclass(frozen=True)
class Look:
    """The readings of the diagnostics at one step."""

    values: dict[str, float] = field(default_factory=dict)  # by metric name
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by diagnostic
    alarms: tuple[tuple[str, Alarm], ...] = ()  # with the diagnostic
    looked: bool = False  # whether any diagnostic was due


@dataclass(frozen=True)
class Decided:
    """The reaction's decision, and the last critical alarm."""

    decision: Decision = field(default_factory=Continue)
    alarm: Alarm | None = None

    def after(self, before: Decided) -> Decided:
        """This decision, with the alarm of `before` if it has none."""
        return replace(self, alarm=self.alarm or before.alarm)


class Watch:
    """Calls the diagnostics of a training and its reaction."""

    def __init__(
        self,
        recorder: Recorder,
        training: Training,
        showing: Showing,
        catalogue: Catalogue,
        watcher: Watcher,
        refused: Iterable[str] = (),
    ) -> None:
        self.recorder, self.training, self.showing = recorder, training, showing
        self.catalogue, self.watcher = catalogue, watcher
        reaction = catalogue.get("reactions", training.config.on_alarm)
        self.reaction: Reaction = reaction(reaction.Options(**training.config.reactions.get(reaction.name, {})))
        self.refused = set(refused)  # flags of remedies that do not fit
        self.words: dict[str, str] = {}  # diagnostic -> its `health`
        self.looked: dict[str, int] = {}  # diagnostic -> the step of its last reading
        self.began = perf_counter()
        self.took: dict[str, float] = {}  # diagnostic -> the seconds of its readings since then
        self.unread: set[str] = set()  # readings that a controller follows and no look gave
        self.over_budget: set[str] = set()  # diagnostics with a warning about their time

    def all_well(self, number: int) -> bool:
        """Whether every diagnostic with a verdict gave a good one at this very step."""
        verdicts = self.training.verdicts
        return bool(verdicts) and all(well and self.looked.get(name) == number for name, well in verdicts.items())

    def observe(self, line: dict[str, Any]) -> Decided:
        """Call the due diagnostics, decide on their alarms, and write this step's line with their readings."""
        look = self.look(line)
        for name, details in look.details.items():
            self.recorder.detail(name, details)
        if look.looked:
            ill = [word for name, word in self.words.items() if not self.training.verdicts.get(name, True)]
            self.watcher.health(", ".join(ill) or next(reversed(self.words.values()), ""))
        decided = self.react(look.alarms)
        line |= look.values
        self.training.score = score(line)
        self._tell(look)
        self.recorder.write(line if self.training.score is None else line | {SCORE: self.training.score})
        return decided

    def _tell(self, look: Look) -> None:
        """Tell the controllers the readings; warn once of one that its diagnostic does not give."""
        training, number = self.training, self.training.number
        training.tell(look.values | ({} if training.score is None else {SCORE: training.score}))
        for name, controller in training.controllers.items():
            for reading in controller.follows:
                due = self.looked.get(reading.partition("/")[0]) == number
                if due and reading not in look.values and reading not in self.unread:
                    self.unread.add(reading)
                    self.watcher.notice(
                        f"warning: controller {name!r} follows {reading!r}, which its diagnostic did not give at step "
                        f"{number:,}: the controller hears nothing until it does"
                    )

    # Looking.

    def look(self, line: Mapping[str, Any]) -> Look:
        """The readings of the diagnostics that are due at this step. One that raises is switched off."""
        training = self.training
        values: dict[str, float] = {}
        details: dict[str, Mapping[str, Any]] = {}
        alarms: list[tuple[str, Alarm]] = []
        due = [name for name, diagnostic in training.diagnostics.items() if training.number % diagnostic.every == 0]
        if due:
            self.showing.settle()
        for name in (name for name in due if name not in training.disabled):
            diagnostic, began = training.diagnostics[name], perf_counter()
            try:
                with looking(training, LOOKING, training.number):
                    reading = checked(diagnostic.read(self.snapshot({**line, **values})))
                checkpoint.plain(diagnostic.state())  # before a checkpoint needs it
            except Exception as error:  # a broken diagnostic must not end a training of three days
                alarms.append((name, self._switch_off(name, error)))
                continue
            self._keep_to_budget(name, diagnostic, perf_counter() - began)
            self._note(name, reading)
            values |= {f"{name}/{key}": value for key, value in reading.values.items()}
            details |= {name: reading.details} if reading.details else {}
            alarms += [(name, alarm) for alarm in reading.alarms]
        return Look(values, details, tuple(alarms), bool(due))

    def snapshot(self, line: Mapping[str, Any]) -> Snapshot:
        """The training's `Snapshot` at this step."""
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

    def _note(self, name: str, reading: Reading) -> None:
        """Store a diagnostic's verdict and its `health`."""
        self.looked[name] = self.training.number
        well = False if any(alarm.severity == "critical" for alarm in reading.alarms) else reading.healthy
        if well is not None:
            self.training.verdicts[name] = well
        self.words.pop(name, None)
        if reading.health:
            self.words[name] = reading.health

    def _switch_off(self, name: str, error: Exception) -> Alarm:
        reason = self.training.disabled[name] = in_one_line(error)
        self.training.verdicts.pop(name, None)
        self.words.pop(name, None)
        self.watcher.notice(f"diagnostic {name!r} failed and is switched off: {reason}")
        return Alarm("diagnostic-failed", "warning", f"It is switched off: {reason}")

    def _keep_to_budget(self, name: str, diagnostic: Diagnostic, seconds: float) -> None:
        """Warn once about a diagnostic that exceeds its budget. It goes on: the clock must not change a run."""
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

    # Deciding.

    def react(self, alarms: Iterable[tuple[str, Alarm]]) -> Decided:
        """Record each alarm and call the reaction for the critical ones; a return outweighs a stop."""
        decided = Decided()
        for diagnostic, alarm in alarms:
            answer: Decision = Continue("warned")
            if alarm.severity == "critical":
                answer = self._ask(alarm)
                if isinstance(answer, Return) and isinstance(decided.decision, Return):
                    answer = decided.decision  # one return a step
                decided = Decided(max(decided.decision, answer, key=_weight), alarm)
            self._record(diagnostic, alarm, answer.words)
        return decided

    def reconsider(self, decided: Decided, error: Exception) -> Decided:
        """Call the reaction again without the remedy that does not fit this run."""
        assert isinstance(decided.decision, Return)
        assert decided.alarm is not None
        remedy = decided.decision.remedy
        self.refused.add(remedy.flags)
        answer = self._ask(decided.alarm)
        words = answer.words.removeprefix("stopped: ")
        message = f"{remedy.flags} does not fit this run ({' '.join(str(error).split())}); {words}"
        self.recorder.rescue({"outcome": "does not fit", "arguments": remedy.arguments, "message": message})
        self.watcher.notice(message)
        return Decided(answer if isinstance(answer, Return) else Stop(answer.words, keep_best=True), decided.alarm)

    def _ask(self, alarm: Alarm) -> Decision:
        """The reaction's decision on a critical alarm; if it raises, the training goes on."""
        run, back = self.recorder.run, self.training.healthy
        there = run.checkpoints()
        remedies = [remedy for remedy in self.remedies(alarm.kind) if not remedy.new_run]
        tried = len(rescues(self.training.config.history))
        try:
            answer = self.reaction.react(alarm, Situation(back if back in there else None, tried, remedies))
            if not isinstance(answer, Continue | Stop | Return):
                raise TypeError(f"react returned {answer!r}: it must be gankit.Continue, gankit.Stop or gankit.Return")
            if isinstance(answer, Return) and answer.step not in there:
                raise ValueError(f"there is no checkpoint of step {answer.step} to return to")
        except Exception as error:  # a failing reaction must not end the training
            answer = Continue(f"the reaction failed: {in_one_line(error)}")
            self.watcher.notice(f"alarm {alarm.kind!r}: {answer.words}")
        return answer

    def remedies(self, alarm: str) -> list[Remedy]:
        """The model's remedies for an alarm of that kind that change something in this run and fit it."""
        training = self.training
        try:
            remedies = list(open_remedies(training.config, training.model, self.catalogue, alarm))
            return [remedy for remedy in remedies if remedy.flags not in self.refused]
        except Exception as error:  # a model's failing `remedies` must not suppress the alarm
            self.watcher.notice(f"the remedies of {training.model.name!r} failed: {in_one_line(error)}")
            return []

    def _record(self, diagnostic: str, alarm: Alarm, action: str) -> None:
        """Write an alarm's line, and pass it to the watcher and the plugins."""
        training, run = self.training, self.recorder.run
        ill = alarm.severity == "critical" or not all(training.verdicts.values())
        advice = [one for one in alarm.advice if not (isinstance(one, Remedy) and is_on(training.config, one))]
        remedies = [_as_data(one) for one in advice]
        record = {
            "step": training.number,
            "diagnostic": diagnostic,
            **asdict(alarm),
            "before": alarm.before if alarm.before is not None or not ill else training.healthy,
            "advice": sentences(run, remedies, training.healthy, training.config.plugins),
            "remedies": remedies,
            "healthy": training.healthy,
            "action": action,
            **self.recorder.attempt,
        }
        self.recorder.alarm(record)
        self.watcher.alarm(record)
        for failed in self.catalogue.notify("gankit_alarm_raised", run=run, alarm=record):
            self.watcher.notice(failed)


def checked(reading: Any) -> Reading:
    """The reading of a diagnostic in plain values. Raises TypeError or ValueError for one that cannot be written."""
    if not isinstance(reading, Reading):
        raise TypeError(f"read returned {reading!r}: it must be gankit.Reading(values, alarms, …)")
    if reading.healthy is not None and reading.healthy not in (True, False):
        raise TypeError(f"healthy is {reading.healthy!r}: it must be True, False or None")
    if not isinstance(reading.health, str | None):
        raise TypeError(f"health is {reading.health!r}: it must be a text or None")
    json.dumps(strict(reading.details), allow_nan=False)
    return replace(
        reading,
        values=_numbers(reading.values),
        alarms=[_checked_alarm(alarm) for alarm in reading.alarms],
        healthy=None if reading.healthy is None else bool(reading.healthy),
    )


def _checked_alarm(alarm: Any) -> Alarm:
    if not isinstance(alarm, Alarm) or alarm.severity not in ("warning", "critical"):
        raise TypeError(f'{alarm!r} is no alarm: it must be gankit.Alarm(kind, "warning" or "critical", message)')
    if isinstance(alarm.advice, str) or not all(isinstance(one, Remedy | str) for one in alarm.advice):
        raise TypeError(f"advice is {alarm.advice!r}: it must be a list of gankit.Remedy and of sentences")
    texts = [alarm.kind, alarm.message, *(one.flags for one in alarm.advice if isinstance(one, Remedy))]
    if not all(isinstance(text, str) for text in texts) or not isinstance(alarm.before, int | None):
        raise TypeError(f"{alarm!r} is no alarm: its kind and message must be texts, and `before` a step or None")
    return replace(alarm, readings=_numbers(alarm.readings))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name, torch's and numpy's as Python's."""
    if not all(isinstance(name, str) for name in values):
        raise TypeError(f"a reading is called {next(n for n in values if not isinstance(n, str))!r}: call it by a text")
    return {name: float(value) for name, value in values.items()}


def _weight(decision: Decision) -> int:
    """The rank of a decision among those of one step; the greatest wins."""
    return (Continue, Stop, Return).index(type(decision))


def _as_data(advice: Remedy | str) -> dict[str, Any]:
    """An entry of `remedies` in alarms.jsonl."""
    if isinstance(advice, str):
        return {"why": advice, "arguments": [], "new_run": False}
    return {"why": advice.why, "arguments": advice.arguments, "new_run": advice.new_run}
