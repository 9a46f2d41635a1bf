"""Distances between two sets of feature vectors: the kernel distance, which is unbiased, and the Fréchet distance.

Bińkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401); Heusel et al. 2017, "GANs Trained by a Two Time-Scale
Update Rule Converge to a Local Nash Equilibrium" (arXiv 1706.08500).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gankit.metrics.wasserstein import between_normals

BLOCKS = 20  # groups of each set, which the jackknife leaves out in turn


class Kernel(NamedTuple):
    """An unbiased estimate, which may be negative where the sets are alike, and its standard error."""

    value: float
    error: float


def kernel_distance(real: Tensor, fake: Tensor) -> Kernel:
    """KID: the squared maximum mean discrepancy between features (N, D) and (M, D) under the kernel (x·y/D + 1)³.

    It uses all pairs, not the mean over random subsets: the same expectation with less noise. The standard error is
    that of the delete-a-group jackknife (Efron and Tibshirani 1993, chapter 11) over both sets, whose rows must be in
    random order. Raises ValueError for fewer than four rows.
    """
    if min(len(real), len(fake)) < 4:
        raise ValueError(f"{len(real)} real and {len(fake)} generated: at least 4 of each are needed")
    x, y = real.double(), fake.double()
    blocks = [torch.arange(len(points)) % min(BLOCKS, len(points) // 2) for points in (x, y)]
    sizes = [torch.bincount(of).double() for of in blocks]
    sums = [_sums(x, blocks[0], x, blocks[0]), _sums(y, blocks[1], y, blocks[1]), _sums(x, blocks[0], y, blocks[1])]
    diagonal = _diagonal_sums(x, blocks[0]), _diagonal_sums(y, blocks[1])

    def estimate(x_kept: Tensor, y_kept: Tensor) -> Tensor:
        """The estimate from the blocks with weight 1."""
        n, m = x_kept @ sizes[0], y_kept @ sizes[1]
        among_x = (x_kept @ sums[0] @ x_kept - x_kept @ diagonal[0]) / (n * (n - 1))
        among_y = (y_kept @ sums[1] @ y_kept - y_kept @ diagonal[1]) / (m * (m - 1))
        return among_x + among_y - 2 * (x_kept @ sums[2] @ y_kept) / (n * m)

    ones = [torch.ones_like(size) for size in sizes]
    without_x = torch.stack([estimate(kept, ones[1]) for kept in 1 - torch.eye(len(sizes[0]), dtype=torch.double)])
    without_y = torch.stack([estimate(ones[0], kept) for kept in 1 - torch.eye(len(sizes[1]), dtype=torch.double)])
    variance = sum((len(left) - 1) * left.var(correction=0) for left in (without_x, without_y))
    return Kernel(float(estimate(*ones)), float(torch.as_tensor(variance).sqrt()))


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """W2² between the normal distributions with the moments of features (N, D) and (M, D); N, M ≥ 2.

    Biased: it falls as N and M grow, and is large for few pictures in many dimensions even from one distribution.
    Compare only distances of equal N and M, and look at real against real as well.
    """
    moments = [(points.double().mean(0), torch.cov(points.double().T)) for points in (real, fake)]
    return float(between_normals(*moments[0], *moments[1]))


def _kernel(dots: Tensor, dimensions: int) -> Tensor:
    return (dots / dimensions + 1) ** 3


def _sums(x: Tensor, x_blocks: Tensor, y: Tensor, y_blocks: Tensor) -> Tensor:
    """The kernel summed over all pairs of each block of x with each block of y."""
    sums = []
    for block in range(int(x_blocks.max()) + 1):
        rows = x[x_blocks == block].split(512)  # all pairs at once could fill the memory
        column = torch.stack([_kernel(some @ y.T, x.shape[1]).sum(0) for some in rows]).sum(0)
        sums.append(torch.bincount(y_blocks, column))
    return torch.stack(sums)


def _diagonal_sums(points: Tensor, blocks: Tensor) -> Tensor:
    """The kernel of each point with itself, summed within each block."""
    return torch.bincount(blocks, _kernel(points.square().sum(1), points.shape[1]))
