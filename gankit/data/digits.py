"""Three handwritten digits in one picture, one on each colour channel: 1,000 modes that can be counted.

After the stacked MNIST of Metz, Poole, Pfau, Sohl-Dickstein 2016, "Unrolled Generative Adversarial Networks" (arXiv
1611.02163), with the 1,797 digits of 8×8 pixels that come with scikit-learn in place of MNIST's, so that nothing is
downloaded and a CPU is enough.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from gankit.data import cache
from gankit.data.source import Data, DataSource, Request
from gankit.errors import UserError
from gankit.options import Options

SEED = 20161107  # the day on which the unrolled GANs, and stacked MNIST with them, were put on arXiv
COUNT = 32_768
MODES = 1000
SIDE = 8  # of a digit as it comes
FULL = 16  # its whitest value
_FEWEST, _MOST = 2, 1_000_000


class StackedDigitsOptions(Options):
    count: int = Field(COUNT, ge=_FEWEST, le=_MOST, description="how many pictures are drawn")
    seed: int = Field(SEED, ge=0, description="the same seed draws the same pictures")


class StackedDigits(DataSource[StackedDigitsOptions]):
    """Digits a, b and c, drawn at random on their own, as red, green and blue on black; the label is 100a + 10b + c.

    They are enlarged with straight lines between the pixels' centres (bilinear): smooth strokes, where whole blocks
    would have edges that no digit has. Any picture size from 8 will do; 16 and 32 fit the networks of both models.
    A run's background is not used. A label names its three digits, "307"; models that take no labels see none.
    """

    name: ClassVar[str] = "stacked-digits"
    summary: ClassVar[str] = f"{COUNT} (or stacked-digits:COUNT) triples of 8×8 digits as colours, {MODES} known modes"

    def open(self, argument: str | None, request: Request) -> Data:
        """Return the pictures; `argument` is their number, where given.

        Raises `UserError` for an argument that is not a number of pictures, without scikit-learn, and if the cache
        cannot be written.
        """
        count = self.options.count if argument is None else _count(argument)
        entry = cache.fetch(
            {"source": self.name, "version": 1, "image_size": request.image_size},
            [self.options.seed, count],
            request.image_size,
            lambda writer: _build(self.options.seed, count, request, writer),
        )
        return entry.as_data(self.name if argument is None else f"{self.name}:{argument}", request.holdout)


def single_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits as they come, int64 (N, 8, 8) of 0..16, and which they are, int64 (N,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(f"--data stacked-digits: it needs scikit-learn ({error}): pip install scikit-learn") from None
    found: Any = load_digits()
    return found.images.astype(np.int64), found.target.astype(np.int64)


def enlarged(digits: np.ndarray, size: int) -> np.ndarray:
    """Digits (N, 8, 8) of 0..16 as uint8 (N, S, S), bilinear, beyond the outermost centres constant.

    In whole numbers, so that every machine makes the same pictures.
    """
    twice = SIDE * (2 * np.arange(size) + 1) - size  # a centre's place on the digit, in 1/(2S) pixels
    before, part = np.divmod(twice, 2 * size)
    weights = np.zeros((size, SIDE), np.int64)  # each row adds up to 2S
    np.add.at(weights, (np.arange(size), before.clip(0, SIDE - 1)), 2 * size - part)
    np.add.at(weights, (np.arange(size), (before + 1).clip(0, SIDE - 1)), part)
    whole = FULL * (2 * size) ** 2
    return ((weights @ digits @ weights.T * 255 + whole // 2) // whole).astype(np.uint8)


def draws(seed: int, count: int, digits: int) -> np.ndarray:
    """Which digits of how many are stacked, int64 (N, 3): from the raw bits of PCG64, which numpy promises to keep."""
    raw = np.random.PCG64(seed).random_raw((count, 3)).astype(np.uint64)
    return (raw % np.uint64(digits)).astype(np.int64)


def _count(argument: str) -> int:
    if re.fullmatch("[0-9]{1,7}", argument) and _FEWEST <= int(argument) <= _MOST:
        return int(argument)
    raise UserError(
        f"stacked-digits:{argument} is not a number of pictures; give a whole number from {_FEWEST} to {_MOST}, "
        "as in stacked-digits:5000"
    )


def _build(seed: int, count: int, request: Request, writer: cache.Writer) -> cache.Notes:
    digits, targets = single_digits()
    large = enlarged(digits, request.image_size)
    chosen = draws(seed, count, len(digits))
    for i, triple in enumerate(chosen):
        pixels = np.stack(large[triple], axis=-1)
        writer.add(pixels, f"{i:07d}", hashlib.blake2b(pixels.tobytes()).hexdigest()[:32])
        if request.progress is not None:
            request.progress(i + 1, count)
    labels = targets[chosen] @ (100, 10, 1)
    return cache.Notes(labels=labels.tolist(), label_names=[f"{label:03d}" for label in range(MODES)])
