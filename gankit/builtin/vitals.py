"""A diagnostic of basic failures: losses that are not finite, energies that explode, learning rates that vanish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gankit.components import Alarm, Diagnostic, Reading, Snapshot
from gankit.model import DECISIVE
from gankit.options import Options

EXPLODED = 20.0  # an energy so many times the size at first has exploded: far above what any run of docs/evidence had
VANISHED = 0.01  # a learning rate of this share of its first: from there nothing changed, docs/evidence/collapse.md
LOST = "not-finite"
ENERGIES = ("energy/real", "energy/fake")
SCORE = 0.1  # an untrained network's output below this is a score around 0, not an energy
FINDS = 500  # steps in which a score finds its size,
GROWN = 1.0  # and further ones while it is smaller than this


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
        self.first = 0.0  # the size of the energies at first
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
        size, start = _size(snapshot.line), _size(snapshot.start)
        score = start <= SCORE
        growing = self.first <= GROWN and size <= EXPLODED * GROWN
        if score and (snapshot.number <= FINDS or not self.first or growing):
            self.first = max(self.first, size)
            return None
        if not self.first:  # of energies the first reading may already have exploded
            self.first = min(start, size) if size > SCORE else start
        for name in ENERGIES:
            value = snapshot.line.get(name, math.nan)
            if EXPLODED * max(self.first, GROWN if score else 0) < value < math.inf:
                return Alarm(
                    "exploded",
                    "critical",
                    f"{name} is {value:.3g}; at first the energies reached {self.first:.3g}: the training diverges.",
                    snapshot.advice("exploded"),
                    {name: value, "first": self.first},
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
        first = state["first"]
        if isinstance(first, Mapping):  # of an earlier version, by name
            first = max((float(one) for one in first.values() if one > SCORE), default=0.0)
        self.first, self.told = first, list(state["told"])


def _size(line: Mapping[str, float]) -> float:
    """The larger energy without its sign; 0 without any."""
    return max((abs(value) for name in ENERGIES if math.isfinite(value := line.get(name, math.nan))), default=0.0)
