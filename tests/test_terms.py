"""BEGAN-CS's term and the mode regulariser against numpy, and on the network that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gankit_began.terms import LatentClosing, ModeRegulariser
from test_step import PICTURES, SMALL, distance, gradient_of, prepare

from gankit import Judged, Step
from gankit.runner import step_once


def step(real: np.ndarray, noise: np.ndarray, code_real: np.ndarray, code_fake: np.ndarray) -> Step:
    """Judged already; the generator repeats a code's sum over the whole picture."""
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
        options = {"losses": {"latent-closing": weight}, "set": SMALL | {"latent-closing.network": network}}
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
