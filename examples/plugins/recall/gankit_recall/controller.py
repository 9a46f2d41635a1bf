"""γ from the measured variety of the samples: an outer loop around BEGAN's balance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Controller, Model


class RecallGammaOptions(gankit.Options):
    reading: Literal["recall", "coverage", "variety"] = Field(
        "recall", description="the reading of the diagnostic mode-collapse that it steers by"
    )
    target: float = Field(0.5, gt=0, le=1, description="the value to hold")
    gain: float = Field(0.2, gt=0, le=10, description="change of gamma at a look, for a gap of 1")
    lowest: float = Field(0.3, gt=0, le=1, description="gamma is not below this")


class RecallGamma(Controller[RecallGammaOptions]):
    """γ ← clip(γ + gain · (target − measured), lowest, 1), at each look of the diagnostic; γ starts at the setting.

    A low γ is sharper, a high one more varied. So γ rises where the samples are less varied than asked, and falls,
    for sharper pictures, where they are more. It is an integral control; the clip keeps it from winding up. No paper
    at hand describes it.
    """

    name = "recall-gamma"
    summary = "BEGAN's gamma, steered by the measured recall of the samples"
    drives = ("gamma",)
    gamma: Tensor
    gap: Tensor
    taken: Tensor

    def __init__(self, options: RecallGammaOptions, model: Model) -> None:
        super().__init__(options, model)
        self.follows = (f"mode-collapse/{options.reading}",)
        self.register_buffer("gamma", torch.tensor(model.initial["gamma"]))
        self.register_buffer("gap", torch.zeros(()))
        self.register_buffer("taken", torch.zeros(()))

    def value(self, knob: str) -> Tensor:
        return self.gamma

    def observe(self, number: int, readings: Mapping[str, float]) -> None:
        """Move γ by the gap that was measured at step `number`."""
        self.gap.fill_(self.options.target - readings[self.follows[0]])
        self.taken.fill_(number)
        self.gamma.add_(self.options.gain * self.gap).clamp_(self.options.lowest, 1)

    def update(self, number: int, readings: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """For the log: the last gap, and how many steps ago it was measured; γ is there anyway."""
        return {"gap": self.gap, "age": number - self.taken}
