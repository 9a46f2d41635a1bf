"""A generator that shows everything, until a planted collapse: proof that it is seen, reported and survived.

G(z) = base + spread · (a drawn person that z chooses − base). After `collapse_after` steps the loss pulls `spread` to 0
as long as gamma is below `cure`: what a model's remedy changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import Judged, Losses, LossTerm, Model, NetworkPair, Remedy, Step, hookimpl
from gankit.data import demo_figure as figure
from gankit.data.demo import attribute_values, draws

PEOPLE = 400


class Album(nn.Module):
    """(B, 1) -> (B, 3, S, S)."""

    pictures: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        labels, differences = draws(7, PEOPLE)
        drawn = [
            figure.draw(v, size, differences=d) for v, d in zip(attribute_values(labels), differences, strict=True)
        ]
        pictures = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.register_buffer("pictures", pictures)
        self.spread = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        chosen = self.pictures[((z[:, 0] + 1) / 2 * PEOPLE).long().clamp(0, PEOPLE - 1)]
        return self.pictures[0] + self.spread * (chosen - self.pictures[0])


class Blind(nn.Module):
    """A discriminator that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Judged:
        return Judged(x.flatten(1).mean(1) * self.weight)


class Planted(Model):
    """Collapses on purpose."""

    name = "planted"
    summary = "collapses on purpose"

    class Settings(gankit.Settings):
        gamma: float = Field(0.5, gt=0, le=1, description="below `cure` it collapses")
        cure: float = Field(0.7, gt=0, description="2: nothing helps")
        collapse_after: int = Field(150, ge=0, description="steps")
        ema: float = Field(0.5, ge=0, lt=1, description="short, for a short run")

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        return {"generator": Album(self.shape[-1]), "discriminator": Blind()}

    def latents(self, n: int, device: torch.device) -> Tensor:
        return torch.rand(n, 1, device=device) * 2 - 1

    def remedies(self, alarm: str) -> Sequence[Remedy]:
        return (
            Remedy("a part that is not installed", losses={"not-there": 1.0}),
            Remedy("a gamma that does not help", {"gamma": max(self.settings.gamma, 0.6)}),
            Remedy("one that does", {"gamma": max(self.settings.gamma, 0.7)}),
        )

    def losses(self, step: Step) -> Losses:
        album: Any = step.networks["generator"]
        ill = step.number > self.settings.collapse_after and self.settings.gamma < self.settings.cure
        # G(z) is linear in `spread`: the distance between two people is a loss that pulls it to 0.
        apart = (album(step.noise) - album(-step.noise)).abs().mean()
        nothing = step.judged_fake.output.mean() * 0
        return Losses(
            {"generator": apart * float(ill) + nothing, "discriminator": nothing},
            {"planted/apart": apart.detach()},
        )


class FallsOver(LossTerm):
    """A term with a mistake in it, which shows when it is computed."""

    name = "falls-over"

    def __call__(self, step: Step) -> Tensor:
        raise ZeroDivisionError("a mistake of its author's")


@hookimpl
def gankit_losses() -> list[type[LossTerm]]:
    return [FallsOver]


@hookimpl
def gankit_models() -> list[type[Model]]:
    return [Planted]
