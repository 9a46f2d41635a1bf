"""Which samples are copies of training pictures: nearer to one than 99 % of pictures that were never trained on are.

Meehan, Chaudhuri and Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models" (arXiv
2004.05675), compare the same distances by a mean over all pairs. There poor samples, which are near to nothing, cancel
copies. A share below a small quantile does not mix the two. The ratio of the nearest to a further neighbour is from
Carlini et al. 2023, "Extracting Training Data from Diffusion Models" (arXiv 2301.13188, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

QUANTILE = 0.01  # of the held-out pictures' distances: a sample below it counts as a copy
FURTHER = 5  # the neighbour whose distance the nearest one's is compared with
SHARE = 0.5  # a copy's nearest picture is at most so far away, measured by that neighbour's distance
EXACT = 0.1 / 127.5  # root mean square difference of equal pictures: a tenth of one of 255 steps
SIDE = 32  # larger pictures are averaged to it
CANDIDATES = 10  # by each sign, which are compared shift by shift
CHUNK = 250  # pictures in one search


class Nearest(NamedTuple):
    """The nearest training pictures of n pictures."""

    distance: Tensor  # (n, 2), by each sign
    ratio: Tensor  # (n, 2): that distance over the one to the fifth nearest, in [0, 1]
    place: Tensor  # (n, 2): the index of the nearest


class Training:
    """Training pictures in which near copies are searched, by two signs.

    Both look at windows of the pictures at 32×32, averaged to half of it, and allow for shifts of up to two pixels.
    The first sign is the root mean square difference, which noise hardly changes. The second is the same between
    pictures without their mean colour and of one contrast (a cosine distance): other brightness, contrast or a cast of
    colour do not change it.
    """

    def __init__(self, chunks: Iterable[Tensor]) -> None:
        """`chunks`: the pictures, (N, C, S, S) in [-1, 1] together."""
        self.fine = torch.cat([windows(some, [(0, 0)])[:, 0] for some in map(reduced, chunks)])
        rough = halved(self.fine)
        # A picture with less contrast than most is not stretched to theirs: blank pages would all be equal.
        self.floors = [centred(part).flatten(1).norm(dim=1).quantile(0.05) for part in (rough, self.fine)]
        self.rough = rough.flatten(1), self._shape(rough, 0)

    def __len__(self) -> int:
        return len(self.fine)

    def nearest(self, pictures: Tensor) -> Nearest:
        """The nearest training pictures of pictures (n, C, S, S) in [-1, 1]."""
        found = [self._nearest(some) for some in reduced(pictures).split(CHUNK)]
        return Nearest(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _nearest(self, pictures: Tensor) -> Nearest:
        """First the candidates, by few numbers and shifts, then their distances shift by shift."""
        by = shift(pictures)
        candidates = self._candidates(halved(windows(pictures, corners((by + 1) // 2)))).sort(1).values
        again = F.pad(candidates[:, 1:] == candidates[:, :-1], (1, 0))  # found by both signs
        shifted, theirs = windows(pictures, every(by)), self.fine[candidates]
        size = theirs[0, 0].numel() ** 0.5
        signs = []
        for mine, other in (
            (shifted.flatten(2) / size, theirs.flatten(2) / size),
            (self._shape(shifted, 1), self._shape(theirs, 1)),
        ):
            distance = apart(mine, other).amin(1)
            distance, order = distance.masked_fill(again, torch.inf).sort(1)
            further = distance[:, min(FURTHER, len(self)) - 1]
            ratio = torch.where(further > EXACT, distance[:, 0] / further, 0)  # 0 also where five are equal
            signs.append((distance[:, 0], ratio, candidates.gather(1, order[:, :1])[:, 0]))
        return Nearest(*(torch.stack(part, 1) for part in zip(*signs, strict=True)))

    def _candidates(self, rough: Tensor) -> Tensor:
        """The nearest training pictures of windows (n, shifts, C, s, s) by each sign: (n, 2 · CANDIDATES)."""
        count = min(CANDIDATES, len(self))
        found = []
        for mine, theirs in zip((rough.flatten(2), self._shape(rough, 0)), self.rough, strict=True):
            distances = torch.cdist(mine.flatten(0, 1), theirs).unflatten(0, mine.shape[:2])
            found.append(distances.amin(1).topk(count, largest=False).indices)
        return torch.cat(found, 1)

    def _shape(self, pictures: Tensor, which: int) -> Tensor:
        """(…, C, H, W) -> (…, C·H·W): without the mean of each channel, and of length 1."""
        flat = centred(pictures).flatten(-3)
        return flat / flat.norm(dim=-1, keepdim=True).clamp(min=float(self.floors[which].clamp(min=1e-6)))


def reduced(pictures: Tensor) -> Tensor:
    """(N, C, S, S) -> averages of at most 32×32."""
    return F.adaptive_avg_pool2d(pictures, SIDE) if pictures.shape[-1] > SIDE else pictures


def shift(pictures: Tensor) -> int:
    """The shift in pixels that is still a copy: two of 32."""
    return pictures.shape[-1] // 16


def every(by: int) -> list[tuple[int, int]]:
    """All moves, down and to the right, by up to `by` pixels."""
    return [(y, x) for y in range(-by, by + 1) for x in range(-by, by + 1)]


def corners(by: int) -> list[tuple[int, int]]:
    """No move, and the four by `by` pixels both ways."""
    return sorted({(0, 0), *((y, x) for y in (-by, by) for x in (-by, by))})


def windows(pictures: Tensor, moves: Sequence[tuple[int, int]]) -> Tensor:
    """(N, C, S, S) -> (N, moves, C, s, s): the inner part after each of the moves, averaged to half of 32 at most."""
    margin = shift(pictures)
    inner = pictures.shape[-1] - 2 * margin
    cut = [pictures[..., margin + y : margin + y + inner, margin + x : margin + x + inner] for y, x in moves]
    return torch.stack([F.adaptive_avg_pool2d(one, min(inner, SIDE // 2 - 2)) for one in cut], 1)


def halved(pictures: Tensor) -> Tensor:
    """(…, C, s, s) -> averages of half the side, or of half the side and a half: (…, C, s', s')."""
    return F.adaptive_avg_pool2d(pictures.flatten(0, -4), (pictures.shape[-1] + 1) // 2).unflatten(
        0, pictures.shape[:-3]
    )


def apart(mine: Tensor, theirs: Tensor) -> Tensor:
    """(B, P, D), (B, R, D) -> Euclidean distances (B, P, R), for which `torch.cdist` is slow where P and R are few.

    In double precision. In single, |a|² + |b|² − 2ab of equal pictures on a white ground is up to 1.5e-3: above EXACT.
    """
    mine, theirs = mine.double(), theirs.double()
    squares = mine.norm(dim=2).square()[:, :, None] + theirs.norm(dim=2).square()[:, None]
    return torch.baddbmm(squares, mine, theirs.transpose(1, 2), alpha=-2).clamp_(min=0).sqrt_().float()


def centred(pictures: Tensor) -> Tensor:
    """(…, H, W) without their mean."""
    return pictures - pictures.mean((-2, -1), keepdim=True)
