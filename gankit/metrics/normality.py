"""Whether numbers are normally distributed: a test, and quantiles for a plot."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST = 20  # numbers; with fewer the approximation behind the test is poor


def normality(values: Tensor) -> float:
    """The p-value, in [0, 1], of D'Agostino and Pearson's test (1973) on values (N,): small where they are not normal.

    It tests skewness and kurtosis together. NaN for fewer than 20 values, for equal values, and if one is not finite.
    """
    if len(values) < FEWEST or _degenerate(values):
        return math.nan
    from scipy.stats import normaltest  # slow to import

    return float(normaltest(_standardised(values).cpu().numpy()).pvalue)


def beside_normal(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Quantiles for a quantile plot: of the standard normal distribution, and of the standardised values (N,).

    Both are (count,), double, at the probabilities (i − ½)/count; a normal sample lies on the diagonal. The second is
    NaN for equal values, and if one is not finite.
    """
    probabilities = (torch.arange(count, dtype=torch.double) + 0.5) / count
    normal = torch.special.ndtri(probabilities)
    if _degenerate(values):
        return normal, torch.full_like(normal, math.nan)
    return normal, torch.quantile(_standardised(values).cpu(), probabilities)


def _degenerate(values: Tensor) -> bool:
    return not len(values) or not bool(values.isfinite().all()) or bool(values.min() == values.max())


def _standardised(values: Tensor) -> Tensor:
    exact = values.double()
    return (exact - exact.mean()) / exact.std(correction=0)
