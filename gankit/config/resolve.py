"""Resolves a request to one frozen `RunConfig`: defaults < preset < TOML file < flags, every value written out.

A model's class and its settings declare its components; no model, network or controller is built here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticSerializationError

from gankit.catalogue import KINDS, Catalogue
from gankit.config.request import RunRequest
from gankit.config.schema import COMPONENTS, PLAIN, SINGLE, SIZES, RunConfig
from gankit.config.values import hexadecimal
from gankit.device import choose_device, machine_of
from gankit.errors import NO_DATA, UserError, nearest, of_a_plugin
from gankit.model import Machine, Model, NetworkPair
from gankit.options import validate

EVERY: Mapping[str, tuple[str, ...]] = {  # on by default for every model
    "diagnostics": ("vitals", "cleanliness", "mode-collapse"),
    "artifacts": ("losses", "animation", "report"),
}
ANSWERS = frozenset({"score", "reconstruction", "code"})  # of a discriminator
Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]  # {kind: {name: options}}


def resolve(name: str, request: RunRequest, catalogue: Catalogue, pinned: Mapping[str, Any] | None = None) -> RunConfig:
    """Every value that a run of model `name` uses.

    `pinned`: the stored configuration of a run to resume. It applies wherever `request` changes nothing. Raises
    `UserError` for an invalid request, and `TrainingError` if the code of a model or component fails.
    """
    with of_a_plugin(f"the settings of model {name!r} and its components cannot be settled", catalogue.strict):
        return _resolved(name, request, catalogue, pinned or {})


def _resolved(name: str, request: RunRequest, catalogue: Catalogue, pinned: Mapping[str, Any]) -> RunConfig:
    model = catalogue.get("models", name)
    stored = {key: pinned[key] for key in PLAIN if pinned.get(key) is not None}
    effective = _with_preset(RunRequest(**{**stored, **request.table()}), model)
    for kind in SINGLE:
        for component in getattr(effective, kind):
            catalogue.get(kind, component)  # refuses an unknown name: nothing would read its options
    device = choose_device(_chosen(effective, "device", pinned, "auto"))
    machine = machine_of(device)
    values = _values(effective, pinned, machine, catalogue) | {"device": device}
    settings = _settings(effective, pinned, model, machine, catalogue)
    values["model"] = {"name": name, **_written(settings, f"model {name!r}")}
    options = _stored_options(pinned, catalogue) if pinned else None
    parts = _Parts(model, settings, effective, catalogue, options)
    values |= parts.tables(values)
    values |= {"requested": request.table(), "history": pinned.get("history", [])}
    config: RunConfig = validate(RunConfig, values, "the run", "option", flags=True)
    return config.with_yielding(name for name in config.controllers if name not in parts.named_controllers)


def _with_preset(request: RunRequest, model: type[Model]) -> RunRequest:
    if not request.preset:
        return request
    if request.preset not in model.presets:
        there = ", ".join(model.presets) or "none"
        raise UserError(
            f"model {model.name!r} has no preset {request.preset!r}{nearest(request.preset, model.presets)}. "
            f"There are: {there}"
        )
    preset = model.presets[request.preset]
    if not isinstance(preset, Mapping):
        raise UserError(
            f"preset {request.preset!r} of model {model.name!r} is {preset!r}: it must be a table of settings"
        )
    try:
        return request.over(RunRequest(**preset))
    except UserError as error:
        raise UserError(f"preset {request.preset!r} of model {model.name!r}: {error}") from None


def _chosen(request: RunRequest, key: str, pinned: Mapping[str, Any], default: Any) -> Any:
    value = getattr(request, key)
    return pinned.get(key, default) if value is None or value == "auto" else value


def _values(request: RunRequest, pinned: Mapping[str, Any], machine: Machine, catalogue: Catalogue) -> dict[str, Any]:
    """The settings with a single value. `auto` is decided here, for this machine."""
    auto: dict[str, Any] = {
        **{key: sizes[machine.device != "cpu"] for key, sizes in SIZES.items()},
        "precision": "bf16" if machine.fast_bf16 else "fp32",
    }
    if request.time:
        auto["steps"] = None
    values = {key: _chosen(request, key, pinned, default) for key, default in auto.items()}
    values |= {key: getattr(request, key) for key in PLAIN if getattr(request, key) is not None}
    values["background"] = hexadecimal(values.get("background", RunConfig.model_fields["background"].default))
    if not values.get("data"):
        raise UserError(NO_DATA)
    if catalogue.source_of(values["data"]) is None:  # an absolute path: a resume may start in another folder
        path = values["data"].removeprefix("folder:")  # the name of the data source is optional
        values["data"] = os.path.abspath(os.path.expanduser(path))
    values["data"] = pinned.get("data", values["data"])
    return values


def _settings(
    request: RunRequest, pinned: Mapping[str, Any], model: type[Model], machine: Machine, catalogue: Catalogue
) -> Any:
    """The model's settings. Only requested values decide an `auto`: values kept from the stored run do not count."""
    requested = dict(request.model)
    if requested.pop("name", model.name) != model.name:
        raise UserError(f"the [model] table is for {request.model['name']!r}, and the model is {model.name!r}")
    stored = {key: value for key, value in pinned["model"].items() if key != "name"} if pinned else {}
    settings = validate(model.Settings, stored | requested, f"model {model.name!r}", "setting")
    if pinned and "auto" in requested.values():
        names = {*requested, *pinned.get("requested", {}).get("model", {})}
        settings = settings.model_construct(_fields_set=names, **dict(settings))
    if getattr(settings, "networks", None) == "auto":  # options of a pair select that pair
        pairs = request.component_options().keys() & catalogue.kind("networks").keys()
        settings = settings.model_copy(update={"networks": next(iter(sorted(pairs)), "auto")})
    settled = model.resolve(settings, machine)
    if not isinstance(settled, model.Settings):
        raise UserError(f"resolve of model {model.name!r} returns {settled!r}: it must return the settings")
    return settled


def shared(pair: type[NetworkPair], settings: Mapping[str, Any], background: str) -> dict[str, Any]:
    """Options of a network pair that are settings of the model or of the run. Their values are stored there only."""
    values = {"background": background, **settings}
    return {key: values[key] for key in pair.Options.model_fields if key in values}


def needed(model: type[Model], catalogue: Catalogue) -> frozenset[str]:
    """What a model needs D to answer: what it declares, or the kind of answer of its own pair; empty where unknown."""
    field = model.Settings.model_fields.get("networks")
    own = catalogue.kind("networks").get(field.default) if field and isinstance(field.default, str) else None
    return frozenset(model.needs) or (frozenset(own[0].gives) - {"code"} if own else frozenset())


def declared(model: type[Model], what: str, settings: Any) -> Any:
    """The networks, loss terms, controllers or diagnostics that a model's class declares.

    It declares an attribute, or a classmethod of the settings. The default of `networks` is the setting `networks`.
    """
    value = getattr(model, what)
    if what == "networks" and value is Model.networks:
        return getattr(settings, "networks", None)
    value = value(settings) if callable(value) else value
    form, words = (Mapping, "{name: weight}") if what == "terms" else (Iterable, "a list of names")
    if what != "networks" and (isinstance(value, str) or not isinstance(value, form)):
        raise UserError(f"{what} of model {model.name!r} is {value!r}: it must be {words}")
    return value


@dataclass
class _Parts:
    """The options of the network pair, the loss terms and all other components: the model's own, then the requested.

    `stored`: the options of a resumed run. They replace the defaults, which a newer version may change.
    """

    model: type[Model]
    settings: Any
    request: RunRequest
    catalogue: Catalogue
    stored: Tables | None
    dotted: dict[str, dict[str, Any]] = field(init=False)  # COMPONENT.FIELD entries not used yet

    def __post_init__(self) -> None:
        self.dotted = self.request.component_options()

    def tables(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `RunConfig` that are tables by component. `run`: the single values."""
        dotted = list(self.dotted)
        values = {"networks": self._networks(run), "losses": self._losses()}
        values |= {kind: self._named(kind) for kind in COMPONENTS}
        values |= {
            "datasets": self._only("datasets", self.catalogue.source_of(run["data"]) or "folder"),
            "reactions": self._only("reactions", run.get("on_alarm", "stop")),
        }
        self._refuse_left_over(dotted, values)
        first = sorted(values["controllers"], key=lambda name: name not in self.named_controllers)
        return values | {"controllers": {name: values["controllers"][name] for name in first}}

    @property
    def named_controllers(self) -> set[str]:
        """Controllers that do not yield to others: requested by name, or stored with a resumed run."""
        return {*self._stored("controllers"), *self.request.controllers}

    def _stored(self, kind: str) -> Mapping[str, Any]:
        return (self.stored or {}).get(kind, {})

    def _options(self, kind: str, name: str, what: str, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        cls = self.catalogue.get(kind, name)
        stored, named = self._stored(kind).get(name) or {}, getattr(self.request, kind).get(name, {})
        table = {**(defaults or {}), **stored, **named, **self.dotted.pop(name, {})}
        return _checked(cls, table, what)

    def _networks(self, run: Mapping[str, Any]) -> dict[str, Any]:
        name = declared(self.model, "networks", self.settings)
        if not name:
            return {}
        pair = self.catalogue.get("networks", name)
        _refuse_other_answers(self.model, pair, self.catalogue)
        if pair.sizes and run["image_size"] not in pair.sizes:
            sizes = ", ".join(map(str, pair.sizes))
            raise UserError(f"--image-size {run['image_size']}: networks {name!r} can be built for {sizes}")
        above = shared(pair, dict(self.settings), run["background"])
        requested = {**self.request.networks.get(name, {}), **self.dotted.get(name, {})}
        for key in above.keys() & requested.keys():
            instead = f"--set {key}=…" if key in type(self.settings).model_fields else "--background COLOUR"
            raise UserError(f"network pair {name!r}: {key} is not its own in this run: write {instead}")
        options, stored = self._options("networks", name, "network pair", above), self._stored("networks").get(name, {})
        return {name: {key: value for key, value in options.items() if key not in above or key in stored}}

    def _losses(self) -> dict[str, Any]:
        offered, values = self.catalogue.kind("losses"), {}
        terms = declared(self.model, "terms", self.settings)
        own = {name: {"weight": weight} for name, weight in terms.items() if name in offered}
        tables = own if self.stored is None else self._stored("losses")
        for name, table in {**tables, **self.request.losses}.items():
            table = {**self._stored("losses").get(name, {}), **table}
            weight = table.pop("weight", own.get(name, {}).get("weight", 1.0))
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UserError(f"--loss {name}={weight}: the weight must be a number")
            table = _checked(self.catalogue.get("losses", name), table | self.dotted.pop(name, {}), "loss term")
            if weight:  # --loss NAME=0 leaves out one of the model's own
                values[name] = {"weight": float(weight), **table}
        return values

    def _named(self, kind: str) -> dict[str, Any]:
        """The options of a kind with any number of components, by name."""
        own = EVERY.get(kind, ())
        if kind in ("controllers", "diagnostics"):
            own = (*own, *declared(self.model, kind, self.settings))
        names = dict.fromkeys(own) if self.stored is None else self._stored(kind)
        return {name: self._options(kind, name, kind[:-1]) for name in {**names, **getattr(self.request, kind)}}

    def _only(self, kind: str, name: str) -> dict[str, Any]:
        """The options of a kind with one component, by its name; {} where it has no options."""
        table = self._options(kind, name, KINDS[kind][0])
        return {name: table} if table else {}

    def _refuse_left_over(self, names: list[str], values: Mapping[str, Any]) -> None:
        """Refuse a COMPONENT.FIELD that fits no component of this run, or two of one name."""
        for name in names:
            kinds = [kind for kind, table in values.items() if name in table]
            if len(kinds) > 1:
                words = " and a ".join(KINDS[kind][0] for kind in kinds)
                raise UserError(
                    f"--set {name}.…: in this run a {words} have the name {name!r}: say which in a file for --config, "
                    f"under {' or '.join(f'[{kind}.{name}]' for kind in kinds)}"
                )
        if self.dotted:
            name = next(iter(self.dotted))
            active = [component for table in values.values() for component in table]
            there = f"There are: {', '.join(active)}"
            raise UserError(f"--set {name}.…: no component {name!r} in this run{nearest(name, active)}. {there}")


def _refuse_other_answers(model: type[Model], pair: type[NetworkPair], catalogue: Catalogue) -> None:
    """Raise for a pair whose discriminator says that it gives something else than the model needs."""
    for what, words in ((f"model {model.name!r} needs", model.needs), (f"networks {pair.name!r} give", pair.gives)):
        for word in frozenset(words) - ANSWERS:
            raise UserError(f"{what} {word!r}, which gankit does not know: write some of {', '.join(sorted(ANSWERS))}")
    missing = needed(model, catalogue) - pair.gives
    if pair.gives and missing:
        fitting = [
            name
            for name, (other, _) in catalogue.kind("networks").items()
            if other.gives and not needed(model, catalogue) - other.gives
        ]
        raise UserError(
            f"networks {pair.name!r}: their discriminator gives a {' and a '.join(sorted(pair.gives))}, and model "
            f"{model.name!r} needs a {' and a '.join(sorted(missing))}: --set networks={' or '.join(fitting) or '…'}"
        )


def _checked(cls: Any, table: Mapping[str, Any], what: str) -> dict[str, Any]:
    owner = f"{what} {cls.name!r}"
    return _written(validate(cls.Options, table, owner, "setting"), owner)


def _written(options: Any, owner: str) -> dict[str, Any]:
    """Settings as config.json has them. Raises `UserError` for one that JSON cannot have."""
    try:
        return options.model_dump(mode="json")
    except PydanticSerializationError as error:
        raise UserError(
            f"{owner}: a setting cannot be written to config.json ({error}): give it a plain type"
        ) from None


def _stored_options(pinned: Mapping[str, Any], catalogue: Catalogue) -> dict[str, dict[str, dict[str, Any]]]:
    """The stored options of a run's components, {kind: {name: options}}.

    They exclude options and components that this version does not have. A component that was requested by name stays.
    """
    tables: dict[str, dict[str, Any]] = {}
    for kind in ("losses", *COMPONENTS, *SINGLE):
        offered, named, tables[kind] = catalogue.kind(kind), pinned.get("requested", {}).get(kind) or (), {}
        for name, table in (pinned.get(kind) or {}).items():
            if name not in offered and name not in named and kind in COMPONENTS:
                continue
            known = {"weight", *offered[name][0].Options.model_fields} if name in offered else set[str]()
            tables[kind][name] = {key: value for key, value in table.items() if key in known}
    return tables
