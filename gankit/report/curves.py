"""The lines of metrics.jsonl as named series in panels, for losses.png and the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gankit.options import Curve
from gankit.runs.score import SCORE

POINTS = 2000  # per series; a screen shows no more
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
        "Copies: samples that repeat each other",
        "Share of the samples with a twin among the samples. The dashed line: 1 in 100 real pictures has one.",
        0.01,
    ),
}
NOT_DRAWN = {"step", "images", "seconds", "attempt"}
APART = {"reconstruction-errors"}  # diagnostics with their own section


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


def panels(lines: list[dict[str, Any]], model: str, curves: Mapping[str, Curve] | None = None) -> list[Panel]:
    """Group the metrics of a run into panels; `model` is the name in config.json.

    Losses, energies, the model's own values, learning rates, then one panel per diagnostic, then the rest.
    `curves`: how to draw metrics, from the run folder.
    """
    by_key = {key: series for key, series in series_of(lines, curves).items() if key.partition("/")[0] not in APART}
    grouped: list[Panel] = []
    for prefix, keys in _by_prefix(by_key, model):
        grouped += _panels_of(prefix, [by_key[key] for key in keys], model)
    return grouped


def series_of(lines: list[dict[str, Any]], curves: Mapping[str, Curve] | None = None) -> dict[str, Series]:
    """Every number of the metrics lines as a series, by its key."""
    kept_until, about = attempt_ends(lines), {**OWN, **(curves or {})}
    return {key: _series(key, about.get(key, Curve()), points, kept_until) for key, points in _columns(lines).items()}


def rate_drops(panels: Iterable[Panel]) -> list[int]:
    """The steps by which a learning rate was lowered, in order."""
    steps: set[int] = set()
    for series in (series for panel in panels if panel.kind == "rates" for series in panel.series):
        points = [(s, v) for s, v in zip(series.line.steps, series.line.values, strict=True) if v is not None]
        steps |= {step for (_, before), (step, after) in pairwise(points) if after < 0.75 * before}
    return sorted(steps)


# Reading.


def _columns(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float, int]]]:
    """(step, value, attempt) by key. null and non-finite numbers are NaN: a gap."""
    columns: dict[str, list[tuple[int, float, int]]] = {}
    for line in lines:
        step, attempt = line["step"], attempt_of(line)
        for key, value in line.items():
            if key in NOT_DRAWN or isinstance(value, bool):
                continue
            if value is None:
                value = math.nan
            elif not isinstance(value, int | float):
                continue
            columns.setdefault(key, []).append((step, float(value), attempt))
    return columns


def attempt_of(line: dict[str, Any]) -> int:
    attempt = line.get("attempt", 1)
    return attempt if isinstance(attempt, int) else 1


def replaced(line: dict[str, Any], ends: dict[int, float]) -> bool:
    """Whether a later attempt repeated the step of a line; `ends` comes from `attempt_ends`."""
    return bool(line["step"] >= ends.get(attempt_of(line), math.inf))


def attempt_ends(lines: list[dict[str, Any]]) -> dict[int, float]:
    """For each attempt, the step from which a later attempt replaces it."""
    starts: dict[int, int] = {}
    for line in lines:
        attempt = attempt_of(line)
        starts[attempt] = min(line["step"], starts.get(attempt, line["step"]))
    return {
        attempt: min((start for later, start in starts.items() if later > attempt), default=math.inf)
        for attempt in starts
    }


def _series(key: str, about: Curve, points: list[tuple[int, float, int]], kept_until: dict[int, float]) -> Series:
    kept = sorted(((step, value) for step, value, n in points if step < kept_until[n]), key=lambda p: p[0])
    abandoned = []
    for attempt in sorted({n for _, _, n in points}):
        gone = [(step, value) for step, value, n in points if n == attempt and step >= kept_until[n]]
        if gone:
            # Start at the fork, where the later attempt starts too.
            before = [point for point in kept if point[0] < gone[0][0]][-1:]
            abandoned.append(thin(before + gone, POINTS // 4))
    finite = [(step, value) for step, value in kept if math.isfinite(value)]
    return Series(
        key=key,
        name=key.partition("/")[2] or key,
        about=about,
        line=thin(kept),
        smooth=_smooth(kept),
        abandoned=abandoned,
        last=finite[-1] if finite else None,
    )


def thin(points: list[tuple[int, float]], limit: int = POINTS) -> Line:
    """At most `limit` of the points: the least, the greatest and a gap of each stretch."""
    import numpy as np

    if len(points) > limit:
        values = np.array([value for _, value in points])
        gaps = ~np.isfinite(values)
        kept = {0, len(points) - 1}
        stretches = (limit - 2) // (3 if gaps.any() else 2)
        edges = np.linspace(0, len(points), stretches + 1).astype(int)
        low, high = np.where(gaps, np.inf, values), np.where(gaps, -np.inf, values)
        for start, end in pairwise(edges):
            kept |= {int(start + low[start:end].argmin()), int(start + high[start:end].argmax())}
            if gaps[start:end].any():
                kept.add(int(start + gaps[start:end].argmax()))
        points = [points[n] for n in sorted(kept)]
    return Line([step for step, _ in points], [value if math.isfinite(value) else None for _, value in points])


def _smooth(points: list[tuple[int, float]]) -> Line | None:
    """A centred moving average over a fortieth of the points, or None if the line is short or calm anyway."""
    import numpy as np

    if len(points) < SMOOTH_FROM:
        return None
    values = np.array([value for _, value in points])
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0.0)
    jumps = np.diff(values[finite])
    if np.count_nonzero(jumps[1:] * jumps[:-1] < 0) <= NOISY * len(points):
        return None
    half = max(3, len(points) // 80)
    sums, counts = np.cumsum([0, *filled]), np.cumsum([0, *finite])
    # Narrower at both ends, where the average lags, but wide enough not to follow single points.
    place = np.arange(len(values))
    reach = np.minimum(place, place[::-1]).clip(half // 2, half)
    start, end = (place - reach).clip(0), (place + reach + 1).clip(max=len(values))
    means = (sums[end] - sums[start]) / np.maximum(counts[end] - counts[start], 1)
    means[~finite] = math.nan
    return thin([(step, float(mean)) for (step, _), mean in zip(points, means, strict=True)], POINTS // 4)


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
        log = all(value is None or value > 0 for one in series for value in one.line.values)
        return [Panel("rates", "Learning rates", NOTES["learning_rate"] if log else "", _merged(series), log)]
    if prefix == "term":
        return [Panel("other", "Extra loss terms", "Before their weights.", series)]
    if prefix == model:
        return [Panel("control", s.key, s.about.note, [s], bounds=s.about.bounds) for s in series]
    if prefix == "":
        titles = {"images_per_second": "Images a second"}
        notes = {"images_per_second": NOTES["speed"]}
        plain = [one for one in series if one.key not in JUDGED]
        return [
            *(_judged(one, *JUDGED[one.key]) for one in series if one.key in JUDGED),
            *(Panel("other", titles.get(s.key, s.key), notes.get(s.key, s.about.note), [s]) for s in plain),
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
        log = all(value is None or value > 0 for one in series for value in one.line.values)
        return [Panel("judged", RATIOS[prefix], NOTES[prefix], series, log, level=1.0)]
    title = f"{prefix}, bare generator" if raw else prefix
    return [_beside(_title(title, group, series), group) for group in _by_scale(series)]


def _judged(one: Series, title: str, note: str, level: float) -> Panel:
    return Panel("judged", title, note, [one], bounds=(0.0, None), level=level)


def _beside(title: str, group: list[Series]) -> Panel:
    """A panel of a diagnostic, with the note of a single reading, and with bounds that all readings share."""
    bounds = {one.about.bounds for one in group}
    note = group[0].about.note if len(group) == 1 else ""
    return Panel("diagnostic", title, note, group, bounds=bounds.pop() if len(bounds) == 1 else (None, None))


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
                names = f"{other.name} and {one.name}"
                merged[n] = Series(other.key, names, Curve(), other.line, other.smooth, other.abandoned, other.last)
                break
        else:
            merged.append(one)
    return merged
