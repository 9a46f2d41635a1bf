"""Whether samples are copies: the distances to their nearest training pictures, against those of held-out pictures.

Meehan, Chaudhuri and Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models" (arXiv
2004.05675), test the same distances. They are Euclidean, between pictures averaged to 16×16.
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
from gankit.data.batches import to_float
from gankit.data.open import open_source
from gankit.data.source import Data, Request
from gankit.files import replacing
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import nearest
from gankit.options import validate
from gankit.report.sample_grid import COLUMNS, grid, save_grid, taken_apart
from gankit.report.story import picture
from gankit.runs.folder import RunFolder, write_json
from gankit.trained.real_and_generated import FEWEST, Real

# Limits at the end of a run, for at most a second: training pictures, their bytes, held-out pictures.
LOOKED, BYTES, HELD_OUT = 20_000, 256 << 20, 200


@dataclass(frozen=True)
class Copies:
    """The nearest training pictures of n samples."""

    distance: Tensor  # (n,), to the nearest training picture
    place: Tensor  # (n,), its index in the order of `Real`
    nearer: (
        float  # the chance that a sample is nearer to a training picture than a held-out picture is; NaN without any
    )
    looked: int  # number of training pictures in the search
    held_out: int  # number of held-out pictures


def copies(samples: Tensor, train: Real, held_out: Real, looked: int, compared: int) -> Copies:
    """The nearest of at most `looked` training pictures to each of the samples (n, C, S, S).

    At most `compared` held-out pictures give the distances to compare with.
    """
    looked, compared = min(len(train), looked), min(len(held_out), compared)
    both = torch.cat([pixels(samples), pixels(held_out[:compared])]) if compared else pixels(samples)
    distance = torch.full((len(both),), math.inf, dtype=torch.double)
    place = torch.zeros(len(both), dtype=torch.long)
    for start in range(0, looked, train.chunk):
        distances, indices = nearest(both, pixels(train[start : min(start + train.chunk, looked)]))
        closer = distances < distance
        distance[closer], place[closer] = distances[closer], indices[closer] + start
    fake, real = distance[: len(samples)], distance[len(samples) :]
    nearer = (fake[:, None] < real).double() + (fake[:, None] == real).double() / 2
    return Copies(fake, place[: len(samples)], float(nearer.mean()), looked, compared)


def beside(samples: Tensor, train: Real, places: Tensor) -> Tensor:
    """Each sample (n, C, S, S) with a training picture to its right: (n, C, S, 2S)."""
    pictures = train.pictures[train.order[places.numpy()]]
    return torch.cat([samples, to_float(torch.from_numpy(pictures))], 3)


def draw_real(run: RunFolder) -> Path | None:
    """Write RUN/real.png, 64 of the training pictures in the form of a sample grid.

    Returns None without writing if the run's pictures are not in the cache, or are points.
    """
    try:
        data = _data_of(run)
    except Exception:  # as below
        return None
    save_grid(Real(data.train)[: 8 * COLUMNS], run.real_path)
    return run.real_path


def draw_neighbours(run: RunFolder) -> Path | None:
    """Write RUN/neighbours.png, the last samples beside their nearest training pictures, and RUN/neighbours.json.

    Returns None without writing if there are no samples or the run's pictures are not in the cache.
    """
    from PIL import Image

    try:
        data = _data_of(run)
        step, samples = _last_samples(run, data)
    except Exception:  # a damaged folder or a failing data source must not end the report
        return None
    train, held_out = Real(data.train), Real(data.held_out)
    looked = min(LOOKED, BYTES // math.prod(data.train.shape[1:]))
    near = copies(samples, train, held_out, looked, HELD_OUT)
    record: dict[str, Any] = {"step": step, "looked": near.looked, "train": len(train), "held_out": near.held_out}
    if near.held_out >= FEWEST:
        record["nearer"] = round(near.nearer, 4)
    sheet = Image.fromarray(grid(beside(samples, train, near.place)).numpy())
    with replacing(run.neighbours_path) as written:
        sheet.save(written, format="PNG")
    write_json(run.folder / "neighbours.json", record)
    return run.neighbours_path


class _NotCached(Exception):
    pass


def _data_of(run: RunFolder) -> Data:
    """The run's pictures. Raises if they are not those of data.json or need decoding, or for a damaged folder."""
    config = validate(RunConfig, run.config, f"{run.folder}/config.json", "option", flags=True)
    data = _cached(config)
    if data.digest != run.data.get("digest"):
        raise ValueError("other pictures")
    return data


def _cached(config: RunConfig) -> Data:
    """The data of a configuration. Raises `_NotCached` if pictures need decoding."""

    def refuse(done: int, total: int) -> None:
        raise _NotCached

    request = Request(config.image_size, config.fit, config.background_rgb, config.holdout, refuse)
    data = open_source(config.data, request, Catalogue(), config.datasets)
    if len(data.shape) != 3:
        raise ValueError("points")
    return data


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
