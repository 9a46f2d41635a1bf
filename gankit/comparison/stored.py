"""comparison.json as it lies in a folder, maybe a stranger's: read only if it has the form that gankit writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gankit import files
from gankit.config.request import nested
from gankit.config.schema import TABLES
from gankit.errors import UserError
from gankit.runs.folder import MOST_STEPS

SCHEMA = 1
MOST_SEED = 2**63 - 1  # of torch
MOST_RUNS = 2_000  # more, a page would take minutes to write
Count = Annotated[int, Field(ge=0, lt=MOST_STEPS)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Interval = Annotated[list[Number], Field(min_length=2, max_length=2)]


class Form(BaseModel):
    """What the page and a later start read of it. Whatever else stands there is left alone."""

    model_config = ConfigDict(strict=True)


class _Asked(Form):
    networks: str
    data: str | None = None
    seeds: Count


class Pictures(Form):
    """The pictures of all runs."""

    train: Count
    held_out: Count
    digest: str


class _Named(Form):
    name: str


class Config(Form):
    """A configuration, as far as `config.amend.current_form` needs it."""

    model: _Named

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, stored: Any) -> Any:
        odd = [kind for kind in TABLES if isinstance(stored, dict) and not nested(stored.get(kind) or {})]
        if odd:
            raise ValueError(f"{odd[0]} is no table of tables")
        return stored


class _Config(Config):
    networks: dict[str, Any]


class _Arm(Form):
    name: str
    model: str
    pictures_a_step: Annotated[int, Field(ge=1, lt=MOST_STEPS)]
    config: _Config


class Row(Form):
    """A run of many, and how it ended."""

    known: ClassVar[set[str]] = {"reason", "message", "steps", "seconds", "alarm_step", "alarm"}  # once it has ended
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)]
    folder: str
    outcome: str | None = None
    reason: str | None = None
    message: str = ""
    unmeasured: str = ""
    steps: Count = 0
    seconds: Number | None = None
    images_per_second: Number | None = None
    alarm_step: Count | None = None
    alarm: str | None = None

    @field_validator("folder")
    @classmethod
    def _below(cls, folder: str) -> str:
        files.relative(folder)
        return folder

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.outcome and (missing := self.known - self.model_fields_set):
            raise ValueError(f"a run that has ended has no {min(missing)}")
        return self


class _Run(Row):
    known: ClassVar[set[str]] = {*Row.known, "rescues", "images_per_second"}
    arm: str
    images: Count = 0
    measured_step: Count | None = None
    rescues: Count = 0
    seconds_to_coverage: Number | None = None
    peak_memory: Number | None = None
    collapse_step: Count | None = None
    measures: dict[str, Number | None] = {}


class _Values(Form):
    mean: Number | None
    spread: Number | None
    interval: Interval | None
    values: list[Number | None]
    runs: Count = 0


class _Difference(Form):
    of: str
    less: str
    mean: Number
    interval: Interval | None
    pairs: Count
    verdict: str
    sentence: str


class _Measure(Form):
    name: str
    cost: bool
    better: str
    space: str
    ceiling: Number | None
    note: str = ""
    arms: dict[str, _Values]
    differences: list[_Difference]


class _About(Form):
    better: str
    space: str = ""
    ceiling: Number | None = None


class _Setting(Form):
    name: str
    values: dict[str, Any]


class _Comparison(Form):
    gankit: str
    command: str
    state: str
    asked: _Asked
    data: Pictures
    images: Count | None
    budget: Number | None
    arms: Annotated[list[_Arm], Field(min_length=1)]
    differences: list[_Setting]
    runs: Annotated[list[_Run], Field(min_length=1, max_length=MOST_RUNS)]
    about: dict[str, _About]
    notes: list[str]
    first_seeds: Count | None = None  # those of the first start, where a later one added some
    coverage: Number | None
    measures: list[_Measure]
    summary: list[str]

    @model_validator(mode="after")
    def _arms_of_all(self) -> _Comparison:
        names = {arm.name for arm in self.arms}
        if any(row.arm not in names for row in self.runs):
            raise ValueError("a run is of no arm")
        if any(names - measure.arms.keys() for measure in self.measures):
            raise ValueError("a measure lacks an arm")
        return self


def read(folder: Path) -> dict[str, Any]:
    """comparison.json. Raises UserError where it is absent, damaged or of another schema."""
    return read_as(_Comparison, folder, "comparison.json", SCHEMA)


def read_as(form: type[BaseModel], folder: Path, name: str, schema: int) -> dict[str, Any]:
    """A JSON object of that form and schema. Raises UserError where it is absent, damaged or of another schema."""
    path = folder / name
    try:
        stored = files.read_object(folder, name)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if stored.get("schema") != schema:
        raise UserError(f"{path} is of a schema that this gankit does not know: it reads schema {schema}")
    try:
        form(**stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path} is damaged: {f'{where}: ' if where else ''}{message}") from None
    return stored
