"""Wasserstein distances: between normal distributions by formula, between samples of numbers exactly.

W2 between normal distributions: Dowson and Landau 1982, "The Fréchet distance between multivariate normal
distributions".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def between_normals(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> Tensor:
    """W2² between two normal distributions: ‖m1 − m2‖² + tr(C1 + C2 − 2 (C2^½ C1 C2^½)^½).

    Means (D,), covariances (D, D), symmetric and positive semidefinite. Returns a 0-dim double ≥ 0 in the square of
    the values' unit. Raises ValueError where the shapes do not fit.
    """
    size = mean_1.numel()
    shapes = [tuple(argument.shape) for argument in (mean_1, mean_2, covariance_1, covariance_2)]
    if shapes != [(size,), (size,), (size, size), (size, size)]:
        raise ValueError(f"means (D,) and covariances (D, D) of one size D are needed, not {shapes}")
    m_1, c_1, m_2, c_2 = (argument.double() for argument in (mean_1, covariance_1, mean_2, covariance_2))
    values, vectors = torch.linalg.eigh(c_2)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # C2^½
    crossed = torch.linalg.eigvalsh(root @ c_1 @ root).clamp(min=0).sqrt().sum()  # the trace of the inner root
    return ((m_1 - m_2).square().sum() + c_1.trace() + c_2.trace() - 2 * crossed).clamp(min=0)


class Parts(NamedTuple):
    """W2² between two normal distributions on the line, and its two terms."""

    total: Tensor
    mean_term: Tensor  # (m1 − m2)²
    variance_term: Tensor  # c1 + c2 − 2√(c1 c2)


def between_normals_on_a_line(mean_1: Tensor, variance_1: Tensor, mean_2: Tensor, variance_2: Tensor) -> Parts:
    """W2² in one dimension, (m1 − m2)² + c1 + c2 − 2√(c1 c2), with both terms.

    All arguments are 0-dim or of one shape; so are the three doubles returned, ≥ 0, in the square of the values' unit.
    The variance term is computed as (√c1 − √c2)², which is equal and loses no digits.
    """
    mean_term = (mean_1.double() - mean_2.double()).square()
    variance_term = (variance_1.double().sqrt() - variance_2.double().sqrt()).square()
    return Parts(mean_term + variance_term, mean_term, variance_term)


def between_samples(a: Tensor, b: Tensor, order: int) -> Tensor:
    """The exact W1 or W2 (`order`) between the empirical distributions of two samples of numbers, (N,) and (M,).

    On the line the best coupling joins equal quantiles (Vallender 1974 for W1; Villani 2003, theorem 2.18).
    Returns a 0-dim double in the values' unit, not finite if a value is not. Raises ValueError for an empty sample,
    another shape or another order.
    """
    if a.ndim != 1 or b.ndim != 1 or not len(a) or not len(b):
        raise ValueError(f"two samples (N,) and (M,) are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
    if order not in (1, 2):
        raise ValueError(f"the order is 1 or 2, not {order}")
    n, m = len(a), len(b)
    # Where either quantile function jumps, in units of 1/(nm): both are constant between two jumps.
    jumps_a, jumps_b = torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n
    edges = torch.cat([jumps_a, jumps_b]).unique()
    weight = torch.diff(edges, prepend=edges.new_zeros(1)).double().to(a.device) / (n * m)
    left = a.double().sort().values[((edges - 1) // m).to(a.device)]
    right = b.double().sort().values[((edges - 1) // n).to(b.device)]
    return (weight * (left - right).abs() ** order).sum() ** (1 / order)
