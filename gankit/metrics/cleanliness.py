"""How clean pictures are at the size they have: noise where it should be flat, plain ground, fine detail.

What averages of 16×16 pixels cannot see. Pictures are (B, C, S, S) in [-1, 1] with any number of channels, and are
compared as a file would have them, in 255 steps. None of these measures is better the higher or the lower it is: each
is right where real pictures of the same size have it.

The noise level is that of Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage": the median
absolute wavelet coefficient of the finest scale over 0.6745, which is σ for Gaussian noise. The others are counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

FLAT = 4  # of 255: the range of a window that counts as flat
NEAR, SAME = 30, 1  # of 255: below the one a pixel is near to the ground, up to the other it is the ground
SHARED = 0.5  # of the real pictures' outermost pixels must be the ground
CHUNK = 1 << 20  # numbers that are looked at together
# Below which a value says nothing, for ratios: what rounding leaves, and shares that no eye would miss.
LEAST = {"grain": 0.5, "flat": 0.01, "ground": 0.01, "fine": 1e-5}


class Told(NamedTuple):
    """A measure over a set of pictures, and its standard error (NaN for one picture)."""

    value: float
    error: float


def grain(pictures: Tensor) -> Tensor:
    """(B,): σ of the noise in each, of 255 grey levels.

    The median of |a − b − c + d| / 2 over all 2×2 blocks (a b / c d) and channels, over 0.6745; of an even number of
    them the lower middle one. A last odd row or column is left out. A picture that is flat in half of its blocks has 0.
    """
    a, b, c, d = _blocks(_levels(pictures))
    return (a - b - c + d).div(2).flatten(1).abs().median(1).values / 0.6745


def flat(pictures: Tensor) -> Tensor:
    """(B,): the share of all windows of 3×3 pixels whose range is at most 4 of 255 in every channel. S ≥ 3."""
    levels = _levels(pictures).byte()  # small and quick
    spread = _windows(levels, torch.maximum) - _windows(levels, torch.minimum)
    return (spread.amax(1) <= FLAT).float().mean((1, 2))


def fine(pictures: Tensor) -> Tensor:
    """(B,): the energy that averaging 2×2 pixels takes away, a mean square where the range is 1.

    Over a real picture's it is below 1 for blur and above 1 for specks. A last odd row or column is left out.
    """
    blocks = torch.stack(_blocks(_levels(pictures)))
    return (blocks - blocks.mean(0)).div(255).square().mean((0, 2, 3, 4))


def edge(pictures: Tensor) -> Tensor:
    """The outermost pixels of each: (B, 4S − 4, C), whole numbers in 0..255."""
    outer = torch.ones(pictures.shape[-2:], dtype=torch.bool, device=pictures.device)
    outer[1:-1, 1:-1] = False
    return _levels(pictures[..., outer]).transpose(1, 2)


def ground_colour(edges: Tensor) -> Tensor | None:
    """(C,) in 0..255: the plain ground that real pictures share, by their `edge` (B, P, C), or None where they do not.

    It is the commonest colour of their outermost pixels, where at least half of all these pixels are it: pictures that
    fill their square have none, nor have those with a ground for each.
    """
    outer = edges.flatten(0, 1).cpu()
    colours, counts = outer.unique(dim=0, return_counts=True)
    colour = colours[counts.argmax()]
    shared = ((outer - colour).abs().amax(1) <= SAME).float().mean()
    return colour if shared >= SHARED else None


def ground(pictures: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) and (B,): how many pixels of each are the ground's `colour`, and how many are near it.

    Near is less than 30 of 255 in every channel, and it at most 1, so that rounding does no harm.
    """
    away = (_levels(pictures) - colour[:, None, None].to(pictures)).abs().amax(1)
    return (away <= SAME).sum((1, 2)), (away < NEAR).sum((1, 2))


def look(pictures: Tensor, colour: Tensor | None) -> Tensor:
    """(B, 5), double: of each picture grain, flat, fine, the pixels that are the ground's `colour` and those near it.

    Without a colour the last two are NaN. Memory is bounded, however many pictures there are.
    """
    found = []
    for some in pictures.split(max(1, CHUNK // max(1, math.prod(pictures.shape[1:])))):
        counts = ground(some, colour) if colour is not None else (torch.full_like(some[:, 0, 0, 0], math.nan),) * 2
        found.append(torch.stack([one.cpu().double() for one in (grain(some), flat(some), fine(some), *counts)], 1))
    return torch.cat(found)


def told(looked: Tensor) -> dict[str, Told]:
    """All of them over a set, from its `look` (B, 5): grain, flat, ground and fine.

    Means over the pictures, but for the ground: of all pixels near its colour the share that are it, 0 where none is
    near. It is left out where there is no colour.
    """
    one = torch.ones_like(looked[:, 0])
    parts = {"grain": (0, one), "flat": (1, one), "ground": (3, looked[:, 4]), "fine": (2, one)}
    return {name: _ratio(looked[:, column], of) for name, (column, of) in parts.items() if not bool(of.isnan().any())}


def cleanliness(pictures: Tensor, colour: Tensor | None) -> dict[str, Told]:
    """What is `told` of a `look` at pictures (B, C, S, S); `colour` is the `ground_colour` of the real ones."""
    return told(look(pictures, colour))


def over_real(pictures: Mapping[str, Told], real: Mapping[str, Told]) -> dict[str, Told]:
    """Each measure over the real pictures' own, 1 where it is right, with the error that the pictures bring.

    Both sides count as `LEAST` where they are less, so that what nobody sees is no factor of a hundred.
    """
    found = {}
    for name, one in pictures.items():
        least = LEAST[name]
        unit = max(real[name].value, least)
        found[name] = Told(max(one.value, least) / unit, one.error / unit)
    return found


def _levels(pictures: Tensor) -> Tensor:
    """As a file has them: whole numbers in 0..255."""
    return pictures.float().add(1).mul(127.5).round().clamp(0, 255)


def _blocks(levels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four pixels of all 2×2 blocks, each (B, C, S/2, S/2)."""
    side = levels.shape[-1] // 2 * 2
    whole = levels[..., :side, :side]
    return whole[..., ::2, ::2], whole[..., ::2, 1::2], whole[..., 1::2, ::2], whole[..., 1::2, 1::2]


def _windows(levels: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The greatest or least of all 3×3 windows: (B, C, S − 2, S − 2)."""
    rows = of(of(levels[..., :-2, :], levels[..., 1:-1, :]), levels[..., 2:, :])
    return of(of(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _ratio(parts: Tensor, of: Tensor) -> Told:
    """The sum of parts (B,) over that of what they are parts of (B,), with the error of a ratio from B clusters."""
    whole = of.sum().clamp(min=1)
    value = parts.sum() / whole
    n = len(parts)
    error = ((parts - value * of).square().sum() * n / (n - 1)).sqrt() / whole if n > 1 else math.nan
    return Told(float(value), float(error))
