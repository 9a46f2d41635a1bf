"""The state of a training in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gankit.components import Controller, Diagnostic, LossTerm, View
from gankit.config.schema import RunConfig
from gankit.model import Model, Networks

# Separate random streams: SeedSequence(seed, stream, …).
WEIGHTS, UPDATES, LATENTS, LOOKING, STANDING = 10, 11, 12, 13, 14
RATE = "learning_rate/"


@dataclass(frozen=True)
class Displaced:
    """A controller of the model's own that yields to one of the user's."""

    by: str
    idle: tuple[str, ...]  # its other knobs, which nothing drives then


@dataclass
class Training:
    """A training in memory. `number` is the last step; `seconds` the training time of all starts together."""

    config: RunConfig
    model: Model
    device: torch.device
    networks: dict[str, nn.Module]
    averaged: nn.Module  # the moving average of the generator, which makes the samples
    optimizers: dict[str, torch.optim.Optimizer]
    controllers: dict[str, Controller]
    displaced: dict[str, Displaced]
    terms: dict[str, tuple[float, LossTerm]]
    view: Views
    diagnostics: dict[str, Diagnostic]
    paced: list[Any] = field(default_factory=list)  # modules and views whose `at_step` precedes each step
    number: int = 0
    seconds: float = 0.0
    attempt: int = 1
    since: int = 0  # the step at which this attempt began
    healthy: int = 0  # the step of the last healthy checkpoint
    settled: int = -1  # the step of the averaged generator's own batch statistics (`Showing.settle`)
    score: float | None = None  # of the last step, where it was measured (`runs.score`)
    best: tuple[int, float] | None = None  # step and score of the best checkpoint
    verdicts: dict[str, bool] = field(default_factory=dict)  # diagnostic -> its last verdict
    disabled: dict[str, str] = field(default_factory=dict)  # diagnostic that raised -> the reason
    start: dict[str, float] = field(default_factory=dict)  # losses, readings, learning rates before the first step

    def callables(self, networks: Mapping[str, nn.Module] | None = None) -> Networks:
        """The networks as callables under the run's precision, with float32 outputs."""
        bf16 = self.config.precision == "bf16"
        return {name: Autocast(module, self.device.type, bf16) for name, module in (networks or self.networks).items()}

    @property
    def critics(self) -> list[str]:
        """The names of the terms with their own network."""
        return [name for name in self.terms if name in self.networks]

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates where no controller drives them, by the knob's name."""
        return {knob: value for knob, value in self.model.initial.items() if knob.startswith(RATE)}

    @property
    def updates(self) -> list[tuple[str, ...]]:
        """The networks that each update moves: the model's, and those of the terms that add to their losses."""
        return [
            (*names, *(name for name in self.critics if self.terms[name][1].network in names))
            for names in self.model.updates
        ]

    def sloped(self, names: Sequence[str]) -> bool:
        """Whether a term of an update of these networks needs D's gradient at the real batch."""
        return any("slope" in term.needs for _, term in self.terms.values() if term.network in names)

    def knobs(self) -> dict[str, Tensor]:
        """The knobs for the next step: the controllers', the learning rates, and the model's settings that are knobs.

        Of the others that every run has (`ema`, `beta1/generator`, …) only those that a controller drives.
        """
        constant = self.rates | {knob: self.model.initial[knob] for knob in self.model.knobs}
        values = {knob: torch.full((), value, device=self.device) for knob, value in constant.items()}
        for controller in self.controllers.values():
            values |= {knob: controller.value(knob).clone() for knob in controller.drives}
        return values

    @property
    def logged(self) -> list[str]:
        """The knobs with a metric of their name: learning rates, and those that are driven away from a constant."""
        driven = [knob for controller in self.controllers.values() for knob in controller.drives]
        return list(dict.fromkeys([*self.rates, *(knob for knob in driven if knob in self.model.initial)]))

    def tell(self, measured: Mapping[str, float]) -> None:
        """Tell the controllers what diagnostics measured after the last step, as far as they follow it."""
        for controller in self.controllers.values():
            told = {name: measured[name] for name in controller.follows if math.isfinite(measured.get(name, math.nan))}
            if told:
                controller.observe(self.number, told)


class Autocast:
    """A network as a callable, under bf16 autocast or not; its outputs are float32 or float64."""

    def __init__(self, module: nn.Module, device: str, bf16: bool) -> None:
        self.module, self.device, self.bf16 = module, device, bf16

    def __call__(self, *inputs: Tensor) -> Any:
        kept = torch.is_grad_enabled()  # older versions of torch keep a copy without its graph, too
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16, cache_enabled=kept):
            return on_tensors(self.module(*inputs), _single)


def on_tensors(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a network gave, with each tensor changed: in dataclasses (a `Judged`), tuples, lists and dicts."""
    if isinstance(out, Tensor):
        return change(out)
    if is_dataclass(out) and not isinstance(out, type):
        return replace(out, **{one.name: on_tensors(getattr(out, one.name), change) for one in fields(out)})
    if isinstance(out, dict):
        return {name: on_tensors(part, change) for name, part in out.items()}
    if isinstance(out, list | tuple):
        parts = [on_tensors(part, change) for part in out]
        return parts if isinstance(out, list) else type(out)(*parts) if hasattr(out, "_fields") else tuple(parts)
    return out


def _single(out: Tensor) -> Tensor:
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


class Views:
    """A chain of views."""

    def __init__(self, views: list[View]) -> None:
        self.views = views

    def __call__(self, batch: Tensor) -> Tensor:
        for view in self.views:
            batch = view(batch)
        return batch

    @property
    def together(self) -> int:
        """How many items form one of D's inputs."""
        return math.prod(view.together for view in self.views)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for view in self.views:
            shape = view.shape(shape)
        return shape
