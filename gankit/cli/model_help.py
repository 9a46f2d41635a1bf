"""A model's settings, presets and components, for `gankit run MODEL --help`."""

from __future__ import annotations

import inspect
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from gankit.catalogue import Catalogue
from gankit.comparison.arms import flags
from gankit.config.request import RunRequest
from gankit.config.schema import COMPONENTS, TABLES
from gankit.options import allowed


def describe(model: str, plugins: Sequence[str]) -> str:
    """The settings, presets and components of a model as help text."""
    catalogue = Catalogue(plugins)
    cls = catalogue.get("models", model)
    formatter = click.HelpFormatter(max_width=80)
    formatter.write_paragraph()
    formatter.write_text(inspect.cleandoc(cls.__doc__ or cls.summary))  # not an inherited docstring
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
            for name, preset in cls.presets.items():
                formatter.write(_pasteable(f"{' ' * formatter.current_indent}{name}  ", _as_flags(preset), 80))
    for kind, flag in (
        ("losses", "--loss NAME=WEIGHT"),
        ("controllers", "--controller"),
        ("diagnostics", "--diagnostic"),
        ("views", "--view"),
        ("reactions", "--on-alarm"),
        ("artifacts", "--artifact"),
        ("datasets", "--data NAME[:ARGUMENT]"),
    ):
        offered = catalogue.kind(kind)
        if offered:
            with formatter.section(f"For {flag}"):
                formatter.write_dl([(name, item.summary) for name, (item, _) in offered.items()])
    return formatter.getvalue().rstrip()


def _as_flags(preset: Mapping[str, Any]) -> str:
    """A preset as command-line flags."""
    request = RunRequest(**preset).table()
    settings = {**request.pop("model", {}), **request.pop("set", {})}
    weights: dict[str, Any] = {}
    named: dict[str, list[str]] = {}
    for kind in TABLES:
        tables = request.pop(kind, {})
        if kind in COMPONENTS:
            named[kind] = list(tables)
        for name, table in tables.items():
            settings |= {f"{name}.{key}": value for key, value in table.items() if key != "weight"}
            weights |= {name: table.get("weight", 1)} if kind == "losses" else {}
    return shlex.join(flags({"set": settings, **request, **named, "losses": weights}))


def _pasteable(first: str, text: str, width: int) -> str:
    """Wrap the text at spaces only, so that it can be copied from the screen and pasted."""
    indent = " " * len(first)
    filled = textwrap.fill(text, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    return f"{filled}\n"
