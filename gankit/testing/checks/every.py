"""The checks of every component: a run accepts it, it has documentation, and a TOML file can set it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gankit.config.amend import changes
from gankit.config.file import read_file
from gankit.config.resolve import resolve
from gankit.testing.subject import Failed, Subject


def is_accepted(subject: Subject) -> None:
    """`gankit run` accepts it: its settings are valid and its first step works."""
    _ = subject.carrier


def is_documented(subject: Subject) -> None:
    """The class has a docstring and a summary, and every setting has a description: they are the users' manual."""
    cls = subject.cls
    if not (vars(cls).get("__doc__") or "").strip():
        raise Failed(f"{cls.__name__} has no docstring", "say what it is in one sentence, with its source")
    if not cls.summary:
        raise Failed(f"{cls.__name__} has no summary", 'give it one: summary = "…", shown by `gankit run MODEL --help`')
    settings = getattr(cls, "Settings", None) or cls.Options
    bare = [name for name, info in settings.model_fields.items() if not info.description]
    if bare:
        raise Failed(f"the setting {bare[0]!r} has no description", 'write Field(…, description="…")')


def round_trips_through_toml(subject: Subject) -> None:
    """A TOML file with every value of its configuration gives the same configuration again."""
    resolved = subject.config()
    settings = resolved.model_dump(mode="json", exclude={"gankit", "plugins", "requested", "history"})
    model = settings["model"].pop("name")
    path = subject.folder / "settings.toml"
    path.write_text(toml(settings), encoding="utf-8")
    again = resolve(model, read_file(path), subject.catalogue)
    gone = set(again.yielding) - set(resolved.controllers)  # the model's own, which the training leaves out
    kept = {name: options for name, options in again.controllers.items() if name not in gone}
    again = again.model_copy(update={"controllers": kept})
    differing = changes(resolved.model_dump(mode="json"), again.model_dump(mode="json"))
    differing = {key: value for key, value in differing.items() if key.split(".")[0] != "requested"}
    if differing:
        key = next(iter(differing))
        raise Failed(
            f"{key} comes back from a TOML file as {differing[key]!r}",
            "use settings that JSON and TOML can write: numbers, texts, true and false, lists; none only as a default",
        )


def toml(table: Mapping[str, Any], path: str = "") -> str:
    """The table as TOML, without None, which TOML does not have."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    text = "".join(f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{json.dumps(key)}" if path else json.dumps(key)
            text += f"\n[{inner}]\n{toml(value, inner)}"
    return text
