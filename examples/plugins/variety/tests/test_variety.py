"""The terms against numpy, on the network that they are for; and noise that fades out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gankit_variety.terms import Consistency, ModeSeeking, moved
from gankit_variety.views import InstanceNoise

from gankit import Judged, Step
from gankit.testing import LossTests, ViewTests


class TestPromisesOfModeSeeking(LossTests):
    name = "mode-seeking"
    options = {"set": {"filters": 4, "latent": 8}}


class TestPromisesOfConsistency(LossTests):
    name = "consistency"
    options = {"set": {"filters": 4, "latent": 8}}


class TestPromisesOfInstanceNoise(ViewTests):
    name = "instance-noise"
    options = {"set": {"filters": 4, "latent": 8}}


class Model:
    """Draws a latent's sum on every pixel; D's score is the mean of the left half, its energy that of the right."""

    energy = False

    def latents(self, n: int, device: torch.device) -> torch.Tensor:
        return torch.randn(n, 4, device=device)

    def generate(self, networks: Any, noise: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return noise.sum(1)[:, None, None, None].expand(-1, 3, 8, 8)

    def judge(self, networks: Any, seen: torch.Tensor, labels: torch.Tensor | None) -> Judged:
        left, right = seen.split(4, dim=3)
        return Judged(left.mean((1, 2, 3)), energy=right.square().mean((1, 2, 3)) if self.energy else None)


def step(model: Model) -> Step:
    torch.manual_seed(0)
    real, noise = torch.rand(5, 3, 8, 8) * 2 - 1, torch.randn(5, 4)
    return Step(model, 1, (), real, None, noise, {}, {}, lambda x: x)  # type: ignore[arg-type]


def test_mode_seeking_is_the_inverse_of_how_far_pictures_are_apart_for_their_latents():
    made = step(Model())
    torch.manual_seed(1)
    value = float(ModeSeeking(ModeSeeking.Options())(made))
    torch.manual_seed(1)
    one, two = made.noise.numpy(), torch.randn(5, 4).numpy()
    pictures = np.abs(one.sum(1) - two.sum(1)).mean()
    assert value == pytest.approx(1 / (pictures / np.abs(one - two).mean() + 1e-5))


def test_a_generator_that_gives_one_picture_to_all_latents_pays_the_most():
    class Collapsed(Model):
        def generate(self, networks: Any, noise: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
            return torch.zeros(len(noise), 3, 8, 8)

    term = ModeSeeking(ModeSeeking.Options())
    assert float(term(step(Collapsed()))) == pytest.approx(1e5)
    assert float(term(step(Model()))) < 10


@pytest.mark.parametrize("energy", [False, True])
def test_consistency_is_the_mean_squared_difference_of_d_s_verdicts(energy):
    model = Model()
    model.energy = energy
    made = step(model)
    torch.manual_seed(1)
    value = float(Consistency(Consistency.Options())(made))
    torch.manual_seed(1)
    changed = moved(made.real, 2).numpy()

    def verdict(pictures: np.ndarray) -> np.ndarray:
        left, right = pictures[..., :4], pictures[..., 4:]
        return (right**2).mean((1, 2, 3)) if energy else left.mean((1, 2, 3))

    assert value == pytest.approx(np.mean((verdict(made.real.numpy()) - verdict(changed)) ** 2), rel=1e-4)
    assert value > 0


def test_what_consistency_shows_is_every_shift_and_mirror_image_and_nothing_else():
    picture, most = torch.rand(3, 8, 8), 1
    padded = np.pad(picture.numpy(), ((0, 0), (most, most), (most, most)), mode="edge")
    shifts = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    mirrored = np.pad(picture.numpy()[..., ::-1], ((0, 0), (most, most), (most, most)), mode="edge")
    shifts += [mirrored[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    torch.manual_seed(0)
    shown = {one.numpy().tobytes() for one in moved(picture.repeat(500, 1, 1, 1), most)}
    assert shown == {np.ascontiguousarray(one).tobytes() for one in shifts}


@pytest.mark.parametrize(("number", "deviation"), [(1, 0.4), (51, 0.2), (101, 0.0), (5000, 0.0)])
def test_the_noise_fades_in_a_straight_line(number, deviation):
    view = InstanceNoise(InstanceNoise.Options(deviation=0.4, steps=100))
    view.at_step(number)
    torch.manual_seed(0)
    noise = view(torch.zeros(20, 3, 16, 16))
    assert float(noise.std()) == pytest.approx(deviation, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
