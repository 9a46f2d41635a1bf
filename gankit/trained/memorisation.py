"""Whether samples are copies: their distances to the nearest training pictures, against those of held-out pictures.

`gankit.metrics.copies` has the distances and their sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.config.schema import RunConfig
from gankit.data import cache, stream
from gankit.data.batches import to_float
from gankit.data.open import open_source
from gankit.data.source import Data, Request
from gankit.files import replacing
from gankit.metrics.copies import EXACT, QUANTILE, SHARE, Nearest, Training, reduced, shift
from gankit.options import validate
from gankit.report.sample_grid import COLUMNS, grid, save_grid, taken_apart
from gankit.report.story import picture
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.verdict import explained
from gankit.trained.real_and_generated import FEWEST, Real

# Limits at the end of a run, for at most a second: training pictures, their bytes, held-out pictures.
LOOKED, BYTES, HELD_OUT = 20_000, 256 << 20, 200
DECODED = 2_000  # training pictures of a stream, which are decoded for it


@dataclass(frozen=True)
class Copies:
    """Which of n samples are copies, and their nearest training pictures."""

    score: Tensor  # (n,): the distance to the nearest, over that below which only 1 % of held-out pictures are
    copy: Tensor  # (n,) bool: the score is below 1, and the nearest at most half as far as the fifth nearest
    place: Tensor  # (n,): the nearest one's index in the order of `Real`
    mirrored: Tensor  # (n,) bool: that picture's mirror image is the nearest
    looked: int  # number of training pictures in the search
    held_out: int  # number of held-out pictures; 0 if there are too few, and then no sample counts as a copy
    same: Tensor  # (n,) bool: it equals a training picture, maybe moved by up to `shift` pixels
    real_same: int  # number of held-out pictures that equal one
    shift: int  # two of 32
    real: float  # the share of further real pictures that would count as copies, mostly 0.01; NaN without any

    @property
    def share(self) -> float:
        return float(self.copy.double().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, over other samples."""
        from scipy.stats import binomtest

        found = binomtest(int(self.copy.sum()), len(self.copy)).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)

    @property
    def chance(self) -> float:
        """The share up to which chance explains it: the upper end of that of real pictures, known from few."""
        from scipy.stats import binomtest

        among = binomtest(round(self.real * (self.held_out + 1)), self.held_out + 1)
        return float(among.proportion_ci(0.95, "wilson").high)

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval lies above what chance explains."""
        return self.interval[0] > self.chance

    def __str__(self) -> str:
        """What the share says, in a sentence."""
        count, total, (low, high) = int(self.copy.sum()), len(self.copy), self.interval
        return (
            f"copies: {count:,} of {total:,} samples ({count / total:.1%}; 95 % interval {low:.1%} to {high:.1%}) are "
            f"as near to a training picture as {self.real:.1%} of real pictures, by {self.held_out:,} held-out ones: "
            + explained(self.share, self.chance, self.beyond_chance)
            + (
                f"; {same:,} of the samples equal one{self.moved}, and {self.real_same:,} of the held-out pictures"
                if (same := int(self.same.sum()))
                else ""
            )
        )

    @property
    def moved(self) -> str:
        """By how much an equal picture may be moved, in words."""
        return f", maybe moved by up to {self.shift} pixel{'s' * (self.shift > 1)}" if self.shift else ""


def copies(samples: Tensor, train: Real, held_out: Real, looked: int, compared: int, mirror: bool = False) -> Copies:
    """The nearest of at most `looked` training pictures to each of the samples (n, C, S, S).

    At most `compared` held-out pictures give the distances to compare with; fewer than 20 are too few. `mirror`: look
    for mirrored training pictures too, which the samples of a run with `--mirror` may copy.
    """
    looked, compared = min(len(train), looked), min(len(held_out), compared)
    compared = compared if compared >= FEWEST else 0
    training = Training(train[start : min(start + train.chunk, looked)] for start in range(0, looked, train.chunk))
    real = held_out.map(reduced, slice(0, compared)) if compared else samples[:0]
    quantile = QUANTILE / (1 + mirror)
    found = [_scores(samples, real, training, quantile)]
    if mirror:  # apart: where a folder has mirror images of its own pictures, only mirrored copies hide behind them
        found.append(_scores(samples.flip(3), real.flip(3), training, quantile))
    (score, place, copy, among, same, real_same), *others = found
    mirrored = torch.zeros_like(copy)
    for other, other_place, other_copy, other_among, other_same, other_real_same in others:
        same, real_same = same | other_same, real_same | other_real_same
        mirrored = other < score
        place = torch.where(mirrored, other_place, place)
        score, copy, among = torch.minimum(score, other), copy | other_copy, among | other_among
    expected = (int(among.sum()) + len(found)) / (compared + 1) if compared else math.nan
    equal = int(real_same.sum())
    return Copies(score, copy, place, mirrored, looked, compared, same, equal, shift(samples), expected)


def _scores(
    samples: Tensor, held_out: Tensor, training: Training, quantile: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Scores, places, which are copies, which held-out pictures would be, and which of both equal one: (n,) or (m,).

    The limit is the k-th smallest distance of m held-out pictures, k ≥ 1: a further one is below it with a chance of
    k / (m + 1).
    """
    near = training.nearest(samples)
    same = near.distance[:, 0] < EXACT
    if not len(held_out):
        nothing = torch.zeros(len(samples), dtype=torch.bool)
        return near.distance[:, 0], near.place[:, 0], nothing, nothing[:0], same, nothing[:0]
    real = training.nearest(held_out)
    # The signs in one unit: what a tenth of the held-out pictures are below.
    unit = real.distance.quantile(0.1, 0).clamp(min=EXACT)
    (score, place, ratio), (others, _, other_ratio) = _nearer(near, unit), _nearer(real, unit)
    last = max(1, int(quantile * (len(held_out) + 1))) - 1
    limit = others.sort().values[last].clamp(min=EXACT / float(unit[0]))
    copy, would_be = (score < limit) & (ratio <= SHARE), (others < limit) & (other_ratio <= SHARE)
    return score / limit, place, copy, would_be, same, real.distance[:, 0] < EXACT


def _nearer(near: Nearest, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance in units, place and ratio by the sign that sees each picture nearer."""
    sign = (near.distance / unit).argmin(1, keepdim=True)
    distance, place, ratio = (part.gather(1, sign)[:, 0] for part in (near.distance / unit, near.place, near.ratio))
    return distance, place, ratio


def beside(samples: Tensor, train: Real, places: Tensor, mirrored: Tensor) -> Tensor:
    """Each sample (n, C, S, S) with a training picture, or its mirror image, to its right: (n, C, S, 2S)."""
    pictures = to_float(torch.from_numpy(train.pictures[train.order[places.numpy()]]))
    shown = torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)
    return torch.cat([samples, shown], 3)


def draw_real(run: RunFolder) -> Path | None:
    """Write RUN/real.png, 64 of the training pictures in the form of a sample grid.

    Returns None without writing if the run's pictures are not in the cache, or are points.
    """
    try:
        pictures = Real(data_of(run).train)[: 8 * COLUMNS]
    except Exception:  # as below
        return None
    save_grid(pictures, run.real_path)
    return run.real_path


def draw_neighbours(run: RunFolder) -> Path | None:
    """Write RUN/neighbours.png, the last samples beside their nearest training pictures, and RUN/neighbours.json.

    Returns None without writing if there are no samples or the run's pictures are not in the cache.
    """
    from PIL import Image

    try:
        data = data_of(run)
        step, samples = _last_samples(run, data)
        train, held_out = Real(data.train), Real(data.held_out)
        looked = min(DECODED if data.streamed else LOOKED, BYTES // math.prod(data.train.shape[1:]))
        near = copies(samples, train, held_out, looked, HELD_OUT, run.config.get("mirror") is True)
        pairs = beside(samples, train, near.place, near.mirrored)
    except Exception:  # a damaged folder, a failing data source or vanished shards must not end the report
        return None
    record: dict[str, Any] = {"step": step, "looked": near.looked, "train": len(train), "held_out": near.held_out}
    record |= {"samples": len(samples), "equal": int(near.same.sum()), "equal_held_out": near.real_same}
    if near.held_out:
        record |= {"copies": int(near.copy.sum()), "chance": near.chance}
    sheet = Image.fromarray(grid(pairs).numpy())
    with replacing(run.neighbours_path) as written:
        sheet.save(written, format="PNG")
    write_json(run.folder / "neighbours.json", record)
    return run.neighbours_path


class _NotCached(Exception):
    pass


def data_of(run: RunFolder) -> Data:
    """The run's pictures. Raises if they are not those of data.json or need decoding, or for a damaged folder."""
    config = validate(RunConfig, run.config, f"{run.folder}/config.json", "option", flags=True)
    data = _cached(config, str(run.data.get("digest")))
    if data.digest != run.data.get("digest"):
        raise ValueError("other pictures")
    if len(data.shape) != 3:
        raise ValueError("points")
    return data


def _cached(config: RunConfig, digest: str) -> Data:
    """The data of a configuration. Raises `_NotCached` if pictures need decoding.

    No folder is looked into: a stranger's config.json can name any.
    """

    def refuse(done: int, total: int) -> None:
        raise _NotCached

    catalogue = Catalogue()
    if catalogue.source_of(config.data) is None:  # a folder
        if (streamed := stream.here(digest)) is not None:  # what this process trains on
            return streamed
        entry = cache.find(digest)
        if entry is None:
            raise _NotCached
        return entry.as_data(config.data, config.holdout)
    request = Request(config.image_size, config.fit, config.background_rgb, config.holdout, refuse)
    return open_source(config.data, request, catalogue, config.datasets)


def _last_samples(run: RunFolder, data: Data) -> tuple[int, Tensor]:
    """The step of the last sample grid, and its pictures."""
    samples = run.samples()
    if not samples:
        raise ValueError("no samples")
    step, path = samples[-1]
    channels, side, _ = data.shape
    with picture(run, path) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    return step, to_float(torch.from_numpy(taken_apart(sheet, side)[..., :channels].copy()))
