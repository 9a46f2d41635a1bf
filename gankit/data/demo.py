"""Demo data that gankit draws itself: flat-colour people on white, with every attribute known."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from gankit.data import cache
from gankit.data import demo_figure as figure
from gankit.data.demo_figure import ATTRIBUTES
from gankit.data.source import Data, DataSource, Request
from gankit.errors import UserError
from gankit.options import Options

SEED = 20170331  # the day on which BEGAN was put on arXiv
COUNT = 4096
_MOST = 1_000_000
COMBINATIONS = math.prod(len(values) for values in ATTRIBUTES.values())


class DemoOptions(Options):
    count: int = Field(COUNT, ge=2, le=_MOST, description="how many pictures are drawn")
    seed: int = Field(SEED, ge=0, description="the same seed draws the same pictures")


class Demo(DataSource[DemoOptions]):
    """People with random, independent `ATTRIBUTES` and slightly different places and sizes.

    A picture's label is the number of its combination: see `attribute_values`.
    """

    name: ClassVar[str] = "demo"
    summary: ClassVar[str] = f"{COUNT} (or demo:COUNT) drawn people, {COMBINATIONS} known kinds, made on the spot"

    def open(self, argument: str | None, request: Request) -> Data:
        """Return the pictures; `argument` is their number, or None for the option's.

        A longer series begins with the pictures of a shorter one. Raises `UserError` for an argument that is no
        number of pictures, and if the cache is not writable.
        """
        count = self.options.count if argument is None else _count(argument)
        settings = {
            "source": "demo",
            "version": figure.VERSION,
            "image_size": request.image_size,
            "background": list(request.background),
        }
        entry = cache.fetch(
            settings,
            [self.options.seed, count],
            request.image_size,
            lambda writer: _build(self.options.seed, count, request, writer),
        )
        return entry.as_data("demo" if argument is None else f"demo:{argument}", request.holdout)


def attribute_values(labels: Any) -> np.ndarray:
    """Return int64 (N, n_attributes): for labels (N,), the index of the value of each of `ATTRIBUTES`."""
    shape = tuple(len(values) for values in ATTRIBUTES.values())
    return np.stack(np.unravel_index(np.asarray(labels, dtype=np.int64), shape), axis=1)


def label_names() -> tuple[str, ...]:
    """The name of each label, such as "tan skin, red hair, long, yellow shirt, arms up"."""
    names = []
    for indices in attribute_values(np.arange(COMBINATIONS)):
        skin, hair, style, shirt, arms = (values[i] for values, i in zip(ATTRIBUTES.values(), indices, strict=True))
        names.append(f"{skin} skin, {hair} hair, {style}, {shirt} shirt, arms {arms}")
    return tuple(names)


def draws(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, int64 (N,), and steps of `figure.NUISANCE`, int64 (N, 3), for the pictures of a seed.

    They come from the raw bits of PCG64, which numpy keeps stable, unlike the methods of its Generator.
    """
    raw = np.random.PCG64(seed).random_raw((count, 4)).astype(np.uint64)
    sizes = np.array([COMBINATIONS, *figure.NUISANCE], dtype=np.uint64)
    drawn = (raw % sizes).astype(np.int64)
    return drawn[:, 0], drawn[:, 1:]


def _count(argument: str) -> int:
    if re.fullmatch("[0-9]{1,7}", argument) and 2 <= int(argument) <= _MOST:
        return int(argument)
    raise UserError(
        f"demo:{argument} is not a number of pictures; give a whole number from 2 to {_MOST}, as in demo:500"
    )


def _build(seed: int, count: int, request: Request, writer: cache.Writer) -> cache.Notes:
    labels, differences = draws(seed, count)
    for i, values in enumerate(attribute_values(labels)):
        pixels = figure.draw(values, request.image_size, request.background, differences[i])
        writer.add(pixels, f"{i:07d}", hashlib.blake2b(pixels.tobytes()).hexdigest()[:32])
        if request.progress is not None:
            request.progress(i + 1, count)
    return cache.Notes(labels=labels.tolist(), label_names=list(label_names()))
