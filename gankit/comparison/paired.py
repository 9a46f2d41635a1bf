"""Statistics of a few paired runs: means, spreads, intervals of a difference, and its significance.

Runs with the same seed see the same batches and latents, so models are compared seed by seed. The interval is Student's
of the mean paired difference. A bootstrap interval is too short for a few seeds: of 95 % it has 73 with three and 87
with eight. The word "better" needs the paired t-test after a correction for all tests of a comparison (Holm 1979), and
a difference that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

RISK = 0.05  # of any "better" or "worse" in a comparison of models without a difference
ROUNDING = 1e-6  # of the values, shares in float32 among them: differences nearer to one another are equal


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
    """Student's 95 % interval of the mean; None for fewer than two values."""
    from scipy.special import stdtrit  # Student's quantiles

    finite = known(values)
    if len(finite) < 2:
        return None
    middle, error = fmean(finite), stdev(finite) / math.sqrt(len(finite))
    half = float(stdtrit(len(finite) - 1, 0.975)) * error
    return middle - half, middle + half


def p_value(differences: Sequence[float], exact: bool = False, size: float = 0.0) -> float:
    """The two-sided p-value of Student's t-test that the mean is 0; 1 for a single pair.

    Equal differences have no spread for a t-test: coarse values may agree by chance. The sign test then gives
    2 · 2⁻ⁿ. `exact` values do not depend on the seed, so that their difference is certain: 0. `size` is that of the
    values behind the differences, whose rounding is no spread.
    """
    from scipy.special import stdtr  # Student's distribution

    rounding = ROUNDING * max(size, *map(abs, differences), 0.0)
    if len(differences) < 2 or max(map(abs, differences)) <= rounding:
        return 1.0
    if max(differences) - min(differences) <= rounding:
        return 0.0 if exact else 2.0 ** (1 - len(differences))
    t = fmean(differences) / (stdev(differences) / math.sqrt(len(differences)))
    return 2 * float(stdtr(len(differences) - 1, -abs(t)))


def pairs(these: Sequence[float | None], others: Sequence[float | None]) -> list[tuple[float, float]]:
    """The values of both sides, seed by seed, without pairs that have an unknown value."""
    known_ones = (known(pair) for pair in zip(these, others, strict=True))
    return [(float(pair[0]), float(pair[1])) for pair in known_ones if len(pair) == 2]


def difference(these: Sequence[float | None], others: Sequence[float | None], exact: bool = False) -> Difference | None:
    """`these` minus `others`, seed by seed, without pairs that have an unknown value; None if no pair is left."""
    both = pairs(these, others)
    if not both:
        return None
    of, less = zip(*both, strict=True)
    differences = [a - b for a, b in zip(of, less, strict=True)]
    p = p_value(differences, exact, max(map(abs, [*of, *less])))
    return Difference(fmean(differences), interval(differences), p, len(differences), fmean(of), fmean(less))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm: the risk of any false positive among all is as for a single test."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    corrected, least = [0.0] * len(p_values), 0.0
    for place, n in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[n]))
        corrected[n] = least
    return corrected


def verdict(difference: Difference, corrected: float, better: str, worth: float = 0.0) -> str:
    """The first model is "better", "worse" or "not distinguishable"; `better` is "higher" or "lower".

    A difference below `worth`, a share of the larger mean, is none that matters.
    """
    small = abs(difference.mean) < worth * max(abs(difference.of), abs(difference.less))
    if corrected > RISK or small or difference.pairs < 2:
        return "not distinguishable"
    return "better" if (difference.mean > 0) == (better == "higher") else "worse"
