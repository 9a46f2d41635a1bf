"""Statistics of a few paired runs: means, spreads, intervals of a difference, and its significance.

Runs with the same seed see the same batches and latents, so models are compared seed by seed. The interval is a
bootstrap interval (Efron 1979) of the mean paired difference. With three seeds it never exceeds the least and the
greatest difference, and excludes 0 in one of four comparisons of a model with itself. So the word "better" also needs
Student's paired t-test, with p-values corrected for the number of measures (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

RISK = 0.05  # of any "better" or "worse" for a pair of models without a difference


@dataclass(frozen=True)
class Difference:
    """The difference of two models in one measure: `mean` of the paired differences, its interval and p-value.

    With fewer than two pairs `interval` is None and `p` is 1. `of` and `less` are the two models' means over the pairs.
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
    """The mean of the known values."""
    return fmean(known(values)) if known(values) else None


def spread(values: Sequence[float | None]) -> float | None:
    """The standard deviation (with n − 1) of the known values over the seeds; None for fewer than two."""
    return stdev(known(values)) if len(known(values)) > 1 else None


def interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean, the same at every call; None for fewer than two values."""
    import numpy as np
    from scipy.stats import bootstrap

    finite = known(values)
    if len(finite) < 2:
        return None
    if min(finite) == max(finite):
        return finite[0], finite[0]
    result = bootstrap((finite,), np.mean, confidence_level=0.95, method="percentile", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def p_value(differences: Sequence[float], exact: bool = False) -> float:
    """The two-sided p-value of Student's t-test that the mean is 0; 1 for a single pair.

    Equal differences have no spread for a t-test: coarse values may agree by chance. The sign test then gives
    2 · 2⁻ⁿ. `exact` values do not depend on the seed, so that their difference is certain: 0.
    """
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or not any(differences):
        return 1.0
    if min(differences) == max(differences):
        return 0.0 if exact else 2.0 ** (1 - len(differences))
    return float(ttest_1samp(differences, 0.0).pvalue)


def difference(these: Sequence[float | None], others: Sequence[float | None], exact: bool = False) -> Difference | None:
    """`these` minus `others`, seed by seed, without pairs that have an unknown value; None if no pair is left."""
    pairs = [(a, b) for a, b in zip(these, others, strict=True) if len(known((a, b))) == 2]
    if not pairs:
        return None
    of, less = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    differences = [a - b for a, b in zip(of, less, strict=True)]
    return Difference(
        fmean(differences), interval(differences), p_value(differences, exact), len(differences), fmean(of), fmean(less)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm: the risk of any false positive among all is as for a single test."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    corrected, least = [0.0] * len(p_values), 0.0
    for place, n in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[n]))
        corrected[n] = least
    return corrected


def verdict(difference: Difference, corrected: float, better: str) -> str:
    """The first model is "better", "worse" or "not distinguishable"; `better` is "higher" or "lower"."""
    inside = difference.interval is None or difference.interval[0] <= 0 <= difference.interval[1]
    if corrected > RISK or inside:
        return "not distinguishable"
    return "better" if (difference.mean > 0) == (better == "higher") else "worse"
