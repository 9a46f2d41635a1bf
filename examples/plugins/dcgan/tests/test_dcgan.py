"""The non-saturating loss and R1 against numpy and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gankit_dcgan.model import DCGAN
from gankit_dcgan.networks import DCGANPair
from torch import Tensor

from gankit import Step, UserError
from gankit.testing import ModelTests, NetworkTests

SHAPE = (3, 16, 16)


class TestPromises(ModelTests):
    name = "dcgan"
    options = {"set": {"filters": 4, "latent": 8}}


class TestPromisesOfTheNetworks(NetworkTests):
    name = "dcgan"
    options = {"set": {"filters": 4, "latent": 8}}


def model(**settings: Any) -> DCGAN:
    return DCGAN(DCGAN.Settings(latent=8, filters=4, **settings), SHAPE)


def step(gan: DCGAN, *updating: str) -> Step:
    """A step of three pictures in float64, with weights so large that gradients exceed the rounding noise."""
    torch.manual_seed(0)
    networks = DCGANPair(DCGANPair.Options(latent=8, filters=4)).build(SHAPE, SHAPE)
    for network in networks.values():
        network.double()
        for weight in network.parameters():
            weight.data.normal_(0, 0.2)
    real, noise = torch.rand(3, *SHAPE, dtype=torch.float64) * 2 - 1, torch.randn(3, 8, dtype=torch.float64)
    return Step(gan, 1, updating, real, None, noise, networks, {}, lambda x: x)


def slope(logit: Any, picture: Tensor, h: float = 1e-5) -> np.ndarray:
    """∇D at one picture, by central differences."""
    nudges = torch.eye(picture.numel(), dtype=torch.float64).view(-1, *picture.shape) * h
    with torch.no_grad():
        return ((logit(picture + nudges).output - logit(picture - nudges).output) / (2 * h)).numpy()


def test_the_losses_are_cross_entropies_and_r1_is_the_mean_squared_slope_at_real_pictures():
    gan = model(r1=4.0)
    made = step(gan, "discriminator", "generator")
    losses = gan.losses(made)
    readings = {name: float(value.detach()) for name, value in (losses.by_network | losses.readings).items()}
    p_real, p_fake = (1 / (1 + np.exp(-j.output.detach().numpy())) for j in (made.judged_real, made.judged_fake))
    r1 = np.mean([np.sum(slope(made.networks["discriminator"], picture) ** 2) for picture in made.real])
    entropy = -np.log(p_real).mean() - np.log(1 - p_fake).mean()
    assert r1 > 1e-3
    assert readings["dcgan/r1"] == pytest.approx(r1, rel=1e-5)
    assert readings["discriminator"] == pytest.approx(entropy + 4.0 / 2 * r1)
    assert readings["generator"] == pytest.approx(-np.log(p_fake).mean())
    assert readings["dcgan/real"] == pytest.approx(p_real.mean())


def test_r1_moves_the_discriminator_towards_flatness_and_0_leaves_it_out():
    gan = model(r1=4.0)
    made = step(gan, "discriminator")
    readings = gan.losses(made).readings
    weights = list(made.networks["discriminator"].parameters())  # type: ignore[attr-defined]
    gradients = torch.autograd.grad(readings["dcgan/r1"], weights, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            weight.data -= 1e-3 * gradient
    fresh = Step(gan, 2, ("discriminator",), made.real, None, made.noise, made.networks, {}, lambda x: x)
    assert gan.losses(fresh).readings["dcgan/r1"] < readings["dcgan/r1"]
    assert "dcgan/r1" not in model(r1=0.0).losses(step(model(r1=0.0), "discriminator")).readings


@pytest.mark.parametrize("side", DCGANPair.sizes)
def test_the_networks_fit_every_size_that_they_name(side):
    networks = DCGANPair(DCGANPair.Options(latent=8, filters=4)).build((3, side, side), (6, side, side))
    assert networks["generator"](torch.randn(2, 8)).shape == (2, 3, side, side)
    assert networks["discriminator"](torch.randn(2, 6, side, side)).output.shape == (2,)


def test_points_are_refused_in_one_line():
    with pytest.raises(UserError, match="draw pictures, and the data are points"):
        DCGANPair(DCGANPair.Options()).build((2,), (2,))
