"""How good a run's pictures are, or those of any folder: measures against pictures that were never trained on.

Each stands beside what as many other real pictures reach, since every one of them depends on how many pictures are
compared. What each says and does not: docs/measures.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gankit.errors import UserError
from gankit.metrics.bins import bins, different_bins
from gankit.metrics.cleanliness import SHARED, edge, ground_colour, over_real, over_set, per_picture
from gankit.metrics.distances import frechet_distance, kernel_distance
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import Neighbours, neighbours, reach
from gankit.metrics.similarity import ms_ssim
from gankit.metrics.spaces import Space, deep, inception
from gankit.runs.folder import RunFolder, strict
from gankit.trained.memorisation import beside, copies
from gankit.trained.two_sides import FEWEST, Pictures, Real, collect

SCHEMA = 1
NEIGHBOURS = 5  # k, as Naeem et al. recommend
SIDE = 16  # pixels, to which pictures are averaged where pixels are compared
NATIVE = 64  # pixels, to which larger ones are averaged where they are compared at their own size
ENOUGH = 100  # held-out pictures; with fewer, training pictures stand in for them
COARSE = 500  # real pictures, below which a difference must be large to mean something
FRECHET = 2000  # held-out pictures that the Fréchet distance needs
CELLS, PER_CELL = 100, 20  # of NDB, at most, and real pictures in each on average
PAIRS = 500  # of pictures, for MS-SSIM
LOOKED = 100_000  # training pictures at most, among which copies are looked for
CLOSEST = 32  # samples that are shown beside their nearest training pictures

Better = Literal["higher", "lower", "nearer"]  # nearer: to what real pictures have, from either side
Against = Literal["held-out", "training"]


@dataclass(frozen=True)
class Measure:
    """One number, and what it has to be compared with."""

    value: float
    ceiling: float  # what as many other real pictures reach: where lower is better, a floor; where nearer, the aim
    better: Better
    space: str  # what pictures are compared by
    against: Against
    real: int  # real pictures that it was compared with, at once
    n: int  # samples that entered
    spread: float | None = None  # standard error, of what was sampled; docs/measures.md says of what in each


@dataclass(frozen=True)
class Evaluation:
    """What was measured, the measures by name in the order of a table, and what has to be said besides."""

    of: dict[str, Any]
    measures: dict[str, Measure]
    notes: list[str] = field(default_factory=list)
    closest: Tensor | None = field(
        default=None, repr=False, compare=False
    )  # (m, C, S, 2S): beside() of those most like a copy

    def model_dump(self) -> dict[str, Any]:
        """As JSON has it."""
        measures = {name: asdict(measure) for name, measure in self.measures.items()}
        return strict({"schema": SCHEMA, "of": self.of, "measures": measures, "notes": self.notes})


def evaluate(
    run_or_folder: str | Path | RunFolder,
    *,
    data: str | Path | None = None,
    step: int | None = None,
    n: int = 2000,
    averaged: bool = True,
    fid: bool = False,
    plugins: Sequence[str] = (),
) -> Evaluation:
    """Measure `n` samples of a run at `step` (default: its last checkpoint), or at most `n` pictures of a folder.

    `data`: a folder of pictures or a data source; by default that of the run, with its own split. `averaged`: of the
    averaged generator, or the bare one. `fid`: FID and KID in Inception's features as well, which need the extra
    `gankit[fid]` and weights that torch-fidelity fetches. `plugins`: what the run was made with.
    Raises `UserError` for a request that cannot be met: no such run, folder, step or data, too few pictures, points.
    """
    further = [inception()] if fid else []  # first, since it may not be had
    pictures = collect(run_or_folder, data, step, n, averaged, plugins)
    space = deep(pictures.samples.shape[1])
    comparison = _Comparison(pictures)
    measures = comparison.shares() | comparison.native() | comparison.distances(space)
    for other in further:
        measures |= comparison.distances(other)
    measures |= comparison.cleanliness() | comparison.diversity() | comparison.memorisation()
    notes = [*pictures.notes, *comparison.notes]
    if space.name == "random-convolutions" and pictures.samples.shape[1] == 3:
        notes.append(
            "features are those of random convolutions: `pip install 'gankit[features]'` brings a network that knows "
            "what pictures show"
        )
    return Evaluation(pictures.of, measures, notes, comparison.closest)


class _Comparison:
    """Samples and the real pictures that they are compared with, for each kind of measure."""

    def __init__(self, pictures: Pictures) -> None:
        self.samples, self.train, self.held_out = pictures.samples, pictures.train, pictures.held_out
        self.notes: list[str] = []
        self.closest: Tensor | None = None
        self.sides = self._sides(ENOUGH)
        real = self.sides.real.stop - self.sides.real.start
        if self.sides.against == "training":
            self.notes.append(
                f"only {len(self.held_out)} pictures are held out, fewer than {ENOUGH}: samples are compared with "
                f"{real} training pictures instead, and a copy of one counts as a good sample"
            )
        if real < COARSE:
            self.notes.append(
                f"{real} real pictures are few: a share is known to some ±{0.5 / math.sqrt(real):.2f}, and differences "
                "between two evaluations of the same pictures somewhat better"
            )

    def _sides(self, least: int) -> _Sides:
        """Held-out pictures and, as perfect samples, training pictures; or two halves of the training pictures."""
        n, half = len(self.samples), min(len(self.samples), len(self.train) // 2)
        held_out, train = min(n, len(self.held_out)), min(n, len(self.train))
        if train >= FEWEST and (len(self.held_out) >= least or held_out >= half):
            return _Sides("held-out", slice(0, held_out), slice(0, train))
        if half < FEWEST:
            raise UserError(
                f"the data has {len(self.train)} pictures to train on and {len(self.held_out)} held out: at least "
                f"{2 * FEWEST} to train on are needed to measure against"
            )
        return _Sides("training", slice(half, 2 * half), slice(0, half))

    @property
    def real(self) -> Real:
        """The real pictures that `sides.real` is a slice of."""
        return self.held_out if self.sides.against == "held-out" else self.train

    def points(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of the samples, the real pictures and the other real ones, averaged to that side."""
        averaged = partial(pixels, side=side)
        both = self.real.map(averaged, self.sides.real), self.train.map(averaged, self.sides.other)
        return averaged(self.samples), *both

    def shares(self) -> dict[str, Measure]:
        """Coverage, precision, recall, density of small averages; and NDB, of all."""
        points = fake, real, other = self.points(SIDE)
        measures = self._neighbours(points, f"pixels-{SIDE}")
        cells = bins(real, max(2, min(CELLS, len(real) // PER_CELL)))
        different = different_bins(cells, fake), different_bins(cells, other)
        measures["different-bins"] = self._measure(
            (different[0], None), different[1], "lower", f"pixels-{SIDE}", (len(real), len(fake))
        )
        return measures

    def native(self) -> dict[str, Measure]:
        """The four shares again of the pictures at their own size, where that is more."""
        side = min(self.samples.shape[-1], NATIVE)
        if side <= SIDE:
            return {}
        found = self._neighbours(self.points(side), f"pixels-{side}")
        return {f"{name}-native": measure for name, measure in found.items()}

    def _neighbours(self, points: tuple[Tensor, Tensor, Tensor], space: str) -> dict[str, Measure]:
        """Coverage, precision, recall, density: sets of one size, as many as the samples give."""
        fake, real, other = points
        size = min(map(len, points))
        real = real[:size]
        radii = reach(real, NEIGHBOURS)
        found, best = (
            torch.tensor(
                [neighbours(real, some, NEIGHBOURS, radii) for some in side[: len(side) // size * size].split(size)]
            )
            for side in (fake, other)
        )
        measures = {
            name: self._measure(
                (float(found[:, column].mean()), _error(found[:, column])),
                float(best[:, column].mean()),
                "higher",
                space,
                (size, len(found) * size),
            )
            for column, name in enumerate(Neighbours._fields)
        }
        return {name: measures[name] for name in ("coverage", "precision", "recall", "density")}

    def distances(self, space: Space) -> dict[str, Measure]:
        """KID and Fréchet distance by the features of a network."""
        fake, sides = space.features(self.samples), self.sides
        many = self._sides(FRECHET if len(self.samples) > FRECHET else len(self.samples))
        last = max(side.stop for sides in (sides, many) for side in sides.of_training)
        train = self.train.map(space.features, slice(0, last))
        longest = max([0, *(s.real.stop for s in (sides, many) if s.against == "held-out")])
        held_out = self.held_out.map(space.features, slice(0, longest)) if longest else train

        def pair(chosen: _Sides) -> tuple[Tensor, Tensor]:
            return (held_out if chosen.against == "held-out" else train)[chosen.real], train[chosen.other]

        real, other = pair(sides)
        kernel = kernel_distance(real, fake)
        fid = space.name == "inception-v3"
        kid = self._measure(kernel, kernel_distance(real, other).value, "lower", space.name, (len(real), len(fake)))
        real, other = pair(many)
        size = min(len(real), len(other), len(fake))
        value, floor = frechet_distance(real[:size], fake[:size]), frechet_distance(real[:size], other[:size])
        against = many.against
        frechet = Measure(value, floor, "lower", space.name, against, size, size)
        if against == "training" and sides.against == "held-out":
            self.notes.append(
                f"{len(self.held_out)} held-out pictures are too few for a Fréchet distance: it is measured against "
                f"{size:,} training pictures, and its floor between as many and {size:,} others"
            )
        return {f"kid-{space.name}": kid, "fid" if fid else f"frechet-{space.name}": frechet}

    def cleanliness(self) -> dict[str, Measure]:
        """Noise, flat places, plain ground, fine detail at the pictures' own size: right where real ones have them."""
        colour = ground_colour(self.real.map(edge, self.sides.real))
        if colour is None:
            self.notes.append(
                f"the real pictures share no plain ground (one colour for at least {SHARED:.0%} of their outermost "
                "pixels), so how plain the samples' ground is was not measured"
            )
        real = over_set(self.real.map(partial(per_picture, colour=colour), self.sides.real))
        fake = over_set(per_picture(self.samples, colour))
        fake["fine"], real["fine"] = over_real(fake, real)["fine"], over_real(real, real)["fine"]  # energies say little
        space = f"pixels-{self.samples.shape[-1]}"
        sizes = self.sides.real.stop - self.sides.real.start, len(self.samples)
        return {name: self._measure(one, real[name].value, "nearer", space, sizes) for name, one in fake.items()}

    def diversity(self) -> dict[str, Measure]:
        """1 − MS-SSIM of two samples, on average."""
        found = [
            1 - ms_ssim(*_pairs(side)) for side in (self.samples, self.train[: min(2 * PAIRS, self.sides.other.stop)])
        ]
        value, real = (float(differences.mean()) for differences in found)
        count = 2 * len(found[0])
        space = f"ms-ssim-{self.samples.shape[-1]}"
        return {
            "diversity": Measure(value, real, "higher", space, "training", 2 * len(found[1]), count, _error(found[0]))
        }

    def memorisation(self) -> dict[str, Measure]:
        """Whether samples lie nearer to training pictures than pictures do that were never trained on."""
        if len(self.held_out) < FEWEST:
            self.notes.append(
                f"whether samples are copies of training pictures is not measured: {len(self.held_out)} pictures are "
                f"held out, and it takes {FEWEST}"
            )
            return {}
        found = copies(self.samples, self.train, self.held_out, LOOKED, len(self.samples))
        if found.looked < len(self.train):
            self.notes.append(f"copies are looked for among {found.looked:,} of {len(self.train):,} training pictures")
        first = found.distance.argsort()[:CLOSEST]
        self.closest = beside(self.samples[first], self.train, found.place[first])
        sizes = found.held_out, len(self.samples)
        return {"memorisation": Measure(found.nearer, 0.5, "lower", f"pixels-{SIDE}", "held-out", *sizes)}

    def _measure(
        self, found: tuple[float, float | None], ceiling: float, better: Better, space: str, sizes: tuple[int, int]
    ) -> Measure:
        return Measure(found[0], ceiling, better, space, self.sides.against, *sizes, found[1])


@dataclass(frozen=True)
class _Sides:
    """Which real pictures samples are compared with, and which others stand for perfect samples."""

    against: Against
    real: slice  # of the held-out pictures or the training pictures, as `against` says
    other: slice  # of the training pictures

    @property
    def of_training(self) -> list[slice]:
        return [self.other] + [self.real] * (self.against == "training")


def _pairs(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Different pictures, each in one pair: both (m, C, S, S)."""
    count = min(PAIRS, len(pictures) // 2)
    return pictures[:count], pictures[count : 2 * count]


def _error(values: Tensor) -> float | None:
    """The standard error of the mean of values (N,), or None of one alone."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
