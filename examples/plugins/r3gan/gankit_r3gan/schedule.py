"""The cosine schedule of R3GAN's γ and learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import gankit
from gankit import Controller, Model


def fallen(number: int, steps: int, last: float) -> float:
    """The factor at step `number`, counted from 1: half a cosine from 1 to `last` over `steps`, then `last`."""
    return last + (1 - last) * (1 + math.cos(math.pi * min(1, (number - 1) / steps))) / 2


def length(model: Model) -> int:
    """The schedule's steps: the model's setting, the run's length, or 20,000 where a time limit ends the run."""
    return int(getattr(model.settings, "schedule", None) or model.steps or 20_000)


class CosineOptions(gankit.Options):
    now_written = {"steps": "schedule=20000", "last": "learning_rate_last=0.25"}  # of older run folders


class Cosine(Controller[CosineOptions]):
    """Both learning rates fall from the model's initial values to a share of them along half a cosine.

    Over the model's setting `schedule` or the run's length, to the share `learning_rate_last`.
    """

    name = "cosine"
    summary = "learning rates that fall along a cosine"
    share: Tensor

    def __init__(self, options: CosineOptions, model: Model) -> None:
        super().__init__(options, model)
        self.steps = length(model)
        self.last = float(getattr(self.model_settings, "learning_rate_last", 0.25))
        self.initial = {f"learning_rate/{name}": model.learning_rate(name) for name in ("generator", "discriminator")}
        self.register_buffer("share", torch.ones(()))

    @property
    def drives(self) -> tuple[str, ...]:
        return tuple(self.initial)

    def value(self, knob: str) -> Tensor:
        return self.initial[knob] * self.share

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        """Set the rates of the next step."""
        self.share.fill_(fallen(number + 1, self.steps, self.last))
