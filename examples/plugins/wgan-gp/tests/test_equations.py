"""WGAN-GP's equations against an independent computation, and its step of another shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gankit import Step, UserError
from torch import Tensor

from gankit_wgan_gp.model import WganGp

SHAPE = (3, 16, 16)


def step(model: WganGp, updating: str, critic: Any = None) -> Step:
    """A step of two pictures in float64, with new networks or the given critic."""
    torch.manual_seed(0)
    networks: dict[str, Any] = {k: network.double() for k, network in model.build_networks(None, SHAPE).items()}
    networks["discriminator"] = critic or networks["discriminator"]
    real, noise = torch.rand(2, *SHAPE, dtype=torch.float64) * 2 - 1, torch.randn(2, 8, dtype=torch.float64)
    return Step(model, 1, (updating,), real, None, noise, networks, {}, lambda x: x)


def model(**settings: Any) -> WganGp:
    return WganGp(WganGp.Settings(latent=8, filters=4, **settings), SHAPE)


def slope(score: Any, picture: Tensor, h: float = 1e-5) -> np.ndarray:
    """∇ of the critic's score at one picture, by central differences."""
    nudges = torch.eye(picture.numel(), dtype=torch.float64).view(-1, *picture.shape) * h
    with torch.no_grad():
        return ((score(picture + nudges) - score(picture - nudges)) / (2 * h)).numpy()


def test_the_penalty_is_that_of_each_picture_s_own_slope_by_finite_differences():
    wgan = model()
    made = step(wgan, "discriminator")
    torch.manual_seed(1)
    penalty = float(wgan.gradient_penalty(made).detach())
    torch.manual_seed(1)
    share = torch.rand(2, 1, 1, 1)
    between = share * made.real + (1 - share) * made.fake.detach()
    norms = [np.linalg.norm(slope(made.networks["discriminator"], picture)) for picture in between]
    assert norms[0] != pytest.approx(norms[1])
    assert penalty == pytest.approx(np.mean([(norm - 1) ** 2 for norm in norms]), rel=1e-5)


def test_a_linear_critic_s_penalty_is_its_weights_norm_minus_1_squared():
    weights = torch.randn(3 * 16 * 16, dtype=torch.float64)
    wgan = model()
    penalty = wgan.gradient_penalty(step(wgan, "discriminator", lambda x: x.flatten(1) @ weights))
    assert float(penalty.detach()) == pytest.approx((np.linalg.norm(weights.numpy()) - 1) ** 2)


def test_the_losses_are_the_paper_s():
    wgan = model(penalty=3.0)
    made = step(wgan, "discriminator")
    losses = wgan.losses(made)
    real, fake = (judged.output.detach().numpy() for judged in (made.judged_real, made.judged_fake))
    expected = fake.mean() - real.mean() + 3.0 * losses.readings["wgan-gp/penalty"].item()
    assert float(losses.by_network["discriminator"]) == pytest.approx(expected)
    assert float(losses.readings["wgan-gp/distance"]) == pytest.approx(real.mean() - fake.mean())
    generator = wgan.losses(step(wgan, "generator")).by_network["generator"]
    assert float(generator) == pytest.approx(-fake.mean())


def test_the_penalty_reaches_the_critic_and_not_the_generator():
    wgan = model()
    made = step(wgan, "discriminator")
    penalty = wgan.gradient_penalty(made)
    critic, generator = (list(made.networks[name].parameters()) for name in ("discriminator", "generator"))
    assert all(g is None for g in torch.autograd.grad(penalty, generator, retain_graph=True, allow_unused=True))
    assert sum(float(g.abs().sum()) for g in torch.autograd.grad(penalty, critic[:1])) > 0


def test_the_critic_is_updated_five_times_for_each_update_of_the_generator():
    assert model().updates == [("discriminator",)] * 5 + [("generator",)]
    assert model(critic_updates=2).updates == [("discriminator",)] * 2 + [("generator",)]


@pytest.mark.parametrize("shape", [(2,), (3, 24, 24)])
def test_what_it_cannot_draw_is_refused_in_one_line(shape):
    with pytest.raises(UserError, match="draws pictures of side 16, 32"):
        WganGp(WganGp.Settings(), shape).build_networks(None, shape)
