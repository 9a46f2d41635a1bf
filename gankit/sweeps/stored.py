"""sweep.json as it lies in a folder, maybe a stranger's: read only if it has the form that gankit writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gankit.comparison.stored import Config, Count, Form, Number, Pictures, Row, read_as
from gankit.errors import UserError
from gankit.sweeps import space

SCHEMA = 1
State = Literal["waiting", "complete", "collapsed", "ended early", "failed"]


class _Asked(Form):
    data: str
    vary: Annotated[dict[str, str], Field(min_length=1)]
    search: Literal["grid", "random", "optuna"]
    trials: Annotated[Count, Field(ge=1)]
    stop_early: bool
    seed: Count
    seeds: Annotated[Count, Field(ge=1)]
    goal: str


class _Goal(Form):
    name: str
    maximise: bool


class _Run(Row):
    value: Number | None = None


class _Trial(Form):
    number: Annotated[Count, Field(ge=1)]
    values: dict[str, Any]
    state: State
    value: Number | None
    spread: Number | None
    last: Number | None = None
    runs: Annotated[list[_Run], Field(min_length=1)]

    @model_validator(mode="after")
    def _measured(self) -> _Trial:
        if (self.state == "complete") != (self.value is not None):
            raise ValueError("a complete trial has a value, and no other has one")
        return self


class _Sweep(Form):
    gankit: str
    command: str
    state: str
    model: str
    asked: _Asked
    data: Pictures
    goal: _Goal
    steps: Count | None
    config: Config
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
