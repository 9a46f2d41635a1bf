"""The mistakes of others, planted one by one.

For each there is a promise: a check of the piece that is easy to get wrong. gankit's own piece keeps it, and the
mistaken one, planted here as a public implementation has it, breaks it. The names of those were read in their files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gankit_began.balance import Balance, Halving
from gankit_began.model import BEGAN
from gankit_began.networks import reconstruction_error
from gankit_ebgan.model import EBGAN
from gankit_ebgan.pulling_away import PullingAway, pulling_away
from scipy.stats import kstest
from test_step import PICTURES, SMALL, Calls, distance, gradient_of, naive, prepare
from torch import Tensor

from gankit import Judged, Losses, Step
from gankit.data.batches import Batches
from gankit.runner import step_once
from gankit.training import Training


class BrokenPromise(AssertionError):
    """Only `promised` raises it, so that a planted piece which merely crashes is not taken for one that is caught."""


def promised(kept: Any, words: str) -> None:
    if not kept:
        raise BrokenPromise(words)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(model: type, **settings: Any) -> Any:
    return model(model.Settings(**SMALL | settings), (3, 16, 16))


# Each network follows its own loss.


def each_network_follows_its_own_loss(losses: Callable[[BEGAN, Step], Losses]) -> None:
    training, batches = prepare("began", [], PICTURES, set=SMALL)
    training.controllers["balance"].k.fill_(0.4)
    at, calls = copy.deepcopy(training.networks), Calls(training)
    training.model.losses = partial(losses, training.model)  # type: ignore[method-assign]
    step_once(training, batches)
    truth = naive(at, batches(1, 0)[0], calls.of("generator")[0][0], k=0.4)
    for name, network in training.networks.items():
        promised(distance(gradient_of(network).double(), truth[name]) < 1e-4, f"{name}: its own gradient")


def summed_with_one_backward(model: BEGAN, step: Step) -> Losses:
    losses = BEGAN.losses(model, step)
    losses.by_network["discriminator"] = step.energy_real - step.knobs["k"] * step.energy_fake + step.energy_fake
    return losses


def not_detached(model: BEGAN, step: Step) -> Losses:
    losses = BEGAN.losses(model, step)
    losses.by_network["generator"] = step.energy_fake - step.knobs["k"] * step.energy_fake
    return losses


def fake_as_real(model: BEGAN, step: Step) -> Losses:
    losses = BEGAN.losses(model, step)
    losses.by_network["discriminator"] = step.energy_fake - step.knobs["k"] * step.energy_fake
    return losses


# The pulling-away term.

Term = Callable[[Tensor], Tensor]


def the_term_is_the_paper_s(term: Term) -> None:
    S = np.random.default_rng(0).normal(size=(6, 3))
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    cosines = [S[i] @ S[j] / np.linalg.norm(S[i]) / np.linalg.norm(S[j]) for i, j in pairs]
    promised(abs(float(term(torch.tensor(S))) - np.square(cosines).mean()) < 1e-9, "the mean squared cosine of pairs")


def unsquared(embeddings: Tensor) -> Tensor:
    norm = embeddings.square().sum(-1, keepdim=True).sqrt()
    similarity = (embeddings / norm) @ (embeddings / norm).T
    n = len(embeddings)
    return (similarity.sum() - n) / (n * (n - 1))


def over_the_batch_axis(codes: Tensor) -> Tensor:
    n = len(codes)
    similarity = F.normalize(codes, dim=0) @ F.normalize(codes, dim=0).T
    return (similarity.square() * (1 - torch.eye(n))).sum() / (n * (n - 1))


def with_its_diagonal(codes: Tensor) -> Tensor:
    n = len(codes)
    return (F.normalize(codes) @ F.normalize(codes).T).square().sum() / (n * (n - 1))


def as_torchgan_has_it(codes: Tensor) -> Tensor:
    n = len(codes)
    return (F.normalize(codes, dim=0) @ F.normalize(codes, dim=0).T).square().sum() / (n * (n - 1))


def by_all_n_squared_pairs(codes: Tensor) -> Tensor:
    n = len(codes)
    return pulling_away(codes) * (n * (n - 1)) / n**2


def the_term_looks_at_codes(term: Callable[[Step], Tensor]) -> None:
    _, step = a_step()
    codes = step.networks["discriminator"](step.fake).code
    promised(torch.allclose(term(step), pulling_away(codes)), "f_PT of Enc(G(z))")


def ebgan_s_own(step: Step) -> Tensor:
    return small(EBGAN).losses(step).readings["ebgan/pull-away"]


def on_pixels(step: Step) -> Tensor:
    return pulling_away(step.fake.flatten(1))


def a_step(**settings: Any) -> tuple[EBGAN, Step]:
    """EBGAN's first step, before any update."""
    training, batches = prepare("ebgan", [], PICTURES, set=SMALL | settings)
    torch.manual_seed(0)
    real, _ = batches(1, 0)
    noise = training.model.latents(len(real), training.device)
    knobs = training.knobs()
    step = Step(training.model, 1, ("discriminator",), real, None, noise, training.asked(), knobs, training.view)
    return training.model, step  # type: ignore[return-value]


# The hinge and its margin.


def the_hinge_is_on_the_batch_s_energy(losses: Callable[[EBGAN, Step], Losses]) -> None:
    for energy in ("norm", "rms", "mse"):
        model, step = a_step(energy=energy)
        assert step.judged_fake.energy is not None
        each = step.judged_fake.energy.detach()
        for margin in (0.5 * each.min(), each.mean(), 0.5 * (each.mean() + each.max()), 2 * each.max()):
            step.knobs = {"margin": margin}
            expected = step.energy_real + max(0.0, float(margin - each.mean()))
            got = losses(model, step).by_network["discriminator"]
            promised(torch.allclose(got, expected), f"{energy}: D(x) + [m − D(G(z))]⁺ at m = {float(margin):.3g}")


def hinged(value: Callable[[Step], Tensor]) -> Callable[[EBGAN, Step], Losses]:
    return lambda model, step: Losses({"discriminator": step.energy_real + value(step)})


def per_pixel(step: Step) -> Tensor:
    error = (step.judged_fake.output - step.seen_fake).square()
    return F.relu(step.knobs["margin"] - error).mean()


def per_image(step: Step) -> Tensor:
    return F.relu(step.knobs["margin"] - step.judged_fake.energy).mean()


def no_hinge(step: Step) -> Tensor:
    return step.knobs["margin"] - step.energy_fake


def the_margin_is_of_the_size_of_the_real_energy_and_the_hinge_lets_go(margin: str | float) -> None:
    """On a real training, in every unit: on from the second step, when an energy has been seen, and off at times."""
    for energy in ("mse", "rms", "norm"):
        settings = SMALL | {"energy": energy, "margin": margin, "margin.memory": 10, "learning_rate": 1e-3}
        training, batches = prepare("ebgan", [], PICTURES, set=settings)
        readings = [step_once(training, batches) for _ in range(2)]
        m, real = readings[-1]["ebgan/margin"], readings[-1]["energy/real"]
        promised(real < m < 2 * real, f"{energy}: m is one to two real energies")
        readings += [step_once(training, batches) for _ in range(78)]
        on = [bool(r["energy/fake"] < r["ebgan/margin"]) for r in readings]
        promised(all(on[1:10]), f"{energy}: the hinge is on at first")
        promised(not all(on), f"{energy}: the hinge is off at some time")


# k.


def k_stays_in_0_to_1(controller: type[Balance]) -> None:
    made = controller(controller.Options(lambda_k=0.1), small(BEGAN))
    for number, balance in enumerate([-3.0] * 4 + [3.0] * 10 + [-3.0] * 10, 1):
        made.update(number, {"began/balance": torch.tensor(balance)})
        promised(0 <= float(made.value("k")) <= 1, f"k in [0, 1] after a balance of {balance}")


class Unclipped(Balance):
    def update(self, number: int, readings: Any) -> None:
        self.k.add_(readings["began/balance"], alpha=self.options.lambda_k)


class ClippedBeforeTheIncrement(Balance):
    def update(self, number: int, readings: Any) -> None:
        self.k.clamp_(0, 1).add_(readings["began/balance"], alpha=self.options.lambda_k)


def a_k_that_is_no_number_shows(controller: type[Balance]) -> None:
    made = controller(controller.Options(), small(BEGAN))
    for number, balance in enumerate((1.0, float("nan"), 1.0), 1):
        made.update(number, {"began/balance": torch.tensor(balance)})
    promised(made.value("k").isnan(), "a NaN stays one")


class HiddenByMinAndMax(Balance):
    def update(self, number: int, readings: Any) -> None:
        k = float(self.k + self.options.lambda_k * readings["began/balance"])
        self.k.fill_(max(min(1, k), 0))  # min(1, nan) is 1


Energy = Callable[[Tensor, Judged], Tensor]


def k_is_not_decided_by_the_number_of_pixels(energy: Energy) -> None:
    """With equal errors of a pixel k is the same at every size, and takes hundreds of steps to its bound."""
    ks = []
    for size in (16, 64):
        rng, made = torch.Generator().manual_seed(0), Balance(Balance.Options(), small(BEGAN))
        for number in range(1, 51):
            real, fake = (
                energy(torch.zeros(4, 3, size, size), Judged(scale * torch.randn(4, 3, size, size, generator=rng)))
                for scale in (0.5, 0.1)
            )
            made.update(number, {"began/balance": 0.5 * real.mean() - fake.mean()})
        ks.append(float(made.value("k")))
    promised(0 < max(ks) < 0.1, "k is far from its bound after 50 steps")
    promised(abs(ks[0] / ks[1] - 1) < 0.05, "k is the same at 16×16 and 64×64")


def summed(seen: Tensor, judged: Judged) -> Tensor:
    return (seen - judged.output).abs().flatten(1).sum(1)


# The learning rate.

Stepping = Callable[[Training, Batches], dict[str, Tensor]]


def a_halving_leaves_adam_s_moments(step: Stepping) -> None:
    """A real training, where M_global's first rise is a stall."""
    halving = {"halving.window": 1, "halving.patience": 1, "halving.floor": 0.0, "learning_rate": 8e-3}
    training, batches = prepare("began", [], PICTURES, set=SMALL | halving)
    weights = {name: next(network.parameters()) for name, network in training.networks.items()}
    (beta, _), rates, seen = training.model.settings.betas, [], {name: torch.zeros(()) for name in weights}
    for number in range(1, 41):
        rates.append(float(step(training, batches)["learning_rate/generator"]))
        for name, weight in weights.items():
            state = training.optimizers[name].state[weight]
            assert weight.grad is not None
            seen[name] = beta * seen[name] + (1 - beta) * weight.grad
            promised("exp_avg" in state, f"step {number}: Adam has its moments")
            promised(torch.allclose(state["exp_avg"], seen[name], rtol=1e-4, atol=1e-9), "the mean of all gradients")
            promised(int(state["step"]) == number, "the count of all steps")
    if rates[-1] == rates[0]:
        raise RuntimeError("no halving in this training: it shows nothing")


def a_new_adam_at_each_halving(training: Training, batches: Batches) -> dict[str, Tensor]:
    readings = step_once(training, batches)
    if float(training.knobs()["learning_rate/generator"]) != float(readings["learning_rate/generator"]):
        for name, network in training.networks.items():
            training.optimizers[name] = training.model.optimizer(name, list(network.parameters()))
    return readings


def the_floor_is_a_lower_bound(controller: type[Halving]) -> None:
    made = controller(controller.Options(window=1, patience=1, floor=2e-5), small(BEGAN))
    rates = []
    for number in range(1, 12):
        made.update(number, {"began/convergence": torch.tensor(1.0)})
        rates.append(float(made.value("learning_rate/generator")))
    promised(min(rates) == pytest.approx(2e-5), "never below the floor")
    promised(sorted(set(rates))[-2] == pytest.approx(5e-5), "the first decay is a half")


class FlooredByMin(Halving):
    def value(self, knob: str) -> Tensor:
        initial = self.initial[knob]
        return torch.where(self.scale < 1, (self.scale * initial).clamp(max=2e-6), initial * self.scale)


# Latents.

Draw = Callable[[int, torch.device], Tensor]


def latents_are_uniform_in_minus_1_to_1(draw: Draw) -> None:
    torch.manual_seed(0)
    z = draw(800, torch.device("cpu"))
    assert z.shape == (800, 8)
    promised(kstest(z.flatten().numpy(), "uniform", args=(-1, 2)).pvalue > 0.01, "U[−1, 1]")
    promised(abs(np.corrcoef(z.T.numpy()) - np.eye(8)).max() < 0.15, "and independent")


def gaussian(n: int, device: torch.device) -> Tensor:
    return torch.randn(n, 8, device=device)


def from_0_to_1(n: int, device: torch.device) -> Tensor:
    return torch.rand(n, 8, device=device)


# The table. Who has it: as read in their files; several have more than one.

MISTAKES: dict[str, tuple[Callable[[Any], None], Any, Any]] = {
    # mistake: promise, our piece, theirs
    "losses summed, one backward (carpedm20/BEGAN-pytorch)": (
        each_network_follows_its_own_loss,
        BEGAN.losses,
        summed_with_one_backward,
    ),
    "the generator follows −k L(G(z)) too": (each_network_follows_its_own_loss, BEGAN.losses, not_detached),
    "fakes shown as real (sunshineatnoon, before 574deb3)": (
        each_network_follows_its_own_loss,
        BEGAN.losses,
        fake_as_real,
    ),
    "pulling-away unsquared (eriklindernoren/PyTorch-GAN, shekkizh/EBGAN.tensorflow)": (
        the_term_is_the_paper_s,
        pulling_away,
        unsquared,
    ),
    "pulling-away normalised over the batch axis (torchgan)": (
        the_term_is_the_paper_s,
        pulling_away,
        over_the_batch_axis,
    ),
    "pulling-away with its diagonal (torchgan)": (the_term_is_the_paper_s, pulling_away, with_its_diagonal),
    "pulling-away with both (torchgan)": (the_term_is_the_paper_s, pulling_away, as_torchgan_has_it),
    "pulling-away's denominator (HyperGAN, buriburisuri/ebgan)": (
        the_term_is_the_paper_s,
        pulling_away,
        by_all_n_squared_pairs,
    ),
    "pulling-away on pixels (buriburisuri/ebgan), in EBGAN": (the_term_looks_at_codes, ebgan_s_own, on_pixels),
    "pulling-away on pixels (buriburisuri/ebgan), as a term": (
        the_term_looks_at_codes,
        PullingAway(PullingAway.Options()),
        on_pixels,
    ),
    "a hinge on each pixel (buriburisuri/ebgan)": (
        the_hinge_is_on_the_batch_s_energy,
        EBGAN.losses,
        hinged(per_pixel),
    ),
    "a hinge on each image": (the_hinge_is_on_the_batch_s_energy, EBGAN.losses, hinged(per_image)),
    "no hinge (shekkizh/EBGAN.tensorflow)": (the_hinge_is_on_the_batch_s_energy, EBGAN.losses, hinged(no_hinge)),
    "a margin of 20 far above any energy (1Konny/EBGAN-pytorch)": (
        the_margin_is_of_the_size_of_the_real_energy_and_the_hinge_lets_go,
        "auto",
        20.0,
    ),
    "k unclipped (tensorpack)": (k_stays_in_0_to_1, Balance, Unclipped),
    "k clipped before the increment (rcalland/chainer-BEGAN)": (k_stays_in_0_to_1, Balance, ClippedBeforeTheIncrement),
    "a NaN of k hidden by the clamp": (a_k_that_is_no_number_shows, Balance, HiddenByMinAndMax),
    "k under a summed loss (artcg/BEGAN)": (k_is_not_decided_by_the_number_of_pixels, reconstruction_error, summed),
    "Adam's moments lost at a halving (carpedm20/BEGAN-pytorch)": (
        a_halving_leaves_adam_s_moments,
        step_once,
        a_new_adam_at_each_halving,
    ),
    "min() as a floor of the rate (anantzoid/BEGAN-pytorch)": (the_floor_is_a_lower_bound, Halving, FlooredByMin),
    "Gaussian latents (carpedm20/BEGAN-pytorch, eriklindernoren/PyTorch-GAN, artcg/BEGAN)": (
        latents_are_uniform_in_minus_1_to_1,
        small(BEGAN).latents,
        gaussian,
    ),
    "latents from [0, 1) (buriburisuri/ebgan)": (
        latents_are_uniform_in_minus_1_to_1,
        small(EBGAN).latents,
        from_0_to_1,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_others_is_not_made_here_and_would_be_noticed(mistake):
    promise, ours, theirs = MISTAKES[mistake]
    promise(ours)
    with pytest.raises(BrokenPromise):
        promise(theirs)
