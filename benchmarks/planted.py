"""Streams of samples with a planted collapse at a known step, on gankit's demo data, whose kinds are all known.

A look imitates a generator: demo pictures outside the reference, chosen by weights on their attributes, with the
faults of GAN samples (blur, mixtures, noise, wrong colours). A stream opens up from one grey blob, as every training
does. Then its weights drift, and at a known look it suffers the loss of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gankit.data.batches import to_float
from gankit.data.demo import Demo, attribute_values
from gankit.data.demo_figure import ATTRIBUTES
from gankit.data.source import Request

EVERY = 500  # steps between two looks
LOOKS = 20
POOL = 8192  # pictures to choose samples from
HALVES = {"half the shirts": "shirt", "half the styles": "style", "half the skins": "skin"}
KINDS = ("healthy", *HALVES, "fifth", "twentieth", "one", "hue", "duplicates", "slow")
LEVELS = ("fine", "middling", "poor")
NAMES = tuple(ATTRIBUTES)


@dataclass(frozen=True)
class Stream:
    """Samples of one training, look by look, and their labels."""

    name: str
    kind: str
    looks: Sequence[Callable[[], tuple[Tensor, Tensor]]]  # averaged, raw (N, 3, 32, 32) in [-1, 1]
    steps: Sequence[int]
    collapsed: Sequence[bool | None]  # per look; None: no label
    real: Tensor
    held_out: Tensor
    energies: Sequence[tuple[float, float]] = field(default_factory=list)  # real, fake; only for real trainings
    code: Sequence[float] = field(default_factory=list)


@cache
def reference() -> tuple[Tensor, Tensor]:
    """The detector's input in a run on `--data demo`: the training pictures and the held-out ones."""
    data = Demo().open(None, Request(32))
    return to_float(torch.from_numpy(data.train.copy())), to_float(torch.from_numpy(data.held_out.copy()))


@cache
def _pool() -> tuple[Tensor, np.ndarray]:
    data = Demo(Demo.Options(count=POOL, seed=1)).open(None, Request(32, holdout=0))
    return to_float(torch.from_numpy(data.train.copy())), attribute_values(data.labels)


@cache
def _grey() -> Tensor:
    return _pool()[0].mean((0, 1), keepdim=True)


def planted(kind: str, level: str, seed: int) -> Stream:
    """A stream of `LOOKS` looks; the collapse begins at the 10th to the 13th."""
    rng = np.random.default_rng((seed, KINDS.index(kind), LEVELS.index(level)))
    worse = LEVELS.index(level)
    at = int(rng.integers(9, 13))
    opening = int(rng.integers(4, 8))  # looks until it shows its full variety
    values = _pool()[1]
    missing = _missing(rng, (0.0, 0.3, 0.6)[worse])
    lost = _lost(rng, "twentieth" if kind == "slow" else kind)
    few = rng.integers(0, POOL, 12)
    wander = _wander(rng, (0.1, 0.15, 0.2)[worse])
    looks, collapsed = [], []
    for look in range(LOOKS):
        gone = 0.0 if look < at else min(1.0, (look - at + 1) / 8) if kind == "slow" else float(kind != "healthy")
        log = sum(wander[look][a][values[:, a]] for a in range(len(NAMES))) + np.where(missing, -6.0, 0.0)
        # A slow loss reduces the others' weight bit by bit, to a thousandth at the end.
        log = log + np.where(lost, -7.0 * gone if kind == "slow" else -99.0 * gone, 0.0)
        weights = np.exp(log)
        hue = rng.integers(0, 6) if (look - at) % 4 == 0 or look == 0 else hue  # noqa: F821
        looks.append(
            _Look(
                seed=int(rng.integers(2**31)),
                weights=weights / weights.sum(),
                worse=worse * float(rng.uniform(0.9, 1.1)),
                open=min(1.0, (look + 1) / opening),
                few=few if kind == "duplicates" and gone else None,
                hue=int(hue) if kind == "hue" and gone else None,
            )
        )
        kept = weights[lost].sum() / weights.sum()
        share_lost = 1 - kept / max(1e-9, _before(wander[look], values, missing, lost))
        collapsed.append(None if look < opening else bool(gone) and (kind != "slow" or share_lost > 0.6 or None))
    steps = [EVERY * (look + 1) for look in range(LOOKS)]
    return Stream(f"{kind}, {level}, {seed}", kind, looks, steps, collapsed, *reference())


def _before(wander: Sequence[np.ndarray], values: np.ndarray, missing: np.ndarray, lost: np.ndarray) -> float:
    log = sum(wander[a][values[:, a]] for a in range(len(NAMES))) + np.where(missing, -6.0, 0.0)
    return float(np.exp(log)[lost].sum() / np.exp(log).sum())


def _wander(rng: np.random.Generator, size: float) -> list[list[np.ndarray]]:
    """Log weights of each attribute's values, look by look: each drifts, with a pull back to even."""
    now = [rng.normal(0, 2 * size, len(ATTRIBUTES[name])) for name in NAMES]
    found = []
    for _ in range(LOOKS):
        now = [0.9 * part + rng.normal(0, size, len(part)) for part in now]
        found.append(now)
    return found


def _missing(rng: np.random.Generator, share: float) -> np.ndarray:
    """(POOL,) bool: the pictures that this generator never shows, some pairs of hair and shirt."""
    values = _pool()[1]
    gone = rng.permutation(30) < round(30 * share)
    return gone[values[:, NAMES.index("hair")] * 6 + values[:, NAMES.index("shirt")]]


def _lost(rng: np.random.Generator, kind: str) -> np.ndarray:
    """(POOL,) bool: the pictures that the collapse removes."""
    values = _pool()[1]

    def only(name: str, count: int) -> np.ndarray:
        chosen = rng.permutation(len(ATTRIBUTES[name]))[:count]
        return np.isin(values[:, NAMES.index(name)], chosen)

    if kind in HALVES:
        name = HALVES[kind]
        return ~only(name, len(ATTRIBUTES[name]) // 2)
    if kind == "fifth":
        return ~only("hair", 1)
    if kind == "twentieth":
        return ~(only("hair", 1) & only("skin", 1))
    if kind == "one":
        chosen = values[int(rng.integers(POOL))]
        return (values[:, :4] != chosen[:4]).any(1)  # up to the arms: the pool has some 25 of them
    return np.zeros(POOL, bool)


@dataclass(frozen=True)
class _Look:
    seed: int
    weights: np.ndarray
    worse: float
    open: float
    few: np.ndarray | None
    hue: int | None

    def __call__(self) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(self.seed)
        return self.shown(rng), self.shown(rng)

    def shown(self, rng: np.random.Generator, n: int = 256) -> Tensor:
        pool = _pool()[0]
        some = rng.choice(self.few, (2, n)) if self.few is not None else rng.choice(POOL, (2, n), p=self.weights)
        if self.few is not None:
            some[1] = some[0]
        mixed = torch.from_numpy(rng.uniform(0, 0.12 * self.worse, (n, 1, 1, 1))).float()
        x = pool[some[0]] * (1 - mixed) + pool[some[1]] * mixed
        x = _blur(x, 0.3 + 0.4 * self.worse + 2 * (1 - self.open))
        if self.few is None:
            tint = rng.normal(0, 0.03 + 0.03 * self.worse, (n, 3, 1, 1))
            x = (x - 1) * (1 + torch.from_numpy(tint).float()) + 1  # white stays white
        if self.hue is not None:
            x = _one_hue(x, self.hue)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
        grey = _grey()
        return (grey + self.open**2 * (x - grey) + (0.02 + 0.02 * self.worse) * noise).clamp(-1, 1)


def _blur(x: Tensor, sigma: float) -> Tensor:
    place = torch.arange(x.shape[-1])
    taps = torch.exp(-((place[:, None] - place[None]) ** 2) / (2 * sigma**2))
    taps = taps / torch.exp(-(torch.arange(-31.0, 32.0) ** 2) / (2 * sigma**2)).sum()
    return taps @ (x - 1) @ taps + 1  # white beyond the edges


def _one_hue(x: Tensor, hue: int) -> Tensor:
    """Each picture's darkness, in one colour on white."""
    ink = torch.tensor(
        ((0.5, 0.3, 0.1), (1, 0.5, 0), (0.5, 0.5, 0.5), (0.1, 0.4, 0.8), (0.6, 0.2, 0.5), (0.2, 0.6, 0.2))
    )
    depth = (1 - x.mean(1, keepdim=True)) * 1.2
    return 1 - depth * (1 - ink[hue]).view(1, 3, 1, 1) / (1 - ink[hue]).mean()
