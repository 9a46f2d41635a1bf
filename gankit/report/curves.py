"""The lines of metrics.jsonl as named series in panels, for losses.png and the report."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gankit.options import Curve
from gankit.runs.folder import MOST_STEPS
from gankit.runs.score import SCORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 2000  # per series; a screen shows no more
ABANDONED = 100  # lines of replaced attempts per series; the last ones
BLOCK = 1 << 16  # points that are smoothed at once
SMOOTH_FROM = 150  # points; with fewer, every point is visible
NOISY = 0.3  # share of points that are a turn: two thirds in white noise, none in a calm curve
SCALES_APART = 30.0  # ratio of readings of one diagnostic; beyond it they get separate panels

# How to draw gankit's own metrics. Models and components describe theirs; other metrics have only their name.
OWN = {
    "loss/discriminator": Curve(letter="L_D"),
    "loss/generator": Curve(letter="L_G"),
    "energy/real": Curve(
        letter="L(x)", note="The discriminator's energy of real pictures. Its unit is the model's own."
    ),
    "energy/fake": Curve(
        letter="L(G(z))", note="The discriminator's energy of generated pictures. Its unit is the model's own."
    ),
}
NOTES = {  # for all metrics with a prefix
    "loss": "The value that each network minimises.",
    "energy": "The discriminator's energy, batch means: of real pictures and of generated ones.",
    "cleanliness": "Samples divided by real pictures, at their own size: 1 is right, the dashed line. Grain above 1 is "
    "noise. Flat and ground below 1 are noise too; fine below 1 is blur. Logarithmic scale.",
    "learning_rate": "Logarithmic scale.",
    "speed": "The only curve here that depends on the clock.",
}
RATIOS = {"cleanliness": "Clean: how clean and how sharp"}  # diagnostics whose readings should be 1, and their titles
# Readings that answer a question of everybody's: title, words, the level of real pictures.
JUDGED = {
    SCORE: (
        "Score: how good the samples are, in one number",
        "The geometric mean of variety, form and cleanliness, each up to 1. Other real pictures have 1: the dashed "
        "line.",
        1.0,
    ),
    "mode-collapse/variety": (
        "Variety: how much of the data they show",
        "Of the samples, roughly by form and colour, divided by that of as many other real pictures: the dashed line.",
        1.0,
    ),
    "mode-collapse/form": (
        "Form: how much they look like the data",
        "How well the samples' form and texture fit, in a fixed network's features, divided by the same of as many "
        "other real pictures: the dashed line.",
        1.0,
    ),
    "mode-collapse/duplicates": (
        "Twins: samples that repeat each other",
        "Share of the samples with a twin among the samples. The dashed line: 1 in 100 real pictures has one.",
        0.01,
    ),
}
NOT_DRAWN = {"step", "images", "seconds", "attempt"}
APART, LARGEST = {"reconstruction-errors"}, 1e300  # diagnostics with their own section; what a plot can hold


@dataclass(frozen=True)
class Line:
    """Points in order of steps; a value of None is a gap."""

    steps: list[int]
    values: list[float | None]


@dataclass(frozen=True)
class Series:
    """One metric: its line, the smoothed line if it is long and noisy, and lines of replaced attempts."""

    key: str
    name: str
    about: Curve
    line: Line
    smooth: Line | None
    abandoned: list[Line]
    last: tuple[int, float] | None
    keys: tuple[str, ...] = ()  # all metrics with this line, where several have the same


@dataclass(frozen=True)
class Panel:
    """Series to draw in one plot, with a title and a note."""

    kind: str  # judged | losses | energies | control | rates | diagnostic | laboratory | other
    title: str
    note: str
    series: list[Series]
    log: bool = False
    bounds: tuple[float | None, float | None] = (None, None)
    level: float | None = None  # a horizontal line
    best: tuple[int, float] | None = None  # the step and the value of the best checkpoint


class Columns:
    """The numbers of metrics lines by key, in arrays: a million lines of 18 keys take 230 MB.

    `lines` may be a stream. `ends`: for each attempt, the step from which a later one replaces it; by
    default as the lines show it.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]], ends: Mapping[int, float] | None = None) -> None:
        self.steps, self.attempts = array("q"), array("q")
        self.rows: dict[str, array[int]] = {}  # the numbers of the lines that have the key
        self.values: dict[str, array[float]] = {}  # NaN, a gap, for null and numbers that are not finite
        starts: dict[int, int] = {}
        for row, line in enumerate(lines):
            step, attempt = line["step"], attempt_of(line)
            self.steps.append(step)
            self.attempts.append(attempt)
            if step < starts.get(attempt, math.inf):
                starts[attempt] = step
            for key, value in line.items():
                if type(value) is not float:
                    if key in NOT_DRAWN or isinstance(value, bool) or not isinstance(value, int | float | None):
                        continue
                    value = _float(value)
                elif key in NOT_DRAWN:
                    continue
                if key not in self.rows:
                    self.rows[key], self.values[key] = array("I"), array("d")
                self.rows[key].append(row)
                self.values[key].append(value)
        self.ends = _ends(starts) if ends is None else ends


def panels(
    lines: dict[str, Series] | Columns | Iterable[Mapping[str, Any]],
    model: str,
    curves: Mapping[str, Curve] | None = None,
) -> list[Panel]:
    """Losses, energies, values of `model` (its name), learning rates, a panel per diagnostic, then the rest.

    `curves`: how to draw metrics, from the run folder.
    """
    series = lines if isinstance(lines, dict) else series_of(lines, curves)
    by_key = {key: one for key, one in series.items() if key.partition("/")[0] not in APART}
    groups = [_panels_of(name, [by_key[key] for key in keys], model) for name, keys in _by_prefix(by_key, model)]
    return [panel for group in groups for panel in group]


def series_of(
    lines: Columns | Iterable[Mapping[str, Any]], curves: Mapping[str, Curve] | None = None
) -> dict[str, Series]:
    """Every number of the metrics lines as a series, by its key."""
    import numpy as np

    columns, about = lines if isinstance(lines, Columns) else Columns(lines), {**OWN, **(curves or {})}
    steps, attempts = (np.asarray(one, dtype=np.int64) for one in (columns.steps, columns.attempts))
    numbers, place = np.unique(attempts, return_inverse=True)
    ends = np.array([columns.ends.get(int(number), math.inf) for number in numbers])
    gone = steps >= ends[place] if len(numbers) else np.zeros(0, bool)
    series = {}
    for key, values in columns.values.items():
        rows = np.asarray(columns.rows[key])
        points = steps[rows], np.asarray(values), attempts[rows], gone[rows]
        series[key] = _series(key, about.get(key, Curve()), *points)
    return series


def rate_drops(panels: Iterable[Panel]) -> list[int]:
    """The steps by which a learning rate was lowered, in order."""
    steps: set[int] = set()
    for series in (series for panel in panels if panel.kind == "rates" for series in panel.series):
        points = [(s, v) for s, v in zip(series.line.steps, series.line.values, strict=True) if v is not None]
        steps |= {step for (_, before), (step, after) in pairwise(points) if after < 0.75 * before}
    return sorted(steps)


# Reading.


def _float(value: int | float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # of a number of hundreds of digits
        return math.nan


def attempt_of(line: Mapping[str, Any]) -> int:
    attempt = line.get("attempt", 1)
    return attempt if isinstance(attempt, int) and 0 < attempt < MOST_STEPS else 1


def replaced(line: Mapping[str, Any], ends: Mapping[int, float]) -> bool:
    """Whether a later attempt repeated the step of a line; `ends` are those of `Columns`."""
    return bool(line["step"] >= ends.get(attempt_of(line), math.inf))


def _ends(starts: Mapping[int, int]) -> dict[int, float]:
    """For each attempt, by its first step, the step from which a later attempt replaces it."""
    ends, least = {}, math.inf
    for attempt in sorted(starts, reverse=True):
        ends[attempt] = least
        least = min(least, starts[attempt])
    return ends


def _series(
    key: str, about: Curve, steps: NDArray[Any], values: NDArray[Any], attempts: NDArray[Any], gone: NDArray[Any]
) -> Series:
    """The series of the points of a key, in the order of their lines; `gone` are those of replaced attempts."""
    import numpy as np

    order = np.argsort(steps[~gone], kind="stable")
    kept, level = steps[~gone][order], values[~gone][order]
    abandoned = []
    for attempt in np.unique(attempts[gone])[-ABANDONED:]:
        own = gone & (attempts == attempt)
        # Start at the fork, where the later attempt starts too.
        fork = int(np.searchsorted(kept, steps[own][0]))
        before = slice(max(fork - 1, 0), fork)
        path = np.concatenate([kept[before], steps[own]]), np.concatenate([level[before], values[own]])
        abandoned.append(_thin(*path, POINTS // 4))
    finite = np.flatnonzero(np.isfinite(level))
    return Series(
        key=key,
        name=key.partition("/")[2] or key,
        about=about,
        line=_thin(kept, level, POINTS),
        smooth=_smooth(kept, level),
        abandoned=abandoned,
        last=(int(kept[finite[-1]]), float(level[finite[-1]])) if len(finite) else None,
    )


def thin(points: Sequence[tuple[int, float]], limit: int = POINTS) -> Line:
    """At most `limit` of the points: the least, the greatest and a gap of each stretch."""
    import numpy as np

    return _thin(
        np.array([step for step, _ in points], dtype=np.int64), np.array([value for _, value in points]), limit
    )


def _thin(steps: NDArray[Any], values: NDArray[Any], limit: int) -> Line:
    import numpy as np

    if len(values) > limit:
        gaps = ~np.isfinite(values)
        kept = {0, len(values) - 1}
        stretches = (limit - 2) // (3 if gaps.any() else 2)
        edges = np.linspace(0, len(values), stretches + 1).astype(int)
        low, high = np.where(gaps, np.inf, values), np.where(gaps, -np.inf, values)
        for start, end in pairwise(edges):
            kept |= {int(start + low[start:end].argmin()), int(start + high[start:end].argmax())}
            if gaps[start:end].any():
                kept.add(int(start + gaps[start:end].argmax()))
        chosen = sorted(kept)
        steps, values = steps[chosen], values[chosen]
    return Line(steps.tolist(), [value if abs(value) < LARGEST else None for value in values.tolist()])


def _smooth(steps: NDArray[Any], values: NDArray[Any]) -> Line | None:
    """A centred moving average over a fortieth of the points, or None if the line is short or calm anyway."""
    import numpy as np

    if len(values) < SMOOTH_FROM:
        return None
    finite = np.isfinite(values)
    jumps = np.diff(values[finite])
    if np.count_nonzero(jumps[1:] * jumps[:-1] < 0) <= NOISY * len(values):
        return None
    half = max(3, len(values) // 80)
    sums, counts = (np.concatenate([[0], np.cumsum(one)]) for one in (np.where(finite, values, 0.0), finite))
    # Narrower at both ends, where the average lags, but wide enough not to follow single points.
    means = np.full(len(values), math.nan)
    for first in range(0, len(values), BLOCK):
        place = np.arange(first, min(first + BLOCK, len(values)))
        reach = np.minimum(place, len(values) - 1 - place).clip(half // 2, half)
        start, end = (place - reach).clip(0), (place + reach + 1).clip(max=len(values))
        means[place] = (sums[end] - sums[start]) / np.maximum(counts[end] - counts[start], 1)
    means[~finite] = math.nan
    return _thin(steps, means, POINTS // 4)


# Grouping.


def _by_prefix(by_key: dict[str, Series], model: str) -> Iterator[tuple[str, list[str]]]:
    prefixes: dict[str, list[str]] = {}
    for key in by_key:
        prefix, slash, _ = key.partition("/")
        prefixes.setdefault(prefix if slash else "", []).append(key)
    order = ["loss", "energy", model, "learning_rate", "mode-collapse"]
    rest = sorted(prefix for prefix in prefixes if prefix and prefix not in order)
    for prefix in [*order, *rest, ""]:
        if prefix in prefixes:
            # Real before fake, discriminator before generator: each side has one colour in all panels.
            yield prefix, sorted(prefixes.pop(prefix), key=lambda key: (key == "energy/fake", key))


def _panels_of(prefix: str, series: list[Series], model: str) -> list[Panel]:
    if prefix == "loss":
        return [Panel("losses", "Losses", NOTES["loss"], series)]
    if prefix == "energy":
        return [Panel("energies", "Energies", NOTES["energy"], series)]
    if prefix == "learning_rate":
        log = _positive(series)
        return [Panel("rates", "Learning rates", NOTES["learning_rate"] if log else "", _merged(series), log)]
    if prefix == "term":
        return [Panel("other", "Extra loss terms", "Before their weights.", series)]
    if prefix == model:
        return [_told("control", s) for s in series]
    if prefix == "":
        titles = {"images_per_second": "Images a second"}
        notes = {"images_per_second": NOTES["speed"]}
        plain = [one for one in series if one.key not in JUDGED]
        return [
            *(_judged(one, *JUDGED[one.key]) for one in series if one.key in JUDGED),
            *(
                Panel("other", titles[s.key], notes[s.key], [s]) if s.key in titles else _told("other", s)
                for s in plain
            ),
        ]
    judged = [one for one in series if one.key in JUDGED]
    if judged:
        rest = [one for one in series if one not in judged]
        own = [_judged(one, *JUDGED[one.key]) for one in sorted(judged, key=lambda s: list(JUDGED).index(s.key))]
        return own + (_panels_of(prefix, rest, model) if rest else [])
    raw = [one for one in series if one.name.startswith("raw-")]
    if raw and len(raw) < len(series):  # readings of the generator without averaging get their own panel
        averaged = [one for one in series if one not in raw]
        return _panels_of(prefix, averaged, model) + _panels_of(prefix, raw, model)
    if prefix in RATIOS:
        return [Panel("judged", RATIOS[prefix], NOTES[prefix], series, _positive(series), level=1.0)]
    title = f"{prefix}, bare generator" if raw else prefix
    charts = dict.fromkeys(one.about.title for one in series if one.about.title)
    declared = [_beside(chart, [one for one in series if one.about.title == chart]) for chart in charts]
    others = [one for one in series if not one.about.title]
    return declared + [_beside(_title(title, group, series), group) for group in _by_scale(others)]


def _positive(series: list[Series]) -> bool:
    """Whether a logarithmic scale can show them."""
    return all(value is None or value > 0 for one in series for value in one.line.values)


def _told(kind: str, one: Series) -> Panel:
    """The panel of one metric, as its `Curve` says."""
    log = one.about.log and _positive([one])
    return Panel(kind, one.about.title or one.key, one.about.note, [one], log, one.about.bounds)


def _judged(one: Series, title: str, note: str, level: float) -> Panel:
    return Panel("judged", title, note, [one], bounds=(0.0, None), level=level)


def _beside(title: str, group: list[Series]) -> Panel:
    """A panel of a diagnostic, with the note of a single reading, and with bounds that all readings share."""
    bounds = {one.about.bounds for one in group}
    note = group[0].about.note if len(group) == 1 else ""
    log = all(one.about.log for one in group) and _positive(group)
    return Panel("diagnostic", title, note, group, log, bounds.pop() if len(bounds) == 1 else (None, None))


def _title(prefix: str, group: list[Series], whole: list[Series]) -> str:
    return prefix if len(group) == len(whole) else f"{prefix}: {', '.join(one.name for one in group)}"


def _by_scale(series: list[Series]) -> list[list[Series]]:
    """Groups of readings of similar size: beside a much greater one, a reading looks like a flat line."""
    size = {s.key: max((abs(v) for v in s.line.values if v is not None), default=0.0) for s in series}
    groups: list[list[Series]] = []
    for one in sorted(series, key=lambda s: size[s.key]):
        if groups and size[one.key] <= SCALES_APART * max(size[groups[-1][0].key], 1e-12):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [sorted(group, key=lambda s: s.key) for group in sorted(groups, key=lambda g: g[0].key)]


def _merged(series: list[Series]) -> list[Series]:
    """Merge series with equal lines under all their names: one line would hide the other."""
    merged: list[Series] = []
    for one in series:
        for n, other in enumerate(merged):
            if other.line == one.line:
                keys = (*(other.keys or (other.key,)), one.key)
                merged[n] = replace(other, name=f"{other.name} and {one.name}", about=Curve(), keys=keys)
                break
        else:
            merged.append(one)
    return merged
