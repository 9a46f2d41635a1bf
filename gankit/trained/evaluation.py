"""Measures of a run's samples, or of a folder's pictures, against held-out pictures.

Each measure depends on the number of pictures, so it stands beside the value that as many other real pictures reach.
docs/measures.md says what each means.
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

from gankit.builtin.mode_collapse import GLANCE
from gankit.errors import UserError
from gankit.metrics.bins import bins, different_bins
from gankit.metrics.cleanliness import SHARED, edge, ground_colour, over_real, over_set, per_picture
from gankit.metrics.distances import frechet_distance, kernel_distance
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import Neighbours, clipped_coverage, clipped_density, distances, neighbours, reach
from gankit.metrics.similarity import ms_ssim
from gankit.metrics.spaces import Space, deep, inception
from gankit.runs.folder import RunFolder, strict
from gankit.trained.memorisation import beside, copies
from gankit.trained.real_and_generated import FEWEST, Pictures, Real, collect
from gankit.trained.scored import Scored

SCHEMA = 1
NEIGHBOURS = 5  # k, as Naeem et al. recommend
SIDE = 16  # side of the averaged pictures whose pixels are compared
NATIVE = 64  # the largest side for a comparison at the pictures' own size
ENOUGH = 100  # held-out pictures; with fewer, training pictures replace them
COARSE = 500  # real pictures; with fewer, small differences mean nothing
FRECHET = 2000  # held-out pictures that the Fréchet distance needs
CELLS, PER_CELL = 100, 20  # NDB: the most cells, and the mean number of real pictures in a cell
PAIRS = 500  # pairs of pictures for MS-SSIM
LOOKED = 50_000  # the most training pictures in the search for copies: 200 MB of their windows
COMPARED = 10_000  # the most held-out pictures in that search
DECODED = 5_000  # the most of either, of a stream
CLOSEST = 32  # samples shown beside their nearest training pictures

Better = Literal["higher", "lower", "nearer"]  # nearer: to the real pictures' value, from either side
Against = Literal["held-out", "training"]


@dataclass(frozen=True)
class Measure:
    """A measure, and the value to compare it with."""

    value: float
    ceiling: float  # the value of as many other real pictures; where lower is better, it is a floor
    better: Better
    space: str  # the features that are compared
    against: Against
    real: int  # real pictures in one comparison
    n: int  # samples
    spread: float | None = None  # standard error; docs/measures.md says over which draws
    interval: tuple[float, float] | None = None  # Wilson's 95 % interval of a share of the samples


@dataclass(frozen=True)
class Evaluation:
    """The measures of a run or a folder by name, in the order of a table, and notes on them."""

    of: dict[str, Any]
    measures: dict[str, Measure]
    notes: list[str]
    own: list[str]  # the notes on these samples, and not on the measuring
    closest: Tensor = field(repr=False, compare=False)  # (m, C, S, 2S): beside() of those most like a copy

    def model_dump(self) -> dict[str, Any]:
        """The evaluation as strict JSON values."""
        measures = {name: asdict(measure) for name, measure in self.measures.items()}
        return strict({"schema": SCHEMA, "of": self.of, "measures": measures, "notes": self.notes})


def evaluate(
    run_or_folder: str | Path | RunFolder,
    *,
    data: str | Path | None = None,
    step: int | Literal["best"] | None = None,
    n: int = 2000,
    averaged: bool = True,
    fid: bool = False,
    plugins: Sequence[str] = (),
) -> Evaluation:
    """Measure `n` samples of a run at `step` (default: its last checkpoint), or at most `n` pictures of a folder.

    `data`: a folder of pictures or a data source; by default that of the run, with its split. `averaged`: the averaged
    generator, or the bare one. `fid`: also FID and KID in Inception's features; they need the extra `gankit[fid]`, and
    torch-fidelity downloads the weights. `plugins`: those of the run.
    Raises `UserError` if the run, folder, step or data does not exist, for too few pictures, and for points.
    """
    further = [inception()] if fid else []  # first, because it may fail
    pictures = collect(run_or_folder, data, step, n, averaged, plugins)
    space = deep(pictures.samples.shape[1])
    comparison = _Comparison(pictures)
    measures = comparison.score(pictures.scored)
    measures |= comparison.shares() | comparison.native() | comparison.distances(space)
    for other in further:
        measures |= comparison.distances(other)
    measures |= comparison.cleanliness() | comparison.diversity() | comparison.copies(pictures.mirror)
    notes = [*pictures.notes, *comparison.notes, *comparison.own]
    if space.name == "random-convolutions" and pictures.samples.shape[1] == 3:
        notes.append(
            "features are those of random convolutions: `pip install 'gankit[features]'` brings a network that knows "
            "what pictures show"
        )
    return Evaluation(pictures.of, measures, notes, comparison.own, comparison.closest)


class _Comparison:
    """The measures of samples against real pictures, by kind."""

    def __init__(self, pictures: Pictures) -> None:
        self.samples, self.train, self.held_out = pictures.samples, pictures.train, pictures.held_out
        self.notes: list[str] = []
        self.own: list[str] = []
        self.closest: Tensor  # set by `copies`
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
        """Held-out pictures against training pictures, or, with too few, two halves of the training pictures."""
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

    def score(self, scored: Scored) -> dict[str, Measure]:
        """The score and its parts: variety, form, clean."""
        self.own.append(scored.note)
        spaces = {"variety": f"pixels-{GLANCE}", "form": "random-convolutions", "clean": self.native_space}
        return {
            name: Measure(value, 1.0, "higher", spaces.get(name, "its parts"), "training", scored.real, scored.samples)
            for name, value in scored.values.items()
        }

    @property
    def native_space(self) -> str:
        """The name of the pixels at the pictures' own size."""
        return f"pixels-{self.samples.shape[-1]}"

    def points(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of the samples, of `sides.real` and of `sides.other`, averaged to that side."""
        averaged = partial(pixels, side=side)
        both = self.real.map(averaged, self.sides.real), self.train.map(averaged, self.sides.other)
        return averaged(self.samples), *both

    def shares(self) -> dict[str, Measure]:
        """Coverage, precision, recall, density and NDB of pictures averaged to 16×16."""
        points = fake, real, other = self.points(SIDE)
        measures = self._neighbours(points, f"pixels-{SIDE}")
        cells = bins(real, max(2, min(CELLS, len(real) // PER_CELL)))
        fake = fake[: len(other)]  # as many as the ceiling has: fewer pictures have fewer significant bins
        different = different_bins(cells, fake), different_bins(cells, other)
        measures["different-bins"] = self._measure(
            (different[0], None), different[1], "lower", f"pixels-{SIDE}", (len(real), len(fake))
        )
        return measures

    def native(self) -> dict[str, Measure]:
        """The same shares of the pictures at their own size, if that is above 16×16."""
        side = min(self.samples.shape[-1], NATIVE)
        if side <= SIDE:
            return {}
        measures = self._neighbours(self.points(side), f"pixels-{side}")
        return {f"{name}-native": measure for name, measure in measures.items()}

    def _neighbours(self, points: tuple[Tensor, Tensor, Tensor], space: str) -> dict[str, Measure]:
        """Coverage, precision, recall, density, two of them also clipped: means over sets as large as the real one."""
        fake, real, other = points
        size = min(map(len, points))
        real = real[:size]
        radii = reach(real, NEIGHBOURS)

        def row(some: Tensor) -> tuple[float, ...]:
            between = distances(real, some)
            return (
                *neighbours(real, some, NEIGHBOURS, radii, between),
                clipped_density(real, some, NEIGHBOURS, radii, between),
                clipped_coverage(real, some, NEIGHBOURS, radii, between),
            )

        rows, best = (
            torch.tensor([row(some) for some in side[: len(side) // size * size].split(size)]) for side in (fake, other)
        )
        measures = {
            name: self._measure(
                (float(rows[:, column].mean()), _error(rows[:, column])),
                float(best[:, column].mean()),
                "higher",
                space,
                (size, len(rows) * size),
            )
            for column, name in enumerate((*Neighbours._fields, "clipped-density", "clipped-coverage"))
        }
        order = ("coverage", "clipped-coverage", "precision", "recall", "density", "clipped-density")
        return {name: measures[name] for name in order}

    def distances(self, space: Space) -> dict[str, Measure]:
        """KID and the Fréchet distance in the features of a network."""
        fake, sides = space.features(self.samples), self.sides
        many = self._sides(FRECHET if len(self.samples) > FRECHET else len(self.samples))
        last = max(side.stop for sides in (sides, many) for side in sides.of_training)
        train = self.train.features(space, slice(0, last))
        longest = max([0, *(s.real.stop for s in (sides, many) if s.against == "held-out")])
        held_out = self.held_out.features(space, slice(0, longest)) if longest else train

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
        """Noise, flat places, plain ground and fine detail at the pictures' own size, over the real pictures' own."""
        colour = ground_colour(self.real.map(edge, self.sides.real))
        if colour is None:
            self.notes.append(
                f"the real pictures share no plain ground (one colour for at least {SHARED:.0%} of their outermost "
                "pixels), so how plain the samples' ground is was not measured"
            )
        rows = partial(per_picture, colour=colour)
        real = self.real.map(rows, self.sides.real)
        ratios = over_real(over_set(rows(self.samples)), over_set(real))
        sizes = len(real), len(self.samples)
        return {name: self._measure(ratio, 1.0, "nearer", self.native_space, sizes) for name, ratio in ratios.items()}

    def diversity(self) -> dict[str, Measure]:
        """The mean of 1 − MS-SSIM over pairs of samples."""
        fake, real = (
            1 - ms_ssim(*_pairs(side)) for side in (self.samples, self.train[: min(2 * PAIRS, self.sides.other.stop)])
        )
        value, ceiling = float(fake.mean()), float(real.mean())
        space = f"ms-ssim-{self.samples.shape[-1]}"
        sizes = 2 * len(real), 2 * len(fake)
        return {"diversity": Measure(value, ceiling, "nearer", space, "training", *sizes, _error(fake))}

    def copies(self, mirror: bool) -> dict[str, Measure]:
        """The share of samples that are nearer to a training picture than 99 % of the held-out pictures are.

        With too few held-out pictures for that, a note counts the samples that equal a training picture.
        """
        looked, compared = (DECODED, DECODED) if self.train.streamed else (LOOKED, COMPARED)
        found = copies(self.samples, self.train, self.held_out, looked, compared, mirror)
        if found.looked < len(self.train):
            self.notes.append(f"copies are looked for among {found.looked:,} of {len(self.train):,} training pictures")
        worst = found.score.argsort(stable=True)[:CLOSEST]
        self.closest = beside(self.samples[worst], self.train, found.place[worst], found.mirrored[worst])
        if not found.held_out:
            equal = int(found.same.sum())
            self.notes.append(
                f"{equal:,} of {len(self.samples):,} samples equal a training picture{found.moved}; "
                f"whether others are near copies is not measured: {len(self.held_out)} pictures are held out, and it "
                f"takes {FEWEST}"
            )
            return {}
        self.own.append(str(found))
        sizes = found.held_out, len(self.samples)
        space = "shifted-windows"
        return {"copies": Measure(found.share, found.chance, "lower", space, "held-out", *sizes, None, found.interval)}

    def _measure(
        self, estimate: tuple[float, float | None], ceiling: float, better: Better, space: str, sizes: tuple[int, int]
    ) -> Measure:
        return Measure(estimate[0], ceiling, better, space, self.sides.against, *sizes, estimate[1])


@dataclass(frozen=True)
class _Sides:
    """The real pictures to compare the samples with, and others that act as perfect samples."""

    against: Against
    real: slice  # of the held-out pictures or the training pictures, as `against` says
    other: slice  # of the training pictures

    @property
    def of_training(self) -> list[slice]:
        return [self.other] + [self.real] * (self.against == "training")


def _pairs(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of different pictures, each picture in one pair: both (m, C, S, S)."""
    count = min(PAIRS, len(pictures) // 2)
    return pictures[:count], pictures[count : 2 * count]


def _error(values: Tensor) -> float | None:
    """The standard error of the mean of values (N,), or None for one value."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
