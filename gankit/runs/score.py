"""The score of a training's samples: one number from the readings of a step.

    score = (variety · form · clean)^(1/3), each at most 1

variety  `mode-collapse/variety`: coverage and recall at a glance (4×4 averages)
form     `mode-collapse/form`: coverage and recall in a fixed random network's features, which see form and texture
clean    the geometric mean of min(r, 1/r) over the ratios r of `cleanliness`: grain, flat, ground, fine

Every part is a ratio to what as many other real pictures reach, so other real pictures score 1. All use the same number
of samples, 256, because such measures depend on it. benchmarks/score.py has its values for noise, blur, grain and lost
modes. It does not see copies of training pictures: they are a matter of their own (`gankit evaluate`, copies).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SCORE = "score"  # its name in metrics.jsonl
CLEAN = ("grain", "flat", "ground", "fine")  # of `cleanliness`


def parts(line: Mapping[str, Any]) -> dict[str, float] | None:
    """The parts variety, form and clean, each in [0, 1], of a line of metrics; None where they were not measured."""
    ratios = [_number(line.get(f"cleanliness/{name}")) for name in CLEAN]
    closeness = [min(ratio, 1 / ratio) if ratio > 0 else 0.0 for ratio in ratios if ratio is not None]
    variety, form = (_number(line.get(f"mode-collapse/{name}")) for name in ("variety", "form"))
    if not closeness or variety is None or form is None:
        return None
    clean = math.prod(closeness) ** (1 / len(closeness))
    return {name: min(1.0, value) for name, value in (("variety", variety), ("form", form), ("clean", clean))}


def score(line: Mapping[str, Any]) -> float | None:
    """The score in [0, 1] of a line of metrics, or None where its parts were not measured."""
    values = parts(line)
    return None if values is None else math.prod(values.values()) ** (1 / len(values))


def recorded(lines: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
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


def _number(value: Any) -> float | None:
    """A finite number ≥ 0, or None."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if sound else None
