"""All of a training in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gankit.components import Controller, Diagnostic, LossTerm, View
from gankit.config.schema import RunConfig
from gankit.model import Judged, Model, Networks

# Streams of random numbers, kept apart: SeedSequence(seed, stream, …).
WEIGHTS, UPDATES, LATENTS, LOOKING = 10, 11, 12, 13


@dataclass
class Training:
    """A training in memory. `number` is the last step done; `seconds` the time spent training, over all starts."""

    config: RunConfig
    model: Model
    device: torch.device
    networks: dict[str, nn.Module]
    averaged: nn.Module  # the generator's moving average, which is what is shown
    optimizers: dict[str, torch.optim.Optimizer]
    controllers: dict[str, Controller]
    terms: dict[str, tuple[float, LossTerm]]
    view: Views
    diagnostics: dict[str, Diagnostic]
    paced: list[Any] = field(default_factory=list)  # modules and views that are told of each step before it
    number: int = 0
    seconds: float = 0.0
    attempt: int = 1
    since: int = 0  # the step that this attempt began at
    healthy: int = 0  # the last checkpoint at which no diagnostic saw anything wrong; it is kept
    verdicts: dict[str, bool] = field(default_factory=dict)  # diagnostic -> whether all was well at its last look
    disabled: dict[str, str] = field(default_factory=dict)  # diagnostics that raised, with the reason
    start: dict[str, float] = field(default_factory=dict)  # losses, readings, learning rates before the first step

    def asked(self, networks: Mapping[str, nn.Module] | None = None) -> Networks:
        """The networks as callables under this run's precision; what they return is float32."""
        bf16 = self.config.precision == "bf16"
        return {name: Asked(module, self.device.type, bf16) for name, module in (networks or self.networks).items()}

    @property
    def critics(self) -> list[str]:
        """The terms that have a network of their own."""
        return [name for name in self.terms if name in self.networks]

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each network at the start."""
        own = {name: self.optimizers[name].defaults["lr"] for name in self.critics}
        return own | {name: self.model.learning_rate(name) for name in self.networks if name not in own}

    @property
    def updates(self) -> list[tuple[str, ...]]:
        """The networks that each update moves: the model's, and those of terms that are added to one of them."""
        return [
            (*names, *(name for name in self.critics if self.terms[name][1].network in names))
            for names in self.model.updates
        ]

    def knobs(self) -> dict[str, Tensor]:
        """Every controller's value for the next step, and the learning rates that none drives."""
        values = {
            f"learning_rate/{name}": torch.full((), rate, device=self.device) for name, rate in self.rates.items()
        }
        for controller in self.controllers.values():
            values |= {knob: controller.value(knob).clone() for knob in controller.drives}
        return values


class Asked:
    """A network as a callable under a precision; the tensors that it returns are float32 at least."""

    def __init__(self, module: nn.Module, device: str, bf16: bool) -> None:
        self.module, self.device, self.bf16 = module, device, bf16

    def __call__(self, *inputs: Tensor) -> Any:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return _single(self.module(*inputs))


def _single(out: Any) -> Any:
    if isinstance(out, Judged):
        return Judged(_single(out.output), _single(out.code), _single(out.energy))
    if isinstance(out, tuple):
        return tuple(_single(part) for part in out)
    return out.float() if isinstance(out, Tensor) and out.dtype in (torch.bfloat16, torch.float16) else out


class Views:
    """The named views, one after the other."""

    def __init__(self, views: list[View]) -> None:
        self.views = views

    def __call__(self, batch: Tensor) -> Tensor:
        for view in self.views:
            batch = view(batch)
        return batch

    @property
    def together(self) -> int:
        """How many items are shown as one."""
        return math.prod(view.together for view in self.views)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for view in self.views:
            shape = view.shape(shape)
        return shape
