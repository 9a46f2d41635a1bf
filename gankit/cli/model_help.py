"""What a component is and can be set to: for `gankit run MODEL --help`, `gankit plugins show` and the reference."""

from __future__ import annotations

import inspect
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from gankit.catalogue import KINDS, Catalogue
from gankit.comparison.arms import flags
from gankit.config.request import RunRequest
from gankit.config.schema import COMPONENTS, TABLES
from gankit.errors import TrainingError, UserError, nearest
from gankit.options import Curve, allowed

USE = {  # kind -> how a run names one
    "models": "gankit run {}",
    "networks": "--set networks={}",
    "losses": "--loss {}=WEIGHT",
    "controllers": "--controller {}",
    "diagnostics": "--diagnostic {}",
    "views": "--view {}",
    "reactions": "--on-alarm {}",
    "artifacts": "--artifact {}",
    "datasets": "--data {}[:ARGUMENT]",
    "commands": "gankit {}",
}
Rows = list[tuple[str, str]]
READINGS = "Readings in the log"


def describe(model: str, plugins: Sequence[str]) -> str:
    """The settings, presets and components of a model as help text."""
    catalogue = Catalogue(plugins)
    cls = catalogue.get("models", model)
    formatter = click.HelpFormatter(max_width=80)
    formatter.write_paragraph()
    formatter.write_text(inspect.cleandoc(cls.__doc__ or cls.summary))  # not an inherited docstring
    with formatter.section(f"Settings of {model}, for --set KEY=VALUE"):
        formatter.write_dl(settings_of(cls.Settings))
    if cls.presets:
        with formatter.section("Presets, for --preset"):
            for name, preset in cls.presets.items():
                formatter.write(_pasteable(f"{' ' * formatter.current_indent}{name}  ", _as_flags(preset), 80))
    for kind in ("losses", "controllers", "diagnostics", "views", "reactions", "artifacts", "datasets"):
        offered = catalogue.kind(kind)
        if offered:
            with formatter.section(f"For {USE[kind].format('NAME')}"):
                formatter.write_dl([(name, item.summary) for name, (item, _) in offered.items()])
    formatter.write_paragraph()
    formatter.write_text(f"`gankit plugins show NAME` lists the options of one; of {model} its knobs and readings too.")
    return formatter.getvalue().rstrip()


def show(name: str, plugins: Sequence[str]) -> str:
    """What `name` is, a component or a plugin with its components, as help text. Raises `UserError` for neither."""
    catalogue = Catalogue(plugins)
    offered = [(kind, one, givers) for kind in KINDS for one, (_, givers) in catalogue.kind(kind).items()]
    found = [(kind, one, givers) for kind, one, givers in offered if one == name]
    found = found or [(kind, one, givers) for kind, one, givers in offered if name in {p.name for p in givers}]
    if not found:
        near = nearest(name, [one for _, one, _ in offered])
        raise UserError(f"nothing here is named {name!r}{near}: `gankit plugins list` lists all{catalogue.failures()}")
    formatter = click.HelpFormatter(max_width=100)
    for kind, one, givers in found:
        item, what = catalogue.kind(kind)[one][0], KINDS[kind][0]
        of = " and of ".join(f"plugin {plugin.name} ({plugin})" for plugin in givers)
        with formatter.section(f"{what} {one}, of {of}"):
            formatter.write_text(USE[kind].format(one))
            if kind == "commands":
                continue
            formatter.write_paragraph()
            formatter.write_text(inspect.cleandoc(item.__doc__ or item.summary))
            for heading, rows in sections(kind, one, catalogue, plugins).items():
                formatter.write_paragraph()
                formatter.write_text(f"{heading}:")
                with formatter.indentation():
                    formatter.write_dl(rows)
    return formatter.getvalue().rstrip()


def sections(kind: str, name: str, catalogue: Catalogue, plugins: Sequence[str] = ()) -> dict[str, Rows]:
    """What can be set and read of a component, by heading: options, and of a model its parts, knobs and readings."""
    item = catalogue.kind(kind)[name][0]
    if kind == "models":
        found = {"Settings, for --set KEY=VALUE": settings_of(item.Settings), **_of_model(name, plugins)}
    else:
        found = {f"Options, for --set {name}.KEY=VALUE": settings_of(item.Options)}
    for what, words in (("drives", "Knobs that it drives"), ("follows", "Readings that it follows")):
        names = inspect.getattr_static(item, what, ())
        if isinstance(names, tuple | list):  # else its options decide
            found[words] = [(one, "") for one in names]
    prefix = f"{name}/" if kind == "diagnostics" else ""
    notes = {f"{prefix}{metric}": f"{one.letter or metric}: {one.note}" for metric, one in _curves(item).items()}
    logged = [one for one, _ in found.pop(READINGS, [])]
    found[READINGS] = [(one, notes.get(one, "")) for one in dict.fromkeys([*logged, *notes])]
    return {heading: rows for heading, rows in found.items() if rows}


def _curves(item: Any) -> Mapping[str, Curve]:
    return getattr(item, "curves", {})


def _of_model(name: str, plugins: Sequence[str]) -> dict[str, Rows]:
    """What a small training of the model, built and never begun, has: its parts, its knobs and its readings."""
    from gankit.testing.subject import SMALL, training

    try:
        built, _ = training(name, plugins, {**SMALL, "steps": 0, "artifacts": []})
    except (UserError, TrainingError) as error:
        return {"Knobs and readings": [("unknown", f"it does not train on the demo figures: {error}")]}
    config, model = built.config, built.model
    driver = {knob: one for one, controller in built.controllers.items() for knob in controller.drives}
    free = {knob: f"{value:g}" for knob, value in model.initial.items() if knob not in driver}
    return {
        "Its parts": [
            ("networks", ", ".join(config.networks) or "its own"),
            ("loss terms", ", ".join(f"{one}={table['weight']:g}" for one, table in config.losses.items()) or "none"),
            ("controllers", ", ".join(config.controllers) or "none"),
            ("diagnostics", ", ".join(config.diagnostics) or "none"),
        ],
        "Knobs, for controllers": [
            *((knob, f"driven by {one}") for knob, one in driver.items()),
            *free.items(),
        ],
        READINGS: [(one, "") for one in built.start],
    }


def settings_of(options: Any) -> Rows:
    """Each setting as NAME=DEFAULT, with its description and its range."""
    rows = []
    for name, field in options.model_fields.items():
        default = "… (no default)" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        limits = allowed(field)
        rows.append((f"{name}={shown}", f"{field.description or ''}{f' [{limits}]' if limits else ''}"))
    return rows


def _as_flags(preset: Mapping[str, Any]) -> str:
    """A preset as command-line flags."""
    if not isinstance(preset, Mapping):  # a run refuses it
        return str(preset)
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
