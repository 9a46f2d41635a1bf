"""A critic beside the autoencoder, for edges and whole figures, which reconstruction errors do not enforce.

BEGAN's energy is low for everything that D reconstructs well, and it reconstructs soft pictures best. The autoencoder
keeps the variety and the balance; the critic decides which of two pictures looks real.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import LossTerm, Step, UserError

EVERY = 8  # steps between two penalties, each with eight times its weight
COARSEST, SMALLEST = 4, 8  # sides of the last feature map, and of the last convolution


class Scores(nn.Module):
    """Pictures (B, C, S, S), S ≥ 8 -> scores (B,), high for pictures that look real.

    A 3×3 convolution at each resolution, with doubling filters up to 8n, and 2×2 averages between them, because a
    stride leaves a grid in the gradient. No normalisation, so that a score depends on one picture only.
    """

    def __init__(self, channels: int, side: int, filters: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, wider = channels, filters
        while True:
            layers += [nn.Conv2d(width, wider, 3, padding=1), nn.LeakyReLU(0.2)]
            width = wider
            if side // 2 < SMALLEST:
                break
            side //= 2
            wider = min(2 * width, 8 * filters)
            layers.append(nn.AvgPool2d(2))
        layers += [nn.AdaptiveAvgPool2d(COARSEST), nn.Flatten(), nn.Linear(width * COARSEST**2, width)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures).squeeze(1)


def moved(pictures: Tensor, down: int, right: int) -> Tensor:
    """Pictures (B, C, S, S) moved by whole pixels; the border is repeated where they leave."""
    for dim, by in ((2, down), (3, right)):
        if by:
            places = torch.arange(pictures.shape[dim], device=pictures.device) - by
            pictures = pictures.index_select(dim, places.clamp(0, pictures.shape[dim] - 1))
    return pictures


class CriticOptions(gankit.Options):
    now_constant = {"every": EVERY}

    filters: int = Field(16, ge=1, description="of the critic's first convolution")
    translation: float = Field(
        0, ge=0, le=0.5, description="by how much of their side both batches are moved at most, anew at each step"
    )
    penalty: float = Field(1, ge=0, le=1e30, description="γ of both gradient penalties; 0: none")
    learning_rate: float = Field(1e-3, gt=0, le=1e30, description="the critic's, of Adam")


class Critic(LossTerm[CriticOptions]):
    """softplus(C(x) − C(G(z))), the mean over the batch: generated pictures should score as high as real ones.

    The critic C is the term's own network and minimises softplus(C(G(z)) − C(x)) + γ/2 (‖∇C(x)‖² + ‖∇C(G(z))‖²),
    for pairs of a real and a generated picture: the relativistic pairing and both gradient penalties of Huang,
    Gokaslan, Kuleshov, Tompkin 2024, "The GAN is dead; long live the GAN!" (R3GAN; NeurIPS, arXiv 2501.05441). The
    penalties are computed every eighth step with eight times their weight, as in StyleGAN2 (Karras and others 2019,
    arXiv 1912.04958). With a `translation` C sees the discriminator's input moved a little, both batches alike and
    differently at each step, so that it asks less for pixels at places of its own (Zhao, Liu, Lin, Zhu, Han 2020,
    "Differentiable Augmentation for Data-Efficient GAN Training", arXiv 2006.10738; here the border is repeated, and a
    step has one move, which depends on its number alone). The penalties are those of the pictures as they are.
    Measured in docs/evidence/pictures.md.
    """

    name = "critic"
    summary = "a small critic asks for edges and figures that look real (R3GAN's loss; try a weight of 0.1)"

    def build(self, seen: tuple[int, ...]) -> nn.Module:
        if len(seen) != 3:
            raise UserError(
                f"--loss {self.name}: it is for pictures, and the data are points of shape {seen}: --loss {self.name}=0"
            )
        return Scores(seen[0], min(seen[1:]), self.options.filters)

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam without momentum, as in R3GAN."""
        return torch.optim.Adam(parameters, lr=self.options.learning_rate, betas=(0.0, 0.99), fused=True)

    def __call__(self, step: Step) -> Tensor:
        """0-dim: log 2 if the critic cannot tell them apart."""
        real, fake = self.scores(step)
        return F.softplus(real.detach() - fake).mean()

    def own_loss(self, step: Step) -> Tensor:
        """The loss of C, 0-dim: log 2 if it cannot tell them apart, plus the penalties."""
        real, fake = self.scores(step)
        loss = F.softplus(fake - real).mean()
        if self.options.penalty and step.number % EVERY == 0:
            slopes = sum(self.slope(step, seen) for seen in (step.seen_real, step.seen_fake))
            loss = loss + self.options.penalty / 2 * EVERY * slopes
        return loss

    def scores(self, step: Step) -> tuple[Tensor, Tensor]:
        """The scores of the real and of the generated batch, (B,) each, computed once a step."""
        if self.name not in step.shared:
            critic, seen = step.networks[self.name], (step.seen_real, step.seen_fake)
            drawn = random.Random(step.number)  # so that all processes of a training move alike
            most = [math.ceil(self.options.translation * side) for side in seen[0].shape[2:]]
            down, right = (drawn.randint(-one, one) for one in most)
            step.shared[self.name] = tuple(critic(moved(pictures, down, right)) for pictures in seen)
        return step.shared[self.name]

    def slope(self, step: Step, seen: Tensor) -> Tensor:
        """‖∇C‖², the mean over the batch, 0-dim."""
        seen = seen.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(step.networks[self.name](seen).sum(), seen, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()
