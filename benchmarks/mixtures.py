"""Points instead of pictures: two mixtures of Gaussians, and dense networks for them. A one-file plugin.

gankit run began --plugin benchmarks/mixtures.py --data ring --set networks=dense --set latent=2 --loss critic=0
"""

from __future__ import annotations

import hashlib
from itertools import pairwise, product
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Data, DataSource, Judged, NetworkPair, Request, UserError, hookimpl


class Mixture(DataSource):
    """Points (x, y) around `centres` (M, 2), equally many of each on average; the label is the centre's number.

    In the units of the protocol (Lin, Khetan, Fanti, Oh 2018, "PacGAN"; their published code), not scaled.
    """

    centres: ClassVar[np.ndarray]
    sigma: ClassVar[float]  # standard deviation of a Gaussian along each axis

    def open(self, argument: str | None, request: Request) -> Data:
        if argument is not None and not argument.isdigit():
            raise UserError(f"{self.name}:{argument} is no number of points: write it like {self.name}:500")
        count = int(argument or 100_000)
        random = np.random.default_rng(8)
        labels = random.integers(0, len(self.centres), count)
        points = (self.centres[labels] + random.normal(0, self.sigma, (count, 2))).astype(np.float32)
        held = int(count * request.holdout)
        return Data(
            name=self.name,
            train=points[held:],
            held_out=points[:held],
            digest=hashlib.sha256(points.tobytes()).hexdigest(),
            labels=labels[held:],
            label_names=tuple(f"({x:.3g}, {y:.3g})" for x, y in self.centres),
        )


class Ring(Mixture):
    """Eight places on the unit circle, σ = 0.01: `--data ring` or `ring:COUNT`."""

    name = "ring"
    summary = "eight Gaussians on the unit circle, 100,000 points (or ring:COUNT)"
    centres = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
    sigma = 0.01


class Grid(Mixture):
    """Five by five places at a distance of 2, from −4 to 4, σ = 0.05: `--data grid` or `grid:COUNT`."""

    name = "grid"
    summary = "five by five Gaussians at a distance of 2, 100,000 points (or grid:COUNT)"
    centres = np.array(list(product(range(-4, 5, 2), repeat=2)), dtype=float)
    sigma = 0.05


ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}


def dense(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers (B, sizes[0]) -> (B, sizes[-1]) with an activation after each but the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class DenseAutoencoder(nn.Module):
    """Points (B, D) -> `Judged` with the reconstruction (B, D) and the code (B, N_h)."""

    def __init__(self, size: int, code: int, hidden: list[int], activation: str) -> None:
        super().__init__()
        self.encoder = dense([size, *hidden, code], activation)
        self.decoder = dense([code, *hidden, size], activation)

    def forward(self, points: Tensor) -> Judged:
        code = self.encoder(points)
        return Judged(output=self.decoder(code), code=code)


class Dense(NetworkPair):
    """A dense generator and a dense autoencoder, for points; the generator is a decoder with its own weights."""

    name = "dense"
    summary = "hidden layers of one width, for points"
    gives = frozenset({"reconstruction", "code"})

    class Options(gankit.Options):
        latent: int = Field(2, ge=1, description="numbers in a latent and in a code")
        width: int = Field(32, ge=1, description="units of a hidden layer")
        depth: int = Field(2, ge=0, description="hidden layers of the generator, of the encoder and of the decoder")
        activation: Literal["elu", "relu", "tanh"] = Field("elu", description="after each hidden layer")

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        if len(shape) != 1:
            raise UserError(f"networks {self.name!r} are for points, and the data are pictures")
        o = self.options
        hidden = [o.width] * o.depth
        return {
            "generator": dense([o.latent, *hidden, shape[0]], o.activation),
            "discriminator": DenseAutoencoder(seen[0], o.latent, hidden, o.activation),
        }


@hookimpl
def gankit_datasets() -> list[type[DataSource]]:
    return [Ring, Grid]


@hookimpl
def gankit_networks() -> list[type[NetworkPair]]:
    return [Dense]
