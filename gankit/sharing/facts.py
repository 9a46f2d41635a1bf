"""What to say of a trained generator beside its pictures: the facts of a model card, from the run folder alone.

The run folder is not trusted: who shows these texts escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gankit.report import words
from gankit.report.story import Story, listing
from gankit.runs.score import SCORE, parts, recorded
from gankit.runs.verdict import copies_of, of_copies
from gankit.trained.sampling import Rebuilt

REAL = 1.0  # what other real pictures reach in each of the measures: they are ratios
MEASURES = {
    SCORE: "variety, form and cleanliness in one number",
    "variety": "of kinds of pictures, at a glance",
    "form": "shapes and textures as in real pictures",
    "clean": "grain, flat places, plain ground and fine detail as in real pictures",
}


@dataclass(frozen=True)
class Facts:
    """A generator in words. A measure is (name, value, level of other real pictures, what it is)."""

    name: str  # of the data, without the folders above it
    model: str
    rows: list[tuple[str, str]]
    measures: list[tuple[str, float, float, str]]
    history: list[str]  # alarms and rescues, in order


def facts(story: Story, rebuilt: Rebuilt, credit: str | None) -> Facts:
    """The facts of a run's generator at the step of `rebuilt`. `credit`: a line on who made the real pictures."""
    about, items = words.pictures(story), "pictures" if rebuilt.makes_pictures else "points"
    name = about["name"].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or items
    generator = rebuilt.networks["generator"]
    averaged = ", averaged over the steps" if getattr(rebuilt.model.settings, "ema", 0) else ""
    copies = copies_of(story.run)
    held_out = f"; {about['held_out']} held out" if about["held_out"] else ""
    rows = [
        ("Model", f"{story.model}: {type(rebuilt.model).summary}".rstrip(": ")),
        ("Learnt from", f"{name}: {about['used']} of {about['form']}{held_out}"),
        ("Credit", (credit or "").strip()),
        ("Training", f"step {rebuilt.step:,}; {rebuilt.step * rebuilt.config.batch_size:,} {items} shown"),
        ("Generator", f"{sum(weight.numel() for weight in generator.parameters()):,} weights{averaged}"),
        ("Copies", of_copies(copies)),
        ("Alarms", "; ".join(_history(story)) or "none"),
        ("Started", words.moment(story.environment.get("started"))),
        ("Written by", f"gankit {story.environment.get('gankit') or ''}".strip()),
    ]
    return Facts(
        name=name,
        model=story.model,
        rows=[(title, text) for title, text in rows if text],
        measures=_measures(story, rebuilt.step),
        history=_history(story),
    )


def _measures(story: Story, step: int) -> list[tuple[str, float, float, str]]:
    """The score and its parts as the training recorded them at that step; [] where it did not look."""
    line = recorded(story.metrics).get(step)
    if line is None:
        return []
    values = {SCORE: float(line[SCORE])} | (parts(line) or {})
    return [(name, value, REAL, MEASURES[name]) for name, value in values.items()]


def _history(story: Story) -> list[str]:
    """One sentence for each kind of alarm, and one for each rescue."""
    told: dict[str, list[Any]] = {}
    for alarm in story.alarms:
        told.setdefault(str(alarm.get("kind") or alarm.get("diagnostic") or "alarm"), []).append(alarm)
    sentences = []
    for kind, alarms in told.items():
        first, last = alarms[0]["step"], alarms[-1]["step"]
        when = f"at step {first:,}" if first == last else f"{len(alarms):,} times from step {first:,} to {last:,}"
        sentences.append(f"{kind} {when}{' (critical)' if alarms[-1].get('severity') == 'critical' else ''}")
    rescued = [entry for entry in listing(story.config.get("history")) if isinstance(entry, dict)]
    sentences += [f"rescued from step {words.number(e.get('step'))}" for e in rescued if e.get("by") == "rescue"]
    return sentences
