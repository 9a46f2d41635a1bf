"""What a controller can hear and drive: readings of diagnostics, and every number that papers schedule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, lines, refused, timeless, weights

import gankit as public
from gankit.testing import training as prepare
from gankit.training.loop import step_once

PARTS = """
import torch

import gankit


class Bright(gankit.Diagnostic):
    "The mean of eight samples, every second step."

    name = "bright"
    every = 2

    def read(self, snapshot):
        return gankit.Reading({"mean": float(snapshot.generate(8).mean()), "none": float("nan")})


class Led(gankit.Controller):
    "gamma by what `bright` measured."

    name = "led"
    drives = ("gamma",)
    follows = ("bright/mean", "bright/none", "bright/misspelt")

    def __init__(self, options, model):
        super().__init__(options, model)
        self.register_buffer("gamma", torch.tensor(model.initial["gamma"]))
        self.register_buffer("taken", torch.zeros(()))

    def value(self, knob):
        return self.gamma

    def observe(self, number, readings):
        assert list(readings) in (["bright/mean"], list(self.follows))  # the dry step gives all that it follows
        self.gamma.fill_(0.5 + 0.1 * readings["bright/mean"])
        self.taken.fill_(number)

    def update(self, number, readings):
        return {"taken": self.taken}


class Falls(gankit.Controller):
    "Every knob that a run has falls along a line to half, over the run's length."

    name = "falls"

    class Options(gankit.Options):
        knobs: str = "gamma"

    def __init__(self, options, model):
        super().__init__(options, model)
        self.initial, self.steps = {knob: model.initial[knob] for knob in self.drives}, model.steps
        self.register_buffer("share", torch.ones(()))

    @property
    def drives(self):
        return tuple(self.options.knobs.split())

    def value(self, knob):
        return self.initial[knob] * self.share

    def update(self, number, readings):
        self.share.fill_(1 - number / self.steps / 2)


class Deaf(Led):
    name = "deaf"
    follows = ("misspelt/mean",)


class Forgetful(Led):
    name = "forgetful"
    follows = ("bright/mean",)

    def observe(self, number, readings):
        self.seen = number


class Greedy(Led):
    name = "greedy"
    follows = ("bright/mean",)

    def observe(self, number, readings):
        self.gamma.fill_(readings["energy/real"])


class Wide(Led):
    name = "wide"

    def update(self, number, readings):
        return {"pair": torch.zeros(2)}


@gankit.hookimpl
def gankit_diagnostics():
    return [Bright]


@gankit.hookimpl
def gankit_controllers():
    return [Led, Falls, Deaf, Forgetful, Greedy, Wide]
"""
QUICK: dict[str, Any] = {
    **{"data": "demo:120", "image_size": 16, "batch_size": 4, "precision": "fp32", "log_every": 1, "artifacts": []},
    "set": {"filters": 4, "latent": 8, "gamma": 0.7},
}
KNOBS = "gamma ema weight/imle beta1/generator beta2/discriminator beta1/critic learning_rate/critic"


@pytest.fixture
def parts(tmp_path: Path) -> str:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    return str(path)


def led(plugin: str, out: Path, **more: Any) -> public.Run:
    options = QUICK | {"diagnostics": ["bright"], "controllers": ["led"], "plugins": [plugin]}
    return public.run("began", out=out, **options | more)


# Readings of diagnostics.


def test_a_controller_hears_what_a_diagnostic_measured_and_at_which_step(parts, tmp_path):
    told = lines(led(parts, tmp_path / "run", steps=5).folder)
    after_2, after_4 = (0.5 + 0.1 * told[step - 1]["bright/mean"] for step in (2, 4))
    assert [line["gamma"] for line in told] == pytest.approx([0.7, 0.7, after_2, after_2, after_4])
    assert [line["led/taken"] for line in told] == [0, 0, 2, 2, 4]


def test_m_global_and_the_balance_follow_a_driven_gamma(parts, tmp_path):
    for line in lines(led(parts, tmp_path / "run", steps=3).folder):
        balance = line["gamma"] * line["energy/real"] - line["energy/fake"]
        assert line["began/balance"] == pytest.approx(balance, abs=1e-6)
        assert line["began/convergence"] == pytest.approx(line["energy/real"] + abs(balance), abs=1e-6)


def test_a_resume_goes_on_with_what_the_controller_heard(parts, tmp_path):
    whole = led(parts, tmp_path / "whole", steps=7)
    broken = led(parts, tmp_path / "broken", steps=5)
    broken = public.resume(broken.folder, steps=7, plugins=[parts])
    assert timeless(broken.folder) == timeless(whole.folder)
    assert weights(broken.folder, 7) == weights(whole.folder, 7)


def test_a_reading_that_its_diagnostic_does_not_give_is_told_of_once(parts, tmp_path, gankit):
    ran = gankit(
        *("run", "began", *TINY, "--plugin", parts, "--diagnostic", "bright", "--controller", "led", "--out", "run")
    )
    assert ran.code == 0
    assert (ran.out + ran.err).count(
        "controller 'led' follows 'bright/misspelt', which its diagnostic did not give"
    ) == 1


# Knobs.


def test_everything_that_papers_schedule_is_a_knob_and_a_schedule_knows_the_run_s_length(parts):
    options = QUICK | {"controllers": ["falls"], "steps": 4}
    options["set"] = options["set"] | {"falls.knobs": KNOBS, "betas": (0.5, 0.9)}
    training, batches = prepare("began", [parts], options)
    initial = {knob: training.model.initial[knob] for knob in KNOBS.split()}
    assert initial == pytest.approx(
        {"gamma": 0.7, "ema": 0.999, "weight/imle": 0.3, "beta1/generator": 0.5, "beta2/discriminator": 0.9}
        | {knob: training.model.initial[knob] for knob in ("beta1/critic", "learning_rate/critic")}
    )
    for share in (1, 7 / 8, 6 / 8, 5 / 8):
        before, weighed = training.averaged.state_dict(), training.number
        before = {name: value.clone() for name, value in before.items()}
        readings = step_once(training, batches)
        for knob, value in initial.items():
            assert float(readings[knob]) == pytest.approx(value * share)
        generator, critic = (training.optimizers[name].param_groups[0] for name in ("generator", "critic"))
        assert generator["betas"] == pytest.approx((0.5 * share, 0.9))
        assert training.optimizers["discriminator"].param_groups[0]["betas"] == pytest.approx((0.5, 0.9 * share))
        assert critic["betas"][0] == pytest.approx(initial["beta1/critic"] * share)
        decay = min(0.999 * share, (weighed + 1) / (weighed + 11))
        for name, weight in training.networks["generator"].named_parameters():
            expected = before[name] + (1 - decay) * (weight.detach() - before[name])
            assert torch.allclose(training.averaged.state_dict()[name], expected, atol=1e-6)


def test_a_driven_weight_of_a_term_is_the_weight_that_counts(parts):
    def gradient(**more: Any) -> torch.Tensor:
        options = QUICK | {"controllers": ["falls"], "steps": 4, **more}
        training, batches = prepare("began", [parts], options)
        training.controllers["falls"].get_buffer("share").fill_(0.5)
        step_once(training, batches)
        return torch.cat([p.grad.flatten() for p in training.networks["generator"].parameters() if p.grad is not None])

    driven = gradient(set=QUICK["set"] | {"falls.knobs": "weight/imle"})
    half = gradient(set=QUICK["set"] | {"falls.knobs": "ema"}, losses={"imle": 0.15})
    full = gradient(set=QUICK["set"] | {"falls.knobs": "ema"})
    assert torch.allclose(driven, half, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(driven, full, rtol=1e-2, atol=1e-5)


def test_no_knob_of_a_default_run_has_a_metric_but_the_learning_rates():
    training, batches = prepare("began", [], QUICK | {"steps": 4})
    readings = step_once(training, batches)
    assert not {"gamma", "ema", "weight/imle", "beta1/generator"} & readings.keys()
    assert math.isclose(
        float(readings["learning_rate/critic"]), training.model.initial["learning_rate/critic"], rel_tol=1e-6
    )


def test_a_run_of_a_given_time_has_no_length(parts):
    training, _ = prepare("began", [], QUICK | {"time": 60})
    assert training.model.steps is None


# Misfits.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--controller", "deaf"), "it follows 'misspelt/mean', and no diagnostic 'misspelt' is on"),
        (
            ("--controller", "led"),
            "it follows 'bright/mean', and no diagnostic 'bright' is on: add --diagnostic bright",
        ),
        (("--diagnostic", "bright", "--controller", "forgetful"), "it remembers 'seen' outside its buffers"),
        (
            ("--diagnostic", "bright", "--controller", "greedy"),
            "its `observe` needs the reading 'energy/real', which is",
        ),
        (("--diagnostic", "bright", "--controller", "wide"), "wide/pair of model 'began' is no scalar"),
        (
            ("--controller", "falls", "--set", "falls.knobs=weight/ilme"),
            "no knob 'weight/ilme' (did you mean 'weight/imle'?). There are: learning_rate/generator",
        ),
    ],
)
def test_a_controller_that_would_hear_or_drive_nothing_is_refused_in_one_line(gankit, parts, flags, words):
    said = gankit("run", "began", *TINY, "--plugin", parts, *flags, "--out", "run")
    refused(said, words)
    assert not Path("run").exists()
