"""The score of a training's samples: one number from the readings of a step.

    score = (variety · form · clean)^(1/3), each at most 1

variety  `mode-collapse/variety`: coverage and recall at a glance (4×4 averages), less the share of samples above 5 %
         that repeat another one (`mode-collapse/duplicates`): one picture a hundred times leaves both as they are
form     `mode-collapse/form`: coverage and recall in a fixed random network's features, which see form and texture
clean    the geometric mean of min(r, 1/r) over the ratios r of `cleanliness`: grain, flat, ground, fine

Every part is a ratio to what as many other real pictures reach, so other real pictures score 1. All use the same number
of samples, 256, because such measures depend on it. benchmarks/score.py has its values for noise, blur, grain and lost
modes. It does not see copies of training pictures: they are a matter of their own (`gankit evaluate`, copies).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gankit.files import finite

SCORE = "score"  # its name in metrics.jsonl
REPEATED = 0.05  # share of samples that repeat another one, by chance: of real pictures some 1 %
CLEAN = ("grain", "flat", "ground", "fine")  # of `cleanliness`
READ_WHOLE = (SCORE, "mode-collapse/", "cleanliness/", "reconstruction-errors/")  # beginnings of keys, of `Looks`


def parts(line: Mapping[str, Any]) -> dict[str, float] | None:
    """The parts variety, form and clean, each in [0, 1], of a line of metrics; None where they were not measured."""
    ratios = [_number(line.get(f"cleanliness/{name}")) for name in CLEAN]
    closeness = [min(ratio, 1 / ratio) if ratio > 0 else 0.0 for ratio in ratios if ratio is not None]
    variety, form = (_number(line.get(f"mode-collapse/{name}")) for name in ("variety", "form"))
    if not closeness or variety is None or form is None:
        return None
    repeated = max(0.0, min(1.0, _number(line.get("mode-collapse/duplicates")) or 0.0) - REPEATED)
    clean = math.prod(closeness) ** (1 / len(closeness))
    return {"variety": min(1.0, variety) * (1 - repeated), "form": min(1.0, form), "clean": min(1.0, clean)}


def score(line: Mapping[str, Any]) -> float | None:
    """The score in [0, 1] of a line of metrics, or None where its parts were not measured."""
    values = parts(line)
    return None if values is None else math.prod(values.values()) ** (1 / len(values))


def recorded(lines: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The lines of metrics with a score, by step, in the order of writing; of a step that was repeated, the last."""
    found: dict[int, Mapping[str, Any]] = {}
    for line in lines:
        if _number(line.get(SCORE)) is not None:
            found.pop(line["step"], None)
            found[line["step"]] = line
    return found


def best(scores: Mapping[int, float]) -> int | None:
    """The step with the highest of the scores, the first of equal ones; None without a score."""
    return min(scores, key=lambda step: (-scores[step], step), default=None)


class Looks:
    """Of any number of metrics lines, those that a verdict reads, in order: with a look at the samples, and the last.

    They are all such lines, or at more than 10,000 every second, every fourth and so on, so that memory is bounded.
    The lines of `steps` with a score, those of the checkpoints, are never left out.
    """

    MOST, LAST = 10_000, 20

    def __init__(self, steps: Iterable[int]) -> None:
        self.steps = frozenset(steps)
        self._looks: list[tuple[int, dict[str, Any]]] = []  # (its number, the line)
        self._last: deque[tuple[int, dict[str, Any]]] = deque(maxlen=self.LAST)
        self._count, self._every = 0, 1
        self._known: dict[tuple[str, ...], bool] = {}

    def see(self, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass the lines on one by one."""
        for row, line in enumerate(lines):
            self._last.append((row, line))
            if self._is_look(line):
                self._count += 1
                if self._count % self._every == 0 or self._saved(line):
                    self._looks.append((row, line))
                if len(self._looks) > self.MOST + len(self.steps):
                    self._every *= 2
                    self._looks = [one for n, one in enumerate(self._looks) if n % 2 or self._saved(one[1])]
            yield line

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The kept ones of the lines so far."""
        return [line for _, line in sorted(dict([*self._looks, *self._last]).items())]

    def _saved(self, line: Mapping[str, Any]) -> bool:
        return line["step"] in self.steps and SCORE in line

    def _is_look(self, line: Mapping[str, Any]) -> bool:
        keys = tuple(line)
        if keys not in self._known:
            if len(self._known) > 1000:  # a stranger's
                self._known.clear()
            self._known[keys] = any(key.startswith(READ_WHOLE) for key in keys)
        return self._known[keys]


def _number(value: Any) -> float | None:
    """A finite number ≥ 0, or None."""
    found = finite(value)
    return found if found is not None and found >= 0 else None
