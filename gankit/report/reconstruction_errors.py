"""The report's section on the diagnostic `reconstruction-errors`: was BEGAN's simplification sound?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from gankit.files import finite
from gankit.report.curves import Columns, Panel, replaced, series_of
from gankit.report.story import Story, listing, mapping

NAME = "reconstruction-errors"
LEVEL = 0.05  # of the test of normality
LOWEST = 1e-6  # smaller p-values are drawn here: their exact size means nothing
FEW = 3  # readings; fewer show no trend
CONSTANT = 2.0  # a ratio is constant if its largest value is at most this many times its smallest
CLOSE = 0.1  # |m1 − m2| : W2 counts as proportional within this share of its median
SIDES = {"real-normality": "real", "fake-normality": "generated"}
NAMES = {
    "real-mean": "real, m₁",
    "fake-mean": "generated, m₂",
    "squared": "W₂²",
    "mean-term": "mean term",
    "variance-term": "variance term",
    "ratio": "variance term / mean term",
    "wasserstein": "formula",
    "empirical-w2": "samples, W₂",
    "empirical-w1": "samples, W₁",
    "real-halves": "halves of the real ones, W₂",
    "real-normality": "real",
    "fake-normality": "generated",
}


@dataclass(frozen=True)
class Laboratory:
    """The section: the answer, its evidence, the curves, the last quantile plot."""

    answer: str
    findings: list[str]
    panels: list[Panel]
    quantiles: dict[str, Any]  # step, normal, real, fake; or nothing
    latest: list[tuple[str, float, int]]


def laboratory(story: Story) -> Laboratory | None:
    """The section of a run, or None without measured reconstruction errors."""
    ends = story.ends  # a few lines do not show where an attempt began
    kept = [line for line in story.metrics if not replaced(line, ends)]
    rows = [_row(line) for line in sorted(kept, key=lambda line: line["step"]) if f"{NAME}/wasserstein" in line]
    if not rows:
        return None
    lines = [
        {key: value for key, value in line.items() if key in ("step", "attempt") or key.startswith(f"{NAME}/")}
        for line in story.metrics
    ]
    series, apart = series_of(Columns(lines, ends)), [row for row in rows if not _by_chance(row)]
    return Laboratory(
        answer=_answer(rows, apart),
        findings=[text for text in (_normal(rows), _mean_term(apart), _ratio(apart), _formula(apart)) if text],
        panels=_panels(lines, ends),
        quantiles=_quantiles(story, ends),
        latest=[(key, s.last[1], s.last[0]) for key, s in series.items() if s.last],
    )


def _row(line: dict[str, Any]) -> dict[str, float]:
    """The finite readings of a line, by short name; a `real-halves` that could not be measured is NaN."""
    numbers = {key.partition("/")[2]: finite(value) for key, value in line.items() if key.startswith(f"{NAME}/")}
    unknown = {"real-halves": math.nan} if "real-halves" in numbers else {}
    return unknown | {key: value for key, value in numbers.items() if value is not None}


# Words.


def _quotients(rows: list[dict[str, float]], above: str, below: str) -> list[float]:
    return [row[above] / row[below] for row in rows if above in row and row.get(below, 0) > 0]


def _by_chance(row: dict[str, float]) -> bool:
    """Whether the samples lie no further apart than two halves of the real errors. Older runs do not know that.

    It is NaN of fewer than 4 pictures, whose distances say nothing.
    """
    return "empirical-w2" in row and not row["empirical-w2"] > row.get("real-halves", -1)


def _answer(rows: list[dict[str, float]], apart: list[dict[str, float]]) -> str:
    """Is |m₁ − m₂|, which BEGAN trains with, proportional to the empirical distance?

    `apart`: the readings in which the samples differ by more than chance.
    """
    alike = len(rows) - len(apart)
    if alike and len(apart) < max(FEW, len(rows) / 2):
        return (
            f"There is no answer: in {alike:,} of {len(rows):,} readings, errors of real and of generated pictures lie "
            "no further apart than two halves of the real ones do, and of such a distance any share may be chance."
        )
    distances = [row | {"distance": math.sqrt(row["mean-term"])} for row in apart if row.get("mean-term", -1) >= 0]
    kept = _quotients(distances, "distance", "empirical-w2")
    if not any(kept):
        return "No reading has two samples of errors that lie apart, so there is nothing to answer."
    middle = median(kept)
    about = f"|m₁ − m₂| alone is {_percent(middle)} of the empirical W₂"
    if len(kept) < FEW:
        count = "only one reading" if len(kept) == 1 else f"only {len(kept)} readings"
        return f"There {'is' if len(kept) == 1 else 'are'} {count}, too few for an answer. So far {about}."
    near = sum(abs(share - middle) <= CLOSE * middle for share in kept)
    evidence = (
        f"{about} in the median reading ({_percent(min(kept))} to {_percent(max(kept))} over training), "
        f"within a tenth of that in {near:,} of {len(kept):,} readings."
    )
    if alike:
        evidence += (
            f" {alike:,} more readings do not count: the errors lie no further apart there than two halves of the real "
            "ones."
        )
    if near >= 0.9 * len(kept):
        broken = [f"errors of {side} pictures are {how}" for side, how in _doubts(rows).items()]
        broken += ["the ratio is not constant"] * (_constant(apart) is False)
        why = "the mean term outweighs the rest" if middle**2 > 0.5 else "the share stays the same"
        though = f" It holds although {' and '.join(broken)}: {why}." if broken else ""
        return f"The simplification was sound in this run: {evidence}{though}"
    if near >= 0.5 * len(kept):
        return f"The simplification was sound only in a part of this run: {evidence}"
    return f"The simplification was not sound in this run: {evidence}"


def _doubts(rows: list[dict[str, float]]) -> dict[str, str]:
    """The sides whose errors the test rejects beyond chance: "not normal" or "not always normal".

    Beyond chance means: the smallest of n p-values is below level / n (Bonferroni), or twice their median is below the
    level (Rüger 1978), each at half of the level. Both hold for dependent readings, as those of one run are.
    """
    doubts = {}
    for key, side in SIDES.items():
        values = [row[key] for row in rows if key in row]
        if values and (min(values) * len(values) < LEVEL / 2 or 2 * median(values) < LEVEL / 2):
            doubts[side] = "not normal" if median(values) < LEVEL else "not always normal"
    return doubts


def _normal(rows: list[dict[str, float]]) -> str:
    rejections = []
    for key, side in SIDES.items():
        values = [row[key] for row in rows if key in row]
        if values:
            rejections.append(f"of {side} pictures in {sum(v < LEVEL for v in values):,} of {len(values):,} readings")
    if not rejections:
        return ""
    doubts = [f"errors of {side} pictures are {how}" for side, how in _doubts(rows).items()]
    conclusion = (
        f"That is more than chance explains: {' and '.join(doubts)} here."
        if doubts
        else "That is no more than chance explains: nothing speaks against normal errors here."
    )
    return (
        "Are the errors normal? D'Agostino and Pearson's test, which rejects a normal sample once in twenty, rejects "
        f"those {' and those '.join(rejections)}. {conclusion}"
    )


def _mean_term(rows: list[dict[str, float]]) -> str:
    totals = [row | {"total": row["wasserstein"] ** 2} for row in rows if "wasserstein" in row]
    shares = _quotients(totals, "mean-term", "total")
    if not shares:
        return ""
    last = f" in the median reading and {_percent(shares[-1])} in the last one" if len(shares) > 1 else ""
    return (
        f"How much does BEGAN keep? The mean term (m₁ − m₂)² is {_percent(median(shares))} of W₂²{last}; "
        "it drops the rest, the variance term."
    )


def _spread(rows: list[dict[str, float]]) -> tuple[float, float]:
    values = [row["ratio"] for row in rows if "ratio" in row]
    return (min(values), max(values)) if values else (math.nan, math.nan)


def _constant(rows: list[dict[str, float]]) -> bool | None:
    """None where there is no ratio."""
    low, high = _spread(rows)
    return None if math.isnan(low) else high <= CONSTANT * low


def _ratio(rows: list[dict[str, float]]) -> str:
    low, high = _spread(rows)
    question = "Is the ratio of the variance term to the mean term constant, as the paper assumes?"
    if math.isnan(low):
        return ""
    if sum("ratio" in row for row in rows) < FEW:
        return f"{question} There are too few readings to tell."
    times = f": the largest is {high / low:,.3g} times the smallest" if low > 0 else ""
    conclusion = "Nearly" if _constant(rows) else "No"
    return f"{question} {conclusion}, it goes from {low:.2g} to {high:.2g}{times}."


def _formula(rows: list[dict[str, float]]) -> str:
    shares = _quotients(rows, "wasserstein", "empirical-w2")
    if not shares:
        return ""
    conclusion = "They agree" if min(shares) >= 1 - CLOSE else "They do not always agree"
    if median(shares) < 1 - CLOSE:
        conclusion = "They do not agree"
    least = f" in the median reading and {_percent(min(shares))} in the worst one" if len(shares) > 1 else ""
    return (
        "Does the formula for normal distributions agree with the distance between the samples themselves? "
        f"{conclusion}: it gives {_percent(median(shares))} of the empirical W₂{least} (it cannot give more)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\u00a0%"


# Curves.


def _panels(lines: list[dict[str, Any]], ends: Mapping[int, float]) -> list[Panel]:
    by_key = series_of(Columns((line | _squared(line) | _floored(line) for line in lines), ends))

    def panel(title: str, note: str, *names: str, log: bool = False, level: float | None = None) -> Panel:
        present = [(name, by_key[f"{NAME}/{name}"]) for name in names if f"{NAME}/{name}" in by_key]
        # A logarithmic axis has no 0.
        log = log and all(v is None or v > 0 for _, series in present for v in series.line.values)
        return Panel("laboratory", title, note, [replace(s, name=NAMES[name]) for name, s in present], log, level=level)

    drawn = [
        panel("Mean errors", "Of real pictures and of generated ones.", "real-mean", "fake-mean"),
        panel(
            "W₂² and its two terms",
            "From the formula for normal distributions. BEGAN keeps the mean term, (m₁ − m₂)².",
            *("squared", "mean-term", "variance-term"),
        ),
        panel("The ratio", "The paper assumes a constant ratio: a level line.", "ratio", log=True),
        panel(
            "Formula and samples",
            "W₂ for normal distributions, and the distances between the samples themselves. Up to that of "
            "halves of the real errors, which chance alone gives, W₂ tells no difference.",
            *("wasserstein", "empirical-w2", "empirical-w1", "real-halves"),
        ),
        panel(
            "Normality",
            f"p-values; below the line, at {LEVEL}, normality is rejected. Values below {LOWEST:f} are drawn there.",
            *("real-normality", "fake-normality"),
            log=True,
            level=LEVEL,
        ),
    ]
    return [one for one in drawn if one.series]


def _squared(line: dict[str, Any]) -> dict[str, float]:
    row = _row(line)
    return {f"{NAME}/squared": row["wasserstein"] ** 2} if "wasserstein" in row else {}


def _floored(line: dict[str, Any]) -> dict[str, float]:
    row = _row(line)
    return {f"{NAME}/{name}": max(row[name], LOWEST) for name in ("real-normality", "fake-normality") if name in row}


def _quantiles(story: Story, ends: Mapping[int, float]) -> dict[str, Any]:
    """The last stored quantile plot: its step and the three lists, or {}."""
    for line in reversed(story.readings):
        plot = mapping(mapping(line.get("details")).get("quantiles"))
        if line.get("diagnostic") != NAME or replaced(line, ends):
            continue
        lists = {name: [finite(value) for value in listing(plot.get(name))] for name in ("normal", "real", "fake")}
        if lists["normal"]:
            return {"step": line["step"], **lists}
    return {}
