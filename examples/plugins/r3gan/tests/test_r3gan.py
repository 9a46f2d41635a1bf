"""R3GAN's loss against NumPy, its penalties by finite differences, its filters and its start in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gankit_r3gan.model import R3GAN
from gankit_r3gan.networks import Discriminator, Generator, Residual, doubled, halved
from gankit_r3gan.schedule import Cosine
from torch import Tensor, nn

from gankit import Step, UserError
from gankit.testing import ControllerTests, ModelTests

SHAPE = (3, 16, 16)


class TestPromises(ModelTests):
    name = "r3gan"
    options = {"set": {"filters": 4, "latent": 8}}


class TestPromisesOfTheController(ControllerTests):
    name, model = "cosine", "r3gan"
    options = {"set": {"filters": 4, "latent": 8}}


def model(shape: tuple[int, ...] = SHAPE, **settings: Any) -> R3GAN:
    return R3GAN(R3GAN.Settings(**{"latent": 8, "filters": 4, **settings}), shape)


def step(gan: R3GAN, *updating: str, number: int = 4) -> Step:
    """A step of three pictures in float64, with weights so large that scores and gradients exceed rounding noise."""
    torch.manual_seed(0)
    networks = {name: network.double() for name, network in gan.build_networks(None, gan.shape).items()}
    for network in networks.values():
        for weight in network.parameters():
            weight.data.normal_(0, 0.3)
    real, noise = torch.rand(3, *gan.shape, dtype=torch.float64) * 2 - 1, torch.randn(3, 8, dtype=torch.float64)
    return Step(gan, number, updating, real, None, noise, networks, {}, lambda x: x)


def scores(made: Step) -> tuple[np.ndarray, np.ndarray]:
    """D(x) and D(G(z)), each (B,)."""
    real, fake = made.networks["discriminator"](made.real), made.networks["discriminator"](made.fake)
    return real.detach().numpy(), fake.detach().numpy()


def slope(score: Any, picture: Tensor, h: float = 1e-6) -> np.ndarray:
    """∇D at one picture, by central differences."""
    nudges = torch.eye(picture.numel(), dtype=torch.float64).view(-1, *picture.shape) * h
    with torch.no_grad():
        return ((score(picture + nudges) - score(picture - nudges)) / (2 * h)).numpy()


# The loss.


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_each_real_picture_is_scored_against_a_generated_one_and_the_other_way_round(updates):
    gan = model(updates=updates)
    found = {}
    for updating in gan.updates:
        made = step(gan, *updating, number=3)
        losses = gan.losses(made)
        found |= {name: float(value.detach()) for name, value in (losses.by_network | losses.readings).items()}
    real, fake = scores(made)
    assert np.ptp(real) > 0.01  # so that means of pairs and pairs of means differ
    assert np.ptp(fake) > 0.01
    assert found["discriminator"] == pytest.approx(np.mean(np.log(1 + np.exp(-(real - fake)))))
    assert found["generator"] == pytest.approx(np.mean(np.log(1 + np.exp(-(fake - real)))))
    assert found["r3gan/margin"] == pytest.approx(np.mean(real) - np.mean(fake))


def test_the_penalties_are_the_mean_squared_slopes_at_real_and_at_generated_pictures():
    gan = model((1, 16, 16), gamma=3.0, gamma_last=1.0, penalty_every=2)
    made = step(gan, "discriminator", number=4)
    losses = gan.losses(made)
    read = {name: float(value.detach()) for name, value in (losses.by_network | losses.readings).items()}
    D = made.networks["discriminator"]
    r1, r2 = (
        np.mean([np.sum(slope(D, picture) ** 2) for picture in batch]) for batch in (made.real, made.fake.detach())
    )
    real, fake = scores(made)
    assert min(r1, r2) > 1e-4
    assert read["r3gan/r1"] == pytest.approx(r1, rel=1e-5)
    assert read["r3gan/r2"] == pytest.approx(r2, rel=1e-5)
    pairs = np.mean(np.log(1 + np.exp(fake - real)))
    assert read["discriminator"] == pytest.approx(pairs + 2 * 3.0 / 2 * (r1 + r2))


def test_the_penalties_move_the_discriminator_and_not_the_generator():
    gan = model()
    made = step(gan, "discriminator")
    readings = gan.losses(made).readings
    penalty = readings["r3gan/r1"] + readings["r3gan/r2"]
    critic, generator = (list(made.networks[name].parameters()) for name in ("discriminator", "generator"))
    assert all(g is None for g in torch.autograd.grad(penalty, generator, retain_graph=True, allow_unused=True))
    slopes = torch.autograd.grad(penalty, critic, allow_unused=True)
    assert sum(float(g.abs().sum()) for g in slopes if g is not None) > 0


def test_the_penalties_are_looked_at_every_so_many_steps_and_weigh_as_much_over_all():
    def penalties(**settings: Any) -> list[float]:
        gan, added = model(gamma_last=1.0, **settings), []
        for number in range(1, 9):
            made = step(gan, "discriminator", number=number)
            real, fake = scores(made)
            loss = float(gan.losses(made).by_network["discriminator"].detach())
            added.append(loss - np.mean(np.log(1 + np.exp(fake - real))))
        return added

    always, fourth = penalties(penalty_every=1), penalties(penalty_every=4)
    assert [number for number, value in enumerate(fourth, 1) if abs(value) > 1e-9] == [4, 8]
    assert sum(fourth) == pytest.approx(sum(always))
    assert penalties(gamma=0.0) == pytest.approx([0] * 8)


# The schedule.


def test_gamma_falls_along_half_a_cosine_and_stays():
    gan = model(gamma=2.0, gamma_last=0.25, schedule=100)
    gammas = [
        float(gan.losses(step(gan, "discriminator", number=n)).readings["r3gan/gamma"]) for n in (1, 51, 101, 9999)
    ]
    assert gammas == pytest.approx([2.0, 1.25, 0.5, 0.5])


def test_both_learning_rates_fall_along_half_a_cosine_and_stay():
    gan = model(learning_rate=0.1, learning_rate_generator=0.4, learning_rate_last=0.5, schedule=100)
    cosine = Cosine(Cosine.Options(), gan)
    rates = []
    for number in range(1, 301):
        rates.append([float(cosine.value(f"learning_rate/{name}")) for name in ("discriminator", "generator")])
        cosine.update(number, {})
    assert rates[0] == pytest.approx([0.1, 0.4])
    assert rates[25] == pytest.approx([0.1 * x for x in (0.75 + 0.25 * math.sqrt(0.5), 3 + math.sqrt(0.5))])
    assert rates[50] == pytest.approx([0.075, 0.3])
    assert rates[100] == rates[299] == pytest.approx([0.05, 0.2])


# The networks.


def blurred(row: np.ndarray) -> np.ndarray:
    """A row of numbers filtered by [1, 2, 1] / 4; its ends are repeated."""
    return np.convolve(np.pad(row, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")


def test_halving_filters_by_1_2_1_and_takes_every_second_pixel():
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    expected = np.apply_along_axis(blurred, 3, np.apply_along_axis(blurred, 2, x.numpy()))[:, :, ::2, ::2]
    np.testing.assert_allclose(halved(x).numpy(), expected, rtol=1e-12)


def test_doubling_puts_new_pixels_half_way_between_their_neighbours():
    def between(row: np.ndarray) -> np.ndarray:
        return np.interp(np.arange(2 * len(row)) / 2, np.arange(len(row)), row)

    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = np.apply_along_axis(between, 3, np.apply_along_axis(between, 2, x.numpy()))
    np.testing.assert_allclose(doubled(x).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(doubled(x).numpy()[:, :, ::2, ::2], x.numpy(), rtol=1e-12)


def test_doubling_is_the_transpose_of_halving_but_for_the_edge_and_a_factor_of_4():
    x, y = torch.zeros(1, 1, 16, 16, dtype=torch.float64), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x[..., 4:-4, 4:-4], y[..., 2:-2, 2:-2] = torch.randn(8, 8), torch.randn(4, 4)
    assert float((doubled(y) * x).sum()) == pytest.approx(4 * float((y * halved(x)).sum()))


@pytest.mark.parametrize("network", [Generator(3, 32, 64, 16, 2), Discriminator(3, 32, 16, 2)])
def test_at_the_start_every_block_hands_its_input_on(network):
    blocks = [part for part in network.modules() if isinstance(part, Residual)]
    assert len(blocks) == 8  # two at each of 32, 16, 8 and 4
    for block in blocks:
        x = torch.randn(2, block.layers[0].in_channels, 5, 5)
        assert torch.equal(block(x), x)
        assert not block.layers[-1].weight.any()
        assert block.layers[0].weight.any()


def test_the_other_layers_of_a_block_start_at_he_s_deviation_scaled_by_fixup():
    torch.manual_seed(0)
    block = Residual(128, blocks=16)
    for layer, fan_in in ((block.layers[0], 128), (block.layers[2], 16 * 9)):
        assert isinstance(layer, nn.Conv2d)
        expected = math.sqrt(2 / (1 + 0.2**2) / fan_in) * 16 ** (-1 / 4)
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
        assert layer.bias is not None
        assert not layer.bias.any()
    assert block.layers[2].groups == 256 // 16


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_the_networks_fit_every_size_and_grey_pictures_too(side, channels):
    gan = model((channels, side, side))
    networks = gan.build_networks(None, (2 * channels, side, side))
    assert networks["generator"](torch.randn(2, 8)).shape == (2, channels, side, side)
    assert networks["discriminator"](torch.randn(2, 2 * channels, side, side)).shape == (2,)


def test_neither_network_normalises():
    for network in model((3, 64, 64), filters=16).build_networks(None, (3, 64, 64)).values():
        assert not [part for part in network.modules() if "Norm" in type(part).__name__]


@pytest.mark.parametrize("shape", [(2,), (3, 24, 24)])
def test_what_it_cannot_draw_is_refused_in_one_line(shape):
    with pytest.raises(UserError, match="draws pictures of side 16, 32"):
        model(shape).build_networks(None, shape)
