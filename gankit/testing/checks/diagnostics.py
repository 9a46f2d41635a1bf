"""The checks of diagnostics."""

from __future__ import annotations

import time
from typing import Any

from gankit.testing.checks.training import refuse_difference, steps
from gankit.testing.subject import Failed, Subject, tensors
from gankit.training import checkpoint
from gankit.training.diagnose import checked
from gankit.training.loop import step_once
from gankit.training.pictures import looking
from gankit.training.state import LOOKING, Training


def looks_and_says(subject: Subject) -> None:
    """A diagnostic's reading has numbers, a verdict, alarms with all their parts, and details that fit into JSON."""
    _, _, readings = _watched(subject, "said")
    for reading in readings:
        try:
            checked(reading)
        except (TypeError, ValueError) as error:
            what, _, do = str(error).partition(": ")
            raise Failed(what, do or "return gankit.Reading(values, alarms, …) of plain values") from None


def leaves_no_trace(subject: Subject) -> None:
    """A diagnostic changes no number of the training."""
    watched, _, _ = _watched(subject, "watched")
    unseen, batches = subject.training()
    steps(unseen, batches, watched.number)
    refuse_difference(
        tensors(unseen), tensors(watched), "looking changes {}", "change no network, and put back what you set"
    )


def remembers_through_a_checkpoint(subject: Subject) -> None:
    """`state()` returns a diagnostic's whole state as JSON, and after `restore` its readings are the same."""
    training, session, _ = _watched(subject, "remembered")
    old = training.diagnostics[subject.name]
    new = type(old)(old.options)
    new.restore(checkpoint.plain(old.state()))
    line = {"step": float(training.number)}
    results = []
    for diagnostic in (old, new):
        with looking(training, LOOKING, training.number):
            results.append((diagnostic.read(session.watch.snapshot(line)), diagnostic.state()))
    if repr(results[0]) != repr(results[1]):
        raise Failed(
            f"after a resume it reads {results[1][0]} instead of {results[0][0]}",
            "return all that it remembers from `state()`, and take it up in `restore`",
        )


def keeps_to_its_budget(subject: Subject) -> None:
    """A diagnostic's share of the training's time is at most its `budget`."""
    training, batches = subject.training()
    session = subject.session(training, batches, "timed")
    session.recorder.close()
    diagnostic = training.diagnostics[subject.name]
    steps(training, batches, 2)
    began = time.perf_counter()
    steps(training, batches, 5)
    between = (time.perf_counter() - began) / 5 * diagnostic.every
    looks = []
    for _ in range(3):
        began = time.perf_counter()
        with looking(training, LOOKING, 0):
            diagnostic.read(session.watch.snapshot({"step": float(training.number)}))
        looks.append(time.perf_counter() - began)
    share = min(looks) / (min(looks) + between)
    if share > diagnostic.budget:
        raise Failed(
            f"a look takes {min(looks):.2g} s and the {diagnostic.every} steps between two {between:.2g} s: "
            f"{share:.0%} of the time, and its budget is {diagnostic.budget:.0%}",
            "look at fewer pictures, or more rarely (`every`)",
        )


def _watched(subject: Subject, name: str) -> tuple[Training, Any, list[Any]]:
    """A training of four steps, its session, and the diagnostic's reading after each step."""
    training, batches = subject.training()
    session = subject.session(training, batches, name)
    session.recorder.close()
    readings = []
    for _ in range(4):
        line = session.recorder.line(step_once(training, batches))
        with looking(training, LOOKING, training.number):
            readings.append(training.diagnostics[subject.name].read(session.watch.snapshot(line)))
    return training, session, readings
