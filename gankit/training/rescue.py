"""A rescue: a return to the last healthy checkpoint, and the model's next remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.amend import amend
from gankit.config.request import RunRequest
from gankit.config.schema import COMPONENTS, RunConfig
from gankit.errors import UserError
from gankit.model import Model, Remedy
from gankit.runs.folder import rescues

TRIES = 4  # most rescues of one run


def open_remedies(current: RunConfig, model: Model, catalogue: Catalogue, alarm: str) -> Iterator[Remedy]:
    """The model's remedies that change something in a run of this configuration.

    A remedy only raises loss weights and components' settings, or only lowers the settings if it `lowers`.
    """
    old = current.model_dump(mode="json")
    parts = {name: table for kind in COMPONENTS for name, table in old[kind].items()}
    for remedy in model.remedies(alarm):
        weights = {n: w for n, w in remedy.losses.items() if w > old["losses"].get(n, {}).get("weight", -math.inf)}
        settings = {key: v for key, v in remedy.settings.items() if "." not in key or _moves(v, key, remedy, parts)}
        remaining = replace(remedy, settings=settings, losses=weights)
        try:
            changes = bool(amended(current, remaining, catalogue, 0)[1])
        except UserError:  # a component that is not installed, or not in this run
            continue
        if changes:
            yield remaining


def is_on(current: RunConfig, remedy: Remedy) -> bool:
    """Whether a remedy is only flags without a value that this run has already."""
    names = [flag.removeprefix("--").replace("-", "_") for flag in remedy.flags_of_run]
    other = remedy.settings or remedy.losses
    return bool(names) and not other and all(getattr(current, name, None) is True for name in names)


def amended(current: RunConfig, remedy: Remedy, catalogue: Catalogue, step: int) -> tuple[RunConfig, set[str]]:
    """The configuration with a remedy from `step` on, and the names of the changed settings."""
    request = RunRequest(set=remedy.settings, losses=remedy.losses)
    return amend(current.model_dump(mode="json"), request, catalogue, step, by="rescue")


def _moves(value: float, key: str, remedy: Remedy, parts: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether `value` moves COMPONENT.FIELD in the remedy's direction."""
    component, _, name = key.partition(".")
    now = parts.get(component, {}).get(name, math.inf if remedy.lowers else -math.inf)
    return value < now if remedy.lowers else value > now


def outcome(config: RunConfig, number: int, ended_in: str) -> dict[str, Any] | None:
    """The outcome of the last rescue by step `number`, a line of rescues.jsonl; None without a step since a rescue.

    `ended_in`: the kind of this attempt's critical alarm, or "".
    """
    done = rescues(config.history)
    if not done or number <= done[-1]["step"]:
        return None
    start, changed = done[-1]["step"], done[-1]["changed"]
    changes = ", ".join(f"{key} = {_short(value)}" for key, value in changed.items())
    end = f"ended in {ended_in} at step" if ended_in else "is without a critical alarm up to step"
    return {
        "rescue": len(done),
        "from": start,
        "changed": changed,
        "outcome": ended_in or "well",
        "message": f"Rescue {len(done)} of {TRIES} (from step {start:,}, {changes}) {end} {number:,}.",
    }


def _short(value: Any) -> str:
    """The new value of a setting: a loss term's weight, a number."""
    return f"{value['weight']:g}" if isinstance(value, Mapping) and "weight" in value else f"{value}"
