"""What was asked for becomes one frozen `RunConfig`: defaults < preset < TOML file < flags, every value written out."""

from __future__ import annotations

import math
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator

from gankit.catalogue import KINDS, Catalogue, nearest
from gankit.data.source import Data, Request
from gankit.device import choose_device, machine_of
from gankit.errors import UserError
from gankit.options import Options

COMPONENTS = ("controllers", "diagnostics", "views", "artifacts")  # kinds that a run has by name, with options
SINGLE = {  # of which it has one, with options; and what says which
    "networks": "`networks` in [model]",
    "datasets": "`data`",
    "reactions": "`on_alarm`",
}
AUTO = ("image_size", "batch_size", "precision", "steps", "device")  # resolved for the machine, kept by a resume
PLAIN = (
    *("data", "seed", "time", "fit", "background", "mirror", "holdout"),
    *("log_every", "sample_every", "checkpoint_every", "on_alarm"),
)


class RunConfig(Options):
    """config.json: enough to repeat the run. Sizes in pixels, times in seconds, intervals in steps."""

    gankit: str = ""
    model: dict[str, Any]  # the model's name and its settings
    data: str
    image_size: int = Field(ge=8, le=1024, description="side of the square pictures")
    batch_size: int = Field(ge=1, description="pictures in a batch")
    seed: int = Field(0, ge=0, description="decides weights, batches and latents")
    steps: int | None = Field(ge=0, description="total length; none: until --time is over")
    time: float | None = Field(None, gt=0, description="longest time of one start, in seconds")
    device: Literal["cpu", "cuda", "mps"]
    precision: Literal["fp32", "bf16"]
    fit: Literal["pad", "crop"] = "pad"
    background: str = "#ffffff"
    mirror: bool = False
    holdout: float = Field(0.1, ge=0, lt=1, description="share of the pictures that is never trained on")
    log_every: int = Field(50, ge=1)
    sample_every: int = Field(250, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    networks: dict[str, dict[str, Any]] = {}  # options of the named network pair
    losses: dict[str, dict[str, Any]] = {}  # name -> {"weight": …, options}
    controllers: dict[str, dict[str, Any]] = {}
    diagnostics: dict[str, dict[str, Any]] = {}
    views: dict[str, dict[str, Any]] = {}
    artifacts: dict[str, dict[str, Any]] = {}
    datasets: dict[str, dict[str, Any]] = {}  # options of the data source
    reactions: dict[str, dict[str, Any]] = {}  # options of what is done at an alarm
    on_alarm: str = "stop"
    plugins: list[str] = []
    requested: dict[str, Any] = {}
    history: list[dict[str, Any]] = []

    @field_validator("background")
    @classmethod
    def _hex(cls, value: str) -> str:
        return hexadecimal(value)

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """RGB, 0..255."""
        return colour(self.background)


def colour(text: str) -> tuple[int, int, int]:
    """RGB, 0..255, of a colour's name or `#rrggbb`."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ValueError(f"{text!r} is no colour: write a name like white, or #rrggbb") from None


def hexadecimal(text: str) -> str:
    """`#rrggbb` of a colour's name or of itself."""
    return "#{:02x}{:02x}{:02x}".format(*colour(text))


def duration(text: str, flag: str = "--time") -> float:
    """Seconds of `90s`, `30m`, `2h`, `1h30m`, `1d`; a bare number is seconds."""
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * units[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise UserError(f"{flag} {text}: write it like 90s, 30m, 2h or 1h30m")


def parse_value(text: str) -> Any:
    """The VALUE of `--set KEY=VALUE`: a TOML value where it is one, otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None if text in ("none", "null") else text


def parse_pairs(pairs: Iterable[str], flag: str) -> dict[str, Any]:
    """`KEY=VALUE` strings as a mapping."""
    result = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} {pair}: write KEY=VALUE")
        result[key.strip()] = parse_value(value.strip())
    return result


def read_toml(path: str | Path, plugins: Iterable[str] = ()) -> dict[str, Any]:
    """The request that a TOML file makes: the fields of `RunConfig`, a [model] table, lists or tables of components.

    The file may be somebody else's. It may say which `plugins` it is for, but only flags load them.
    """
    try:
        with open(os.path.expanduser(path), "rb") as file:
            asked = normalised(tomllib.load(file))
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"--config {path} is no file of settings: it is nested too deeply") from None
    except ValueError as error:  # no TOML, no UTF-8, a number of five thousand digits, a name with a NUL
        raise UserError(f"--config {path} is no TOML file: {error}") from None
    missing = [name for name in asked.pop("plugins", []) if name not in plugins]
    if missing:
        flags = shlex.join(part for name in missing for part in ("--plugin", name))
        raise UserError(
            f"--config {path} names plugins, and a file alone runs no code: look at what they do, and give {flags} "
            "if you trust them"
        )
    return asked


def normalised(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The request in the one form that can be merged: durations as seconds; components, loss terms too, as tables by
    name; in `set` COMPONENT.FIELD alone, and settings of the model under `model`.
    """
    asked = dict(asked)
    for key, value in asked.items():  # a file and a call can hold what no flag can
        tables = list(value.values()) if isinstance(value, Mapping) else None
        names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else None
        fits = names is not None and all(isinstance(name, str) for name in names)
        if key in ("model", "set") and tables is None:
            raise UserError(f"{key} is {value!r}: it must be a table of settings")
        nested = tables is not None and all(isinstance(table, Mapping) for table in tables)
        if key in COMPONENTS and not fits and not nested:
            raise UserError(f"{key} is {value!r}: it must be a list of names, or a table of tables")
        if key in SINGLE and not nested:
            raise UserError(
                f"{key} is {value!r}: it must be a table of options by name; {SINGLE[key]} says which is used"
            )
        if key == "losses" and not fits and tables is None:
            raise UserError(f"{key} is {value!r}: it must be a table of weights by name")
        if key == "plugins" and not fits:
            raise UserError(f"{key} is {value!r}: it must be a list of files and modules")
        if key in ("preset", "on_alarm", "device", "data") and not isinstance(value, str):
            raise UserError(f"{key} is {value!r}: it must be a text")
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"{key} is {value!r}: no name has a NUL in it")
    if isinstance(asked.get("time"), str):
        asked["time"] = duration(asked["time"])
    if isinstance(asked.get("plugins"), str):
        asked["plugins"] = [asked["plugins"]]
    for kind in (*COMPONENTS, "losses"):
        if kind in asked:
            asked[kind] = _named(asked[kind])
    if "losses" in asked:
        weights = asked["losses"].items()
        asked["losses"] = {name: t if isinstance(t, Mapping) else {"weight": t} for name, t in weights}
    settings, components = {}, {}
    for key, value in asked.pop("set", {}).items():
        if "." in key:
            components[key] = value
        elif isinstance(value, Mapping):  # in a file, `a.b = 1` is a table within a table
            components |= {f"{key}.{field}": one for field, one in value.items()}
        else:
            settings[key] = value
    if settings:
        asked["model"] = {**asked.get("model", {}), **settings}
    if components:
        asked["set"] = components
    return asked


def combine(*requests: Mapping[str, Any]) -> dict[str, Any]:
    """The requests in one, a later one over those before it: also its table of a component over COMPONENT.FIELD."""
    result: dict[str, Any] = {}
    for asked in map(normalised, requests):
        for kind in (*COMPONENTS, *SINGLE, "losses"):
            for name, table in asked.get(kind, {}).items():
                for field in table or {}:
                    result.get("set", {}).pop(f"{name}.{field}", None)
        for name, table in asked.get("losses", {}).items():
            if "weight" not in table and result.get("losses", {}).get(name, {}).get("weight") == 0:
                del result["losses"][name]  # named after it was left out: it is wanted
        result = merge(result, asked)
    return result


def merge(*requests: Mapping[str, Any]) -> dict[str, Any]:
    """Later requests win; tables are merged key by key."""
    result: dict[str, Any] = {}
    for request in requests:
        for key, value in request.items():
            if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merge(result[key], value)
            else:
                result[key] = value
    return result


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


def resolve(
    name: str, request: Mapping[str, Any], catalogue: Catalogue, pinned: Mapping[str, Any] | None = None
) -> RunConfig:
    """Every value that a run of model `name` will use.

    `request` holds what the user gave: the fields of `RunConfig`, `model` (settings), `losses` (name -> weight or
    table), `controllers`, `diagnostics`, `views`, `artifacts` (lists of names, or tables), `set` (COMPONENT.FIELD).
    `pinned`: the config of the run that is gone on with; all of it is kept that `request` does not change.
    """
    request = normalised(request)
    requested, pinned = dict(request), pinned or {}
    request = {key: pinned[key] for key in PLAIN if pinned.get(key) is not None} | request
    model_class = catalogue.get("models", name)
    preset = request.pop("preset", None)
    if preset:
        if preset not in model_class.presets:
            there = ", ".join(model_class.presets) or "none"
            raise UserError(
                f"model {name!r} has no preset {preset!r}{nearest(preset, model_class.presets)}. There are: {there}"
            )
        request = combine(model_class.presets[preset], request)
    unknown = request.keys() - {*PLAIN, *AUTO, *COMPONENTS, *SINGLE, "model", "losses", "set"}
    if unknown:
        key = sorted(unknown)[0]
        raise UserError(f"unknown option {key!r}{nearest(key, RunConfig.model_fields)}")
    for kind in SINGLE:
        for component in request.get(kind, {}):
            catalogue.get(kind, component)  # or it is refused: its options would be read by nobody

    # What depends on the machine, and is decided once.
    device = choose_device(_given(request, "device", pinned, "auto"))
    machine = machine_of(device)
    small = device == "cpu"
    auto = {
        "image_size": 32 if small else 64,
        "batch_size": 16,
        "precision": "bf16" if machine.fast_bf16 else "fp32",
        "steps": None if request.get("time") else 20_000 if small else 100_000,
    }
    values: dict[str, Any] = {key: _given(request, key, pinned, default) for key, default in auto.items()}
    values["device"] = device
    values |= {key: request[key] for key in PLAIN if request.get(key) is not None}
    if not values.get("data"):
        raise UserError("no data named: give a folder of pictures with --data DIR, or try --data demo")
    if source_of(values["data"], catalogue) is None:  # a folder by its whole path: a resume may be called anywhere
        path = values["data"].removeprefix("folder:")  # its name as a data source, which need not be said
        values["data"] = os.path.abspath(os.path.expanduser(path))
    values["data"] = pinned.get("data", values["data"])

    # The model's settings. An `auto` is decided by what was asked for, of which what is merely kept is none.
    given = dict(request.get("model", {}))
    if given.pop("name", name) != name:
        raise UserError(f"the [model] table is for {request['model']['name']!r}, and the model asked for is {name!r}")
    kept = _model_settings(pinned, model_class) if pinned else {}
    settings = validate(model_class.Settings, kept | given, f"model {name!r}", "setting")
    if pinned and "auto" in given.values():
        said = {*given, *pinned.get("requested", {}).get("model", {})}
        settings = settings.model_construct(_fields_set=said, **dict(settings))
    if getattr(settings, "networks", None) == "auto":  # options of a pair say which is meant
        meant = _component_options(request.get("set", {})).keys() & catalogue.kind("networks").keys()
        settings = settings.model_copy(update={"networks": next(iter(sorted(meant)), "auto")})
    resolved = model_class.resolve(settings, machine)
    values["model"] = {"name": name, **resolved.model_dump(mode="json")}

    model = model_class(resolved, (3, values["image_size"], values["image_size"]))
    single = {
        "datasets": source_of(values["data"], catalogue) or "folder",
        "reactions": values.get("on_alarm", "stop"),
    }
    before = _before(pinned, model, machine, given, catalogue) if pinned else None
    values |= _components(model, request, values, catalogue, single, before)
    values |= {"requested": requested, "history": pinned.get("history", [])}
    return validate(RunConfig, values, "the run", "option")


def request(**given: Any) -> dict[str, Any]:
    """The flags that were given, as `resolve` takes them."""
    return normalised({key: value for key, value in given.items() if value not in (None, (), {})})


def amend(
    old: Mapping[str, Any], flags: Mapping[str, Any], catalogue: Catalogue, step: int, by: str = "resume"
) -> tuple[RunConfig, set[str]]:
    """A run's configuration from `step` on, with what the flags change, and the names of all that differs.

    What changed is added to `history`. All settings stay as they were, whatever a newer version's defaults are.
    """
    asked, pinned = merge(old["requested"], flags), dict(old)
    if "steps" in flags and "time" not in flags:
        asked.pop("time", None)  # a length that is asked for lifts the time of an earlier start
        pinned["time"] = None
    resolved = resolve(old["model"]["name"], flags, catalogue, pinned)
    kept = {"gankit": old["gankit"], "plugins": old["plugins"], "requested": asked}
    resolved = resolved.model_copy(update=kept)
    ignored = {"requested", "history", "plugins"} | ({"datasets", "reactions"} - old.keys())  # of an older gankit
    new = resolved.model_dump(mode="json")
    differing = {key: value for key, value in changes(old, new).items() if key.split(".")[0] not in ignored}
    if differing:
        entry = {"step": step, "changed": differing} | ({} if by == "resume" else {"by": by})
        resolved = resolved.model_copy(update={"history": [*resolved.history, entry]})
    return resolved, set(differing)


def _background(run: Mapping[str, Any]) -> str:
    text = str(run.get("background", RunConfig.model_fields["background"].default))
    try:
        return hexadecimal(text)
    except ValueError as error:
        raise UserError(f"--background {text} is refused: {error}") from None


def _model_settings(old: Mapping[str, Any], model_class: Any) -> dict[str, Any]:
    """The settings of a run's model; what the model sets of its networks by now is as they were built."""
    settings = {key: value for key, value in old["model"].items() if key != "name"}
    pair = (old.get("networks") or {}).get(settings.get("networks")) or {}
    built = {key: pair[key] for key in model_class.Settings.model_fields if key in pair}
    return {**model_class.Settings.absent, **built, **settings}


def _components(
    model: Any,
    request: Mapping[str, Any],
    run: Mapping[str, Any],
    catalogue: Catalogue,
    single: Mapping[str, str],
    before: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """The options of the network pair, the loss terms and all other components: the model's own, then those named.

    `run`: what is decided by now, its size and background. `single`: the name of the data source and of the reaction,
    of which a run has one. `before`: what the run that is resumed had, {kind: {name: options}}, in place of defaults,
    which a newer version may change.
    """
    kept = before or {}

    def had(kind: str, name: str) -> Mapping[str, Any]:
        return kept.get(kind, {}).get(name) or {}

    options = _component_options(request.get("set", {}))
    asked = list(options)
    values: dict[str, Any] = {"networks": {}, "losses": {}}
    if model.networks:
        pair = catalogue.get("networks", model.networks)
        if pair.sizes and run["image_size"] not in pair.sizes:
            sizes = ", ".join(map(str, pair.sizes))
            raise UserError(f"--image-size {run['image_size']}: networks {pair.name!r} can be built for {sizes}")
        settings = {"background": _background(run), **dict(model.settings)}
        shared = {key: settings[key] for key in pair.Options.model_fields if key in settings}
        given = request.get("networks", {}).get(pair.name, {}) | options.pop(pair.name, {})
        values["networks"][pair.name] = _options(
            pair, {**shared, **had("networks", pair.name), **given}, "network pair"
        )
    offered = catalogue.kind("losses")
    own_terms = {name: weight for name, weight in model.terms.items() if name in offered}
    for name, table in {**kept.get("losses", own_terms), **request.get("losses", {})}.items():
        table = {**had("losses", name), **(table if isinstance(table, Mapping) else {"weight": table})}
        weight = table.pop("weight", own_terms.get(name, 1.0))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise UserError(f"--loss {name}={weight}: the weight must be a number")
        term = catalogue.get("losses", name)
        table = _options(term, table | options.pop(name, {}), "loss term")
        if weight:  # --loss NAME=0 leaves out one of the model's own
            values["losses"][name] = {"weight": float(weight), **table}
    own = {
        "controllers": model.controllers,
        "diagnostics": ("vitals", "cleanliness", "mode-collapse", *model.diagnostics),
        "views": (),
        "artifacts": ("losses", "animation", "report"),
    }
    for kind in COMPONENTS:
        named = request.get(kind, {})
        values[kind] = {}
        for name in {**kept.get(kind, dict.fromkeys(own[kind])), **named}:
            table = model.controller_options(name) if kind == "controllers" else {}
            table = {**table, **had(kind, name), **(named.get(name) or {}), **options.pop(name, {})}
            values[kind][name] = _options(catalogue.get(kind, name), table, kind[:-1])
    for kind, name in single.items():
        table = {**had(kind, name), **(request.get(kind, {}).get(name) or {}), **options.pop(name, {})}
        table = _options(catalogue.get(kind, name), table, KINDS[kind][0])
        values[kind] = {name: table} if table else {}
    named = {**kept.get("controllers", {}), **request.get("controllers", {})}
    values["controllers"] = _one_for_each_knob(values["controllers"], named, model, catalogue)
    for name in asked:
        kinds = [KINDS[kind][0] for kind, table in values.items() if name in table]
        if len(kinds) > 1:
            raise UserError(f"--set {name}.…: in this run a {' and a '.join(kinds)} have the name {name!r}")
    if options:
        name = next(iter(options))
        active = [component for table in values.values() for component in table]
        raise UserError(
            f"--set {name}.…: no component {name!r} in this run{nearest(name, active)}. There are: {', '.join(active)}"
        )
    return values


def _before(
    pinned: Mapping[str, Any], model: Any, machine: Any, given: Mapping[str, Any], catalogue: Catalogue
) -> dict[str, dict[str, Any]]:
    """The options of a run's components, {kind: {name: options}}, but for those that the settings `given` now decide.

    What a newer version no longer has is left out, unless it was asked for by name.
    """
    try:
        settings = validate(model.Settings, _model_settings(pinned, type(model)), "", "setting")
        former = type(model)(type(model).resolve(settings, machine), model.shape)
    except UserError:  # a value that is no longer allowed, and is changed now
        former = model
    tables: dict[str, dict[str, Any]] = {}
    for kind in ("losses", *COMPONENTS, *SINGLE):
        offered, asked, tables[kind] = catalogue.kind(kind), pinned.get("requested", {}).get(kind) or (), {}
        for name, table in (pinned.get(kind) or {}).items():
            if name not in offered and name not in asked and kind in COMPONENTS:
                continue
            known = {"weight", *offered[name][0].Options.model_fields} if name in offered else set[str]()
            if kind == "controllers":
                was, now = former.controller_options(name), model.controller_options(name)
                said = [value for value in given.values() if value is not None and not isinstance(value, bool)]
                known -= {
                    key for key in was.keys() | now.keys() if was.get(key) != now.get(key) or now.get(key) in said
                }
            if kind == "networks":
                known -= given.keys()
            absent = offered[name][0].Options.absent if name in offered else {}
            tables[kind][name] = {key: value for key, value in {**absent, **table}.items() if key in known}
    return tables


def controller_instances(config: RunConfig, model: Any, catalogue: Catalogue) -> dict[str, Any]:
    """The run's controllers by name."""
    built = {}
    for name, table in config.controllers.items():
        cls = catalogue.get("controllers", name)
        built[name] = cls(cls.Options(**table), model)
    return built


def validate(cls: type[BaseModel], values: Mapping[str, Any], where: str, what: str) -> Any:
    """The validated settings, or `UserError`: which setting, what was given, what is allowed."""
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        field = cls.model_fields.get(key)
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"{where} has no {what} {key!r}{nearest(key, cls.model_fields)}. "
                f"There are: {', '.join(cls.model_fields)}"
            ) from None
        given = values.get(key)
        reason = f"it must be {allowed(field)}" if field and allowed(field) else ""
        if first["type"] == "value_error" or not reason:
            reason = first["msg"].removeprefix("Value error, ")
            reason = reason[0].lower() + reason[1:]
        shown = f"--{key.replace('_', '-')} {given}" if cls is RunConfig else f"{where}: {what} {key}={given}"
        raise UserError(f"{shown} is refused: {reason}") from None


def allowed(field: Any) -> str:
    """The range of a pydantic field in words, "a number in (0, 1]"; nothing where words would not help."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        parts = get_args(annotation)
    else:
        parts = (annotation,)
    words: list[str] = []
    for part in parts:
        metadata = list(field.metadata)
        if get_origin(part) is Annotated:
            part, *own = get_args(part)
            metadata += [item for info in own for item in getattr(info, "metadata", [info])]
        if get_origin(part) is Literal:
            words += [str(choice) for choice in get_args(part)]
        elif part is type(None):
            words.append("none")
        elif part is bool:
            words.append("true or false")
        elif part in (int, float):
            words.append(("a whole number" if part is int else "a number") + _interval(metadata))
        else:
            return ""
    return " or ".join(words)


def _interval(metadata: list[Any]) -> str:
    limit = {name: getattr(item, name) for item in metadata for name in ("gt", "ge", "lt", "le") if hasattr(item, name)}
    if not limit:
        return ""
    low = f"({limit['gt']:g}" if "gt" in limit else f"[{limit['ge']:g}" if "ge" in limit else "(−∞"
    high = f"{limit['lt']:g})" if "lt" in limit else f"{limit['le']:g}]" if "le" in limit else "∞)"
    return f" in {low}, {high}"


def source_of(data: str, catalogue: Catalogue) -> str | None:
    """The name of the data source in NAME[:ARGUMENT], or None for the path of a folder."""
    name = data.partition(":")[0]
    return name if name in catalogue.kind("datasets") and name != "folder" else None


def open_source(
    data: str, asked: Request, catalogue: Catalogue, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Data:
    """Open the data source NAME[:ARGUMENT], or a folder, with its own of `options` by name.

    Raises `UserError` as the source does.
    """
    name = source_of(data, catalogue)
    cls = catalogue.get("datasets", name or "folder")
    source = cls(cls.Options(**(options or {}).get(cls.name, {})))
    return source.open(data.partition(":")[2] or None if name else data, asked)


def _given(request: Mapping[str, Any], key: str, pinned: Mapping[str, Any], default: Any) -> Any:
    value = request.get(key)
    if value is None or value == "auto":
        value = pinned.get(key, default)
    return value


def _named(given: Any) -> dict[str, Any]:
    """Names with options, from a list of names or a table."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str):
        return {given: {}}
    return {name: {} for name in given}


def _component_options(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        component, _, name = key.partition(".")
        options.setdefault(component, {})[name] = value
    return options


def _options(cls: Any, table: Mapping[str, Any], what: str) -> dict[str, Any]:
    return validate(cls.Options, table, f"{what} {cls.name!r}", "setting").model_dump(mode="json")


def _one_for_each_knob(
    tables: dict[str, Any], named: Mapping[str, Any], model: Any, catalogue: Catalogue
) -> dict[str, Any]:
    """A controller that the user named replaces the model's own for the same knob; two by name are refused."""
    driver: dict[str, str] = {}
    kept = {}
    for name, table in sorted(tables.items(), key=lambda item: item[0] not in named):
        cls = catalogue.get("controllers", name)
        knobs = cls(cls.Options(**table), model).drives
        taken = [knob for knob in knobs if knob in driver]
        if taken and name in named:
            raise UserError(f"controllers {driver[taken[0]]!r} and {name!r} both drive {taken[0]!r}: name one of them")
        if not taken:
            kept[name] = table
            driver |= dict.fromkeys(knobs, name)
    return kept
