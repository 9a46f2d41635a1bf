"""What a user can set, the base of all that is set by it, and how a metric is shown. All of it without torch."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypeVar, get_original_bases


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
