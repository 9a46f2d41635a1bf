"""The core's views: several pictures at once, or randomly augmented pictures."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from gankit.components import View
from gankit.errors import UserError
from gankit.options import Options


class PackingOptions(Options):
    m: int = Field(2, ge=1, description="pictures shown at once; the batch must be a multiple of it")


class Packing(View[PackingOptions]):
    """PacGAN: stacks the channels of m items, so that D can see a lack of variety.

    Lin, Khetan, Fanti, Oh 2018, "PacGAN: The power of two samples in generative adversarial networks" (arXiv
    1712.04086). D's first and last layers become m times as wide. m items have one energy and one code, so terms that
    need a code for each latent do not fit.
    """

    name = "packing"
    summary = "shows the discriminator m pictures at once (PacGAN)"

    @property
    def together(self) -> int:
        return self.options.m

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, *rest = shape
        return (self.options.m * channels, *rest)

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, …) -> (B/m, m·C, …): m consecutive items. Raises `UserError` if m does not divide B."""
        m = self.options.m
        if len(batch) % m:
            raise UserError(f"--view packing: a batch of {len(batch)} is no multiple of packing.m={m}")
        return batch if m == 1 else batch.unflatten(0, (-1, m)).flatten(1, 2)


class AugmentOptions(Options):
    colour: float = Field(
        1.0, ge=0, le=1, description="brightness ± 0.5, saturation × 0 to 2, contrast × 0.5 to 1.5; as a share"
    )
    translation: float = Field(0.125, ge=0, lt=1, description="largest shift, as a share of the picture's side")
    cutout: float = Field(0.5, ge=0, lt=1, description="side of the square cut out, as a share of the picture's")


class Augment(View[AugmentOptions]):
    """DiffAugment: random colour, shift and cutout of each picture, real or generated.

    Zhao, Liu, Lin, Zhu, Han 2020, "Differentiable Augmentation for Data-Efficient GAN Training" (arXiv 2006.10738),
    for folders of hundreds of pictures. Strengths and order are those of the authors' code; 0 leaves a policy out.

    The fill differs: theirs is 0, a mid grey. D would learn to reconstruct such grey best, and a generator could lower
    its energy by drawing it. So a shift repeats the picture's edge pixels, and a cut square gets the mean colour of the
    picture's outermost pixels: on a white background both are white. Values may leave [-1, 1].
    """

    name = "augment"
    summary = "random colour, shift and cutout of what the discriminator sees (DiffAugment)"

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise UserError(f"--view augment: it is for pictures, and the data are points of shape {shape}")
        if shape[0] not in (1, 3):
            raise UserError(
                f"--view augment: it is for pictures of 1 or 3 channels, and here they have {shape[0]}: "
                "name it before a view that puts pictures together"
            )
        return shape

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, S, S) -> the same shape."""
        side = batch.shape[-1]
        if self.options.colour:
            batch = recoloured(batch, self.options.colour)
        if most := round(side * self.options.translation):
            batch = shifted(batch, most)
        if cut := round(side * self.options.cutout):
            batch = cut_out(batch, cut)
        return batch


def recoloured(batch: Tensor, strength: float) -> Tensor:
    """Random brightness, saturation and contrast of each picture (B, C, S, S); strength 1 is DiffAugment's."""

    def uniform() -> Tensor:  # in [-1, 1)
        return 2 * torch.rand(len(batch), 1, 1, 1, device=batch.device) - 1

    batch = batch + 0.5 * strength * uniform()
    grey = batch.mean(1, keepdim=True)
    batch = grey + (batch - grey) * (1 + strength * uniform())
    middle = batch.mean((1, 2, 3), keepdim=True)
    return middle + (batch - middle) * (1 + 0.5 * strength * uniform())


def shifted(batch: Tensor, most: int) -> Tensor:
    """Each picture (B, C, S, S), randomly shifted by at most `most` pixels each way; its edge pixels are repeated."""
    n, _, side, _ = batch.shape
    places = torch.arange(side, device=batch.device)
    moves = torch.randint(-most, most + 1, (2, n, 1), device=batch.device)
    rows, columns = (places + moves).clamp(0, side - 1)
    picture = torch.arange(n, device=batch.device)[:, None, None]
    return batch.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(batch: Tensor, cut: int) -> Tensor:
    """Each picture (B, C, S, S) with a square of side `cut` in the mean colour of its outermost pixels.

    The square's centre is anywhere in the picture, so the square may lie partly outside.
    """
    n, _, side, _ = batch.shape
    edges = (batch[..., 0, :], batch[..., -1, :], batch[..., 0], batch[..., -1])
    colour = torch.cat(edges, -1).mean(-1)[..., None, None]
    places = torch.arange(side, device=batch.device)
    first = torch.randint(0, side + 1 - cut % 2, (2, n, 1), device=batch.device) - cut // 2
    rows, columns = (places >= first) & (places < first + cut)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], colour, batch)
