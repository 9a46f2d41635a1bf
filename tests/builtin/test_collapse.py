"""The mode-collapse detector: its numbers, its alarms, cases without alarm, its messages."""

from __future__ import annotations

import copy
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import TINY, Gankit, lines, timeless
from scipy.spatial.distance import cdist

from gankit.builtin.mode_collapse import ONE_COLOUR, PATIENCE, Health, ModeCollapse, Places
from gankit.components import Snapshot
from gankit.data.batches import to_float
from gankit.data.demo import Demo, attribute_values
from gankit.data.source import Request
from gankit.metrics.bins import bins, different_bins
from gankit.metrics.features import RandomConvolutions
from gankit.model import Remedy
from gankit.runs.advice import command
from gankit.runs.folder import RunFolder

EVERY = 500
CURES = (Remedy("slower", {"gamma": 0.7}, {"pulling-away": 0.1}),)
Shown = Callable[[int], torch.Tensor]


@pytest.fixture(scope="module")
def demo() -> tuple[torch.Tensor, np.ndarray]:
    """Demo pictures (1500, 3, 32, 32) and their attributes; the first 900 are for training."""
    data = Demo(Demo.Options(count=1500)).open(None, Request(32, holdout=0))
    return to_float(torch.from_numpy(data.train.copy())), attribute_values(data.labels)


class Stream:
    """A training that consists of its samples only."""

    def __init__(self, real: torch.Tensor, held_out: torch.Tensor | None = None, pictures: int = 200) -> None:
        self.detector = ModeCollapse(ModeCollapse.Options(pictures=pictures))
        self.real_ones = real, real[:0] if held_out is None else held_out
        self.step = 0
        self.random = torch.Generator().manual_seed(0)

    def real(self, n: int, held_out: bool = False) -> torch.Tensor:
        source = self.real_ones[held_out]
        return source[:: max(1, len(source) // max(n, 1))][:n]

    def look(self, source: torch.Tensor, raw: torch.Tensor | None = None) -> Any:
        """Samples drawn from `source`, blurred and noisy as a generator's are."""

        def generate(n: int, averaged: bool = True) -> torch.Tensor:
            chosen = source if averaged or raw is None else raw
            x = chosen[torch.randint(len(chosen), (n,), generator=self.random)]
            blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            return (blurred + 0.03 * torch.randn(x.shape, generator=self.random)).clamp(-1, 1)

        self.step += EVERY
        model: Any = None
        snapshot = Snapshot(self.step, {}, model, generate, self.real, model, remedies=lambda kind: CURES)
        return self.detector.read(snapshot)

    def opened(self, source: torch.Tensor, looks: int = 8) -> Stream:
        for _ in range(looks):
            assert not self.look(source).alarms
        assert self.detector.health.word == "healthy"
        return self


@pytest.fixture(scope="module")
def _opened(demo) -> Stream:
    pictures, _ = demo
    return Stream(pictures[:700], pictures[700:900]).opened(pictures[900:])


@pytest.fixture
def stream(_opened) -> Stream:
    """Healthy until step 4,000."""
    random, _opened.random = _opened.random, None  # generator objects cannot be copied
    own, _opened.random = copy.deepcopy(_opened), random
    own.random = random.clone_state()
    return own


# Its numbers.


def test_bins_are_those_that_numpy_and_scipy_count():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(400, 5)), rng.normal(0.4, 1, size=(150, 5))
    cells = bins(torch.tensor(real), 12)
    centres = cells.centres.numpy()
    counts = [np.bincount(cdist(points, centres).argmin(1), minlength=12) for points in (real, fake)]
    assert cells.share.numpy() == pytest.approx(counts[0] / 400, abs=0.03)  # k-means moves its centres once more
    expected = 0
    for a, b in zip(np.round(cells.share.numpy() * 400).astype(int), counts[1], strict=True):
        # The z test of two proportions, squared, is the χ² test of the 2×2 table without correction.
        expected += scipy.stats.chi2_contingency([[a, 400 - a], [b, 150 - b]], correction=False).pvalue < 0.05
    assert different_bins(cells, torch.tensor(fake)) == pytest.approx(expected / 12)
    assert different_bins(cells, torch.tensor(real)) == 0


def test_random_convolutions_are_the_same_in_every_process():
    code = (
        "from gankit.metrics.features import RandomConvolutions as R;"
        "print([w.double().sum().item() for w in R(3).weights])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert [weight.double().sum().item() for weight in RandomConvolutions(3).weights] == json.loads(there)
    assert torch.equal(state, torch.random.get_rng_state())  # the training's random stream stays untouched


def test_real_pictures_reach_what_real_pictures_reach(demo):
    pictures, _ = demo
    stream = Stream(pictures[:700], pictures[700:900])
    stream.look(pictures[900:])
    found = stream.detector.reference.compare(pictures[700:900])
    assert found["variety"] == pytest.approx(1)
    assert found["colours"] == pytest.approx(1, abs=0.15)
    assert found["diversity"] == pytest.approx(1, abs=0.05)
    assert found["different-bins"] <= 0.25


def test_places_overlap_as_numpy_counts_it(demo):
    pictures, _ = demo
    places = Places(pictures[:500])
    shown = pictures[900:1100].clamp(max=0.8)
    expected = []
    for side, kept, centres, shares in places.cells:
        small = [x.numpy().reshape(-1, 3, 8, 4, 8, 4).mean((3, 5)) for x in (pictures[:500], shown)]
        for place, means, share in zip(kept.tolist(), centres.numpy(), shares.numpy(), strict=True):
            row, column = divmod(place, 9 - side)
            seen = [x[:, :, row : row + side, column : column + side].reshape(len(x), -1) for x in small]
            counts = [np.bincount(cdist(x, means).argmin(1), minlength=len(means)) / len(x) for x in seen]
            assert share == pytest.approx(counts[0], abs=0.05)  # k-means moves its centres once more
            expected.append(np.sqrt(counts[1] * share).sum() ** 2)
    assert places.shown(shown) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("left", [1, 2, 4])
def test_a_share_of_the_kinds_gone_is_that_share_of_the_places_gone(left, recwarn):
    """Equally many pictures of four colours in one eighth of a white picture: fewer kinds than cells, no warning."""
    real = torch.ones(400, 3, 32, 32)
    real[:, :, 8:12, 16:20] = torch.eye(4)[torch.arange(400) % 4, :3, None, None]
    shown = Places(real).shown(real[torch.arange(400) % 4 < left])
    assert len(shown) == 1 + 9  # the eighth, and each window with it
    assert shown == pytest.approx([left / 4] * 10)
    assert not recwarn.list


def test_pictures_that_are_all_alike_have_no_places_to_lose():
    assert Places(torch.ones(100, 3, 32, 32)).shown(torch.zeros(50, 3, 32, 32)) == []


# Its alarms.


def only(demo: tuple[torch.Tensor, np.ndarray], column: int, *values: int) -> torch.Tensor:
    pictures, attributes = demo
    return pictures[900:][np.isin(attributes[900:, column], values)]


def one_hue(pictures: torch.Tensor, hue: int) -> torch.Tensor:
    ink = torch.tensor(((0.6, 0.4, 0.2), (0.2, 0.4, 0.8)))[hue].view(1, 3, 1, 1)
    return 1 - (1 - pictures.mean(1, keepdim=True)) * (1 - ink) * 1.5


PLANTED = {
    "half of the shirts": lambda demo: only(demo, 3, 0, 1, 2),
    "half of the skins": lambda demo: only(demo, 0, 0, 1),
    "half of the styles": lambda demo: only(demo, 2, 1, 3),
    "one hair of five": lambda demo: only(demo, 1, 3),
    "one picture": lambda demo: demo[0][900:901],
    "ten pictures": lambda demo: demo[0][900:910],
    "one hue": lambda demo: one_hue(demo[0][900:], 0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_collapse_is_seen_within_two_looks(name, demo, stream):
    left, alarms = PLANTED[name](demo), []
    for _ in range(2):
        new = stream.look(left).alarms
        assert all(alarm.before == stream.detector.health.best_step for alarm in new if alarm.kind != "one-colour")
        alarms += new
    assert {alarm.kind for alarm in alarms} & {"narrowing", "mode-collapse"}
    assert stream.detector.health.word in ("narrowing", "collapsed")
    if "half" not in name:
        assert any(alarm.severity == "critical" for alarm in alarms)


def test_a_healthy_stream_raises_nothing(demo):
    pictures, attributes = demo
    rng = np.random.default_rng(1)
    for level in range(2):
        stream = Stream(pictures[:700], pictures[700:900])
        for _ in range(10):  # the share of each shirt wanders; at level 1 some never appear
            weight = np.exp(rng.normal(0, 0.15, 6))[attributes[900:, 3]] * (attributes[900:, 3] > 2 * level - 1)
            drawn = rng.choice(600, 600, p=weight / weight.sum())
            reading = stream.look(pictures[900:][drawn])
            assert not reading.alarms
            assert reading.healthy is not False


def test_one_colour_is_seen_while_distances_look_healthy(demo):
    """The failure of a plain BEGAN on the illustrations: forms vary, the single colour changes now and then."""
    pictures, _ = demo
    stream = Stream(pictures[:700], pictures[700:900])
    pale = 1 - (1 - pictures[900:]) * (0.4 + 0.6 * torch.rand(600, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    told = []
    for look in range(10):
        reading = stream.look(one_hue(pale, (look // 4) % 2))
        assert reading.values["diversity"] > 0.5
        assert reading.values["colours"] < ONE_COLOUR
        told += [(stream.step, alarm.kind, alarm.severity) for alarm in reading.alarms]
        assert stream.step < 3000 or reading.healthy is False
    assert len(told) == 1
    step, kind, severity = told[0]
    assert step <= 3000
    assert kind in ("one-colour", "one-mode")
    assert severity == "warning"


def test_losing_one_generator_alone_is_seen(demo, stream):
    pictures, _ = demo
    assert [a.kind for _ in range(2) for a in stream.look(pictures[900:], raw=pictures[900:901]).alarms]


# States.


def judged(health: Health, *varieties: float, colours: float = 1.0, step: int = 0) -> list[tuple[str, list]]:
    found = []
    for i, variety in enumerate(varieties):
        told = health.judge(step + (i + 1) * EVERY, variety, colours)
        found.append((health.word, told))
    return found


def test_the_states_and_their_hysteresis():
    health = Health()
    judged(health, *[0.5] * 8)
    assert health.word == "healthy"
    seen = judged(health, 0.38, 0.38, 0.44, 0.38, 0.2, 0.2, 0.3, 0.44, 0.46, 0.38, 0.5, step=4000)
    assert [word for word, _ in seen] == [
        *("healthy", "narrowing", "narrowing", "narrowing", "collapsed", "collapsed", "collapsed", "collapsed"),
        *("recovered", "recovered", "recovered"),
    ]
    assert [told for _, told in seen if told] == [[("narrowing", "warning")], [("mode-collapse", "critical")]]


def test_a_sudden_end_is_told_at_once_and_a_single_low_look_is_not():
    health = Health()
    judged(health, *[0.5] * 8)
    assert judged(health, 0.35, 0.5, step=4000) == [("healthy", []), ("healthy", [])]
    assert judged(health, 0.1, step=5000) == [("collapsed", [("mode-collapse", "critical")])]


def test_three_places_must_lose_and_each_has_its_own_best():
    def after(*now: float) -> list[tuple[str, str]]:
        health = Health()
        for look in range(8):
            assert health.judge((look + 1) * EVERY, 0.5, 1.0, places=[0.9, 0.8, 0.4, 0.6, 0.01]) == []
        return [told for look in (8, 9) for told in health.judge((look + 1) * EVERY, 0.5, 1.0, places=now)]

    assert after(0.9, 0.8, 0.2, 0.6, 0.0) == []  # one, and one that never appears
    assert after(0.6, 0.6, 0.3, 0.6, 0.01) == [("narrowing", "warning")]
    assert after(0.4, 0.3, 0.1, 0.6, 0.01) == [("mode-collapse", "critical")]


def test_what_was_shown_before_it_opened_is_no_best():
    health = Health()
    for look in range(4):
        health.judge((look + 1) * EVERY, 0.01, 1.0, places=[0.9] * 3)
    for look in range(4, 12):
        assert health.judge((look + 1) * EVERY, 0.5, 1.0, places=[0.5] * 3) == []
    assert health.share == 1


def test_a_run_that_never_opens_is_told_at_3000_steps_and_given_up_at_6000():
    health = Health()
    seen = judged(health, *[0.01] * 14)
    assert [(i * EVERY, told) for i, (_, told) in enumerate(seen, 1) if told] == [
        (3000, [("one-mode", "warning")]),
        (6000, [("one-mode", "critical")]),
    ]
    assert {word for word, _ in seen[:5]} == {"warming up"}


def test_a_generator_that_ignores_its_latent_is_told_at_the_second_look_and_a_slow_one_is_not():
    dead, slow = Health(), Health()
    assert dead.judge(500, 0.0, 0.0, apart=1e-5) == []
    assert dead.judge(1000, 0.0, 0.0, apart=1e-5) == [("dead-generator", "critical")]
    assert dead.judge(1500, 0.0, 0.0, apart=1e-5) == []
    for step in range(500, 3000, 500):  # the minimum of trainings that recovered later
        assert slow.judge(step, 0.0, 0.02, apart=0.02) == []


def test_a_run_that_still_opens_up_is_left_alone():
    """Plain numbers of the illustrations: one brown for all until step 5,000, and fine later."""
    health = Health()
    varieties = [0, 0, 0, 0.01, 0.04, 0.07, 0.09, 0.12, 0.14, 0.16, 0.2, 0.25, 0.3, 0.3]
    for i, variety in enumerate(varieties, 1):
        assert health.judge(i * EVERY, variety, min(1, 0.05 * 1.2**i)) == []
    assert health.word == "healthy"


def test_one_colour_waits_for_growth_and_goes_when_colours_come():
    health = Health()
    seen = judged(health, *[0.4] * 10, colours=0.1)
    (first,) = [i * EVERY for i, (_, told) in enumerate(seen, 1) if told]
    assert first == max(3000, EVERY + PATIENCE)
    assert seen[-1][0] == "one colour"
    assert judged(health, 0.4, colours=ONE_COLOUR + 0.05, step=5000)[-1] == ("one colour", [])
    assert judged(health, 0.4, 0.4, colours=0.5, step=5500)[-1] == ("healthy", [])


def test_the_warm_up_begins_again_after_a_return():
    health = Health()
    assert health.judge(9000, 0.01, 1.0, since=8000) == []
    assert health.word == "warming up"


def test_the_state_survives_json(demo, stream):
    pictures, _ = demo
    other = Stream(pictures[:700], pictures[700:900])
    other.step, other.random = stream.step, stream.random.clone_state()
    other.detector.restore(json.loads(json.dumps(stream.detector.state())))
    for _ in range(3):
        mine, its = stream.look(pictures[900:905]), other.look(pictures[900:905])
        assert mine == its
    assert other.detector.state() == stream.detector.state()


# Odd data.


def test_few_pictures_give_a_word_and_nothing_else(demo):
    for count in (1, 19, 40):
        reading = Stream(demo[0][:count]).look(demo[0][900:])
        assert (reading.health, dict(reading.values), list(reading.alarms)) == ("too few pictures to judge", {}, [])
        assert reading.healthy is None


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_pictures_are_judged_by_form_alone(channels, demo):
    grey = demo[0].mean(1, keepdim=True).expand(-1, channels, -1, -1)
    stream = Stream(grey[:700], grey[700:900])
    stream.look(grey[900:])
    stream.opened(grey[900:])
    reading = stream.look(grey[900:901])
    assert math.isnan(reading.values["colours"])
    assert [alarm.kind for alarm in reading.alarms] == ["mode-collapse"]


def test_points_are_left_alone():
    model: Any = None
    reading = ModeCollapse(ModeCollapse.Options()).read(
        Snapshot(500, {}, model, model, lambda n, held_out=False: torch.zeros(n, 2), model)
    )
    assert (dict(reading.values), list(reading.alarms)) == ({}, [])


# Its messages, in a run.


def test_an_alarm_says_numbers_and_flags_that_can_be_pasted(demo, stream, gankit: Gankit, run):
    (alarm,) = stream.look(demo[0][900:901]).alarms
    assert re.search(
        r"variety is \d+% of the best variety of this run, at step [23],\d00 \(coverage 0\.\d\d, recall 0\.\d\d",
        alarm.message,
    )
    assert alarm.readings["variety"] < 0.1
    assert set(alarm.readings) == {"left", "variety", "coverage", "recall", "precision", "colours", "diversity"}
    (remedy,) = alarm.advice
    assert remedy.why.endswith("slower")
    data = {"arguments": remedy.arguments, "new_run": remedy.new_run}
    words = shlex.split(command(RunFolder(run), data, None))
    assert words[:2] == ["gankit", "resume"]
    said = gankit(*words[1:], "--steps", 9)
    assert said.code == 0
    changed = json.loads((run.with_name("copy-again") / "config.json").read_text())
    assert changed["model"]["gamma"] == 0.7
    assert changed["losses"]["pulling-away"]["weight"] == 0.1


def test_a_runs_metrics_have_its_readings_and_no_number_of_the_training_moves(
    gankit: Gankit, undrawn, tmp_path, monkeypatch
):
    monkeypatch.setattr(ModeCollapse, "every", 3)
    options = ("--set", "mode-collapse.pictures=24")
    assert gankit("run", "began", *TINY, *options, "--out", "with").code == 0
    monkeypatch.setattr(ModeCollapse, "every", 10**9)  # it never looks
    assert gankit("run", "began", *TINY, "--out", "without").code == 0
    watched, alone = timeless(tmp_path / "with"), timeless(tmp_path / "without")
    for step in (3, 6):
        line = next(line for line in watched if line["step"] == step)
        for prefix in ("", "raw-"):
            assert 0 <= line[f"mode-collapse/{prefix}coverage"] <= 1
            assert line[f"mode-collapse/{prefix}variety"] >= 0
    assert [{k: v for k, v in line.items() if not k.startswith("mode-collapse/")} for line in watched] == alone
    assert not lines(tmp_path / "with", "alarms.jsonl")
