"""Streams of samples with a planted collapse at a known step, on pictures whose kinds are known.

They are of gankit's demo data, by attribute, or of a folder, by cluster. A look imitates a generator: pictures outside
the reference, chosen by weights on their attributes, with the faults of GAN samples (blur, mixtures, noise, wrong
colours). A stream opens up from one grey blob, as every training does. Then its weights drift, and at a known look it
suffers the loss of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gankit.data.batches import to_float
from gankit.data.demo import Demo, attribute_values
from gankit.data.demo_figure import ATTRIBUTES
from gankit.data.folder import Folder
from gankit.data.source import Request

EVERY = 500  # steps between two looks
LOOKS = 20
LONG = 200  # looks of a stream of 100,000 steps
POOL = 8192  # demo pictures to choose samples from
CLUSTERS = 20  # of a folder's pictures
HALVES = {"half the shirts": "shirt", "half the styles": "style", "half the skins": "skin"}
KINDS = ("healthy", *HALVES, "fifth", "twentieth", "one", "hue", "duplicates", "slow", "half the clusters")
DEMO_KINDS, FOLDER_KINDS = KINDS[:-1], ("healthy", "half the clusters", "fifth", "twentieth")
LEVELS = ("fine", "middling", "poor")


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


@dataclass(frozen=True)
class Pool:
    """Pictures to choose samples from, their attributes, and what the detector compares with."""

    pictures: Tensor  # (N, 3, S, S) in [-1, 1]
    values: dict[str, np.ndarray]  # of each attribute: (N,), the index of its value
    counts: dict[str, int]  # its number of values
    cells: np.ndarray  # (N,): what a generator may never show is some of these
    real: Tensor
    held_out: Tensor


@cache
def reference() -> tuple[Tensor, Tensor]:
    """The detector's input in a run on `--data demo`: the training pictures and the held-out ones."""
    data = Demo().open(None, Request(32))
    return to_float(torch.from_numpy(data.train.copy())), to_float(torch.from_numpy(data.held_out.copy()))


@cache
def demo() -> Pool:
    """8,192 figures of another seed than the reference's."""
    data = Demo(Demo.Options(count=POOL, seed=1)).open(None, Request(32, holdout=0))
    values = dict(zip(ATTRIBUTES, attribute_values(data.labels).T, strict=True))
    counts = {name: len(of) for name, of in ATTRIBUTES.items()}
    cells = values["hair"] * 6 + values["shirt"]
    return Pool(to_float(torch.from_numpy(data.train.copy())), values, counts, cells, *reference())


@cache
def folder(path: str) -> Pool:
    """Half of a folder's training pictures, by cluster of their pixels (averages of 8×8); the reference is the rest."""
    from sklearn.cluster import KMeans

    data = Folder(None).open(path, Request(32))
    pictures = to_float(torch.from_numpy(np.stack(list(data.train))))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pictures)))
    pool, real = pictures[order[::2]], pictures[order[1::2]]
    small = F.adaptive_avg_pool2d(pool, 8).flatten(1).numpy()
    cluster = KMeans(CLUSTERS, n_init=4, random_state=0).fit(small).labels_
    held_out = to_float(torch.from_numpy(np.stack(list(data.held_out))))
    return Pool(pool, {"cluster": cluster}, {"cluster": CLUSTERS}, cluster, real, held_out)


def planted(kind: str, level: str, seed: int, pool: Pool | None = None, length: int = LOOKS) -> Stream:
    """A stream of `length` looks, of the demo data by default; the collapse begins at the 10th to the 13th."""
    pool = pool or demo()
    rng = np.random.default_rng((seed, KINDS.index(kind), LEVELS.index(level)))
    worse = LEVELS.index(level)
    at = int(rng.integers(9, 13))
    opening = int(rng.integers(4, 8))  # looks until it shows its full variety
    missing = _missing(pool, rng, (0.0, 0.3, 0.6)[worse])
    lost = _lost(pool, rng, "twentieth" if kind == "slow" else kind)
    few = rng.integers(0, len(pool.pictures), 12)
    wander = _wander(pool, rng, (0.1, 0.15, 0.2)[worse], length)
    looks, collapsed = [], []
    for look in range(length):
        gone = 0.0 if look < at else min(1.0, (look - at + 1) / 8) if kind == "slow" else float(kind != "healthy")
        plain = sum(wander[look][name][of] for name, of in pool.values.items()) + np.where(missing, -6.0, 0.0)
        # A slow loss reduces the others' weight bit by bit, to a thousandth at the end.
        weights = np.exp(plain + np.where(lost, -7.0 * gone if kind == "slow" else -99.0 * gone, 0.0))
        hue = rng.integers(0, 6) if (look - at) % 4 == 0 or look == 0 else hue  # noqa: F821
        looks.append(
            _Look(
                pool=pool,
                seed=int(rng.integers(2**31)),
                weights=weights / weights.sum(),
                worse=worse * float(rng.uniform(0.9, 1.1)),
                open=min(1.0, (look + 1) / opening),
                few=few if kind == "duplicates" and gone else None,
                hue=int(hue) if kind == "hue" and gone else None,
            )
        )
        before = np.exp(plain)[lost].sum() / np.exp(plain).sum()
        share_lost = 1 - weights[lost].sum() / weights.sum() / max(1e-9, before)
        collapsed.append(None if look < opening else bool(gone) and (kind != "slow" or share_lost > 0.6 or None))
    steps = [EVERY * (look + 1) for look in range(length)]
    return Stream(f"{kind}, {level}, {seed}", kind, looks, steps, collapsed, pool.real, pool.held_out)


def _wander(pool: Pool, rng: np.random.Generator, size: float, length: int) -> list[dict[str, np.ndarray]]:
    """Log weights of each attribute's values, look by look: each drifts, with a pull back to even."""
    now = {name: rng.normal(0, 2 * size, count) for name, count in pool.counts.items()}
    found = []
    for _ in range(length):
        now = {name: 0.9 * part + rng.normal(0, size, len(part)) for name, part in now.items()}
        found.append(now)
    return found


def _missing(pool: Pool, rng: np.random.Generator, share: float) -> np.ndarray:
    """(N,) bool: the pictures that this generator never shows."""
    count = int(pool.cells.max()) + 1
    gone = rng.permutation(count) < round(count * share)
    return gone[pool.cells]


def _lost(pool: Pool, rng: np.random.Generator, kind: str) -> np.ndarray:
    """(N,) bool: the pictures that the collapse removes."""

    def only(name: str, count: int) -> np.ndarray:
        chosen = rng.permutation(pool.counts[name])[:count]
        return np.isin(pool.values[name], chosen)

    if kind == "half the clusters" or kind in HALVES:
        name = HALVES.get(kind, "cluster")
        return ~only(name, pool.counts[name] // 2)
    if kind in ("fifth", "twentieth") and "cluster" in pool.counts:
        return ~only("cluster", CLUSTERS // {"fifth": 5, "twentieth": 20}[kind])
    if kind == "fifth":
        return ~only("hair", 1)
    if kind == "twentieth":
        return ~(only("hair", 1) & only("skin", 1))
    if kind == "one":
        chosen, upper = int(rng.integers(len(pool.pictures))), list(pool.values.values())[:4]
        return np.any([of != of[chosen] for of in upper], axis=0)  # up to the arms: the pool has some 25 of them
    return np.zeros(len(pool.pictures), bool)


@dataclass(frozen=True)
class _Look:
    pool: Pool
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
        pool = self.pool.pictures
        some = rng.choice(self.few, (2, n)) if self.few is not None else rng.choice(len(pool), (2, n), p=self.weights)
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
        grey = pool.mean((0, 1), keepdim=True)
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
