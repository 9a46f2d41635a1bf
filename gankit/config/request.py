"""A request for a run, in one form, from flags, a file, a preset, a rescue or a call in Python."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from gankit.config.schema import COMPONENTS, REQUESTABLE, SINGLE, TABLES, Flag, RunConfig, Tables, flags_of
from gankit.config.values import duration, hexadecimal
from gankit.errors import UserError, nearest

SYNONYMS = {  # what other tools and papers call a setting -> its name here
    "lr": "learning_rate",
    **dict.fromkeys(("lr_g", "g_lr", "lr_generator"), "learning_rate_generator"),
    **dict.fromkeys(("resolution", "size", "img_size", "imsize"), "image_size"),
    **dict.fromkeys(("batch", "bs", "batchsize"), "batch_size"),
    **dict.fromkeys(("iterations", "iters", "max_steps", "num_steps"), "steps"),
    **dict.fromkeys(("latent_dim", "z_dim", "nz"), "latent"),
    **dict.fromkeys(("dataset", "dataroot", "data_dir"), "data"),
    **dict.fromkeys(("output", "output_dir", "outdir", "out_dir"), "out"),
}


def meant(key: str, settings: Container[str] = ()) -> str:
    """The setting that `key` spells: with `-` for `_`, or by a synonym. `settings`: names of a model's own.

    COMPONENT.FIELD has hyphens before the dot and underscores after it. An unknown key has underscores only.
    """
    component, dot, field = key.rpartition(".")
    if dot:
        return f"{component.replace('_', '-')}.{field.replace('-', '_')}"
    name = key.replace("-", "_")
    return name if name in settings or name in RunRequest.model_fields else SYNONYMS.get(name, name)


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
        settings, components = _underscored(values.pop("model", {})), {}
        for key, value in values.pop("set", {}).items():
            if "." in key:
                components[meant(key)] = value
            elif isinstance(value, Mapping):  # in TOML, `a.b = 1` is a nested table
                components |= {meant(f"{key}.{field}"): one for field, one in value.items()}
            else:
                settings[key.replace("-", "_")] = value
        values |= {"model": settings} if settings else {}
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
        if names_in(value) is None and not nested(value):
            raise UserError(f"{field.field_name} is {value!r}: it must be a list of names, or a table of tables")
        if nested(value):
            return {name: _underscored(table) for name, table in value.items()}
        return {name: {} for name in names_in(value) or ()}

    @field_validator(*SINGLE, mode="before")
    @classmethod
    def _options(cls, value: Any, field: Any) -> Any:
        if not nested(value):
            chooser = SINGLE[field.field_name]
            raise UserError(
                f"{field.field_name} is {value!r}: it must be a table of options by name; {chooser} says which is used"
            )
        return {name: _underscored(table) for name, table in value.items()}

    @field_validator("losses", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            tables = {name: one if isinstance(one, Mapping) else {"weight": one} for name, one in value.items()}
            return {name: _underscored(table) for name, table in tables.items()}
        if names_in(value) is None:
            raise UserError(f"losses is {value!r}: it must be a table of weights by name")
        return {name: {} for name in names_in(value) or ()}

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


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with `_` for `-` in its names, which people write as in flags."""
    return {name.replace("-", "_") if isinstance(name, str) else name: value for name, value in table.items()}


def names_in(value: Any) -> list[str] | None:
    """The names in a list of names, or in one name; None for anything else."""
    names = [value] if isinstance(value, str) else value
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else None


def nested(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(table, Mapping) for table in value.values())


def by_home(values: Mapping[str, Any], fields: Collection[str] = ()) -> dict[str, Any]:
    """Values by the names that `RunRequest` has, however they are spelled. Settings of a model (`fields`) and
    COMPONENT.FIELD are under `set`. Raises `UserError` for a name that is unknown or given twice.
    """
    result: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in values.items():
        name = meant(key, fields)
        plain = name in RunRequest.model_fields
        if not plain and name not in fields and "." not in name:
            raise UserError(f"unknown option {key!r}{nearest(name, (*RunRequest.model_fields, *fields))}")
        if name in (result if plain else own):
            raise UserError(f"{name} is given twice, once as {key!r}: leave one out")
        (result if plain else own)[name] = value
    if own:
        given = result.get("set") or {}
        result["set"] = {**own, **given} if isinstance(given, Mapping) else given
    return result


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
