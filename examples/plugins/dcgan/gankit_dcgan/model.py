"""The non-saturating GAN (Goodfellow et al. 2014) on DCGAN's networks, with the R1 penalty.

Mescheder, Geiger, Nowozin 2018, "Which Training Methods for GANs do actually Converge?" (arXiv 1801.04406).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Losses, Model, Step
from gankit_dcgan.networks import slopes


class DCGAN(Model):
    """DCGAN with the non-saturating loss and R1, which penalises the discriminator's gradient at real pictures."""

    name = "dcgan"
    summary = "non-saturating GAN with R1 on DCGAN's networks (arXiv 1511.06434, 1801.04406)"
    needs = frozenset({"score"})
    shown = {"D(x)": "dcgan/real", "D(G)": "dcgan/fake", "R1": "dcgan/r1"}

    class Settings(gankit.Settings):
        learning_rate: float = Field(2e-4, gt=0, le=1e30, description="Adam's learning rate")
        r1: float = Field(10.0, ge=0, description="γ, the weight of R1; 0 leaves it out")
        latent: int = Field(64, ge=1, description="numbers in a latent")
        filters: int = Field(32, ge=4, description="filters at half the picture's size; twice as many at each half")
        networks: str = Field("dcgan", description="the generator/discriminator pair, by name")
        updates: Literal["simultaneous", "alternating"] = Field(
            "alternating", description="the discriminator, then the generator, each on its own batch; or both at once"
        )

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ N(0, 1)^N_z."""
        return torch.randn(n, self.settings.latent, device=device)

    def losses(self, step: Step) -> Losses:
        """−E[log σ(D(x))] − E[log(1 − σ(D(G(z))))] + γ/2·E[‖∇D(x)‖²]; −E[log σ(D(G(z)))] for the generator."""
        losses: dict[str, Tensor] = {}
        readings: dict[str, Tensor] = {}
        if "discriminator" in step.updating:
            seen = step.seen_real.detach().requires_grad_()
            real = self.judge(step.networks, seen, step.labels).output
            fake = step.judged_fake.output
            losses["discriminator"] = F.softplus(-real).mean() + F.softplus(fake).mean()
            readings |= {"dcgan/real": real.sigmoid().mean(), "dcgan/fake": fake.sigmoid().mean()}
            if self.settings.r1:
                r1 = slopes(real, seen).mean()
                losses["discriminator"] = losses["discriminator"] + self.settings.r1 / 2 * r1
                readings["dcgan/r1"] = r1
        if "generator" in step.updating:
            losses["generator"] = F.softplus(-step.judged_fake.output).mean()
        return Losses(losses, readings)
