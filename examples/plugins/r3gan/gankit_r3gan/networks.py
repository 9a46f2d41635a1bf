"""R3GAN's networks, small: residual blocks without normalisation, and a [1, 2, 1] filter at each change of resolution.

Huang, Gokaslan, Kuleshov, Tompkin 2024, "The GAN is dead; long live the GAN! A Modern Baseline GAN" (NeurIPS 2024,
arXiv 2501.05441), section 3, configuration E.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSEST = 4  # the side of the smallest feature map
EXPANSION = 2  # the inverted bottleneck: a block's 3×3 convolution has twice the channels of its input
GROUP = 16  # channels in a group of that convolution
SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # preserves the variance through it (He et al. 2015, arXiv 1502.01852)
LAYERS = 3  # convolutions in a block
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def widths(side: int, filters: int) -> list[int]:
    """Channels at each resolution from the picture's own down to 4×4: n, 2n, 4n, then 8n."""
    return [filters * min(2**i, 8) for i in range((side // COARSEST).bit_length())]


def drawn(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights N(0, gain² / fan-in); its bias is 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """x + f(x), f: 1×1 to twice the channels, 3×3 in groups of 16, 1×1 back: (B, C, H, W) -> the same shape.

    Initialised as in Fixup (Zhang, Dauphin, Ma 2019, arXiv 1901.09321): the last layer is 0, so that a block begins as
    the identity, and the others are scaled by L^(−1/(2m−2)), with L blocks in the network of m layers each.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        wide, gain = EXPANSION * channels, GAIN * blocks ** (-1 / (2 * LAYERS - 2))
        groups = wide // GROUP if wide % GROUP == 0 else 1
        self.layers = nn.Sequential(
            drawn(nn.Conv2d(channels, wide, 1), gain),
            nn.LeakyReLU(SLOPE),
            drawn(nn.Conv2d(wide, wide, 3, padding=1, groups=groups), gain),
            nn.LeakyReLU(SLOPE),
            drawn(nn.Conv2d(wide, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def halved(x: Tensor) -> Tensor:
    """Filter by [1, 2, 1] / 4 each way and take every second pixel: (B, C, 2H, 2W) -> (B, C, H, W).

    Edge pixels are repeated. Two 2×2 means in a row are that filter.
    """
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, stride=1), 2)


def doubled(x: Tensor) -> Tensor:
    """Insert zeros between the pixels and filter by [1, 2, 1] / 2 each way: (B, C, H, W) -> (B, C, 2H, 2W).

    So a new pixel is the mean of its neighbours; edge pixels are repeated.
    """
    height, width = x.shape[2:]
    larger = (2 * height + 1, 2 * width + 1)
    x = F.interpolate(F.pad(x, (0, 1, 0, 1), mode="replicate"), size=larger, mode="bilinear", align_corners=True)
    return x[..., :-1, :-1]


class Generator(nn.Module):
    """Latent (B, N_z) -> picture (B, C, S, S), unbounded: learnt 4×4 maps, scaled by a linear map of z, and upwards."""

    def __init__(self, channels: int, side: int, latent: int, filters: int, blocks: int) -> None:
        super().__init__()
        wide = widths(side, filters)[::-1]
        self.basis = nn.Parameter(torch.randn(wide[0], COARSEST, COARSEST))
        self.modulation = drawn(nn.Linear(latent, wide[0], bias=False))
        self.transitions = nn.ModuleList(drawn(nn.Conv2d(a, b, 1, bias=False)) for a, b in pairwise(wide))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width, blocks * len(wide)) for _ in range(blocks))) for width in wide
        )
        self.colours = drawn(nn.Conv2d(wide[-1], channels, 1, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        x = self.basis * self.modulation(z)[:, :, None, None]
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(doubled(transition(x)))
        return self.colours(x)


class Discriminator(nn.Module):
    """Picture (B, C, S, S) -> score (B,), high for pictures that look real: the generator's mirror image."""

    def __init__(self, channels: int, side: int, filters: int, blocks: int) -> None:
        super().__init__()
        wide = widths(side, filters)
        self.colours = drawn(nn.Conv2d(channels, wide[0], 1, bias=False))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width, blocks * len(wide)) for _ in range(blocks))) for width in wide
        )
        self.transitions = nn.ModuleList(drawn(nn.Conv2d(a, b, 1, bias=False)) for a, b in pairwise(wide))
        self.basis = nn.Parameter(torch.randn(wide[-1], COARSEST, COARSEST) / COARSEST)
        self.score = drawn(nn.Linear(wide[-1], 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.colours(x))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(halved(x)))
        return self.score((x * self.basis).sum((2, 3))).squeeze(1)
