"""What a few paired runs can show: means, spreads, intervals of a difference, and when it may be called one.

Runs with the same seed see the same batches and latents, so models are compared seed by seed. The interval is the
bootstrap's (Efron 1979) of the paired differences' mean. With three seeds it spans no more than from the least
difference to the greatest, and leaves out 0 in one of four comparisons of a model with itself. So the word "better"
asks for Student's paired t-test as well, whose p-values are corrected for the number of measures (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

RISK = 0.05  # that one of the words "better" or "worse" for a pair of models is said where there is no difference


@dataclass(frozen=True)
class Difference:
    """Of two models in one measure: `mean` of the paired differences, its interval, and the p-value.

    `interval` is None and `p` is 1 where fewer than two pairs are there. `of` and `less` are the means of the two over
    the same pairs.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float
    pairs: int
    of: float
    less: float


def known(values: Sequence[float | None]) -> list[float]:
    """The values that are finite numbers."""
    return [value for value in values if value is not None and math.isfinite(value)]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known."""
    return fmean(known(values)) if known(values) else None


def spread(values: Sequence[float | None]) -> float | None:
    """The standard deviation over the seeds (with n − 1) of those that are known, or None for fewer than two."""
    return stdev(known(values)) if len(known(values)) > 1 else None


def interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean, the same at every call; None for fewer than two values."""
    import numpy as np
    from scipy.stats import bootstrap

    there = known(values)
    if len(there) < 2:
        return None
    if min(there) == max(there):
        return there[0], there[0]
    drawn = bootstrap((there,), np.mean, confidence_level=0.95, method="percentile", rng=np.random.default_rng(0))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def p_value(differences: Sequence[float], exact: bool = False) -> float:
    """Two-sided, of Student's t-test that the mean is 0; 1 for a single pair.

    Where all differences are the same, no spread is known for a t-test: coarse values may agree by chance. What is left
    is the sign test, 2 · 2⁻ⁿ; but where the values are `exact`, as of what no seed decides, the difference is certain.
    """
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or not any(differences):
        return 1.0
    if min(differences) == max(differences):
        return 0.0 if exact else 2.0 ** (1 - len(differences))
    return float(ttest_1samp(differences, 0.0).pvalue)


def difference(these: Sequence[float | None], others: Sequence[float | None], exact: bool = False) -> Difference | None:
    """These less the others, seed by seed; a pair with an unknown value is left out. None if no pair is left."""
    pairs = [(a, b) for a, b in zip(these, others, strict=True) if len(known((a, b))) == 2]
    if not pairs:
        return None
    of, less = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    found = [a - b for a, b in zip(of, less, strict=True)]
    return Difference(fmean(found), interval(found), p_value(found, exact), len(found), fmean(of), fmean(less))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected so that the risk of a single wrong word among all of them stays what it is for one."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    corrected, least = [0.0] * len(p_values), 0.0
    for place, n in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[n]))
        corrected[n] = least
    return corrected


def verdict(found: Difference, corrected: float, better: str) -> str:
    """ "better" | "worse" | "not distinguishable", of the first of the two; `better` is "higher" or "lower"."""
    inside = found.interval is None or found.interval[0] <= 0 <= found.interval[1]
    if corrected > RISK or inside:
        return "not distinguishable"
    return "better" if (found.mean > 0) == (better == "higher") else "worse"
