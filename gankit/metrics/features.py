"""Features to compare pictures by that need no trained network."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pixels(pictures: Tensor, side: int = 16) -> Tensor:
    """Pictures (N, C, S, S) -> features (N, C·side²): area averages, in the pictures' range."""
    return F.adaptive_avg_pool2d(pictures, side).flatten(1)


def chroma(pictures: Tensor) -> Tensor:
    """Pictures (N, C, S, S) -> (N, C): each one's mean colour minus the mean over its channels; 0 for C = 1."""
    colour = pictures.mean((2, 3))
    return colour - colour.mean(1, keepdim=True)


class RandomConvolutions(nn.Module):
    """Pictures (N, C, S, S), S ≥ 8 -> features (N, 448): three convolutions with random weights from a fixed seed.

    Above S = 32 there are twice as many: those of the pictures averaged to 32, which show whole forms, then those at
    their own size, without which blur could not be seen.

    Each filter's weights sum to 0, so that plain areas give nothing and edges everything; without that, blurred
    pictures look like sharp ones (benchmarks/score.py). The features are each channel's mean and standard deviation
    over the picture at each scale, so form and texture count and place counts little. Random convolutions tell pictures
    apart: Saxe et al. 2011, "On Random Weights and Unsupervised Feature Learning".
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        stream = torch.Generator().manual_seed(17033110717)
        filters = (
            torch.randn(out, into, 3, 3, generator=stream) * (2 / (9 * into)) ** 0.5 for into, out in pairwise(widths)
        )
        self.weights = nn.ParameterList(
            nn.Parameter(one - one.mean((1, 2, 3), keepdim=True), requires_grad=False) for one in filters
        )

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-1] <= 32:
            return self._seen(pictures)
        own = torch.cat([self._seen(some) for some in pictures.split(64)])  # all at once would take gigabytes
        return torch.cat([self._seen(F.adaptive_avg_pool2d(pictures, 32)), own], dim=1)

    def _seen(self, x: Tensor) -> Tensor:
        features = []
        for weight in self.weights:
            x = F.relu(F.conv2d(x, weight, stride=2, padding=1))
            features += [x.mean((2, 3)), x.std((2, 3), correction=0)]
        return torch.cat(features, dim=1)
