"""How two sets of feature vectors cover each other: balls around each point that reach its k-th nearest neighbour.

Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models" (arXiv 1904.06991);
Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models" (arXiv 2002.09797);
Salvy et al. 2026, "Enhanced Generative Model Evaluation with Clipped Density and Coverage" (arXiv 2507.01761).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Shares in [0, 1]; the density is ≥ 0, and 1 on average for two sets from one distribution."""

    precision: float  # share of generated points in at least one real point's ball
    recall: float  # share of real points in at least one generated point's ball
    density: float  # mean number of real balls around a generated point, divided by k
    coverage: float  # share of real points with a generated point in their ball


def neighbours(
    real: Tensor, fake: Tensor, k: int = 5, real_reach: Tensor | None = None, between: Tensor | None = None
) -> Neighbours:
    """Compare features (N, D) of real pictures with those (M, D) of generated ones; N, M > k.

    `real_reach`: `reach(real, k)`, and `between`: `distances(real, fake)`, if already computed. All four depend on N, M
    and k: compare only values of the same three, and look at real against real as well. Raises ValueError for N or
    M ≤ k, and where a number is not finite.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"{len(real)} real and {len(fake)} generated: at least {k + 1} of each are needed")
    between = distances(real, fake) if between is None else between
    real_reach = reach(real, k) if real_reach is None else real_reach
    in_real = between <= real_reach[:, None]
    return Neighbours(
        precision=float(in_real.any(0).float().mean()),
        recall=float((between <= reach(fake, k)[None]).any(1).float().mean()),
        density=float(in_real.float().sum(0).mean() / k),
        coverage=float((between.amin(1) <= real_reach).float().mean()),
    )


def clipped_density(
    real: Tensor, fake: Tensor, k: int = 5, real_reach: Tensor | None = None, between: Tensor | None = None
) -> float:
    """Clipped Density, in [0, 1], of generated features (M, D): 1 for real ones, and falling with bad ones.

    No ball is larger than the median one, so that no outlier's ball takes everything in; a sample counts for at most
    1, so that samples in the crowd make up for no others; and the value is over that of the real features (N, D),
    N > k, themselves. Arguments as those of `neighbours`.
    """
    real_reach = reach(real, k) if real_reach is None else real_reach
    between = distances(real, fake) if between is None else between
    radii = real_reach.clamp(max=float(real_reach.median()))[:, None]
    among = distances(real, real).fill_diagonal_(float("inf"))
    of_fake, of_real = (((far <= radii).sum(0) / k).clamp(max=1).mean() for far in (between, among))
    return float((of_fake / of_real).clamp(max=1))


def clipped_coverage(
    real: Tensor, fake: Tensor, k: int = 5, real_reach: Tensor | None = None, between: Tensor | None = None
) -> float:
    """Clipped Coverage, in [0, 1], of generated features (M, D): 1 for real ones, and falling with bad ones.

    A real point counts as covered by the number of samples in its ball over k, at most 1. That mean is not linear in
    the good samples, so the value is the share of `fake` that, if real, would have it: see `covered`. Arguments as
    those of `neighbours`; N, the number of real features, is above k.
    """
    real_reach = reach(real, k) if real_reach is None else real_reach
    inside = (distances(real, fake) if between is None else between) <= real_reach[:, None]
    mean = float((inside.sum(1) / k).clamp(max=1).double().mean())
    among = covered(len(real), len(fake), k)
    above = int(torch.searchsorted(among, mean))
    if above in (0, len(among)):
        return float(above > 0)
    low, high = float(among[above - 1]), float(among[above])
    return (above - 1 + (mean - low) / (high - low)) / len(fake)


def covered(real: int, most: int, k: int) -> Tensor:
    """(most + 1,): the expected value of min(n / k, 1) for n of 0 to `most` more points in the ball of one of `real`.

    A ball that just reaches the k-th of the other points has a probability with the distribution Beta(k, real − k),
    whatever the points' own distribution is. So n is beta-binomial.
    """
    m, i = torch.arange(most + 1, dtype=torch.float64)[:, None], torch.arange(k, dtype=torch.float64)
    g = torch.lgamma
    beta = g(k + i) + g(real - k + m - i) - g(real + m)  # of k + i and real − k + m − i
    whole = math.lgamma(k) + math.lgamma(real - k) - math.lgamma(real)
    ways = g(m + 1) - g(i + 1) - g((m - i + 1).clamp(min=1))
    chance = torch.where(m >= i, (ways + beta - whole).exp(), 0)  # that n is i
    return 1 - (chance * (1 - i / k)).sum(1)


def distances(real: Tensor, fake: Tensor) -> Tensor:
    """(N, D), (M, D) -> (N, M), in double precision: in single those within a collapsed set are lost.

    Raises ValueError where a number is not finite: it would lie in no ball, unseen.
    """
    if not (bool(real.isfinite().all()) and bool(fake.isfinite().all())):
        raise ValueError("a feature is not finite: compare pictures without NaN")
    return torch.cdist(real.double(), fake.double())


def reach(points: Tensor, k: int) -> Tensor:
    """(N, D) -> (N,): the distance from each point to its k-th nearest neighbour, k < N."""
    return distances(points, points).fill_diagonal_(float("inf")).kthvalue(k, dim=1).values


def mean_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of different rows of features (N, D), N ≥ 2."""
    n, exact = len(features), "donot_use_mm_for_euclid_dist"
    between = torch.cdist(features, features, compute_mode=exact)  # not every device has `torch.pdist`
    return float(between.sum() / (n * (n - 1)))


def nearest(points: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For each of points (N, D), the distance to the nearest of `among` (M, D) and its index: (N,) and (N,)."""
    minimum = distances(points, among).min(1)
    return minimum.values, minimum.indices
