"""Files that a report writes whole or not at all, and the choice of which samples to show."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gankit.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` (with its suffix) to write to; it takes the name `path` once all went well.

    Raises UserError if nothing can be written there.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)


def evenly(samples: list[tuple[int, Path]], count: int) -> list[tuple[int, Path]]:
    """At most `count` of the samples (sorted by step): evenly in steps, the first and the last among them."""
    if len(samples) <= count:
        return samples
    if count <= 1:
        return samples[-1:] if count == 1 else []
    steps = [step for step, _ in samples]
    first, last = steps[0], steps[-1]
    chosen = set()
    for n in range(count):
        wanted = first + (last - first) * n / (count - 1)
        after = min(bisect_left(steps, wanted), len(steps) - 1)
        before = max(after - 1, 0)
        chosen.add(before if wanted - steps[before] < steps[after] - wanted else after)
    return [samples[n] for n in sorted(chosen)]
