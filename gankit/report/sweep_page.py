"""report.html of a sweep: the best settings, every parameter against the goal, samples and trials, from its folder."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gankit.comparison.arms import as_typed
from gankit.files import below, relative
from gankit.report import words
from gankit.report.embed import still
from gankit.report.page import room, write_page
from gankit.runs.advice import again, recorded
from gankit.runs.folder import RunFolder
from gankit.sweeps import results
from gankit.sweeps.search import ENOUGH
from gankit.sweeps.space import Parameter
from gankit.sweeps.stored import read

PICTURES = 8  # trials with samples on the page
DRAWN = 1000  # trials in the plots, at most
TICKS = 5  # of the axis of a range


def write_sweep(folder: Path) -> Path:
    """Write report.html of a sweep, finished or not. Returns the path.

    Raises UserError if sweep.json cannot be read or the page cannot be written.
    """
    sweep = read(folder)
    order = results.ranked(sweep)
    order += [trial for trial in sweep["trials"] if trial not in order]
    context = _context(folder, sweep, order)
    context["samples"] = _samples(folder, sweep, order, room(context))
    return write_page("sweep_page.html.j2", folder / "report.html", context, drawn=True)


def _context(folder: Path, sweep: Mapping[str, Any], order: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    asked, data, goal = sweep["asked"], sweep["data"], sweep["goal"]
    space = results.space_of(sweep)
    states = [trial["state"] for trial in sweep["trials"]]
    done = sum(state != "waiting" for state in states)
    best = next((trial for trial in order if trial["number"] == sweep["best"]), None)
    length = f"{sweep['steps']:,} steps" if sweep["steps"] is not None else words.duration(asked.get("time"))
    return {
        "model": sweep["model"],
        "name": str(data.get("name") or asked["data"]).rstrip("/").rsplit("/", 1)[-1],
        "folder": str(folder),
        "state": "not ended" if sweep["state"] == "running" else sweep["state"],
        "summary": sweep["summary"],
        "best": recorded(sweep["best_command"])[0],
        "check": recorded(sweep["check_command"])[0],
        "goal": goal["name"],
        "direction": "highest" if goal["maximise"] else "lowest",
        "tiles": [
            ("Best", results.shown(best["value"]) if best else "none yet", goal["name"]),
            ("Trials", f"{done:,}", f"of {asked['trials']:,} done"),
            ("Collapsed", f"{states.count('collapsed'):,}", "ended at an alarm"),
            *(
                [("Ended early", f"{states.count('ended early'):,}", "behind the others")]
                if asked["stop_early"]
                else []
            ),
        ],
        "length": length,
        "seeds": asked["seeds"],
        "search": asked["search"],
        "parameters": [{"name": parameter.name, "text": parameter.text} for parameter in space],
        "importance": sorted(
            ((name, f"{share:.0%}") for name, share in sweep["importance"].items()),
            key=lambda row: -sweep["importance"][row[0]],
        ),
        "by_optuna": asked["search"] == "optuna" or asked["stop_early"],
        "enough": ENOUGH,
        "complete": states.count("complete"),
        "collapsed": "collapsed" in states,
        "early": "ended early" in states,
        "failed": "failed" in states,
        "trials": [_row(trial, sweep, folder) for trial in order],
        "curves": {
            "panels": [],
            "errors": [],
            "quantiles": {},
            "drops": [],
            "alarms": [],
            "sweep": _plots(space, sweep, order[:DRAWN]),
        },
        **again(sweep["command"], folder),
    }


def _row(trial: Mapping[str, Any], sweep: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A row of the table of trials."""
    runs = []
    for row in trial["runs"]:
        there = (below(folder, *relative(row["folder"]).parts) / "report.html").is_file()
        # The leading ./ keeps a folder named `javascript:…` a path.
        report = f"./{quote(str(relative(row['folder'])))}/report.html" if there else ""
        runs.append({"seed": row["seed"], "report": report})
    several = sweep["asked"]["seeds"] > 1
    return {
        "number": trial["number"],
        "values": [as_typed(value) for value in trial["values"].values()],
        "value": results.shown(trial["value"]) if trial["value"] is not None else "",
        "seeds": [results.shown(row["value"]) for row in trial["runs"] if row.get("value") is not None]
        if several
        else [],
        "how": {"complete": "to its end"}.get(trial["state"]) or results.ending(trial, sweep["goal"]),
        "best": trial["number"] == sweep["best"],
        "runs": runs,
    }


def _samples(
    folder: Path, sweep: Mapping[str, Any], order: Sequence[Mapping[str, Any]], free: int
) -> list[dict[str, Any]]:
    """The last samples of the first seed of the best trials and of some collapsed ones."""
    collapsed = [trial for trial in order if trial["state"] == "collapsed"][:2]
    chosen = [trial for trial in order if trial not in collapsed][: PICTURES - len(collapsed)] + collapsed
    shown = []
    for trial in chosen:
        path = below(folder, *relative(trial["runs"][0]["folder"]).parts)
        if not (path / "config.json").is_file():
            continue
        run = RunFolder(path.absolute())  # as in a comparison's page
        last = still(run, next(reversed(run.samples()), None))
        if last and len(last["source"]) < free:
            free -= len(last["source"])
            shown.append(
                {
                    **last,
                    "number": trial["number"],
                    "how": results.ending(trial, sweep["goal"]),
                    "settings": results.settings(trial["values"]),
                }
            )
    return shown


def _plots(space: Sequence[Parameter], sweep: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain data for report.js: the parameters' axes and the trials on them."""
    drawn = [
        {
            "number": trial["number"],
            "state": trial["state"],
            "at": [parameter.position(trial["values"][parameter.name]) for parameter in space],
            "value": trial["value"] if trial["state"] == "complete" else trial.get("last"),
            "seeds": [row["value"] for row in trial["runs"] if row.get("value") is not None],
            "text": html.escape(f"trial {trial['number']}: {results.ending(trial, sweep['goal'])}"),
            "settings": [html.escape(as_typed(trial["values"][parameter.name])) for parameter in space],
        }
        for trial in trials
        if trial["state"] != "waiting"
    ]
    return {
        "goal": html.escape(sweep["goal"]["name"]),
        "maximise": sweep["goal"]["maximise"],
        "best": sweep["best"],
        "axes": [{"name": html.escape(parameter.name), "ticks": _ticks(parameter)} for parameter in space],
        "trials": drawn,
    }


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Marks of an axis: (position in [0, 1], text)."""
    if parameter.kind == "choices":
        return [(parameter.position(one) or 0.0, html.escape(as_typed(one)[:18])) for one in parameter.choices]
    places = [n / (TICKS - 1) for n in range(TICKS)]
    low, high = parameter.low, parameter.high
    if parameter.kind == "loguniform":
        return [(at, f"{low * (high / low) ** at:.2g}") for at in places]
    values = [low + at * (high - low) for at in places]
    if parameter.kind == "int":
        whole = sorted({round(value) for value in values})
        return [((value - low) / (high - low), f"{value:,}") for value in whole]
    return [(at, f"{value:.3g}") for at, value in zip(places, values, strict=True)]
