"""R3GAN: Huang, Gokaslan, Kuleshov, Tompkin 2024, "The GAN is dead; long live the GAN! A Modern Baseline GAN".

NeurIPS 2024, arXiv 2501.05441, the loss of section 2. The relativistic pairing is Jolicoeur-Martineau's (2018, arXiv
1807.00734); R1 and R2 are from Mescheder, Geiger, Nowozin 2018 (arXiv 1801.04406).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, Losses, Model, NetworkPair, Step, UserError
from gankit_r3gan.networks import Discriminator, Generator
from gankit_r3gan.schedule import fallen, length

Decay = Annotated[float, Field(ge=0, lt=1)]
SIDES = (16, 32, 64, 128, 256)


class R3GAN(Model):
    """A plain modern GAN: a relativistic loss over pairs of real and generated pictures, with R1 and R2.

    γ and the learning rates fall along a cosine over the run's length, or over --set schedule=STEPS, and stay there.
    """

    name = "r3gan"
    summary = "relativistic GAN with R1 and R2 on residual networks without normalisation (arXiv 2501.05441)"
    controllers = ("cosine",)
    shown = {"D(x)−D(G)": "r3gan/margin", "γ": "r3gan/gamma"}

    class Settings(gankit.Settings):
        learning_rate: float = Field(5e-4, gt=0, le=1e30, description="Adam's learning rate at the start")
        learning_rate_last: float = Field(
            0.25, ge=0, le=1, description="learning rates at the schedule's end, as a share of the first"
        )
        betas: tuple[Decay, Decay] = Field((0.0, 0.99), description="Adam's decay rates of both moments")
        gamma: float = Field(1.0, ge=0, le=1e30, description="γ of R1 and R2 at the start; 0 leaves them out")
        gamma_last: float = Field(0.4, ge=0, le=1, description="γ at the schedule's end, as a share of the first")
        schedule: int | None = Field(
            None, ge=1, description="steps over which γ and the learning rates fall; none: the run's length"
        )
        penalty_every: int = Field(
            4, ge=1, description="steps between two computations of R1 and R2, which multiply their weight"
        )
        latent: int = Field(64, ge=1, description="numbers in a latent")
        filters: int = Field(16, ge=4, description="n: channels at the picture's own size; 2n, 4n, then 8n below it")
        blocks: int = Field(1, ge=1, description="residual blocks at each resolution")
        updates: Literal["simultaneous", "alternating"] = Field(
            "alternating", description="the discriminator, then the generator, each on its own batch; or both at once"
        )

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        if len(self.shape) != 3 or self.shape[1] not in SIDES:
            raise UserError(
                f"model {self.name!r} draws pictures of side {', '.join(map(str, SIDES))}, not {self.shape}"
            )
        s, (channels, side, _) = self.settings, self.shape
        return {
            "generator": Generator(channels, side, s.latent, s.filters, s.blocks),
            "discriminator": Discriminator(seen[0], side, s.filters, s.blocks),
        }

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ N(0, 1)^N_z."""
        return torch.randn(n, self.settings.latent, device=device)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        """The score (B,), high for pictures that look real."""
        return Judged(output=networks["discriminator"](seen))

    def losses(self, step: Step) -> Losses:
        """E[f(D(x) − D(G(z)))] + γ/2·(R1 + R2) for D, E[f(D(G(z)) − D(x))] for G; f(t) = log(1 + e^(−t))."""
        losses: dict[str, Tensor] = {}
        readings: dict[str, Tensor] = {}
        s = self.settings
        if "discriminator" in step.updating:
            gamma = s.gamma * fallen(step.number, length(self), s.gamma_last)
            due = gamma > 0 and step.number % s.penalty_every == 0
            if due:
                pictures = [seen.detach().requires_grad_() for seen in (step.seen_real, step.seen_fake)]
                real, fake = (self.judge(step.networks, seen, step.labels).output for seen in pictures)
            else:
                real, fake = step.judged_real.output, step.judged_fake.output
            losses["discriminator"] = F.softplus(fake - real).mean()
            readings |= {"r3gan/margin": (real - fake).mean(), "r3gan/gamma": real.new_tensor(gamma)}
            if due:
                r1, r2 = slopes(real, fake, pictures)
                losses["discriminator"] = losses["discriminator"] + s.penalty_every * gamma / 2 * (r1 + r2)
                readings |= {"r3gan/r1": r1, "r3gan/r2": r2}
        if "generator" in step.updating:
            losses["generator"] = F.softplus(step.judged_real.output - step.judged_fake.output).mean()
        return Losses(losses, readings)


def slopes(real: Tensor, fake: Tensor, pictures: list[Tensor]) -> list[Tensor]:
    """R1 and R2: E[‖∇D‖²] at the real and at the generated pictures, both 0-dim and differentiable.

    `real` and `fake` (B,) are the scores of the two batches `pictures` (B, C, S, S).
    """
    gradients = torch.autograd.grad(real.sum() + fake.sum(), pictures, create_graph=True)
    return [each.square().flatten(1).sum(1).mean() for each in gradients]
