"""A quick pair of networks for any model with an autoencoder as discriminator: strided down, resize-convolutions up.

It follows DCGAN and the text of EBGAN (arXiv 1609.03126, whose layer tables were not available to this project):
strided 4×4 convolutions with leaky ReLU down to 4×4, and back; a generator with batch normalisation and ReLU. The
discriminator has no batch normalisation, so that real and generated batches do not share statistics.

Two parts differ; docs/evidence/collapse.md compares both with the originals. Up-sampling: a transposed convolution
draws a checkerboard, and the discriminator's decoder draws the same one, so a generator that draws it lowers its
energy. Nearest-neighbour up-sampling followed by a convolution draws none (Odena, Dumoulin, Olah 2016, "Deconvolution
and Checkerboard Artifacts", Distill). The generator's input: a single linear layer can hardly bend a cube of latents
to the pictures' distribution; two hidden layers can, at little cost, as StyleGAN's mapping network does (Karras, Laine,
Aila 2019, arXiv 1812.04948).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gankit.config.values import Colour
from gankit.errors import UserError
from gankit.model import Judged, NetworkPair
from gankit.options import Options

COARSEST = 4  # the side of the smallest feature map


class ResizeConvolution(nn.Conv2d):
    """Nearest-neighbour up-sampling by 2, then a 3×3 convolution with padding 1: (B, C_in, H, W) -> (B, C, 2H, 2W).

    The weights are those of the 3×3 convolution. Up-sampling is a transposed convolution of stride 2 with a 2×2 kernel
    of ones, so both together are one transposed convolution, whose 4×4 kernel is the sum of the 3×3 kernel at four
    places. It computes the same numbers with 4 products each instead of 9, and without the large intermediate tensor.
    The sum is a matrix product, which takes a sixth of the time of adding shifted copies.
    """

    at_four_places: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        places = torch.zeros(3, 3, 4, 4)
        for y, x, down, right in product(range(3), range(3), range(2), range(2)):
            places[y, x, 2 - y + down, 2 - x + right] = 1  # flipped, as a transposed convolution has it
        self.register_buffer("at_four_places", places.view(9, 16), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bf16 would round before the sum
            rows = self.weight.permute(2, 3, 1, 0).flatten(2).flatten(0, 1)  # (9, C_in · C)
            kernel = (self.at_four_places.T @ rows).view(4, 4, -1, len(self.weight)).permute(2, 3, 0, 1)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class _Bounded(torch.autograd.Function):
    """min(max(x, low), high). Beyond a bound, the gradient passes only if descent moves x back inward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)  # type: ignore[arg-type]  # two numbers or two tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high), grad = ctx.saved_tensors, ctx.bounds, grads[0]
        outward = (x - x.clamp(low, high)) * grad < 0  # descent would move x further out
        return grad.masked_fill(outward, 0), None, None


class Opacity(nn.Module):
    """Colours and an opacity, (B, C + 1, S, S), over a plain ground -> pictures (B, C, S, S) in [-1, 1].

    A linear output comes near the colour of a plain ground but never equals it. Here an opacity of 0 is exactly the
    ground. Colours and opacity are clamped, with a gradient that leads values beyond a bound back inward. A picture
    without a ground has an opacity of 1.
    """

    ground: Tensor

    def __init__(self, ground: Sequence[float]) -> None:
        """`ground`: its colour, C numbers in [-1, 1]."""
        super().__init__()
        self.register_buffer("ground", torch.tensor(ground).view(-1, 1, 1), persistent=False)

    def parts(self, x: Tensor, low: Tensor | float = -1.0, high: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """The colours (B, C, S, S) in [low, high] and the opacity (B, 1, S, S) in [0, 1], about 0.5 at the start."""
        x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x  # bf16 is too coarse near white
        return _Bounded.apply(x[:, :-1], low, high), _Bounded.apply(x[:, -1:] + 0.5, 0.0, 1.0)

    def forward(self, x: Tensor, low: Tensor | float = -1.0, high: Tensor | float = 1.0) -> Tensor:
        colours, opacity = self.parts(x, low, high)
        return self.ground + opacity * (colours - self.ground)


class _Normalised(nn.BatchNorm1d):
    """Batch normalisation of features (B, N); a batch of one uses the running statistics, as it has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            return super().forward(x)
        except ValueError:  # torch's, for a batch of one. A part of one picture, of several processes, is none
            if not self.training or len(x) > 1:
                raise
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def _widths(size: int, filters: int) -> list[int]:
    """The filters after each down-sampling: n, 2n, 4n, then 8n."""
    return [filters * min(2**i, 8) for i in range((size // COARSEST).bit_length() - 1)]


class Upward(nn.Module):
    """Latent or code (B, N) -> picture (B, C, S, S).

    `mapping` hidden layers of 16n come first. With a `ground`, C numbers in [-1, 1], the output goes through `Opacity`;
    without, it is linear and unbounded, as in BEGAN's networks.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        latent: int,
        filters: int,
        normalise: bool,
        transposed: bool = False,
        mapping: int = 0,
        ground: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        widths = _widths(size, filters)[::-1]
        hidden: list[nn.Module] = []
        for inputs in [latent, *[16 * filters] * mapping][:-1]:
            hidden += [nn.Linear(inputs, 16 * filters), _Normalised(16 * filters), nn.ReLU()]
        self.mapping = nn.Sequential(*hidden)
        self.linear = nn.Linear(16 * filters if mapping else latent, widths[0] * COARSEST**2)

        def activation(width: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(width), nn.ReLU()] if normalise else [nn.LeakyReLU(0.2)]

        def larger(wide: int, narrow: int) -> nn.Module:
            if transposed:
                return nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
            return ResizeConvolution(wide, narrow)

        layers = activation(widths[0])
        for wide, narrow in pairwise(widths):
            layers += [larger(wide, narrow), *activation(narrow)]
        self.layers = nn.Sequential(*layers, larger(widths[-1], channels if ground is None else channels + 1))
        self.opacity = None if ground is None else Opacity(ground)

    def forward(self, code: Tensor, seen: Tensor | None = None) -> Tensor:
        """`seen`: the picture to reconstruct; a view may move its values out of [-1, 1], so it widens the bounds."""
        x = self.linear(self.mapping(code)).unflatten(1, (-1, COARSEST, COARSEST))
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        if self.opacity is None:
            return x
        if seen is None:
            return self.opacity(x)
        return self.opacity(x, seen.detach().min().clamp(max=-1), seen.detach().max().clamp(min=1))


class Autoencoder(nn.Module):
    """The discriminator: picture (B, C, S, S) -> `Judged` with the reconstruction and the code (B, N_h)."""

    def __init__(
        self,
        channels: int,
        size: int,
        latent: int,
        filters: int,
        transposed: bool = False,
        ground: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        widths = [channels, *_widths(size, filters)]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * COARSEST**2, latent))
        self.decoder = Upward(channels, size, latent, filters, normalise=False, transposed=transposed, ground=ground)

    def forward(self, x: Tensor) -> Judged:
        code = self.encoder(x)
        return Judged(output=self.decoder(code, x), code=code)


class StridedAutoencoderOptions(Options):
    absent = {"output": "linear"}

    filters: int = Field(32, ge=4, description="n: filters of the first convolution; then 2n, 4n, 8n")
    latent: int = Field(64, ge=1, description="N_z = N_h: numbers in a latent and in a code")
    upsampling: Literal["resize", "transposed"] = Field(
        "resize", description="nearest neighbour and a 3×3 convolution, or DCGAN's transposed 4×4 convolutions"
    )
    mapping: int = Field(2, ge=0, le=100, description="hidden layers of the generator before its first feature map")
    output: Literal["opacity", "linear"] = Field(
        "opacity", description="colours and an opacity laid over the run's --background, or plain numbers"
    )
    background: Colour = Field("#ffffff", description="what the opacity is laid over; by default the run's")


class StridedAutoencoder(NetworkPair[StridedAutoencoderOptions]):
    """A strided autoencoder and a DCGAN-like generator, for pictures of side 2^m from 16 to 256."""

    name = "strided-autoencoder"
    summary = "strided autoencoder and DCGAN-like generator, with resize-convolutions: quick"
    sizes = (16, 32, 64, 128, 256)
    gives = frozenset({"reconstruction", "code"})

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        o = self.options
        if len(shape) != 3:
            raise UserError(f"networks {self.name!r} draw pictures, and the data are points of shape {shape}")
        channels, size, _ = shape
        transposed = o.upsampling == "transposed"
        ground = _ground(o.background, channels) if o.output == "opacity" else None
        whole = seen[0] % channels == 0  # a view may stack several pictures
        shown = ground * (seen[0] // channels) if ground and whole else None
        return {
            "generator": Upward(channels, size, o.latent, o.filters, True, transposed, o.mapping, ground),
            "discriminator": Autoencoder(seen[0], size, o.latent, o.filters, transposed, shown),
        }


def _ground(background: str, channels: int) -> list[float]:
    """The colour `#rrggbb` in [-1, 1], one number for each channel; its grey if there are not three."""
    rgb = [int(background[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)]
    luma = sum(part * share for part, share in zip(rgb, (0.299, 0.587, 0.114), strict=True))
    return rgb if channels == 3 else [luma] * channels
