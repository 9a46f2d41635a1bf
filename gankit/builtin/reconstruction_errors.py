"""A diagnostic of reconstruction errors: whether BEGAN's simplification is sound in this run.

BEGAN (Berthelot, Schumm, Metz 2017, section 3.1) assumes that the errors of pictures are normally distributed, and
that their W2² is proportional to its mean term. This measures both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gankit.components import Alarm, Diagnostic, Reading, Snapshot
from gankit.errors import UserError
from gankit.metrics.normality import beside_normal, normality
from gankit.metrics.wasserstein import between_normals_on_a_line, between_samples
from gankit.model import Remedy
from gankit.options import Options

BATCH = 64  # pictures in one pass of D
QUANTILES = 25
SPLITS = 200  # random halves of the real errors
BY_CHANCE = 0.95  # the quantile of their distances
# Held-out errors so many times the others, three times in a row. Of 300 pictures they became 1.7 times as large
# (docs/evidence/collapse.md, "A small folder"), of thousands 1.0 (docs/evidence/pictures.md).
MEMORISED = 1.5


class ReconstructionErrorsOptions(Options):
    now_constant = {"memorised": MEMORISED}

    pictures: int = Field(96, ge=2, le=100_000, description="real pictures that are judged, and generated ones")


class ReconstructionErrors(Diagnostic[ReconstructionErrorsOptions]):
    """Energies of real and generated pictures, one number a picture: L(v) of BEGAN, the energy of any other model.

    The generated pictures come from the bare generator, not the averaged one, and are clipped to [-1, 1], unlike those
    in the losses. Both networks are in eval mode.

    Readings, each `reconstruction-errors/…`; m and c are mean and variance of a sample:

    real-mean, fake-mean, real-variance, fake-variance
    wasserstein                     W2 (not its square) between the normal distributions of these moments
    mean-term, variance-term        (m1 − m2)² and c1 + c2 − 2√(c1 c2): their sum is W2²
    ratio                           variance-term / mean-term, which the paper assumes to be constant
    empirical-w1, empirical-w2      between the samples themselves, without an assumed distribution
    real-halves                     the 95 % quantile of W2 between random halves of the real errors, from 4 pictures on
    real-normality, fake-normality  p-values of D'Agostino and Pearson's test, from 20 pictures on

    held-out-mean                   the mean of held-out pictures

    Variances are divided by n, so that `wasserstein` is a lower bound of `empirical-w2` (Gelbrich 1990), and equal
    to it only if the samples differ by shift and scale alone. An `empirical-w2` up to `real-halves` may be chance:
    halves lie some √2 times as far apart as whole samples of one distribution. An undefined reading is NaN.
    """

    name = "reconstruction-errors"
    summary = "are reconstruction errors normal, and does the difference of means stand for their distance"
    needs = frozenset({"energy"})
    every = 500  # under 1 % of the time of as many steps, measured on a CPU: docs/began.md

    def __init__(self, options: ReconstructionErrorsOptions) -> None:
        super().__init__(options)
        self.memorised = 0  # readings in a row with a large gap

    def read(self, snapshot: Snapshot) -> Reading:
        pictures = snapshot.real(self.options.pictures)
        real = energies(snapshot, pictures)
        fake = energies(snapshot, snapshot.generate(len(pictures), averaged=False))
        values, alarms = compare(real, fake), []
        held_out = snapshot.real(self.options.pictures, held_out=True)
        if len(held_out):
            values["held-out-mean"] = float(energies(snapshot, held_out).mean())
            gap = values["held-out-mean"] / max(values["real-mean"], 1e-12)
            self.memorised = self.memorised + 1 if gap > MEMORISED else 0
            if self.memorised == 3:
                alarms = [self._memorises(gap, values, snapshot)]
        return Reading(values, alarms, details=quantile_plot(real, fake))

    def _memorises(self, gap: float, values: dict[str, float], snapshot: Snapshot) -> Alarm:
        return Alarm(
            "memorises",
            "warning",
            f"The discriminator learns its pictures by heart: it reconstructs those it was never shown {gap:.1f} times "
            f"worse ({values['held-out-mean']:.3g} against {values['real-mean']:.3g}). More pictures give it more to "
            "learn.",
            [
                *snapshot.advice("memorises"),
                Remedy("each picture mirrored as well", new_run=True, flags_of_run=("--mirror",)),
            ],
            {name: values[name] for name in ("held-out-mean", "real-mean")},
        )

    def state(self) -> dict[str, Any]:
        return {"memorised": self.memorised}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.memorised = int(state.get("memorised", 0))


def energies(snapshot: Snapshot, pictures: Tensor) -> Tensor:
    """D's energy of each picture, (N,) double on the host. Raises UserError if D has no energy."""
    parts = [snapshot.judge(some).energy for some in pictures.split(BATCH)]
    known = [energy for energy in parts if energy is not None]
    if len(known) < len(parts):
        raise UserError(f"the discriminator of model {snapshot.model.name!r} gives no energy")
    return torch.cat(known).double().cpu()


def compare(real: Tensor, fake: Tensor) -> dict[str, float]:
    """The readings, by name, from two non-empty samples of errors (N,) and (M,)."""
    m_1, c_1 = real.mean(), real.var(correction=0)
    m_2, c_2 = fake.mean(), fake.var(correction=0)
    parts = between_normals_on_a_line(m_1, c_1, m_2, c_2)
    values = {
        "real-mean": m_1,
        "fake-mean": m_2,
        "real-variance": c_1,
        "fake-variance": c_2,
        "wasserstein": parts.total.sqrt(),
        "mean-term": parts.mean_term,
        "variance-term": parts.variance_term,
        "ratio": parts.variance_term / parts.mean_term if parts.mean_term > 0 else math.nan,
        "empirical-w1": between_samples(real, fake, 1),
        "empirical-w2": between_samples(real, fake, 2),
        "real-halves": between_halves(real),
        "real-normality": normality(real),
        "fake-normality": normality(fake),
    }
    return {name: float(value) for name, value in values.items()}


def between_halves(sample: Tensor) -> Tensor:
    """How far chance alone sets halves of a sample (N,) apart: a 0-dim double, NaN for fewer than 4 numbers.

    It is the 95 % quantile of W2 between two halves over 200 random splits (of more than 10,000 numbers fewer, at least
    20), which are the same ones every time.
    """
    half = len(sample) // 2
    if half < 2:
        return torch.tensor(math.nan, dtype=torch.double)
    random = torch.Generator().manual_seed(0)
    splits = min(SPLITS, max(20, 2_000_000 // len(sample)))
    order = torch.rand(splits, len(sample), generator=random).argsort(1)
    values = sample.double().cpu()[order]
    one, other = values[:, :half].sort(1).values, values[:, half : 2 * half].sort(1).values
    return (one - other).square().mean(1).sqrt().quantile(BY_CHANCE)


def quantile_plot(real: Tensor, fake: Tensor) -> dict[str, Any]:
    """Quantiles of both standardised samples (N,) and (M,), beside those of the standard normal distribution."""
    normal, real_quantiles = beside_normal(real, QUANTILES)
    _, fake_quantiles = beside_normal(fake, QUANTILES)
    plotted = {"normal": normal, "real": real_quantiles, "fake": fake_quantiles}
    return {"quantiles": {name: [round(v, 6) for v in values.tolist()] for name, values in plotted.items()}}
