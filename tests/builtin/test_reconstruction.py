"""The laboratory of reconstruction errors: its numbers, its place in a run, its section of the report."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ROOT, TINY, Gankit, lines, quietly, refused, timeless, weights
from test_report import Page, lines_of, make_run, metrics, report

from gankit.builtin.reconstruction_errors import BATCH, ReconstructionErrors, compare, quantile_plot
from gankit.components import Snapshot
from gankit.errors import UserError
from gankit.model import Judged
from gankit.report.curves import Columns
from gankit.report.reconstruction_errors import laboratory
from gankit.report.story import Story

NAME = "reconstruction-errors"
READINGS = {
    *("real-mean", "fake-mean", "real-variance", "fake-variance", "wasserstein", "mean-term", "variance-term", "ratio"),
    *("empirical-w1", "empirical-w2", "real-halves", "real-normality", "fake-normality"),
}


class Known:
    """A training whose energies are known: a picture's energy is its first number."""

    name = "known"

    def __init__(self, real: np.ndarray, fake: np.ndarray, energy: bool = True) -> None:
        self.values, self.energy, self.asked = {"real": real, "fake": fake, "held out": real[:0]}, energy, []

    def pictures(self, side: str, n: int) -> torch.Tensor:
        values = torch.tensor(self.values[side][:n], dtype=torch.float32)
        return values[:, None, None, None].expand(-1, 3, 8, 8)

    def generate(self, n: int, averaged: bool = True) -> torch.Tensor:
        assert not averaged
        return self.pictures("fake", n)

    def judge(self, pictures: torch.Tensor) -> Judged:
        self.asked.append(len(pictures))
        return Judged(pictures, energy=pictures[:, 0, 0, 0] if self.energy else None)

    def snapshot(self) -> Snapshot:
        model: Any = self
        return Snapshot(500, {}, model, self.generate, self.real, self.judge)

    def real(self, n: int, held_out: bool = False) -> torch.Tensor:
        return self.pictures("held out" if held_out else "real", n)


def look(known: Known, pictures: int = 96) -> Any:
    return ReconstructionErrors(ReconstructionErrors.Options(pictures=pictures)).read(known.snapshot())


# Its numbers.


def test_the_readings_are_those_that_numpy_and_scipy_give() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.gamma(4, 0.05, 150).astype(np.float32), rng.normal(0.1, 0.02, 150).astype(np.float32)
    known = Known(real, fake)
    reading = look(known, 150)
    x, y = real.astype(float), fake.astype(float)
    mean_term, variance_term = (x.mean() - y.mean()) ** 2, x.var() + y.var() - 2 * math.sqrt(x.var() * y.var())
    expected = {
        "real-mean": x.mean(),
        "fake-mean": y.mean(),
        "real-variance": x.var(),
        "fake-variance": y.var(),
        "wasserstein": math.sqrt(mean_term + variance_term),
        "mean-term": mean_term,
        "variance-term": variance_term,
        "ratio": variance_term / mean_term,
        "empirical-w1": np.abs(np.sort(x) - np.sort(y)).mean(),
        "empirical-w2": math.sqrt(((np.sort(x) - np.sort(y)) ** 2).mean()),
        "real-halves": reading.values["real-halves"],  # the next test
        "real-normality": scipy.stats.normaltest(x).pvalue,
        "fake-normality": scipy.stats.normaltest(y).pvalue,
    }
    assert set(expected) == READINGS
    assert reading.values == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert reading.values["real-normality"] < 0.05 < reading.values["fake-normality"]
    assert known.asked == [BATCH, BATCH, 150 - 2 * BATCH] * 2
    plot = reading.details["quantiles"]
    standard = (x - x.mean()) / x.std()
    assert plot["real"] == pytest.approx(np.quantile(standard, (np.arange(25) + 0.5) / 25), abs=1e-6)


def test_halves_of_the_real_errors_lie_as_far_apart_as_splits_that_numpy_draws() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(4, 0.05, 97)
    distances = []
    for _ in range(2000):
        shuffled = rng.permutation(x)
        distances.append(np.sqrt(((np.sort(shuffled[:48]) - np.sort(shuffled[48:96])) ** 2).mean()))
    values = compare(torch.tensor(x), torch.zeros(97))
    assert values["real-halves"] == pytest.approx(np.quantile(distances, 0.95), rel=0.1)
    assert values == compare(torch.tensor(x), torch.zeros(97))  # the same splits every time


def test_fewer_real_pictures_than_asked_for_are_compared_with_as_many() -> None:
    known = Known(np.arange(30.0), np.arange(200.0))
    assert look(known).values["fake-mean"] == pytest.approx(14.5)


@pytest.mark.parametrize(
    ("real", "fake", "broken"),
    [
        ([0.1] * 64, [0.1] * 64, {"ratio", "real-normality", "fake-normality"}),
        ([0.1] * 64, [0.2] * 64, {"real-normality", "fake-normality"}),
        ([0.1, 0.3], [0.2, 0.2], {"ratio", "real-halves", "real-normality", "fake-normality"}),
        ([0.5], [0.25], {"real-halves", "real-normality", "fake-normality"}),
        ([0.1, math.nan] * 32, [0.2, 0.3] * 32, READINGS - {"fake-mean", "fake-variance", "fake-normality"}),
        ([0.1, math.inf] * 32, [0.2, math.nan] * 32, READINGS - {"real-mean"}),
    ],
    ids=["all equal", "each equal", "two", "one", "nan", "inf"],
)
def test_what_cannot_be_computed_is_nan_and_never_an_error(real: list, fake: list, broken: set[str]) -> None:
    a, b = (torch.tensor(values, dtype=torch.double) for values in (real, fake))
    values = compare(a, b)
    assert {name for name, value in values.items() if math.isnan(value)} == broken
    quantile_plot(a, b)


def test_a_discriminator_without_energy_is_a_clear_message() -> None:
    with pytest.raises(UserError, match="'known' gives no energy"):
        look(Known(np.zeros(30), np.zeros(30), energy=False))


def test_a_discriminator_that_learns_its_pictures_by_heart_is_told_once_after_three_readings() -> None:
    """The alarm comes once the error of held-out pictures is more than half larger."""
    known = Known(np.full(40, 0.1), np.full(40, 0.05))
    watching = ReconstructionErrors(ReconstructionErrors.Options())
    alarms = []
    for gap in (1.2, 1.6, 1.4, 1.6, 1.6, 1.6, 1.6):
        known.values["held out"] = np.full(40, 0.1 * gap)
        reading = watching.read(known.snapshot())
        assert reading.values["held-out-mean"] == pytest.approx(0.1 * gap)
        alarms.append([alarm.kind for alarm in reading.alarms])
        assert all("1.6 times worse" in alarm.message for alarm in reading.alarms)
        watching.restore(watching.state())
    assert alarms == [[], [], [], [], [], ["memorises"], []]


# Its place in a run.


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    monkeypatch.setattr(ReconstructionErrors, "every", 2)


SEEN = ("--set", f"{NAME}.pictures=24")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("model", ["began", "ebgan"])
def test_it_is_on_by_default_and_writes_numbers_and_details(model: str, gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", model, *TINY, *SEEN, "--out", "run").code == 0
    there = [line for line in lines(tmp_path / "run") if f"{NAME}/wasserstein" in line]
    assert [line["step"] for line in there] == [2, 4, 6]
    for line in there:
        values = {key.partition("/")[2]: value for key, value in line.items() if key.startswith(NAME)}
        assert set(values) == {*READINGS, "held-out-mean"}
        assert values["wasserstein"] ** 2 == pytest.approx(values["mean-term"] + values["variance-term"])
        assert values["wasserstein"] <= values["empirical-w2"] + 1e-9
        assert values["real-mean"] > 0
    details = lines(tmp_path / "run", "readings.jsonl")
    assert [(line["step"], line["diagnostic"], list(line)) for line in details] == [
        (step, NAME, ["step", "diagnostic", "details"]) for step in (2, 4, 6)
    ]
    assert all(len(q) == 25 for line in details for q in line["details"]["quantiles"].values())
    assert lines(tmp_path / "run", "alarms.jsonl") == []


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("flags", [(), ("--mirror",)])
def test_to_mirror_is_no_advice_to_who_mirrors(
    flags: tuple[str, ...], gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gankit.builtin.reconstruction_errors.MEMORISED", 0.0)
    assert gankit("run", "began", *TINY, *SEEN, *flags, "--out", "run").code == 0
    (alarm,) = lines(tmp_path / "run", "alarms.jsonl")
    assert alarm["kind"] == "memorises"
    assert len(alarm["advice"]) == len(alarm["remedies"]) == (0 if flags else 1)


@pytest.mark.usefixtures("often")
def test_energies_that_are_not_finite_are_null(gankit: Gankit, tmp_path: Path) -> None:
    lost = ("--set", "learning_rate=1e30", "--on-alarm", "warn")
    assert gankit("run", "began", *TINY, *SEEN, *lost, "--out", "run").code == 0
    assert lines(tmp_path / "run")[-1][f"{NAME}/wasserstein"] is None  # `lines` refuses anything but strict JSON
    assert lines(tmp_path / "run", "readings.jsonl")[-1]["details"]["quantiles"]["real"] == [None] * 25
    assert [alarm["diagnostic"] for alarm in lines(tmp_path / "run", "alarms.jsonl")] == ["vitals"]


@pytest.mark.usefixtures("often")
def test_a_resume_gives_the_same_readings_as_a_run_that_was_never_stopped(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, *SEEN, "--checkpoint-every", 3, "--out", "whole").code == 0
    assert gankit("run", "began", *TINY, *SEEN, "--checkpoint-every", 3, "--steps", 4, "--out", "parts").code == 0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    shutil.rmtree(parts / "checkpoints/000004")  # killed after step 4, with the checkpoint of step 3
    with open(parts / "readings.jsonl", "ab") as file:
        file.write(b'{"step": 4, "diagno')
    assert gankit("resume", "parts", "--steps", 6).code == 0
    assert timeless(parts) == timeless(whole)
    assert (parts / "readings.jsonl").read_text() == (whole / "readings.jsonl").read_text()


@pytest.mark.usefixtures("often")
def test_a_return_keeps_the_readings_of_both_attempts_and_a_branch_those_before_it(
    gankit: Gankit, tmp_path: Path
) -> None:
    assert gankit("run", "began", *TINY, *SEEN, "--checkpoint-every", 2, "--out", "run").code == 0
    assert gankit("resume", "run", "--from", 4, "--steps", 6, "--out", "other", "--set", "gamma=0.3").code == 0
    found = [(line["step"], line.get("attempt")) for line in lines(tmp_path / "other", "readings.jsonl")]
    assert found == [(2, None), (4, None), (6, None)]
    assert gankit("resume", "run", "--from", 4, "--steps", 6, "--set", "gamma=0.3").code == 0
    found = [(line["step"], line.get("attempt")) for line in lines(tmp_path / "run", "readings.jsonl")]
    assert found == [(2, None), (4, None), (6, None), (6, 2)]


@pytest.mark.usefixtures("undrawn")
def test_looking_changes_no_number_of_the_training(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gankit("run", "ebgan", *TINY, "--out", "unseen").code == 0
    monkeypatch.setattr(ReconstructionErrors, "every", 1)
    assert gankit("run", "ebgan", *TINY, "--out", "seen").code == 0
    assert weights(tmp_path / "unseen", 6) == weights(tmp_path / "seen", 6)
    bare = [{k: v for k, v in line.items() if not k.startswith(NAME)} for line in timeless(tmp_path / "seen")]
    assert bare == timeless(tmp_path / "unseen")


def test_a_model_without_energy_has_it_not_and_is_refused_it(gankit: Gankit, tmp_path: Path, undrawn: None) -> None:
    page = (ROOT / "docs/plugins/index.md").read_text(encoding="utf-8")
    (tmp_path / "my_gan.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")  # type: ignore[index]
    request = ("run", "my-gan", "--plugin", "my_gan.py", "--data", "demo:60", "--batch-size", 4, "--steps", 1)
    refused(gankit(*request, "--diagnostic", NAME, "--out", "run"), f"--diagnostic {NAME}", "energy", "'my-gan'")
    assert not (tmp_path / "run").exists()
    assert gankit(*request, "--out", "run").code == 0
    assert (tmp_path / "run/readings.jsonl").read_text() == ""


# Its section of the report.


def reading(step: int, real: tuple[float, float], fake: tuple[float, float], p: float = 0.5, **more: Any) -> dict:
    """A metrics line with what the diagnostic writes for two normal samples of (mean, deviation)."""
    (m_1, s_1), (m_2, s_2) = real, fake
    mean_term, variance_term = (m_1 - m_2) ** 2, (s_1 - s_2) ** 2
    values = {
        "real-mean": m_1,
        "fake-mean": m_2,
        "real-variance": s_1**2,
        "fake-variance": s_2**2,
        "wasserstein": math.sqrt(mean_term + variance_term),
        "mean-term": mean_term,
        "variance-term": variance_term,
        "ratio": variance_term / mean_term,
        "empirical-w1": abs(m_1 - m_2),
        "empirical-w2": math.sqrt(mean_term + variance_term),
        "real-normality": p,
        "fake-normality": 0.5,
    }
    line = metrics(step, np.random.default_rng(step))
    return line | {f"{NAME}/{name}": value for name, value in values.items()} | more


def details(step: int, shift: float = 0.0, **more: Any) -> dict[str, Any]:
    normal = [-1.0, 0.0, 1.0]
    plot = {"normal": normal, "real": [v + shift for v in normal], "fake": [None] * 3}
    return {"step": step, "diagnostic": NAME, **more, "details": {"quantiles": plot}}


def told(folder: Path, entries: list[dict[str, Any]], plots: list[dict[str, Any]] = ()) -> Page:  # type: ignore[assignment]
    run = make_run(folder, metrics=entries, samples=1)
    lines_of(run.readings_path, list(plots))
    page = report(run)
    page.text = page.text.replace("\u00a0", " ")
    return page


STEPS = range(500, 5001, 500)


def test_a_run_without_them_has_no_such_section(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run", samples=1))
    assert "errors" not in page.ids()
    assert page.json("curves")["errors"] == []


def test_where_the_mean_term_outweighs_the_rest_the_simplification_was_sound(tmp_path: Path) -> None:
    entries = [reading(step, (0.2, 0.01), (0.1, 0.02 + step / 1e6), p=0.001) for step in STEPS]
    text = told(tmp_path / "run", entries, [details(5000)]).text
    assert "The simplification was sound in this run: |m₁ − m₂| alone is 99.2 % of the empirical W₂" in text
    assert "within a tenth of that in 10 of 10 readings" in text
    assert "It holds although errors of real pictures are not normal and the ratio is not constant" in text
    assert "rejects those of real pictures in 10 of 10 readings and those of generated pictures in 0 of 10" in text
    assert "errors of real pictures are not normal here" in text
    assert "(m₁ − m₂)² is 98.4 % of W₂² in the median reading and 97.8 % in the last one" in text
    assert "They agree: it gives 100 % of the empirical W₂ in the median reading" in text


def test_where_the_variances_take_over_it_was_not(tmp_path: Path) -> None:
    entries = [reading(step, (0.2, 0.01), (0.2 - 0.1 * 500 / step, 0.11), p=0.3) for step in STEPS]
    text = told(tmp_path / "run", entries).text
    assert "The simplification was not sound in this run: " in text
    assert "nothing speaks against normal errors here" in text
    assert "No, it goes from 1 to 1e+02: the largest is 100 times the smallest." in text


@pytest.mark.parametrize(
    ("p_values", "words"),
    [
        ([0.5] * 9 + [0.03], "nothing speaks against normal errors here"),  # one in twenty
        ([0.04] * 10, "nothing speaks against normal errors here"),  # the same borderline case, measured ten times
        ([0.5] * 9 + [1e-4], "errors of real pictures are not always normal here"),
        ([0.01] * 10, "errors of real pictures are not normal here"),
    ],
)
def test_normality_is_doubted_where_chance_does_not_explain_the_rejections(
    tmp_path: Path, p_values: list[float], words: str
) -> None:
    entries = [reading(step, (0.2, 0.01), (0.1, 0.02), p=p) for step, p in zip(STEPS, p_values, strict=True)]
    assert words in told(tmp_path / "run", entries).text


def test_a_constant_ratio_is_told_as_one(tmp_path: Path) -> None:
    entries = [reading(step, (0.2, 0.02), (0.1, 0.06 + step / 1e6)) for step in STEPS]
    text = told(tmp_path / "run", entries).text
    assert "The simplification was sound in this run: " in text
    assert "Nearly, it goes from 0.16 to 0.2" in text
    assert "It holds although" not in text


def test_one_reading_is_too_few_for_an_answer(tmp_path: Path) -> None:
    text = told(tmp_path / "run", [reading(500, (0.2, 0.01), (0.1, 0.02))]).text
    assert "There is only one reading, too few for an answer. So far |m₁ − m₂| alone is 99.5 %" in text
    assert "There are too few readings to tell." in text


def laboratory_of(run: Any, draw: Callable[[], np.ndarray], other: Callable[[], np.ndarray]) -> str:
    """The answer about a run of ten readings: the real errors are the same ones in each, as in a training."""
    real = torch.from_numpy(draw())
    values = [compare(real, torch.from_numpy(other())) for _ in range(10)]
    lines = [{"step": 500 * n} | {f"{NAME}/{key}": v for key, v in one.items()} for n, one in enumerate(values, 1)]
    section = laboratory(
        Story(
            run, {}, {}, {}, {}, series={}, ends=Columns(lines).ends, metrics=lines, alarms=[], readings=[], samples=[]
        )
    )
    assert section is not None
    return section.answer


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_errors_for_two_halves_get_no_verdict(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = make_run(tmp_path / "run", samples=0)
    answer = laboratory_of(run, lambda: rng.normal(0.2, 0.02, count), lambda: rng.normal(0.2, 0.02, count))
    assert answer.startswith("There is no answer")


@pytest.mark.parametrize("law", ["normal", "gamma", "lognormal"])
def test_errors_of_one_distribution_get_no_verdict_and_those_that_differ_do(law: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=0)
    rng = np.random.default_rng(0)
    draw = {
        "normal": lambda: rng.normal(0.2, 0.03, 96),
        "gamma": lambda: rng.gamma(4, 0.05, 96),
        "lognormal": lambda: rng.lognormal(-2, 0.5, 96),
    }[law]
    alike = ["There is no answer" not in laboratory_of(run, draw, draw) for _ in range(60)]
    assert sum(alike) <= 3
    apart = [laboratory_of(run, draw, lambda: 3 * draw()) for _ in range(60)]
    assert all("The simplification was" in answer for answer in apart)


def test_readings_that_chance_explains_do_not_count(tmp_path: Path) -> None:
    floor = {f"{NAME}/real-halves": 0.02}
    entries = [reading(step, (0.2, 0.01), (0.1 if step > 2000 else 0.19, 0.02), **floor) for step in STEPS]
    text = told(tmp_path / "run", entries).text
    assert "within a tenth of that in 6 of 6 readings. 4 more readings do not count" in text
    entries = [reading(step, (0.2, 0.01), (0.1 if step > 4000 else 0.19, 0.02), **floor) for step in STEPS]
    text = told(tmp_path / "alike", entries).text
    assert (
        "There is no answer: in 8 of 10 readings, errors of real and of generated pictures lie no further apart" in text
    )
    assert "sound in this run" not in text


def test_its_curves_stand_in_their_section_and_nowhere_else(tmp_path: Path) -> None:
    entries = [reading(step, (0.2, 0.01), (0.1, 0.02), p=0.0) for step in STEPS]
    page = told(tmp_path / "run", entries, [details(4500), details(5000, shift=0.5)])
    curves = page.json("curves")
    assert not [panel for panel in curves["panels"] if NAME in panel["title"]]
    drawn = {panel["title"]: panel for panel in curves["errors"]}
    assert list(drawn) == ["Mean errors", "W₂² and its two terms", "The ratio", "Formula and samples", "Normality"]
    assert [s["name"] for s in drawn["W₂² and its two terms"]["series"]] == ["W₂²", "mean term", "variance term"]
    assert drawn["W₂² and its two terms"]["series"][0]["line"][1][0] == pytest.approx(0.0101)
    assert (drawn["Normality"]["log"], drawn["Normality"]["level"]) == (True, 0.05)
    assert drawn["Normality"]["series"][0]["line"][1] == [1e-6] * 10  # a logarithmic axis has no 0
    assert curves["quantiles"]["step"] == 5000
    assert curves["quantiles"]["real"] == [-0.5, 0.5, 1.5]
    plots = [attrs for _, attrs in page.tags if attrs.get("class") == "plot"]
    assert len(plots) == len(curves["panels"]) + len(drawn) + 1
    assert all(attrs.get("aria-label") for attrs in plots)
    assert "empirical-w2 0.1005 5,000" in page.text


def test_what_a_later_attempt_replaced_is_not_counted(tmp_path: Path) -> None:
    first = [reading(step, (0.2, 0.01), (0.19, 0.2)) for step in range(500, 3001, 500)]
    second = [reading(step, (0.2, 0.01), (0.1, 0.02), attempt=2) for step in (1500, 2000)]
    plots = [*(details(step, shift=9.0) for step in (500, 3000)), details(2000, attempt=2)]
    page = told(tmp_path / "run", first + second, plots)
    assert "in 0 of 4 readings" in page.text
    assert page.json("curves")["quantiles"]["step"] == 2000
    # The second attempt began before its first reading; the first attempt's later readings are gone all the same.
    begun = [*first, metrics(1100, np.random.default_rng(0)) | {"attempt": 2}]
    page = told(tmp_path / "begun", begun, plots[:2])
    assert "only 2 readings" in page.text
    assert page.json("curves")["quantiles"]["step"] == 500


def test_damaged_readings_are_forgiven(tmp_path: Path) -> None:
    entries = [reading(step, (0.2, 0.01), (0.1, 0.02)) for step in STEPS]
    entries[2] |= {f"{NAME}/wasserstein": None, f"{NAME}/ratio": "much", f"{NAME}/mean-term": None}
    page = told(
        tmp_path / "run", entries, [details(500), {"step": 1000, "diagnostic": NAME, "details": {"quantiles": [1]}}]
    )
    assert "in 9 of 9 readings" in page.text
    assert page.json("curves")["quantiles"]["step"] == 500
    nothing = [{"step": 500, f"{NAME}/wasserstein": None}]
    assert "there is nothing to answer" in told(tmp_path / "nothing", nothing).text


def test_a_real_run_s_report_has_the_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReconstructionErrors, "every", 2)
    assert quietly("run", "began", *TINY, *SEEN, "--out", "run", cwd=tmp_path) == 0
    page = Page(tmp_path / "run/report.html")
    assert "errors" in page.ids()
    assert page.json("curves")["quantiles"]["step"] == 6
