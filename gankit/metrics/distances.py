"""How far two sets of feature vectors lie apart: the kernel distance, which is unbiased, and the Fréchet distance.

Bińkowski et al. 2018, "Demystifying MMD GANs" (arXiv 1801.01401); Heusel et al. 2017, "GANs Trained by a Two Time-Scale
Update Rule Converge to a Local Nash Equilibrium" (arXiv 1706.08500).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gankit.metrics.wasserstein import between_normals

BLOCKS = 20  # that the jackknife leaves out in turn, of each set


class Kernel(NamedTuple):
    """An unbiased estimate, which may lie below 0 where the sets are alike, and its standard error."""

    value: float
    error: float


def kernel_distance(real: Tensor, fake: Tensor) -> Kernel:
    """KID: the squared maximum mean discrepancy between features (N, D) and (M, D) under the kernel (x·y/D + 1)³.

    All pairs of both sets, instead of the mean over random subsets: the same expectation with less noise. The standard
    error is that of the delete-a-group jackknife (Efron and Tibshirani 1993, chapter 11) over both sets, whose rows are
    taken to be in no order. Raises ValueError for fewer than four rows.
    """
    if min(len(real), len(fake)) < 4:
        raise ValueError(f"{len(real)} real and {len(fake)} generated: at least 4 of each are needed")
    x, y = (points.double() for points in (real, fake))
    x_blocks, y_blocks = (list(range(min(BLOCKS, len(points) // 2))) for points in (x, y))
    x_parts, y_parts = [x[b :: len(x_blocks)] for b in x_blocks], [y[b :: len(y_blocks)] for b in y_blocks]
    sums = _sums(x_parts, x_parts), _sums(y_parts, y_parts), _sums(x_parts, y_parts)
    alone = _themselves(x_parts), _themselves(y_parts)
    sizes = [torch.tensor([len(part) for part in parts], dtype=torch.double) for parts in (x_parts, y_parts)]

    def estimate(x_kept: Tensor, y_kept: Tensor) -> Tensor:
        """From the blocks with weight 1."""
        n, m = x_kept @ sizes[0], y_kept @ sizes[1]
        among_x = (x_kept @ sums[0] @ x_kept - x_kept @ alone[0]) / (n * (n - 1))
        among_y = (y_kept @ sums[1] @ y_kept - y_kept @ alone[1]) / (m * (m - 1))
        return among_x + among_y - 2 * (x_kept @ sums[2] @ y_kept) / (n * m)

    ones = [torch.ones(len(blocks), dtype=torch.double) for blocks in (x_blocks, y_blocks)]
    without_x = torch.stack([estimate(kept, ones[1]) for kept in 1 - torch.eye(len(x_blocks), dtype=torch.double)])
    without_y = torch.stack([estimate(ones[0], kept) for kept in 1 - torch.eye(len(y_blocks), dtype=torch.double)])
    variance = sum((len(left) - 1) * left.var(correction=0) for left in (without_x, without_y))
    return Kernel(float(estimate(*ones)), float(torch.as_tensor(variance).sqrt()))


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """W2² between the normal distributions with the moments of features (N, D) and (M, D).

    Biased: it falls as N and M grow, and few pictures in many dimensions lie far apart even where they are of one
    distribution. Compare only what was measured with the same numbers, and beside it real against real.
    """
    moments = [(points.double().mean(0), torch.cov(points.double().T)) for points in (real, fake)]
    return float(between_normals(*moments[0], *moments[1]))


def _kernel(dots: Tensor, dimensions: int) -> Tensor:
    return (dots / dimensions + 1) ** 3


def _sums(some: list[Tensor], others: list[Tensor]) -> Tensor:
    """The kernel summed over all pairs of each block of `some` with each of `others`."""
    return torch.stack(
        [torch.stack([_kernel(a @ b.T, a.shape[1]).sum() for b in others]) for a in some],
    )


def _themselves(blocks: list[Tensor]) -> Tensor:
    return torch.stack([_kernel(block.square().sum(1), block.shape[1]).sum() for block in blocks])
