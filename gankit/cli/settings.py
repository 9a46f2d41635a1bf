"""A model's settings, presets and components in words, for `gankit run MODEL --help`."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from gankit.comparison.arms import flags
from gankit.config import allowed
from gankit.plugins import Catalogue


def describe(model: str, plugins: Sequence[str]) -> str:
    """What can be set on a model."""
    catalogue = Catalogue(plugins)
    cls = catalogue.get("models", model)
    formatter = click.HelpFormatter(max_width=110)
    formatter.write_paragraph()
    formatter.write_text(inspect.getdoc(cls) or cls.summary)
    with formatter.section(f"Settings of {model}, for --set KEY=VALUE"):
        rows = []
        for name, field in cls.Settings.model_fields.items():
            default = field.get_default()
            shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
            limits = allowed(field)
            rows.append((f"{name}={shown}", f"{field.description or ''}{f' [{limits}]' if limits else ''}"))
        formatter.write_dl(rows)
    if cls.presets:
        with formatter.section("Presets, for --preset"):
            formatter.write_dl([(name, _as_flags(preset)) for name, preset in cls.presets.items()])
    for kind, flag in (
        ("losses", "--loss NAME=WEIGHT"),
        ("controllers", "--controller"),
        ("diagnostics", "--diagnostic"),
        ("views", "--view"),
        ("reactions", "--on-alarm"),
        ("artifacts", "--artifact"),
        ("datasets", "--data NAME[:ARGUMENT]"),
    ):
        found = catalogue.kind(kind)
        if found:
            with formatter.section(f"For {flag}"):
                formatter.write_dl([(name, item.summary) for name, (item, _) in found.items()])
    return formatter.getvalue().rstrip()


def _as_flags(preset: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in preset.items() if key not in ("model", "set")}
    return shlex.join(flags({"set": {**preset.get("model", {}), **preset.get("set", {})}, **rest}))
