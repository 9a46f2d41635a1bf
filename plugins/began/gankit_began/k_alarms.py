"""A diagnostic of BEGAN's balance: k at a bound or sinking to 0, or fakes that fall behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gankit
from gankit import Alarm, Diagnostic, Reading, Snapshot

PATIENCE = 2000  # steps at a bound, or of falling, before an alarm
SUNK = 0.5  # share of the greatest k, below which it sinks: docs/evidence/collapse.md, "The defaults before"
# L(G(z)) / L(x) above which fakes fall behind: 1.08 is well (the same section), 2 is not (docs/evidence/pictures.md).
OUTRUN = 1.5


class EquilibriumOptions(gankit.Options):
    now_constant = {"patience": PATIENCE, "sunk": SUNK, "outrun": OUTRUN}


class Equilibrium(Diagnostic[EquilibriumOptions]):
    """Reads the logged k and energies only, so it costs nothing. Each alarm must hold for 2,000 steps:

    k-at-0      k is 0: the discriminator no longer pushes fakes away. No alarm beside a critic, which does that
                instead, and neither is `k-sinks` (docs/evidence/pictures.md)
    k-at-1      k is 1, its largest value: the discriminator reconstructs fakes too well
    k-sinks     k is below half of its largest value: an early sign of narrowing samples
                (docs/evidence/collapse.md)
    outrun      the running mean of L(G(z)) / L(x) is above 1.5, and k is not 0: the discriminator pushes fakes
                away faster than the generator can follow, and samples grow noisy (the same page)
    """

    name = "equilibrium"
    summary = "k at a bound or sinking, an early sign of collapse; fakes that fall behind, one of noise"
    every = 100

    def __init__(self, options: EquilibriumOptions) -> None:
        super().__init__(options)
        self.most = 0.0
        self.ratio: float | None = None  # the running mean of L(G(z)) / L(x) over about ten readings
        self.since: dict[str, int] = {}  # condition -> the step since which it holds
        self.told: list[str] = []  # conditions with an alarm
        self.begun = 0  # the attempt's first step: other settings have another largest k

    def read(self, snapshot: Snapshot) -> Reading:
        k, step = snapshot.line.get("began/k"), snapshot.number
        if k is None or not {"energy/real", "energy/fake"} <= snapshot.line.keys():
            return Reading()
        if self.begun != snapshot.since:
            self.most, self.ratio, self.since, self.told, self.begun = 0.0, None, {}, [], snapshot.since
        self.most = max(self.most, k)
        ratio = snapshot.line["energy/fake"] / max(snapshot.line["energy/real"], 1e-9)
        self.ratio = 0.9 * (ratio if self.ratio is None else self.ratio) + 0.1 * ratio
        alone = "loss/critic" not in snapshot.line
        holds = {
            "k-at-0": alone and k <= 1e-6,
            "k-at-1": k >= 1 - 1e-6,
            "k-sinks": alone and k < SUNK * self.most,
            "outrun": k > 1e-6 and self.ratio > OUTRUN,
        }
        self.since = {kind: self.since.get(kind, step) for kind, true in holds.items() if true}
        lasting = [kind for kind, begun in self.since.items() if step - begun >= PATIENCE]
        new = [kind for kind in lasting if kind not in self.told and (kind != "k-sinks" or "k-at-0" not in lasting)]
        self.told = [kind for kind in self.told if kind in self.since] + new
        return Reading(alarms=[self._alarm(kind, k, snapshot) for kind in new], health=", ".join(lasting) or None)

    def _alarm(self, kind: str, k: float, snapshot: Snapshot) -> Alarm:
        real, fake = snapshot.line["energy/real"], snapshot.line["energy/fake"]
        energies = f"L(x) {real:.3g}, L(G(z)) {fake:.3g}, their ratio {fake / max(real, 1e-9):.2f}"
        steps = f"{PATIENCE:,} steps"
        message = {
            "k-at-0": f"k has been 0 for {steps} ({energies}): the generator cannot follow γL(x), and the "
            "discriminator no longer pushes its pictures away.",
            "k-at-1": f"k has been 1 for {steps} ({energies}): the discriminator reconstructs generated pictures "
            "better than γ asks for, and k can rise no further.",
            "k-sinks": f"k has sunk to {k:.3f} from {self.most:.3f} ({energies}): the discriminator becomes a better "
            "autoencoder than the generator can answer. Samples often narrow to smooth blobs in this state while "
            "every loss looks better than before.",
            "outrun": f"L(G(z)) has been more than {OUTRUN:g} times L(x) on average for {steps} (running mean "
            f"{self.ratio:.2f}; now {energies}), and k is still {k:.3g}: the discriminator knows the pictures ever "
            "better, pushes the generator's away faster than it can follow, and samples grow noisy. More steps will "
            "hardly help: the best samples may lie behind.",
        }[kind]
        return Alarm(kind, "warning", message, snapshot.advice(kind), {"k": k})

    def state(self) -> dict[str, Any]:
        return {"most": self.most, "ratio": self.ratio, "since": self.since, "told": self.told, "begun": self.begun}

    def restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
