"""WGAN-GP: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, "Improved Training of Wasserstein GANs".

arXiv 1704.00028; Algorithm 1 and equation (3), with its λ, its updates of the critic and its Adam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import gankit
import torch
from gankit import Judged, Losses, Model, NetworkPair, Step, UserError
from pydantic import Field
from torch import Tensor, nn

Decay = Annotated[float, Field(ge=0, lt=1)]


class WganGp(Model):
    """Wasserstein GAN with gradient penalty: it keeps the norm of the critic's gradient near 1."""

    name = "wgan-gp"
    summary = "Wasserstein GAN with gradient penalty (arXiv 1704.00028)"
    shown = {"W": "wgan-gp/distance", "penalty": "wgan-gp/penalty"}

    class Settings(gankit.Settings):
        betas: tuple[Decay, Decay] = Field((0.0, 0.9), description="Adam's decay rates of both moments")
        critic_updates: int = Field(5, ge=1, description="n_critic: updates of the critic for one of the generator")
        penalty: float = Field(10.0, ge=0, description="λ, the weight of the gradient penalty")
        latent: int = Field(64, ge=1, description="numbers in a latent")
        filters: int = Field(32, ge=4, description="filters at half the picture's size; twice as many at each half")

    @property
    def updates(self) -> Sequence[Sequence[str]]:
        """Each update draws its own batch and latents."""
        return [("discriminator",)] * self.settings.critic_updates + [("generator",)]

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        """z -> pictures, and what the discriminator sees -> a score each."""
        if len(self.shape) != 3 or self.shape[1] not in (16, 32, 64, 128, 256):
            raise UserError(f"model {self.name!r} draws pictures of side 16, 32, 64, 128 or 256, not {self.shape}")
        channels, side, _ = self.shape
        halvings = (side // 4).bit_length() - 1  # of the side, down to 4×4
        widths = [self.settings.filters * 2**i for i in range(halvings)]
        discriminator: list[nn.Module] = []
        for a, b in zip([seen[0], *widths], widths, strict=False):
            discriminator += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        discriminator += [nn.Flatten(), nn.Linear(widths[-1] * 16, 1), nn.Flatten(0)]
        generator = [nn.Linear(self.settings.latent, widths[-1] * 16), nn.Unflatten(1, (widths[-1], 4, 4))]
        for a, b in zip(widths[::-1], [*widths[-2::-1], channels], strict=True):
            generator += [nn.BatchNorm2d(a), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, padding=1)]
        generator += [nn.Tanh()]
        return {"generator": nn.Sequential(*generator), "discriminator": nn.Sequential(*discriminator)}

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ N(0, 1), (n, N_z)."""
        return torch.randn(n, self.settings.latent, device=device)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        """A score (B,), high for pictures that look real."""
        return Judged(output=networks["discriminator"](seen))

    def losses(self, step: Step) -> Losses:
        """E[D(G(z))] − E[D(x)] + λ·penalty for the critic, −E[D(G(z))] for the generator."""
        if "generator" in step.updating:
            return Losses({"generator": -step.judged_fake.output.mean()})
        distance = step.judged_real.output.mean() - step.judged_fake.output.mean()
        penalty = self.gradient_penalty(step)
        return Losses(
            {"discriminator": -distance + self.settings.penalty * penalty},
            {"wgan-gp/distance": distance, "wgan-gp/penalty": penalty},
        )

    def gradient_penalty(self, step: Step) -> Tensor:
        """E[(‖∇D(x̂)‖₂ − 1)²], 0-dim, x̂ uniform on the line between a real and a generated picture."""
        real, fake = step.seen_real, step.seen_fake.detach()
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (share * real + (1 - share) * fake).requires_grad_()
        score = self.judge(step.networks, between, step.labels).output
        (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
