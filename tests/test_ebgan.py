"""EBGAN's equations against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gankit_ebgan.model import EBGAN, Margin
from gankit_ebgan.networks import EbganAutoencoder
from gankit_ebgan.pulling_away import pulling_away
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gankit import Judged, Step

energies = st.lists(st.floats(0, 4, width=32), min_size=2, max_size=16)


def model(**given) -> EBGAN:
    return EBGAN(EBGAN.Settings(**{"filters": 4, "latent": 8, **given}), (3, 16, 16))


def step_with(ebgan: EBGAN, real: list[float], fake: list[float], margin: float, codes: np.ndarray) -> Step:
    nothing = torch.empty(0)
    knobs = {"margin": torch.tensor(margin)}
    step = Step(ebgan, 1, ("generator", "discriminator"), nothing, None, nothing, {}, knobs, lambda x: x)
    step.__dict__["seen_fake"] = torch.empty(len(fake), 3, 16, 16)
    step.__dict__["judged_real"] = Judged(nothing, energy=torch.tensor(real))
    step.__dict__["judged_fake"] = Judged(nothing, energy=torch.tensor(fake), code=torch.tensor(codes))
    return step


def by_the_formula(S: np.ndarray) -> float:
    """Section 2.4, term by term."""
    N = len(S)
    total = 0.0
    for i in range(N):
        for j in range(N):
            if i != j:
                total += (S[i] @ S[j] / (np.linalg.norm(S[i]) * np.linalg.norm(S[j]))) ** 2
    return total / (N * (N - 1))


codes = hnp.arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 12)), elements=st.floats(0.1, 5))


@given(codes)
@settings(deadline=None)
def test_pulling_away_is_the_paper_s_double_sum(S):
    signs = np.where(np.arange(S.size).reshape(S.shape) % 3, 1, -1)
    assert float(pulling_away(torch.tensor(S * signs))) == pytest.approx(by_the_formula(S * signs), abs=1e-5)


def test_pulling_away_is_0_for_orthogonal_and_1_for_parallel_codes():
    assert float(pulling_away(torch.eye(4))) == pytest.approx(0)
    assert float(pulling_away(torch.ones(4, 3) * torch.arange(1, 5)[:, None])) == pytest.approx(1)


N = 3 * 16 * 16


@given(real=energies, fake=energies, margin=st.floats(0.125, 5, width=32), weight=st.floats(0, 1))
@settings(deadline=None)
def test_losses_are_the_hinge_on_the_batch_and_the_energy_with_the_pulling_away_term(real, fake, margin, weight):
    S = np.random.default_rng(0).normal(size=(len(fake), 8))
    D_x, D_Gz = np.mean(real, dtype=np.float64), np.mean(fake, dtype=np.float64)
    # A change of the norm ‖e‖ by 1 changes the energy by so much: the weight is given beside the norm.
    slopes = {"norm": 1, "rms": 1 / np.sqrt(N), "mse": 2 * np.sqrt(D_Gz) / np.sqrt(N)}
    for energy, slope in slopes.items():
        ebgan = model(pull_away=weight, energy=energy)
        losses = ebgan.losses(step_with(ebgan, real, fake, margin, S))
        assert float(losses.by_network["discriminator"]) == pytest.approx(D_x + max(0.0, margin - D_Gz), abs=1e-5)
        expected = D_Gz + weight * slope * by_the_formula(S)
        assert float(losses.by_network["generator"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("energy", "unit"),
    [("norm", lambda norm: norm), ("rms", lambda norm: norm / np.sqrt(N)), ("mse", lambda norm: norm**2 / N)],
)
def test_the_energy_is_the_norm_of_the_error_in_the_unit_that_was_asked_for(energy, unit):
    rng = np.random.default_rng(0)
    seen, output = rng.uniform(-1, 1, (2, 5, 3, 16, 16))
    networks = {"discriminator": lambda _: Judged(torch.tensor(output))}
    judged = model(energy=energy).judge(networks, torch.tensor(seen), None)
    norm = np.linalg.norm((seen - output).reshape(5, -1), axis=1)
    assert judged.energy.numpy() == pytest.approx(unit(norm), abs=1e-6)


def test_the_margin_follows_the_real_energy_down_and_never_up():
    controller = Margin(Margin.Options(ratio=1.5, memory=10), model())
    margins, mean = [], None
    for number, real in enumerate([1.0] * 5 + [0.5] * 60 + [2.0] * 10, 1):
        controller.update(number, {"energy/real": torch.tensor(real)})
        mean = real if mean is None else mean + (real - mean) / 10
        margins.append(float(controller.value("margin")))
        assert margins[-1] == pytest.approx(min(1.5 * mean, *margins[:-1], 10), abs=1e-5)
    assert margins[-1] == pytest.approx(0.75, abs=0.01)


def test_a_margin_that_is_set_is_held():
    ebgan = model(margin=0.3)
    controller = Margin(Margin.Options(**ebgan.controller_options("margin")), ebgan)
    controller.update(1, {"energy/real": torch.tensor(2.0)})
    assert float(controller.value("margin")) == pytest.approx(0.3)


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_networks_of_every_size_give_pictures_reconstructions_and_codes(size):
    made = EbganAutoencoder(EbganAutoencoder.Options(filters=4, latent=8))
    networks = made.build((3, size, size), (3, size, size))
    with torch.no_grad():
        fake = networks["generator"](torch.rand(2, 8))
        judged = networks["discriminator"](fake)
    assert fake.shape == judged.output.shape == (2, 3, size, size)
    assert judged.code.shape == (2, 8)


def test_ebgan_runs_on_began_s_networks_through_the_registry(tmp_path, monkeypatch):
    import gankit

    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    run = gankit.run(
        "ebgan",
        "demo:60",
        out=tmp_path / "run",
        steps=3,
        image_size=16,
        batch_size=4,
        set={"filters": 4, "latent": 8, "networks": "began-autoencoder"},
        log_every=1,
    )
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    assert all(np.isfinite(line["ebgan/margin"]) for line in run.metrics())
