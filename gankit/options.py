"""What can be set, frozen and with unknown names refused; and how a metric is shown. All of it without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """Settings of one component. Give every field a `Field(..., description=...)`; ranges refuse the meaningless."""

    absent: ClassVar[Mapping[str, Any]] = {}  # by name, what holds in a run folder that is older than a setting

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


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
