"""What an author asks next: what can be set, do parts that need one another pass together, what became of my edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import TINY, Gankit, refused

from gankit.testing import training as prepare
from gankit.training.loop import step_once

TOGETHER = '''
import torch
from pydantic import Field

import gankit


class Gated(gankit.LossTerm):
    """The generated batch's mean square, as far as the knob `gate` is open."""

    name = "gated"
    summary = "as far as the gate is open"

    def __call__(self, step):
        return step.knobs["gate"] * step.fake.square().mean()


class Gate(gankit.Controller):
    """The gate opens over a hundred steps."""

    name = "gate"
    summary = "opens a gate"
    drives = ("gate",)

    class Options(gankit.Options):
        pace: float = Field(0.01, gt=0, le=1, description="of the gate in a step")

    def __init__(self, options, model):
        super().__init__(options, model)
        self.register_buffer("gate", torch.zeros(()))

    def value(self, knob):
        return self.gate

    def update(self, number, readings):
        self.gate.add_(self.options.pace).clamp_(0, 1)


@gankit.hookimpl
def gankit_losses():
    return [Gated]


@gankit.hookimpl
def gankit_controllers():
    return [Gate]
'''
SLOPED = """
import gankit


class R1(gankit.LossTerm):
    name = "r1"
    network = "discriminator"
    needs = frozenset({"slope"})

    def __call__(self, step):
        return step.slope_real.square().flatten(1).sum(1).mean()


class Twice(R1):
    name = "twice"
    needs = frozenset()


@gankit.hookimpl
def gankit_losses():
    return [R1, Twice]
"""
QUICK = {"data": "demo:120", "image_size": 16, "batch_size": 4, "precision": "fp32", "steps": 0, "artifacts": []}


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "together.py").write_text(TOGETHER, encoding="utf-8")
    return "together.py"


# What can be set.


def test_show_lists_a_component_s_options_with_ranges_and_defaults(gankit: Gankit) -> None:
    said = gankit("plugins", "show", "halving")
    assert said.code == 0
    assert "controller halving, of plugin began (gankit" in said.out
    assert "--controller halving" in said.out
    words = " ".join(said.out.split())
    assert (
        "patience=20 windows of 500 steps without a new lowest mean before a halving [a whole number in [1, ∞)]"
        in words
    )


def test_show_lists_a_model_s_parts_knobs_and_readings(gankit: Gankit) -> None:
    words = " ".join(gankit("plugins", "show", "ebgan").out.split())
    assert "controllers margin" in words
    assert "margin driven by margin" in words
    assert "beta2/discriminator 0.999" in words
    assert "ebgan/margin m: The energy above which" in words
    assert "energy/real" in words


def test_show_of_a_plugin_shows_all_that_it_brings_and_of_nothing_names_the_nearest(
    gankit: Gankit, plugin: str
) -> None:
    said = gankit("plugins", "show", "together", "--plugin", plugin).out
    assert "loss term gated" in said
    assert "controller gate" in said
    assert "pace=0.01  of the gate in a step" in said
    refused(gankit("plugins", "show", "halfing"), "nothing here is named 'halfing' (did you mean 'halving'?)")


# Parts that belong together.


def test_parts_that_need_one_another_are_checked_together(gankit: Gankit, plugin: str) -> None:
    alone = gankit("plugins", "check", plugin)
    assert alone.code == 1
    assert "--loss gated: it needs a controller for 'gate', and none here drives it" in alone.out
    assert "--controller gate: it drives 'gate', which model 'began' does not use" in alone.out
    small = ("--model", "began", "--set", "filters=4", "--set", "latent=8")
    said = gankit("plugins", "check", plugin, "--loss", "gated=0.1", "--controller", "gate", *small)
    assert said.code == 0, said.out


# What takes the place of what, and what nothing would read.


def test_a_setting_of_a_controller_that_another_takes_the_place_of_is_refused(gankit: Gankit, tmp_path: Path) -> None:
    flags = ("--controller", "balance-pi", "--set", "balance.floor=0.1", "--out", "run")
    refused(
        gankit("run", "began", *TINY, *flags), "--set balance.floor=… would be read by nothing: controller 'balance-pi'"
    )
    assert not (tmp_path / "run").exists()


def test_a_controller_that_takes_a_model_s_own_place_says_so(gankit: Gankit, tmp_path: Path, undrawn) -> None:
    (tmp_path / "one_rate.py").write_text(
        TOGETHER.replace('drives = ("gate",)', 'drives = ("learning_rate/generator",)'), encoding="utf-8"
    )
    said = gankit("run", "began", *TINY, "--plugin", "one_rate.py", "--controller", "gate")
    assert said.code == 0
    assert (
        "controller 'gate' takes the place of began's own 'halving', so nothing drives learning_rate/disc" in said.out
    )


def test_a_resume_after_an_edit_of_the_plugin_says_that_its_code_has_changed(
    gankit: Gankit, tmp_path: Path, plugin: str, undrawn
) -> None:
    parts = ("--plugin", plugin, "--loss", "gated=0.1", "--controller", "gate")
    assert gankit("run", "began", *TINY, *parts, "--out", "run").code == 0
    warning = "warning: the code of plugin 'together' (--plugin together.py) has changed since the run's last start"
    same = gankit("resume", "run", "--steps", 7, "--plugin", plugin)
    assert same.code == 0
    assert warning not in same.out
    (tmp_path / plugin).write_text(TOGETHER.replace("self.options.pace", "2 * self.options.pace"), encoding="utf-8")
    assert warning in gankit("resume", "run", "--steps", 8, "--plugin", plugin).out
    assert warning not in gankit("resume", "run", "--steps", 9, "--plugin", plugin).out
    (tmp_path / plugin).write_text(TOGETHER, encoding="utf-8")  # as at the first start
    assert warning in gankit("resume", "run", "--steps", 10, "--plugin", plugin).out
    assert warning not in gankit("resume", "run", "--steps", 11, "--plugin", plugin).out


# D's gradient at the real batch.


def test_r1_shares_the_discriminator_s_pass_and_is_the_same_as_with_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sloped.py").write_text(SLOPED, encoding="utf-8")
    found = {}
    for name in ("r1", "twice"):
        losses = {"energy-distance": 0, "imle": 0, "critic": 0, name: 1.0}
        options = QUICK | {"set": {"filters": 4, "latent": 8}, "losses": losses}
        training, batches = prepare("began", [str(tmp_path / "sloped.py")], options)
        passes: list[int] = []
        training.networks["discriminator"].register_forward_hook(lambda *_, passes=passes: passes.append(1))
        readings = step_once(training, batches)
        gradient = torch.cat([p.grad.flatten() for p in training.networks["discriminator"].parameters()])
        found[name] = float(readings[f"term/{name}"]), gradient, len(passes)
    assert found["r1"][0] == pytest.approx(found["twice"][0], rel=1e-5)
    assert found["r1"][0] > 0
    assert torch.allclose(found["r1"][1], found["twice"][1], rtol=1e-4, atol=1e-7)
    assert (found["r1"][2], found["twice"][2]) == (2, 3)
