"""A class-conditional GAN: Miyato, Koyama 2018, "cGANs with Projection Discriminator" (arXiv 1802.05637).

With the hinge loss and the spectral normalisation of that paper (Miyato et al. 2018, arXiv 1802.05957), on small
networks. The classes are the data's labels: in a folder of pictures, the subfolders.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import gankit
from gankit import Judged, Losses, Model, NetworkPair, Step, UserError

Decay = Annotated[float, Field(ge=0, lt=1)]


class ConditionalNorm(nn.Module):
    """Batch normalisation with a scale and a shift for each class: (B, C, H, W), (B,) -> (B, C, H, W)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.scale(labels)[:, :, None, None] * self.norm(x) + self.shift(labels)[:, :, None, None]


class Generator(nn.Module):
    """Latent (B, N_z) and class (B,) -> picture (B, C, S, S) in [-1, 1]."""

    def __init__(self, channels: int, halvings: int, latent: int, filters: int, classes: int) -> None:
        super().__init__()
        widths = [filters * 2**i for i in reversed(range(halvings))]
        self.first = nn.Sequential(nn.Linear(latent, widths[0] * 16), nn.Unflatten(1, (widths[0], 4, 4)))
        self.norms = nn.ModuleList(ConditionalNorm(width, classes) for width in widths)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, [*widths[1:], channels], strict=True)
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.first(z)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = convolution(F.interpolate(F.relu(norm(x, labels)), scale_factor=2.0))
        return torch.tanh(x)


class Discriminator(nn.Module):
    """Picture (B, C, S, S) and class (B,) -> `Judged` with the score ψ(φ(x)) + φ(x)·V_y, (B,); the code is φ(x)."""

    def __init__(self, channels: int, halvings: int, filters: int, classes: int) -> None:
        super().__init__()
        widths = [channels, *(filters * 2**i for i in range(halvings))]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Linear(widths[-1], 1))
        self.classes = spectral_norm(nn.Embedding(classes, widths[-1]))

    def forward(self, x: Tensor, labels: Tensor) -> Judged:
        features = self.features(x).sum((2, 3))
        return Judged(self.score(features).squeeze(1) + (features * self.classes(labels)).sum(1), code=features)


class ClassConditional(Model):
    """A class-conditional GAN. In a folder of pictures, each subfolder is a class."""

    name = "class-conditional"
    summary = "class-conditional GAN with a projection discriminator (arXiv 1802.05637), for data with labels"
    shown = {"D(x)": "class-conditional/real", "D(G)": "class-conditional/fake"}

    class Settings(gankit.Settings):
        learning_rate: float = Field(2e-4, gt=0, le=1e30, description="Adam's learning rate")
        betas: tuple[Decay, Decay] = Field((0.0, 0.9), description="Adam's decay rates of both moments")
        latent: int = Field(64, ge=1, description="numbers in a latent")
        filters: int = Field(32, ge=4, description="filters at half the picture's size; twice as many at each half")
        updates: Literal["simultaneous", "alternating"] = Field(
            "alternating", description="the discriminator, then the generator, each on its own batch; or both at once"
        )

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        if len(self.classes) < 2:
            raise UserError(
                f"model {self.name!r} needs data of two classes or more: put the pictures into one subfolder a class"
            )
        if len(self.shape) != 3 or self.shape[1] not in (16, 32, 64, 128, 256):
            raise UserError(f"model {self.name!r} draws pictures of side 16, 32, 64, 128 or 256, not {self.shape}")
        channels, side, _ = self.shape
        s, classes, halvings = self.settings, len(self.classes), (side // 4).bit_length() - 1
        return {
            "generator": Generator(channels, halvings, s.latent, s.filters, classes),
            "discriminator": Discriminator(seen[0], halvings, s.filters, classes),
        }

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ N(0, 1)^N_z."""
        return torch.randn(n, self.settings.latent, device=device)

    def generate(self, networks: Mapping[str, Any], noise: Tensor, labels: Tensor | None) -> Tensor:
        return networks["generator"](noise, labels)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        return networks["discriminator"](seen, labels)

    def losses(self, step: Step) -> Losses:
        """E[max(0, 1 − D(x, y))] + E[max(0, 1 + D(G(z, y), y))] for the discriminator, −E[D(G(z, y), y)] for G."""
        losses: dict[str, Tensor] = {}
        readings: dict[str, Tensor] = {}
        if "discriminator" in step.updating:
            real, fake = step.judged_real.output, step.judged_fake.output
            losses["discriminator"] = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            readings |= {"class-conditional/real": real.mean(), "class-conditional/fake": fake.mean()}
        if "generator" in step.updating:
            losses["generator"] = -step.judged_fake.output.mean()
        return Losses(losses, readings)
