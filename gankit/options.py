"""The base classes of settings and components, the validation of settings, and curves of metrics; without torch."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypeVar, get_original_bases

from gankit.errors import UserError, nearest


class Options(BaseModel):
    """Settings of one component. Give every field a `Field(..., description=...)` and a range of sensible values."""

    absent: ClassVar[Mapping[str, Any]] = {}  # name -> its value in run folders older than the setting
    now_constant: ClassVar[Mapping[str, Any]] = {}  # name of a former setting -> the constant in its place
    now_written: ClassVar[Mapping[str, str]] = {}  # name of a former setting -> SETTING=VALUE of the model in its place

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def from_stored(cls, table: Mapping[str, Any]) -> dict[str, Any]:
        """The stored values of a run folder, perhaps an older version's, in this version's form."""
        ended = cls.now_constant.keys() | cls.now_written.keys()
        return {**cls.absent, **{key: value for key, value in table.items() if key not in ended}}


OptionsT = TypeVar("OptionsT", bound=Options, default=Any)


class Component(ABC, Generic[OptionsT]):
    """Base class of all components: a name, a one-line summary, and options.

    Give the class of the options in brackets, `class Blur(gankit.View[BlurOptions])`: a type checker then knows the
    type of `self.options`. Or nest it, `class Options(gankit.Options)` in the component's body: it takes precedence
    over the brackets, and for a type checker `self.options` is `Any`. A component with neither has no settings.
    """

    name: ClassVar[str]  # lower-case words joined by hyphens
    summary: ClassVar[str] = ""  # one line for the lists and `--help`
    Options: ClassVar[type[Any]] = Options  # the nested class, or the one in brackets
    options: OptionsT  # the user's

    def __init__(self, options: OptionsT) -> None:
        """`options`: the user's, checked. A component that overrides it calls `super().__init__(options)` first."""
        self.options = options

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "Options" in vars(cls):
            return
        for base in get_original_bases(cls):
            origin = get_origin(base)
            if inspect.isclass(origin) and issubclass(origin, Component):
                for argument in get_args(base):
                    if inspect.isclass(argument) and argument is not Any:  # not a type variable
                        cls.Options = argument


def _in_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must be one line of printable characters")
    return text


Line = Annotated[str, AfterValidator(_in_one_line)]
Bound = Annotated[float, Field(ge=-1e30, le=1e30)]


class Curve(BaseModel):
    """How a report shows a metric. The run folder stores it, so that a report needs no plugin.

    `letter`: the paper's symbol, such as "k_t", at most 40 characters; by default the metric's name. `note`: a sentence
    on its meaning, at most 300. `bounds`: its least and its greatest possible value, or None. `title`: of its chart, at
    most 60; readings of one diagnostic or controller with one title share a chart. `log`: a logarithmic scale, where
    all values are above 0.
    """

    letter: Line = Field("", max_length=40)
    title: Line = Field("", max_length=60)
    log: bool = False
    note: Line = Field("", max_length=300)
    bounds: tuple[Bound | None, Bound | None] = (None, None)

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Curve:
        low, high = self.bounds
        if low is not None and high is not None and low >= high:
            raise ValueError(f"bounds {self.bounds}: the first must be below the second")
        return self


def refuse_collisions(item: Any, settings: str) -> None:
    """Raise ValueError for a field of a component's settings that hides another name, or has two."""
    cls: Any = getattr(item, settings)
    needed = getattr(importlib.import_module("gankit"), settings)
    fits = inspect.isclass(cls) and issubclass(cls, needed)
    if not fits:
        raise TypeError(f"{item.__name__}.{settings} is {cls!r}: it must be a subclass of gankit.{settings}")
    taken = {"name": "the model's name in config.json"} if settings == "Settings" else {}
    if hasattr(item, "network"):  # a loss term
        taken = {"weight": "the term's weight in config.json"}
    for field, written in cls.model_fields.items():
        if written.alias or written.validation_alias:
            raise ValueError(f"{item.__name__}.{settings}: its field {field!r} has an alias: give it that name alone")
        if field in taken or hasattr(BaseModel, field):
            what = taken.get(field, f"pydantic's BaseModel.{field}")
            raise ValueError(f"{item.__name__}.{settings} has a field {field!r}, which collides with {what}: rename it")


def refuse_other_forms(item: Any) -> None:
    """Raise TypeError for a class attribute of a component of another form: a text for a tuple, a tuple for a set."""
    for name in ("needs", "gives"):
        told: Any = getattr(item, name, frozenset())
        if not isinstance(told, set | frozenset):
            raise TypeError(f'{item.__name__}.{name} is {told!r}: it must be a set of words, as frozenset({{"code"}})')
    for name in ("drives", "follows", "knobs", "sizes"):
        if isinstance(told := getattr(item, name, ()), str):
            raise TypeError(f"{item.__name__}.{name} is the text {told!r}: it must be a tuple, as ({told!r},)")
    if hasattr(item, "curves"):
        _refuse_other_curves(item)


def _refuse_other_curves(item: Any) -> None:
    """A training reads them as it writes its folder."""
    told = item.curves
    if not isinstance(told, Mapping) or not all(isinstance(name, str) for name in told):
        raise TypeError(
            f"{item.__name__}.curves is {told!r}: it must be a mapping from names of metrics to gankit.Curve"
        )
    for name, curve in told.items():
        if not isinstance(curve, Curve):
            raise TypeError(f"{item.__name__}.curves has {curve!r} for {name!r}: it must be a gankit.Curve")


def validate(cls: type[BaseModel], values: Mapping[str, Any], where: str, what: str, flags: bool = False) -> Any:
    """The validated settings. Raises `UserError` with the setting, its value and the allowed values.

    `where` and `what` name the settings' owner and one of them ("model 'began'", "setting"); with `flags` the message
    names the flag instead.
    """
    for key, value in values.items():
        if isinstance(value, bool) and key in cls.model_fields:
            words = allowed(cls.model_fields[key])
            if "number" in words and "true or false" not in words:  # pydantic would read true as 1
                raise UserError(f"{_shown(where, what, key, value, flags)} is refused: it must be {words}")
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        field = cls.model_fields.get(key)
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where} has no {what} {key!r}{_instead(cls, key)}") from None
        reason = f"it must be {allowed(field)}" if field and allowed(field) else ""
        if first["type"] == "value_error" or not reason:
            reason = first["msg"].removeprefix("Value error, ")
            reason = reason[0].lower() + reason[1:]
        if field and key not in values and not flags:
            if field.is_required():
                raise UserError(f"{where}: {what} {key!r} has no default: set it, or give it a default") from None
            default = field.get_default(call_default_factory=True)
            raise UserError(f"{where}: the default {default!r} of {what} {key!r} is refused: {reason}") from None
        raise UserError(f"{_shown(where, what, key, values.get(key), flags)} is refused: {reason}") from None


def _shown(where: str, what: str, key: str, value: Any, flags: bool) -> str:
    """A setting and its value in a message: as a flag, or with their owner."""
    return f"--{key.replace('_', '-')} {value}" if flags else f"{where}: {what} {key}={value}"


def _instead(cls: type[BaseModel], key: str) -> str:
    """What to write instead of an unknown setting, or of a former one."""
    if issubclass(cls, Options) and key in cls.now_constant:
        return f" any more: it is a constant, {cls.now_constant[key]:g}. Leave it out"
    if issubclass(cls, Options) and key in cls.now_written:
        return f" any more: write --set {cls.now_written[key]}"
    there = f"There are: {', '.join(cls.model_fields)}" if cls.model_fields else "It has none"
    return f"{nearest(key, cls.model_fields)}. {there}"


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
