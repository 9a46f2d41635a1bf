"""Benchmarks: measures on samples whose answer is known, recorded streams, and that each one still runs."""

import json
import math
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT

from gankit.builtin.cleanliness import Cleanliness
from gankit.data.batches import to_float
from gankit.data.demo import Demo
from gankit.data.source import Request

sys.path.insert(0, str(ROOT / "benchmarks"))
import collapse_cost
import quality
import recorded
import speed
import two_dimensional
from mixtures import Grid, Ring
from two_dimensional import measure

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("mixture", [Ring, Grid])
def test_samples_of_the_mixture_itself_catch_every_mode(mixture):
    labels = np.arange(100 * len(mixture.centres)) % len(mixture.centres)
    found = measure(mixture.centres[labels] + RANDOM.normal(0, mixture.sigma, (len(labels), 2)), *of(mixture))
    assert found.modes == len(mixture.centres)
    assert found.good == pytest.approx(1 - math.exp(-4.5), abs=0.01)  # of a Gaussian in the plane within 3σ
    assert found.reverse_kl == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("mixture", [Ring, Grid])
def test_one_mode_is_one_mode_however_good(mixture):
    found = measure(np.repeat(mixture.centres[3:4], 50, axis=0), *of(mixture))
    assert (found.modes, found.good) == (1, 1)
    assert found.reverse_kl == pytest.approx(math.log(len(mixture.centres)))


def test_uniform_noise_catches_modes_with_hardly_a_good_sample():
    found = measure(RANDOM.uniform(-5, 5, (200_000, 2)), *of(Grid))
    assert found.modes == 25
    assert found.good == pytest.approx(25 * math.pi * 0.15**2 / 100, rel=0.1)


def test_no_good_sample_is_no_mode_and_no_divergence():
    found = measure(np.zeros((10, 2)), *of(Ring))
    assert (found.modes, found.good) == (0, 0)
    assert math.isnan(found.reverse_kl)


def test_unequal_modes_by_hand():
    """Three samples at one mode, one at another, and two bad ones that count only for the share."""
    points = np.concatenate([Ring.centres[[0, 0, 0, 5]], np.zeros((2, 2))])
    found = measure(points, *of(Ring))
    assert (found.modes, found.good) == (2, pytest.approx(4 / 6))
    assert found.reverse_kl == pytest.approx(0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8))


def test_the_points_between_modes_are_half_way_between_neighbours():
    """Of the ring eight at radius cos(π/8); of the grid 40, each with one odd and one even coordinate."""
    assert np.linalg.norm(two_dimensional.midpoints(Ring.centres), axis=1) == pytest.approx([math.cos(math.pi / 8)] * 8)
    between = two_dimensional.midpoints(Grid.centres)
    assert len({tuple(point) for point in between}) == 40
    assert (between.sum(axis=1) % 2 == 1).all()


def test_the_benchmark_goes_on_where_it_was(tmp_path, undrawn, monkeypatch):
    """A second start trains nothing, and gives the same table."""
    monkeypatch.setattr(two_dimensional, "MODELS", {"EBGAN": two_dimensional.MODELS["EBGAN"]})
    first: list[str] = []
    two_dimensional.bench(tmp_path, 2, 3, tmp_path / "figure.png", first.append)
    again: list[str] = []
    monkeypatch.setattr(two_dimensional.gankit, "run", None)
    two_dimensional.bench(tmp_path, 2, 3, None, again.append)
    assert again == first
    assert any(line.startswith("| grid of 25 | EBGAN |") for line in first)
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_every_recorded_stream_opens_to_its_looks():
    streams = ROOT / "benchmarks" / "streams"
    entries = json.loads((streams / "streams.json").read_text())
    assert {path.stem for path in streams.glob("*.webp")} == entries.keys()
    for name, entry in entries.items():
        looks = recorded._sheet(streams / f"{name}.webp", len(entry["steps"]), entry["count"])
        shapes = {side.shape for look in looks for side in look}
        assert (len(looks), shapes) == (len(entry["steps"]), {(entry["count"], 3, recorded.SIDE, recorded.SIDE)})


def test_gankits_sides_of_the_speed_benchmark_take_steps(tmp_path, monkeypatch):
    """`make bench` takes many minutes; here each side makes two steps, and nothing is compiled."""
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: None)
    sides = {
        speed.default_steps: ("demo:40", 16, tmp_path),
        speed.compiled_steps: ("demo:40", 16, tmp_path),
        speed.gankit_steps: ("demo:40", 16, 4, tmp_path, "fp32"),
        speed.gankit_input: ("demo:40", 32, 4, tmp_path),
        speed.one_thread_steps: ("demo:40", tmp_path),
    }
    for make, arguments in sides.items():
        step = make(*arguments)
        step()
        step()


def test_the_share_of_other_programs_leaves_out_this_process_and_its_children():
    patience = speed.Patience(0)
    since = patience.mark()
    with speed.busy_program():
        deadline = time.monotonic() + 60
        while patience.mark()[2] - since[2] < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert time.monotonic() < deadline  # the busy program is ours, however little of the cores it has
    assert 0 <= patience.others(since) < 1


def test_the_cost_of_a_look_is_measured(monkeypatch):
    monkeypatch.setattr(collapse_cost, "STEPS", 1)
    monkeypatch.setattr(collapse_cost, "LOOKS", 1)
    monkeypatch.setattr(speed, "BATCH", 2)
    cells = collapse_cost.row(Cleanliness, 16).split("|")
    assert cells[1].strip() == Cleanliness.name
    assert all(float(cell) > 0 for cell in cells[3:6])


def test_the_quality_during_a_training_is_that_of_its_samples():
    """Other real pictures come near KID 0 and the real shares; noise does not."""
    data = Demo(Demo.Options(count=300)).open(None, Request(32, holdout=0))
    pictures = to_float(torch.from_numpy(data.train.copy()))
    found = {}
    for name, samples in {"real": pictures[200:], "noise": torch.rand(100, 3, 32, 32) * 2 - 1}.items():
        snapshot = SimpleNamespace(
            real=lambda n, held_out=False: pictures[100:200] if held_out else pictures[:100],
            generate=lambda n, samples=samples: samples,
        )
        found[name] = quality.Quality(quality.QualityOptions()).read(snapshot).values
    assert abs(found["real"]["kid"]) < 0.1 < 1 < found["noise"]["kid"]
    assert found["real"]["coverage"] > 0.8
    assert found["noise"]["coverage"] == 0


def test_the_time_to_a_quality_is_that_of_the_first_look_at_it(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "metrics.jsonl", "w", encoding="utf-8") as metrics:
        for step, kid in (1000, 0.6), (2000, 0.4), (3000, 0.45):
            shares = {f"quality/{name}": 0.5 for name in ("precision", "recall", "coverage")}
            line = {"step": step, "images": 32 * step, "seconds": 0.06 * step, "quality/kid": kid}
            print(json.dumps(line | shares), file=metrics)
    quality.main([str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"| {tmp_path.name} | 2.0 | not reached | 3.0 | 3,000 | 533 | 0.500 | 0.500 | 0.500 | 0.450 |"
    )


def of(mixture):
    return mixture.centres, mixture.sigma
