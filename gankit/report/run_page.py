"""report.html: a run folder in one self-contained page, without network access."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from gankit.report import words
from gankit.report.curves import Panel, rate_drops, replaced
from gankit.report.embed import animation, grids, neighbours, real, still
from gankit.report.figures import MARKS
from gankit.report.page import label, panel_data, room, write_page
from gankit.report.reconstruction_errors import Laboratory, laboratory
from gankit.report.story import Story, listing, mapping, read
from gankit.runs.folder import RunFolder
from gankit.runs.score import SCORE, best
from gankit.runs.verdict import of_copies, verdict

GRIDS = 6  # alarms to show with their grids
NAMED = 20  # skipped or warned files to list by name
INTERPOLATION = 600_000  # bytes of the page, at most
SHEET = 64  # pictures of real.png
COLUMNS = 5  # steps in the table that stands for a chart where scripts do not run
THEORY = ("losses", "energies", "control", "rates")  # kinds of panels that are folded; "judged" is not


def write_report(run: RunFolder, path: Path | None = None, live: bool = False, story: Story | None = None) -> Path:
    """Write a report of a run, finished or not, into one HTML file, RUN/report.html by default.

    The report names missing or damaged parts of the folder. `live`: the page loads itself again every minute.
    `story`: the folder's content, if already read. Returns the path.
    Raises UserError if the file cannot be written.
    """
    story = story or read(run)
    context = _context(story) | {"live": live}
    if live:
        # There is nothing to resume yet.
        going = {"state": "training", "ending": f"It is at step {words.steps_done(story):,}."}
        context |= going | {"verdict": replace(context["verdict"], next="")}
    free = room(context)
    beside = real(run, free // 4)
    between = animation(run, run.folder / "interpolation.gif", min(INTERPOLATION, free // 4))
    stills, out = grids(run, story.samples, free - len(beside) - len(between.get("source", "")))
    context |= {"real": beside, "interpolation": between, "grids": stills}
    if out:
        many = f"{len(out):,} samples are left out, the first" if len(out) > 1 else "a sample is left out,"
        context["missing"] = [*story.missing, f"{many} {out[0].name}: damaged, or too large for a page"]
    return write_page(
        "run_page.html.j2", Path(path) if path else run.report_path, context, bool(context["curves"]["panels"])
    )


def _context(story: Story) -> dict[str, Any]:
    """The template's variables, without the pictures."""
    drawn = sorted((_marked(panel, story) for panel in story.panels), key=_place)
    errors, near = laboratory(story), neighbours(story.run)
    near = {} if story.until is not None and near.get("step", 0) > story.until else near  # samples that are not shown
    curves = _curves(drawn, errors, story)
    said = verdict(story.run, story.metrics, story.alarms, story.result, near, until=story.until)
    if story.until is not None:
        shown = ["gankit", "sample", str(story.run.folder), "--from", str(story.until)]
        said = replace(said, next=shlex.join(shown))
    return {
        "verdict": said,
        "because": [
            one
            for one in (
                *said.because,
                "" if said.judged or not story.result else words.variety(drawn),
                words.cleanliness(drawn),
            )
            if one
        ],
        "model": story.model or "unknown model",
        "folder": str(story.run.folder),
        "state": words.state(story),
        "ended": bool(story.result) or story.until is not None,
        "ending": " ".join(filter(None, (words.ending(story), words.rescues(story), words.shortened(story)))),
        "tiles": words.tiles(story),
        "data": words.pictures(story),
        "where": words.where(story),
        "started": words.moment(story.environment.get("started")),
        "missing": story.missing,
        "alarms": _alarms(story),
        "curves": curves,
        "charts": _charts(drawn, errors, curves),
        "latest": [
            (key, words.number(s.last[1]), s.last[0])
            for panel in drawn
            for s in panel.series
            if s.last
            for key in s.keys or (s.key,)
        ],
        "neighbours": near,
        "copies": of_copies(near),
        "aside": bool(story.result and story.samples and story.run.attempt > 1)
        and story.samples[-1][0] < words.steps_done(story),
        "all_real": isinstance(count := story.data.get("train"), int) and count <= SHEET,
        "animation_gif": story.run.animation_path.is_file(),
        "errors": errors,
        "latest_errors": [(key, words.number(value), step) for key, value, step in errors.latest] if errors else [],
        "files": [_files(story, "skipped"), _files(story, "warned")],
        "about_data": _about_data(story),
        "settings": _settings(story),
        "history": _history(story),
        "repeat": words.repeat(story),
        "go_on": words.go_on(story),
        "interpolate": f"gankit interpolate {shlex.quote(str(story.run.folder))}",
        "versions": _versions(story),
        "losses_png": story.run.losses_path.is_file(),
    }


# Curves: plain data for plotly, by report.js.


def _curves(drawn: list[Panel], errors: Laboratory | None, story: Story) -> dict[str, Any]:
    marks = [
        {
            "step": alarm["step"],
            "critical": alarm.get("severity") == "critical",
            "replaced": replaced(alarm, story.ends),
            "text": label(f"{alarm.get('diagnostic', 'alarm')}: {alarm.get('message', '')}"),
        }
        for alarm in story.alarms[:MARKS]
    ]
    return {
        "panels": [panel_data(panel) for panel in drawn],
        "errors": [panel_data(panel) for panel in errors.panels] if errors else [],
        "quantiles": errors.quantiles if errors else {},
        "alarms": marks,
        "drops": rate_drops(drawn)[:MARKS],
    }


def _marked(panel: Panel, story: Story) -> Panel:
    """The panel of the score with the best checkpoint; any other as it is."""
    scores = story.run.scores(story.metrics)
    step = best(scores)
    if step is None or panel.series[0].key != SCORE:
        return panel
    note = f"{panel.note} The star is the best checkpoint that was saved: {scores[step]:.2f} at step {step:,}."
    return replace(panel, note=note, best=(step, scores[step]))


def _place(panel: Panel) -> int:
    """What everybody asks comes first, the score before its parts, then what the training minimises, then the rest."""
    if panel.series[0].key == SCORE:
        return -1
    return 0 if panel.kind == "judged" else 1 if panel.kind in THEORY else 2


def _charts(drawn: list[Panel], errors: Laboratory | None, curves: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The panels' data by their part of the page, in the order of `curves`, each with its table."""
    parts: dict[str, list[dict[str, Any]]] = {"judged": [], "theory": [], "further": [], "errors": []}
    for panel, data in zip(drawn, curves["panels"], strict=True):
        parts[("judged", "theory", "further")[max(_place(panel), 0)]].append(data | {"table": _table(panel)})
    for panel, data in zip(errors.panels if errors else [], curves["errors"], strict=True):
        parts["errors"].append(data | {"table": _table(panel)})
    return parts


def _table(panel: Panel) -> dict[str, Any]:
    """A few values of each series, evenly in steps, and the step at the head of each column."""
    steps = sorted({step for series in panel.series for step in series.line.steps})
    shown = sorted({steps[n * (len(steps) - 1) // max(COLUMNS - 1, 1)] for n in range(COLUMNS)} if steps else ())
    rows = []
    for series in panel.series:
        values = dict(zip(series.line.steps, series.line.values, strict=True))
        rows.append((series.name, ["" if values.get(step) is None else words.number(values[step]) for step in shown]))
    return {"steps": shown, "rows": rows}


# Tables.


def _alarms(story: Story) -> list[dict[str, Any]]:
    """Alarms grouped by kind: the last message, the count, the first and the last step."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for alarm in story.alarms:
        key = str(alarm.get("diagnostic", "")), str(alarm.get("kind", ""))
        group = groups.setdefault(key, {"first": alarm["step"], "count": 0})
        group |= {
            "count": group["count"] + 1,
            "last": alarm["step"],
            "diagnostic": key[0],
            "kind": key[1],
            "critical": alarm.get("severity") == "critical",
            "message": str(alarm.get("message") or ""),
            "advice": words.advice(story, alarm),
            "action": str(alarm.get("action") or ""),
            "grids": alarm,
        }
    for place, group in enumerate(groups.values()):
        group["grids"] = _beside(story, group["grids"]) if place < GRIDS else []
    return sorted(groups.values(), key=lambda group: (not group["critical"], -group["last"]))


def _beside(story: Story, alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The sample grids before and at an alarm, if the alarm says when the trouble began."""
    before, attempt = alarm.get("before"), alarm.get("attempt", 1)
    if not isinstance(before, int) or not isinstance(attempt, int):
        return []
    both = [still(story.run, story.run.sample_at(step, attempt)) for step in (before, alarm["step"])]
    return both if all(both) and both[0]["step"] < both[1]["step"] else []


def _files(story: Story, name: str) -> dict[str, Any]:
    entries = listing(story.data.get(name))
    named = [
        (str(e.get("file", "")), str(e.get("reason", ""))) if isinstance(e, dict) else (str(e), "") for e in entries
    ]
    return {"name": name, "count": len(named), "named": named[:NAMED]}


def _about_data(story: Story) -> list[tuple[str, str]]:
    labels = [str(label) for label in listing(story.data.get("labels"))]
    shown = "; ".join(labels[:NAMED]) + (f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else "")
    digest = str(story.data.get("digest") or "")
    streamed = story.data.get("streamed") is True
    rows = [
        ("Labels", shown),
        ("Names and sizes digest" if streamed else "Content digest", digest),
        ("Streamed", "decoded while it trained: nobody looked for copies among the pictures" if streamed else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _settings(story: Story) -> list[tuple[str, str, bool]]:
    """(name, value, whether the user requested it) of each setting, the model's first."""
    requested = words.flat(mapping(story.config.get("requested")))
    rows = words.flat({key: value for key, value in story.config.items() if key not in ("requested", "history")})
    rows |= {name: value for name, value in requested.items() if name not in rows and value not in ({}, [])}
    ordered = sorted(rows, key=lambda name: not name.startswith("model."))
    return [
        (name, words.setting(rows[name]), any(name == one or name.startswith(f"{one}.") for one in requested))
        for name in ordered
    ]


def _history(story: Story) -> list[tuple[str, str]]:
    entries = [mapping(entry) for entry in listing(story.config.get("history"))]
    rows = []
    for entry in entries:
        changed = words.flat(mapping(entry.get("changed")))
        values = ", ".join(f"{name} = {words.setting(value)}" for name, value in changed.items())
        by = f" (by a {entry['by']})" if entry.get("by") else ""
        rows.append((words.number(entry.get("step")), f"{values}{by}"))
    return rows


def _versions(story: Story) -> list[tuple[str, str]]:
    known = ("gankit", "python", "torch", "torchvision", "platform", "device", "threads")
    rows = [(name, str(story.environment[name])) for name in known if story.environment.get(name) is not None]
    for plugin in listing(story.environment.get("plugins")):
        one = mapping(plugin)
        rows.append(
            (
                f"plugin {one.get('name', '')}",
                f"{one.get('distribution', '')} {one.get('version', '')}".strip(),
            )
        )
    return rows
