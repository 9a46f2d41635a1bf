"""A diagnostic of basic failures: losses that are not finite, energies that explode, learning rates that vanish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gankit.components import Alarm, Diagnostic, Reading, Snapshot
from gankit.model import DECISIVE
from gankit.options import Options

EXPLODED = 20.0  # an energy so many times its first reading has exploded: far above what any run of docs/evidence had
VANISHED = 0.01  # a learning rate of this share of its first: from there nothing changed, docs/evidence/collapse.md
LOST = "not-finite"
SCORE = 0.1  # an untrained network's output below this is a score around 0, not an energy


def lost(what: str, snapshot: Snapshot, many: bool = False) -> Alarm:
    """The alarm that `what`, in words, is no longer finite."""
    told = f"{what} {'are' if many else 'is'} no longer finite: the weights are lost."
    return Alarm(LOST, "critical", f"{told} The checkpoints from before are kept.", snapshot.advice(LOST))


class VitalsOptions(Options):
    now_constant = {"exploded": EXPLODED, "vanished": VANISHED}


class Vitals(Diagnostic[VitalsOptions]):
    """Reads the logged numbers only, so it costs nothing."""

    name = "vitals"
    summary = "losses and energies that are not finite, energies that explode, learning rates that vanish"
    every = 50

    def __init__(self, options: VitalsOptions) -> None:
        super().__init__(options)
        self.first: dict[str, float] = {}
        self.told: list[str] = []

    def read(self, snapshot: Snapshot) -> Reading:
        checks = (self._not_finite(snapshot), self._exploded(snapshot), self._vanished(snapshot))
        alarms = [alarm for alarm in checks if alarm]
        new = [alarm for alarm in alarms if alarm.kind not in self.told]
        self.told = [alarm.kind for alarm in alarms]
        return Reading(
            alarms=new,
            health=alarms[0].kind if alarms else "numbers ok",
            healthy=not any(alarm.severity == "critical" for alarm in alarms),
        )

    def _not_finite(self, snapshot: Snapshot) -> Alarm | None:
        values = {name: value for name, value in snapshot.line.items() if name.startswith(DECISIVE)}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        return lost(", ".join(broken), snapshot, many=len(broken) > 1) if broken else None

    def _exploded(self, snapshot: Snapshot) -> Alarm | None:
        for name in ("energy/real", "energy/fake"):
            value = snapshot.line.get(name)
            if value is None or not math.isfinite(value):
                continue
            # A score can be negative and begin near 0; the first reading of an energy may already have exploded.
            start = abs(snapshot.start.get(name, math.inf))
            first = self.first.setdefault(name, max(min(abs(value), start if start > SCORE else math.inf), 1e-3))
            if value > EXPLODED * first:
                times = f"{value / first:.0f} times its first reading"
                if first == start:
                    times = f"{value / start:.0f} times that of the untrained networks"
                return Alarm(
                    "exploded",
                    "critical",
                    f"{name} is {value:.3g}, {times}: the training diverges.",
                    snapshot.advice("exploded"),
                    {name: value, "first": first},
                )
        return None

    def _vanished(self, snapshot: Snapshot) -> Alarm | None:
        for name, value in snapshot.line.items():
            network = name.removeprefix("learning_rate/")
            if network == name:
                continue
            first = snapshot.start[name] if name in snapshot.start else snapshot.model.learning_rate(network)
            if value > VANISHED * first:
                continue
            return Alarm(
                "rate-vanished",
                "warning",
                f"{name} has come down to {value:.3g}, {value / first:.2g} of its "
                "first: the training is as good as over. What it has learnt stays, and more steps change little.",
                snapshot.advice("rate-vanished"),
                {name: value, "first": first},
            )
        return None

    def state(self) -> dict[str, Any]:
        return {"first": self.first, "told": self.told}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.first, self.told = dict(state["first"]), list(state["told"])
