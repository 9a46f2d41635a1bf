"""BEGAN's controllers: k_t after equation (5), and the learning rate that is halved when M_global stalls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Controller, Model


class Balance(Controller):
    """k_{t+1} = clip(k_t + λ_k (γ L(x) − L(G(z))), 0, 1), k_0 = 0: equation (5).

    The paper calls it proportional control; as a rule for k it sums the balance, an integrator.
    """

    name = "balance"
    summary = "k_t after BEGAN's equation (5)"
    k: Tensor

    class Options(gankit.Options):
        lambda_k: float = Field(0.001, gt=0, le=1e30, description="λ_k, the gain")

    def __init__(self, options: Any, model: Model) -> None:
        super().__init__(options, model)
        self.register_buffer("k", torch.zeros(()))

    @property
    def drives(self) -> tuple[str, ...]:
        return ("k",)

    def value(self, knob: str) -> Tensor:
        return self.k

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        self.k.add_(readings["began/balance"], alpha=self.options.lambda_k).clamp_(0, 1)


class Halving(Controller):
    """Halve both learning rates when M_global stalls, down to a floor. Adam's moments are left as they are.

    M_global is averaged over windows of `window` steps; `patience` windows in a row without a new lowest mean are
    a stall. The paper names no rule. The floor is the one that the most used public implementation added after
    reports of collapse at late, tiny rates.
    """

    name = "halving"
    summary = "halves the learning rates when M_global stalls"
    total: Tensor
    lowest: Tensor
    stalled: Tensor
    scale: Tensor

    class Options(gankit.Options):
        window: int = Field(500, ge=1, description="steps that one mean is taken over")
        patience: int = Field(10, ge=1, description="windows without a new lowest mean before a halving")
        floor: float = Field(2e-5, ge=0, description="the learning rate is never halved below this")

    def __init__(self, options: Any, model: Model) -> None:
        super().__init__(options, model)
        self.initial = {f"learning_rate/{name}": model.learning_rate(name) for name in ("generator", "discriminator")}
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("lowest", torch.full((), float("inf")))
        self.register_buffer("stalled", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @property
    def drives(self) -> tuple[str, ...]:
        return tuple(self.initial)

    def value(self, knob: str) -> Tensor:
        initial = self.initial[knob]
        return (self.scale * initial).clamp(min=min(self.options.floor, initial))

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        self.total += readings["began/convergence"]
        if number % self.options.window:
            return
        mean = self.total / self.options.window
        self.stalled.copy_(torch.where(mean < self.lowest, 0, self.stalled + 1))
        self.lowest.copy_(torch.minimum(self.lowest, mean))
        stall = self.stalled >= self.options.patience
        self.scale.copy_(torch.where(stall, self.scale / 2, self.scale))
        self.stalled.copy_(torch.where(stall, 0, self.stalled))
        self.total.zero_()
