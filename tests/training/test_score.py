"""The score tells good pictures from bad ones; the best checkpoint by it stays and can be used."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Gankit, checkpoints, contents, lines, read, refused, strict_json
from torch import Tensor

from gankit.builtin.cleanliness import Cleanliness
from gankit.builtin.mode_collapse import ModeCollapse, Reference
from gankit.catalogue import Catalogue
from gankit.data import Demo, Request
from gankit.data.batches import to_float
from gankit.data.open import open_source
from gankit.metrics.cleanliness import cleanliness, edge, ground_colour, over_real
from gankit.runs.folder import write_json
from gankit.runs.score import parts, score
from gankit.runs.verdict import of as verdict_of
from gankit.trained.run import Run
from gankit.trained.scored import of_pictures
from gankit.training.pictures import real_pictures


def line(variety: float, form: float, **ratios: float) -> dict[str, float]:
    named = {f"cleanliness/{name}": value for name, value in ratios.items()}
    return {"mode-collapse/variety": variety, "mode-collapse/form": form, **named}


def test_it_is_the_geometric_mean_of_variety_form_and_cleanliness() -> None:
    """clean: (1/2 · 1/2 · 1 · 1)^(1/4) = 1/√2, as too much counts like too little; nothing counts more than 1."""
    measured = line(0.5, 1.2, grain=2.0, flat=0.5, ground=1.0, fine=1.0)
    assert parts(measured) == pytest.approx({"variety": 0.5, "form": 1.0, "clean": 0.5**0.5})
    assert score(measured) == pytest.approx((0.5 * 0.5**0.5) ** (1 / 3))


def test_without_a_ground_the_other_three_ratios_count() -> None:
    assert parts(line(1.0, 1.0, grain=8.0, flat=1.0, fine=1.0)) == pytest.approx(
        {"variety": 1.0, "form": 1.0, "clean": 0.5}
    )


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0, "1", True])
def test_a_part_that_was_not_measured_gives_no_score(value: object) -> None:
    whole = line(1.0, 1.0, grain=1.0, flat=1.0, fine=1.0)
    assert score(whole) == 1.0
    assert score({**whole, "mode-collapse/form": value}) is None  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def real() -> Tensor:
    train = Demo(Demo.Options()).open("1600", Request(32, holdout=0)).train
    return to_float(torch.from_numpy(train.copy()))


def blurred(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)


def noisy(pictures: Tensor) -> Tensor:
    return (pictures + 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)


def noise(pictures: Tensor) -> Tensor:
    return torch.rand(pictures.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1


def darkest(pictures: Tensor) -> Tensor:
    """The half of the pictures with the darkest hair and clothes, each twice."""
    order = pictures.mean((1, 2, 3)).argsort()[: len(pictures) // 2]
    return pictures[order].repeat(2, 1, 1, 1)


# The pictures, and the score that they must stay below; other real pictures have 0.9 and more.
BAD = {
    "blurred": (blurred, 0.8),
    "noisy": (noisy, 0.7),
    "half of them": (darkest, 0.9),
    "means of two": (lambda x: (x + x.flip(0)) / 2, 0.7),
    "one picture": (lambda x: x[:1].repeat(len(x), 1, 1, 1), 0.05),
    "grey": (lambda x: 0.02 * noise(x), 0.05),
    "noise": (noise, 0.05),
}


@pytest.mark.parametrize("kind", BAD)
def test_pictures_with_a_fault_score_below_other_real_ones(kind: str, real: Tensor) -> None:
    compared, ceiling, other = real[:500], real[500:756], real[756:1012]
    reference = Reference(compared, ceiling)
    colour = ground_colour(edge(compared))

    def of(pictures: Tensor) -> float:
        values = {f"mode-collapse/{key}": value for key, value in reference.compare(pictures).items()}
        ratios = over_real(cleanliness(pictures, colour), cleanliness(compared, colour))
        value = score(values | {f"cleanliness/{key}": ratio.value for key, ratio in ratios.items()})
        assert value is not None
        return value

    make, bound = BAD[kind]
    assert of(other) > 0.9
    assert of(make(other)) < bound


def test_blur_costs_form_above_32_pixels_too() -> None:
    """Regression: form saw pictures averaged to 32 pixels alone, and blurred ones of 128 scored 0.91."""
    train = Demo(Demo.Options()).open("1020", Request(64, holdout=0)).train
    pictures = to_float(torch.from_numpy(train.copy()))
    reference = Reference(pictures[:500], pictures[500:756])
    assert reference.compare(pictures[756:1012])["form"] > 0.9
    assert reference.compare(blurred(pictures[756:1012]))["form"] < 0.7
    assert reference.compare(blurred(blurred(pictures[756:1012])))["form"] < 0.3


def test_second_copies_among_the_real_pictures_do_not_hide_a_sample_that_is_repeated(real: Tensor) -> None:
    """Regression: 4 % exact copies in a folder, and half of the samples could be one picture at no loss."""
    compared, ceiling, other = real[:500].clone(), real[500:756], real[756:1012]
    compared[480:] = compared[:20]
    repeated = torch.cat([other[:128], other[:1].repeat(128, 1, 1, 1)])
    reference = Reference(compared, ceiling)
    assert reference.compare(repeated)["duplicates"] == pytest.approx(0.5, abs=0.05)
    assert reference.compare(other)["duplicates"] < 0.05
    assert Reference(compared[:1].repeat(40, 1, 1, 1), ceiling[:40]).double == 0  # nothing to compare with


# The best checkpoint, and one figure everywhere


SCORES = {4: 0.3, 8: 0.7, 12: 0.7, 16: 0.5, 20: 0.6, 24: 0.4}
LOOKING = ("--data", "demo:120", "--checkpoint-every", 4, "--steps", 24, "--out", "run")


@pytest.fixture
def scored(gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with the scores of SCORES, every one at a checkpoint."""
    for diagnostic in (ModeCollapse, Cleanliness):
        monkeypatch.setattr(diagnostic, "every", 4)
    monkeypatch.setattr("gankit.training.diagnose.score", lambda line: SCORES.get(line["step"]))
    assert gankit("run", "began", *TINY, *LOOKING).code == 0
    return tmp_path / "run"


def test_a_run_on_pictures_writes_its_score(gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for diagnostic in (ModeCollapse, Cleanliness):
        monkeypatch.setattr(diagnostic, "every", 4)
    assert gankit("run", "began", *TINY, *LOOKING).code == 0
    looks = [line for line in lines(tmp_path / "run") if line["step"] % 4 == 0]
    assert len(looks) == 6
    for look in looks:
        assert look["score"] == score(look)
        assert 0 <= look["score"] <= 1


def test_the_checkpoint_with_the_best_score_stays_the_first_of_equal_ones(scored: Path) -> None:
    assert 8 in checkpoints(scored)
    assert checkpoints(scored)[-3:] == [16, 20, 24]
    assert 12 not in checkpoints(scored)


def test_a_checkpoint_between_two_looks_has_no_score(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for diagnostic in (ModeCollapse, Cleanliness):
        monkeypatch.setattr(diagnostic, "every", 4)
    scores = {8: 0.9, 12: 0.6, 24: 0.2}
    monkeypatch.setattr("gankit.training.diagnose.score", lambda line: scores.get(line["step"]))
    asked = ("--log-every", 4, "--checkpoint-every", 3, "--steps", 24, "--out", "run")
    assert gankit("run", "began", *TINY, *LOOKING, *asked).code == 0
    assert read(tmp_path / "run/checkpoints/000024/state.json")["best"] == [12, 0.6]  # and not 9, with the score of 8
    assert 12 in checkpoints(tmp_path / "run")


def test_from_best_is_that_checkpoint(gankit: Gankit, scored: Path, tmp_path: Path) -> None:
    assert gankit("sample", scored, "--from", "best", "-n", 4, "--out", "best").code == 0
    assert gankit("sample", scored, "--from", 8, "-n", 4, "--out", "eight").code == 0
    assert gankit("sample", scored, "-n", 4, "--out", "last").code == 0
    first = [(tmp_path / name / "00000.png").read_bytes() for name in ("best", "eight", "last")]
    assert first[0] == first[1] != first[2]


def test_a_branch_from_a_later_step_keeps_the_best_checkpoint(gankit: Gankit, scored: Path, tmp_path: Path) -> None:
    assert gankit("resume", scored, "--from", 20, "--steps", 26, "--out", "branch").code == 0
    assert 8 in checkpoints(tmp_path / "branch")
    assert read(tmp_path / "branch/checkpoints/000020/state.json")["best"] == [8, 0.7]


def test_a_run_without_a_score_has_no_best_checkpoint(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--steps", 4, "--out", "run").code == 0
    refused(gankit("sample", "run", "--from", "best"), "measured no score", "--from STEP")


def test_a_run_shows_one_score_and_one_best_step_wherever_it_shows_them(gankit: Gankit, scored: Path) -> None:
    run = Run(scored)
    assert [run.score(), run.score(8), run.score("best"), run.score(12), run.score(5)] == [0.4, 0.7, 0.7, 0.7, None]
    assert run.best() == 8
    assert (run.result["score"], run.result["best"]) == (0.4, {"step": 8, "score": 0.7})

    for step, options in ((24, ()), (8, ("--from", "best")), (20, ("--from", 20, "--n", 40))):
        told = strict_json(gankit("evaluate", scored, "--json", *(options or ("--n", 60))).out)
        assert next(iter(told["measures"])) == "score"
        assert told["measures"]["score"]["value"] == SCORES[step]
        assert told["measures"]["score"]["n"] == 36  # as many as there are other real pictures
        assert told["of"]["score"] == "recorded"
        seen = parts(next(line for line in lines(scored) if line["step"] == step))
        assert {name: told["measures"][name]["value"] for name in ("variety", "form", "clean")} == seen
    said = gankit("evaluate", scored, "--n", 60).out
    assert re.search(r"^measure .*\nscore +0\.4000 ", said, re.MULTILINE)
    assert "recorded in the training from 36 samples" in said

    (row,) = strict_json(gankit("runs", ".", "--json").out)["runs"]
    assert (row["score"], row["best"]) == (0.7, 8)
    assert "0.70 at 8" in gankit("runs", ".").out

    assert gankit("report", scored).code == 0
    page = (scored / "report.html").read_text(encoding="utf-8")
    assert "score 0.40" in page
    assert "The best checkpoint is step 8, score 0.70" in page
    assert "The star is the best checkpoint that was saved: 0.70 at step 8." in page
    (curves,) = re.findall(r'<script [^>]*id="curves"[^>]*>(.*?)</script>', page, re.DOTALL)
    first = strict_json(curves)["panels"][0]
    assert first["title"].startswith("Score: ")
    assert first["best"] == [8, 0.7]
    assert first["series"][0]["line"] == [list(SCORES), list(SCORES.values())]
    assert re.search(r'<code>score</code></th><td class="number">0\.4</td><td class="number">24<', page)

    ended = gankit("resume", scored, "--steps", 25)  # the terminal, at a step without a look
    assert "score 0.40" in ended.out
    assert Run(scored).score() == 0.4


def test_a_report_from_a_checkpoint_shows_the_run_as_it_was_there(gankit: Gankit, scored: Path) -> None:
    def page(*options: object) -> str:
        assert gankit("report", scored, *options).code == 0
        return (scored / "report.html").read_text(encoding="utf-8").partition("</main>")[0]

    whole, best, at_16 = page(), page("--from", "best"), page("--from", 16)
    assert ["score 0.40" in whole, "score 0.70" in best, "score 0.50" in at_16] == [True] * 3
    assert ["At step 24" in one for one in (whole, best)] == [True, False]
    assert "up to step 8, as asked" in best
    assert re.search(r"Next:.{0,200}gankit sample .{0,200}--from</span> 16<", at_16, re.DOTALL)
    assert "score 0.40" in page()
    refused(gankit("report", scored, "--from", 5), "no checkpoint at step 5")


def test_other_settings_for_a_run_at_its_end_are_refused_before_anything_is_copied(
    gankit: Gankit, scored: Path, tmp_path: Path
) -> None:
    before = contents(scored)
    refused(gankit("resume", scored, "--set", "edges=3", "--out", "again"), "at its last step, 24", "--steps 48")
    assert not (tmp_path / "again").exists()
    assert contents(scored) == before
    assert gankit("resume", scored, "--set", "edges=3", "--steps", 26, "--out", "again").code == 0


def test_a_run_that_is_only_begun_says_so_before_a_score_that_means_nothing_yet(
    gankit: Gankit, scored: Path, tmp_path: Path
) -> None:
    assert "Only begun" not in verdict_of(Run(scored)).headline
    shutil.copytree(scored, tmp_path / "young")
    young = Run(tmp_path / "young")
    (young.folder / "result.json").unlink()
    write_json(young.folder / "config.json", young.config | {"steps": 1000})
    assert verdict_of(young).headline.startswith("Only begun, step 24 of 1,000. ")
    assert "score 0.40" in verdict_of(young).headline


def test_a_look_between_checkpoints_has_a_score_in_the_list_of_runs_and_no_best_step(
    gankit: Gankit, scored: Path
) -> None:
    for step in checkpoints(scored):
        if step not in (0, 24):
            shutil.rmtree(scored / f"checkpoints/{step:06d}")
    (scored / "checkpoints/000024").rename(scored / "checkpoints/000025")
    (row,) = strict_json(gankit("runs", ".", "--json").out)["runs"]
    assert (row["score"], row["best"]) == (0.7, None)
    assert "0.70" in gankit("runs", ".").out


def test_on_few_pictures_it_takes_as_many_samples_as_there_are_other_real_ones() -> None:
    """Regression: a score that was measured later took 256, and flattered the same pictures beside a recorded one."""
    data = open_source("demo:300", Request(32), Catalogue(()))
    train = real_pictures(data, 270)
    mixed = (0.8 * train[torch.arange(256) % 270] + 0.2 * train[torch.arange(256).flip(0) % 270]).clamp(-1, 1)
    many, few = of_pictures(mixed, data), of_pictures(mixed[:90], data)
    assert (many.samples, many.real) == (90, 180)
    assert {name: many.values[name] for name in ("variety", "form")} == {
        name: few.values[name] for name in ("variety", "form")
    }


def test_where_no_score_was_recorded_it_is_the_same_measured_now(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for diagnostic in (ModeCollapse, Cleanliness):
        monkeypatch.setattr(diagnostic, "every", 4)
    assert gankit("run", "began", *TINY, *LOOKING, "--data", "demo:400").code == 0
    first, looks = tmp_path / "run", lines(tmp_path / "run")
    told = strict_json(gankit("evaluate", first, "--n", 60, "--json").out)
    without = [{name: value for name, value in look.items() if name != "score"} for look in looks]
    (first / "metrics.jsonl").write_text("".join(json.dumps(look) + "\n" for look in without))
    again = strict_json(gankit("evaluate", first, "--n", 60, "--json").out)
    assert (told["of"]["score"], again["of"]["score"]) == ("recorded", "measured")
    for name in ("score", "variety", "form", "clean"):
        assert again["measures"][name] == {
            **told["measures"][name],
            "value": pytest.approx(told["measures"][name]["value"], abs=1e-6),
        }
    raw = strict_json(gankit("evaluate", first, "--n", 60, "--raw", "--json").out)
    assert raw["of"]["score"] == "measured"
    assert raw["measures"]["clean"]["value"] != again["measures"]["clean"]["value"]
