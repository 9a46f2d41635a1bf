"""sweep.json as it lies in a folder, maybe a stranger's: read only if it has the form that gankit writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gankit import files
from gankit.comparison.stored import Count, Number, read_as
from gankit.errors import UserError
from gankit.sweeps import space

SCHEMA = 1
State = Literal["waiting", "complete", "collapsed", "ended early", "failed"]


class _Form(BaseModel):
    """What the page and a later start read of it. Whatever else stands there is left alone."""

    model_config = ConfigDict(strict=True)


class _Asked(_Form):
    data: str
    vary: Annotated[dict[str, str], Field(min_length=1)]
    search: Literal["grid", "random", "optuna"]
    trials: Annotated[Count, Field(ge=1)]
    stop_early: bool
    seed: Count
    seeds: Annotated[Count, Field(ge=1)]
    goal: str


class _Data(_Form):
    train: Count
    held_out: Count
    digest: str


class _Goal(_Form):
    name: str
    maximise: bool


class _Row(_Form):
    seed: Count
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
    value: Number | None = None

    @field_validator("folder")
    @classmethod
    def _below(cls, folder: str) -> str:
        files.relative(folder)
        return folder

    @model_validator(mode="after")
    def _whole(self) -> _Row:
        wanted = {"reason", "message", "steps", "seconds", "alarm_step", "alarm"}
        if self.outcome and (missing := wanted - self.model_fields_set):
            raise ValueError(f"a run that has ended has no {min(missing)}")
        return self


class _Trial(_Form):
    number: Annotated[Count, Field(ge=1)]
    values: dict[str, Any]
    state: State
    value: Number | None
    spread: Number | None
    last: Number | None = None
    runs: Annotated[list[_Row], Field(min_length=1)]

    @model_validator(mode="after")
    def _measured(self) -> _Trial:
        if (self.state == "complete") != (self.value is not None):
            raise ValueError("a complete trial has a value, and no other has one")
        return self


class _Sweep(_Form):
    gankit: str
    command: str
    state: str
    model: str
    asked: _Asked
    data: _Data
    goal: _Goal
    steps: Count | None
    config: dict[str, Any]
    trials: list[_Trial]
    best: int | None
    deviation: Number | None
    importance: dict[str, Number]
    summary: list[str]
    best_command: str
    check_command: str

    @model_validator(mode="after")
    def _of_the_space(self) -> _Sweep:
        try:
            parameters = {name: space.one(name, text) for name, text in self.asked.vary.items()}
        except UserError as error:
            raise ValueError(str(error)) from None
        for n, trial in enumerate(self.trials, start=1):
            if trial.number != n:
                raise ValueError(f"trial {n} has another number")
            if trial.values.keys() != parameters.keys():
                raise ValueError(f"trial {n} has other parameters")
            if any(parameters[name].position(value) is None for name, value in trial.values.items()):
                raise ValueError(f"trial {n} has a value that is not varied")
        if self.best is not None and self.best not in [t.number for t in self.trials if t.state == "complete"]:
            raise ValueError("the best trial is none")
        if self.importance.keys() - parameters.keys():
            raise ValueError("an importance is of no parameter")
        return self


def read(folder: Path) -> dict[str, Any]:
    """sweep.json. Raises UserError where it is absent, damaged or of another schema."""
    return read_as(_Sweep, folder, "sweep.json", SCHEMA)
