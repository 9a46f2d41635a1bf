"""A view: noise on the discriminator's input, which fades out."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import View


class InstanceNoiseOptions(gankit.Options):
    deviation: float = Field(0.1, ge=0, le=2, description="standard deviation at the first step; white − black is 2")
    steps: int = Field(5000, ge=1, description="steps until it is 0")


class InstanceNoise(View[InstanceNoiseOptions]):
    """Normal noise on real and generated pictures, which hides small differences from D and fades out.

    Sønderby, Caballero, Theis, Shi, Huszár 2016, "Amortised MAP Inference for Image Super-resolution" (arXiv
    1610.04490); Arjovsky, Bottou 2017 (arXiv 1701.04862) explain it. The deviation falls linearly to 0.
    """

    name = "instance-noise"
    summary = "noise on what the discriminator sees, which fades out (arXiv 1610.04490)"

    def __init__(self, options: InstanceNoiseOptions) -> None:
        super().__init__(options)
        self.deviation = options.deviation

    def at_step(self, number: int) -> None:
        self.deviation = self.options.deviation * max(0.0, 1 - (number - 1) / self.options.steps)

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, …) -> the same shape."""
        return batch + self.deviation * torch.randn_like(batch) if self.deviation else batch
