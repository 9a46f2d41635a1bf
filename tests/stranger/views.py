"""What the discriminator is shown: several pictures at once, or pictures changed at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import gankit
from gankit import UserError, View, hookimpl


class Packing(View):
    """PacGAN: m items at a time, so that a lack of variety is to be seen.

    Lin, Khetan, Fanti, Oh 2018, "PacGAN: The power of two samples in GANs" (arXiv 1712.04086).
    """

    name = "packing"
    summary = "shows the discriminator several pictures at once (PacGAN)"

    class Options(gankit.Options):
        m: int = Field(2, ge=1, description="pictures shown at once; the batch must be a multiple of it")

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, *rest = shape
        return (self.options.m * channels, *rest)

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, …) -> (B/m, m·C, …): m items one after the other are concatenated on their channels."""
        m = self.options.m
        if len(batch) % m:
            raise UserError(f"--view packing: a batch of {len(batch)} is no multiple of packing.m={m}")
        return batch.unflatten(0, (-1, m)).flatten(1, 2)


class Shaking(View):
    """Brightness and place at random, differentiably, for real and generated pictures alike.

    After Zhao, Liu, Lin, Zhu, Han 2020, "Differentiable Augmentation for Data-Efficient GAN Training"
    (arXiv 2006.10738).
    """

    name = "shaking"
    summary = "random brightness and translation of what the discriminator sees (DiffAugment)"

    class Options(gankit.Options):
        brightness: float = Field(0.5, ge=0, description="width of the range of what is added to a picture")
        translation: float = Field(0.125, ge=0, lt=1, description="largest shift, as a share of the picture's side")

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, S, S) -> the same shape; each picture is shaken on its own."""
        n, _, side, _ = batch.shape
        device = batch.device
        batch = batch + (torch.rand(n, 1, 1, 1, device=device) - 0.5) * self.options.brightness
        most = round(side * self.options.translation)
        padded = F.pad(batch, [most] * 4, value=1.0)
        down, right = torch.randint(0, 2 * most + 1, (2, n, 1), device=device)
        places = torch.arange(side, device=device)
        picture = torch.arange(n, device=device)[:, None, None]
        return padded[picture, :, (places + down)[:, :, None], (places + right)[:, None, :]].permute(0, 3, 1, 2)


@hookimpl
def gankit_views() -> list[type[View]]:
    return [Packing, Shaking]
