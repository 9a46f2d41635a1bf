"""The terms in code space against numpy, each on the requested network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gankit_began.terms import EnergyDistance, ImplicitLikelihood, LatentClosing, ModeRegulariser, energy_distance
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_step import PICTURES, SMALL, distance, gradient_of, prepare

from gankit import Judged, Step
from gankit.training.loop import step_once
from gankit.training.state import Autocast


def step(real: np.ndarray, noise: np.ndarray, code_real: np.ndarray, code_fake: np.ndarray) -> Step:
    """A step with its energies; the generator repeats a code's sum over the whole picture."""
    as_tensor = torch.from_numpy

    class Model:
        def generate(self, networks, code, labels):
            return networks["generator"](code)

    networks = {"generator": lambda code: code.sum(1)[:, None, None, None].expand(-1, 3, 2, 2)}
    made = Step(Model(), 1, (), as_tensor(real), None, as_tensor(noise), networks, {}, lambda x: x)  # type: ignore[arg-type]
    made.__dict__["judged_real"] = Judged(torch.empty(0), code=as_tensor(code_real))
    made.__dict__["judged_fake"] = Judged(torch.empty(0), code=as_tensor(code_fake))
    return made


def drawn() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return random.normal(size=(5, 3, 2, 2)), *(random.normal(size=(5, 4)) for _ in range(3))


def test_latent_closing_is_the_authors_mean_difference_or_the_paper_s_norm():
    real, noise, code_real, code_fake = drawn()
    made = step(real, noise, code_real, code_fake)
    l1, l2 = (float(LatentClosing(LatentClosing.Options(norm=norm))(made)) for norm in ("l1", "l2"))
    assert l1 == pytest.approx(np.abs(noise - code_fake).mean())
    assert l2 == pytest.approx(np.mean([np.linalg.norm(row) for row in noise - code_fake]))
    assert LatentClosing.Options().norm == "l1"


def test_the_mode_regulariser_is_the_mean_over_pixels_of_x_minus_what_its_code_draws():
    real, noise, code_real, code_fake = drawn()
    value = float(ModeRegulariser(ModeRegulariser.Options())(step(real, noise, code_real, code_fake)))
    assert value == pytest.approx(np.mean([np.abs(x - code.sum()) for x, code in zip(real, code_real, strict=True)]))


@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_latent_closing_moves_the_network_that_is_named_alone(network):
    taken = {}
    for weight in (0.0, 1.0):
        linear = SMALL | {"strided-autoencoder.output": "linear"}
        options = {"losses": {"latent-closing": weight}, "set": linear | {"latent-closing.network": network}}
        training, batches = prepare("began", [], PICTURES | options)
        step_once(training, batches)
        taken[weight] = {name: gradient_of(made) for name, made in training.networks.items()}
    for name in ("discriminator", "generator"):
        assert (distance(taken[1.0][name], taken[0.0][name]) > 0.01) == (name == network)


def test_they_go_with_ebgan_as_well_and_by_default_nowhere():
    losses = {"latent-closing": 0.1, "mode-regulariser": 0.2}
    training, batches = prepare("ebgan", [], PICTURES | {"set": SMALL, "losses": losses})
    readings = step_once(training, batches)
    assert {f"term/{name}" for name in losses} <= readings.keys()
    for model in ("began", "ebgan"):
        assert not prepare(model, [], PICTURES | {"set": SMALL})[0].terms


def test_under_augmentation_the_generator_is_asked_for_the_bare_picture():
    options = {"set": SMALL, "losses": {"mode-regulariser": 1.0}, "views": ["augment"]}
    training, batches = prepare("began", [], PICTURES | options)
    codes: list[torch.Tensor] = []
    training.networks["discriminator"].register_forward_hook(
        lambda module, inputs, out: codes.append(out.code.detach().clone())
    )
    before = {name: value.clone() for name, value in training.networks["generator"].state_dict().items()}
    readings = step_once(training, batches)
    training.networks["generator"].load_state_dict(before)
    with torch.no_grad():
        expected = (batches(1, 0)[0] - training.networks["generator"](codes[0])).abs().mean()
    torch.testing.assert_close(readings["term/mode-regulariser"], expected)


def pairs(a: np.ndarray, b: np.ndarray) -> list[float]:
    return [float(np.linalg.norm(x - y)) for i, x in enumerate(a) for j, y in enumerate(b) if a is not b or i < j]


@given(arrays(np.float64, (4, 3), elements=st.floats(-9, 9)), arrays(np.float64, (6, 3), elements=st.floats(-9, 9)))
def test_the_energy_distance_is_that_of_different_pairs(fake, real):
    expected = 2 * np.mean(pairs(fake, real)) - np.mean(pairs(fake, fake)) - np.mean(pairs(real, real))
    assert float(energy_distance(torch.tensor(fake), torch.tensor(real))) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("n", [2, 5])
def test_the_energy_distance_is_0_on_average_for_one_distribution_however_small_the_batch(n):
    random = np.random.default_rng(0)
    same = [float(energy_distance(*torch.tensor(random.normal(size=(2, n, 3))))) for _ in range(4_000)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same)) < 0.11
    assert min(same) < 0  # so that it can be on average


def test_the_term_is_root_two_less_one_for_a_single_picture_amid_normal_codes_whatever_their_size():
    random = np.random.default_rng(0)
    for size in (0.01, 100):
        term = EnergyDistance(EnergyDistance.Options())
        values = []
        for _ in range(500):
            real = size * random.normal(size=(5, 3))
            values.append(float(term(asked(np.zeros((5, 3)), np.zeros((5, 3)), real))))
        # 2 E|r| / E|r − r'| − 1 of a normal distribution
        assert np.mean(values[100:]) == pytest.approx(np.sqrt(2) - 1, abs=0.03)


@pytest.mark.parametrize("term", [EnergyDistance, ImplicitLikelihood])
def test_a_batch_with_one_picture_twice_does_not_explode(term):
    random = np.random.default_rng(0)
    made, values = term(term.Options()), []
    for n in range(20):
        real = random.normal(size=(2, 3))
        real[1] = real[1 - n % 2]  # in every second batch the first one again
        values.append(float(made(asked(random.normal(size=(2, 3)), random.normal(size=(2, 3)), real))))
    assert max(values) < 1e3


def test_the_energy_distance_pushes_samples_that_are_alike_apart_and_the_real_codes_nowhere():
    _, noise, code_real, _ = drawn()
    codes = torch.tensor(np.random.default_rng(1).normal(size=(5, 4)) * 0.01, requires_grad=True)
    real = torch.tensor(code_real, requires_grad=True)
    made = step(np.zeros((5, 3, 2, 2)), noise, code_real, code_real)
    made.__dict__["judged_fake"], made.__dict__["judged_real"] = (Judged(torch.empty(0), code=c) for c in (codes, real))
    EnergyDistance(EnergyDistance.Options())(made).backward()
    with torch.no_grad():
        assert torch.pdist(codes - 0.01 * codes.grad).mean() > torch.pdist(codes).mean()
    assert real.grad is None


class Drawer:
    """G(z) = 2z, Enc(v) = v: a picture is its own code."""

    def generate(self, networks, noise, labels):
        self.labels = labels
        return 2 * noise

    def judge(self, networks, seen, labels):
        return Judged(seen, code=seen)


def asked(noise: np.ndarray, fake: np.ndarray, real: np.ndarray, labels: np.ndarray | None = None, view=lambda x: x):
    tensor = torch.from_numpy
    told = None if labels is None else tensor(labels)
    made = Step(Drawer(), 1, (), tensor(real), told, tensor(noise), {}, {}, view)  # type: ignore[arg-type]
    made.__dict__["judged_real"] = Judged(torch.empty(0), code=tensor(real))
    made.__dict__["judged_fake"] = Judged(torch.empty(0), code=tensor(fake))
    return made


def test_imle_draws_the_nearest_of_the_last_samples_again():
    random = np.random.default_rng(0)
    term = ImplicitLikelihood(ImplicitLikelihood.Options(remembered=7, pixels=0))
    noises, fakes, reals = (random.normal(size=(6, 3, 4)) for _ in range(3))
    for noise, fake, real in zip(noises, fakes, reals, strict=True):
        value = float(term(asked(noise, fake, real)))
    latents, codes = noises.reshape(-1, 4)[-7:], fakes.reshape(-1, 4)[-7:]  # the eleven oldest are dropped
    assert sorted(term.memory["latents"][:, 0].tolist()) == sorted(latents.tolist())
    assert sorted(term.memory["codes"].tolist()) == sorted(codes.tolist())
    last = reals[-1]
    nearest = [min(range(7), key=lambda i, r=r: np.linalg.norm(codes[i] - r)) for r in last]
    expected = np.mean([np.linalg.norm(2 * latents[i] - r) ** 2 for i, r in zip(nearest, last, strict=True)])
    spread, *later = (np.mean(pairs(real, real)) for real in reals)
    for one in later:  # a running mean
        spread += 0.01 * (one - spread)
    assert value == pytest.approx(expected / spread**2)


@pytest.mark.parametrize("later", [2, 5, 7, 9])
def test_imle_keeps_the_last_samples_when_a_resume_remembers_fewer_or_more(later):
    """Its memory is a ring once it is full, and of another length the oldest row must leave first all the same."""
    random = np.random.default_rng(later)
    term = ImplicitLikelihood(ImplicitLikelihood.Options(remembered=7, pixels=0))
    noises, fakes, reals = (random.normal(size=(9, 3, 4)) for _ in range(3))
    for number, (noise, fake, real) in enumerate(zip(noises, fakes, reals, strict=True), start=1):
        if number == 5:
            memory, term = term.memory, ImplicitLikelihood(ImplicitLikelihood.Options(remembered=later, pixels=0))
            term.memory = memory
        term(asked(noise, fake, real))
        most = 7 if number < 5 else min(later, 7 + 3 * (number - 4))
        last = slice(-most, None)
        latents, codes = noises[:number].reshape(-1, 4)[last], fakes[:number].reshape(-1, 4)[last]
        kept = zip(term.memory["latents"][:, 0].tolist(), term.memory["codes"].tolist(), strict=True)
        assert sorted(kept) == sorted(zip(latents.tolist(), codes.tolist(), strict=True))


def test_imle_adds_the_errors_of_the_pair_s_pixels_and_of_the_differences_between_neighbours():
    random = np.random.default_rng(0)
    noise, real = random.normal(size=(2, 3, 2, 4, 5))  # pictures 4 high and 5 wide, which are their own latents
    view = torch.nn.Flatten()
    values = {}
    for pixels in (0, 0.7):
        term = ImplicitLikelihood(ImplicitLikelihood.Options(pixels=pixels))
        made = asked(noise, 2 * noise.reshape(3, -1), real.reshape(3, -1), view=view)
        made.__dict__["real"] = torch.from_numpy(real)
        values[pixels] = float(term(made))
    nearest = [min(2 * noise, key=lambda sample, r=r: np.linalg.norm(sample - r)) for r in real]
    error = np.stack(nearest) - real
    added = sum(np.abs(e).mean() for e in (error, np.diff(error, axis=2), np.diff(error, axis=3)))
    assert values[0.7] - values[0] == pytest.approx(0.7 * added)


def test_imle_pulls_nothing_where_batch_normalisation_would_see_one_latent_alone():
    """Its variance is 0 then, and the gradient would be rounding over the root of a tiny number."""
    normalised = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Unflatten(1, (2, 1, 1)), torch.nn.BatchNorm2d(2))
    normalised = normalised.double()
    gradients = {}
    for name, fake in (("one", [[5.0, 5], [0, 0]]), ("two", [[0.0, 1], [0, 0]])):
        made = asked(np.array([[1.0, 2], [3, 5]]), np.array(fake), np.array([[0.0, 0.1], [0, 0.8]]))
        made.networks["generator"] = Autocast(normalised, "cpu", bf16=False)  # as in a training
        made.model.generate = lambda networks, noise, labels: networks["generator"](noise).flatten(1)
        value = ImplicitLikelihood(ImplicitLikelihood.Options())(made)
        gradients[name] = torch.autograd.grad(value, normalised[0].weight)[0].abs().max()
    assert gradients["one"] == 0
    assert gradients["two"] > 0


def test_imle_looks_among_the_samples_of_the_same_class_first():
    real = np.array([[0.0, 0], [0, 1]])
    fake = np.array([[5.0, 0], [0, 0.9]])
    term = ImplicitLikelihood(ImplicitLikelihood.Options(pixels=0))
    made = asked(fake / 2, fake, real, np.array([0, 1]))
    assert float(term(made)) == pytest.approx((25 + 0.01) / 2)  # the first real one is nearer to the second sample
    assert made.model.labels.tolist() == [0, 1]
    later = asked(fake / 2, fake, real, np.array([3, 3]))  # a class that no sample before it had
    assert float(term(later)) == pytest.approx((0.81 + 0.01) / 2)


def test_imle_does_not_ask_for_labels_where_the_generator_does_not_draw_by_them():
    training, batches = prepare("began", [], PICTURES | {"set": SMALL, "losses": {}})
    assert batches(1, 0)[1] is not None
    _, term = training.terms["imle"]
    step_once(training, batches)
    assert term.memory.keys() == {"latents", "codes", "spread"}


@pytest.mark.parametrize("term", ["imle", "mode-regulariser"])
def test_what_is_drawn_once_more_leaves_the_running_statistics_to_the_latents_that_were_drawn(term):
    statistics = {}
    for weight in (0.0, 1.0):
        losses = {"imle": 0.0, "energy-distance": 0.0, term: weight}
        quick = {"networks": "strided-autoencoder", "filters": 4, "latent": 8}
        training, batches = prepare("began", [], PICTURES | {"set": quick, "losses": losses})
        step_once(training, batches)
        statistics[weight] = dict(training.networks["generator"].named_buffers())
    assert statistics[0.0]
    for name, value in statistics[0.0].items():
        torch.testing.assert_close(statistics[1.0][name], value, rtol=0, atol=0, msg=name)


def test_imle_draws_all_that_are_shown_together():
    noise, real = np.arange(8.0).reshape(4, 2), np.array([[0.0, 2, 4, 6], [8, 10, 12, 15]])
    term = ImplicitLikelihood(ImplicitLikelihood.Options(pixels=0))
    made = asked(noise, 2 * noise.reshape(2, 4), real, view=lambda batch: batch.reshape(-1, 4))
    assert float(term(made)) == pytest.approx(1 / 2 / np.sum((real[0] - real[1]) ** 2))


def test_what_a_term_remembers_begins_with_the_first_step():
    training, batches = prepare("began", [], PICTURES | {"set": SMALL, "losses": {}})
    _, term = training.terms["imle"]
    assert not term.memory  # the step that looks for misfits left nothing
    step_once(training, batches)
    assert len(term.memory["codes"]) == training.config.batch_size


def test_what_a_term_keeps_of_generated_pictures_keeps_no_graph():
    """Regression: the graphs of all steps were kept, each step took longer, and a resume had other numbers."""
    training, batches = prepare("began", [], PICTURES | {"set": SMALL, "losses": {}})
    _, term = training.terms["imle"]
    compute = type(term).__call__

    class Keeping(type(term)):
        def __call__(self, step: Step) -> torch.Tensor:
            self.memory["mean"] = self.memory.get("mean", 0) + step.fake.mean()
            return compute(self, step) + self.memory["mean"]

    term.__class__ = Keeping
    for _ in range(2):
        step_once(training, batches)
        assert not any(kept.requires_grad for kept in term.memory.values())
