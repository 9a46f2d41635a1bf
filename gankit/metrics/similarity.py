"""MS-SSIM, the similarity of two pictures: Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity".

For a generator's diversity: Odena, Olah and Shlens 2017 (arXiv 1610.09585), section 4.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from the finest
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM of each picture of `a` with that of `b`, both (N, C, S, S) in [-1, 1]: (N,) in [0, 1], 1 for equal ones.

    Five scales need 176 pixels. Smaller pictures get as many as the window fits into (two at 32 pixels), with the
    weights scaled to add up to 1. Negative terms count as 0. The result is the mean over the channels.
    """
    x, y = (pictures.float().add(1).div(2) for pictures in (a, b))
    side = x.shape[-1]
    scales = max(1, sum(side // 2**scale >= WINDOW for scale in range(len(WEIGHTS))))
    weights = [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]
    window = _window(min(WINDOW, side - 1 + side % 2)).to(x)
    product = torch.ones(len(x), x.shape[1], device=x.device)
    for scale, weight in enumerate(weights):
        light, structure = _terms(x, y, window)
        last = scale == scales - 1
        product = product * ((light * structure if last else structure).mean((2, 3)).relu() ** weight)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(1)


def _terms(x: Tensor, y: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance term and the contrast-structure term at each place where the window fits."""
    stacked = torch.cat([x, y, x * x, y * y, x * y])
    channels = stacked.shape[1]
    rows, columns = (window.view(shape).expand(channels, 1, -1, -1) for shape in ((1, 1, -1, 1), (1, 1, 1, -1)))
    blurred = F.conv2d(F.conv2d(stacked, rows, groups=channels), columns, groups=channels)
    mean_x, mean_y, square_x, square_y, product = blurred.chunk(5)
    light = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    covariance = product - mean_x * mean_y
    structure = (2 * covariance + C2) / (square_x - mean_x**2 + square_y - mean_y**2 + C2)
    return light, structure


def _window(width: int) -> Tensor:
    places = torch.arange(width, dtype=torch.float) - (width - 1) / 2
    weights = torch.exp(-(places**2) / (2 * SIGMA**2))
    return weights / weights.sum()
