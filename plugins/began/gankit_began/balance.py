"""BEGAN's controllers: of k_t, by equation (5) or with a proportional part, and of the learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Controller, Model

FLOOR_STEPS = 4_000  # steps over which the floor of k rises
WINDOW = 500  # steps of one mean of M_global
LAMBDA_K = 0.001  # the paper's, for a model without a setting `lambda_k`
MOVED = {"lambda_k": "lambda_k=0.001"}
Gains = TypeVar("Gains", bound=gankit.Options)


class _Balanced(Controller[Gains]):
    """Base class of controllers of k; `update` is the rule. λ_k is the model's setting `lambda_k`."""

    k: Tensor

    def __init__(self, options: Gains, model: Model) -> None:
        super().__init__(options, model)
        self.lambda_k = float(getattr(self.model_settings, "lambda_k", LAMBDA_K))
        self.register_buffer("k", torch.zeros(()))

    @property
    def drives(self) -> tuple[str, ...]:
        return ("k",)

    def value(self, knob: str) -> Tensor:
        return self.k


class BalanceOptions(gankit.Options):
    now_written = MOVED

    floor: float = Field(
        0, ge=0, lt=1, description="k is not below this, so that D keeps pushing fakes away; the paper's is 0"
    )


class Balance(_Balanced[BalanceOptions]):
    """k_{t+1} = clip(k_t + λ_k (γ L(x) − L(G(z))), floor_t, 1), k_0 = 0: equation (5) with the paper's floor of 0.

    A higher floor keeps fakes pushed away where no other part does, and lets D learn its pictures by heart sooner
    (docs/evidence/pictures.md). floor_t rises from 0 to it over the first 4,000 steps: a high k at the start drives the
    energies apart before D has learnt anything. The paper calls the rule proportional control, but it sums the balance,
    so it is an integrator. The article that gankit starts from writes z_D, the paper z_G: see `BEGAN.losses`.
    """

    name = "balance"
    summary = "k_t after BEGAN's equation (5)"

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        floor = self.options.floor * min(1, number / FLOOR_STEPS)
        self.k.add_(readings["began/balance"], alpha=self.lambda_k).clamp_(floor, 1)


class ProportionalIntegralOptions(gankit.Options):
    now_written = MOVED

    proportional: float = Field(0.5, ge=0, le=1e30, description="K_p, the gain of the proportional part")


class ProportionalIntegral(_Balanced[ProportionalIntegralOptions]):
    """k = clip(K_p e + I, 0, 1) with I the sum of λ_k e, e = γ L(x) − L(G(z)): equation (5) with a proportional part.

    The proportional part damps the oscillation of an integrator around a plant with lag (Åström and Murray, "Feedback
    Systems", chapter 11). Anti-windup: I stays in [0, 1], the range of k, so that k reacts as soon as e changes its
    sign. K_p = 0 is equation (5).
    """

    name = "balance-pi"
    summary = "equation (5) with a proportional part and anti-windup"
    integral: Tensor

    def __init__(self, options: ProportionalIntegralOptions, model: Model) -> None:
        super().__init__(options, model)
        self.register_buffer("integral", torch.zeros(()))

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        balance = readings["began/balance"]
        self.integral.add_(balance, alpha=self.lambda_k).clamp_(0, 1)
        self.k.copy_((self.integral + self.options.proportional * balance).clamp(0, 1))


class PaceOptions(gankit.Options):
    gain: float = Field(0.001, gt=0, le=1e30, description="change of u in a step for a balance of L(x)")
    limit: float = Field(4, ge=1, le=1e30, description="the most that their ratio grows by")


class Pace(Controller[PaceOptions]):
    """The learning rates as a second control of the balance: the lagging network learns faster, the other slower.

    rate(G) = lr exp(u), rate(D) = lr exp(−u), u the sum of −gain (γ L(x) − L(G(z))) / L(x), |u| ≤ log(limit)/2.
    It still works where k has fallen to 0 because L(G(z)) cannot follow γ L(x). No paper at hand describes it.
    """

    name = "pace"
    summary = "learning rates that follow the balance: the network that lags goes faster"
    lead: Tensor

    def __init__(self, options: PaceOptions, model: Model) -> None:
        super().__init__(options, model)
        self.initial = _rates(model)
        self.register_buffer("lead", torch.zeros(()))

    @property
    def drives(self) -> tuple[str, ...]:
        return tuple(self.initial)

    def value(self, knob: str) -> Tensor:
        return self.initial[knob] * (self.lead if knob.endswith("generator") else -self.lead).exp()

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        bound = math.log(self.options.limit) / 2
        relative = readings["began/balance"] / readings["energy/real"]
        self.lead.sub_(relative, alpha=self.options.gain).clamp_(-bound, bound)


def _rates(model: Model) -> dict[str, float]:
    """The knobs of both learning rates, with their initial values."""
    return {f"learning_rate/{name}": model.learning_rate(name) for name in ("generator", "discriminator")}


class HalvingOptions(gankit.Options):
    now_constant = {"window": WINDOW}

    patience: int = Field(20, ge=1, description="windows of 500 steps without a new lowest mean before a halving")
    floor: float = Field(1e-7, ge=0, description="the learning rate is never halved below this")


class Halving(Controller[HalvingOptions]):
    """Halve both learning rates when M_global stalls, down to a floor. Adam's moments do not change.

    M_global is averaged over windows of 500 steps; `patience` windows in a row without a new lowest mean are
    a stall. The paper gives no rule. The most used public implementation has a floor of 2e-5, after reports of
    collapse at late, tiny rates. Here D memorises a folder of thousands of pictures before that floor, and rates near
    0 preserve the weights: docs/evidence/collapse.md.
    """

    name = "halving"
    summary = "halves the learning rates when M_global stalls"
    total: Tensor
    summed: Tensor
    lowest: Tensor
    stalled: Tensor
    scale: Tensor

    def __init__(self, options: HalvingOptions, model: Model) -> None:
        super().__init__(options, model)
        self.initial = _rates(model)
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("summed", torch.zeros(()))
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
        self.summed += 1
        if number % WINDOW:
            return
        mean = self.total / self.summed
        self.stalled.copy_(torch.where(mean < self.lowest, 0, self.stalled + 1))
        self.lowest.copy_(torch.fmin(self.lowest, mean))  # fmin ignores a NaN mean
        stall = self.stalled >= self.options.patience
        self.scale.copy_(torch.where(stall, self.scale / 2, self.scale))
        self.stalled.copy_(torch.where(stall, 0, self.stalled))
        self.total.zero_()
        self.summed.zero_()
