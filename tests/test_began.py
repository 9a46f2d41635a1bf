"""BEGAN's equations against independent computations, and its networks against the paper's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gankit_began.balance import Balance, Halving
from gankit_began.model import BEGAN
from gankit_began.networks import BeganAutoencoder, Convolutions, elu, reconstruction_error
from hypothesis import given, settings
from hypothesis import strategies as st

from gankit import Judged, Step

SHAPE = (3, 16, 16)
energies = st.lists(st.floats(0, 4, width=32), min_size=2, max_size=16)


def model(**given) -> BEGAN:
    return BEGAN(BEGAN.Settings(**{"filters": 4, "latent": 8, **given}), SHAPE)


def pair(size: int = 16, filters: int = 4, **options):
    made = BeganAutoencoder(BeganAutoencoder.Options(filters=filters, latent=8, **options))
    return made.build((3, size, size), (3, size, size))


def step_with(began: BEGAN, real: list[float], fake: list[float], k: float) -> Step:
    """A step whose pictures have been judged already, with these energies."""
    nothing = torch.empty(0)
    step = Step(
        began, 1, ("generator", "discriminator"), nothing, None, nothing, {}, {"k": torch.tensor(k)}, lambda x: x
    )
    step.__dict__["judged_real"] = Judged(nothing, energy=torch.tensor(real))
    step.__dict__["judged_fake"] = Judged(nothing, energy=torch.tensor(fake))
    return step


# Equations.


@pytest.mark.parametrize("eta", [1, 2])
def test_the_energy_is_the_mean_over_pixels_of_the_error_to_the_power_eta(eta):
    rng = np.random.default_rng(0)
    seen, output = rng.uniform(-1, 1, (2, 5, 3, 16, 16))
    judged = Judged(torch.tensor(output))
    expected = (np.abs(seen - output) ** eta).reshape(5, -1).mean(1)
    assert reconstruction_error(torch.tensor(seen), judged, eta).numpy() == pytest.approx(expected, abs=1e-6)


@given(real=energies, fake=energies, k=st.floats(0, 1, width=32), gamma=st.floats(0.01, 1))
@settings(deadline=None)
def test_losses_balance_and_convergence_are_equations_3_and_4_and_m_global(real, fake, k, gamma):
    losses = model(gamma=gamma).losses(step_with(model(), real, fake, k))
    L_x, L_Gz = np.mean(real, dtype=np.float64), np.mean(fake, dtype=np.float64)
    assert float(losses.by_network["discriminator"]) == pytest.approx(L_x - k * L_Gz, abs=1e-5)
    assert float(losses.by_network["generator"]) == pytest.approx(L_Gz, abs=1e-5)
    assert float(losses.readings["energy/real"]) == pytest.approx(L_x, abs=1e-5)
    assert float(losses.readings["energy/fake"]) == pytest.approx(L_Gz, abs=1e-5)
    assert float(losses.readings["began/k"]) == pytest.approx(k)
    assert float(losses.readings["began/balance"]) == pytest.approx(gamma * L_x - L_Gz, abs=1e-5)
    assert float(losses.readings["began/convergence"]) == pytest.approx(L_x + abs(gamma * L_x - L_Gz), abs=1e-5)


@given(balances=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=40), lambda_k=st.floats(1e-4, 0.1))
@settings(deadline=None)
def test_k_follows_equation_5_and_stays_in_0_to_1(balances, lambda_k):
    controller = Balance(Balance.Options(lambda_k=lambda_k), model())
    k = 0.0
    for number, balance in enumerate(balances, 1):
        assert float(controller.value("k")) == pytest.approx(k, abs=1e-4)
        controller.update(number, {"began/balance": torch.tensor(balance)})
        k = min(max(k + lambda_k * balance, 0.0), 1.0)
        assert 0 <= float(controller.value("k")) <= 1


def test_a_k_that_is_not_a_number_is_not_hidden_by_the_clamp():
    controller = Balance(Balance.Options(), model())
    controller.update(1, {"began/balance": torch.tensor(float("nan"))})
    assert controller.value("k").isnan()


def test_k_is_in_the_controllers_state_so_that_a_checkpoint_has_it():
    controller = Balance(Balance.Options(), model())
    controller.update(1, {"began/balance": torch.tensor(7.0)})
    other = Balance(Balance.Options(), model())
    other.load_state_dict(controller.state_dict())
    assert float(other.value("k")) == pytest.approx(0.007)


def test_latents_are_uniform_in_minus_1_to_1():
    from scipy.stats import kstest

    torch.manual_seed(0)
    z = model(latent=64).latents(200, torch.device("cpu"))
    assert z.shape == (200, 64)
    assert kstest(z.flatten().numpy(), "uniform", args=(-1, 2)).pvalue > 0.01


# The learning rate.


def halving(**options) -> tuple[Halving, BEGAN]:
    began = model(learning_rate=1e-4, learning_rate_generator=4e-5)
    return Halving(Halving.Options(window=2, patience=3, **options), began), began


def rates_over(controller: Halving, convergences: list[float]) -> list[float]:
    rates = []
    for number, value in enumerate(convergences, 1):
        controller.update(number, {"began/convergence": torch.tensor(value)})
        rates.append(float(controller.value("learning_rate/discriminator")))
    return rates


def test_the_learning_rate_is_kept_while_m_global_still_falls():
    controller, _ = halving()
    assert rates_over(controller, [1 / n for n in range(1, 41)]) == pytest.approx([1e-4] * 40)


def test_the_learning_rate_is_halved_after_patience_windows_without_a_new_low_and_never_below_the_floor():
    controller, _ = halving(floor=2e-5)
    rates = rates_over(controller, [1.0] * 40)
    # The first window sets the low; three more of two steps each are a stall, at steps 8, 14, 20 …
    assert rates[:7] == pytest.approx([1e-4] * 7)
    assert rates[7:13] == pytest.approx([5e-5] * 6)
    assert rates[13:19] == pytest.approx([2.5e-5] * 6)
    assert rates[19:] == pytest.approx([2e-5] * 21)
    assert float(controller.value("learning_rate/generator")) == pytest.approx(2e-5)


def test_a_rate_that_starts_below_the_floor_is_left_there():
    controller = Halving(Halving.Options(floor=2e-5), model(learning_rate=1e-5))
    assert float(controller.value("learning_rate/generator")) == pytest.approx(1e-5)


# Networks.


def test_the_paper_s_largest_model_has_its_17_3_million_parameters_counting_both_networks():
    networks = BeganAutoencoder(BeganAutoencoder.Options(filters=128, latent=64)).build((3, 128, 128), (3, 128, 128))
    count = sum(p.numel() for network in networks.values() for p in network.parameters())
    assert round(count / 1e6, 1) == 17.3


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("skip", [True, False])
def test_networks_of_every_size_give_pictures_reconstructions_and_codes(size, skip):
    networks = pair(size, skip_connections=skip)
    with torch.no_grad():
        fake = networks["generator"](torch.rand(2, 8))
        judged = networks["discriminator"](fake)
    assert fake.shape == judged.output.shape == (2, 3, size, size)
    assert judged.code.shape == (2, 8)


def test_skip_connections_bring_h0_to_every_later_resolution():
    with_skips, without = pair(64)["generator"], pair(64, skip_connections=False)["generator"]
    assert [block.layers[0].in_channels for block in with_skips.blocks] == [4, 8, 8, 8]
    assert [block.layers[0].in_channels for block in without.blocks] == [4, 4, 4, 4]


def test_the_encoder_s_filters_grow_linearly_and_the_decoder_keeps_n():
    networks = pair(64, filters=6)
    encoder = networks["discriminator"].encoder
    assert [block.layers[-1].out_channels for block in encoder.blocks] == [6, 12, 18]
    assert encoder.linear.in_features == 24 * 8 * 8
    assert {block.layers[-1].out_channels for block in networks["generator"].blocks} == {6}


def test_vanishing_residuals_begin_as_the_identity_and_end_as_plain_convolutions():
    torch.manual_seed(0)
    block, x = Convolutions(4, 4, vanishing=True), torch.randn(2, 4, 8, 8)
    plain = Convolutions(4, 4)
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), x)  # carry 1
    block.carry.fill_(0.0)
    torch.testing.assert_close(block(x), plain(x))
    block.carry.fill_(0.25)
    first = 0.25 * x + 0.75 * F.elu(block.layers[0](x))
    torch.testing.assert_close(block(x), 0.25 * first + 0.75 * F.elu(block.layers[1](first)))


def test_carry_falls_from_1_to_0_over_16_000_steps_in_both_networks():
    networks = pair(vanishing_residuals=True)
    for number, carry in ((1, 1.0), (8_001, 0.5), (16_001, 0.0), (50_000, 0.0)):
        for network in networks.values():
            network.at_step(number)
            carries = [float(m.carry) for m in network.modules() if isinstance(m, Convolutions)]
            assert carries == pytest.approx([carry] * len(carries))


def test_our_elu_is_elu_with_its_first_and_second_derivatives():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(elu(x), F.elu(x))
    assert torch.autograd.gradcheck(elu, x)
    assert torch.autograd.gradgradcheck(elu, x)
    half = (torch.randn(1000) * 2).bfloat16()
    torch.testing.assert_close(elu(half), F.elu(half))


# The whole.


def test_it_learns_a_reconstruction_on_the_demo_data_within_150_steps(tmp_path, monkeypatch):
    import gankit

    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    run = gankit.run(
        "began",
        "demo:200",
        out=tmp_path / "run",
        steps=150,
        image_size=16,
        set={"filters": 8, "learning_rate": 1e-3},
        log_every=10,
    )
    energy = [line["energy/real"] for line in run.metrics()]
    assert energy[-1] < energy[0] / 2
