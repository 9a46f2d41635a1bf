"""Batches on the device, determined by (seed, step, update): there is no loader state to save.

Every picture comes once an epoch; each epoch has its own order.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gankit.data.source import Data
from gankit.errors import UserError

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
        self.resident = None
        if device.type == "cuda" and data.train.nbytes <= RESIDENT:
            self.resident = torch.from_numpy(np.ascontiguousarray(data.train)).to(device)
        self._order = lru_cache(maxsize=2)(self._order_of)

    def _order_of(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.data.train))

    def __call__(self, step: int, update: int) -> tuple[Tensor, Tensor | None]:
        """The batch of one update of step `step` (from 1): (B, C, S, S) in [-1, 1] or (B, D), and labels (B,)."""
        size, n = self.batch_size, len(self.data.train)
        start = ((step - 1) * self.updates + update) * size
        places = np.arange(start, start + size)
        chosen = np.concatenate(
            [self._order(epoch)[places[places // n == epoch] % n] for epoch in np.unique(places // n)]
        )
        refuse_cut_short(self.data.train)
        flip = labels = None
        if self.mirror:
            flip = self._to_device(np.random.default_rng((self.seed, 2, step, update)).random(size) < 0.5)
        if self.data.labels is not None:
            labels = self._to_device(self.data.labels[chosen])
        raw = (
            self._to_device(self.data.train[chosen])
            if self.resident is None
            else self.resident[self._to_device(chosen)]
        )
        return to_float(raw, flip), labels

    def _to_device(self, array: np.ndarray) -> Tensor:
        """The array on the device, without waiting for the copy."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def refuse_cut_short(array: np.ndarray) -> None:
    """Raise `UserError` if the file of a memory-mapped array has lost its end: reading there kills the process."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and mapped.size() < len(mapped):
        raise UserError(
            f"the picture cache {getattr(array, 'filename', '')} was cut short by another program; "
            "a resume makes it anew"
        )


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
