"""BEGAN's networks: an autoencoder as discriminator, and a generator with its decoder's architecture.

Berthelot, Schumm, Metz 2017 (arXiv 1703.10717), section 3.4 from memory, and the first author's generic GAN code:
3×3 convolutions with ELU, two at each resolution but none in the encoder's 8×8; the encoder's filters grow linearly
(n, 2n, 3n …) with each down-sampling, the decoder keeps n; nearest-neighbour up-sampling; down to 8×8; a linear layer
without non-linearity to and from the code. Down-sampling is interpreted as 2×2 averaging and a 1×1 convolution without
ELU to the new number of filters, which gives the paper's 17.3 M parameters (both networks, 128×128, n = 128, skip
connections).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, NetworkPair, UserError
from gankit_began.stabilised import spectrally_normalised, with_deviation

COARSEST = 8  # the side of the smallest feature map
FEW = 64  # with fewer filters, a ResizeConvolution is not faster on a CPU (benchmarks/results)
CARRY_STEPS = 16_000  # vanishing residuals: steps over which carry falls from 1 to 0 (the paper, from memory)


class _Elu(torch.autograd.Function):
    """ELU by `exp` instead of `expm1`, which takes six times as long on CPUs (a third of a step)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        half = x.dtype in (torch.bfloat16, torch.float16)
        low = x.float().clamp_(max=0) if half else x.clamp(max=0)  # in place: a second large tensor is slower
        out = torch.maximum(x, low.exp_().sub_(1).to(x.dtype))  # exp(x) − 1 ≥ x
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.elu_backward(grads[0], 1.0, 1.0, 1.0, True, out)


def elu(x: Tensor) -> Tensor:
    """max(x, exp(min(x, 0)) − 1), with the shape and type of `x`."""
    return _Elu.apply(x) if x.device.type == "cpu" else F.elu(x)


class Convolutions(nn.Module):
    """3×3 convolutions with ELU. (B, C_in, H, W) -> (B, C, H, W).

    With vanishing residuals, a convolution with equal input and output shapes returns carry · in + (1 − carry) · out;
    carry falls from 1 to 0.
    """

    carry: Tensor

    def __init__(
        self, inputs: int, filters: int, repeat: int = 2, vanishing: bool = False, enlarge: bool = False
    ) -> None:
        """`enlarge`: first up-sample the input by 2, nearest neighbour."""
        super().__init__()
        at_once = enlarge and inputs >= FEW and not (vanishing and inputs == filters)  # the latter needs the larger x
        first = gankit.ResizeConvolution(inputs, filters) if at_once else nn.Conv2d(inputs, filters, 3, padding=1)
        others = (nn.Conv2d(filters, filters, 3, padding=1) for _ in range(repeat - 1))
        self.layers = nn.ModuleList([first, *others])
        self.enlarge = enlarge and not at_once
        self.vanishing = vanishing
        self.register_buffer("carry", torch.ones(()))

    def at_step(self, number: int) -> None:
        """Set the carry for step `number`, counted from 1."""
        if self.vanishing:
            self.carry.fill_(max(0.0, 1.0 - (number - 1) / CARRY_STEPS))

    def forward(self, x: Tensor) -> Tensor:
        if self.enlarge:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        for layer in self.layers:
            out = elu(layer(x))
            if self.vanishing and out.shape == x.shape:
                out = out + self.carry.to(out.dtype) * (x - out)
            x = out
        return x


class Decoder(nn.Module):
    """Code (B, N_h) -> picture (B, C, S, S), unbounded. BEGAN's generator has the same architecture.

    With skip connections, h0, the first 8×8×n tensor, is up-sampled and concatenated after every up-sampling.
    """

    def __init__(self, channels: int, size: int, latent: int, filters: int, skip: bool, vanishing: bool) -> None:
        super().__init__()
        self.filters, self.skip = filters, skip
        self.linear = nn.Linear(latent, filters * COARSEST**2)
        scales = (size // COARSEST).bit_length()
        self.blocks = nn.ModuleList(
            Convolutions(2 * filters if skip and i else filters, filters, vanishing=vanishing, enlarge=i > 0)
            for i in range(scales)
        )
        self.picture = nn.Conv2d(filters, channels, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        h0 = self.linear(code).unflatten(1, (self.filters, COARSEST, COARSEST))
        h0 = h0.contiguous(memory_format=torch.channels_last)
        x = self.blocks[0](h0)
        for block in self.blocks[1:]:
            if self.skip:  # before the up-sampling: the same numbers with a quarter of the copying
                x = torch.cat([x, F.interpolate(h0, size=x.shape[-2:], mode="nearest")], dim=1)
            x = block(x)
        return self.picture(x)


class Encoder(nn.Module):
    """Picture (B, C, S, S) -> code (B, N_h). `deviation` adds the batch's standard deviation as a feature."""

    def __init__(
        self, channels: int, size: int, latent: int, filters: int, vanishing: bool, deviation: bool = False
    ) -> None:
        super().__init__()
        self.deviation = deviation
        self.first = nn.Conv2d(channels, filters, 3, padding=1)
        scales = (size // COARSEST).bit_length() - 1
        self.blocks = nn.ModuleList(
            Convolutions(i * filters, i * filters, vanishing=vanishing) for i in range(1, scales + 1)
        )
        self.wider = nn.ModuleList(nn.Conv2d(i * filters, (i + 1) * filters, 1) for i in range(1, scales + 1))
        self.linear = nn.Linear(((scales + 1) * filters + deviation) * COARSEST**2, latent)

    def forward(self, x: Tensor) -> Tensor:
        x = elu(self.first(x))
        for block, wider in zip(self.blocks, self.wider, strict=True):
            x = wider(F.avg_pool2d(block(x), 2))
        if self.deviation:
            x = with_deviation(x)
        return self.linear(x.flatten(1))


class Autoencoder(nn.Module):
    """The discriminator: picture (B, C, S, S) -> `Judged` with the reconstruction and the code (B, N_h)."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Judged:
        code = self.encoder(x)
        return Judged(output=self.decoder(code), code=code)


class BeganAutoencoderOptions(gankit.Options):
    filters: int = Field(16, ge=4, description="n: filters of the first convolution")
    latent: int = Field(64, ge=1, description="N_z = N_h: numbers in a latent and in a code")
    skip_connections: bool = Field(True, description="h0 up-sampled and concatenated after every up-sampling")
    vanishing_residuals: bool = Field(
        False, description=f"convolutions start as the identity, over {CARRY_STEPS:,} steps"
    )
    minibatch_deviation: bool = Field(
        False, description="the encoder also gets its batch's standard deviation; real and generated batches apart"
    )
    spectral_normalisation: Literal["discriminator", "generator", "both"] | None = Field(
        None, description="whose weights are divided by their largest singular value"
    )


class BeganAutoencoder(NetworkPair[BeganAutoencoderOptions]):
    """The paper's generator and autoencoder discriminator, for pictures of side 8·2^m from 16 to 256."""

    name = "began-autoencoder"
    summary = "BEGAN's convolutional autoencoder and generator"
    sizes = (16, 32, 64, 128, 256)
    gives = frozenset({"reconstruction", "code"})
    for_comparison = True

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        o = self.options
        if len(shape) != 3:
            raise UserError(f"networks {self.name!r} draw pictures, and the data are points of shape {shape}")
        channels, size, _ = shape

        def decoder(to: int) -> Decoder:
            return Decoder(to, size, o.latent, o.filters, o.skip_connections, o.vanishing_residuals)

        encoder = Encoder(seen[0], size, o.latent, o.filters, o.vanishing_residuals, o.minibatch_deviation)
        networks: dict[str, nn.Module] = {
            "generator": decoder(channels),
            "discriminator": Autoencoder(encoder, decoder(seen[0])),
        }
        for name, network in networks.items():
            if o.spectral_normalisation in (name, "both"):
                spectrally_normalised(network)
        return networks


class _WithEdges(torch.autograd.Function):
    """mean |e| + w (mean |∂_x e| + mean |∂_y e|) of e (B, C, S, S): (B,). Autograd alone takes twice as long back."""

    @staticmethod
    def forward(ctx: Any, error: Tensor, edges: float) -> Tensor:
        parts = error, error.diff(dim=-1), error.diff(dim=-2)
        ctx.save_for_backward(*parts)
        ctx.edges = edges
        at, across, down = (part.abs().flatten(1).mean(1) for part in parts)
        return at + edges * (across + down)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        parts = ctx.saved_tensors
        weights = 1.0, ctx.edges, ctx.edges
        slopes = [
            part.sgn() * (grads[0] * (weight / part[0].numel())).view(-1, 1, 1, 1)
            for part, weight in zip(parts, weights, strict=True)
        ]
        slope, across, down = slopes
        slope[..., 1:] += across
        slope[..., :-1] -= across
        slope[..., 1:, :] += down
        slope[..., :-1, :] -= down
        return slope, None


def pixel_error(error: Tensor, eta: int = 1, edges: float = 0) -> Tensor:
    """|e|^η + w |∂_x e|^η + w |∂_y e|^η for `edges` w, each a mean over its pixels: (B, C, S, S) -> (B,).

    With differences between neighbouring pixels a constant error over an area costs less than grain or soft edges of
    the same size. The gradient difference loss against blur is that of Mathieu, Couprie, LeCun 2015, "Deep multi-scale
    video prediction beyond mean square error" (arXiv 1511.05440), from memory. `edges` has no effect on points (B, D).
    """

    def size(e: Tensor) -> Tensor:
        return (e.abs() if eta == 1 else e.square()).flatten(1).mean(1)

    if not edges or error.ndim != 4:
        return size(error)
    if eta == 1:
        return _WithEdges.apply(error, edges)
    return size(error) + edges * (size(error.diff(dim=-1)) + size(error.diff(dim=-2)))


def reconstruction_error(seen: Tensor, judged: Judged, eta: int = 1, edges: float = 0) -> Tensor:
    """L(v) = |v − D(v)|^η, the mean over pixels: (B, C, S, S) -> (B,). BEGAN's autoencoder loss.

    `edges` w adds the errors of differences between neighbours: the `pixel_error` of v − D(v) over 1 + w. For points
    (B, D), which have no neighbours, w has no effect.
    """
    error = seen - judged.output
    return pixel_error(error, eta, edges) / (1 + edges if error.ndim == 4 else 1)
