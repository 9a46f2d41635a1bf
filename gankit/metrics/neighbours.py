"""How two sets of feature vectors cover each other: balls around each point that reach its k-th nearest neighbour.

Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models" (arXiv 1904.06991);
Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models" (arXiv 2002.09797).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Shares in [0, 1], but for the density, which is 1 on average where both sets come from one distribution."""

    precision: float  # of the generated ones that lie in some real one's ball
    recall: float  # of the real ones that lie in some generated one's ball
    density: float  # real balls that a generated one lies in, in units of k
    coverage: float  # of the real ones with a generated one in their ball


def neighbours(real: Tensor, fake: Tensor, k: int = 5, real_reach: Tensor | None = None) -> Neighbours:
    """Compare features (N, D) of real pictures with those (M, D) of generated ones; N, M > k.

    `real_reach` is `reach(real, k)`, where it is known from before. All four depend on N, M and k: compare only what
    was measured with the same, and beside it real against real. Raises ValueError for too few.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"{len(real)} real and {len(fake)} generated: at least {k + 1} of each are needed")
    real, fake = real.double(), fake.double()  # in single precision the distances within a collapsed set are lost
    between = torch.cdist(real, fake)
    real_reach = reach(real, k) if real_reach is None else real_reach
    in_real = between <= real_reach[:, None]
    return Neighbours(
        precision=float(in_real.any(0).float().mean()),
        recall=float((between <= reach(fake, k)[None]).any(1).float().mean()),
        density=float(in_real.float().sum(0).mean() / k),
        coverage=float((between.amin(1) <= real_reach).float().mean()),
    )


def reach(points: Tensor, k: int) -> Tensor:
    """(N, D) -> (N,): the distance from each to its k-th nearest neighbour."""
    distances = torch.cdist(points.double(), points.double())
    distances.fill_diagonal_(float("inf"))
    return distances.kthvalue(k, dim=1).values


def mean_distance(features: Tensor) -> float:
    """Mean Euclidean distance between two different ones of features (N, D), N ≥ 2."""
    n, exact = len(features), "donot_use_mm_for_euclid_dist"
    between = torch.cdist(features, features, compute_mode=exact)  # `torch.pdist` is not there on every device
    return float(between.sum() / (n * (n - 1)))


def nearest(points: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For points (N, D) the distance to the nearest of `among` (M, D), and its place: (N,) and (N,)."""
    found = torch.cdist(points.double(), among.double()).min(1)
    return found.values, found.indices
