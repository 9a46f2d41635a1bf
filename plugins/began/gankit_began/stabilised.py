"""Spectral normalisation and minibatch deviation, two options against collapse, both off by default."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization


class SpectralNorm(_SpectralNorm):
    """torch's W/σ(W), outside autocast: in bf16 σ has an error of half a percent, and on GPUs the types clash."""

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return super().forward(weight)


def spectrally_normalised(network: nn.Module) -> None:
    """Parametrise the weight of every linear and convolutional layer as W/σ(W), σ its largest singular value.

    Miyato, Kataoka, Koyama, Yoshida 2018, "Spectral Normalization for Generative Adversarial Networks" (arXiv
    1802.05957): a convolution's weight (C_out, C_in, h, w) counts as a matrix (C_out, C_in·h·w). Each pass in training
    mode makes one power iteration of the singular vectors, which are buffers, so checkpoints save them.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            register_parametrization(module, "weight", SpectralNorm(module.weight))


def with_deviation(features: Tensor) -> Tensor:
    """Features with the batch's mean deviation as one more channel: (B, C, H, W) -> (B, C + 1, H, W).

    Karras, Aila, Laine, Lehtinen 2018, "Progressive Growing of GANs" (arXiv 1710.10196), section 3: the standard
    deviation over the batch of each feature at each place, averaged to a single number. The group is the batch.
    """
    exact = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    deviation = (
        (exact.var(0, correction=0) + 1e-8).sqrt().mean().to(features.dtype)
    )  # 1e-8, because the root has no gradient at 0
    return torch.cat([features, deviation.expand(len(features), 1, *features.shape[2:])], 1)
