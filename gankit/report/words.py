"""The sentences of a run's report. They state only what the run measured."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from gankit.files import finite
from gankit.report.curves import Panel
from gankit.report.story import Story, listing
from gankit.runs.advice import command as advice_command
from gankit.runs.advice import recorded, to_resume, to_train_further

OUTCOMES = ("finished", "stopped", "interrupted", "failed")  # of result.json
# Readings of the variety of the generated pictures, compared with the real ones.
VARIETY = re.compile(r"/(?:.*-)?(?:coverage|recall|variety)$")


def state(story: Story) -> str:
    """One of OUTCOMES, "ended" where result.json names none of them, or "not ended" while it is absent.

    Of a part of a run: up to which step.
    """
    if story.until is not None:
        return f"up to step {story.until:,}"
    outcome = story.result.get("outcome")
    if outcome in OUTCOMES:
        return str(outcome)
    return "ended" if story.result else "not ended"


def steps_done(story: Story) -> int:
    """The last step of the run, from result.json, or else from its metrics and samples."""
    steps = story.result.get("steps")
    if isinstance(steps, int):
        return steps
    logged = [line["step"] for line in story.metrics[-1:]]
    return max([*logged, *(step for step, _ in story.samples[-1:])], default=0)


def ending(story: Story) -> str:
    """One or two sentences: how the run ended, or that it has not; "" of a part of a run."""
    if story.until is not None:
        return ""
    result, at = story.result, f"step {steps_done(story):,}"
    reason, message = str(result.get("reason") or ""), str(result.get("message") or "").strip()
    match state(story):
        case "finished":
            why = {"steps": "all its steps are done"}
            return f"It finished: {why.get(reason, reason or 'its result says no more')}."
        case "stopped":
            known = {"alarm": "by an alarm", "time": "by its time limit"}
            by = known.get(reason, f"({reason})" if reason else "early")
            return _with(f"It was stopped {by} at {at}.", message)
        case "interrupted":
            return _with(f"It was interrupted at {at} and can go on from there.", message)
        case "failed":
            return _with(f"It failed at {at}.", message.rstrip(".") + "; traceback.txt says where." if message else "")
        case "ended":
            return _with(f"It ended at {at}: {result.get('outcome') or 'result.json does not say how'}.", message)
    written = _last_written(story)
    when = f" Its last numbers were written on {written}." if written else ""
    return f"It has not ended: it is still training, or its process was killed.{when}"


def rescues(story: Story) -> str:
    """A sentence on the rescues of the run, or "" without one."""
    done = [alarm for alarm in story.alarms if str(alarm.get("action")).startswith("rescue ")]
    if not done:
        return ""
    step, kind, action = done[-1]["step"], done[-1].get("kind"), str(done[-1]["action"]).partition(": ")[2]
    times = "once" if len(done) == 1 else f"{len(done)} times, the last time"
    came = "".join(f" {line.get('message')}" for line in story.results[-1:])
    return f"It was rescued {times} at step {step:,} ({kind}): {action}.{came}"


def tiles(story: Story) -> list[tuple[str, str, str]]:
    """The main numbers as (name, value, small print)."""
    last = story.metrics[-1] if story.metrics else {}
    seconds = story.result.get("seconds", last.get("seconds"))
    speed = story.result.get("images_per_second", last.get("images_per_second"))
    goal, limit = story.config.get("steps"), story.config.get("time")
    critical = sum(alarm.get("severity") == "critical" for alarm in story.alarms)
    return [
        ("Steps", f"{steps_done(story):,}", f"of {goal:,}" if isinstance(goal, int) else "no limit set"),
        ("Time", duration(seconds), f"limit {duration(limit)} a start" if finite(limit) is not None else "trained"),
        ("Speed", f"{speed:,.0f}" if finite(speed) is not None else "unknown", "images a second, of the last start"),
        ("Alarms", f"{len(story.alarms):,}", f"{critical:,} critical" if story.alarms else "were raised"),
    ]


def pictures(story: Story) -> dict[str, str]:
    """The data: its name, its size, the number of held-out items, and their form."""
    data, shape = story.data, listing(story.data.get("shape"))
    shape = shape if all(isinstance(size, int) for size in shape) else []
    noun = "pictures" if len(shape) in (0, 3) else "points"
    if len(shape) == 3:
        colours = {1: "in grey", 3: "in colour"}.get(shape[0], f"with {shape[0]} channels")
        form = f"{shape[1]}×{shape[2]} pixels {colours}"
    elif shape:
        form = f"{'×'.join(str(size) for size in shape)} numbers each"
    else:
        size = story.config.get("image_size")
        form = f"{size}×{size} pixels" if isinstance(size, int) else ""
    return {
        "name": str(data.get("name") or story.config.get("data") or "unknown data"),
        "used": _count(data.get("train"), noun),
        "held_out": _count(data.get("held_out"), noun) if data.get("held_out") else "",
        "form": form,
    }


def shortened(story: Story) -> str:
    """That the page does not show all of the run, or ""."""
    return "" if story.until is None else f"This page shows it up to step {story.until:,}, as asked."


def where(story: Story) -> str:
    """The device and the precision, as far as known."""
    device = story.environment.get("device") or story.config.get("device")
    precision = story.config.get("precision")
    return ", ".join(str(part) for part in (device, precision) if part)


def variety(panels: list[Panel]) -> str:
    """Sentences on variety: the last coverage or recall of a diagnostic, or that none measured it."""
    kinds = ("judged", "diagnostic")
    series = [s for panel in panels if panel.kind in kinds for s in panel.series if VARIETY.search(s.key)]
    judged = next((s for s in series if s.key == "mode-collapse/variety" and s.last), None)
    if judged and judged.last:
        values = [(value, step) for step, value in zip(judged.line.steps, judged.line.values, strict=True) if value]
        best, at = max(values, default=(judged.last[1], judged.last[0]))
        return (
            f"At step {judged.last[0]:,} the samples show {judged.last[1]:.0%} of the variety that other real pictures "
            f"have, roughly by form and colour; the most was {best:.0%}, at step {at:,}. Look at the samples too."
        )
    readings = [f"{s.key} was {number(s.last[1])} at step {s.last[0]:,}" for s in series if s.last]
    if readings:
        return (
            "Variety was measured against the real pictures: " + "; ".join(readings) + ". "
            "Judge for yourself whether that is enough: look at the samples too."
        )
    return (
        "Variety was not measured in this run. Calm losses do not show that the pictures differ, or that they cover "
        "the data: a collapsed model can have better losses than a varied one. Look at the samples."
    )


def cleanliness(panels: list[Panel]) -> str:
    """A sentence on how clean and sharp the last measured samples were, or "" without a measure."""
    last = {s.key: s.last for panel in panels for s in panel.series if s.last}
    grain, flat, ground, fine = (last.get(f"cleanliness/{name}") for name in ("grain", "flat", "ground", "fine"))
    if not (grain and flat and fine):
        return ""
    parts = [f"{grain[1]:.1f} times the grain of the real pictures", f"{flat[1]:.0%} of their flat places"]
    parts += [f"{ground[1]:.0%} of their plain ground"] if ground else []
    return f"At step {grain[0]:,} the samples have {', '.join(parts)} and {fine[1]:.0%} of their fine detail."


def repeat(story: Story) -> str:
    """The command line that started the run, without plugins; "" if it is unknown, or was Python's."""
    return recorded(story.environment.get("command"))[0]


def go_on(story: Story) -> str:
    """The command line that trains this run further."""
    if state(story) != "finished":
        return to_resume(story.run.folder)
    return to_train_further(story.run.folder, steps_done(story))


def advice(story: Story, alarm: dict[str, Any]) -> list[tuple[str, str]]:
    """An alarm's advice: (text, command line or ""), from the nearest checkpoint that still exists."""
    remedies = [one for one in listing(alarm.get("remedies")) if isinstance(one, dict)]
    if not remedies:  # written by hand
        texts = alarm.get("advice")
        return [(str(one), "") for one in ([texts] if isinstance(texts, str) else listing(texts))]
    pairs = [(str(one.get("why", "")), advice_command(story.run, one, alarm.get("healthy"))) for one in remedies]
    return [(f"{why}:" if line else why, line) for why, line in pairs]


def duration(seconds: Any) -> str:
    """Seconds in words: "6 min 52 s"."""
    if finite(seconds) is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(n for n, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def number(value: Any) -> str:
    """A number with its significant digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if finite(value) is not None else "unknown"


def setting(value: Any) -> str:
    """A value of config.json as a table shows it."""
    if value is None or value in ({}, []):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    rows: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        rows |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return rows


def moment(text: Any) -> str:
    """An ISO date as "24 November 2026, 21:06 UTC"; any other text stays as it is."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text or "")
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".strip()


def _count(value: Any, noun: str) -> str:
    if not isinstance(value, int):
        return f"an unknown number of {noun}"
    return f"{value:,} {noun[:-1] if value == 1 else noun}"


def _with(sentence: str, message: str) -> str:
    return f"{sentence} {message}".strip()


def _last_written(story: Story) -> str:
    try:
        changed = story.run.metrics_path.stat().st_mtime
    except OSError:
        return ""
    return moment(datetime.fromtimestamp(changed).astimezone().isoformat(timespec="minutes"))
