"""BEGAN's equations against independent computations, and its networks against the paper's figures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Gankit, lines
from gankit_began.balance import Balance, Halving, Pace, ProportionalIntegral
from gankit_began.model import BEGAN
from gankit_began.networks import BeganAutoencoder, Convolutions, elu, pixel_error, reconstruction_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gankit import Judged, Machine, Settings, Step

SHAPE = (3, 16, 16)
near = partial(pytest.approx, rel=1e-9, abs=1e-9)  # all in double precision
energies = st.lists(st.floats(0, 4), min_size=2, max_size=16)
balances = st.lists(st.floats(-300, 300), min_size=1, max_size=40)


def model(**given) -> BEGAN:
    return BEGAN(BEGAN.Settings(**{"filters": 4, "latent": 8, **given}), SHAPE)


def pair(size: int = 16, filters: int = 4, **options):
    made = BeganAutoencoder(BeganAutoencoder.Options(filters=filters, latent=8, **options))
    return made.build((3, size, size), (3, size, size))


def step_with(began: BEGAN, real: list[float], fake: list[float], k: float) -> Step:
    """A step with these energies, already computed."""
    nothing, knobs = torch.empty(0), {"k": double(k), "gamma": double(began.settings.gamma)}
    step = Step(began, 1, ("generator", "discriminator"), nothing, None, nothing, {}, knobs, lambda x: x)
    step.__dict__["judged_real"] = Judged(nothing, energy=double(real))
    step.__dict__["judged_fake"] = Judged(nothing, energy=double(fake))
    return step


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def walk(controller, readings: list[dict[str, float]], *knobs: str) -> np.ndarray:
    """The values of its knobs before each reading and after the last, in double precision."""
    controller = controller.double()
    values = [[float(controller.value(knob)) for knob in knobs]]
    for number, reading in enumerate(readings, 1):
        controller.update(number, {name: double(value) for name, value in reading.items()})
        values.append([float(controller.value(knob)) for knob in knobs])
    return np.array(values).squeeze(1) if len(knobs) == 1 else np.array(values)


# Equations.


@given(
    seen=hnp.arrays(np.float64, (3, 2, 4, 4), elements=st.floats(-2, 2)),
    output=hnp.arrays(np.float64, (3, 2, 4, 4), elements=st.floats(-2, 2)),
    eta=st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=50)
def test_the_energy_is_the_mean_over_pixels_of_the_error_to_the_power_eta(seen, output, eta):
    expected = (np.abs(seen - output) ** eta).reshape(3, -1).mean(1)
    assert reconstruction_error(torch.tensor(seen), Judged(torch.tensor(output)), eta).numpy() == near(expected)
    networks = {"discriminator": lambda _: Judged(torch.tensor(output))}
    assert model(eta=eta, edges=0).judge(networks, torch.tensor(seen), None).energy.numpy() == near(expected)


@given(
    seen=hnp.arrays(np.float64, (3, 2, 4, 5), elements=st.floats(-2, 2)),
    output=hnp.arrays(np.float64, (3, 2, 4, 5), elements=st.floats(-2, 2)),
    eta=st.sampled_from([1, 2]),
    edges=st.floats(0, 10),
)
@settings(deadline=None, max_examples=50)
def test_with_edges_the_errors_of_differences_between_neighbours_count_as_much_as_asked_for(seen, output, eta, edges):
    e = seen - output
    across, down = e[:, :, :, 1:] - e[:, :, :, :-1], e[:, :, 1:] - e[:, :, :-1]
    pixels, x, y = ((np.abs(part) ** eta).mean((1, 2, 3)) for part in (e, across, down))
    networks = {"discriminator": lambda _: Judged(torch.tensor(output))}
    found = model(eta=eta, edges=edges).judge(networks, torch.tensor(seen), None).energy.numpy()
    assert found == near((pixels + edges * (x + y)) / (1 + edges))


def test_points_have_no_edges():
    networks = {"discriminator": lambda _: Judged(torch.zeros(2, 3))}
    assert model(edges=3).judge(networks, torch.ones(2, 3), None).energy.tolist() == [1, 1]


@given(real=energies, fake=energies, k=st.floats(0, 1), gamma=st.floats(0.01, 1))
@settings(deadline=None)
def test_losses_balance_and_convergence_are_equations_3_and_4_and_m_global(real, fake, k, gamma):
    losses = model().losses(step_with(model(gamma=gamma), real, fake, k))
    L_x, L_Gz = np.mean(real), np.mean(fake)
    assert float(losses.by_network["discriminator"]) == near(L_x - k * L_Gz)
    assert float(losses.by_network["generator"]) == near(L_Gz)
    assert {name: float(value) for name, value in losses.readings.items()} == near(
        {
            "energy/real": L_x,
            "energy/fake": L_Gz,
            "began/k": k,
            "began/balance": gamma * L_x - L_Gz,
            "began/convergence": L_x + abs(gamma * L_x - L_Gz),
        }
    )


@pytest.mark.parametrize("k", [0, 1e-6])
def test_at_k_0_the_discriminator_s_loss_costs_no_backward_pass_through_generated_pictures(k):
    made = step_with(model(), [1, 2], [3, 4], k)
    made.judged_fake.energy.requires_grad_()
    made.judged_real.energy.requires_grad_()
    loss = model().losses(made).by_network["discriminator"]
    real, fake = torch.autograd.grad(
        loss, [made.judged_real.energy, made.judged_fake.energy], allow_unused=True, materialize_grads=False
    )
    assert real.tolist() == [0.5, 0.5]
    assert fake is None if k == 0 else fake.tolist() == [-k / 2, -k / 2]


@given(balances=balances, lambda_k=st.floats(1e-4, 0.1), floor=st.sampled_from([0, 0, 0.0625, 0.5]))
@settings(deadline=None)
def test_k_follows_equation_5_and_stays_between_its_floor_and_1(balances, lambda_k, floor):
    """The floor rises over the first 4,000 steps."""
    controller = Balance(Balance.Options(floor=floor), model(lambda_k=lambda_k))
    ks = [0.0]
    for number, balance in enumerate(balances, start=1):
        ks.append(min(max(ks[-1] + lambda_k * balance, floor * number / 4000), 1.0))
    assert walk(controller, [{"began/balance": b} for b in balances], "k") == near(ks)


@pytest.mark.parametrize(("number", "k"), [(1, 0.00003125), (2_000, 0.0625), (4_000, 0.125), (90_000, 0.125)])
def test_the_floor_under_k_has_risen_after_4_000_steps(number, k):
    """`resume --set balance.floor=0.125` must help a run whose k is already 0."""
    controller = Balance(Balance.Options(floor=0.125), model())
    controller.update(number, {"began/balance": torch.tensor(-0.5)})
    assert float(controller.value("k")) == near(k)


@given(balances=balances, lambda_k=st.floats(1e-4, 0.1), proportional=st.floats(0, 4))
@settings(deadline=None)
def test_k_of_the_pi_controller_is_its_integral_and_its_proportional_part_each_clipped(
    balances, lambda_k, proportional
):
    options = ProportionalIntegral.Options(proportional=proportional)
    ks, integral = [0.0], 0.0
    for balance in balances:
        integral = min(max(integral + lambda_k * balance, 0.0), 1.0)
        ks.append(min(max(integral + proportional * balance, 0.0), 1.0))
    controller = ProportionalIntegral(options, model(lambda_k=lambda_k))
    assert walk(controller, [{"began/balance": b} for b in balances], "k") == near(ks)


@given(balances=balances)
@settings(deadline=None, max_examples=30)
def test_without_its_proportional_part_the_pi_controller_is_equation_5(balances):
    readings = [{"began/balance": b} for b in balances]
    began = model(lambda_k=0.01)
    pi = ProportionalIntegral(ProportionalIntegral.Options(proportional=0), began)
    assert (walk(pi, readings, "k") == walk(Balance(Balance.Options(floor=0), began), readings, "k")).all()


@pytest.mark.parametrize("controller", [Balance, ProportionalIntegral, Pace])
def test_a_balance_that_is_not_a_number_is_not_hidden_by_the_clamp(controller):
    made = controller(controller.Options(), model())
    made.update(1, {"began/balance": torch.tensor(float("nan")), "energy/real": torch.tensor(1.0)})
    assert all(made.value(knob).isnan() for knob in made.drives)


@pytest.mark.parametrize("controller", [Balance, ProportionalIntegral, Pace])
def test_what_a_controller_remembers_is_in_its_state_so_that_a_checkpoint_has_it(controller):
    made, other = (controller(controller.Options(), model()) for _ in range(2))
    readings = {"began/balance": torch.tensor(7.0), "energy/real": torch.tensor(1.0)}
    made.update(1, readings)
    knob = made.drives[0]
    assert made.value(knob) != other.value(knob)
    other.load_state_dict(made.state_dict())
    assert other.value(knob) == made.value(knob)
    for one in (made, other):
        one.update(2, readings | {"began/balance": torch.tensor(-7.1)})
    assert other.value(knob) == made.value(knob)


@pytest.mark.parametrize(("controller", "options"), [(Balance, {}), (ProportionalIntegral, {"proportional": 0})])
@pytest.mark.parametrize(
    ("began", "gain"), [(model(lambda_k=0.02), 0.02), (model(), 0.001), (BEGAN(Settings(), SHAPE), 0.001)]
)
def test_lambda_k_of_the_model_reaches_whichever_controller_drives_k(began, gain, controller, options):
    """The last one is of a model that has none: the paper's."""
    made = controller(controller.Options(**options), began)
    made.update(1, {"began/balance": torch.tensor(0.5)})
    assert float(made.value("k")) == pytest.approx(gain * 0.5)


# The learning rate.


RATES = ("learning_rate/generator", "learning_rate/discriminator")


@pytest.fixture
def windows_of_two(monkeypatch) -> None:
    monkeypatch.setattr("gankit_began.balance.WINDOW", 2)


def halving(**options) -> Halving:
    return Halving(Halving.Options(patience=3, **options), model(learning_rate=1e-4))


def rates_over(controller: Halving, convergences: list[float]) -> np.ndarray:
    return walk(controller, [{"began/convergence": value} for value in convergences], RATES[1])[1:]


@pytest.mark.usefixtures("windows_of_two")
def test_the_learning_rate_is_kept_while_m_global_still_falls():
    assert rates_over(halving(), [1 / n for n in range(1, 41)]) == pytest.approx([1e-4] * 40)


@pytest.mark.usefixtures("windows_of_two")
def test_the_learning_rate_is_halved_after_patience_windows_without_a_new_low_and_never_below_the_floor():
    controller = halving(floor=2e-5)
    rates = rates_over(controller, [1.0] * 40)
    # The first window sets the low; three more of two steps each are a stall, at steps 8, 14, 20 …
    assert rates[:7] == pytest.approx([1e-4] * 7)
    assert rates[7:13] == pytest.approx([5e-5] * 6)
    assert rates[13:19] == pytest.approx([2.5e-5] * 6)
    assert rates[19:] == pytest.approx([2e-5] * 21)
    assert float(controller.value("learning_rate/generator")) == pytest.approx(2e-5)


@given(
    values=st.lists(st.floats(0, 4), max_size=80),
    window=st.integers(1, 4),
    patience=st.integers(1, 3),
    floor=st.floats(0, 2e-4),
)
@settings(deadline=None, max_examples=50)
def test_both_rates_are_halved_when_the_windows_means_stall(values, window, patience, floor):
    began = model(learning_rate=1e-4, learning_rate_generator=4e-5)
    controller = Halving(Halving.Options(patience=patience, floor=floor), began)
    lowest, stalled, halvings = np.inf, 0, [0]
    for n in range(1, len(values) + 1):
        halvings.append(halvings[-1])
        if n % window == 0:
            mean = np.mean(values[n - window : n])
            stalled = 0 if mean < lowest - 1e-12 else stalled + 1
            assume(abs(mean - lowest) > 1e-12 or mean == lowest == values[n - 1])  # rounding decides no tie
            lowest = min(lowest, mean)
            if stalled == patience:
                halvings[-1], stalled = halvings[-1] + 1, 0
    expected = [[max(rate / 2**h, min(rate, floor)) for rate in (4e-5, 1e-4)] for h in halvings]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gankit_began.balance.WINDOW", window)
        got = walk(controller, [{"began/convergence": value} for value in values], *RATES)
    assert got == pytest.approx(np.array(expected), rel=1e-9)


def test_a_rate_that_starts_below_the_floor_is_left_there():
    controller = Halving(Halving.Options(floor=2e-5), model(learning_rate=1e-5))
    assert float(controller.value("learning_rate/generator")) == pytest.approx(1e-5)


def test_a_window_that_is_changed_at_a_resume_takes_the_mean_of_the_steps_that_it_has_seen(windows_of_two, monkeypatch):
    """As of a run of before it was a constant."""
    before, after = halving(), Halving(Halving.Options(patience=1), model(learning_rate=1e-4))
    for number, value in enumerate([1.0, 1.0, 0.9], 1):  # a window of two, and one step of the next
        before.update(number, {"began/convergence": torch.tensor(value)})
    after.load_state_dict(before.state_dict())
    monkeypatch.setattr("gankit_began.balance.WINDOW", 5)
    for number in (4, 5):
        after.update(number, {"began/convergence": torch.tensor(0.9)})
    assert float(after.lowest) == pytest.approx(0.9)  # divided by the window it would be 0.54, never reached again
    for number in range(6, 11):
        after.update(number, {"began/convergence": torch.tensor(0.8)})
    assert float(after.lowest) == pytest.approx(0.8)
    assert float(after.value(RATES[0])) == pytest.approx(1e-4)


@pytest.mark.parametrize("lost", [[0, 1], [4, 5]], ids=["in the first window", "later"])
@pytest.mark.usefixtures("windows_of_two")
def test_a_convergence_that_is_not_a_number_is_no_low_and_later_ones_still_are(lost):
    values = [1 / n for n in range(1, 41)]
    for n in lost:
        values[n] = float("nan")
    controller = halving()
    assert rates_over(controller, values) == pytest.approx([1e-4] * 40)
    assert float(controller.lowest) == pytest.approx((1 / 39 + 1 / 40) / 2)


@given(
    seen=st.lists(st.tuples(st.floats(-4, 4), st.floats(0.01, 4)), min_size=1, max_size=40),
    gain=st.floats(1e-4, 0.5),
    limit=st.floats(1, 16),
)
@settings(deadline=None)
def test_pace_sets_the_rates_apart_by_the_summed_relative_balance_and_no_more_than_its_limit(seen, gain, limit):
    began = model(learning_rate=1e-4, learning_rate_generator=4e-5)
    u, expected = 0.0, [[4e-5, 1e-4]]
    for balance, real in seen:
        u = float(np.clip(u - gain * balance / real, -np.log(limit) / 2, np.log(limit) / 2))
        expected.append([4e-5 * np.exp(u), 1e-4 * np.exp(-u)])
    readings = [{"began/balance": balance, "energy/real": real} for balance, real in seen]
    got = walk(Pace(Pace.Options(gain=gain, limit=limit), began), readings, *RATES)
    assert got == pytest.approx(np.array(expected), rel=1e-9)
    apart = got[:, 0] / got[:, 1] / (4e-5 / 1e-4)
    assert (apart <= limit * (1 + 1e-9)).all()
    assert (apart >= (1 - 1e-9) / limit).all()


@pytest.mark.parametrize(
    ("balance", "faster"), [(-0.1, "learning_rate/generator"), (0.1, "learning_rate/discriminator")]
)
def test_pace_speeds_up_the_network_that_lags(balance, faster):
    """L(G(z)) above γ L(x): the generator lags. Below it, the discriminator does."""
    began = model(learning_rate=1e-4)
    readings = [{"began/balance": balance, "energy/real": 0.2}] * 50
    rates = dict(zip(RATES, walk(Pace(Pace.Options(), began), readings, *RATES).T, strict=True))
    (slower,) = set(RATES) - {faster}
    assert (np.diff(rates[faster]) > 0).all()
    assert (np.diff(rates[slower]) < 0).all()


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
            convolutions = [m for m in network.modules() if isinstance(m, Convolutions)]
            for convolution in convolutions:
                convolution.at_step(number)
            assert [float(m.carry) for m in convolutions] == pytest.approx([carry] * len(convolutions))


@pytest.mark.parametrize("edges", [0.5, 2])
def test_the_error_with_edges_has_its_first_and_second_derivatives(edges):
    error = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: pixel_error(e, edges=edges), error)
    assert torch.autograd.gradgradcheck(lambda e: pixel_error(e, edges=edges).square(), error)


def test_our_elu_is_elu_with_its_first_and_second_derivatives():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(elu(x), F.elu(x))
    assert torch.autograd.gradcheck(elu, x)
    assert torch.autograd.gradgradcheck(elu, x)
    half = (torch.randn(1000) * 2).bfloat16()
    torch.testing.assert_close(elu(half), F.elu(half))


# The whole model.


@pytest.mark.parametrize(
    ("asked", "rate"),
    [
        ({}, 7.5e-4),
        ({"learning_rate": 2e-4}, 5e-4),
        ({"learning_rate_generator": "1x"}, 3e-4),
        ({"learning_rate_generator": "4x"}, 12e-4),
        ({"learning_rate_generator": "1.5x", "networks": "began-autoencoder"}, 1.5e-4),
        ({"learning_rate_generator": "auto"}, 7.5e-4),
        ({"learning_rate_generator": 1e-4}, 1e-4),
        ({"learning_rate_generator": None}, 3e-4),
        ({"learning_rate": 1e30}, 1e30),
        ({"networks": "began-autoencoder"}, 1e-4),
        ({"skip_connections": False}, 1e-4),
    ],
)
def test_the_generator_s_rate_is_2_5_times_the_other_where_it_is_not_given_and_the_networks_are_quick(asked, rate):
    resolved = BEGAN.resolve(BEGAN.Settings(**asked), Machine("cpu", False))
    made = BEGAN(resolved, (3, 32, 32))
    assert made.learning_rate("generator") == pytest.approx(rate)
    assert made.learning_rate("discriminator") == resolved.learning_rate
    assert BEGAN.resolve(BEGAN.Settings(**resolved.model_dump()), Machine("cpu", False)) == resolved  # at a resume


def test_both_rates_follow_where_one_is_given_at_a_resume(gankit: Gankit, tmp_path):
    run = ("run", "began", "--data", "demo:60", "--image-size", 16, "--set", "filters=4", "--log-every", 1)
    gankit(*run, "--steps", 1, "--out", "run")
    gankit("resume", "run", "--steps", 2, "--set", "learning_rate=4e-5")
    rates = [
        [line[f"learning_rate/{name}"] for name in ("generator", "discriminator")] for line in lines(tmp_path / "run")
    ]
    assert rates == [pytest.approx([7.5e-4, 3e-4]), pytest.approx([1e-4, 4e-5])]


def test_it_learns_a_reconstruction_on_the_demo_data_within_400_steps(tmp_path, monkeypatch):
    import gankit

    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    run = gankit.run(
        "began",
        "demo:200",
        out=tmp_path / "run",
        steps=400,
        image_size=16,
        set={"filters": 8, "learning_rate": 1e-3, "edges": 0},
        log_every=10,
    )
    energy = [line["energy/real"] for line in run.metrics()]
    assert np.mean(energy[-5:]) < energy[0] / 2
