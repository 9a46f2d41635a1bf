"""WGAN-GP: five updates of the critic with a gradient penalty, then one of the generator.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, "Improved Training of Wasserstein GANs" (arXiv 1704.00028).
The networks are small dense ones, for points or tiny pictures.

gankit run wgan-gp --plugin wgan_gp.py --data demo --image-size 16
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, Losses, Model, NetworkPair, Step, hookimpl


def dense(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """One hidden layer: (B, inputs) -> (B, outputs)."""
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


class WGANGP(Model):
    """Wasserstein GAN with gradient penalty: the critic's slope is held at 1 between real and generated points."""

    name = "wgan-gp"
    summary = "Wasserstein GAN with gradient penalty (arXiv 1704.00028)"
    shown = {"W": "wgan-gp/wasserstein"}

    class Settings(gankit.Settings):
        betas: tuple[float, float] = Field((0.0, 0.9), description="Adam's decay rates of both moments")
        latent: int = Field(8, ge=1, description="numbers in a latent")
        width: int = Field(32, ge=1, description="units of the hidden layers")
        critic_updates: int = Field(5, ge=1, description="updates of the critic for each of the generator")
        penalty: float = Field(10.0, ge=0, description="weight of the gradient penalty")

    @property
    def updates(self) -> Sequence[Sequence[str]]:
        """Each update draws its own batch and latents."""
        return [("discriminator",)] * self.settings.critic_updates + [("generator",)]

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        s = self.settings
        return {
            "generator": nn.Sequential(dense(s.latent, s.width, math.prod(self.shape)), nn.Unflatten(1, self.shape)),
            "discriminator": nn.Sequential(nn.Flatten(), dense(math.prod(seen), s.width, 1), nn.Flatten(0)),
        }

    def latents(self, n: int, device: torch.device) -> Tensor:
        return torch.randn(n, self.settings.latent, device=device)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        """The score (B,) is high for what looks real; the energy is low."""
        score = networks["discriminator"](seen)
        return Judged(output=score, energy=-score)

    def losses(self, step: Step) -> Losses:
        if "generator" in step.updating:
            return Losses({"generator": step.energy_fake})
        distance = step.energy_fake - step.energy_real
        penalty = self.gradient_penalty(step)
        return Losses(
            {"discriminator": -distance + self.settings.penalty * penalty},
            {
                "energy/real": step.energy_real,
                "energy/fake": step.energy_fake,
                "wgan-gp/wasserstein": distance,
                "wgan-gp/penalty": penalty,
            },
        )

    def gradient_penalty(self, step: Step) -> Tensor:
        """E[(‖∇_x̂ D(x̂)‖ − 1)²] where x̂ lies between a real and a generated item: the critic is asked once more."""
        real, fake = step.seen_real, step.seen_fake.detach()
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(step.networks["discriminator"](between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@hookimpl
def gankit_models() -> list[type[Model]]:
    return [WGANGP]
