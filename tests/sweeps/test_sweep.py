"""What `gankit sweep` promises: the space that was asked for, an honest best, and that no kill loses a trial."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import SWEPT, Gankit, contents, process, read, refused, with_few
from test_report import Page

import gankit as package
from gankit.catalogue import Catalogue
from gankit.comparison.arms import options_of
from gankit.errors import UserError
from gankit.runs.processes import Here
from gankit.sweeps import results, space
from gankit.sweeps.search import Study, proposed
from gankit.sweeps.sweep import _take_over
from gankit.sweeps.trials import Sweep
from gankit.training.watcher import Watcher

TWO = ("--vary", "gamma=0.3,0.7")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """Runs in this process that draw nothing."""
    with_few(monkeypatch)


def swept_in(folder: Path) -> dict[str, Any]:
    return read(folder / "sweep.json")


def told(sweep: dict[str, Any]) -> list[Any]:
    """The parts of the trials that do not depend on the clock."""
    return [
        (t["number"], t["values"], t["state"], t["value"], t["spread"], [(r["seed"], r["value"]) for r in t["runs"]])
        for t in sweep["trials"]
    ]


# The space.


def test_a_range_is_drawn_between_its_ends_and_on_its_scale() -> None:
    names = space.parse(["a.b=uniform:-1,3", "lr=loguniform:1e-5,1e-1", "batch-size=int:2,5"], ["learning_rate"])
    assert [one.name for one in names] == ["a.b", "learning_rate", "batch_size"]
    drawn = [space.drawn(names, 7, number, []) for number in range(400)]
    assert {values["batch_size"] for values in drawn} == {2, 3, 4, 5}
    assert all(-1 <= values["a.b"] <= 3 and 1e-5 <= values["learning_rate"] <= 1e-1 for values in drawn)
    assert 0.4 < sum(values["learning_rate"] < 1e-3 for values in drawn) / 400 < 0.6
    assert 0.4 < sum(values["a.b"] < 1 for values in drawn) / 400 < 0.6
    assert drawn == [space.drawn(names, 7, number, []) for number in range(400)]
    assert drawn[0] != space.drawn(names, 8, 0, [])
    assert names[1].position(1e-3) == pytest.approx(0.5)
    assert (names[0].position(1), names[2].position(2), names[2].position(6)) == (0.5, 0, None)
    assert len(str(drawn[3]["learning_rate"])) < 12


def test_a_narrow_range_has_as_many_values_as_a_wide_one() -> None:
    narrow = ["a.b=uniform:0.999,0.9999", "c.d=uniform:0.50001,0.50002", "e.f=loguniform:0.50001,0.50002"]
    names = space.parse([*narrow, "g.h=uniform:-1e9,1e9"], [])
    drawn = [space.drawn(names, 7, number, []) for number in range(200)]
    for one in names:
        values = {values[one.name] for values in drawn}
        assert len(values) > 150
        assert all(one.low <= value <= one.high and len(str(value)) < 14 for value in values)


def test_choices_may_be_numbers_words_or_lists() -> None:
    (one,) = space.parse(["betas=[0.5,0.9],[0.0,0.99],none"], ["betas"])
    assert one.choices == ([0.5, 0.9], [0.0, 0.99], None)
    assert [one.position(choice) for choice in one.choices] == [0, 0.5, 1]
    assert [options_of({"view": view}) for view in (None, "augment")] == [{}, {"views": ["augment"]}]
    both = [*space.parse(["a.b=1,2,3", "c.d=x,y"], [])]
    assert list(space.grid(both)) == [{"a.b": n, "c.d": word} for n in (1, 2, 3) for word in ("x", "y")]
    every: list[dict[str, Any]] = []
    for number in range(6):
        every.append(space.drawn(both, 0, number, every))
    assert sorted(map(space.key_of, every)) == sorted(map(space.key_of, space.grid(both)))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("gama=0.3,0.7", ("gama", "did you mean 'gamma'")),
        ("gamma=0.3,7", ("--vary gamma=0.3,7", "gamma=7", "(0, 1]")),
        ("gamma=uniform:0.3,2", ("gamma=2", "(0, 1]")),
        ("gamma=uniform:0.7,0.3", ("empty",)),
        ("gamma=uniform:0.3", ("two numbers",)),
        ("gamma=unifrom:0.3,0.5", ("did you mean 'uniform'",)),
        ("learning_rate=loguniform:0,0.1", ("above 0",)),
        ("batch_size=int:2.5,8", ("whole numbers",)),
        ("filters=uniform:4,8", ("filters",)),
        ("gamma=0.5", ("varies nothing", "--set gamma=0.5")),
        ("gamma=0.5,0.5", ("there twice",)),
        ("gamma=0.5,", ("empty",)),
        ("gamma=2020-01-01,0.5", ("no value",)),
        ("gamma=uniform:-1e308,1e308", ("between",)),
        ("gamma", ("NAME=a,b,c",)),
        ("seed=1,2", ("--seeds",)),
        ("image_size=16,32", ("same pictures",)),
        ("steps=16,32", ("same length",)),
        ("log_every=1,2", ("cannot be varied",)),
        ("filters=2,4", ("given and varied",)),
        ("lam.floor=0.1,0.2", ("no component 'lam'",)),
        ("loss.immle=0.1,0.2", ("immle", "did you mean")),
        ("mirror=yes,no", ("--vary mirror=yes,no", "true or false")),
    ],
)
def test_what_cannot_be_varied_is_refused_in_one_line_before_anything_is_written(
    asked: str, words: tuple[str, ...], gankit: Gankit, tmp_path: Path
) -> None:
    refused(gankit("sweep", *SWEPT, "--vary", asked, "--search", "random", "--out", "s"), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "asked"),
    [('preset = "paper"', "preset=none,paper"), ('views = ["augment"]', "view=none,augment")],
)
def test_choices_that_are_one_training_because_of_the_settings_file_are_refused(
    file: str, asked: str, gankit: Gankit, tmp_path: Path
) -> None:
    (tmp_path / "shared.toml").write_text(file)
    swept = (*SWEPT, "--config", "shared.toml", "--vary", asked, "--out", "s")
    refused(gankit("sweep", *swept), f"--vary {asked}", "the same training")


def test_a_switch_that_is_varied_is_switched_off_as_well_as_on(gankit: Gankit, tmp_path: Path, quick: None) -> None:
    (tmp_path / "shared.toml").write_text("mirror = true\nseed = 5")
    said = gankit("sweep", *SWEPT, "--config", "shared.toml", "--vary", "mirror=true,false", "--out", "s")
    assert said.code == 0, said.err
    trials = {n: read(tmp_path / f"s/runs/trial-00{n}-seed-0/config.json") for n in (1, 2)}
    assert [one["mirror"] for one in trials.values()] == [True, False]
    found = swept_in(tmp_path / "s")
    assert gankit(*shlex.split(found["best_command"])[1:], "--out", "again").code == 0
    again = read(tmp_path / "again/config.json")
    assert {**again, "requested": 0} == {**trials[found["best"]], "requested": 0, "on_alarm": "stop"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("--vary",)),
        ((*TWO, *TWO), ("varied twice",)),
        (("--vary", "gamma=uniform:0.3,0.7", "--search", "grid"), ("--search grid takes choices",)),
        ((*TWO, "--search", "grid", "--trials", 1), ("2 combinations",)),
        ((*TWO, "--search", "random", "--trials", 10**6), ("too many",)),
        ((*TWO, "--goal", "began/convergance"), ("did you mean 'began/convergence'",)),
        ((*TWO, "--goal", "mode-collapse/variety"), ("first measured at step 500", "6 steps")),
        ((*TWO, "--goal", "score", "--stop-early"), ("--stop-early", "every 500 steps")),
        ((*TWO, "--goal", "score", "--data", "demo:40"), ("are too few for a score: name",)),
    ],
)
def test_a_sweep_that_could_not_tell_anything_is_refused(
    options: tuple[Any, ...], words: tuple[str, ...], gankit: Gankit, tmp_path: Path
) -> None:
    refused(gankit("sweep", *SWEPT, *options, "--out", "s"), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [("--search", "optuna"), ("--stop-early",)])
def test_without_optuna_what_needs_it_names_the_extra(
    flags: tuple[str, ...], gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gankit.sweeps.search.find_spec", lambda name: None)
    refused(gankit("sweep", *SWEPT, *TWO, *flags, "--out", "s"), flags[0], "gankit[sweep]")
    assert list(tmp_path.iterdir()) == []


# The trials and the best of them.


def test_a_grid_trains_every_combination_as_an_ordinary_run_and_tells_the_best(swept: Path) -> None:
    found = swept_in(swept)
    assert (found["state"], found["asked"]["search"], len(found["trials"])) == ("finished", "grid", 4)
    for trial in found["trials"]:
        assert [row["seed"] for row in trial["runs"]] == [0, 1]
        values = []
        for row in trial["runs"]:
            config = read(swept / row["folder"] / "config.json")
            assert {name: config["model"][name] for name in trial["values"]} == trial["values"]
            assert (config["seed"], config["model"]["filters"], config["on_alarm"]) == (row["seed"], 4, "stop")
            lines = (swept / row["folder"] / "metrics.jsonl").read_text().splitlines()
            values.append(json.loads(lines[-1])["began/convergence"])
            assert row["value"] == values[-1]
        assert trial["value"] == pytest.approx(sum(values) / 2)
        assert trial["spread"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    best = min(found["trials"], key=lambda trial: trial["value"])
    assert found["best"] == best["number"]
    assert found["summary"][0].startswith(f"Trial {best['number']} is the best of 4")
    assert "Seeds of one trial differ by" in found["summary"][1]
    spreads = [trial["spread"] ** 2 for trial in found["trials"]]
    assert found["deviation"] == pytest.approx(math.sqrt(sum(spreads) / 4))
    with open(swept / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["trial"]), int(row["seed"])) for row in rows] == [(n, k) for n in (1, 2, 3, 4) for k in (0, 1)]


def test_the_commands_of_the_best_trial_train_it_and_compare_it(
    swept: Path, gankit: Gankit, tmp_path: Path, quick: None
) -> None:
    found = swept_in(swept)
    best = found["trials"][found["best"] - 1]
    assert gankit(*shlex.split(found["best_command"])[1:], "--out", "again").code == 0
    theirs = read(swept / best["runs"][0]["folder"] / "config.json")
    mine = read(tmp_path / "again" / "config.json")
    assert {**mine, "requested": 0} == {**theirs, "requested": 0}
    last = (tmp_path / "again" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["began/convergence"] == best["runs"][0]["value"]
    check = shlex.split(found["check_command"])
    assert check[:3] == ["gankit", "compare", "began"]
    assert not {"0", "1"} & {check[check.index("--seed") + 1]}
    check[check.index("--seeds") + 1] = "1"
    assert gankit(*check[1:], "--data", "demo:200", "--samples", 50, "--out", "c").code == 0
    timed = {**found, "config": {**found["config"], "time": 20.0}}
    for shared in ({"config_file": "t.toml"}, {"time": 20.0}):  # the time of a settings file, or the call's
        of_time = shlex.split(results.check_command(timed, {"data": "demo", **shared}))
        assert of_time[of_time.index("--budget") + 1] == "20s"
        assert "--time" not in of_time


@pytest.mark.usefixtures("quick")
def test_started_again_it_does_nothing_twice_takes_more_trials_and_refuses_another_request(
    gankit: Gankit, tmp_path: Path
) -> None:
    asked = ("sweep", *SWEPT, "--vary", "gamma=uniform:0.3,0.7", "--out", "s")
    assert gankit(*asked, "--trials", 2).code == 0
    before = contents(tmp_path / "s" / "runs")
    assert gankit(*asked, "--trials", 3).code == 0
    after = contents(tmp_path / "s" / "runs")
    assert before.items() <= after.items()
    found = swept_in(tmp_path / "s")
    assert len(found["trials"]) == 3
    assert gankit(*shlex.split(found["command"])[1:], "--out", "again").code == 0
    assert told(swept_in(tmp_path / "again")) == told(found)
    refused(gankit(*asked, "--trials", 2), "3 trials already")
    refused(gankit(*asked, "--trials", 3, "--steps", 7), "another --steps")
    refused(gankit(*asked, "--trials", 3, "--vary", "learning_rate=1e-4,1e-3"), "another --vary")
    shutil.rmtree(tmp_path / "s" / "runs" / "trial-002-seed-0")
    assert gankit(*asked, "--trials", 3).code == 0
    assert told(swept_in(tmp_path / "s")) == told(found)


PLANTED = """
import time
from gankit import Alarm, Diagnostic, Reading, hookimpl

class Planted(Diagnostic):
    \"\"\"Reads gamma; above 0.6 it calls for an end.\"\"\"
    name = "planted"
    every = 5

    def read(self, snapshot):
        time.sleep({sleep})
        gamma = snapshot.model.settings.gamma
        alarms = [Alarm("planted", "critical", "gamma is high")] if gamma > {limit} else []
        return Reading(values={{"gamma": gamma}}, alarms=alarms)

@hookimpl
def gankit_diagnostics():
    return [Planted]
"""


def planted(folder: Path, limit: float, sleep: float = 0.0) -> tuple[str, ...]:
    """The flags for a diagnostic that looks every 5 steps, raises an alarm above a γ, and takes its time."""
    (folder / "planted.py").write_text(PLANTED.format(limit=limit, sleep=sleep))
    return ("--plugin", "planted.py", "--diagnostic", "planted", "--goal", "planted/gamma")


@pytest.mark.usefixtures("quick")
def test_a_collapse_ends_a_trial_and_counts_as_worst(gankit: Gankit, tmp_path: Path) -> None:
    asked = ("sweep", *SWEPT, *planted(tmp_path, 0.6), "--vary", "gamma=0.3,0.7", "--vary", "learning_rate=1e-4,1e-3")
    said = gankit(*asked, "--seeds", 2, "--out", "s")
    assert said.code == 0, said.err
    found = swept_in(tmp_path / "s")
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete", "collapsed", "collapsed"]
    collapsed = found["trials"][2]
    assert (collapsed["value"], collapsed["runs"][0]["steps"], collapsed["runs"][0]["alarm"]) == (None, 5, "planted")
    assert not (tmp_path / "s" / collapsed["runs"][1]["folder"]).exists()  # its other seed would change nothing
    assert found["best"] is not None
    assert found["trials"][found["best"] - 1]["values"]["gamma"] == 0.3
    assert "2 of 4 trials collapsed (3, 4)" in " ".join(found["summary"])
    assert "All 2 trials with gamma 0.7 collapsed." in found["summary"]
    assert "All 2 complete trials have the same planted/gamma" in said.out
    before = contents(tmp_path / "s" / "runs")
    assert gankit(*asked, "--seeds", 2, "--out", "s").code == 0
    assert contents(tmp_path / "s" / "runs") == before


@pytest.mark.usefixtures("quick")
def test_a_score_is_measured_at_the_end_of_runs_that_are_too_short_for_a_look(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("sweep", *SWEPT, *TWO, "--goal", "score", "--out", "s")
    assert said.code == 0, said.err
    values = [trial["value"] for trial in swept_in(tmp_path / "s")["trials"]]
    assert len(values) == 2
    assert all(0 <= value < 0.5 for value in values)


def test_a_trial_whose_run_folder_is_deleted_is_repeated_whichever_seed_it_was(swept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(swept, tmp_path / "s"))
    earlier = swept_in(folder)
    for number in (1, 2):  # the second seed of one collapsed; in the other it was never trained, since the first did
        earlier["trials"][number] |= {"state": "collapsed", "value": None, "spread": None}
        earlier["trials"][number]["runs"][2 - number] |= {"reason": "alarm", "alarm": "one-mode"}
    untrained = earlier["trials"][2]["runs"][1]
    earlier["trials"][2]["runs"][1] = {key: untrained[key] for key in ("seed", "folder")}
    for number in (0, 1, 2):
        shutil.rmtree(folder / earlier["trials"][number]["runs"][1]["folder"])
    plan = earlier | {"trials": []}
    _take_over(folder, earlier, plan, Catalogue([]))
    assert [trial["state"] for trial in plan["trials"]] == ["waiting", "waiting", "collapsed", "complete"]


def test_from_python_it_has_the_same_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"steps": 2, "batch_size": 4, "image_size": 16, "filters": 4, "latent": 8, "log_every": 1}
    found = package.sweep(
        "began",
        "demo:120",
        vary={"gamma": [0.3, 0.7]},
        goal="min:began/convergence",
        watcher=package.Watcher(),
        **options,
    )
    assert found["state"] == "finished"
    assert [trial["values"] for trial in found["trials"]] == [{"gamma": 0.3}, {"gamma": 0.7}]
    assert Path(found["folder"]).parent == Path("runs")
    with pytest.raises(UserError, match="jobs 0"):
        package.sweep("began", "demo:120", vary={"gamma": [0.3, 0.7]}, jobs=0)
    with pytest.raises(UserError, match="a table of weights by name"):
        package.sweep("began", "demo:120", vary={"gamma": [0.3, 0.7]}, losses=["imle"])
    with pytest.raises(UserError, match="grids"):
        package.sweep("began", "demo:120", vary={"gamma": [0.3, 0.7]}, search="grids")


def trial(number: int, values: dict[str, Any], value: float | None, spread: float | None = None) -> dict[str, Any]:
    """A trial that has ended, collapsed without a value."""
    rows = [{"seed": 0, "outcome": "finished", "reason": "steps", "alarm": None, "steps": 9, "message": ""}]
    if value is None:
        rows[0] |= {"outcome": "stopped", "reason": "alarm", "alarm": "one-mode"}
    state = "collapsed" if value is None else "complete"
    return {"number": number, "values": values, "state": state, "value": value, "spread": spread, "runs": rows}


def of_trials(trials: list[dict[str, Any]], vary: dict[str, str], seeds: int = 1) -> dict[str, Any]:
    asked = {"vary": vary, "seeds": seeds, "seed": 0}
    return {"asked": asked, "goal": {"name": "score", "maximise": True}, "model": "began", "trials": trials}


def test_the_summary_says_what_the_seeds_can_tell() -> None:
    vary = {"gamma": "uniform:0.3,0.7"}
    near = [
        trial(1, {"gamma": 0.5}, 0.40, 0.02),
        trial(2, {"gamma": 0.4}, 0.39, 0.02),
        trial(3, {"gamma": 0.6}, 0.1, 0.02),
    ]
    words = " ".join(results.summary(of_trials(near, vary, seeds=2)))
    assert "Seeds of one trial differ by 0.0200" in words
    assert "trial 2 may be as good" in words
    pair = [trial(1, {"gamma": 0.5}, 0.45, 0.02), trial(2, {"gamma": 0.4}, 0.40, 0.02)]
    assert "ahead" not in " ".join(
        results.summary(of_trials(pair, vary, seeds=2))
    )  # Student's 4.3 × 0.02, not 2 × 0.02
    far = [trial(1, {"gamma": 0.699}, 0.40, 0.01), trial(2, {"gamma": 0.4}, 0.1, 0.01)]
    words = " ".join(results.summary(of_trials(far, vary, seeds=2)))
    assert "ahead of all others" in words
    assert "upper end of its range" in words
    words = " ".join(results.summary(of_trials(near, vary)))
    assert "one seed" in words
    assert "fresh seeds" in words
    assert "reached its end" in results.summary(of_trials([trial(1, {"gamma": 0.5}, None)], vary))[0]


def test_of_equal_trials_all_may_be_as_good_as_the_best_in_95_of_100_sweeps() -> None:
    """The best of nine is chosen after looking: a quantile of one pair leaves some out in 44."""
    chance = np.random.default_rng(1)
    whole = 0
    for _ in range(1000):
        seeds = chance.normal(0.5, 0.1, (9, 2))
        trials = [trial(n, {"gamma": 0.5}, row.mean(), row.std(ddof=1)) for n, row in enumerate(seeds, 1)]
        plan = of_trials(trials, {"gamma": "uniform:0.3,0.7"}, seeds=2)
        words = results.summary(plan)[1]
        others = [one["number"] for one in results.ranked(plan)[1:]]
        whole += f"trials {', '.join(map(str, others))} may be as good" in words
        assert "ahead of all others" not in words
    assert 0.93 < whole / 1000 < 0.97


# Optuna.


def peak(values: dict[str, Any]) -> float:
    """The best is at gamma 0.62; learning_rate hardly matters."""
    return 1 - abs(values["gamma"] - 0.62) + 0.001 * math.log10(values["learning_rate"])


def test_the_search_tries_more_near_a_peak_than_chance_and_proposes_the_same_again() -> None:
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    names = space.parse(["gamma=uniform:0,1", "learning_rate=loguniform:1e-5,1e-2"], ["gamma", "learning_rate"])

    def search(seed: int) -> list[dict[str, Any]]:
        trials: list[dict[str, Any]] = []
        for number in range(1, 31):
            values = proposed(names, trials, 30, seed, True)
            trials.append(trial(number, values, peak(values) if values["gamma"] < 0.8 else None))
        return trials

    found = [search(seed) for seed in range(4)]
    assert found[0] == search(0)
    assert found[0] != found[1]
    late = [one["values"]["gamma"] for trials in found for one in trials[20:]]
    assert sum(0.5 < gamma < 0.75 for gamma in late) >= 17  # of 40; by chance 10 ± 3


def test_the_search_repeats_no_choice_while_others_are_left() -> None:
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    names = space.parse(["gamma=0.3,0.5,0.7", "betas=[0.5,0.9],[0.0,0.9]"], ["gamma", "betas"])
    trials: list[dict[str, Any]] = []
    for number in range(1, 7):
        values = proposed(names, trials, 6, 0, True)
        trials.append(trial(number, values, values["gamma"]))
    assert len({space.key_of(one["values"]) for one in trials}) == 6
    assert all(one["values"]["betas"] in ([0.5, 0.9], [0.0, 0.9]) for one in trials)


def test_trials_that_fall_behind_at_a_ninth_or_a_third_are_to_end_and_optuna_opens_the_study(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    names = space.parse(["gamma=uniform:0,1", "betas=[0.5,0.9],[0.0,0.9]"], ["gamma", "betas"])
    source = random.Random(0)
    study = Study(tmp_path, names, maximise=True, steps=900)
    went: dict[int, int | None] = {}  # None: to the end, where a third rung lies
    for number in range(1, 41):
        gamma = 1.0 if number == 1 else source.uniform(0, 0.9)
        study.begin(number, {"gamma": gamma, "betas": [0.5, 0.9]})
        steps = range(50, 901, 50)
        went[number] = next((step for step in steps if study.measured(number, step, gamma * step)), None)
        study.end(number, "complete" if went[number] is None else "ended early", gamma * 900)
    assert went[1] is None  # the best of all goes on at every rung
    assert set(went.values()) <= {100, 300, None}
    assert list(went.values()).count(100) >= 6
    again = Study(tmp_path, names, maximise=True, steps=900)  # written anew
    again.begin(1, {"gamma": 0.5, "betas": [0.0, 0.9]})
    again.end(1, "collapsed", None)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
    (read_again,) = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend)).trials
    assert read_again.params == {"gamma": 0.5, "betas": "[0.0, 0.9]"}
    assert read_again.user_attrs == {"ended": "collapsed"}


def test_what_mattered_is_what_the_trials_differ_by_also_where_the_search_has_settled_it(tmp_path: Path) -> None:
    """Of 24 trials 18 have the better choice, as a search soon has; gamma moves the value by a tenth of that."""
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    names = space.parse(["gamma=uniform:0,1", "betas=[0.5,0.9],[0.0,0.9]"], ["gamma", "betas"])
    source = random.Random(0)
    study = Study(tmp_path, names, maximise=True, steps=900)
    for number in range(1, 25):
        gamma, worse = source.uniform(0, 1), number % 4 == 0
        study.begin(number, {"gamma": gamma, "betas": [0.0, 0.9] if worse else [0.5, 0.9]})
        study.end(number, "complete", 0.05 * gamma + (0.1 if worse else 0.6))
    shares = study.importance()
    assert shares["betas"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.usefixtures("quick")
def test_a_sweep_by_optuna_goes_on_as_if_it_had_not_been_stopped(gankit: Gankit, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    asked = ("sweep", *SWEPT, "--vary", "gamma=uniform:0.3,0.7", "--search", "optuna", "--trials", 5)
    assert gankit(*asked, "--out", "whole").code == 0
    whole = swept_in(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    plan = swept_in(tmp_path / "broken")
    plan["trials"] = plan["trials"][:3]
    plan["state"], plan["best"] = "running", None
    (tmp_path / "broken" / "sweep.json").write_text(json.dumps(plan))
    for number in (4, 5):
        shutil.rmtree(tmp_path / "broken" / "runs" / f"trial-00{number}-seed-0")
    assert gankit(*asked, "--out", "broken").code == 0
    assert told(swept_in(tmp_path / "broken")) == told(whole)


# Processes that are killed, and one that is to end.


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def saved(run: Path) -> int:
    """The last checkpoint of a run, or 0."""
    return max((int(path.name) for path in run.glob("checkpoints/[0-9]*")), default=0)


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_change_nothing(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    asked = ("sweep", *SWEPT, *TWO, "--steps", 60, "--checkpoint-every", 2, "--sample-every", 60)
    broken = process(*asked, "--out", "s", cwd=tmp_path)
    first, second = (tmp_path / "s" / "runs" / f"trial-00{number}-seed-0" for number in (1, 2))

    def until(run: Path, step: int) -> None:
        while saved(run) < step:
            assert broken.poll() is None, broken.communicate()
            time.sleep(0.01)

    until(first, 4)
    (worker,) = children(broken.pid)
    os.kill(worker, signal.SIGKILL)
    until(second, 4)
    # The killed worker was started again, from its checkpoint.
    log = Path(f"{first}.log").read_text()
    assert read(first / "result.json")["outcome"] == "finished"
    assert log.count("run folder: ") == 1
    (worker,) = children(broken.pid)
    broken.kill()
    said, _ = broken.communicate()
    assert "its process was killed (signal 9); once more" in said
    os.kill(worker, signal.SIGKILL)
    with_few(monkeypatch)
    assert gankit(*asked, "--out", "s").code == 0
    assert gankit(*asked, "--out", "whole").code == 0
    assert told(swept_in(tmp_path / "s")) == told(swept_in(tmp_path / "whole"))
    assert swept_in(tmp_path / "s")["state"] == "finished"


@pytest.mark.usefixtures("quick")
def test_a_sweep_that_ends_before_its_first_trial_begins_with_the_same_command(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Here, "begin", killed)
        assert gankit("sweep", *SWEPT, *TWO, "--out", "s").code == 130
    assert gankit("sweep", *SWEPT, *TWO, "--out", "s").code == 0
    assert [one["state"] for one in swept_in(tmp_path / "s")["trials"]] == ["complete"] * 2


@pytest.fixture
def under_way(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep whose first trial is not recorded yet."""
    folder = Path(shutil.copytree(swept, tmp_path / "s"))
    plan = swept_in(folder)
    plan["trials"][0] |= {"state": "waiting", "value": None}
    plan["trials"][0]["runs"][0].pop("value")
    work = Sweep(folder, plan, {}, lambda trials: None, (), Watcher(), Here())
    monkeypatch.setattr(work, "write", lambda: None)
    return work


def test_a_run_that_others_interrupt_starts_again_and_is_no_result(under_way: Sweep) -> None:
    """By `kill PID`, or what ends programs where memory is short. A second time it counts as failed."""
    trial = under_way.plan["trials"][0]
    row = trial["runs"][0]
    result = under_way.folder / row["folder"] / "result.json"
    result.write_text(json.dumps(read(result) | {"outcome": "interrupted", "reason": "SIGTERM"}))
    interrupted = SimpleNamespace(returncode=143)
    assert under_way.lost(row, interrupted)
    assert not under_way.lost(row, interrupted)
    under_way.finish(row, 143)
    assert (row["outcome"], row["reason"], trial["state"]) == ("failed", "process", "failed")


def test_a_trial_that_is_to_end_before_it_can_save_has_ended_early(under_way: Sweep) -> None:
    trial = under_way.plan["trials"][0]
    row = trial["runs"][0]
    (under_way.folder / row["folder"] / "result.json").unlink()
    under_way.behind.add(1)
    under_way.finish(row, -15)
    assert trial["state"] == "ended early"


@pytest.mark.slow
def test_a_trial_that_falls_behind_ends_with_a_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    asked = (
        "sweep",
        *SWEPT,
        *planted(tmp_path, 2, sleep=1.0),
        "--vary",
        "gamma=0.9,0.2",
        "--steps",
        45,
        "--stop-early",
    )
    working = process(*asked, "--checkpoint-every", 100, "--out", "s", cwd=tmp_path)
    said, errors = working.communicate()
    assert working.returncode == 0, errors
    found = swept_in(tmp_path / "s")
    assert [one["state"] for one in found["trials"]] == ["complete", "ended early"]
    behind = found["trials"][1]
    steps = behind["runs"][0]["steps"]
    assert 5 <= steps < 45
    assert saved(tmp_path / "s" / behind["runs"][0]["folder"]) == steps
    assert (behind["value"], behind["last"], found["best"]) == (None, 0.2, 1)
    assert "trial 2 falls behind the others: it ends" in said
    assert "1 of 2 trials ended early" in said


# Its folder is outside input, and its page.


@pytest.fixture
def theirs(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "theirs"))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"trials": 3},
        {"best": 9},
        {"importance": {"epsilon": 0.5}},
        {"goal": {"name": "score"}},
        {"config": {}},
        {"config": {"model": {}}},
        {"config": {"model": {"name": ["began"]}}},
        {"config": {"model": {"name": "began"}, "views": [3]}},
        {"asked": {"vary": {}}},
        {"asked": {"vary": {"gamma": "0.3,0.7", "learning_rate": "0.1,0.2"}}},
        {"trial": {"number": 7}},
        {"trial": {"values": {"gamma": 0.3}}},
        {"trial": {"value": None}},
        {"trial": {"state": "fine"}},
        {"trial": {"runs": []}},
        {"row": {"folder": "../outside"}},
        {"row": {"folder": "/etc"}},
        {"row": {"steps": -1}},
        {"row": {"value": "high"}},
    ],
)
def test_a_damaged_sweep_is_told_in_one_line(change: dict[str, Any], gankit: Gankit, theirs: Path) -> None:
    plan = swept_in(theirs)
    places = {"trial": plan["trials"][1], "row": plan["trials"][1]["runs"][0], "asked": plan["asked"]}
    ((place, new),) = change.items()
    if place in places:
        places[place] |= new
    else:
        plan[place] = new
    (theirs / "sweep.json").write_text(json.dumps(plan))
    refused(gankit("report", theirs), "sweep.json")


@pytest.mark.parametrize("name", ["runs", "runs/trial-001-seed-0", "sweep.json", "report.html", "optuna.log"])
def test_a_link_in_a_sweep_leads_nowhere(name: str, gankit: Gankit, theirs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if (theirs / name).exists():
        (theirs / name).rename(outside)
    else:
        outside.write_text("theirs")
    (theirs / name).symlink_to(outside)
    before = contents(outside) if outside.is_dir() else outside.read_text()
    said = gankit("report", theirs)
    assert "Traceback" not in said.err
    Study(theirs, space.parse(["gamma=0.3,0.7"], ["gamma"]), True, 9) if name == "optuna.log" else None
    assert (contents(outside) if outside.is_dir() else outside.read_text()) == before
    if name in ("runs", "runs/trial-001-seed-0", "sweep.json"):
        refused(said)


def test_the_page_has_the_best_settings_the_trials_and_escapes_names(
    gankit: Gankit, theirs: Path, tmp_path: Path
) -> None:
    plan = swept_in(theirs)
    plan["trials"][3] |= {"state": "collapsed", "value": None, "spread": None}
    plan["trials"][3]["runs"][0] |= {"reason": "alarm", "alarm": "<b>one-mode</b>", "value": None}
    plan["best"], plan["data"]["name"] = None, "<script>alert(1)"
    (theirs / "sweep.json").write_text(json.dumps(plan))
    said = gankit("report", theirs)
    assert said.code == 0, said.err
    page = Page(theirs / "report.html")
    assert plan["best_command"] in page.text
    assert plan["check_command"] in page.text
    assert "collapsed at step 6: <b>one-mode</b>" in page.text
    assert "&lt;script&gt;alert(1)" in (theirs / "report.html").read_text()
