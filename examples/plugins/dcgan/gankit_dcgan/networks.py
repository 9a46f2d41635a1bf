"""DCGAN's networks: Radford, Metz, Chintala 2015 (arXiv 1511.06434)."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, NetworkPair, UserError


class Discriminator(nn.Module):
    """Picture (B, C, S, S) -> `Judged` with the logit (B,), by convolutions of stride 2 down to 4×4.

    Without the paper's batch normalisation, because R1 needs the gradient at each picture separately.
    """

    def __init__(self, channels: int, halvings: int, filters: int) -> None:
        super().__init__()
        widths = [channels, *(filters * 2**i for i in range(halvings))]
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)) for a, b in pairwise(widths))
        )
        self.logit = nn.Linear(widths[-1] * 16, 1)

    def forward(self, x: Tensor) -> Judged:
        return Judged(output=self.logit(self.blocks(x).flatten(1)).squeeze(1))


def generator(channels: int, halvings: int, latent: int, filters: int) -> nn.Module:
    """Latent (B, N_z) -> picture (B, C, S, S) in [-1, 1], by transposed convolutions from 4×4."""
    widths = [filters * 2**i for i in reversed(range(halvings))]
    layers: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1)), nn.ConvTranspose2d(latent, widths[0], 4, bias=False)]
    for a, b in zip(widths, [*widths[1:], channels], strict=True):
        layers += [nn.BatchNorm2d(a), nn.ReLU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


class DCGANPairOptions(gankit.Options):
    filters: int = Field(32, ge=4, description="filters at half the picture's size; twice as many at each half")
    latent: int = Field(64, ge=1, description="numbers in a latent")


class DCGANPair(NetworkPair[DCGANPairOptions]):
    """DCGAN's generator and discriminator, with its initial weights, for pictures of side 16 to 256."""

    name = "dcgan"
    summary = "DCGAN's convolutional networks"
    sizes = (16, 32, 64, 128, 256)
    gives = frozenset({"score"})

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        if len(shape) != 3:
            raise UserError(f"networks {self.name!r} draw pictures, and the data are points of shape {shape}")
        channels, side, _ = shape
        halvings, o = (side // 4).bit_length() - 1, self.options
        networks = {
            "generator": generator(channels, halvings, o.latent, o.filters),
            "discriminator": Discriminator(seen[0], halvings, o.filters),
        }
        for module in (m for network in networks.values() for m in network.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
        return networks


def slopes(logits: Tensor, pictures: Tensor) -> Tensor:
    """‖∇D(x)‖² at each picture: (B,) and (B, C, S, S) -> (B,), differentiable."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1)
