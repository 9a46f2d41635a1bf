"""Batches on the device, determined by (seed, step, update): there is no loader state to save.

Every picture comes once an epoch; each epoch has its own order. A stream's is that of `gankit.data.stream`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gankit.data.cache import refuse_cut_short
from gankit.data.source import Data
from gankit.data.stream import Group, Streamed, Windows

RESIDENT = 2 << 30  # bytes: a smaller set of pictures stays on the GPU


def seed_of(*numbers: int) -> int:
    """A 63-bit seed from whole numbers, a different one for different numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


class Batches:
    """Draws batches of a data source's training part."""

    def __init__(
        self, data: Data, batch_size: int, seed: int, device: torch.device, mirror: bool, updates: int
    ) -> None:
        """`updates`: the number of updates in one step, each of which draws a batch."""
        self.data, self.batch_size, self.seed, self.device = data, batch_size, seed, device
        self.mirror, self.updates = mirror, updates
        self.windows = Windows(data.train, seed) if isinstance(data.train, Streamed) else None
        self._fetched: tuple[int, np.ndarray, np.ndarray] | None = None  # a step, its pictures and their places
        self.resident = None
        if self.windows is None and device.type == "cuda" and data.train.nbytes <= RESIDENT:
            self.resident = torch.from_numpy(np.ascontiguousarray(data.train)).to(device)
        self._order = lru_cache(maxsize=2)(self._order_of)

    def _order_of(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.data.train))

    def __call__(self, step: int, update: int) -> tuple[Tensor, Tensor | None]:
        """The batch of one update of step `step` (from 1): (B, C, S, S) in [-1, 1] or (B, D), and labels (B,)."""
        size, n = self.batch_size, len(self.data.train)
        if self.windows is not None:
            self.fetch(step)
            assert self._fetched is not None
            _, pictures, chosen = self._fetched
            own = slice(update * size, (update + 1) * size)
            return self._batch(step, update, chosen[own], pictures[own])
        start = ((step - 1) * self.updates + update) * size
        places = np.arange(start, start + size)
        chosen = np.concatenate(
            [self._order(epoch)[places[places // n == epoch] % n] for epoch in np.unique(places // n)]
        )
        refuse_cut_short(self.data.train)
        return self._batch(step, update, chosen, None if self.resident is not None else self.data.train[chosen])

    def fetch(self, step: int, group: Group | None = None) -> None:
        """Have a step's pictures at hand, before anything changes; it matters for a stream alone.

        `group`: the processes that decode it together; all of them ask for the same steps. Raises `PicturesGone` if
        the pictures cannot be read any more.
        """
        if self.windows is None or (self._fetched and self._fetched[0] == step):
            return
        self._fetched = None
        of_step = self.updates * self.batch_size
        self._fetched = (step, *self.windows.take((step - 1) * of_step, of_step, group))

    def first(self) -> tuple[Tensor, Tensor | None]:
        """A batch to try a step with: the first one, or pictures of a stream without decoding all around them."""
        if self.windows is None:
            return self(1, 0)
        chosen = np.linspace(0, len(self.data.train) - 1, self.batch_size).astype(np.int64)
        return self._batch(1, 0, chosen, self.data.train[chosen])

    def _batch(
        self, step: int, update: int, chosen: np.ndarray, pictures: np.ndarray | None
    ) -> tuple[Tensor, Tensor | None]:
        """`chosen`: (B,) places in the training part; `pictures`: those there, unless all are on the device."""
        size = self.batch_size
        flip = labels = None
        if self.mirror:
            flip = self._to_device(np.random.default_rng((self.seed, 2, step, update)).random(size) < 0.5)
        if self.data.labels is not None:
            labels = self._to_device(self.data.labels[chosen])
        if pictures is not None:
            return to_float(self._to_device(pictures), flip), labels
        assert self.resident is not None
        return to_float(self.resident[self._to_device(chosen)], flip), labels

    def _to_device(self, array: np.ndarray) -> Tensor:
        """The array on the device, without waiting for the copy."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def to_float(raw: Tensor, flip: Tensor | None = None) -> Tensor:
    """uint8 pictures (B, S, S, C) as float32 (B, C, S, S) in [-1, 1], channels last; points (B, D) as float32.

    `flip` (B,) bool: which pictures to mirror left to right.
    """
    if raw.dtype != torch.uint8:
        return raw.float()
    pictures = raw.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if flip is not None:
        pictures = torch.where(flip[:, None, None, None], pictures.flip(3), pictures)
    return pictures
