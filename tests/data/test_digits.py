"""Stacked digits: the drawings, their origin, and the number of modes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, SMALL, refused

import gankit as public
from gankit.data import Request, StackedDigits
from gankit.data.digits import MODES, draws, enlarged, single_digits

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn")


@pytest.mark.parametrize("size", [8, 16, 20, 32])
def test_enlarging_is_bilinear_as_torch_has_it(size):
    digits = np.random.default_rng(0).integers(0, 17, (7, 8, 8))
    expected = F.interpolate(
        torch.from_numpy(digits)[None].double(), size=(size, size), mode="bilinear", align_corners=False
    )[0]
    made = enlarged(digits, size)
    assert made.dtype == np.uint8
    assert np.abs(made - expected.numpy() * 255 / 16).max() <= 0.5 + 1e-9


def test_every_channel_is_a_digit_of_its_label_and_all_modes_are_there(sklearn):
    data = StackedDigits().open("6000", Request(16))
    digits, targets = single_digits()
    assert digits.shape == (1797, 8, 8)
    assert data.shape == (3, 16, 16)
    assert len(data.train) + len(data.held_out) == 6000
    known = dict(zip((d.tobytes() for d in enlarged(digits, 16)), targets, strict=True))
    assert len(known) == len(digits)
    for picture, label in zip(data.train[:200], data.labels[:200], strict=True):
        found = [known[np.ascontiguousarray(picture[:, :, channel]).tobytes()] for channel in range(3)]
        assert "".join(map(str, found)) == data.label_names[label] == f"{label:03d}"
    both = StackedDigits().open("6000", Request(16, holdout=0)).labels
    assert len(data.label_names) == MODES
    assert len(np.unique(both)) > 0.99 * MODES  # 6,000 draws leave out 1,000·exp(−6) = 2.5 of them
    counts = np.bincount(both, minlength=MODES)
    assert counts.std() == pytest.approx(np.sqrt(6), rel=0.1)


def test_the_same_pictures_each_time_and_at_each_size_the_same_digits(sklearn, tmp_path, monkeypatch):
    first = StackedDigits().open("50", Request(16, holdout=0))
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    again = StackedDigits().open("50", Request(16, holdout=0))
    assert first.digest == again.digest
    assert np.array_equal(first.train, again.train)
    assert StackedDigits().open("60", Request(16)).digest != first.digest
    larger = StackedDigits().open("50", Request(32, holdout=0))
    assert sorted(larger.labels) == sorted(first.labels)
    assert np.array_equal(draws(5, 40, 1797), draws(5, 50, 1797)[:40])


def test_began_trains_on_it_and_ignores_the_labels(sklearn, tmp_path, undrawn):
    run = public.run(
        "began", "stacked-digits:60", out=tmp_path / "run", steps=2, image_size=16, batch_size=4,
        set={"filters": 4, "latent": 8},
    )  # fmt: skip
    assert run.result["outcome"] == "finished"
    assert run.sample(3).shape == (3, 3, 16, 16)


@pytest.mark.parametrize("argument", ["x", "1", "-3", "9999999"])
def test_a_wrong_number_is_refused(gankit, argument):
    said = gankit("run", "began", "--data", f"stacked-digits:{argument}", *SMALL, "--steps", 0)
    refused(said, f"stacked-digits:{argument} is not a number of pictures", "from 2 to 1000000")


def test_without_scikit_learn_one_line_says_how_to_get_it(gankit, monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    said = gankit("run", "began", "--data", "stacked-digits", *SMALL, "--steps", 0, "--out", "run")
    refused(said, "it needs scikit-learn", "pip install scikit-learn")
    assert not (tmp_path / "run").exists()


# The benchmark.


def test_modes_and_kl_by_hand():
    from stacked_digits import measure

    good = np.array([True, False, True, True])
    found = measure(np.array([3, 3, 3, 7]), good, np.full(10, 0.1))
    assert (found.modes, found.good) == (2, 0.75)
    assert found.kl == pytest.approx(0.75 * np.log(7.5) + 0.25 * np.log(2.5))
    assert measure(np.arange(10).repeat(3), good, np.full(10, 0.1)).kl == pytest.approx(0)
    assert measure(np.zeros(9, int), good, np.full(1000, 1e-3)).kl == pytest.approx(np.log(1000))


def test_the_law_is_that_of_drawing_each_digit_on_its_own(sklearn):
    from stacked_digits import law_of

    targets = single_digits()[1]
    law = law_of(targets)
    assert law.sum() == pytest.approx(1)
    assert law[307] == pytest.approx(np.prod([(targets == digit).mean() for digit in (3, 0, 7)]))


def test_the_classifier_reads_real_pictures_and_the_ceiling_is_1000_modes(sklearn):
    from stacked_digits import Asked, Reader, real_pictures

    read = Reader(16)
    assert read.accuracy > 0.97
    data = StackedDigits().open("13000", Request(16, holdout=0))
    pictures = real_pictures(Asked(pictures=13_000, samples=13_000))
    assert (read.modes(pictures) == data.labels).mean() > 0.97
    found = read(pictures)
    assert found.modes == MODES
    assert found.kl == pytest.approx(999 / 2 / 13_000, rel=0.2)  # the value for equally many true draws


def test_what_shows_no_digits_catches_modes_and_is_told_by_the_share_of_good_samples(sklearn):
    from stacked_digits import Asked, Reader, means_of_two, real_pictures

    read, real = Reader(16), real_pictures(Asked(pictures=13_000, samples=13_000))
    means = read(means_of_two(real))
    assert means.modes > 900  # so modes alone flatter
    assert means.kl > 0.5
    assert means.good < 0.4 < 0.95 < read(real).good
    assert read(torch.rand(500, 3, 16, 16) * 2 - 1).good == 0


def test_the_benchmark_goes_on_where_it_was(sklearn, tmp_path, undrawn, monkeypatch):
    import stacked_digits

    small = {"filters": 4, "latent": 8}
    asked = stacked_digits.Asked(steps=2, samples=20, batch_size=4, pictures=60, settings=small)
    first: list[str] = []
    stacked_digits.bench(tmp_path, ["BEGAN cured", "EBGAN"], asked, first.append)
    assert any(line.startswith("| BEGAN cured |") for line in first)
    run = public.Run(tmp_path / "BEGAN-cured-0")
    assert run.config["model"]["gamma"] == 1
    assert run.config["losses"].keys() == {"energy-distance", "imle", "critic"}
    again: list[str] = []
    monkeypatch.setattr(stacked_digits.gankit, "run", None)
    stacked_digits.bench(tmp_path, ["BEGAN cured", "EBGAN"], asked, again.append)
    assert again == first
