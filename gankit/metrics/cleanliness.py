"""How clean pictures are at their own size: noise, flat places, plain ground, fine detail.

Averages of 16×16 pixels do not show this. Pictures are (B, C, S, S) in [-1, 1] with any number of channels, measured
in the 8-bit grey levels of a file. A measure is right when it equals that of real pictures of the same size; neither
higher nor lower is better.

The noise level is that of Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage": the median
absolute wavelet coefficient of the finest scale over 0.6745, which is σ for Gaussian noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

FLAT = 4  # of 255: the largest range of a flat window
NEAR, SAME = 30, 1  # of 255: a pixel less than NEAR from the ground is near it, one at most SAME from it is ground
SHARED = 0.5  # the share of the real pictures' outermost pixels that must be ground
CHUNK = 1 << 20  # numbers measured at once, which bounds the memory
# Ratios treat a smaller value as this one: rounding errors, and shares too small to see.
LEAST = {"grain": 0.5, "flat": 0.01, "ground": 0.01, "fine": 1e-5}


class Estimate(NamedTuple):
    """A measure over a set of pictures, and its standard error (NaN for one picture)."""

    value: float
    error: float


def grain(pictures: Tensor) -> Tensor:
    """(B,): σ of each picture's noise, in grey levels (0 to 255).

    The median of |a − b − c + d| / 2 over all 2×2 blocks (a b / c d) and channels, over 0.6745; for an even count, the
    lower median. A last odd row or column is ignored. A picture with half of its blocks flat has 0.
    """
    a, b, c, d = _blocks(_levels(pictures))
    return (a - b - c + d).div(2).flatten(1).abs().median(1).values / 0.6745


def flat(pictures: Tensor) -> Tensor:
    """(B,): the share, in [0, 1], of 3×3 windows whose range is at most 4 of 255 in every channel. S ≥ 3."""
    levels = _levels(pictures).byte()
    spread = _windows(levels, torch.maximum) - _windows(levels, torch.minimum)
    return (spread.amax(1) <= FLAT).float().mean((1, 2))


def fine(pictures: Tensor) -> Tensor:
    """(B,): the mean square that averaging 2×2 pixels removes, for pixel values in [0, 1].

    Divided by a real picture's, it is below 1 for blur and above 1 for specks. A last odd row or column is ignored.
    """
    blocks = torch.stack(_blocks(_levels(pictures)))
    return (blocks - blocks.mean(0)).div(255).square().mean((0, 2, 3, 4))


def edge(pictures: Tensor) -> Tensor:
    """Each picture's outermost pixels: (B, 4S − 4, C), whole numbers in 0..255."""
    outer = torch.ones(pictures.shape[-2:], dtype=torch.bool, device=pictures.device)
    outer[1:-1, 1:-1] = False
    return _levels(pictures[..., outer]).transpose(1, 2)


def ground_colour(edges: Tensor) -> Tensor | None:
    """(C,) in 0..255: the plain ground that real pictures share, from their `edge` (B, P, C); None without one.

    It is the commonest colour of the outermost pixels, if at least half of them have it (within 1 of 255). Pictures
    that fill their square share none.
    """
    outer = edges.flatten(0, 1).cpu()
    colours, counts = outer.unique(dim=0, return_counts=True)
    colour = colours[counts.argmax()]
    shared = ((outer - colour).abs().amax(1) <= SAME).float().mean()
    return colour if shared >= SHARED else None


def ground(pictures: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) and (B,): how many pixels of each picture have the ground's `colour` (C,), and how many are near it.

    A ground pixel differs by at most 1 of 255 in every channel (rounding), a near one by less than 30.
    """
    away = (_levels(pictures) - colour[:, None, None].to(pictures)).abs().amax(1)
    return (away <= SAME).sum((1, 2)), (away < NEAR).sum((1, 2))


def per_picture(pictures: Tensor, colour: Tensor | None) -> Tensor:
    """(B, 5), double: each picture's grain, flat, fine, and `ground` counts for `colour` (NaN where it is None)."""
    rows = []
    for some in pictures.split(max(1, CHUNK // max(1, math.prod(pictures.shape[1:])))):
        counts = ground(some, colour) if colour is not None else (torch.full_like(some[:, 0, 0, 0], math.nan),) * 2
        rows.append(torch.stack([one.cpu().double() for one in (grain(some), flat(some), fine(some), *counts)], 1))
    return torch.cat(rows)


def over_set(rows: Tensor) -> dict[str, Estimate]:
    """Grain, flat, ground and fine of a set, from its `per_picture` rows (B, 5).

    Each is the mean over the pictures, except the ground: the share of ground pixels among all pixels near its colour,
    0 where none is near; absent without a colour.
    """
    one = torch.ones_like(rows[:, 0])
    parts = {"grain": (0, one), "flat": (1, one), "ground": (3, rows[:, 4]), "fine": (2, one)}
    return {name: _ratio(rows[:, column], of) for name, (column, of) in parts.items() if not bool(of.isnan().any())}


def cleanliness(pictures: Tensor, colour: Tensor | None) -> dict[str, Estimate]:
    """The measures of a set of pictures (B, C, S, S); `colour` is the `ground_colour` of the real ones."""
    return over_set(per_picture(pictures, colour))


def over_real(pictures: Mapping[str, Estimate], real: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Each measure divided by that of the real pictures, with the standard error of the numerator alone.

    Values below `LEAST` count as `LEAST`, so that differences too small to see give no large ratios.
    """
    ratios = {}
    for name, one in pictures.items():
        least = LEAST[name]
        unit = max(real[name].value, least)
        ratios[name] = Estimate(max(one.value, least) / unit, one.error / unit)
    return ratios


def _levels(pictures: Tensor) -> Tensor:
    """Grey levels as in a file: whole numbers in 0..255."""
    return pictures.float().add(1).mul(127.5).round().clamp(0, 255)


def _blocks(levels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four pixels of all 2×2 blocks, each (B, C, S/2, S/2)."""
    side = levels.shape[-1] // 2 * 2
    whole = levels[..., :side, :side]
    return whole[..., ::2, ::2], whole[..., ::2, 1::2], whole[..., 1::2, ::2], whole[..., 1::2, 1::2]


def _windows(levels: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The maximum or minimum of each 3×3 window: (B, C, S − 2, S − 2)."""
    rows = of(of(levels[..., :-2, :], levels[..., 1:-1, :]), levels[..., 2:, :])
    return of(of(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _ratio(parts: Tensor, of: Tensor) -> Estimate:
    """The sum of `parts` (B,) over the sum of `of` (B,), with the standard error of a ratio of B clusters."""
    whole = of.sum().clamp(min=1)
    value = parts.sum() / whole
    n = len(parts)
    error = ((parts - value * of).square().sum() * n / (n - 1)).sqrt() / whole if n > 1 else math.nan
    return Estimate(float(value), float(error))
