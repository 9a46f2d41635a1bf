"""The configuration of a run after a resume or a rescue changes it."""

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
    """The run's configuration from `step` on, with the request's changes, and the names of the changed settings.

    Changes are added to `history`. All other settings keep their stored value, whatever a newer version's defaults are.
    """
    requested, pinned = merge(old["requested"], request.table()), dict(old)  # an older version may have stored it
    if "steps" in request.model_fields_set and "time" not in request.model_fields_set:
        requested.pop("time", None)  # requested steps replace an earlier time limit
        pinned["time"] = None
    resolved = resolve(old["model"]["name"], request, catalogue, pinned)
    kept = {"gankit": old["gankit"], "plugins": old["plugins"], "requested": requested}
    if "steps" in request.model_fields_set and resolved.steps is not None:
        kept["steps"] = requested["steps"] = max(resolved.steps, step)  # no fewer than are done
    resolved = resolved.model_copy(update=kept)
    ignored = {"requested", "history", "plugins"} | (
        {"datasets", "reactions"} - old.keys()
    )  # an older version has none
    new = resolved.model_dump(mode="json")
    differing = {key: value for key, value in changes(old, new).items() if key.split(".")[0] not in ignored}
    if differing:
        entry = {"step": step, "changed": differing} | ({} if by == "resume" else {"by": by})
        resolved = resolved.model_copy(update={"history": [*resolved.history, entry]})
    return resolved, set(differing)


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The new values of the settings that differ, by dotted name: {"model.gamma": 0.7}."""
    result: dict[str, Any] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result |= changes(before, after, f"{prefix}{key}.")
        elif before != after:
            result[f"{prefix}{key}"] = after
    return result
