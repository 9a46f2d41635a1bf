"""A third network: an encoder that learns to find the latent of a generated item, beside an ordinary GAN.

The latent regressor of Donahue, Krähenbühl, Darrell 2016, "Adversarial Feature Learning" (arXiv 1605.09782), 4.1.
All three networks are updated at once, each by its own loss alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, Losses, Model, NetworkPair, Step, hookimpl


def dense(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """(B, …) -> (B, outputs)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ELU(), nn.Linear(width, outputs))


class LatentRegressor(Model):
    """A non-saturating GAN, and an encoder E trained on ‖z − E(G(z))‖²."""

    name = "latent-regressor"
    summary = "GAN with an encoder that finds the latents of generated items"
    shown = {"E": "latent-regressor/error"}

    class Settings(gankit.Settings):
        latent: int = Field(4, ge=1, description="numbers in a latent")
        width: int = Field(32, ge=1, description="units of the hidden layers")

    @property
    def updates(self) -> Sequence[Sequence[str]]:
        if self.settings.updates == "simultaneous":
            return [("generator", "discriminator", "encoder")]
        return [("discriminator",), ("generator", "encoder")]

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        s, size = self.settings, math.prod(self.shape)
        return {
            "generator": nn.Sequential(dense(s.latent, s.width, size), nn.Unflatten(1, self.shape)),
            "discriminator": dense(math.prod(seen), s.width, 1),
            "encoder": dense(size, s.width, s.latent),
        }

    def latents(self, n: int, device: torch.device) -> Tensor:
        return torch.randn(n, self.settings.latent, device=device)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        score = networks["discriminator"](seen).squeeze(1)
        return Judged(output=score, energy=-score)

    def losses(self, step: Step) -> Losses:
        losses, readings = {}, {}
        if "discriminator" in step.updating:
            readings |= {"energy/real": step.energy_real, "energy/fake": step.energy_fake}
            losses["discriminator"] = (
                F.softplus(-step.judged_real.output).mean() + F.softplus(step.judged_fake.output).mean()
            )
        if "generator" in step.updating:
            losses["generator"] = F.softplus(-step.judged_fake.output).mean()
        if "encoder" in step.updating:
            found = step.networks["encoder"](step.fake.detach())
            losses["encoder"] = (step.noise - found).square().mean()
            readings["latent-regressor/error"] = losses["encoder"]
        return Losses(losses, readings)


@hookimpl
def gankit_models() -> list[type[Model]]:
    return [LatentRegressor]
