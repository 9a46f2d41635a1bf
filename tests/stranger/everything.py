"""A plugin that implements every hook. Nothing of it takes effect until a run names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

import gankit
from gankit import Alarm, Continue, Decision, Judged, Losses, Reading, Run, Situation, Snapshot, Step, hookimpl

told: list[str] = []  # the notifications, in order


class Constant(gankit.Model):
    """A generator that learns one picture."""

    name = "constant"

    def build_networks(self, pair: gankit.NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        return {"generator": nn.Linear(1, self.shape[0]), "discriminator": nn.Linear(self.shape[0], 1)}

    def latents(self, n: int, device: torch.device) -> Tensor:
        return torch.zeros(n, 1, device=device)

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        return Judged(output=networks["discriminator"](seen))

    def losses(self, step: Step) -> Losses:
        real, fake = step.judged_real.output.mean(), step.judged_fake.output.mean()
        return Losses({"generator": -fake, "discriminator": fake - real})


class Pair(gankit.NetworkPair):
    name = "everything-pair"

    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        return {"generator": nn.Linear(1, shape[0]), "discriminator": nn.Linear(seen[0], 1)}


class Term(gankit.LossTerm):
    name = "everything-term"

    def __call__(self, step: Step) -> Tensor:
        return step.fake.square().mean()


class Half(gankit.Controller):
    name = "everything-controller"

    @property
    def drives(self) -> tuple[str, ...]:
        return ("k",)

    def value(self, knob: str) -> Tensor:
        return torch.tensor(0.5)

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        return None


class Look(gankit.Diagnostic):
    name = "everything-diagnostic"
    every = 1

    def read(self, snapshot: Snapshot) -> Reading:
        return Reading({"spread": float(snapshot.generate(8).std())}, [Alarm("seen", "warning", "I have looked.")])


class Shrug(gankit.Reaction):
    name = "everything-reaction"

    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        return Continue("shrugged")


class Upside(gankit.View):
    name = "everything-view"

    def __call__(self, batch: Tensor) -> Tensor:
        return -batch


class Drawing(gankit.Artifact):
    name = "everything-artifact"


class Zeros(gankit.DataSource):
    name = "everything-data"

    def open(self, argument: str | None, request: gankit.Request) -> gankit.Data:
        return gankit.Data("zeros", np.zeros((64, 2), np.float32), np.zeros((0, 2), np.float32), "0")


@click.command("everything")
def command() -> None:
    """Say that everything is here."""
    click.echo("everything is here")


@hookimpl
def gankit_models() -> list[Any]:
    return [Constant]


@hookimpl
def gankit_networks() -> list[Any]:
    return [Pair]


@hookimpl
def gankit_losses() -> list[Any]:
    return [Term]


@hookimpl
def gankit_controllers() -> list[Any]:
    return [Half]


@hookimpl
def gankit_diagnostics() -> list[Any]:
    return [Look]


@hookimpl
def gankit_reactions() -> list[Any]:
    return [Shrug]


@hookimpl
def gankit_views() -> list[Any]:
    return [Upside]


@hookimpl
def gankit_artifacts() -> list[Any]:
    return [Drawing]


@hookimpl
def gankit_datasets() -> list[Any]:
    return [Zeros]


@hookimpl
def gankit_commands() -> list[click.Command]:
    return [command]


@hookimpl
def gankit_run_started(run: Run) -> None:
    told.append(f"started {run.config['model']['name']}")


@hookimpl
def gankit_alarm_raised(run: Run, alarm: dict[str, Any]) -> None:
    told.append(f"{alarm['diagnostic']} at step {alarm['step']}: {alarm['message']}")


@hookimpl
def gankit_run_finished(run: Run, result: dict[str, Any]) -> None:
    told.append(f"{result['outcome']} at step {result['steps']}")
