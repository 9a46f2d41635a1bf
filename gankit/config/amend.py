"""The configuration of a run after a resume or a rescue changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.request import RunRequest, merge, names_in, nested
from gankit.config.resolve import resolve
from gankit.config.schema import TABLES, RunConfig
from gankit.errors import UserError


def current_form(old: Mapping[str, Any], catalogue: Catalogue) -> tuple[dict[str, Any], dict[str, Any]]:
    """A config.json, perhaps an older version's, in this version's form, and the constants that replace settings in it.

    The latter are those that the run had with another value, {"diagnostics.vitals.exploded": 20.0}. An option of a
    component that is now a setting of the model becomes that setting, with the component's value: it was in use.
    """
    new, dropped = dict(old), {}
    cls = catalogue.get("models", old["model"]["name"]).Settings
    settings = cls.from_stored(old["model"])
    for kind in TABLES:
        offered = catalogue.kind(kind)
        new |= {kind: dict(old[kind])} if old.get(kind) else {}
        for name, table in (old.get(kind) or {}).items():
            if name not in offered:
                continue
            options = offered[name][0].Options
            new[kind][name] = kept = options.from_stored(table)
            for key, value in table.items():
                if key in options.now_constant and value != options.now_constant[key]:
                    dropped[f"{kind}.{name}.{key}"] = options.now_constant[key]
                setting = options.now_written.get(key, "").partition("=")[0]
                if setting in cls.model_fields and value is not None:
                    settings[setting] = value
            if kind == "networks":
                for key in kept.keys() & cls.model_fields.keys():
                    value = kept.pop(key)
                    settings[key] = value if key in table else settings.get(key, value)
                if kept.get("background") == old.get("background"):
                    kept.pop("background", None)
    return new | {"model": settings}, dropped


def of_this_form(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config.json, which a person may have edited. Raises UserError for another form than gankit's."""
    model, history = config.get("model"), config.get("history", [])
    sound = isinstance(model, Mapping) and isinstance(model.get("name"), str)
    sound = sound and all(nested(config.get(kind) or {}) for kind in TABLES)
    sound = sound and names_in(config.get("plugins")) is not None and isinstance(config.get("gankit"), str)
    sound = sound and isinstance(config.get("requested"), Mapping) and isinstance(config.get("data"), str)
    if not sound or not isinstance(history, list) or not all(isinstance(entry, Mapping) for entry in history):
        raise UserError(
            "config.json has not the form that gankit writes: bring the file back as it was (the options of a loss, "
            "for one, are a table), and change settings by the flags of gankit resume"
        )
    return config


def amend(
    old: Mapping[str, Any],
    request: RunRequest,
    catalogue: Catalogue,
    step: int,
    by: str = "resume",
    dropped: Mapping[str, Any] | None = None,
) -> tuple[RunConfig, set[str]]:
    """The run's configuration from `step` on, with the request's changes, and the names of the changed settings.

    `old` and `dropped` are what `current_form` gives. Changes are added to `history`. All other settings keep their
    stored value, whatever a newer version's defaults are.
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
    absent = {"datasets", "reactions", "stream"} - old.keys()  # an older version has none
    ignored = {"requested", "history", "plugins"} | absent
    new = resolved.model_dump(mode="json")
    differing = {key: value for key, value in changes(old, new).items() if key.split(".")[0] not in ignored}
    differing |= dropped or {}
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
