"""Three handwritten digits in one picture, one on each colour channel: 1,000 modes to count.

After the stacked MNIST of Metz, Poole, Pfau, Sohl-Dickstein 2016, "Unrolled Generative Adversarial Networks" (arXiv
1611.02163), with scikit-learn's 1,797 digits of 8×8 pixels in place of MNIST's: no download, and a CPU is enough.
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

SEED = 20161107  # the date of the unrolled GANs, with stacked MNIST, on arXiv
COUNT = 32_768
MODES = 1000
SIDE = 8  # pixels of an original digit
FULL = 16  # the value of white in it
_FEWEST, _MOST = 2, 1_000_000


class StackedDigitsOptions(Options):
    count: int = Field(COUNT, ge=_FEWEST, le=_MOST, description="how many pictures are drawn")
    seed: int = Field(SEED, ge=0, description="the same seed draws the same pictures")


class StackedDigits(DataSource[StackedDigitsOptions]):
    """Independent random digits a, b and c as red, green and blue on black; the label is 100a + 10b + c.

    Bilinear enlargement keeps the strokes smooth. Any picture size from 8 works; 16 and 32 fit the networks of both
    models. The run's background is not used. A label's name is its three digits, "307".
    """

    name: ClassVar[str] = "stacked-digits"
    summary: ClassVar[str] = f"{COUNT} (or stacked-digits:COUNT) triples of 8×8 digits as colours, {MODES} known modes"

    def open(self, argument: str | None, request: Request) -> Data:
        """Return the pictures; `argument` is their number, or None for the option's.

        Raises `UserError` for an argument that is no number of pictures, without scikit-learn, and if the cache is not
        writable.
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
    """scikit-learn's 1,797 digits, int64 (N, 8, 8) in 0..16, and their classes, int64 (N,) in 0..9."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(f"--data stacked-digits: it needs scikit-learn ({error}): pip install scikit-learn") from None
    dataset: Any = load_digits()
    return dataset.images.astype(np.int64), dataset.target.astype(np.int64)


def enlarged(digits: np.ndarray, size: int) -> np.ndarray:
    """Digits (N, 8, 8) in 0..16 as uint8 (N, S, S): bilinear, and constant beyond the outermost pixel centres.

    Integer arithmetic gives the same pictures on every machine.
    """
    twice = SIDE * (2 * np.arange(size) + 1) - size  # a pixel centre's place on the digit, in 1/(2S) pixels
    before, part = np.divmod(twice, 2 * size)
    weights = np.zeros((size, SIDE), np.int64)  # each row sums to 2S
    np.add.at(weights, (np.arange(size), before.clip(0, SIDE - 1)), 2 * size - part)
    np.add.at(weights, (np.arange(size), (before + 1).clip(0, SIDE - 1)), part)
    whole = FULL * (2 * size) ** 2
    return ((weights @ digits @ weights.T * 255 + whole // 2) // whole).astype(np.uint8)


def draws(seed: int, count: int, digits: int) -> np.ndarray:
    """The indices, below `digits`, of the stacked digits, int64 (N, 3), from raw PCG64 bits, which stay stable."""
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
