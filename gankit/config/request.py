"""A request for a run, in one form, from flags, a file, a preset, a rescue or a call in Python."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from gankit.config.schema import COMPONENTS, REQUESTABLE, SINGLE, TABLES, Flag, RunConfig, Tables, flags_of
from gankit.config.values import duration, hexadecimal
from gankit.errors import UserError, nearest
from gankit.files import OBJECT, ordinary


def _field(name: str) -> Any:
    """A `RunConfig` field in a request. `RunConfig` itself checks types and ranges of single values."""
    field = RunConfig.model_fields[name]
    annotation: Any = Tables if name in TABLES else Any
    for item in field.metadata:
        annotation = Annotated[annotation, item] if isinstance(item, Flag) else annotation
    return annotation, Field({} if name in TABLES else None, description=field.description)


_Fields: Any = create_model("_Fields", **{name: _field(name) for name in REQUESTABLE})


class RunRequest(_Fields):
    """The requested settings: fields of `RunConfig` and the fields below. Only `model_fields_set` is requested.

    Components and loss terms are tables of options by name; a term's table also holds its weight. `set` holds
    COMPONENT.FIELD only, and `model` the settings of the model. A duration is in seconds. Raises `UserError` for a
    malformed value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    if TYPE_CHECKING:  # the fields of `RunConfig` exist only at run time

        def __getattr__(self, name: str) -> Any: ...

    preset: Annotated[Any, Flag("NAME")] = Field(None, description="preset of the model, e.g. paper")
    model: dict[str, Any] = Field({}, description="settings of the model")
    set: Annotated[dict[str, Any], Flag("KEY=VALUE", resumed=True)] = Field(
        {}, description="setting of the model, or COMPONENT.FIELD"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:  # a call in Python can pass values that no flag or file can hold
            first = error.errors()[0]
            key = first["loc"][0]
            raise UserError(f"{key} is {values.get(str(key))!r}: {first['msg']}") from None

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop empty values, and separate the model's settings from the components' options."""
        values = {key: value for key, value in values.items() if value is not None and value not in ((), {})}
        unknown = sorted(values.keys() - cls.model_fields.keys())
        if unknown:
            raise UserError(f"unknown option {unknown[0]!r}{nearest(unknown[0], cls.model_fields)}")
        for key, value in values.items():
            if isinstance(value, str) and "\0" in value:
                raise UserError(f"{key} is {value!r}: no name has a NUL in it")
            for name, number in _numbers(key, value):
                if abs(number) >= 1 << 63:
                    raise UserError(
                        f"{name} has a number of {number.bit_length()} bits, and none may have more than 63"
                    )
            named = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
            if key in ("model", "set") and not named:
                raise UserError(f"{key} is {value!r}: it must be a table of settings")
        settings, components = {}, {}
        for key, value in values.pop("set", {}).items():
            if "." in key:
                components[key] = value
            elif isinstance(value, Mapping):  # in TOML, `a.b = 1` is a nested table
                components |= {f"{key}.{field}": one for field, one in value.items()}
            else:
                settings[key] = value
        if settings:
            values["model"] = {**values.get("model", {}), **settings}
        return {**values, "set": components} if components else values

    @field_validator("preset", "on_alarm", "device", "data", mode="before")
    @classmethod
    def _text(cls, value: Any, field: Any) -> str:
        if not isinstance(value, str):
            raise UserError(f"{field.field_name} is {value!r}: it must be a text")
        return value

    @field_validator("time", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return duration(value) if isinstance(value, str) else value

    @field_validator("background")
    @classmethod
    def _colour(cls, value: Any) -> Any:
        try:
            hexadecimal(str(value))
        except ValueError as error:
            raise UserError(f"--background {value} is refused: {error}") from None
        return value

    @field_validator(*COMPONENTS, mode="before")
    @classmethod
    def _by_name(cls, value: Any, field: Any) -> Any:
        if _names(value) is None and not _nested(value):
            raise UserError(f"{field.field_name} is {value!r}: it must be a list of names, or a table of tables")
        return value if _nested(value) else {name: {} for name in _names(value) or ()}

    @field_validator(*SINGLE, mode="before")
    @classmethod
    def _options(cls, value: Any, field: Any) -> Any:
        if not _nested(value):
            chooser = SINGLE[field.field_name]
            raise UserError(
                f"{field.field_name} is {value!r}: it must be a table of options by name; {chooser} says which is used"
            )
        return value

    @field_validator("losses", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: one if isinstance(one, Mapping) else {"weight": one} for name, one in value.items()}
        if _names(value) is None:
            raise UserError(f"losses is {value!r}: it must be a table of weights by name")
        return {name: {} for name in _names(value) or ()}

    def table(self) -> dict[str, Any]:
        """The requested settings only, as `requested` of config.json records them."""
        return self.model_dump(exclude_unset=True)

    def over(self, before: RunRequest) -> RunRequest:
        """This request merged over `before`. Its table of a component also overrides COMPONENT.FIELD in `before`."""
        below, above = before.table(), self.table()
        for kind in TABLES:
            for name, table in above.get(kind, {}).items():
                for field in table:
                    below.get("set", {}).pop(f"{name}.{field}", None)
        for name, table in above.get("losses", {}).items():
            if "weight" not in table and below.get("losses", {}).get(name, {}).get("weight") == 0:
                del below["losses"][name]  # naming the term undoes an earlier weight of 0
        return RunRequest(**merge(below, above))

    def component_options(self) -> dict[str, dict[str, Any]]:
        """The entries of `set` by component: {name: {field: value}}."""
        options: dict[str, dict[str, Any]] = {}
        for key, value in self.set.items():
            component, _, name = key.partition(".")
            options.setdefault(component, {})[name] = value
        return options


FLAGS = flags_of(RunRequest)
RESUMED = {name for name, flag in FLAGS.items() if flag.resumed}  # settings that a resume may change


def _names(value: Any) -> list[str] | None:
    """The names in a list of names, or in one name; None for anything else."""
    names = [value] if isinstance(value, str) else value
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else None


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(table, Mapping) for table in value.values())


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """The whole numbers in a value, by name."""
    if isinstance(value, int):
        yield name, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _numbers(str(key), one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(name, one)


def read_toml(path: str | Path, plugins: Iterable[str] = ()) -> RunRequest:
    """The request in a TOML file: fields of `RunConfig`, a [model] table, lists or tables of components.

    The file is not trusted: it may list the `plugins` that it needs, but only --plugin loads them.
    """
    try:
        with ordinary(os.path.expanduser(path)) as file:
            table = tomllib.loads(file.read(OBJECT).decode())
        listed = table.pop("plugins", [])
        request = RunRequest(**table)
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"--config {path} is no file of settings: it is nested too deeply") from None
    except ValueError as error:  # not TOML, not UTF-8, a number of thousands of digits, a name with a NUL
        raise UserError(f"--config {path} is no TOML file: {error}") from None
    names = _names(listed)
    if names is None:
        raise UserError(f"plugins is {listed!r}: it must be a list of files and modules")
    missing = [name for name in names if name not in plugins]
    if missing:
        flags = shlex.join(part for name in missing for part in ("--plugin", name))
        raise UserError(
            f"--config {path} names plugins, and a file alone runs no code: look at what they do, and give {flags} "
            "if you trust them"
        )
    return request


def merge(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Later tables win; nested tables are merged key by key."""
    result: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merge(result[key], value)
            else:
                result[key] = value
    return result
