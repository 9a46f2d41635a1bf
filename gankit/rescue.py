"""A rescue: back to the last healthy checkpoint, and on from there with the next remedy of the model's ladder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gankit import config
from gankit.config import RunConfig
from gankit.errors import UserError
from gankit.model import Model, Remedy
from gankit.plugins import Catalogue

TRIES = 3  # rescues of one run


@dataclass(frozen=True)
class Plan:
    """What is to be done after the step that raised the alarm."""

    step: int  # the checkpoint to return to
    remedy: Remedy
    config: RunConfig


def open_remedies(
    current: Mapping[str, Any], model: Model, catalogue: Catalogue, alarm: str, step: int
) -> Iterator[tuple[Remedy, RunConfig]]:
    """The rungs of the ladder that would change something in a run of this configuration, with what it becomes."""
    for remedy in model.remedies(alarm):
        asked = config.request(set=remedy.settings, losses=remedy.losses)
        try:
            changed, differing = config.amend(current, asked, catalogue, step, by="rescue")
        except UserError:  # a part that is not installed, or not in this run
            continue
        if differing:
            yield remedy, changed


def tried(current: Mapping[str, Any]) -> int:
    """How many rescues a run has had."""
    return sum(entry.get("by") == "rescue" for entry in current["history"])
