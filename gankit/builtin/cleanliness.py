"""A diagnostic of clean samples at their own size: grain in flat places, and missing fine detail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field
from torch import Tensor

from gankit.components import Alarm, Diagnostic, Reading, Snapshot
from gankit.metrics.cleanliness import cleanliness, edge, ground_colour, over_real
from gankit.options import Curve, Options

# docs/evidence/pictures.md: grain is 1.3 to 1.5 times the real pictures' with a critic, and was 2.6 to 3.7 without one
# and with edges 0; fine detail is 0.4 at 4,000 steps of any of them, and grows.
GRAINY = 2.0  # grain of so many times the real pictures' is too much
BLURRED = 0.4  # fine detail below this share of the real pictures' is blur
WARM_UP = 10_000  # steps without an alarm about grain and blur
PATIENCE = 5000  # steps without improvement before such an alarm
REAL = 1000  # pictures that samples are compared with
BETTER = 1.1  # times the best value so far counts as an improvement
AGAIN = 1.2  # times the bound ends an alarm, so that it can be raised again


class Course(NamedTuple):
    """The course of one reading."""

    best: float = 0.0
    step: int = 0  # of the best value
    bad: int = 0  # bad readings in a row
    alarmed: bool = False


class CleanlinessOptions(Options):
    now_constant = {"warm_up": WARM_UP, "patience": PATIENCE, "grainy": GRAINY, "blurred": BLURRED}

    pictures: int = Field(256, ge=20, le=10_000, description="generated pictures at each look")


class Reference:
    """Real pictures (N, C, S, S) to compare the cleanliness of samples with."""

    def __init__(self, real: Tensor) -> None:
        self.colour = ground_colour(edge(real))
        self.real = cleanliness(real, self.colour)

    def compare(self, pictures: Tensor) -> dict[str, float]:
        """Each measure of the pictures divided by that of the real ones."""
        return {name: ratio.value for name, ratio in over_real(cleanliness(pictures, self.colour), self.real).items()}


class Cleanliness(Diagnostic[CleanlinessOptions]):
    """Compares samples of the averaged generator with real pictures in details that small averages do not show.

    Readings, each divided by the real pictures' value, so that 1 is right (defined in `gankit.metrics.cleanliness`):

    grain    noise where it should be flat: above 1 too much
    flat     the share of the picture that is flat: below 1 too little
    ground   how plain the ground is; absent where the real pictures share no ground
    fine     energy of the finest detail: below 1 blur, above 1 specks

    A training begins with blur and grain and loses them slowly. The alarms `grainy` and `blurred` therefore wait for
    10,000 steps, and for 5,000 steps without an improvement.
    """

    name = "cleanliness"
    summary = "are the samples as clean and as sharp as the real pictures"
    every = 500
    curves = {
        "grain": Curve(note="Noise of the samples over that of the real pictures; 1 is right."),
        "flat": Curve(note="Share of the samples that is flat, over the real pictures'; 1 is right."),
        "ground": Curve(note="How plain the samples' ground is, over the real pictures'; 1 is right."),
        "fine": Curve(note="Energy of the samples' finest detail over the real pictures': 1 is right, less is blur."),
    }

    def __init__(self, options: CleanlinessOptions) -> None:
        super().__init__(options)
        self.reference: Reference | None = None
        self.courses = {"grainy": Course(), "blurred": Course()}

    def read(self, snapshot: Snapshot) -> Reading:
        if self.reference is None:
            real = snapshot.real(REAL)
            if real.ndim != 4:
                return Reading()  # points
            self.reference = Reference(real)
        values = self.reference.compare(snapshot.generate(self.options.pictures))
        # Each as a quality that grows with improvement, and the bound below which it is bad.
        quality = {
            "grainy": (1 / values["grain"], 1 / GRAINY),
            "blurred": (values["fine"], BLURRED),
        }
        new = [kind for kind, (value, bound) in quality.items() if self._judge(kind, value, bound, snapshot)]
        return Reading(values, [self._alarm(kind, values, snapshot) for kind in new])

    def _judge(self, kind: str, value: float, bound: float, snapshot: Snapshot) -> bool:
        """Update the course with a reading; return whether to raise the alarm now."""
        if not math.isfinite(value):  # `vitals` reports it
            return False
        step, age = snapshot.number, snapshot.number - snapshot.since
        best, when, bad, alarmed = self.courses[kind]
        if age < WARM_UP - PATIENCE or value > BETTER * best:  # early values do not count as the best
            best, when = value, step
        bad = bad + 1 if value < bound else 0
        now = not alarmed and bad >= 2 and age >= WARM_UP and step - when >= PATIENCE
        self.courses[kind] = Course(best, when, bad, now or (alarmed and value < AGAIN * bound))
        return now

    def _alarm(self, kind: str, values: Mapping[str, float], snapshot: Snapshot) -> Alarm:
        since = f"and that has not become better since step {self.courses[kind].step:,}"
        if kind == "grainy":
            shown = [f"{values['flat']:.0%} of their flat places"]
            shown += [f"{values['ground']:.0%} of their plain ground"] if "ground" in values else []
            message = (
                f"The samples are grainy: they have {values['grain']:.1f} times the noise of the real pictures and "
                f"{' and '.join(shown)}, {since}. Measures of 16×16 averages do not show it."
            )
        else:
            message = (
                f"The samples are blurred: they have {values['fine']:.0%} of the real pictures' fine detail, {since}."
            )
        return Alarm(kind, "warning", message, snapshot.advice(kind), values)

    def state(self) -> dict[str, Any]:
        return {kind: list(course) for kind, course in self.courses.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.courses = {
            kind: Course(*state[kind]) if kind in state else course for kind, course in self.courses.items()
        }
