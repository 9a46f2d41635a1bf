"""The gradients of one whole update, in double precision, against two computations that are independent of the loop.

Central differences of a loss that is written out again here, and a textbook's two backward passes, each on a
fresh forward pass. The pictures are 16×16, n = 4, N_z = 4, the batch 2.

L1, the hinge and the leaky units have kinks, where a difference means nothing. None is stepped over: every |·|, hinge
and unit reports its sign at both ends, and a step that changes one is made smaller until it changes none.
"""

from __future__ import annotations

import copy
import functools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step import BARE, Calls, distance, gradient_of, prepare
from torch import Tensor, nn

from gankit.training.loop import update

sys.path.insert(0, str(ROOT / "benchmarks"))
import reference

PICTURES = {
    **{"data": "demo:120", "image_size": 16, "batch_size": 4, "precision": "fp32", "steps": 0},
    "losses": BARE,  # the models' own equations alone
}
SMALL = {"filters": 4, "latent": 4}
PULL_AWAY = 0.3
CASES: dict[str, tuple[str, dict[str, Any], float]] = {  # model, settings, the knob: k or the margin
    "BEGAN": ("began", {"skip_connections": False}, 0.4),
    "BEGAN with skip connections": ("began", {"skip_connections": True}, 0.4),
    "BEGAN with vanishing residuals": ("began", {"skip_connections": False, "vanishing_residuals": True}, 0.4),
    "BEGAN with both": ("began", {"skip_connections": True, "vanishing_residuals": True}, 0.4),
    "BEGAN with the squared error": ("began", {"skip_connections": True, "eta": 2}, 0.4),
    "BEGAN at k = 0": ("began", {"skip_connections": True}, 0.0),
    "BEGAN on the quick networks": ("began", {"networks": "strided-autoencoder"}, 0.4),
    "EBGAN, norm": ("ebgan", {"energy": "norm", "pull_away": PULL_AWAY}, 100.0),
    "EBGAN, rms": ("ebgan", {"energy": "rms", "pull_away": PULL_AWAY}, 100.0),
    "EBGAN, mse": ("ebgan", {"energy": "mse", "pull_away": PULL_AWAY}, 100.0),
    "EBGAN, norm, hinge off": ("ebgan", {"energy": "norm", "pull_away": PULL_AWAY}, 1e-6),
    "EBGAN, rms, hinge off": ("ebgan", {"energy": "rms", "pull_away": PULL_AWAY}, 1e-6),
    "EBGAN, mse, hinge off": ("ebgan", {"energy": "mse", "pull_away": PULL_AWAY}, 1e-6),
    "EBGAN without pulling-away": ("ebgan", {"pull_away": 0}, 100.0),
}
cases = pytest.mark.parametrize("case", CASES)
both_orders = pytest.mark.parametrize("updates", ["simultaneous", "alternating"])


@pytest.fixture(autouse=True)
def _double_on_one_thread() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@dataclass
class Updated:
    """One step's updates by the runner, with a rate of 0 so that no weight moves, and what went into them."""

    networks: dict[str, nn.Module]
    real: dict[str, Tensor]  # by the updated network
    noise: dict[str, Tensor]
    gradients: dict[str, Tensor]


@functools.cache
def updated(case: str, updates: str, larger: str | None = None) -> Updated:
    """`larger` names a network whose loss is multiplied by ten."""
    model, settings, knob = CASES[case]
    torch.set_default_dtype(torch.float32)
    paper = {"edges": 0} if model == "began" else {}
    if settings.get("networks") == "strided-autoencoder":
        paper |= {"strided-autoencoder.output": "linear"}  # a clamp has kinks that nobody reports here
    training, batches = prepare(model, [], PICTURES, set=SMALL | settings | paper | {"updates": updates})
    torch.set_default_dtype(torch.float64)
    for network in training.networks.values():
        network.double()
    for part in training.paced:
        part.at_step(4001)  # carry 0.75
    training.optimizers = {name: torch.optim.SGD(n.parameters(), lr=0.0) for name, n in training.networks.items()}
    knobs = {name: torch.tensor(0.0) for name in training.knobs()} | {"k": torch.tensor(knob)}
    knobs["margin"] = knobs["k"]
    if larger:
        losses_of = training.model.losses

        def scaled(step: Any) -> Any:
            losses = losses_of(step)
            if larger in losses.by_network:
                losses.by_network[larger] = 10 * losses.by_network[larger]
            return losses

        training.model.losses = scaled  # type: ignore[method-assign]

    def in_double(number: int, which: int) -> tuple[Tensor, None]:
        return batches(number, which)[0].double(), None

    at, calls = copy.deepcopy(training.networks), Calls(training)
    real, noise = {}, {}
    for which, names in enumerate(training.model.updates):
        update(training, in_double, 1, which, knobs)  # type: ignore[arg-type]
        real |= dict.fromkeys(names, in_double(1, which)[0])
        noise |= dict.fromkeys(names, calls.of("generator")[which][0])
    gradients = {name: gradient_of(network) for name, network in training.networks.items()}
    for name, network in training.networks.items():
        assert all(map(torch.equal, network.parameters(), at[name].parameters())), "no weight has moved"
        assert gradients[name].dtype == torch.float64
        assert gradients[name].numel() == sum(p.numel() for p in network.parameters())
    return Updated(at, real, noise, gradients)


# The losses once more, from the networks alone.


class Losses:
    """L_D and L_G of a case, written out from the papers; `signs` collects the side of each kink."""

    def __init__(self, case: str, made: Updated) -> None:
        self.model, settings, self.knob = CASES[case]
        self.settings = {"eta": 1, "energy": "rms", "pull_away": 0.0} | settings
        self.networks = copy.deepcopy(made.networks)
        self.G, self.D = self.networks["generator"], self.networks["discriminator"]
        self.signs: list[Tensor] = []
        self.slope: float | None = None
        for network in self.networks.values():
            for module in network.modules():
                if isinstance(module, nn.ReLU | nn.LeakyReLU):
                    module.register_forward_pre_hook(lambda _, inputs: self.signs.append(inputs[0].detach() > 0))

    def energy(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's mean energy, and its codes."""
        judged = self.D(v)
        error = (v - judged.output).reshape(len(v), -1)
        numbers = error.shape[1]
        if self.model == "began":
            self.signs.append(error.detach() > 0)
            return (error.abs() ** self.settings["eta"]).sum(1).div(numbers).mean(), judged.code
        norm = (error**2).sum(1).sqrt()
        in_units = {"norm": norm, "rms": norm / math.sqrt(numbers), "mse": norm**2 / numbers}
        return in_units[self.settings["energy"]].mean(), judged.code

    def discriminator(self, x: Tensor, fake: Tensor) -> Tensor:
        real_energy, fake_energy = self.energy(x)[0], self.energy(fake)[0]
        if self.model == "began":
            return real_energy - self.knob * fake_energy
        return real_energy + (self.knob - fake_energy if fake_energy < self.knob else 0.0)

    def generator(self, fake: Tensor) -> Tensor:
        energy, S = self.energy(fake)
        if not self.settings["pull_away"]:
            return energy
        if self.slope is None:  # the term's weight is a number, not a way for the gradient: held while we differ
            numbers = fake[0].numel()
            mse = 2 * math.sqrt(float(energy.detach()) / numbers)
            self.slope = {"norm": 1.0, "rms": 1 / math.sqrt(numbers), "mse": mse}[self.settings["energy"]]
        N, total = len(S), torch.zeros(())
        for i in range(N):
            for j in range(N):
                if i != j:
                    total = total + (S[i] @ S[j] / (S[i].norm() * S[j].norm())) ** 2
        return energy + self.settings["pull_away"] * self.slope * total / (N * (N - 1))

    def of(self, network: str, made: Updated) -> Callable[[], Tensor]:
        """The loss of one network as the papers write it, from a fresh forward pass."""
        x, z = made.real[network], made.noise[network]
        if network == "generator":
            return lambda: self.generator(self.G(z))
        return lambda: self.discriminator(x, self.G(z).detach())


# (a) Central differences.


@torch.no_grad()
def difference(
    losses: Losses, loss: Callable[[], Tensor], weights: list[Tensor], way: list[Tensor]
) -> tuple[float, float]:
    """The slope of the loss along a way, by a step that crosses no kink; and what rounding can have added to it."""
    before = [weight.clone() for weight in weights]

    def at(distance: float) -> tuple[float, list[Tensor]]:
        for weight, start, direction in zip(weights, before, way, strict=True):
            weight.copy_(start + distance * direction)
        losses.signs.clear()
        return float(loss()), list(losses.signs)

    step = 2e-5
    while True:
        (above, signs), (below, others) = at(step), at(-step)
        if all(map(torch.equal, signs, others)):
            break
        step /= 4
        assert step > 1e-8, "a kink lies at the weights themselves"
    at(0.0)
    return (above - below) / (2 * step), 4 * np.finfo(float).eps * abs(above) / step


@cases
@both_orders
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_gradient_is_the_slope_of_its_network_s_loss(case, updates, network):
    """Along two random ways through all weights; and for every tensor along a random one, and in one coordinate."""
    made = updated(case, updates)
    losses = Losses(case, made)
    loss = losses.of(network, made)
    loss()  # fixes the slope
    parameters = [p.detach() for p in losses.networks[network].parameters()]
    pieces = made.gradients[network].split([p.numel() for p in parameters])
    gradients = [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
    rng = torch.Generator().manual_seed(0)

    def check(places: list[int], way: list[Tensor]) -> None:
        expected = sum(float((gradients[place] * w).sum()) for place, w in zip(places, way, strict=True))
        got, rounding = difference(losses, loss, [parameters[place] for place in places], way)
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-9 + rounding)

    def random(place: int) -> Tensor:
        way = torch.randn(parameters[place].shape, generator=rng)
        return way / way.norm()

    everywhere = list(range(len(parameters)))
    for _ in range(2):
        check(everywhere, [random(place) for place in everywhere])
    if updates == "alternating" and case not in ("BEGAN with both", "EBGAN, rms"):
        return  # the same losses on another batch: two ways are enough
    for place in everywhere:
        check([place], [random(place)])
        single = torch.zeros(parameters[place].numel())
        single[gradients[place].flatten().abs().argmax()] = 1
        check([place], [single.view(parameters[place].shape)])


# (b) Two backward passes.


@cases
@both_orders
def test_a_gradient_is_that_of_a_backward_pass_of_its_own(case, updates):
    made = updated(case, updates)
    losses = Losses(case, made)
    for network in ("discriminator", "generator"):
        for each in losses.networks.values():
            each.zero_grad()
        losses.of(network, made)().backward()
        assert distance(made.gradients[network], gradient_of(losses.networks[network])) < 1e-10


# (c) No network receives another's gradient.


@cases
@both_orders
def test_a_network_s_gradient_does_not_change_when_the_other_s_loss_grows_tenfold(case, updates):
    plain = updated(case, updates).gradients
    for network, other in (("generator", "discriminator"), ("discriminator", "generator")):
        scaled = updated(case, updates, larger=network).gradients
        assert torch.equal(scaled[other], plain[other])
        assert distance(scaled[network], 10 * plain[network]) < 1e-12


def test_with_the_hinge_off_the_discriminator_learns_from_real_pictures_alone():
    on, off = (updated(case, "simultaneous") for case in ("EBGAN, rms", "EBGAN, rms, hinge off"))
    losses = Losses("EBGAN, rms", off)
    losses.energy(off.real["discriminator"])[0].backward()
    real_alone = gradient_of(losses.D)
    assert distance(off.gradients["discriminator"], real_alone) < 1e-10
    assert distance(on.gradients["discriminator"], real_alone) > 0.1


@given(
    size=st.sampled_from([16, 32]),
    n=st.sampled_from([4, 8, 32]),  # from 32 on the decoders up-sample and convolve at once
    batch=st.integers(1, 4),
    k=st.floats(0, 1),
    gamma=st.floats(0.1, 1),
    seed=st.integers(0, 1_000),
)
@settings(deadline=None, max_examples=25)
def test_a_quick_step_has_the_losses_and_gradients_of_one_written_plainly(size, n, batch, k, gamma, seed):
    """In fp32, to 1e-5 of the largest: torch's own layers, layout and ELU, and a backward pass for each loss."""
    torch.set_default_dtype(torch.float32)
    training, batches = prepare(
        "began",
        [],
        PICTURES | {"image_size": size, "batch_size": batch, "seed": seed},
        set={"networks": "began-autoencoder", "latent": reference.LATENT, "filters": n, "gamma": gamma, "edges": 0},
    )
    training.optimizers = {name: torch.optim.SGD(w.parameters(), lr=0.0) for name, w in training.networks.items()}
    calls, knobs = Calls(training), {name: torch.tensor(0.0) for name in training.knobs()} | {"k": torch.tensor(k)}
    readings = update(training, batches, 1, 0, knobs)

    real, fake_of = batches(1, 0)[0].contiguous(), calls.of("generator")[0][0]
    generator, discriminator = reference.written_plainly(training.networks, size, n)
    fake = generator(fake_of)
    loss_g = (fake - discriminator(fake)).abs().mean()
    loss_d = (real - discriminator(real)).abs().mean() - k * (fake.detach() - discriminator(fake.detach())).abs().mean()
    for name, plain, loss in (("generator", generator, loss_g), ("discriminator", discriminator, loss_d)):
        assert float(readings[f"loss/{name}"]) == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
        weights = dict(plain.named_parameters())
        expected = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        largest = max(float(slope.abs().max()) for slope in expected.values())
        got = dict(training.networks[name].named_parameters())
        for weight, slope in expected.items():
            torch.testing.assert_close(got[reference.name_of(weight)].grad, slope, rtol=0, atol=1e-5 * largest)
