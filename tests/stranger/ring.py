"""Points instead of pictures: eight Gaussians on a ring, and dense networks for them.

gankit run began --plugin ring.py --data ring --set networks=dense --set latent=2
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Data, DataSource, Judged, NetworkPair, Request, UserError, hookimpl

MODES = 8


class Ring(DataSource):
    """Points (x, y) around eight places on the unit circle, labelled with the place: `--data ring` or `ring:COUNT`."""

    name = "ring"
    summary = "eight Gaussians on the unit circle, 1024 points (or ring:COUNT)"

    def open(self, argument: str | None, request: Request) -> Data:
        if argument is not None and not argument.isdigit():
            raise UserError(f"ring:{argument} is no number of points: write it like ring:500")
        count = int(argument or 1024)
        random = np.random.default_rng(8)
        labels = random.integers(0, MODES, count)
        angles = 2 * np.pi * labels / MODES
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1) + random.normal(0, 0.02, (count, 2))
        held = int(count * request.holdout)
        return Data(
            name="ring",
            train=points[held:].astype(np.float32),
            held_out=points[:held].astype(np.float32),
            digest=f"{count:x}",
            labels=labels[held:],
            held_out_labels=labels[:held],
            label_names=tuple(f"{360 * place // MODES} degrees" for place in range(MODES)),
        )


def dense(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two hidden layers: (B, inputs) -> (B, outputs)."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ELU(), nn.Linear(width, width), nn.ELU(), nn.Linear(width, outputs)
    )


class DenseAutoencoder(nn.Module):
    """Points (B, D) -> `Judged` with the reconstruction (B, D) and the code (B, N_h)."""

    def __init__(self, size: int, latent: int, width: int) -> None:
        super().__init__()
        self.encoder = dense(size, width, latent)
        self.decoder = dense(latent, width, size)

    def forward(self, points: Tensor) -> Judged:
        code = self.encoder(points)
        return Judged(output=self.decoder(code), code=code)


class Dense(NetworkPair):
    """A dense generator and a dense autoencoder, for points."""

    name = "dense"
    summary = "two hidden layers, for points"

    class Options(gankit.Options):
        latent: int = Field(2, ge=1, description="numbers in a latent and in a code")
        width: int = Field(32, ge=1, description="units of a hidden layer")

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        if len(shape) != 1:
            raise UserError(f"networks {self.name!r} are for points, and the data are pictures")
        o = self.options
        return {
            "generator": dense(o.latent, o.width, shape[0]),
            "discriminator": DenseAutoencoder(seen[0], o.latent, o.width),
        }


@hookimpl
def gankit_datasets() -> list[type[DataSource]]:
    return [Ring]


@hookimpl
def gankit_networks() -> list[type[NetworkPair]]:
    return [Dense]
