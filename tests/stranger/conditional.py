"""A class-conditional GAN: both networks are told the label.

Mirza, Osindero 2014, "Conditional Generative Adversarial Nets" (arXiv 1411.1784). It needs data with labels:

gankit run conditional --plugin conditional.py --plugin ring.py --data ring
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, Losses, Model, NetworkPair, Step, UserError, hookimpl


class Told(nn.Module):
    """A dense network that is told a label: (B, …) and (B,) -> (B, *outputs)."""

    def __init__(self, inputs: int, classes: int, width: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(inputs + classes, width),
            nn.ELU(),
            nn.Linear(width, math.prod(outputs)),
            nn.Unflatten(1, outputs),
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.layers(torch.cat([x.flatten(1), F.one_hot(labels, self.classes).float()], dim=1))


class Conditional(Model):
    """A class-conditional non-saturating GAN."""

    name = "conditional"
    summary = "class-conditional GAN (arXiv 1411.1784), for data with labels"

    class Settings(gankit.Settings):
        latent: int = Field(4, ge=1, description="numbers in a latent")
        width: int = Field(32, ge=1, description="units of the hidden layers")

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        s, classes = self.settings, len(self.classes)
        if not classes:
            raise UserError(f"model {self.name!r} needs data with labels, and these have none")
        return {
            "generator": Told(s.latent, classes, s.width, self.shape),
            "discriminator": Told(math.prod(seen), classes, s.width, (1,)),
        }

    def latents(self, n: int, device: torch.device) -> Tensor:
        return torch.randn(n, self.settings.latent, device=device)

    def generate(self, networks: Mapping[str, Any], noise: Tensor, labels: Tensor | None) -> Tensor:
        return networks["generator"](noise, labels)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        score = networks["discriminator"](seen, labels).squeeze(1)
        return Judged(output=score, energy=-score)

    def losses(self, step: Step) -> Losses:
        real, fake = step.judged_real.output, step.judged_fake.output
        return Losses(
            {
                "discriminator": F.softplus(-real).mean() + F.softplus(fake).mean(),
                "generator": F.softplus(-fake).mean(),
            },
            {"energy/real": step.energy_real, "energy/fake": step.energy_fake},
        )


@hookimpl
def gankit_models() -> list[type[Model]]:
    return [Conditional]
