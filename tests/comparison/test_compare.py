"""What `gankit compare` promises: fair runs, an honest table, and that nothing is lost when it is stopped."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shlex
import shutil
import signal
import time
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from conftest import COMPARED, Gankit, InProcess, contents, lines, process, quietly, read, refused, with_few
from test_report import Page
from test_resume import in_words_of_before

import gankit as package
from gankit.catalogue import Catalogue
from gankit.comparison import paired, results
from gankit.comparison.arms import backbone, flags, folder_names, parse
from gankit.comparison.compare import _take_over
from gankit.comparison.processes import Comparison
from gankit.errors import UserError
from gankit.metrics.features import pixels
from gankit.metrics.spaces import Space
from gankit.runs import launch
from gankit.runs import processes as work
from gankit.runs.folder import RunFolder
from gankit.runs.processes import Here
from gankit.training.watcher import Watcher

SMALL = ("--data", "demo:200", "--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--set", "latent=8")
SHORT = (*SMALL, "--precision", "fp32", "--steps", 6, "--log-every", 1, "--samples", 50)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """Runs in this process that draw nothing, and a space of features that costs nothing."""
    with_few(monkeypatch)


def compared(folder: Path) -> dict[str, Any]:
    return read(folder / "comparison.json")


def built_with(config: dict[str, Any], pair: str) -> dict[str, Any]:
    """The settings that a pair of networks was built with, whether they are the model's or its own."""
    return {**config["model"], **config["networks"][pair]}


def told(comparison: dict[str, Any]) -> dict[str, Any]:
    """The parts that depend on neither the clock nor the machine."""
    known = (*results.FIXED, "collapse_step", "rescues", "measured_step", "measures")
    rows = [{key: row.get(key) for key in known} for row in comparison["runs"]]
    measures = [dict(entry) for entry in comparison["measures"] if not entry["cost"]]
    for entry in measures:  # Holm's correction counts the measures of the clock, too
        entry["differences"] = [
            {**one, "p_corrected": None, "sentence": re.sub(r"p is \S+,", "", one["sentence"])}
            for one in entry["differences"]
        ]
    return {
        "rows": rows,
        "measures": measures,
        "differences": comparison["differences"],
        "summary": comparison["summary"],
    }


# A fair comparison.


@pytest.mark.usefixtures("quick")
def test_two_models_are_compared_on_the_same_pictures_networks_and_seeds(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("compare", "ebgan", "began", *SHORT, "--seeds", 2, "--out", "both")
    assert said.code == 0, said.err
    found = compared(tmp_path / "both")
    assert found["schema"] == 1
    assert found["state"] == "finished"
    assert [(row["arm"], row["seed"]) for row in found["runs"]] == [
        *(("ebgan", 0), ("began", 0), ("ebgan", 1), ("began", 1))
    ]
    folders = [tmp_path / "both" / row["folder"] for row in found["runs"]]
    for row, folder in zip(found["runs"], folders, strict=True):
        config, data = read(folder / "config.json"), read(folder / "data.json")
        assert config["model"]["networks"] == "began-autoencoder"
        assert config["seed"] == row["seed"]
        assert data["digest"] == found["data"]["digest"]
        assert row["images"] == 24
        assert row["measured_step"] == 6
        assert row["peak_memory"] > 2**20
    # The differing settings are listed, and nothing else.
    listed = {row["name"]: row["values"] for row in found["differences"]}
    assert listed["model.gamma"] == {"began": 1}
    assert listed["model.pull_away"] == {"ebgan": 0.1}
    alike = [name for name in listed if "critic" not in name]  # which BEGAN alone has
    assert not [name for name in alike if "filters" in name or "networks" in name or "weights" in name]
    # The table has the numbers of the rows.
    table = {entry["name"]: entry for entry in found["measures"]}
    assert {"coverage", "precision", "recall", "density", "images_per_second", "peak_memory"} <= table.keys()
    for name, entry in table.items():
        for arm in ("ebgan", "began"):
            values = [row["measures"].get(name, row.get(name)) for row in found["runs"] if row["arm"] == arm]
            assert entry["arms"][arm]["values"] == pytest.approx(values)
            assert entry["arms"][arm]["mean"] == pytest.approx(np.mean(values))
            assert entry["arms"][arm]["spread"] == pytest.approx(np.std(values, ddof=1))
    with open(tmp_path / "both" / "comparison.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["coverage"]) for line in lines] == [row["measures"]["coverage"] for row in found["runs"]]
    assert "not distinguishable" in said.out
    assert "coverage" in said.out
    # Before the first training: how much it is, on which networks, and that two seeds are few; then how far it is.
    before, _, after = said.out.partition("comparison folder:")
    assert "4 runs: 2 models, 2 seeds each, 6 steps a run" in before
    assert "NETWORKS: ebgan on began-autoencoder; began on began-autoencoder" in before
    assert "`gankit run began` trains strided-autoencoder" in before
    assert "warning: with 2 seeds hardly any difference" in before
    assert "--seeds 5" in before
    assert [f"{done} of 4 runs are done" in after for done in range(5)] == [False, True, True, True, True]
    assert re.search(r"3 of 4 runs are done, about \S+ s left", after)


@pytest.mark.usefixtures("quick")
def test_one_model_with_several_settings_and_losses(gankit: Gankit, tmp_path: Path) -> None:
    arms = ("began:gamma=0.3", "began:gamma=0.7,loss.pulling-away=0.3,view=augment,updates=alternating")
    arms = (*arms, "ebgan:strided-autoencoder.upsampling=transposed")
    assert gankit("compare", *arms, *SHORT, "--seeds", 1, "--networks", "own", "--out", "c").code == 0
    found = compared(tmp_path / "c")
    one, two, three = (read(tmp_path / "c" / row["folder"] / "config.json") for row in found["runs"])
    assert (one["model"]["gamma"], two["model"]["gamma"]) == (0.3, 0.7)
    assert one["losses"].keys() == {"energy-distance", "imle", "critic"}  # BEGAN's own
    assert two["losses"]["pulling-away"]["weight"] == 0.3
    assert list(two["views"]) == ["augment"]
    assert (
        built_with(three, "strided-autoencoder").items()
        >= {**{"filters": 4, "latent": 8, "upsampling": "transposed", "mapping": 0}}.items()
    )
    # Alternating updates draw two batches a step: equally many pictures at half the steps.
    assert [row["steps"] for row in found["runs"]] == [6, 3, 6]
    assert {row["images"] for row in found["runs"]} == {24}
    listed = {row["name"]: row["values"] for row in found["differences"]}
    assert listed["pictures a step"] == dict(zip(arms, (4, 8, 4), strict=True))
    assert "weights of the generator" in listed
    # Three pairs, each with a sentence.
    differences = {entry["name"]: len(entry["differences"]) for entry in found["measures"]}
    assert differences == dict.fromkeys(differences, 3) | {"density": 0, "coverage": 0}  # they are shown alone


@pytest.mark.usefixtures("quick")
def test_the_filters_of_one_backbone_are_alike_unless_asked_for(gankit: Gankit, tmp_path: Path) -> None:
    smaller = [word for word in SHORT if word != "filters=4"]
    smaller.remove("--set")
    wanted = ("ebgan", "ebgan:filters=6", "began")
    assert gankit("compare", *wanted, *smaller, "--steps", 1, "--seeds", 1, "--out", "c").code == 0
    rows = compared(tmp_path / "c")["runs"]
    configs = [read(tmp_path / "c" / r["folder"] / "config.json") for r in rows]
    filters = [built_with(config, "began-autoencoder") for config in configs]
    assert [table["filters"] for table in filters] == [16, 6, 16]  # 16 is BEGAN's own choice on a CPU, 40 EBGAN's


@pytest.mark.usefixtures("quick")
def test_on_networks_that_are_no_models_own_the_order_of_the_models_decides_nothing(
    gankit: Gankit, tmp_path: Path
) -> None:
    """EBGAN draws one picture with the hidden layers that BEGAN's generator has by default."""
    asked = (*SHORT, "--steps", 1, "--seeds", 1, "--networks", "strided-autoencoder")
    for order in (("began", "ebgan"), ("ebgan", "began"), ("began:filters=6", "ebgan")):
        assert gankit("compare", *order, *asked, "--out", order[0]).code == 0
        rows = compared(tmp_path / order[0])["runs"]
        table = {row["arm"]: read(tmp_path / order[0] / row["folder"] / "config.json") for row in rows}
        built = [built_with(config, "strided-autoencoder") for config in table.values()]
        mapping, latent = ([options[name] for options in built] for name in ("mapping", "latent"))
        filters = [config["model"]["filters"] for config in table.values()]
        assert (mapping, latent) == ([0, 0], [8, 8])
        assert filters == ([6, 4] if "6" in order[0] else [4, 4])


def test_a_comparison_from_when_values_stood_twice_is_continued(finished: Path, tmp_path: Path) -> None:
    config = read(finished / "config.json")
    asked = {"runs": [], "asked": {"seeds": 1}}
    earlier = {"arms": [{"name": "began", "config": in_words_of_before(config)}], "about": {}, "notes": [], **asked}
    plan = {"arms": [{"name": "began", "config": config}], **asked}
    _take_over(tmp_path, earlier, plan, Catalogue([]))
    plan["arms"][0]["config"] = config | {"model": config["model"] | {"gamma": 0.2}}
    with pytest.raises(UserError, match=r"began\.model\.gamma"):
        _take_over(tmp_path, earlier, plan, Catalogue([]))


@pytest.mark.usefixtures("quick")
def test_images_decide_the_length(gankit: Gankit, tmp_path: Path) -> None:
    short = [str(word) for word in SHORT]
    del short[short.index("--steps") : short.index("--steps") + 2]
    assert (
        gankit(
            "compare", "began", "ebgan:batch_size=8", *short, "--images", 22, "--seeds", 1, "--jobs", 2, "--out", "c"
        ).code
        == 0
    )
    assert [row["steps"] for row in compared(tmp_path / "c")["runs"]] == [6, 3]


@pytest.mark.usefixtures("quick")
def test_a_budget_of_time_decides_the_length_over_all_starts(gankit: Gankit, tmp_path: Path) -> None:
    asked = ("compare", "began", "ebgan", *SMALL, "--log-every", 1, "--samples", 50, "--seeds", 1)
    assert gankit(*asked, "--budget", "1s", "--out", "c").code == 0
    found = compared(tmp_path / "c")
    assert [(row["outcome"], row["reason"]) for row in found["runs"]] == [("stopped", "time")] * 2
    # Half-way through, as if it had been interrupted there: it goes on for the rest of the second.
    run = tmp_path / "c" / found["runs"][0]["folder"]
    (run / "result.json").unlink()
    for path in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(path)
    assert gankit(*asked, "--budget", "1s", "--out", "c").code == 0
    row = compared(tmp_path / "c")["runs"][0]
    assert (row["outcome"], row["reason"]) == ("stopped", "time")


# Nothing is lost.


def test_a_comparison_that_was_killed_twice_gives_the_table_of_an_unbroken_one(
    comparison: Path, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    asked = ("compare", *COMPARED, "--out", "c")
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    first = tmp_path / "c" / compared(comparison)["runs"][0]["folder"]

    def saved() -> int:
        """The last checkpoint of the first run."""
        return max(map(int, (path.name for path in first.glob("checkpoints/[0-9]*"))), default=0)

    def stopped(how: signal.Signals) -> int:
        """Start it as a user does, and stop it once the first run is under way."""
        before = saved()
        broken = process(*asked, cwd=tmp_path)
        while saved() <= before:
            assert broken.poll() is None, broken.communicate()
            time.sleep(0.02)
        broken.send_signal(how)
        broken.communicate()
        return broken.returncode

    assert stopped(signal.SIGTERM) == 143
    assert read(first / "result.json")["outcome"] == "interrupted"  # it received the signal, and saved
    assert compared(tmp_path / "c")["state"] == "interrupted"
    assert stopped(signal.SIGKILL) == -9  # the run trains on as an orphan; the next start waits for it
    with_few(monkeypatch)
    said = gankit(*asked)
    assert said.code == 0, said.err
    assert told(compared(tmp_path / "c")) == told(compared(comparison))


def test_a_comparison_that_ends_before_its_first_run_begins_with_the_same_command(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Here, "begin", killed)
        assert gankit("compare", *COMPARED, "--steps", 4, "--out", "c").code == 130
    with_few(monkeypatch)
    assert gankit("compare", *COMPARED, "--steps", 4, "--out", "c").code == 0
    assert [row["outcome"] for row in compared(tmp_path / "c")["runs"]] == ["finished"] * 2


def test_killed_while_a_run_begins_it_waits_for_that_run_and_starts_no_second_one(
    comparison: Path, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    asked = ("compare", *COMPARED, "--steps", 4, "--out", "c")
    first = tmp_path / "c" / compared(comparison)["runs"][0]["folder"]
    log = Path(f"{first}.log")
    monkeypatch.setenv("PYTHONWARNINGS", "told")  # no valid filter: Python reports it at its start
    broken = process(*asked, cwd=tmp_path)
    while not log.exists() or not log.stat().st_size:  # the file is there before the process is
        assert broken.poll() is None, broken.communicate()
        time.sleep(0.01)
    broken.kill()
    broken.communicate()
    monkeypatch.delenv("PYTHONWARNINGS")
    assert not first.exists()  # the run's process is still importing torch
    with_few(monkeypatch)
    said = gankit(*asked)
    assert said.code == 0, said.err
    assert f"{Path('c') / first.relative_to(tmp_path / 'c')} is still being trained by an earlier start" in said.out
    assert [row["outcome"] for row in compared(tmp_path / "c")["runs"]] == ["finished"] * 2
    assert log.read_text().count("run folder: ") == 1


def test_the_page_of_a_comparison_under_way_tells_how_far_its_runs_are(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    with_few(monkeypatch)
    pages: list[str] = []

    class UnderWay(InProcess):
        """A finished run whose process has not ended at the first look."""

        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(command, **options)
            self.result = Path(command[command.index("--out") + 1]) / "result.json"
            self.aside = self.result.rename(self.result.with_name("aside.json"))
            self.pid, self.looks = 0, 0

        def poll(self) -> int | None:
            self.looks += 1
            if self.looks == 1:
                return None
            pages.append(Page(tmp_path / "c" / "report.html").text)
            self.aside.rename(self.result)
            return self.returncode

    monkeypatch.setattr(launch, "Popen", UnderWay)
    monkeypatch.setattr(work, "REDRAW", 0)
    monkeypatch.setattr(work, "RESTS", 0)
    assert gankit("compare", "ebgan", "began", *SHORT, "--seeds", 1, "--out", "c").code == 0
    first, second = pages
    assert "at step 6 of 6" in first
    assert "not begun" in first
    assert "finished at step 6" in second
    assert "at step 6 of 6" in second
    assert "not begun" not in second


@pytest.mark.usefixtures("quick")
def test_runs_that_were_measured_by_other_features_are_measured_again(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("compare", "ebgan", "began", *SHORT, "--seeds", 1, "--out", "c")
    assert gankit(*asked).code == 0
    assert all("kid-pixels-4" in row["measures"] for row in compared(tmp_path / "c")["runs"])
    trained = contents(tmp_path / "c" / "runs")
    monkeypatch.setattr(
        "gankit.trained.evaluation.deep", lambda channels: Space("pixels-2", lambda some: pixels(some, 2))
    )
    said = gankit(*asked)
    assert "now compared by kid-pixels-2: all runs are measured again" in said.out
    found = compared(tmp_path / "c")
    assert [name for name in found["about"] if name.startswith("kid-")] == ["kid-pixels-2"]
    for row in found["runs"]:
        assert "kid-pixels-2" in row["measures"]
        assert "kid-pixels-4" not in row["measures"]
    assert contents(tmp_path / "c" / "runs") == trained
    assert "measured again" not in gankit(*asked).out


def test_fid_is_refused_before_any_training_where_it_cannot_be_had_and_may_be_asked_for_later(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    with_few(monkeypatch)
    asked = ("compare", "ebgan", "began", *SHORT, "--seeds", 1, "--out", "c")
    with monkeypatch.context() as patch:
        patch.setattr("gankit.metrics.spaces.find_spec", lambda name: None)
        refused(gankit(*asked, "--fid"), "--fid", "gankit[fid]")
    assert not (tmp_path / "c").exists()
    assert gankit(*asked).code == 0
    for module in ("gankit.comparison.compare", "gankit.trained.evaluation"):  # Inception's weights take a network
        monkeypatch.setattr(f"{module}.inception", lambda: Space("inception-v3", lambda some: pixels(some, 3)))
    assert gankit(*asked, "--fid").code == 0
    found = compared(tmp_path / "c")
    assert all({"fid", "kid-inception-v3"} <= row["measures"].keys() for row in found["runs"])
    assert "--fid" in found["command"]
    refused(gankit(*asked), "--fid")


@pytest.mark.usefixtures("quick")
def test_started_again_it_does_nothing_twice_and_takes_more_seeds(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("compare", "began", "ebgan", *SHORT, "--out", "c")
    assert gankit(*asked, "--seeds", 1).code == 0
    before = contents(tmp_path / "c" / "runs")
    drawn: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Comparison, "write_page", lambda self: drawn.append(self.plan["state"]))
        said = gankit(*asked, "--seeds", 1)
    assert said.code == 0
    assert "runs are done" not in said.out
    assert drawn == ["running", "finished"]
    assert contents(tmp_path / "c" / "runs") == before
    assert gankit(*asked, "--seeds", 2).code == 0
    after = contents(tmp_path / "c" / "runs")
    assert before.items() <= after.items()
    found = compared(tmp_path / "c")
    assert [row["seed"] for row in found["runs"]] == [0, 0, 1, 1]
    # The recorded command makes the same request.
    assert "--seeds 2" in found["command"]
    page = Page(tmp_path / "c" / "report.html").text
    assert page.count("--seeds 2") == 2
    # Who adds seeds until a verdict comes is more often wrong than once in twenty.
    assert any(line.startswith("Seeds were added when the results of 1 were known") for line in found["summary"])
    assert "with the first seed the risk" in page
    assert gankit(*shlex.split(found["command"])[1:], "--out", "again").code == 0
    again = compared(tmp_path / "again")
    assert "5 %" not in " ".join(again["summary"])
    found["summary"] = [line for line in found["summary"] if not line.startswith("Seeds were added")]
    assert told(again) == told(found)
    assert again["command"] == found["command"]


@pytest.mark.usefixtures("quick")
def test_a_run_that_fails_is_a_result_and_not_the_end(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "from gankit import LossTerm, hookimpl\n"
        "class Failing(LossTerm):\n"
        "    name = 'failing'\n"
        "    def __call__(self, step):\n"
        "        if step.number == 3:\n"
        "            raise RuntimeError('the third step')\n"
        "        return step.energy_fake\n"
        "@hookimpl\n"
        "def gankit_losses():\n"
        "    return [Failing]\n"
    )
    asked = ("compare", "began:loss.failing=1", "began", *SHORT, "--seeds", 1, "--plugin", "failing.py", "--out", "c")
    said = gankit(*asked)
    assert said.code == 0
    failed, whole = compared(tmp_path / "c")["runs"]
    assert (failed["outcome"], failed["steps"]) == ("failed", 2)
    assert "the third step" in failed["message"]
    assert whole["outcome"] == "finished"
    assert "began:loss.failing=1 failed with seed 0 at step 2: the third step" in said.out
    assert "nothing could be measured on both" in said.out


# An honest table.


def test_a_row_tells_the_first_critical_alarm_and_the_rescues(run: Path) -> None:
    from gankit.trained.run import Run

    config = read(run / "config.json")
    config["history"] = [{"step": 4, "by": "rescue", "changed": {}}, {"step": 6, "changed": {}}]
    (run / "config.json").write_text(json.dumps(config))
    alarms = [
        {"step": 3, "kind": "narrowing", "severity": "warning"},
        {"step": 5, "diagnostic": "vitals", "kind": "exploded", "severity": "critical"},
        {"step": 7, "diagnostic": "mode-collapse", "kind": "one-mode", "severity": "critical"},
    ]
    (run / "alarms.jsonl").write_text("".join(json.dumps(alarm) + "\n" for alarm in alarms))
    row = results.row(Run(run), pictures_a_step=4)
    assert (row["alarm_step"], row["alarm"], row["collapse_step"], row["rescues"]) == (5, "exploded", 7, 1)
    assert (row["steps"], row["images"], row["outcome"]) == (8, 32, "finished")


def test_a_failed_run_has_nothing_left_to_be_measured(tmp_path: Path) -> None:
    ended = {"arm": "began", "steps": 200, "seconds": 20.0}
    rows = [
        ended | {"folder": "a", "outcome": "finished", "measures": {}},
        ended | {"folder": "b", "outcome": "failed"},
    ]
    arm: Any = SimpleNamespace(name="began", pictures_a_step=1)
    comparison = Comparison(tmp_path, {"budget": 60, "runs": rows}, [arm], {}, (), Watcher(), work.Here())
    comparison.measuring, comparison.jobs = 60.0, 1
    assert comparison.left() == 0
    rows[1]["outcome"] = "finished"
    assert comparison.left() == 60


def test_what_is_damaged_in_a_run_is_unknown_or_left_out(run: Path, tmp_path: Path) -> None:
    result = {"outcome": 1, "reason": [], "message": None, "steps": "8", "seconds": 10**400, "peak_memory": True}
    (run / "result.json").write_text(json.dumps(result))
    (run / "config.json").write_text(json.dumps(read(run / "config.json") | {"history": ["rescue"]}))
    (run / "alarms.jsonl").write_text('{"step": 3, "severity": "critical"}\n')
    row = results.row(RunFolder(run), 4)
    assert row == results.no_row("") | {"outcome": None, "reason": None, "alarm_step": 3, "alarm": "None"}
    logged = lines(run)
    looks = [{**line, "mode-collapse/coverage": 0.5} for line in logged]
    del looks[0]["seconds"]
    looks[1] |= {"seconds": "2"}
    looks[2] |= {"mode-collapse/coverage": [0.5]}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in looks))
    assert results.coverage_curve(RunFolder(run)) == [(line["seconds"], 0.5) for line in logged[3:]]
    comparison = Comparison(tmp_path, {"budget": None, "runs": []}, [], {}, (), Watcher(), work.Here())
    assert comparison._done({"folder": run.name}) == (8, logged[-1]["seconds"])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9}\n')
    assert comparison._done({"folder": run.name}) == (0, 0)


def test_a_line_without_pace_or_time_is_no_obstacle(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EVERY", 0)
    logged = lines(run)
    damaged = {"step": 8, "seconds": "long", "images_per_second": None}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*logged[:-1], damaged]))
    comparison = Comparison(tmp_path, {"budget": None, "runs": []}, [], {}, (), Watcher(), work.Here())
    assert comparison.progress({"folder": run.name}) == "step 8 of 8"
    assert RunFolder(run).trained(8) == logged[-2]["seconds"]


def ended(arm: str, seed: int, **more: Any) -> dict[str, Any]:
    """A row of a run that has ended."""
    return {"arm": arm, "seed": seed, "outcome": "finished", "reason": "steps", "alarm_step": None, "rescues": 0} | more


def test_what_not_every_run_came_to_is_counted_and_not_called_better_or_worse() -> None:
    """One run of b reached it quickly, and two never did."""
    seconds = {"a": [50.0, 51.0, 52.0], "b": [5.0, None, None]}
    collapses = {"a": [None, 900, None], "b": [None, None, None]}
    rows = [
        ended(arm, seed, seconds_to_coverage=seconds[arm][seed], collapse_step=collapses[arm][seed])
        for arm, seed in product("ab", range(3))
    ]
    time_to, collapse = results.table(["a", "b"], rows, {})
    assert (time_to["name"], collapse["name"]) == ("seconds_to_coverage", "collapse_step")
    assert time_to["differences"] == collapse["differences"] == []
    assert time_to["note"].startswith("time to coverage: 3 of 3 runs of a and 1 of 3 runs of b reached it.")
    assert collapse["note"].startswith("collapse step: 1 of 3 runs of a and 0 of 3 runs of b collapsed.")
    assert results.some(time_to["arms"]["b"]) == "1 of 3"
    for row in rows:
        row["seconds_to_coverage"] = row["seconds_to_coverage"] or 100.0
    (whole, _) = results.table(["a", "b"], rows, {})
    assert (whole["note"], len(whole["differences"])) == ("", 1)


def test_rescues_are_a_row_of_the_table_once_there_were_any() -> None:
    rows = [
        ended(arm, seed, rescues=seed * (arm == "b"), images_per_second=9.0) for arm, seed in product("ab", range(3))
    ]
    table = {entry["name"]: entry for entry in results.table(["a", "b"], rows, {})}
    assert table["rescues"]["arms"]["b"]["values"] == [0, 1, 2]
    none = [row | {"rescues": 0} for row in rows]
    assert [entry["name"] for entry in results.table(["a", "b"], none, {})] == ["images_per_second"]


def test_a_run_that_failed_is_no_cheaper_for_it() -> None:
    rows = [
        ended(arm, seed, peak_memory=300.0 if arm == "b" and seed else 900.0) for arm, seed in product("ab", range(3))
    ]
    for row in rows:
        row["outcome"] = "failed" if row["arm"] == "b" and row["seed"] else "finished"
    (memory,) = results.table(["a", "b"], rows, {})
    assert memory["arms"]["b"]["values"] == [900.0, None, None]
    assert memory["differences"][0]["pairs"] == 1


def test_where_a_run_kept_an_earlier_step_the_page_says_which_one_is_measured() -> None:
    rows = [ended("a", 0, steps=900, measured_step=400), ended("b", 0, steps=900, measured_step=900)]
    told = results.summary({"arms": [{"name": name} for name in "ab"], "measures": [], "runs": rows})
    assert told[1:] == ["a is measured with seed 0 at step 400, the last that it kept of 900."]


def test_equal_differences_are_no_matter_of_many_tests() -> None:
    values = {"a": [0.6, 0.7, 0.8], "b": [0.5, 0.6, 0.7]}
    rows = [ended(arm, seed, measures={"clipped-coverage": values[arm][seed]}) for arm, seed in product("ab", range(3))]
    (entry,) = results.table(["a", "b"], rows, {"clipped-coverage": {"better": "higher"}})
    sentence = entry["differences"][0]["sentence"]
    assert entry["differences"][0]["p"] == 0.25
    assert "the same for all seeds, so only its sign counts" in sentence
    assert "tested at once" not in sentence


def test_a_sentence_tells_the_means_of_the_pairs_that_its_interval_is_of() -> None:
    """With the third seed, which b lacks, the means would contradict the interval."""
    values = {"a": [0.30, 0.32, 0.95], "b": [0.50, 0.53, None]}
    rows = [ended(arm, seed, measures={"clipped-coverage": values[arm][seed]}) for arm, seed in product("ab", range(3))]
    (entry,) = results.table(["a", "b"], rows, {"clipped-coverage": {"better": "higher"}})
    (one,) = entry["differences"]
    assert entry["arms"]["a"]["mean"] > entry["arms"]["b"]["mean"]
    assert one["mean"] == pytest.approx(-0.205)
    assert one["sentence"].startswith("clipped-coverage: a is worse than b (0.3100 against 0.5150; ")


def test_of_what_is_right_where_real_pictures_have_it_the_nearer_one_is_better_from_either_side() -> None:
    """Grain is 1.0 in real pictures: noise has too much, a blank page none; both are worse than a small difference."""
    grain = {"noise": [4.0, 4.1, 4.2], "blank": [0.0, 0.0, 0.0], "good": [1.1, 0.9, 1.15]}
    rows = [
        ended(arm, seed, measures={"grain": grain[arm][seed], "flat": 0.3}) for arm, seed in product(grain, range(3))
    ]
    about = {
        "grain": {"better": "nearer", "ceiling": 1.0, "space": "pixels-32"},
        "flat": {"better": "nearer", "ceiling": 0.3, "space": "pixels-32"},
    }
    entry, equal = results.table(list(grain), rows, about)
    assert [one["verdict"] for one in equal["differences"]] == ["not distinguishable"] * 3
    told = {(one["of"], one["less"]): one for one in entry["differences"]}
    assert told["noise", "blank"]["verdict"] == told["noise", "good"]["verdict"] == "worse"
    assert told["blank", "good"]["verdict"] == "worse"
    assert told["noise", "good"]["mean"] == pytest.approx(3.1 - 0.35 / 3)
    assert told["noise", "good"]["sentence"].startswith(
        "grain: noise is worse than good (on average 3.1000 against 0.1167 away from the real pictures' 1.0000; their "
        "difference's 95 % interval over 3 seeds is "
    )
    assert entry["arms"]["noise"]["mean"] == pytest.approx(4.1)  # the table has the values themselves
    arms = [{"name": name} for name in grain]
    assert "blank is worse in grain than good" in " ".join(
        results.summary({"arms": arms, "measures": [entry, equal], "runs": []})
    )


def test_the_time_to_a_coverage_is_that_of_the_first_look_that_saw_it() -> None:
    curves = [[(1.0, 0.02), (2.0, 0.31), (3.0, 0.1)], [(1.5, 0.2), (4.0, 0.24)]]
    level = results.common_level(curves)
    assert level == 0.2
    assert [results.seconds_to(curve, level) for curve in curves] == [2.0, 1.5]
    assert results.seconds_to(curves[1], 0.3) is None
    assert results.common_level([*curves, [(1.0, 0.01)]]) is None


def test_intervals_are_students() -> None:
    these, others = [0.5, 0.9, 0.7, 0.8], [0.2, 0.7, 0.1, 0.5]
    found = paired.difference(these, others)
    differences = np.subtract(these, others)
    assert found is not None
    assert found.interval is not None
    assert found.mean == pytest.approx(differences.mean())
    # Student's t by its formula, and the area of its tails by adding up its density for three degrees of freedom.
    error = differences.std(ddof=1) / 2
    t = differences.mean() / error

    def tails(t: float) -> float:
        x = np.linspace(0, t, 100_001)
        return 1 - 2 * np.trapezoid(2 / (np.pi * np.sqrt(3) * (1 + x**2 / 3) ** 2), x)

    assert found.p == pytest.approx(tails(t), abs=1e-6)
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(differences.mean())
    assert tails((high - low) / 2 / error) == pytest.approx(0.05, abs=1e-6)


def test_what_is_unknown_in_one_run_leaves_its_pair_out() -> None:
    found = paired.difference([1.0, None, 3.0, float("nan")], [0.0, 5.0, 1.0, 2.0])
    assert found is not None
    assert (found.mean, found.pairs) == (1.5, 2)
    assert paired.difference([None], [1.0]) is None
    assert paired.interval([2.0]) is None


def test_one_seed_never_tells_better_from_worse() -> None:
    found = paired.difference([9.0], [1.0])
    assert found is not None
    assert paired.verdict(found, found.p, "higher") == "not distinguishable"


def test_a_difference_without_a_spread_is_one_where_no_seed_decides_and_otherwise_a_matter_of_signs() -> None:
    memory = [2.0**30] * 3
    rows = [
        ended(
            arm,
            seed,
            peak_memory=memory[seed] * (1 + (arm == "b")),
            measures={"different-bins": 0.5 + 0.1 * (arm == "b")},
        )
        for arm, seed in product("ab", range(3))
    ]
    bins, peak = results.table(["a", "b"], rows, {"different-bins": {"better": "lower"}})
    assert peak["differences"][0]["verdict"] == "better"
    assert peak["differences"][0]["interval"] == (-(2.0**30), -(2.0**30))
    for row in rows:
        row["peak_memory"] = 2.0**30 + 4096 * (row["arm"] == "b")
    _, peak = results.table(["a", "b"], rows, {"different-bins": {"better": "lower"}})
    assert peak["differences"][0]["verdict"] == "not distinguishable", "4 KiB are nothing"
    # Coarse shares agree by chance: with three seeds, the signs agree one time in four.
    assert bins["differences"][0]["verdict"] == "not distinguishable"
    assert [paired.p_value([0.1] * n) for n in (1, 2, 3, 6)] == [1, 0.5, 0.25, 1 / 32]
    assert [paired.p_value([0.0] * 3), paired.p_value([0.0] * 3, exact=True)] == [1, 1]
    # The spread of 0.1, 0.1 and 0.1 is here that of rounding: 3e-17.
    rounded = paired.difference([0.4, 0.5, 0.6], [0.3, 0.4, 0.5])
    assert rounded is not None
    assert rounded.p == 0.25
    equal = paired.difference([0.1 + 0.2] * 3, [0.3] * 3)
    assert equal is not None
    assert equal.p == 1
    alone = paired.difference([2.0], [1.0], exact=True)
    assert alone is not None
    assert paired.verdict(alone, alone.p, "lower") == "not distinguishable"


def test_a_plain_difference_is_told_with_its_direction() -> None:
    found = paired.difference([0.81, 0.8, 0.79], [0.2, 0.22, 0.21])
    assert found is not None
    assert paired.verdict(found, found.p, "higher") == "better"
    assert paired.verdict(found, found.p, "lower") == "worse"


def test_corrected_p_values_are_those_of_the_definition() -> None:
    # Holm: the k-th smallest of m times (m − k + 1), and never less than one before it.
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([]) == []


def of_no_difference(rng: np.random.Generator, arms: int, seeds: int, coarse: bool = False) -> list[dict[str, Any]]:
    """A comparison of models without a difference: ten measures and the costs, normal over the seeds.

    `coarse`: the measures are shares of 100 pictures in single precision, whose differences often agree.
    """
    names = [f"m{n}" for n in range(10)]

    def measures() -> Any:
        shares = rng.binomial(100, 0.13, len(names)).astype(np.float32) / np.float32(100)
        return shares.astype(float) if coarse else rng.normal(1, 0.1, len(names))

    rows = [
        ended(
            f"a{arm}",
            seed,
            measures=dict(zip(names, measures(), strict=True)),
            images_per_second=rng.normal(100, 10),
            seconds_to_coverage=rng.normal(100, 10),
            peak_memory=2.0**30 + 4096 * int(rng.integers(0, 3)),
        )
        for arm in range(arms)
        for seed in range(seeds)
    ]
    return results.table([f"a{arm}" for arm in range(arms)], rows, {name: {"better": "higher"} for name in names})


def wrong(table: list[dict[str, Any]]) -> bool:
    return any(one["verdict"] != "not distinguishable" for entry in table for one in entry["differences"])


def test_models_without_a_difference_are_rarely_called_better_in_anything() -> None:
    rng = np.random.default_rng(0)
    assert sum(wrong(of_no_difference(rng, 3, 3)) for _ in range(40)) <= 6  # 5 %: 7 or more of 40 are one in 200
    assert sum(wrong(of_no_difference(rng, 4, 3, coarse=True)) for _ in range(40)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("arms", [2, 3, 4, 5])
def test_the_risk_of_any_wrong_word_on_a_page_is_5_percent(arms: int, seeds: int, coarse: bool) -> None:
    rng = np.random.default_rng(arms * 10 + seeds)
    assert (
        np.mean([wrong(of_no_difference(rng, arms, seeds, coarse)) for _ in range(300)])
        <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    )


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 4, 5, 8])
def test_intervals_cover_the_true_difference_as_often_as_they_say(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    covered = []
    for _ in range(2000):
        low, high = paired.interval(rng.normal(0.3, 1, seeds).tolist()) or (0, 0)
        covered.append(low <= 0.3 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_an_interval_without_0_that_is_no_verdict_says_why() -> None:
    """t = 5.77 with 2 degrees of freedom: p = 0.029 alone, and 0.058 at least beside another."""
    rows = [
        ended(arm, seed, measures={"clipped-coverage": values[seed], "recall": 0.5 + 0.1 * (arm == "a") * (-1) ** seed})
        for arm, values in {"a": [0.53, 0.52, 0.53], "b": [0.40, 0.45, 0.43]}.items()
        for seed in range(3)
    ]
    about = {name: {"better": "higher", "ceiling": 1.0} for name in ("clipped-coverage", "recall")}
    entries = results.table(["a", "b"], rows, about)
    told = {entry["name"]: entry["differences"][0] for entry in entries if entry["name"] in about}
    low, high = told["clipped-coverage"]["interval"]
    assert 0 < low < high
    assert told["clipped-coverage"]["verdict"] == "not distinguishable"
    assert told["clipped-coverage"]["p"] < 0.05 < told["clipped-coverage"]["p_corrected"]
    assert f"{low:.4f} to {high:.4f}, leaves 0 out" in told["clipped-coverage"]["sentence"]
    assert f"p is {told['clipped-coverage']['p_corrected']:.2g}" in told["clipped-coverage"]["sentence"]
    assert "leaves 0 out" not in told["recall"]["sentence"]
    summary = results.summary({"arms": [{"name": name} for name in "ab"], "measures": entries, "runs": rows})
    assert any(line.startswith("clipped-coverage: the interval") for line in summary)


def test_a_table_says_better_worse_and_open_in_words() -> None:
    coverage = {"a": [0.80, 0.82, 0.81], "b": [0.30, 0.33, 0.29], "c": [0.7, 0.2, 0.5]}
    kid = {"a": [0.10, 0.11, 0.12], "b": [0.02, 0.031, 0.04], "c": [0.1, 0.05, 0.3]}
    rows = [
        {"arm": arm, "seed": seed, "measures": {"clipped-coverage": coverage[arm][seed], "kid": kid[arm][seed]}}
        for arm, seed in product("abc", range(3))
    ]
    about = {"clipped-coverage": {"better": "higher", "ceiling": 0.9}, "kid": {"better": "lower", "ceiling": 0.0}}
    table = results.table(list("abc"), rows, about)
    verdicts = {(d["of"], d["less"], e["name"]): d["verdict"] for e in table for d in e["differences"]}
    assert verdicts["a", "b", "clipped-coverage"] == "better"
    assert verdicts["a", "b", "kid"] == "worse"
    assert verdicts["a", "c", "clipped-coverage"] == "not distinguishable"
    whole = [ended(**row) for row in rows]
    whole[0] |= {"alarm_step": 1200, "alarm": "mode-collapse"}
    told = results.summary({"arms": [{"name": name} for name in "abc"], "measures": table, "runs": whole})
    assert told[0] == "a is better in clipped-coverage and worse in kid than b with these 3 seeds."
    assert "a and c are not distinguishable with these 3 seeds in any of the 2 measures" in told[1]
    assert "a had a critical alarm in 1 of 3 runs, the earliest at step 1,200 (mode-collapse, seed 0)." in told


# The page.


def test_a_comparisons_page_is_written_anew_from_what_is_left_of_its_folder(
    comparison: Path, gankit: Gankit, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(comparison, tmp_path / "c"))
    began, ebgan = (folder / row["folder"] for row in compared(folder)["runs"])
    (began / "samples" / "000030.png").write_bytes(b"no picture")
    shutil.rmtree(ebgan)
    (folder / "report.html").unlink()
    said = gankit("report", "c")
    assert said.code == 0, said.err
    page = Page(folder / "report.html")
    for sentence in compared(folder)["summary"]:
        assert sentence in page.text
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a" and not attrs["href"].startswith("#")}
    assert links == {f"./{quote(str(began.relative_to(folder)))}/report.html"}
    assert all(attrs["src"].startswith("data:") and attrs["alt"] for tag, attrs in page.tags if tag == "img")
    [column] = page.json("grids")
    assert [grid["step"] for grid in column] == [0, 10, 20, 30, 40, 50, 60]


def test_a_comparison_shows_a_metric_as_its_runs_say(comparison: Path, gankit: Gankit, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(comparison, tmp_path / "c"))
    for row in compared(folder)["runs"]:
        told = folder / row["folder"] / "environment.json"
        environment = read(told)
        assert "curves" in environment
        curves = {"energy/real": {"letter": "E_r", "note": "As its author says.", "bounds": [0, None]}}
        told.write_text(json.dumps(environment | {"curves": curves}), encoding="utf-8")
    assert gankit("report", "c").code == 0
    shown = {panel["title"]: panel for panel in Page(folder / "report.html").json("curves")["panels"]}
    energy = shown["energy/real  E_r"]
    assert (energy["note"], energy["bounds"]) == ("As its author says.", [0, None])
    assert "energy/fake  L(G(z))" in shown


def test_by_default_models_stand_on_the_pair_for_comparisons_gankits_own_before_a_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = """
import gankit

class {name}(gankit.NetworkPair):
    name = "{name}"
    for_comparison = {said}

    def build(self, shape, seen):
        raise NotImplementedError

@gankit.hookimpl
def gankit_networks():
    return [{name}]
"""
    for name, said in (("aa", True), ("bb", True), ("cc", False)):
        (tmp_path / f"{name}.py").write_text(pair.format(name=name, said=said), encoding="utf-8")
    files = [str(tmp_path / f"{name}.py") for name in ("bb", "aa", "cc")]
    assert backbone(Catalogue(files)) == "began-autoencoder"
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "began")
    assert backbone(Catalogue(files)) == "aa"
    assert backbone(Catalogue(files[-1:])) == "own"


# On the command line.


def test_an_arm_is_typed_as_the_flags_that_it_stands_for() -> None:
    text = "began:gamma=0.7,betas=[0.5,0.9],balance.floor=0.1,loss.pulling-away=0.3,view=packing,batch_size=8"
    arm = parse([text, "ebgan"])[0]
    typed = flags(arm.options)
    assert dict(zip(typed[::2], typed[1::2], strict=True)).keys() == {"--set", "--loss", "--view", "--batch-size"}
    assert {"gamma=0.7", "betas=[0.5, 0.9]", "balance.floor=0.1", "pulling-away=0.3", "packing", "8"} <= set(typed)


def test_folders_have_names_that_differ() -> None:
    assert folder_names(["began:gamma=0.3", "a/b", "a:b"]) == ["began-gamma=0.3", "a-b", "a-b-2"]


# Bad input.

DATA = SMALL[:4]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("began",), ("two models", "began")),
        (("began", "began"), ("began", "named twice")),
        (("began:gamma=0.5", "began:gamma=0.50"), ("began:gamma=0.50", "named twice")),
        (("began", "bergan"), ("bergan", "did you mean")),
        (("began", "ebgan:gamma=0.5"), ("ebgan:gamma=0.5", "no setting 'gamma'")),
        (("began", "ebgan", "--set", "gamma=0.5"), ("ebgan: ", "no setting 'gamma'")),
        (("began:gamma", "ebgan"), ("began:gamma", "KEY=VALUE")),
        (("began:", "ebgan"), ("began:", "KEY=VALUE")),
        (("began:loss.nope=1", "ebgan"), ("began:loss.nope=1", "nope")),
        (("began:view=nope", "ebgan"), ("began:view=nope", "nope")),
        (("began:gamma=7", "ebgan"), ("began:gamma=7", "gamma=7")),
        (("began", "ebgan", "--networks", "nope"), ("nope",)),
        (("began", "ebgan", "--steps", 4, "--images", 40), ("--steps", "--images")),
        (("began", "ebgan", "--budget", "soon"), ("--budget soon", "30m")),
        (("began", "ebgan", "--seed", 2**63 - 2, "--seeds", 3), ("--seed 9223372036854775806", "at most")),
        (("began", "ebgan", "--holdout", 0), ("0 pictures", "--holdout")),
        (("began", "ebgan", "--data", "demo:60"), ("demo:60", "6 pictures", "--holdout")),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_and_leaves_nothing(
    asked: tuple[Any, ...], words: tuple[str, ...], gankit: Gankit, tmp_path: Path
) -> None:
    refused(gankit("compare", *DATA, *asked, "--out", "c"), *words)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("length", [(), ("--steps", 4), ("--images", 40)])
def test_a_settings_file_with_a_time_needs_a_budget(length: tuple[Any, ...], gankit: Gankit, tmp_path: Path) -> None:
    """Regression: a traceback, or runs of a length that nobody had asked for."""
    (tmp_path / "t.toml").write_text('time = "20s"\n')
    said = gankit("compare", *DATA, "began", "ebgan", "--config", "t.toml", *length, "--out", "c")
    refused(said, "the settings have a time, 20 seconds", "--budget")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--set", "latent=9"), ("--set", "latent")),
        (("--data", "demo:300"), ("--data", "demo:200", "demo:300")),
        (("--steps", 7), ("--steps", "6", "7")),
        (("--networks", "own"), ("--networks", "own")),
    ],
)
def test_a_comparison_started_again_with_another_request_is_refused(
    changed: tuple[Any, ...], words: tuple[str, ...], begun: Path, gankit: Gankit, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(begun, tmp_path / "c"))
    before = contents(folder)
    refused(gankit("compare", "began", "ebgan", *SHORT, *changed, "--seeds", 1, "--out", "c"), "c ", *words)
    refused(gankit("compare", "began", "began:gamma=0.9", *SHORT, "--seeds", 1, "--out", "c"), "--models", "ebgan")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"config": {"networks": {}, "model": {}}}, "arms.0.config.model.name"),
        ({"config": {"networks": {}, "model": {"name": ["began"]}}}, "arms.0.config.model.name"),
        ({"config": {"networks": {}, "model": {"name": "began"}, "views": 3}}, "views is no table of tables"),
        ({"config": {"networks": {"began-autoencoder": 3}, "model": {"name": "began"}}}, "networks is no table"),
        ({"about": {"recall": 3}}, "about.recall"),
        ({"about": {"recall": {"ceiling": 1.0}}}, "about.recall.better"),
    ],
)
def test_a_damaged_comparison_does_not_go_on_and_says_so_in_one_line(
    change: dict[str, Any],
    where: str,
    begun: Path,
    gankit: Gankit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Comparison, "train", lambda self, jobs, interrupts: None)
    folder = Path(shutil.copytree(begun, tmp_path / "c"))
    plan = compared(folder)
    (plan["arms"][0] if "config" in change else plan).update(change)
    (folder / "comparison.json").write_text(json.dumps(plan))
    refused(gankit("compare", "began", "ebgan", *SHORT, "--seeds", 1, "--out", "c"), "comparison.json", where)


def test_more_runs_than_a_page_has_room_for_are_refused_before_the_first(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "train", lambda self, jobs, interrupts: None)
    asked = ("compare", "began", "ebgan", *SHORT, "--seeds", 1001, "--out", "c")
    refused(gankit(*asked), "--seeds 1001", "2,002 runs", "at most 2,000")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("number", [{"seeds": 0}, {"seeds": True}, {"jobs": -1}])
def test_from_python_a_comparison_refuses_numbers_that_no_flag_has(
    number: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "train", lambda self, jobs, interrupts: None)
    (name,) = number
    with pytest.raises(UserError, match=f"--{name} .* whole number of 1 or more"):
        package.compare(["began", "ebgan"], "demo:200", out=tmp_path / "c", **number)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison without any started run."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gankit.comparison.compare.Comparison.train", lambda self, jobs, interrupts: None)
        assert quietly("compare", "began", "ebgan", *SHORT, "--seeds", 1, "--out", "c", cwd=folder) == 0
    return folder / "c"


def test_pictures_that_have_changed_are_noticed(gankit: Gankit, tmp_path: Path, monkeypatch: Any) -> None:
    from PIL import Image

    (tmp_path / "pics").mkdir()
    rng = np.random.default_rng(0)
    for n in range(250):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "pics" / f"{n}.png")
    monkeypatch.setattr("gankit.comparison.compare.Comparison.train", lambda self, jobs, interrupts: None)
    asked = ("compare", "began", "ebgan", *SHORT, "--data", "pics", "--seeds", 1, "--out", "c")
    assert gankit(*asked).code == 0
    os.unlink(tmp_path / "pics" / "7.png")
    refused(gankit(*asked), "pics", "changed")


def test_a_folder_that_is_something_else_is_left_alone(gankit: Gankit, tmp_path: Path, begun: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    refused(gankit("compare", "began", "ebgan", *SHORT, "--out", "full"), "full", "no comparison")
    folder = Path(shutil.copytree(begun, tmp_path / "c"))
    (folder / "comparison.json").write_text("{")
    refused(gankit("compare", "began", "ebgan", *SHORT, "--out", "c"), "comparison.json", "damaged")
    (folder / "comparison.json").write_text('{"schema": 99}')
    refused(gankit("report", "c"), "comparison.json", "schema")


def test_numbers_in_an_earlier_request_are_shown(gankit: Gankit, tmp_path: Path, begun: Path) -> None:
    folder = Path(shutil.copytree(begun, tmp_path / "c"))
    plan = compared(folder)
    plan["asked"]["models"] = [1, 2]
    (folder / "comparison.json").write_text(json.dumps(plan))
    refused(gankit("compare", "began", "ebgan", *SHORT, "--seeds", 1, "--out", "c"), "another --models (1 2, and now")


def test_the_lock_of_a_comparison_is_no_link(gankit: Gankit, tmp_path: Path, begun: Path) -> None:
    folder = Path(shutil.copytree(begun, tmp_path / "c"))
    (folder / ".lock").unlink(missing_ok=True)
    (tmp_path / "mine").write_text("mine")
    (folder / ".lock").symlink_to(tmp_path / "mine")
    refused(gankit("compare", "began", "ebgan", *SHORT, "--seeds", 1, "--out", "c"), ".lock is a link")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_disk_without_locks_trains_and_a_run_that_is_under_way_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launch, "Popen", lambda command, **_: started.append(command))
    for code, count in ((errno.ENOLCK, 1), (errno.ENOSYS, 2), (errno.EWOULDBLOCK, 2)):

        def refuse(file: object, how: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(launch, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
        with pytest.raises(BlockingIOError) if code == errno.EWOULDBLOCK else nullcontext():
            launch.launch(tmp_path, tmp_path / "run", ["-c", "pass"])
        assert len(started) == count


def test_a_comparison_is_no_folder_of_pictures(comparison: Path, gankit: Gankit) -> None:
    refused(gankit("evaluate", comparison, "--data", "demo:300"), "is a comparison", "runs")


@pytest.mark.usefixtures("undrawn")
def test_measures_that_fail_are_a_result_and_the_other_runs_go_on(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("gankit.trained.evaluation.evaluate", no_memory)
    assert gankit("compare", "ebgan", "began", *SHORT, "--seeds", 1, "--out", "c").code == 0
    rows = compared(tmp_path / "c")["runs"]
    assert [(row["outcome"], row["unmeasured"]) for row in rows] == [("finished", "out of memory")] * 2
