"""What was asked for becomes one frozen `RunConfig`: defaults < preset < TOML file < flags, every value written out.

A model's class and its settings say which components it brings; no model, network or controller is made for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gankit.catalogue import KINDS, Catalogue
from gankit.config.request import RunRequest
from gankit.config.schema import COMPONENTS, PLAIN, SINGLE, RunConfig
from gankit.config.values import hexadecimal
from gankit.device import choose_device, machine_of
from gankit.errors import UserError, nearest
from gankit.model import Machine, Model
from gankit.options import validate

EVERY: Mapping[str, tuple[str, ...]] = {  # on by default for every model
    "diagnostics": ("vitals", "cleanliness", "mode-collapse"),
    "artifacts": ("losses", "animation", "report"),
}
Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]  # {kind: {name: options}}


def resolve(name: str, request: RunRequest, catalogue: Catalogue, pinned: Mapping[str, Any] | None = None) -> RunConfig:
    """Every value that a run of model `name` will use.

    `pinned`: the config of the run that is gone on with; all of it is kept that `request` does not change.
    """
    pinned = pinned or {}
    model = catalogue.get("models", name)
    kept = {key: pinned[key] for key in PLAIN if pinned.get(key) is not None}
    asked = _over_its_preset(RunRequest(**{**kept, **request.table()}), model)
    for kind in SINGLE:
        for component in getattr(asked, kind):
            catalogue.get(kind, component)  # or it is refused: its options would be read by nobody
    device = choose_device(_given(asked, "device", pinned, "auto"))
    machine = machine_of(device)
    values = _values(asked, pinned, machine, catalogue) | {"device": device}
    settings = _settings(asked, pinned, model, machine, catalogue)
    values["model"] = {"name": name, **settings.model_dump(mode="json")}
    before = _before(pinned, model, settings, machine, asked.model, catalogue) if pinned else None
    parts = _Parts(model, settings, asked, catalogue, before)
    values |= parts.tables(values)
    values |= {"requested": request.table(), "history": pinned.get("history", [])}
    config: RunConfig = validate(RunConfig, values, "the run", "option", flags=True)
    return config.with_yielding(name for name in config.controllers if name not in parts.named_controllers)


def _over_its_preset(asked: RunRequest, model: type[Model]) -> RunRequest:
    if not asked.preset:
        return asked
    if asked.preset not in model.presets:
        there = ", ".join(model.presets) or "none"
        raise UserError(
            f"model {model.name!r} has no preset {asked.preset!r}{nearest(asked.preset, model.presets)}. "
            f"There are: {there}"
        )
    return asked.over(RunRequest(**model.presets[asked.preset]))


def _given(asked: RunRequest, key: str, pinned: Mapping[str, Any], default: Any) -> Any:
    value = getattr(asked, key)
    return pinned.get(key, default) if value is None or value == "auto" else value


def _values(asked: RunRequest, pinned: Mapping[str, Any], machine: Machine, catalogue: Catalogue) -> dict[str, Any]:
    """The settings of one value each; what depends on the machine is decided once."""
    small = machine.device == "cpu"
    auto = {
        "image_size": 32 if small else 64,
        "batch_size": 16,
        "precision": "bf16" if machine.fast_bf16 else "fp32",
        "steps": None if asked.time else 20_000 if small else 100_000,
    }
    values = {key: _given(asked, key, pinned, default) for key, default in auto.items()}
    values |= {key: getattr(asked, key) for key in PLAIN if getattr(asked, key) is not None}
    values["background"] = hexadecimal(values.get("background", RunConfig.model_fields["background"].default))
    if not values.get("data"):
        raise UserError("no data named: give a folder of pictures with --data DIR, or try --data demo")
    if catalogue.source_of(values["data"]) is None:  # a folder by its whole path: a resume may be called anywhere
        path = values["data"].removeprefix("folder:")  # its name as a data source, which need not be said
        values["data"] = os.path.abspath(os.path.expanduser(path))
    values["data"] = pinned.get("data", values["data"])
    return values


def _settings(
    asked: RunRequest, pinned: Mapping[str, Any], model: type[Model], machine: Machine, catalogue: Catalogue
) -> Any:
    """The model's settings. An `auto` is decided by what was asked for, of which what is merely kept is none."""
    given = dict(asked.model)
    if given.pop("name", model.name) != model.name:
        raise UserError(f"the [model] table is for {asked.model['name']!r}, and the model asked for is {model.name!r}")
    kept = _kept_settings(pinned, model) if pinned else {}
    settings = validate(model.Settings, kept | given, f"model {model.name!r}", "setting")
    if pinned and "auto" in given.values():
        said = {*given, *pinned.get("requested", {}).get("model", {})}
        settings = settings.model_construct(_fields_set=said, **dict(settings))
    if getattr(settings, "networks", None) == "auto":  # options of a pair say which is meant
        meant = asked.component_options().keys() & catalogue.kind("networks").keys()
        settings = settings.model_copy(update={"networks": next(iter(sorted(meant)), "auto")})
    return model.resolve(settings, machine)


def _kept_settings(old: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    """The settings of a run's model; what the model sets of its networks by now is as they were built."""
    settings = {key: value for key, value in old["model"].items() if key != "name"}
    pair = (old.get("networks") or {}).get(settings.get("networks")) or {}
    built = {key: pair[key] for key in model.Settings.model_fields if key in pair}
    return {**model.Settings.absent, **built, **settings}


def declared(model: type[Model], what: str, settings: Any) -> Any:
    """Which networks, loss terms, controllers or diagnostics a model brings: what its class says of it.

    That is an attribute, or where it hangs on the settings a classmethod of them. Networks are by default those that
    the setting `networks` names.
    """
    said = getattr(model, what)
    if what == "networks" and said is Model.networks:
        return getattr(settings, "networks", None)
    return said(settings) if callable(said) else said


@dataclass
class _Parts:
    """The options of the network pair, the loss terms and all other components: the model's own, then those named.

    `before`: what the run that is resumed had, in place of defaults, which a newer version may change.
    """

    model: type[Model]
    settings: Any
    asked: RunRequest
    catalogue: Catalogue
    before: Tables | None
    dotted: dict[str, dict[str, Any]] = field(init=False)  # by COMPONENT.FIELD, of which none may be left over

    def __post_init__(self) -> None:
        self.dotted = self.asked.component_options()

    def tables(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `RunConfig` that are tables by component. `run`: what is decided by now."""
        asked = list(self.dotted)
        values = {"networks": self._networks(run), "losses": self._losses()}
        values |= {kind: self._named(kind) for kind in COMPONENTS}
        values |= {
            "datasets": self._only("datasets", self.catalogue.source_of(run["data"]) or "folder"),
            "reactions": self._only("reactions", run.get("on_alarm", "stop")),
        }
        self._refuse_left_over(asked, values)
        first = sorted(values["controllers"], key=lambda name: name not in self.named_controllers)
        return values | {"controllers": {name: values["controllers"][name] for name in first}}

    @property
    def named_controllers(self) -> set[str]:
        """Those that yield to none: asked for by name, or of the run that is resumed."""
        return {*self._had("controllers"), *self.asked.controllers}

    def _had(self, kind: str) -> Mapping[str, Any]:
        return (self.before or {}).get(kind, {})

    def _options(self, kind: str, name: str, what: str, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        cls = self.catalogue.get(kind, name)
        had, named = self._had(kind).get(name) or {}, getattr(self.asked, kind).get(name, {})
        table = {**(defaults or {}), **had, **named, **self.dotted.pop(name, {})}
        return _checked(cls, table, what)

    def _networks(self, run: Mapping[str, Any]) -> dict[str, Any]:
        name = declared(self.model, "networks", self.settings)
        if not name:
            return {}
        pair = self.catalogue.get("networks", name)
        if pair.sizes and run["image_size"] not in pair.sizes:
            sizes = ", ".join(map(str, pair.sizes))
            raise UserError(f"--image-size {run['image_size']}: networks {name!r} can be built for {sizes}")
        settings = {"background": run["background"], **dict(self.settings)}
        shared = {key: settings[key] for key in pair.Options.model_fields if key in settings}
        return {name: self._options("networks", name, "network pair", shared)}

    def _losses(self) -> dict[str, Any]:
        offered, values = self.catalogue.kind("losses"), {}
        terms = declared(self.model, "terms", self.settings)
        own = {name: {"weight": weight} for name, weight in terms.items() if name in offered}
        had = own if self.before is None else self._had("losses")
        for name, table in {**had, **self.asked.losses}.items():
            table = {**self._had("losses").get(name, {}), **table}
            weight = table.pop("weight", own.get(name, {}).get("weight", 1.0))
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UserError(f"--loss {name}={weight}: the weight must be a number")
            table = _checked(self.catalogue.get("losses", name), table | self.dotted.pop(name, {}), "loss term")
            if weight:  # --loss NAME=0 leaves out one of the model's own
                values[name] = {"weight": float(weight), **table}
        return values

    def _named(self, kind: str) -> dict[str, Any]:
        """The components of a kind of which a run has several."""
        own = EVERY.get(kind, ())
        if kind in ("controllers", "diagnostics"):
            own = (*own, *declared(self.model, kind, self.settings))
        had = dict.fromkeys(own) if self.before is None else self._had(kind)
        values = {}
        for name in {**had, **getattr(self.asked, kind)}:
            follows = self.model.controller_options(self.settings, name) if kind == "controllers" else {}
            values[name] = self._options(kind, name, kind[:-1], follows)
        return values

    def _only(self, kind: str, name: str) -> dict[str, Any]:
        """The options of the one component of a kind of which a run has one; nothing where it has none."""
        table = self._options(kind, name, KINDS[kind][0])
        return {name: table} if table else {}

    def _refuse_left_over(self, asked: list[str], values: Mapping[str, Any]) -> None:
        """COMPONENT.FIELD of no component of this run, or of two that share a name."""
        for name in asked:
            kinds = [KINDS[kind][0] for kind, table in values.items() if name in table]
            if len(kinds) > 1:
                raise UserError(f"--set {name}.…: in this run a {' and a '.join(kinds)} have the name {name!r}")
        if self.dotted:
            name = next(iter(self.dotted))
            active = [component for table in values.values() for component in table]
            there = f"There are: {', '.join(active)}"
            raise UserError(f"--set {name}.…: no component {name!r} in this run{nearest(name, active)}. {there}")


def _checked(cls: Any, table: Mapping[str, Any], what: str) -> dict[str, Any]:
    return validate(cls.Options, table, f"{what} {cls.name!r}", "setting").model_dump(mode="json")


def _before(
    pinned: Mapping[str, Any],
    model: type[Model],
    settings: Any,
    machine: Machine,
    given: Mapping[str, Any],
    catalogue: Catalogue,
) -> dict[str, dict[str, dict[str, Any]]]:
    """The options of a run's components, {kind: {name: options}}, but for those that the settings `given` now decide.

    What a newer version no longer has is left out, unless it was asked for by name.
    """
    try:
        former = validate(model.Settings, _kept_settings(pinned, model), "", "setting")
        former = model.resolve(former, machine)
    except UserError:  # a value that is no longer allowed, and is changed now
        former = settings
    tables: dict[str, dict[str, Any]] = {}
    for kind in ("losses", *COMPONENTS, *SINGLE):
        offered, asked, tables[kind] = catalogue.kind(kind), pinned.get("requested", {}).get(kind) or (), {}
        for name, table in (pinned.get(kind) or {}).items():
            if name not in offered and name not in asked and kind in COMPONENTS:
                continue
            known = {"weight", *offered[name][0].Options.model_fields} if name in offered else set[str]()
            if kind == "controllers":
                was, now = model.controller_options(former, name), model.controller_options(settings, name)
                said = [value for value in given.values() if value is not None and not isinstance(value, bool)]
                known -= {
                    key for key in was.keys() | now.keys() if was.get(key) != now.get(key) or now.get(key) in said
                }
            if kind == "networks":
                known -= given.keys()
            absent = offered[name][0].Options.absent if name in offered else {}
            tables[kind][name] = {key: value for key, value in {**absent, **table}.items() if key in known}
    return tables
