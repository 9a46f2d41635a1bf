"""EBGAN's networks: strided 4×4 convolutions in the manner of DCGAN, down to 4×4.

The paper's layer tables could not be read for this project; these follow its text: an autoencoder of strided
convolutions with leaky ReLU, and a generator of transposed ones with batch normalisation and ReLU. The
discriminator has no batch normalisation, so that real and generated batches do not pass statistics to each other.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, NetworkPair, UserError

COARSEST = 4  # the side of the smallest feature map


def _widths(size: int, filters: int) -> list[int]:
    """Filters at each down-sampling: n, 2n, 4n, then 8n."""
    return [filters * min(2**i, 8) for i in range((size // COARSEST).bit_length() - 1)]


class Upward(nn.Module):
    """Latent or code (B, N) -> picture (B, C, S, S). The output is unbounded, as in BEGAN's networks."""

    def __init__(self, channels: int, size: int, latent: int, filters: int, normalise: bool) -> None:
        super().__init__()
        widths = _widths(size, filters)[::-1]
        self.linear = nn.Linear(latent, widths[0] * COARSEST**2)
        layers: list[nn.Module] = []

        def activation(width: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(width), nn.ReLU()] if normalise else [nn.LeakyReLU(0.2)]

        layers += activation(widths[0])
        for wide, narrow in pairwise(widths):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), *activation(narrow)]
        layers.append(nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        x = self.linear(code).unflatten(1, (-1, COARSEST, COARSEST))
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Autoencoder(nn.Module):
    """The discriminator: picture (B, C, S, S) -> `Judged` with the reconstruction and the code (B, N_h)."""

    def __init__(self, channels: int, size: int, latent: int, filters: int) -> None:
        super().__init__()
        widths = [channels, *_widths(size, filters)]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * COARSEST**2, latent))
        self.decoder = Upward(channels, size, latent, filters, normalise=False)

    def forward(self, x: Tensor) -> Judged:
        code = self.encoder(x)
        return Judged(output=self.decoder(code), code=code)


class EbganAutoencoder(NetworkPair):
    """A strided autoencoder and a DCGAN-like generator, for pictures of side 2^m from 16 to 256."""

    name = "ebgan-autoencoder"
    summary = "EBGAN's strided autoencoder and generator"
    sizes = (16, 32, 64, 128, 256)

    class Options(gankit.Options):
        filters: int = Field(32, ge=4, description="filters of the first convolution")
        latent: int = Field(64, ge=1, description="numbers in a latent and in a code")

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        o = self.options
        if len(shape) != 3:
            raise UserError(f"networks {self.name!r} draw pictures, and the data are points of shape {shape}")
        channels, size, _ = shape
        return {
            "generator": Upward(channels, size, o.latent, o.filters, normalise=True),
            "discriminator": Autoencoder(seen[0], size, o.latent, o.filters),
        }
