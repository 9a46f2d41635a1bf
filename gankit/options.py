"""What a user can set, the base of all that is set by it, what a refusal says, and how a metric is shown; no torch."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypeVar, get_original_bases

from gankit.errors import UserError, nearest


class Options(BaseModel):
    """Settings of one component. Give every field a `Field(..., description=...)`; ranges refuse the meaningless."""

    absent: ClassVar[Mapping[str, Any]] = {}  # by name, what holds in a run folder that is older than a setting

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=Options, default=Any)


class Component(ABC, Generic[OptionsT]):
    """What all components have, of whatever kind: a name, a line that says what they are, and options.

    The class of the options is given in brackets, `class Blur(gankit.View[BlurOptions])`: a type checker then knows
    what `self.options` has. Or it is nested, `class Options(gankit.Options)` in the component's own body: that goes
    before the brackets, and to a type checker `self.options` is `Any`. A component with neither has no settings.
    """

    name: ClassVar[str]  # lower-case words joined by hyphens, as it is typed
    summary: ClassVar[str] = ""  # one line for the lists and `--help`
    Options: ClassVar[type[Any]] = Options  # the nested class, or that of the brackets
    options: OptionsT  # as the user has set them

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "Options" in vars(cls):
            return
        for base in get_original_bases(cls):
            origin = get_origin(base)
            if inspect.isclass(origin) and issubclass(origin, Component):
                for argument in get_args(base):
                    if inspect.isclass(argument) and argument is not Any:  # a type variable stands for one to come
                        cls.Options = argument


def _in_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must be one line of printable characters")
    return text


Line = Annotated[str, AfterValidator(_in_one_line)]
Bound = Annotated[float, Field(ge=-1e30, le=1e30)]


class Curve(BaseModel):
    """How a metric is shown, which stands in the run folder beside its numbers: a report is drawn without the plugin.

    `letter`: as in the paper, "k_t", at most 40 characters; none: the metric's name. `note`: a sentence on what it
    says, at most 300. `bounds`: the least and the greatest value that it can have; None: there is no such bound.
    """

    letter: Line = Field("", max_length=40)
    note: Line = Field("", max_length=300)
    bounds: tuple[Bound | None, Bound | None] = (None, None)

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Curve:
        low, high = self.bounds
        if low is not None and high is not None and low >= high:
            raise ValueError(f"bounds {self.bounds}: the first must be below the second")
        return self


def validate(cls: type[BaseModel], values: Mapping[str, Any], where: str, what: str, flags: bool = False) -> Any:
    """The validated settings, or `UserError`: which setting, what was given, what is allowed.

    `where` and `what` name the settings' owner and one of them ("model 'began'", "setting"); with `flags` a setting is
    named as its flag instead.
    """
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
        shown = f"--{key.replace('_', '-')} {given}" if flags else f"{where}: {what} {key}={given}"
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
