"""NDB, the share of significantly different bins: Richardson and Weiss 2018, "On GANs and GMMs" (arXiv 1805.12462)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SIGNIFICANT = 0.05  # p-values below it are significant: some 5 % of the cells are by chance


class Bins(NamedTuple):
    """The k-means cells of a set of real points."""

    centres: Tensor  # (K, D), double
    share: Tensor  # (K,), double: the share of the real points in each cell
    points: int  # number of real points


def bins(real: Tensor, k: int) -> Bins:
    """The k cells of real features (N, D); fewer where fewer points differ. Raises ValueError for N < k."""
    from scipy.cluster.vq import kmeans2

    if len(real) < k:
        raise ValueError(f"{len(real)} real points for {k} bins: give as many at least")
    points = real.double().cpu().numpy()
    k = min(k, len(np.unique(points, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cell that loses its last point does no harm: its share is 0
        centres, cells = kmeans2(points, k, minit="++", seed=0, missing="warn")
    share = torch.bincount(torch.from_numpy(cells), minlength=k).double() / len(real)
    return Bins(torch.from_numpy(centres), share, len(real))


def different_bins(cells: Bins, fake: Tensor) -> float:
    """The share of cells, in [0, 1], that features (M, D), M ≥ 1, fill significantly more or less than the real ones.

    Each cell gets a two-sided z test of two proportions with a pooled estimate.
    """
    nearest = torch.cdist(fake.double().cpu(), cells.centres).argmin(1)
    count = len(fake)
    share = torch.bincount(nearest, minlength=len(cells.centres)).double() / count
    pooled = (share * count + cells.share * cells.points) / (count + cells.points)
    error = (pooled * (1 - pooled) * (1 / count + 1 / cells.points)).sqrt()
    z = (share - cells.share).abs() / error.clamp(min=1e-12)
    return float((torch.special.erfc(z / 2**0.5) < SIGNIFICANT).double().mean())
