"""A run's configuration from a step on: what a resume or a rescue makes of that before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.request import RunRequest, merge
from gankit.config.resolve import resolve
from gankit.config.schema import RunConfig


def amend(
    old: Mapping[str, Any], request: RunRequest, catalogue: Catalogue, step: int, by: str = "resume"
) -> tuple[RunConfig, set[str]]:
    """A run's configuration from `step` on, with what the request changes, and the names of all that differs.

    What changed is added to `history`. All settings stay as they were, whatever a newer version's defaults are.
    """
    asked, pinned = merge(old["requested"], request.table()), dict(old)  # the record may be an older version's
    if "steps" in request.model_fields_set and "time" not in request.model_fields_set:
        asked.pop("time", None)  # a length that is asked for lifts the time of an earlier start
        pinned["time"] = None
    resolved = resolve(old["model"]["name"], request, catalogue, pinned)
    kept = {"gankit": old["gankit"], "plugins": old["plugins"], "requested": asked}
    if "steps" in request.model_fields_set and resolved.steps is not None:
        kept["steps"] = asked["steps"] = max(resolved.steps, step)  # what is done is done
    resolved = resolved.model_copy(update=kept)
    ignored = {"requested", "history", "plugins"} | ({"datasets", "reactions"} - old.keys())  # of an older gankit
    new = resolved.model_dump(mode="json")
    differing = {key: value for key, value in changes(old, new).items() if key.split(".")[0] not in ignored}
    if differing:
        entry = {"step": step, "changed": differing} | ({} if by == "resume" else {"by": by})
        resolved = resolved.model_copy(update={"history": [*resolved.history, entry]})
    return resolved, set(differing)


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What differs, as {"model.gamma": new value}."""
    result: dict[str, Any] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result |= changes(before, after, f"{prefix}{key}.")
        elif before != after:
            result[f"{prefix}{key}"] = after
    return result
