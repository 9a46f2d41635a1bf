"""A rescue: back to the last healthy checkpoint, and on from there with the next remedy of the model's ladder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gankit.catalogue import Catalogue
from gankit.components import Alarm
from gankit.config import resolve as config
from gankit.config.resolve import RunConfig
from gankit.errors import UserError
from gankit.model import Model, Remedy

TRIES = 4  # rescues of one run


@dataclass(frozen=True)
class Plan:
    """What is to be done after the step that raised the alarm."""

    step: int  # the checkpoint to return to
    alarm: Alarm
    remedy: Remedy
    config: RunConfig
    words: str


def open_remedies(
    current: RunConfig, model: Model, catalogue: Catalogue, alarm: str, step: int
) -> Iterator[tuple[Remedy, RunConfig]]:
    """The rungs of the ladder that would change something in a run of this configuration, with what it becomes.

    What a user has set higher, a weight or a component's number, stays as it is; or lower, where the rung lowers it.
    """
    old = current.model_dump(mode="json")
    parts = {name: table for kind in config.COMPONENTS for name, table in old[kind].items()}
    for remedy in model.remedies(alarm):
        weights = {n: w for n, w in remedy.losses.items() if w > old["losses"].get(n, {}).get("weight", -math.inf)}
        settings = {key: v for key, v in remedy.settings.items() if "." not in key or _goes_on(v, key, remedy, parts)}
        asked = config.request(set=settings, losses=weights)
        try:
            changed, differing = config.amend(old, asked, catalogue, step, by="rescue")
        except UserError:  # a part that is not installed, or not in this run
            continue
        if differing:
            yield replace(remedy, settings=settings, losses=weights), changed


def _goes_on(value: float, key: str, remedy: Remedy, parts: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether COMPONENT.FIELD is not there yet."""
    component, _, name = key.partition(".")
    now = parts.get(component, {}).get(name, math.inf if remedy.lowers else -math.inf)
    return value < now if remedy.lowers else value > now
