"""report.html of a comparison: pictures, measures and curves of its arms side by side, from its folder alone."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gankit.comparison.results import ending_cells, label, shown, some
from gankit.comparison.stored import read as read_comparison
from gankit.files import below, relative
from gankit.report import words
from gankit.report.curves import NOTES, POINTS, Panel, Series, thin
from gankit.report.embed import neighbours, still
from gankit.report.figures import MARKS
from gankit.report.page import label as in_lines
from gankit.report.page import panel_data, room, write_page
from gankit.report.story import Story, evenly, read
from gankit.runs.advice import again
from gankit.runs.folder import RunFolder

POSITIONS = 40  # of the slider, at most
DRAWN = (  # metrics to draw if several arms have them, in this order; NAME/ stands for all below it
    *("mode-collapse/variety", "mode-collapse/coverage", "mode-collapse/recall", "mode-collapse/precision"),
    *("mode-collapse/colours", "cleanliness/", "energy/", "loss/", "reconstruction-errors/wasserstein"),
    *("learning_rate/", "images_per_second"),
)


def write_comparison(folder: Path) -> Path:
    """Write report.html of a comparison, finished or not. Returns the path.

    Raises UserError if comparison.json cannot be read or the page cannot be written.
    """
    comparison = read_comparison(folder)
    stories = _stories(folder, comparison)
    context = _context(folder, comparison, stories)
    context |= _pictures(comparison, stories, room(context))
    return write_page("comparison_page.html.j2", folder / "report.html", context, drawn=True)


def _stories(folder: Path, comparison: Mapping[str, Any]) -> dict[tuple[str, int], Story]:
    """The runs that have started, by arm and seed."""
    rows = [
        row for row in comparison["runs"] if (below(folder, *relative(row["folder"]).parts) / "config.json").is_file()
    ]
    here = folder.absolute()  # a relative path may begin with ~, which would lead to a home
    return {(row["arm"], row["seed"]): read(RunFolder(here / row["folder"])) for row in rows}


def _context(folder: Path, comparison: Mapping[str, Any], stories: Mapping[tuple[str, int], Story]) -> dict[str, Any]:
    arms = [arm["name"] for arm in comparison["arms"]]
    rows = comparison["runs"]
    seeds = sorted({row["seed"] for row in rows})
    done = sum(bool(row.get("outcome")) for row in rows)
    data = comparison["data"]
    return {
        "arms": arms,
        "name": str(data.get("name") or comparison["asked"]["data"]).rstrip("/").rsplit("/", 1)[-1],
        "folder": str(folder),
        "state": "not ended" if comparison["state"] == "running" else comparison["state"],
        "data": data,
        "shown": _length(comparison),
        "seeds": len(seeds),
        "networks": comparison["asked"]["networks"],
        "apart": [
            arm["name"]
            for arm in comparison["arms"]
            if comparison["asked"]["networks"] not in arm["config"]["networks"]
        ],
        "tiles": [
            ("Runs", f"{done:,}", f"of {len(rows):,} done"),
            ("Pictures", f"{data['train']:,}", f"{data['held_out']:,} held out"),
            ("Critical alarms", f"{sum(r.get('alarm_step') is not None for r in rows):,}", f"in {done:,} runs"),
        ],
        "grown": comparison.get("first_seeds"),
        "summary": comparison["summary"],
        "measures": [_measure(entry, arms) for entry in comparison["measures"]],
        "coverage": comparison["coverage"],
        "notes": comparison["notes"],
        "curves": {
            "panels": _panels(arms, seeds, stories),
            "errors": [],
            "quantiles": {},
            "drops": [],
            "alarms": _marks(stories),
            "measures": [_dots(entry, arms) for entry in comparison["measures"]],
        },
        "runs": [_run(row, folder, stories.get((row["arm"], row["seed"]))) for row in rows],
        "differences": [
            (row["name"], [words.setting(row["values"][arm]) if arm in row["values"] else "" for arm in arms])
            for row in comparison["differences"]
        ],
        **again(comparison["command"], folder),
    }


def _length(comparison: Mapping[str, Any]) -> str:
    if comparison["images"] is not None:
        whole = all(row.get("outcome") == "finished" and row["reason"] == "steps" for row in comparison["runs"])
        return f"{'' if whole else 'up to '}{comparison['images']:,} pictures shown to each"
    return f"{words.duration(comparison['budget'])} of training for each"


# Pictures: all grids of each arm's first seed under one slider, and the last grids of the other seeds.


def _pictures(comparison: Mapping[str, Any], stories: Mapping[tuple[str, int], Story], free: int) -> dict[str, Any]:
    first = min(row["seed"] for row in comparison["runs"])
    arms = {arm: stories[arm, first].samples for arm, seed in stories if seed == first and stories[arm, first].samples}
    runs = {arm: stories[arm, first].run for arm in arms}
    others: list[dict[str, Any]] = []
    copies: list[dict[str, Any]] = []
    for (arm, seed), story in stories.items():
        last = still(story.run, story.samples[-1] if story.samples else None)
        near = neighbours(story.run) if last and seed == first else {}
        if near.get("source"):
            copies.append({"name": arm, "at": f" of step {near['step']:,}", "source": near["source"]})
        if last and seed != first and len(others) < 60:
            others.append({"name": f"{arm}, seed {seed}", **last})
    free -= sum(len(one["source"]) for one in (*others, *copies))
    paces = {arm["name"]: arm["pictures_a_step"] for arm in comparison["arms"]}
    columns: list[dict[str, Any]] = [{"name": arm, "shown": []} for arm in arms]
    if arms:
        # Aligned by pictures seen: a model that uses two batches per step has seen as many at half the step.
        longest = max(arms, key=lambda arm: arms[arm][-1][0] * paces[arm])
        each = sum(len(still(runs[arm], samples[-1]).get("source", "")) for arm, samples in arms.items())
        chosen = evenly(arms[longest], max(1, min(POSITIONS, free // max(each, 1))))
        for column in columns:
            samples, pace = arms[column["name"]], paces[column["name"]]
            for step, _ in chosen:
                images = step * paces[longest]
                at = [sample for sample in samples if sample[0] * pace <= images] or samples[:1]
                # An empty address where a picture is damaged.
                column["shown"].append(still(runs[column["name"]], at[-1]) or {"step": at[-1][0], "source": "data:,"})
    held = [
        [
            {
                "step": one["step"],
                # A picture that the page already holds is not stored twice.
                "source": None
                if n == len(column["shown"]) - 1 or (n and one["source"] == column["shown"][n - 1]["source"])
                else one["source"],
            }
            for n, one in enumerate(column["shown"])
        ]
        for column in columns
    ]
    return {"columns": columns, "grids": held, "first": first, "others": others, "copies": copies}


# Measures.


def _measure(entry: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    name = entry["name"]
    means = []
    for arm in arms:
        one = entry["arms"][arm]
        spread = "" if one["spread"] is None else f"± {shown(name, one['spread'])}"
        means.append((shown(name, one["mean"]), f"{spread} ({some(one)})".lstrip() if some(one) else spread))
    rows = []
    for one in entry["differences"]:
        rows.append(
            {
                "pair": f"{one['of']} less {one['less']}",
                "mean": _signed(name, one["mean"]),
                "interval": " to ".join(_signed(name, value) for value in one["interval"] or ()),
                "verdict": one["verdict"],
                "sentence": one["sentence"],
            }
        )
    better = f"{entry['better']} is better"
    if entry["better"] == "nearer":
        better = "nearer to the real pictures is better; differences compare the distances from them"
    return {
        "title": label(name),
        "note": better + (f"; by {entry['space']}" if entry["space"] else ""),
        "ceiling": "" if entry["ceiling"] is None else shown(name, entry["ceiling"]),
        "means": means,
        "remark": entry.get("note", ""),
        "differences": rows,
    }


def _signed(name: str, value: float) -> str:
    text = shown(name, value)
    return text if value < 0 or not re.search("[1-9]", text) else f"+{text}"


def _dots(entry: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    scale = 2**-20 if entry["name"] == "peak_memory" else 1
    rows = []
    for arm in arms:
        one = entry["arms"][arm]
        rows.append(
            {
                "name": html.escape(arm),
                "short": html.escape(arm if len(arm) <= 18 else f"{arm[:17]}…"),
                "values": [value * scale for value in one["values"] if value is not None],
                "mean": None if one["mean"] is None else one["mean"] * scale,
                "interval": one["interval"] and [value * scale for value in one["interval"]],
            }
        )
    return {"arms": rows, "ceiling": entry["ceiling"]}


# Curves: one panel per metric, one colour per arm, one line per seed.


def _panels(
    arms: Sequence[str], seeds: Sequence[int], stories: Mapping[tuple[str, int], Story]
) -> list[dict[str, Any]]:
    by_run = {key: story.series for key, story in stories.items()}
    keys = sorted({key for series in by_run.values() for key in series})
    drawn = []
    for pattern in DRAWN:
        for key in keys:
            if key != pattern and not (pattern.endswith("/") and key.startswith(pattern)):
                continue
            present = [series[key] for series in by_run.values() if key in series]
            moves = len({value for one in present for value in one.line.values if value is not None}) > 1
            if moves and len({arm for (arm, _), series in by_run.items() if key in series}) > 1:
                drawn.append(_panel(key, arms, seeds, by_run))
    return drawn


def _panel(
    key: str, arms: Sequence[str], seeds: Sequence[int], by_run: Mapping[tuple[str, int], Mapping[str, Series]]
) -> dict[str, Any]:
    present = [(arm, seed) for arm in arms for seed in seeds if key in by_run.get((arm, seed), {})]
    points = max(200, POINTS * 2 // len(present))
    lines = []
    for arm, seed in present:
        one = by_run[arm, seed][key]
        name = arm if len(seeds) == 1 else f"{arm}, seed {seed}"
        line, smooth = (thinner(line, points) if line else None for line in (one.line, one.smooth))
        lines.append(replace(one, name=name, line=line or one.line, smooth=smooth, abandoned=[]))
    log = key.startswith("learning_rate") and all(v is None or v > 0 for s in lines for v in s.line.values)
    about = lines[0].about  # the first arm's description of a metric counts
    note = about.note or NOTES.get(key.partition("/")[0], "")
    kind = "rates" if key.startswith("learning_rate") else "other"
    title = f"{key}  {about.letter}" if about.letter else key
    data = panel_data(Panel(kind, title, note, lines, log, about.bounds))
    for (arm, seed), series in zip(present, data["series"], strict=True):
        series["name"] = html.escape(arm if seed == seeds[0] else f"{arm}, seed {seed}")
        series["colour"] = arms.index(arm)
        series["further"] = seed != min(s for a, s in present if a == arm)
    return data


def thinner(line: Any, limit: int) -> Any:
    """The line with fewer points."""
    return thin([(s, math.nan if v is None else v) for s, v in zip(line.steps, line.values, strict=True)], limit)


def _marks(stories: Mapping[tuple[str, int], Story]) -> list[dict[str, Any]]:
    """The critical alarms of all runs; the runs' own reports show the others."""
    return [
        {
            "step": alarm["step"],
            "critical": True,
            "text": in_lines(f"{arm}, seed {seed}: {alarm.get('kind', 'alarm')}: {alarm.get('message', '')}"),
        }
        for (arm, seed), story in stories.items()
        for alarm in story.alarms
        if alarm.get("severity") == "critical"
    ][:MARKS]


def _run(row: Mapping[str, Any], folder: Path, story: Story | None) -> dict[str, Any]:
    if row.get("outcome"):
        cells = ending_cells(row)
    else:
        goal = story.config.get("steps") if story else None
        at = f"at step {words.steps_done(story):,}" if story else "not begun"
        cells = (f"{at} of {goal:,}" if isinstance(goal, int) else at, "", "", "", "")
    there = (folder / row["folder"] / "report.html").is_file()
    return {
        "arm": row["arm"],
        "seed": row["seed"],
        **dict(zip(("how", "collapse", "rescues", "speed", "seconds"), cells, strict=True)),
        # The leading ./ keeps a folder named `javascript:…` a path.
        "report": f"./{quote(str(relative(row['folder'])))}/report.html" if there else "",
    }
