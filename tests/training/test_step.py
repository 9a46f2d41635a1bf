"""The training step: each network follows only its own loss, and very different models fit into the same loop.

The models in `stranger/` are one-file plugins, as anybody would write them.
"""

from __future__ import annotations

import copy
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, STRANGER, refused, timeless, weights
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import gankit as public
from gankit import Run, UserError
from gankit.config.request import merge
from gankit.testing import Subject, checks
from gankit.testing import training as prepare
from gankit.training.loop import step_once
from gankit.training.state import Training

WGAN_GP, REGRESSOR, CONDITIONAL, DECAY, EVERYTHING = (
    str(STRANGER / f"{name}.py") for name in ("wgan_gp", "regressor", "conditional", "decay", "everything")
)
RING = str(ROOT / "benchmarks" / "mixtures.py")

BARE = {"energy-distance": 0, "imle": 0, "critic": 0}  # the models' own equations alone

# Points for tests of the step, small pictures for tests of pictures; both train in milliseconds.
# 0 steps by default, so that a request that should be refused does not train for hours.
POINTS: dict[str, Any] = {
    **{"data": "ring:256", "batch_size": 16, "precision": "fp32", "steps": 0},
    "losses": BARE,
}
PICTURES: dict[str, Any] = {
    **{"data": "demo:120", "image_size": 16, "batch_size": 4, "precision": "fp32", "steps": 0},
    "losses": BARE,
}
SMALL = {"filters": 4, "latent": 8}
PLAIN = SMALL | {"edges": 0}  # BEGAN with the paper's energy
PAIR = "began-autoencoder"
DENSE = {"networks": "dense", "latent": 2}

# (model, plugin files, options): all models that the loop trains.
BEGAN = ("began", [], PICTURES | {"set": PLAIN})
EBGAN = ("ebgan", [], PICTURES | {"set": SMALL})
BEGAN_ON_POINTS = ("began", [RING], POINTS | {"set": DENSE | {"balance.floor": 0}})
CRITIC = ("wgan-gp", [RING, WGAN_GP], POINTS)
THREE = ("latent-regressor", [RING, REGRESSOR], POINTS)
TOLD = ("conditional", [RING, CONDITIONAL], POINTS)
MODELS = {
    "BEGAN": BEGAN,
    "EBGAN": EBGAN,
    "BEGAN's equations on points": BEGAN_ON_POINTS,
    "WGAN-GP on points": CRITIC,
    "WGAN-GP on pictures": ("wgan-gp", [WGAN_GP], PICTURES),
    "a third network": THREE,
    "a third network, alternating": (THREE[0], THREE[1], POINTS | {"set": {"updates": "alternating"}}),
    "labels": TOLD,
    "BEGAN, alternating": ("began", [], PICTURES | {"set": PLAIN | {"updates": "alternating"}}),
    "packing on BEGAN": ("began", [], PICTURES | {"set": PLAIN, "views": ["packing"]}),
    "packing on EBGAN": ("ebgan", [], PICTURES | {"set": SMALL | {"packing.m": 2}, "views": ["packing"]}),
    "packing on WGAN-GP": (*CRITIC[:2], POINTS | {"views": ["packing"]}),
    "augmentation on BEGAN": ("began", [], PICTURES | {"set": PLAIN, "views": ["augment"]}),
    "augmentation, then packing": ("began", [], PICTURES | {"set": SMALL, "views": ["augment", "packing"]}),
    "augmentation on WGAN-GP": ("wgan-gp", [WGAN_GP], PICTURES | {"views": ["augment"]}),
    "pulling-away on BEGAN": ("began", [], PICTURES | {"set": SMALL, "losses": BARE | {"pulling-away": 0.1}}),
    "BEGAN's own terms": ("began", [], PICTURES | {"set": SMALL, "losses": {}}),
    "the mode regulariser": (
        "began",
        [],
        PICTURES | {"set": SMALL, "losses": BARE | {"mode-regulariser": 0.2}},
    ),
    "latent closing": ("began", [], PICTURES | {"set": SMALL, "losses": BARE | {"latent-closing": 0.1}}),
    "all terms at once": (
        "began",
        [],
        PICTURES
        | {"set": SMALL | {"updates": "alternating"}}
        | {"losses": {name: 0.1 for name in ("latent-closing", "mode-regulariser", "pulling-away", *BARE)}},
    ),
    "a falling learning rate": (THREE[0], [*THREE[1], DECAY], POINTS | {"controllers": ["linear-decay"]}),
    "bf16": ("began", [], PICTURES | {"set": SMALL, "precision": "bf16"}),
    "spectral normalisation": ("began", [], PICTURES | {"set": SMALL | {f"{PAIR}.spectral_normalisation": "both"}}),
    "spectral normalisation in bf16": (
        "began",
        [],
        PICTURES | {"set": SMALL | {f"{PAIR}.spectral_normalisation": "both"}, "precision": "bf16"},
    ),
    "minibatch deviation": ("began", [], PICTURES | {"set": SMALL | {f"{PAIR}.minibatch_deviation": True}}),
}
some = pytest.mark.parametrize("what", ["BEGAN", "EBGAN", "BEGAN, alternating", "WGAN-GP on points", "a third network"])
every = pytest.mark.parametrize("what", MODELS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are tiny: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(what: tuple[str, list[str], dict[str, Any]], out: Path, **more: Any) -> Run:
    model, plugins, options = what
    return public.run(model, plugins=plugins, out=out, **merge(options, more))


def state(training: Training) -> dict[str, Tensor]:
    """Every weight and buffer of every network, copied."""
    return {
        f"{name}/{key}": value.clone()
        for name, network in training.networks.items()
        for key, value in network.state_dict().items()
    }


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor], network: str) -> bool:
    return any(not torch.equal(before[key], after[key]) for key in before if key.startswith(f"{network}/"))


class Calls:
    """Every call of a training's networks: the network, its input, its weights."""

    def __init__(self, training: Training) -> None:
        self.seen: list[tuple[str, tuple[Any, ...], dict[str, Tensor]]] = []
        for name, network in training.networks.items():
            network.register_forward_pre_hook(self._note(name))

    def _note(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            weights = {key: value.detach().clone() for key, value in module.named_parameters()}
            self.seen.append((name, tuple(x.detach().clone() for x in inputs), weights))

        return note

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [inputs for called, inputs, _ in self.seen if called == name]

    def weights(self, name: str) -> list[dict[str, Tensor]]:
        return [weights for called, _, weights in self.seen if called == name]


# Models of all kinds train in the same loop.


@every
def test_it_trains_through_gankit_run_with_finite_losses_and_moving_weights(tmp_path, undrawn, what):
    made = run(MODELS[what], tmp_path / "run", steps=3, log_every=1)
    assert made.result["outcome"] == "finished"
    assert len(made.metrics()) == 3
    networks = {name.removeprefix("loss/") for name in made.metrics()[0] if name.startswith("loss/")}
    assert networks >= {"generator", "discriminator"}
    for line in made.metrics():
        assert all(math.isfinite(value) for value in line.values())
        assert {f"learning_rate/{name}" for name in networks} <= line.keys()
    assert weights(made.folder, 0)["networks.safetensors"] != weights(made.folder, 3)["networks.safetensors"]
    samples = made.sample(3, plugins=MODELS[what][1])
    assert samples.shape == (3, *made.data["shape"])
    assert samples.isfinite().all()


@pytest.mark.parametrize("what", ["WGAN-GP on points", "a third network", "labels", "augmentation, then packing"])
def test_a_resume_is_bit_identical(tmp_path, undrawn, what):
    whole = run(MODELS[what], tmp_path / "whole", steps=6, log_every=1)
    run(MODELS[what], tmp_path / "parts", steps=3, log_every=1)
    parts = public.resume(tmp_path / "parts", steps=6, plugins=MODELS[what][1])
    assert weights(whole.folder, 6) == weights(parts.folder, 6)
    assert timeless(whole.folder) == timeless(parts.folder)


def test_wgan_gp_updates_its_critic_five_times_for_each_update_of_the_generator():
    training, batches = prepare(*CRITIC)
    calls = Calls(training)
    step_once(training, batches)
    # An update of the critic calls it on real, generated and mixed points; the generator's on generated ones.
    assert len(calls.of("discriminator")) == 5 * 3 + 1
    assert len(calls.of("generator")) == 5 + 1
    noises = [noise for (noise,) in calls.of("generator")]
    assert len({noise.numpy().tobytes() for noise in noises}) == 6, "each update draws its own latents"
    states = [optimizer.state_dict()["state"][0]["step"] for optimizer in training.optimizers.values()]
    assert dict(zip(training.optimizers, map(float, states), strict=True)) == {"generator": 1, "discriminator": 5}


def test_wgan_gp_s_penalty_holds_the_critic_s_slope_near_1():
    training, batches = prepare(*CRITIC, set={"learning_rate": 1e-3})
    penalties = [float(step_once(training, batches)["wgan-gp/penalty"]) for _ in range(60)]
    assert penalties[-1] < 0.25 * penalties[0]


def test_a_third_network_learns_by_its_own_loss():
    training, batches = prepare(*THREE, set={"learning_rate": 2e-3, "learning_rate_generator": 1e-4})
    errors = [float(step_once(training, batches)["loss/encoder"]) for _ in range(120)]
    assert errors[-1] < 0.7 * errors[0]


def test_labels_reach_both_networks_and_belong_to_their_points():
    training, batches = prepare(*TOLD)
    calls = Calls(training)
    step_once(training, batches)
    (_, drawn_for), *_ = calls.of("generator")
    (real, told), (_, told_of_fakes) = calls.of("discriminator")
    assert torch.equal(drawn_for, told)
    assert torch.equal(told, told_of_fakes)
    angles = torch.atan2(real[:, 1], real[:, 0]) / (2 * math.pi) * 8
    assert torch.equal(angles.round().long() % 8, told)


def test_a_data_set_with_fewer_labels_than_a_sample_grid_has_pictures_can_be_sampled(tmp_path, undrawn):
    made = run(TOLD, tmp_path / "run", data="ring:40", steps=1)
    assert made.result["outcome"] == "finished"
    assert [step for step, _ in made.samples()] == [0, 1]


def test_a_model_that_needs_labels_says_so_where_there_are_none(tmp_path):
    with pytest.raises(UserError, match="needs data with labels, and these have none"):
        public.run("conditional", "everything-data", steps=0, plugins=[CONDITIONAL, EVERYTHING], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_began_s_equations_hold_on_points_as_on_pictures():
    training, batches = prepare(*BEGAN_ON_POINTS)
    readings: dict[str, Tensor] = {}
    for _ in range(40):
        k, before = readings.get("began/k", torch.zeros(())), readings
        readings = step_once(training, batches)
        if before:
            torch.testing.assert_close(readings["began/k"], (k + 0.001 * before["began/balance"]).clamp(0, 1))
    real, fake, k = readings["energy/real"], readings["energy/fake"], readings["began/k"]
    torch.testing.assert_close(readings["loss/discriminator"], real - k * fake)
    torch.testing.assert_close(readings["began/convergence"], real + (real - fake).abs())  # γ = 1


# Views and terms.


def test_packing_shows_the_discriminator_pictures_side_by_side_on_their_channels():
    training, batches = prepare(*MODELS["packing on BEGAN"])
    real, _ = batches(1, 0)
    calls = Calls(training)
    step_once(training, batches)
    (shown,), (shown_fakes,) = calls.of("discriminator")
    assert shown.shape == shown_fakes.shape == (2, 6, 16, 16)
    assert torch.equal(shown, torch.stack([torch.cat([real[0], real[1]]), torch.cat([real[2], real[3]])]))


def test_packing_refuses_a_batch_that_is_no_multiple_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"a batch of 4 is no multiple of packing\.m=3"):
        run(MODELS["packing on BEGAN"], tmp_path / "run", set={"packing.m": 3})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [{"batch_size": 1}, {"views": ["packing"], "batch_size": 2}])
def test_pulling_away_refuses_a_batch_of_one_code_before_anything_is_written(tmp_path, more):
    """Regression: without a pair the mean was 0/0."""
    with pytest.raises(UserError, match="here a batch gives a single code"):
        public.run("ebgan", **PICTURES | {"set": SMALL} | more, out=tmp_path / "run")
    asked = PICTURES | {"set": SMALL, "losses": {"pulling-away": 1.0}} | more
    with pytest.raises(UserError, match="here a batch gives a single code"):
        public.run("began", **asked, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_energies_compare_with_what_was_seen():
    training, batches = prepare(*MODELS["augmentation on BEGAN"])
    calls = Calls(training)
    before = copy.deepcopy(training.networks["discriminator"])
    readings = step_once(training, batches)
    (shown, *_), *_ = calls.of("discriminator")
    assert not torch.equal(shown, batches(1, 0)[0])
    with torch.no_grad():
        torch.testing.assert_close(readings["energy/real"], (shown - before(shown).output).abs().mean())


def first_step(what: str, **more: Any) -> tuple[dict[str, Tensor], Calls, dict[str, nn.Module]]:
    """The readings of step 1, the calls in it, and the networks as they were before it."""
    training, batches = prepare(*MODELS[what], **more)
    before = copy.deepcopy(training.networks)
    calls = Calls(training)
    return step_once(training, batches), calls, before


def test_the_mode_regulariser_is_the_distance_of_real_pictures_to_what_is_drawn_from_their_codes():
    readings, calls, before = first_step("the mode regulariser")
    (x,), (_,) = calls.of("discriminator")
    with torch.no_grad():
        term = (x - before["generator"](before["discriminator"](x).code)).abs().mean()
    torch.testing.assert_close(readings["term/mode-regulariser"], term)
    torch.testing.assert_close(readings["loss/generator"], readings["energy/fake"] + 0.2 * term)
    assert len(calls.of("generator")) == 2  # G(z) and G(Enc(x))
    assert len(calls.of("discriminator")) == 2  # the codes are those that it gave in judging


def test_a_term_is_computed_only_in_the_updates_of_its_network():
    _, calls, _ = first_step("the mode regulariser", set={"updates": "alternating"})
    assert len(calls.of("generator")) == 2 + 1  # once for each update, and G(Enc(x)) in the generator's


def test_latent_closing_is_the_distance_of_the_latents_to_their_codes():
    readings, calls, before = first_step("latent closing")
    ((z,),) = calls.of("generator")
    with torch.no_grad():
        term = (z - before["discriminator"](before["generator"](z)).code).abs().mean()
    torch.testing.assert_close(readings["term/latent-closing"], term)
    torch.testing.assert_close(readings["loss/discriminator"], readings["energy/real"] + 0.1 * term)  # k = 0
    torch.testing.assert_close(readings["loss/generator"], readings["energy/fake"])
    assert len(calls.of("generator")) == 1


@pytest.mark.parametrize(
    ("term", "network", "other"),
    [("mode-regulariser", "generator", "discriminator"), ("latent-closing", "discriminator", "generator")],
)
def test_a_term_moves_the_network_that_it_is_added_to_and_no_other(term, network, other):
    gradients = {}
    for weight in (0.0, 1.0):
        training, batches = prepare("began", [], PICTURES, set=SMALL, losses={term: weight})
        step_once(training, batches)
        gradients[weight] = {name: gradient_of(training.networks[name]) for name in (network, other)}
    assert torch.equal(gradients[0.0][other], gradients[1.0][other])
    assert distance(gradients[1.0][network], gradients[0.0][network]) > 0.01


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            ["wgan-gp", "--plugin", WGAN_GP, "--loss", "pulling-away=0.1"],
            "--loss pulling-away: it needs a discriminator with an encoder, and that of model 'wgan-gp' gives no code",
        ),
        (
            [
                "began",
                "--loss",
                "critic=0",
                "--set",
                "networks=uneven",
                "--set",
                "latent=2",
                "--loss",
                "latent-closing=0.1",
            ],
            "--loss latent-closing: it needs a code for each latent, of its width; here they are (32, 3) and (32, 2)",
        ),
        (
            ["only-a-generator", "--loss", "latent-closing=0.1"],
            "--loss latent-closing: model 'only-a-generator' has no network 'discriminator' to add it to",
        ),
        (
            ["wgan-gp", "--plugin", WGAN_GP, "--controller", "balance"],
            "--controller balance: it drives 'k', which model 'wgan-gp' does not use",
        ),
        (
            ["began", "--loss", "critic=0", "--set", "networks=dense", "--controller", "wild"],
            "--controller wild: it drives 'learning_rate/encoder', which model 'began' does not use",
        ),
        (
            ["latent-regressor", "--plugin", REGRESSOR, "--controller", "halving"],
            "--controller halving: it needs the reading 'began/convergence', which 'latent-regressor' does not give",
        ),
        (["only-a-generator"], "model 'only-a-generator' needs a controller for 'warmth', and none here drives it"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_written(gankit, tmp_path, request_, words):
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    plugins = [f"--plugin={path}" for path in (RING, "odd.py")]
    refused(gankit("run", *request_, *plugins, "--data", "ring", "--steps", 0, "--out", "run"), words)
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["odd.py"]


ODD = '''
"""What fits nowhere."""

import torch
from gankit import Controller, Judged, Losses, Model, NetworkPair, hookimpl
from torch import nn


class Discriminator(nn.Linear):
    def forward(self, x):
        return Judged(output=x, code=super().forward(x))


class Uneven(NetworkPair):
    name = "uneven"

    def build(self, shape, seen):
        return {"generator": nn.Linear(2, 2), "discriminator": Discriminator(2, 3)}


class OnlyAGenerator(Model):
    name = "only-a-generator"
    updates = [("generator",)]

    def build_networks(self, pair, seen):
        return {"generator": nn.Linear(2, 2)}

    def latents(self, n, device):
        return torch.randn(n, 2)

    def losses(self, step):
        return Losses({"generator": step.knobs["warmth"] * step.fake.square().mean()})


class Wild(Controller):
    name = "wild"
    drives = ("learning_rate/encoder",)

    def value(self, knob):
        return torch.ones(())

    def update(self, number, readings):
        pass


@hookimpl
def gankit_models():
    return [OnlyAGenerator]


@hookimpl
def gankit_networks():
    return [Uneven]


@hookimpl
def gankit_controllers():
    return [Wild]
'''


# Gradients: each network's is that of its own loss, and nothing else.


def gradient_of(network: nn.Module) -> Tensor:
    """All gradients of a network in one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def distance(one: Tensor, other: Tensor) -> float:
    """|a − b| / |b|."""
    return float((one - other).norm() / other.norm())


def naive(networks: Mapping[str, nn.Module], x: Tensor, z: Tensor, k: float) -> dict[str, Tensor]:
    """BEGAN's two gradients as a textbook would take them: one backward for each network, in float64."""
    G, D = (copy.deepcopy(networks[name]).double() for name in ("generator", "discriminator"))
    x, z = x.double(), z.double()

    def L(v: Tensor) -> Tensor:
        return (v - D(v).output).abs().mean()

    (L(x) - k * L(G(z).detach())).backward()
    of_D = gradient_of(D)
    L(G(z)).backward()
    return {"generator": gradient_of(G), "discriminator": of_D}


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
@pytest.mark.parametrize("what", ["BEGAN", "BEGAN's equations on points"])
def test_each_gradient_is_that_of_a_backward_of_its_own_loss_alone(what, updates):
    training, batches = prepare(*MODELS[what], set={"updates": updates})
    for _ in range(3):
        step_once(training, batches)
    training.controllers["balance"].k.fill_(0.4)
    # The gradient of |v − D(v)| depends on signs, so the weights must be the same.
    at = {name: copy.deepcopy(network) for name, network in training.networks.items()}
    calls = Calls(training)
    step_once(training, batches)
    x, fakes = calls.of("discriminator")[0][0], calls.of("generator")
    taken = {name: gradient_of(network).double() for name, network in training.networks.items()}

    if updates == "alternating":  # the discriminator's update comes first, on latents of its own
        assert distance(taken["discriminator"], naive(at, x, fakes[0][0], k=0.4)["discriminator"]) < 1e-4
        at["discriminator"] = training.networks["discriminator"]
    truth = naive(at, x, fakes[-1][0], k=0.4)
    assert distance(taken["generator"], truth["generator"]) < 1e-4
    if updates == "simultaneous":
        assert distance(taken["discriminator"], truth["discriminator"]) < 1e-4


def test_the_encoder_s_loss_leaves_generator_and_discriminator_alone(monkeypatch):
    """A third network's loss weighed a thousandfold changes nobody else's gradient, detached or not."""
    gradients = []
    for weight in (1.0, 1000.0):
        training, batches = prepare(*THREE)
        losses_of = type(training.model).losses

        def weighed(self: Any, step: Any, weight: float = weight, losses_of: Any = losses_of) -> Any:
            losses = losses_of(self, step)
            found = step.networks["encoder"](step.fake)  # the graph back to the generator is there
            losses.by_network["encoder"] = weight * (step.noise - found).square().mean()
            return losses

        monkeypatch.setattr(type(training.model), "losses", weighed)
        step_once(training, batches)
        gradients.append({name: gradient_of(network) for name, network in training.networks.items()})
    assert torch.equal(gradients[0]["generator"], gradients[1]["generator"])
    assert torch.equal(gradients[0]["discriminator"], gradients[1]["discriminator"])
    assert distance(gradients[1]["encoder"], 1000 * gradients[0]["encoder"]) < 1e-5


# The computations of a step, and their weights.


def test_a_simultaneous_step_asks_the_discriminator_twice_and_the_generator_once():
    training, batches = prepare(*BEGAN)
    calls = Calls(training)
    step_once(training, batches)
    assert [name for name, _, _ in calls.seen].count("discriminator") == 2
    assert [name for name, _, _ in calls.seen].count("generator") == 1
    assert torch.equal(calls.of("discriminator")[0][0], batches(1, 0)[0])


def test_ebgan_with_its_pulling_away_term_asks_no_more():
    training, batches = prepare(*EBGAN)
    calls = Calls(training)
    step_once(training, batches)
    assert (len(calls.of("discriminator")), len(calls.of("generator"))) == (2, 1)


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
def test_the_generator_is_judged_by_the_old_discriminator_or_by_the_one_that_has_just_moved(updates):
    training, batches = prepare(*BEGAN, set={"updates": updates})
    before = dict(training.networks["discriminator"].named_parameters())
    before = {key: value.detach().clone() for key, value in before.items()}
    calls = Calls(training)
    step_once(training, batches)
    after = {key: value.detach() for key, value in training.networks["discriminator"].named_parameters()}
    judged_by = calls.weights("discriminator")
    assert same(judged_by[0], before)
    assert not same(before, after)
    assert same(judged_by[-1], before if updates == "simultaneous" else after)


def test_an_update_moves_only_the_networks_that_it_names():
    training, batches = prepare(*MODELS["a third network, alternating"])
    from gankit.training.loop import update

    knobs, states = training.knobs(), [state(training)]
    for which in range(2):
        update(training, batches, 1, which, knobs)
        states.append(state(training))
    started, first, second = states
    networks = ("generator", "discriminator", "encoder")
    assert [moved(started, first, name) for name in networks] == [False, True, False]
    assert [moved(first, second, name) for name in networks] == [True, False, True]


@every
def test_it_keeps_what_the_conformance_kit_asks_of_every_step(tmp_path, what):
    """Each network follows its own loss, without waiting for the device."""
    model, plugins, options = MODELS[what]
    subject = Subject("models", model, tmp_path, plugins, options=options)
    checks.keeps_gradients_apart(subject)
    checks.waits_for_no_device(subject)


@every
def test_afterwards_every_weight_needs_its_gradient_as_before(what):
    training, batches = prepare(*MODELS[what])
    step_once(training, batches)
    assert all(p.requires_grad for network in training.networks.values() for p in network.parameters())
    assert not any(p.requires_grad for p in training.averaged.parameters())


@pytest.mark.parametrize("what", ["a third network", "a third network, alternating"])
def test_a_weight_that_its_model_has_frozen_stays_as_it_is(what):
    training, batches = prepare(*MODELS[what])
    frozen = next(training.networks["encoder"].parameters()).requires_grad_(False)
    before = frozen.clone()
    for _ in range(2):
        step_once(training, batches)
    assert not frozen.requires_grad
    assert torch.equal(frozen, before)


# Random numbers.


@some
def test_batches_and_latents_follow_from_seed_step_and_update_alone(what):
    """A start at step 4 draws the same random numbers as the unbroken training, whatever was drawn before."""
    unbroken, batches = prepare(*MODELS[what])
    for _ in range(3):
        step_once(unbroken, batches)
    calls = Calls(unbroken)
    step_once(unbroken, batches)

    other, batches = prepare(*MODELS[what])
    torch.manual_seed(12345)
    np.random.seed(5)
    torch.rand(7)
    other.number = 3
    later = Calls(other)
    step_once(other, batches)

    assert len(calls.of("generator")) == len(other.model.updates)
    for one, two in zip(calls.of("generator"), later.of("generator"), strict=True):
        assert torch.equal(one[0], two[0])
    shown = {x.numpy().tobytes() for x, *_ in calls.of("discriminator")}
    for which, networks in enumerate(other.model.updates):
        if "discriminator" in networks:
            assert batches(4, which)[0].numpy().tobytes() in shown
    assert len(shown & {x.numpy().tobytes() for x, *_ in later.of("discriminator")}) >= len(other.model.updates) - 1


@some
def test_another_seed_step_or_update_draws_other_batches_and_latents(what):
    drawn = []
    for seed in (0, 1):
        training, batches = prepare(*MODELS[what], seed=seed)
        calls = Calls(training)
        for _ in range(2):
            step_once(training, batches)
        drawn += [noise.numpy().tobytes() for noise, *_ in calls.of("generator")]
        drawn += [batches(step, update)[0].numpy().tobytes() for step in (1, 2) for update in range(batches.updates)]
    assert len(set(drawn)) == len(drawn) == 2 * 2 * 2 * len(training.model.updates)


@pytest.mark.parametrize("name", ["began", "ebgan"])
def test_looking_changes_nothing(tmp_path, undrawn, name):
    """EBGAN's generator has batch normalisation: a look in training mode would change it."""
    (tmp_path / "nosy.py").write_text(NOSY, encoding="utf-8")
    plugins, options = [str(tmp_path / "nosy.py")], PICTURES | {"set": SMALL, "steps": 4, "checkpoint_every": 4}
    unseen = public.run(name, plugins=plugins, out=tmp_path / "unseen", **options)
    watched = public.run(
        name,
        plugins=plugins,
        out=tmp_path / "watched",
        **options,
        diagnostics=["nosy"],
        sample_every=1,
        log_every=1,
    )
    assert len(watched.samples()) == 5
    assert [line["nosy/pictures"] for line in watched.metrics()] == [9, 9, 9, 9]
    assert weights(unseen.folder, 4) == weights(watched.folder, 4)


NOSY = textwrap.dedent('''
    """Looks at everything there is, and draws random numbers as it likes."""

    import random

    import numpy
    import torch
    from gankit import Diagnostic, Reading, hookimpl


    class Nosy(Diagnostic):
        name = "nosy"
        every = 1

        def read(self, snapshot):
            assert not torch.is_grad_enabled()
            torch.manual_seed(1), numpy.random.seed(1), random.seed(1)
            pictures = torch.cat([snapshot.generate(3), snapshot.generate(3, averaged=False), snapshot.real(3)])
            snapshot.judge(pictures)
            snapshot.real(2, held_out=True)
            return Reading({"pictures": len(pictures)})


    @hookimpl
    def gankit_diagnostics():
        return [Nosy]
''')


# Optimizers, averages and controllers.


@some
def test_the_averaged_generator_is_the_moving_average_of_the_generator(what):
    training, batches = prepare(*MODELS[what], set={"ema": 0.6, "learning_rate": 1e-2})
    expected = {key: p.detach().double().clone() for key, p in training.networks["generator"].named_parameters()}
    for number in range(1, 19):
        step_once(training, batches)
        decay = min(0.6, number / (number + 10))  # follows closely at first: 1/11, 2/12, … until 0.6 is reached
        for key, weight in training.networks["generator"].named_parameters():
            expected[key] = decay * expected[key] + (1 - decay) * weight.detach().double()
        for key, weight in training.averaged.named_parameters():
            torch.testing.assert_close(weight.double(), expected[key], rtol=1e-5, atol=1e-6)
    for one, two in zip(training.averaged.buffers(), training.networks["generator"].buffers(), strict=True):
        assert torch.equal(one, two)


def test_ema_0_shows_the_generator_itself():
    training, batches = prepare(*EBGAN, set={"ema": 0})
    step_once(training, batches)
    shown = training.averaged.state_dict()
    assert all(torch.equal(shown[key], value) for key, value in training.networks["generator"].state_dict().items())


def test_a_halving_of_the_learning_rate_leaves_adam_s_moments_and_stops_at_the_floor(monkeypatch):
    """With a window of one step and no patience, M_global's first rise halves the rate."""
    monkeypatch.setattr("gankit_began.balance.WINDOW", 1)
    training, batches = prepare(
        *BEGAN_ON_POINTS,
        set={"learning_rate": 8e-3, "halving.patience": 1, "halving.floor": 1.5e-3},
    )
    beta_1, beta_2 = training.model.settings.betas
    weight = training.networks["generator"][0].weight
    expected, first, second, rates = weight.detach().double(), 0.0, 0.0, []
    for number in range(1, 41):
        rates.append(float(step_once(training, batches)["learning_rate/generator"]))
        gradient = weight.grad.double()
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient.square()
        unbiased = (second / (1 - beta_2**number)).sqrt() + 1e-8
        expected = expected - rates[-1] * first / (1 - beta_1**number) / unbiased
    assert sorted(set(rates), reverse=True) == pytest.approx([8e-3, 4e-3, 2e-3, 1.5e-3])
    assert rates == sorted(rates, reverse=True)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-4, atol=1e-6)


def test_each_network_has_its_own_learning_rate():
    training, batches = prepare(*THREE, set={"learning_rate": 1e-3, "learning_rate_generator": 5e-4})
    readings = step_once(training, batches)
    rates = {name: float(readings[f"learning_rate/{name}"]) for name in training.networks}
    assert rates == pytest.approx({"generator": 5e-4, "discriminator": 1e-3, "encoder": 1e-3})


def test_a_controller_named_for_a_knob_takes_the_place_of_the_model_s_own(tmp_path, undrawn):
    made = run(
        ("began", [RING, DECAY], POINTS | {"set": DENSE}),
        tmp_path / "run",
        controllers=["linear-decay"],
        set={"linear-decay.start": 1, "linear-decay.end": 5, "learning_rate": 8e-4},
        steps=6,
        log_every=1,
    )
    assert list(made.config["controllers"]) == ["linear-decay", "balance"]
    rates = [8e-4, 8e-4, 6e-4, 4e-4, 2e-4, 0.0]
    for network in ("generator", "discriminator"):
        assert [line[f"learning_rate/{network}"] for line in made.metrics()] == pytest.approx(rates)
    assert all("began/k" in line for line in made.metrics())


def test_a_falling_learning_rate_goes_on_after_a_resume_where_it_was(tmp_path, undrawn):
    what = ("began", [RING, DECAY], POINTS | {"set": DENSE | {"linear-decay.end": 8}, "controllers": ["linear-decay"]})
    run(what, tmp_path / "parts", steps=3, log_every=1)
    parts = public.resume(tmp_path / "parts", steps=6, plugins=what[1])
    rates = [line["learning_rate/generator"] for line in parts.metrics()]
    assert rates == pytest.approx([1e-4 * (8 - done) / 8 for done in range(6)])


def test_two_controllers_named_for_one_knob_are_refused(gankit):
    both = ("--controller", "linear-decay", "--controller", "halving")
    said = gankit("run", "began", "--data", "demo", "--steps", 0, "--plugin", DECAY, *both)
    refused(said, "'halving' and 'linear-decay' both drive 'learning_rate/generator': name one of them")


def test_a_controller_may_follow_the_losses_and_the_terms_that_the_log_shows(tmp_path):
    """Not only the model's own readings."""
    (tmp_path / "follow.py").write_text(
        textwrap.dedent("""
        import torch
        from gankit import Controller, hookimpl

        class Follow(Controller):
            name = "follow"
            drives = ("k",)

            def __init__(self, options, model):
                super().__init__(options, model)
                self.register_buffer("k", torch.zeros(()))

            def value(self, knob):
                return self.k

            def update(self, number, readings):
                self.k.copy_(readings["loss/generator"] + readings["term/pulling-away"])

        @hookimpl
        def gankit_controllers():
            return [Follow]
        """),
        encoding="utf-8",
    )
    training, batches = prepare(
        "began",
        [str(tmp_path / "follow.py")],
        PICTURES,
        set=SMALL,
        controllers=["follow"],
        losses={"pulling-away": 0.1},
    )
    first, second = step_once(training, batches), step_once(training, batches)
    torch.testing.assert_close(second["began/k"], first["loss/generator"] + first["term/pulling-away"])


# Precision.


def test_bf16_computes_the_networks_in_bf16_and_the_energies_in_fp32():
    training, batches = prepare(*BEGAN, precision="bf16")
    inside: list[torch.dtype] = []
    linear = training.networks["generator"].linear
    linear.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    readings = step_once(training, batches)
    assert inside == [torch.bfloat16]
    assert {value.dtype for value in readings.values()} == {torch.float32}
    assert {p.dtype for network in training.networks.values() for p in network.parameters()} == {torch.float32}
    exact, batches = prepare(*BEGAN)
    close = step_once(exact, batches)
    for name in ("energy/real", "energy/fake"):
        assert readings[name] != close[name]
        torch.testing.assert_close(readings[name], close[name], rtol=0.02, atol=0.0)
        assert readings[name] != readings[name].bfloat16(), "the mean over pixels is taken in fp32"


def test_in_bf16_an_update_rounds_each_weight_once_for_all_its_passes():
    training, batches = prepare("began", [], PICTURES | {"precision": "bf16", "set": SMALL, "losses": {}})
    weights = {p.data_ptr(): name for name, net in training.networks.items() for p in net.parameters()}
    rounded = dict.fromkeys(weights, 0)

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in rounded:
                rounded[args[0].data_ptr()] += 1
            return func(*args, **(kwargs or {}))

    with Count():
        step_once(training, batches)
    assert set(rounded.values()) <= {0, 1}  # 0: a batch normalisation's, which stays in float32
    assert {name for at, name in weights.items() if rounded[at]} == {"generator", "discriminator", "critic"}


def test_in_bf16_a_look_without_gradient_takes_none_from_the_weights(monkeypatch):
    """Autocast keeps the rounded weights, and a model may run a network for its own eyes first."""

    def trained() -> dict[str, Tensor]:
        training, batches = prepare("ebgan", [], PICTURES | {"precision": "bf16", "set": SMALL})
        step_once(training, batches)
        networks = training.networks.items()
        return {name: p for network, module in networks for name, p in module.named_parameters(prefix=network)}

    plain, model = trained(), type(prepare(*EBGAN)[0].model)
    losses = model.losses

    def looking(self: Any, step: Any) -> Any:
        with torch.no_grad():
            step.networks["discriminator"](step.networks["generator"](step.noise))
        return losses(self, step)

    monkeypatch.setattr(model, "losses", looking)
    assert same(trained(), plain)
