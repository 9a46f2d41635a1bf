"""A learning rate that falls along a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Controller, Model, hookimpl


class LinearDecay(Controller):
    """Every network's learning rate falls from its initial value to 0 between the steps `start` and `end`."""

    name = "linear-decay"
    summary = "every learning rate falls along a line to 0"
    done: Tensor

    class Options(gankit.Options):
        start: int = Field(0, ge=0, description="the last step at the whole learning rate")
        end: int = Field(100_000, ge=1, description="the step from which on it is 0")

    def __init__(self, options: Any, model: Model) -> None:
        super().__init__(options, model)
        networks = dict.fromkeys(name for update in model.updates for name in update)
        self.initial = {f"learning_rate/{name}": model.learning_rate(name) for name in networks}
        self.register_buffer("done", torch.zeros(()))  # steps done

    @property
    def drives(self) -> tuple[str, ...]:
        return tuple(self.initial)

    def value(self, knob: str) -> Tensor:
        start, end = self.options.start, self.options.end
        return self.initial[knob] * ((end - self.done) / max(end - start, 1)).clamp(0, 1)

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        self.done.fill_(number)


@hookimpl
def gankit_controllers() -> list[type[Controller]]:
    return [LinearDecay]
