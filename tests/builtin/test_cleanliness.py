"""How clean pictures are: the measures against NumPy, on planted noise and blur, and the diagnostic that reads them."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Gankit, lines
from gankit_began.model import BEGAN
from gankit_ebgan.model import EBGAN
from torch import Tensor

from gankit import Alarm, Model, Snapshot
from gankit.builtin.cleanliness import Cleanliness
from gankit.data import demo_figure as figure
from gankit.data.batches import to_float
from gankit.data.demo import attribute_values, draws
from gankit.metrics import cleanliness as measures
from gankit.metrics.cleanliness import Estimate, cleanliness, edge, fine, flat, grain, ground, over_real

WHITE = torch.tensor([255.0, 255.0, 255.0])


@functools.cache
def people(count: int, seed: int = 7, side: int = 32) -> Tensor:
    """Demo pictures on white: (N, 3, S, S) in [-1, 1]."""
    labels, differences = draws(seed, count)
    drawn = zip(attribute_values(labels), differences, strict=True)
    return to_float(torch.from_numpy(np.stack([figure.draw(v, side, differences=d) for v, d in drawn])))


def ground_colour(real: Tensor) -> Tensor | None:
    return measures.ground_colour(edge(real))


def blurred(pictures: Tensor) -> Tensor:
    """Blur with a Gaussian, σ one pixel."""
    weights = torch.exp(-(torch.arange(-3.0, 4) ** 2) / 2)
    weights = (weights / weights.sum()).view(1, 1, -1, 1).expand(pictures.shape[1], 1, -1, 1)
    wide = F.pad(pictures, (3, 3, 3, 3), mode="replicate")
    return F.conv2d(F.conv2d(wide, weights, groups=len(weights)), weights.mT, groups=len(weights))


def noisy(pictures: Tensor, sigma: float | Tensor = 4.0) -> Tensor:
    """Add Gaussian noise with this deviation in grey levels (of 255)."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + sigma / 127.5 * noise).clamp(-1, 1)


def values(told: Mapping[str, Estimate]) -> dict[str, float]:
    return {name: one.value for name, one in told.items()}


# The definitions, one picture and one pixel at a time.


def levels_of(pictures: Tensor) -> np.ndarray:
    """(B, S, S, C), as a PNG has them."""
    return np.clip(np.rint((pictures.double().numpy() + 1) * 127.5), 0, 255).transpose(0, 2, 3, 1)


def grain_by_hand(picture: np.ndarray) -> float:
    found = []
    for i in range(0, len(picture) - 1, 2):
        for j in range(0, len(picture) - 1, 2):
            found += list(abs(picture[i, j] - picture[i, j + 1] - picture[i + 1, j] + picture[i + 1, j + 1]) / 2)
    return float(np.sort(found)[(len(found) - 1) // 2] / 0.6745)


def flat_by_hand(picture: np.ndarray) -> float:
    places = range(len(picture) - 2)
    windows = [picture[i : i + 3, j : j + 3].reshape(9, -1) for i in places for j in places]
    return float(np.mean([np.ptp(window, axis=0).max() <= 4 for window in windows]))


def fine_by_hand(picture: np.ndarray) -> float:
    side = len(picture) // 2 * 2
    whole = picture[:side, :side] / 255
    coarse = whole.reshape(side // 2, 2, side // 2, 2, -1).mean((1, 3))
    return float(np.mean((whole - coarse.repeat(2, axis=0).repeat(2, axis=1)) ** 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9, 32])
def test_each_measure_is_what_counting_gives_whatever_the_side_and_the_channels(side: int, channels: int) -> None:
    # From a picture that is all but flat to one that is not, and in each from left to right.
    rising = torch.linspace(0.1, 1, 12).view(-1, 1, 1, 1) * torch.linspace(0, 1, side) ** 2
    smooth = torch.rand(12, channels, 3, 3, generator=torch.Generator().manual_seed(side)) - 0.5
    pictures = noisy(rising * F.interpolate(smooth, side, mode="bilinear"), sigma=12 * rising)
    by_hand = levels_of(pictures)
    for measure, counted in ((grain, grain_by_hand), (flat, flat_by_hand), (fine, fine_by_hand)):
        expected = [counted(picture) for picture in by_hand]
        assert measure(pictures).tolist() == pytest.approx(expected, rel=1e-4)
        assert len(set(expected)) > 2  # the pictures tell the measures apart
    colour = by_hand[0, 0, 0]
    away = abs(by_hand - colour).max(-1)
    same, near = ground(pictures, torch.tensor(colour))
    assert same.tolist() == (away <= 1.5).sum((1, 2)).tolist()
    assert near.tolist() == (away < 30).sum((1, 2)).tolist()
    assert near.sum() > same.sum() > 0


def test_grain_is_the_deviation_of_gaussian_noise() -> None:
    grey = torch.zeros(200, 3, 32, 32)
    for sigma in (3.0, 10.0):
        assert float(grain(noisy(grey, sigma)).mean()) == pytest.approx(sigma, rel=0.03)


def test_a_measure_over_a_set_is_a_mean_and_the_ground_s_a_share_of_all_near_pixels() -> None:
    pictures = noisy(people(40), sigma=1.0)
    told = cleanliness(pictures, WHITE)
    assert list(told) == ["grain", "flat", "ground", "fine"]
    for name, measure in (("grain", grain), ("flat", flat), ("fine", fine)):
        each = measure(pictures).double().numpy()
        assert told[name].value == pytest.approx(each.mean())
        assert told[name].error == pytest.approx(each.std(ddof=1) / np.sqrt(40))
    # Near-white pixels are those above 225 in all channels, white ones those from 254 on.
    least = levels_of(pictures).min(-1)
    assert told["ground"].value == pytest.approx((least >= 253.5).sum() / (least > 225).sum())


def test_the_standard_error_of_the_ground_is_what_drawing_pictures_again_shows() -> None:
    pictures = noisy(people(300), sigma=1.0)
    same, near = (counts.double().numpy() for counts in ground(pictures, WHITE))
    drawn = np.random.default_rng(0).integers(0, 300, (4000, 300))
    expected = (same[drawn].sum(1) / near[drawn].sum(1)).std()
    assert cleanliness(pictures, WHITE)["ground"].error == pytest.approx(expected, rel=0.08)


# The ground.


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (128, 200, 31)])
def test_the_ground_that_pictures_share_is_found_whatever_its_colour(colour: tuple[int, int, int]) -> None:
    given = torch.tensor(colour, dtype=torch.float).view(3, 1, 1) / 127.5 - 1
    ink = (1 - people(60)) / 2  # white is 0
    pictures = given + ink * (-given - given.sign() * 0.2)
    assert ground_colour(pictures).tolist() == list(colour)
    assert ground_colour(pictures[:, :1]).tolist() == [colour[0]]
    clean = cleanliness(pictures, ground_colour(pictures))["ground"].value
    assert clean > 0.9
    assert cleanliness(noisy(pictures), ground_colour(pictures))["ground"].value < 0.5 * clean


def test_pictures_that_fill_their_square_or_have_each_a_ground_of_its_own_have_no_ground_to_be_measured() -> None:
    stream = torch.Generator().manual_seed(0)
    scenes = F.interpolate(torch.rand(60, 3, 4, 4, generator=stream) * 2 - 1, 32, mode="bilinear")
    coloured = people(60) - torch.rand(60, 3, 1, 1, generator=stream)
    for pictures in (scenes, coloured):
        assert ground_colour(pictures) is None
        assert list(cleanliness(pictures, None)) == ["grain", "flat", "fine"]


def test_of_samples_without_a_pixel_near_the_ground_none_is_it() -> None:
    grey = torch.zeros(8, 3, 16, 16)
    assert cleanliness(grey, WHITE)["ground"].value == 0


# Planted cases.


def test_other_real_pictures_reach_the_real_value_and_noise_grey_and_blur_do_not() -> None:
    real, others = people(400), people(400, seed=8)
    shown = cleanliness(real, ground_colour(real))

    def over(pictures: Tensor) -> dict[str, float]:
        return values(over_real(cleanliness(pictures, ground_colour(real)), shown))

    assert over(real) == dict.fromkeys(shown, 1.0)
    assert over(others) == pytest.approx(dict.fromkeys(shown, 1.0), abs=0.1)
    grainy = over(noisy(real))
    assert grainy["grain"] > 3
    assert grainy["flat"] < 0.2
    assert grainy["ground"] < 0.5
    soft = over(blurred(real))
    assert soft["fine"] < 0.5
    assert soft["grain"] < 1.5
    uniform = over(torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    grey = over(torch.zeros_like(real))
    for name in shown:
        for wrong in (uniform, grey):
            assert abs(wrong[name] - 1) >= abs(over(others)[name] - 1)
    assert uniform["grain"] > 20
    assert (uniform["flat"], uniform["ground"]) == (pytest.approx(0.01, abs=0.02), pytest.approx(0.01, abs=0.02))
    assert (grey["ground"], grey["fine"]) == (pytest.approx(0.01, abs=0.01), pytest.approx(0.0, abs=0.01))


def test_what_nobody_sees_is_no_factor_of_a_hundred() -> None:
    """Pictures that are flat everywhere have no grain and no fine energy, so the ratios have no divisor."""
    real = cleanliness(torch.zeros(8, 3, 16, 16), None)
    assert (real["grain"].value, real["fine"].value) == (0, 0)
    assert values(over_real(real, real)) == {"grain": 1, "flat": 1, "fine": 1}


def test_two_thousand_pictures_of_64_pixels_take_seconds_and_no_more_memory_than_a_part(monkeypatch) -> None:
    pictures = people(100, side=64).repeat(20, 1, 1, 1)
    colour, seen = ground_colour(pictures), []
    levels = measures._levels
    monkeypatch.setattr(measures, "_levels", lambda some: seen.append(some.numel()) or levels(some))
    began = time.process_time()
    told = cleanliness(pictures, colour)
    assert time.process_time() - began < 10  # half a second of one core when measured
    assert max(seen) <= measures.CHUNK
    assert told["grain"].value == pytest.approx(float(grain(pictures[:100]).mean()))


# The diagnostic.

MODELS = [cls(cls.Settings(filters=4, latent=8), (3, 32, 32)) for cls in (BEGAN, EBGAN)]


def watched(
    shown: Callable[[int], Tensor],
    steps: Iterable[int] = range(500, 30_001, 500),
    watch: Cleanliness | None = None,
    model: Model = MODELS[0],
    **more: Any,
) -> list[tuple[int, Alarm]]:
    """The alarms of the diagnostic over a training with these samples."""
    watch, found = watch or Cleanliness(Cleanliness.Options()), []
    for step in steps:
        samples = shown(step)
        snapshot = Snapshot(
            step,
            {},
            model,
            generate=lambda n, samples=samples: samples,
            real=lambda n, held_out=False: people(100),
            judge=lambda *_: None,
            remedies=model.remedies,
            **more,
        )
        found += [(step, alarm) for alarm in watch.read(snapshot).alarms]
    return found


def test_real_pictures_and_a_clean_training_raise_nothing_however_long_it_goes_on() -> None:
    assert watched(lambda step: people(60, seed=step % 5 + 8)) == []
    # Grain of 1.7 times the real pictures' at the worst, and blur that has gone by step 9,000.
    assert watched(lambda step: noisy(people(60, seed=8), 0.5)) == []
    soft = blurred(people(60, seed=8))
    assert watched(lambda step: torch.lerp(soft, people(60, seed=8), min(1.0, 0.3 + step / 15_000))) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize(("kind", "spoil"), [("grainy", noisy), ("blurred", blurred)])
def test_noise_and_blur_that_stay_are_told_once_and_not_before_10000_steps(
    kind: str, spoil: Callable[[Tensor], Tensor], model: Model
) -> None:
    ((step, alarm),) = watched(lambda step: spoil(people(60, seed=8)), model=model)
    assert (step, alarm.kind, alarm.severity) == (10_000, kind, "warning")
    assert alarm.message.startswith(f"The samples are {kind}: ")
    assert set(alarm.readings) == {"grain", "flat", "ground", "fine"}
    weights = {"grainy": ["--set edges=3", "--loss critic=0.1"], "blurred": ["--loss critic=0.1"]}
    advised = weights[kind] if model.name == "began" else []  # other shapes are not measured
    assert [remedy.flags for remedy in alarm.advice] == advised


def test_what_still_gets_better_is_left_in_peace_until_it_does_not() -> None:
    """Noise that falls by an eighth every 2,000 steps until step 20,000, and then stays."""
    fixed = people(60, seed=8)
    ((step, alarm),) = watched(lambda step: noisy(fixed, 16.0 * 0.5 ** (min(step, 20_000) / 10_000)))
    assert alarm.kind == "grainy"
    assert 23_000 <= step <= 25_000


def test_a_training_that_grows_grainy_late_is_told_soon_and_again_only_after_it_was_clean() -> None:
    clean = people(60, seed=8)
    dirty = noisy(clean)
    told = watched(lambda step: dirty if 15_000 <= step < 18_000 or step >= 25_000 else clean)
    assert [(step, alarm.kind) for step, alarm in told] == [(15_500, "grainy"), (25_500, "grainy")]


def test_an_attempt_that_began_anew_has_its_own_time_to_get_clean() -> None:
    dirty = noisy(people(60, seed=8))
    assert watched(lambda step: dirty, since=25_000) == []


def test_what_the_watch_knows_survives_a_checkpoint() -> None:
    dirty = noisy(people(60, seed=8))
    first, second = (Cleanliness(Cleanliness.Options()) for _ in range(2))
    assert watched(lambda step: dirty, range(500, 9001, 500), first) == []
    second.restore(json.loads(json.dumps(first.state())))
    assert [step for step, _ in watched(lambda step: dirty, range(9500, 20_001, 500), second)] == [10_000]


def test_samples_that_are_no_numbers_any_more_break_nothing() -> None:
    watch = Cleanliness(Cleanliness.Options())
    assert watched(lambda step: torch.full((4, 3, 32, 32), torch.nan), [500, 12_000, 12_500], watch) == []
    assert watch.state() == Cleanliness(Cleanliness.Options()).state()


def test_points_are_not_looked_at() -> None:
    points = Snapshot(500, {}, MODELS[0], lambda n: torch.zeros(n, 2), lambda n: torch.zeros(n, 2), lambda *_: None)
    assert Cleanliness(Cleanliness.Options()).read(points).values == {}


def test_every_run_on_pictures_has_the_readings_in_its_lines(
    gankit: Gankit, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    monkeypatch.setattr(Cleanliness, "every", 3)
    assert gankit("run", "ebgan", *TINY, "--set", "cleanliness.pictures=20", "--out", "run").code == 0
    names = ["cleanliness/grain", "cleanliness/flat", "cleanliness/ground", "cleanliness/fine"]
    told = [[name for name in line if name.startswith("cleanliness/")] for line in lines(Path("run"))]
    assert told == [[], [], names, [], [], names]
