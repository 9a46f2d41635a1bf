"""Known mistakes of other implementations, planted one by one.

For each there is a promise: a check of a part that is easy to get wrong. gankit's own part passes it; the mistaken
part, copied from a public implementation, fails it. The names of the implementations come from their files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gankit_began.balance import Balance, Halving
from gankit_began.model import BEGAN
from gankit_began.networks import BeganAutoencoder, reconstruction_error
from gankit_ebgan.model import EBGAN
from gankit_ebgan.pulling_away import PullingAway, pulling_away
from scipy.stats import kstest
from test_step import PICTURES, PLAIN, SMALL, Calls, distance, gradient_of, naive, prepare
from torch import Tensor, nn

from gankit import Judged, Losses, NetworkPair, Step
from gankit.builtin.networks import StridedAutoencoder
from gankit.data.batches import Batches
from gankit.training.loop import step_once
from gankit.training.state import Training


class BrokenPromise(AssertionError):
    """Only `promised` raises it, so that a crash of a planted part does not count as a caught mistake."""


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


Stepping = Callable[[Training, Batches], dict[str, Tensor]]


def gradients_of_a_step(step: Stepping) -> tuple[dict[str, Tensor], Callable[[float], dict[str, Tensor]]]:
    """Each network's gradient after a step of BEGAN with k = 0.4, and the textbook gradient for a k."""
    training, batches = prepare("began", [], PICTURES, set=PLAIN)
    training.controllers["balance"].k.fill_(0.4)
    at, calls = copy.deepcopy(training.networks), Calls(training)
    step(training, batches)
    taken = {name: gradient_of(network).double() for name, network in training.networks.items()}
    return taken, lambda k: naive(at, batches(1, 0)[0], calls.of("generator")[0][0], k=k)


def each_network_follows_its_own_loss(step: Stepping) -> None:
    taken, truth = gradients_of_a_step(step)
    for name, expected in truth(0.4).items():
        promised(distance(taken[name], expected) < 1e-4, f"{name}: its own gradient")


def one_backward(training: Training, batches: Batches, detached: bool) -> dict[str, Tensor]:
    """Both losses summed, one backward over both networks, and each optimizer applies the gradients present."""
    model, knobs, (real, _) = training.model, training.knobs(), batches(1, 0)
    noise = model.latents(len(real), training.device)
    for_G, for_D = (
        Step(model, 1, ("generator", "discriminator"), real, None, noise, training.callables(), knobs, training.view)
        for _ in range(2)
    )
    for_D.__dict__["fake"] = for_G.fake.detach() if detached else for_G.fake
    losses = model.losses(for_G), model.losses(for_D)
    (losses[0].by_network["generator"] + losses[1].by_network["discriminator"]).backward()
    for optimizer in training.optimizers.values():
        optimizer.step()
    return losses[0].readings


summed_with_one_backward = partial(one_backward, detached=True)


def with_losses(losses: Callable[[Any, Step], Losses]) -> Stepping:
    def step(training: Training, batches: Batches) -> dict[str, Tensor]:
        training.model.losses = partial(losses, training.model)  # type: ignore[method-assign]
        return step_once(training, batches)

    return step


def test_one_backward_over_both_losses_teaches_the_discriminator_to_reconstruct_fakes():
    """Its gradient is that of L(x) + (1 − k) L(G(z)), of k − 1 in the place of k."""
    taken, truth = gradients_of_a_step(summed_with_one_backward)
    assert distance(taken["discriminator"], truth(0.4 - 1)["discriminator"]) < 1e-4
    assert distance(taken["generator"], truth(0.4)["generator"]) < 1e-4
    taken, truth = gradients_of_a_step(partial(one_backward, detached=False))
    assert distance(taken["discriminator"], truth(0.4 - 1)["discriminator"]) < 1e-4
    assert distance(taken["generator"], 0.6 * truth(0.4)["generator"]) < 1e-4


def not_detached(model: BEGAN, step: Step) -> Losses:
    losses = BEGAN.losses(model, step)
    losses.by_network["generator"] = step.energy_fake - step.knobs["k"] * step.energy_fake
    return losses


def fake_as_real(model: BEGAN, step: Step) -> Losses:
    losses = BEGAN.losses(model, step)
    losses.by_network["discriminator"] = step.energy_fake - step.knobs["k"] * step.energy_fake
    return losses


def each_network_of_ebgan_follows_its_own_loss(losses: Callable[[EBGAN, Step], Losses]) -> None:
    """In float64, with the hinge on and a weight that makes the term count."""
    training, batches = prepare("ebgan", [], PICTURES, set=SMALL | {"margin": MARGIN, "pull_away": WEIGHT})
    at, calls = copy.deepcopy(training.networks), Calls(training)
    with_losses(losses)(training, batches)
    G, D = (at[name].double() for name in ("generator", "discriminator"))
    x, z = batches(1, 0)[0].double(), calls.of("generator")[0][0].double()

    def energy(v: Tensor) -> Tensor:
        return (D(v).output - v).square().flatten(1).mean(1).sqrt().mean()

    def f_PT(v: Tensor) -> Tensor:
        S = D(v).code
        n = len(S)
        pairs = [F.cosine_similarity(S[i], S[j], dim=0).square() for i in range(n) for j in range(n) if i != j]
        return torch.stack(pairs).mean()

    hinge = MARGIN - energy(G(z).detach())
    assert hinge > 0
    (energy(x) + hinge).backward()
    truth = {"discriminator": gradient_of(D)}
    (energy(G(z)) + WEIGHT * x[0].numel() ** -0.5 * f_PT(G(z))).backward()
    truth["generator"] = gradient_of(G)
    for name, network in training.networks.items():
        promised(distance(gradient_of(network).double(), truth[name]) < 1e-3, f"{name}: its own gradient")


MARGIN, WEIGHT = 4.0, 10.0


def the_term_in_the_discriminator_s_loss(model: EBGAN, step: Step) -> Losses:
    losses = EBGAN.losses(model, step)
    term = losses.by_network["generator"] - step.energy_fake
    return Losses(
        {"discriminator": losses.by_network["discriminator"] + term, "generator": step.energy_fake}, losses.readings
    )


def target_detached(model: EBGAN, step: Step) -> Losses:
    losses = EBGAN.losses(model, step)
    error = (step.judged_fake.output - step.seen_fake.detach()).square().flatten(1).mean(1)
    losses.by_network["generator"] = losses.by_network["generator"] - step.energy_fake + error.sqrt().mean()
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
    step = Step(training.model, 1, ("discriminator",), real, None, noise, training.callables(), knobs, training.view)
    return training.model, step  # type: ignore[return-value]


# The hinge and its margin.


def the_hinge_is_on_each_picture_s_energy(losses: Callable[[EBGAN, Step], Losses]) -> None:
    for energy in ("norm", "rms", "mse"):
        model, step = a_step(energy=energy)
        assert step.judged_fake.energy is not None
        each = step.judged_fake.energy.detach()
        for margin in (0.5 * each.min(), each.mean(), 0.5 * (each.mean() + each.max()), 2 * each.max()):
            step.knobs = {"margin": margin}
            expected = step.energy_real + (margin - each).clamp(min=0).mean()
            got = losses(model, step).by_network["discriminator"]
            promised(
                torch.allclose(got, expected), f"{energy}: D(x) + the mean of [m − D(G(z))]⁺ at m = {float(margin):.3g}"
            )


def hinged(value: Callable[[Step], Tensor]) -> Callable[[EBGAN, Step], Losses]:
    return lambda model, step: Losses({"discriminator": step.energy_real + value(step)})


def per_pixel(step: Step) -> Tensor:
    error = (step.judged_fake.output - step.seen_fake).square()
    return F.relu(step.knobs["margin"] - error).mean()


def no_hinge(step: Step) -> Tensor:
    return step.knobs["margin"] - step.energy_fake


UNITS = ("mse", "rms", "norm")


def trained(energy: str, margin: str | float, steps: int) -> list[dict[str, float]]:
    """The readings of a real training from its second step, when an energy has been seen."""
    settings = SMALL | {"energy": energy, "margin": margin, "margin.memory": 10, "learning_rate": 1e-3}
    training, batches = prepare("ebgan", [], PICTURES, set=settings)
    readings = [step_once(training, batches) for _ in range(steps)][1:]
    return [{name: float(value) for name, value in reading.items()} for reading in readings]


def the_margin_is_of_the_size_of_the_real_energy(energy: str, margin: str | float) -> None:
    (second,) = trained(energy, margin, 2)
    promised(1 < second["ebgan/margin"] / second["energy/real"] < 2, f"{energy}: m is one to two real energies")


def the_hinge_is_on_and_lets_go(energy: str, margin: str | float) -> None:
    on = [reading["energy/fake"] < reading["ebgan/margin"] for reading in trained(energy, margin, 120)]
    if not all(on[:9]):
        raise RuntimeError("the hinge is not on at first: it cannot let go")
    promised(not all(on), f"{energy}: the hinge is off at some time")


# k.


def k_stays_in_0_to_1(controller: type[Balance]) -> None:
    made = controller(controller.Options(), small(BEGAN, lambda_k=0.1))
    for number, balance in enumerate([-3.0] * 4 + [3.0] * 10 + [-3.0] * 10, 1):
        made.update(number, {"began/balance": torch.tensor(balance)})
        promised(0 <= float(made.value("k")) <= 1, f"k in [0, 1] after a balance of {balance}")


class Unclipped(Balance):
    def update(self, number: int, readings: Any) -> None:
        self.k.add_(readings["began/balance"], alpha=self.lambda_k)


class ClippedBeforeTheIncrement(Balance):
    def update(self, number: int, readings: Any) -> None:
        self.k.clamp_(0, 1).add_(readings["began/balance"], alpha=self.lambda_k)


def a_k_that_is_no_number_shows(controller: type[Balance]) -> None:
    made = controller(controller.Options(), small(BEGAN))
    for number, balance in enumerate((1.0, float("nan"), 1.0), 1):
        made.update(number, {"began/balance": torch.tensor(balance)})
    promised(made.value("k").isnan(), "a NaN stays one")


class HiddenByMinAndMax(Balance):
    def update(self, number: int, readings: Any) -> None:
        k = float(self.k + self.lambda_k * readings["began/balance"])
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


@patch("gankit_began.balance.WINDOW", 1)
def a_halving_leaves_adam_s_moments(step: Stepping) -> None:
    """A real training, where M_global's first rise is a stall."""
    halving = {"halving.patience": 1, "halving.floor": 0.0, "learning_rate": 8e-3}
    training, batches = prepare("began", [], PICTURES, set=PLAIN | halving)
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


@patch("gankit_began.balance.WINDOW", 1)
def the_floor_is_a_lower_bound(controller: type[Halving]) -> None:
    made = controller(controller.Options(patience=1, floor=2e-5), small(BEGAN))
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


@patch("gankit_began.balance.WINDOW", 10_000)
def the_rate_follows_m_global(controller: type[Halving]) -> None:
    """It sees every 10,000th step only, each in its own window."""
    options = controller.Options(patience=3, floor=0)
    falling, stalled = controller(options, small(BEGAN)), controller(options, small(BEGAN))
    initial = small(BEGAN).learning_rate("generator")
    for number in range(10_000, 300_001, 10_000):
        falling.update(number, {"began/convergence": torch.tensor(1e4 / number)})
        rate = float(falling.value("learning_rate/generator"))
        promised(rate == pytest.approx(initial), f"kept while M_global falls, at step {number}")
    for number in range(10_000, 60_001, 10_000):
        stalled.update(number, {"began/convergence": torch.tensor(1.0)})
    promised(float(stalled.value("learning_rate/generator")) == pytest.approx(initial / 2), "halved when it stalls")


class EveryHundredThousandSteps(Halving):
    def update(self, number: int, readings: Any) -> None:
        self.scale.fill_(0.5 ** (number // 100_000))


class Exponential(Halving):
    def update(self, number: int, readings: Any) -> None:
        self.scale.fill_(0.95 ** (number / 3_000))


class Constant(Halving):
    def update(self, number: int, readings: Any) -> None:
        pass


# Networks.

Pair = type[NetworkPair]


def built(pair: Pair, size: int = 16) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return pair(pair.Options(**SMALL)).build((3, size, size), (3, size, size))


def what_d_says_of_a_picture_is_of_that_picture_alone(pair: Pair) -> None:
    D, x = built(pair)["discriminator"], torch.randn(6, 3, 16, 16)
    with torch.no_grad():
        among, alone = D(x), D(x[:2])
    for one, other in ((among.output, alone.output), (among.code, alone.code)):
        promised(torch.allclose(one[:2], other, atol=1e-5), "the same whatever else is in the batch")


def normalised(pair: Pair) -> Pair:
    """With batch normalisation after each convolution of the discriminator."""

    class Normalised(pair):  # type: ignore[misc, valid-type]
        def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
            networks = super().build(shape, seen)
            for module in list(networks["discriminator"].modules()):
                for name, layer in list(module.named_children()):
                    if isinstance(layer, nn.Conv2d):
                        setattr(module, name, nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels)))
            return networks

    return Normalised


def the_discriminator_is_a_deep_autoencoder(pair: Pair) -> None:
    for size, halvings in ((16, 1), (32, 2), (64, 3)):
        D, x = built(pair, size)["discriminator"], torch.randn(2, 3, size, size)
        with torch.no_grad():
            promised(D(x).output.shape == x.shape, "it gives a picture back")
        convolutions = [m for m in D.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        # To and from a picture; two at each resolution on the way down (8×8 left out) and on the way up.
        promised(len(convolutions) == 2 + 2 * halvings + 2 * (halvings + 1), f"two at each resolution of {size}")


def with_discriminator(make: Callable[[int], nn.Module]) -> Pair:
    class Other(BeganAutoencoder):
        def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
            return super().build(shape, seen) | {"discriminator": make(shape[1])}

    return Other


class OneConvolution(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        numbers = 64 * (size // 2) ** 2
        self.down = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(numbers, 32))
        self.up = nn.Sequential(
            nn.ReLU(), nn.Linear(32, numbers), nn.ReLU(), nn.Unflatten(1, (64, size // 2, size // 2))
        )
        self.picture = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(64, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Judged:
        code = self.down(x)
        return Judged(self.picture(self.up(code)), code)


class ScalarCritic(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * size**2, 1))

    def forward(self, x: Tensor) -> Judged:
        return Judged(self.layers(x))


def the_output_is_unbounded(pair: Pair) -> None:
    """With a last layer a thousand times larger it leaves the pictures' range on both sides."""
    networks, x = built(pair), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        for network in networks.values():
            [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1].weight.mul_(1000)
        for out in (networks["generator"](torch.rand(4, 8)), networks["discriminator"](x).output):
            promised(out.min() < -2, "below −1")
            promised(out.max() > 2, "above 1")


def ending_in(activation: type[nn.Module], *networks: str) -> Pair:
    class Ending(BeganAutoencoder):
        def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
            made = super().build(shape, seen)
            for name in networks:
                decoder: Any = made[name] if name == "generator" else made[name].decoder
                decoder.picture = nn.Sequential(decoder.picture, activation())
            return made

    return Ending


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


# The table of mistakes and the projects that have them, from their files; some have several.
# That a resume goes on with k is in test_resume.py; skip connections and vanishing residuals are in test_began.py.

MISTAKES: dict[str, tuple[Callable[[Any], None], Any, Any]] = {
    # mistake: promise, our piece, theirs
    "losses summed, one backward (carpedm20/BEGAN-pytorch)": (
        each_network_follows_its_own_loss,
        step_once,
        summed_with_one_backward,
    ),
    "the generator follows −k L(G(z)) too": (
        each_network_follows_its_own_loss,
        step_once,
        with_losses(not_detached),
    ),
    "fakes shown as real (sunshineatnoon, before 574deb3)": (
        each_network_follows_its_own_loss,
        step_once,
        with_losses(fake_as_real),
    ),
    "pulling-away in the discriminator's loss (HyperGAN)": (
        each_network_of_ebgan_follows_its_own_loss,
        EBGAN.losses,
        the_term_in_the_discriminator_s_loss,
    ),
    "the generator's target detached (eriklindernoren/PyTorch-GAN)": (
        each_network_of_ebgan_follows_its_own_loss,
        EBGAN.losses,
        target_detached,
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
        the_hinge_is_on_each_picture_s_energy,
        EBGAN.losses,
        hinged(per_pixel),
    ),
    "no hinge (shekkizh/EBGAN.tensorflow)": (the_hinge_is_on_each_picture_s_energy, EBGAN.losses, hinged(no_hinge)),
    **{
        f"a margin of 20 whatever the energy (1Konny/EBGAN-pytorch), {energy}": (
            partial(the_margin_is_of_the_size_of_the_real_energy, energy),
            "auto",
            20.0,
        )
        for energy in UNITS
    },
    **{  # our outputs are unbounded, so that it takes more than 20
        f"a margin far above any energy, {energy}": (partial(the_hinge_is_on_and_lets_go, energy), "auto", 1e6)
        for energy in UNITS
    },
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
    "the rate halved every 100,000 steps (carpedm20/BEGAN-tensorflow)": (
        the_rate_follows_m_global,
        Halving,
        EveryHundredThousandSteps,
    ),
    "an exponential rate (anantzoid/BEGAN-pytorch)": (the_rate_follows_m_global, Halving, Exponential),
    "a constant rate (eriklindernoren/PyTorch-GAN, BEGAN-CS)": (the_rate_follows_m_global, Halving, Constant),
    "batch normalisation in BEGAN's discriminator (eriklindernoren/PyTorch-GAN)": (
        what_d_says_of_a_picture_is_of_that_picture_alone,
        BeganAutoencoder,
        normalised(BeganAutoencoder),
    ),
    "batch normalisation in EBGAN's discriminator (eriklindernoren/PyTorch-GAN, 1Konny/EBGAN-pytorch)": (
        what_d_says_of_a_picture_is_of_that_picture_alone,
        StridedAutoencoder,
        normalised(StridedAutoencoder),
    ),
    "a discriminator of one convolution (eriklindernoren/PyTorch-GAN)": (
        the_discriminator_is_a_deep_autoencoder,
        BeganAutoencoder,
        with_discriminator(OneConvolution),
    ),
    "a scalar critic (rcalland/chainer-BEGAN)": (
        the_discriminator_is_a_deep_autoencoder,
        BeganAutoencoder,
        with_discriminator(ScalarCritic),
    ),
    "ELU on the output (carpedm20/BEGAN-pytorch)": (
        the_output_is_unbounded,
        BeganAutoencoder,
        ending_in(nn.ELU, "generator", "discriminator"),
    ),
    "tanh on the output (eriklindernoren/PyTorch-GAN)": (
        the_output_is_unbounded,
        BeganAutoencoder,
        ending_in(nn.Tanh, "generator"),
    ),
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
