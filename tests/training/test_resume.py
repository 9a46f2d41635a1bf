"""The promises of `gankit resume`: it goes on as if nothing had happened, and loses nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import gankit_began.model
import numpy as np
import pytest
from conftest import TINY, Gankit, checkpoints, contents, lines, read, refused, timeless, weights
from PIL import Image

from gankit.builtin import vitals

pytestmark = pytest.mark.usefixtures("undrawn")

# Settings with which the whole state of a training changes within eight steps.
RESTLESS = ("--set", "lambda_k=0.1", "--set", "halving.patience=1", "--set", "ema=0.9")  # with windows of two steps
BEGAN = ("began", *RESTLESS)
NORMALISED = ("--set", "began-autoencoder.spectral_normalisation=both")
KINDS: dict[str, tuple[str, ...]] = {
    "began": BEGAN,
    "began in bf16": (*BEGAN, "--precision", "bf16"),
    "began mirrored": (*BEGAN, "--mirror"),
    "began with the pulling-away term": (*BEGAN, "--loss", "pulling-away=0.5"),
    "began alternating": (*BEGAN, "--set", "updates=alternating"),
    "began with vanishing residuals": (*BEGAN, "--set", "vanishing_residuals=true"),
    "began without averaging": (*BEGAN, "--set", "ema=0"),
    "began, a rate for the generator": (*BEGAN, "--set", "learning_rate_generator=3e-4"),
    "began with a floor under k": (*BEGAN, "--set", "balance.floor=0.2"),
    "began with balance-pi": (*BEGAN, "--set", "gamma=0.9", "--controller", "balance-pi"),
    "began with pace": ("began", "--controller", "pace", "--set", "pace.gain=0.1", "--set", "lambda_k=0.1"),
    "began, spectrally normalised": (*BEGAN, *NORMALISED),
    "began in bf16, spectrally normalised": (*BEGAN, *NORMALISED, "--precision", "bf16"),
    "began with minibatch deviation": (*BEGAN, "--set", "began-autoencoder.minibatch_deviation=true"),
    "began, augmented and packed": (*BEGAN, "--view", "augment", "--view", "packing"),
    "began with latent closing and mode regulariser": (
        *BEGAN,
        "--loss",
        "latent-closing=1",
        "--loss",
        "mode-regulariser=1",
    ),
    "began, remembering few samples": (*BEGAN, "--set", "imle.remembered=10"),
    "ebgan": ("ebgan",),  # its generator's batch normalisation has buffers
    "ebgan alternating": ("ebgan", "--set", "updates=alternating", "--mirror"),
    "ebgan with a fixed margin": ("ebgan", "--set", "margin=0.3"),
}


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankit_began.balance.WINDOW", 2)


# N + M is N and then M.


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("every", [1, 3], ids=["each step logged", "stopped between two lines"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_is_as_if_it_was_not(kind: str, every: int, gankit: Gankit, tmp_path: Path) -> None:
    if every != 1 and kind not in ("began", "ebgan"):
        pytest.skip("shown by the two models")
    model, *options = KINDS[kind]
    asked = (model, *TINY, *options, "--log-every", every, "--sample-every", 2)
    assert gankit("run", *asked, "--steps", 8, "--out", "whole").code == 0
    assert gankit("run", *asked, "--steps", 5, "--out", "parts").code == 0
    assert gankit("resume", "parts", "--steps", 8).code == 0
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert weights(parts, 8) == weights(whole, 8)
    assert timeless(parts) == timeless(whole)
    for sample in (whole / "samples").iterdir():
        assert (parts / "samples" / sample.name).read_bytes() == sample.read_bytes()
    assert read(parts / "result.json")["outcome"] == "finished"
    assert read(parts / "result.json")["steps"] == 8


@pytest.mark.usefixtures("short_windows")
def test_it_can_be_stopped_many_times(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", *BEGAN, *TINY, "--steps", 6, "--out", "whole").code == 0
    assert gankit("run", *BEGAN, *TINY, "--steps", 0, "--out", "parts").code == 0
    for steps in (1, 2, 4, 6):
        assert gankit("resume", "parts", "--steps", steps).code == 0
    assert weights(tmp_path / "parts", 6) == weights(tmp_path / "whole", 6)
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")


def test_seconds_go_on_from_where_they_were(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--steps", 4, "--out", "run").code == 0
    before = read(tmp_path / "run/result.json")["seconds"]
    assert gankit("resume", "run", "--steps", 6).code == 0
    seconds = [line["seconds"] for line in lines(tmp_path / "run")]
    assert seconds == sorted(seconds)
    assert read(tmp_path / "run/result.json")["seconds"] > before


def test_the_last_line_says_of_which_steps_the_speed_is(gankit: Gankit, undrawn: None) -> None:
    """Regression: the time of all starts stood beside the speed of the last one as if both were of all."""
    said = gankit("run", "began", *TINY, "--steps", 4, "--out", "run")
    assert re.search(r"^finished at step 4 after \S+, \S+ images/s$", said.out, re.MULTILINE)
    said = gankit("resume", "run", "--steps", 6)
    assert re.search(r"^finished at step 6 after \S+, \S+ images/s since step 4$", said.out, re.MULTILINE)
    said = gankit("resume", "run")
    assert re.search(r"^finished at step 6 after \S+, \S+ images/s in the start before$", said.out, re.MULTILINE)


def test_where_nothing_is_left_to_train_nobody_is_asked_to_look_while_it_trains(gankit: Gankit, run: Path) -> None:
    assert (run / "report.html").is_file()
    said = gankit("resume", run)
    assert said.code == 0
    assert "while it trains" not in said.out
    assert "look at it while it trains: file://" in gankit("resume", run, "--steps", 9).out


def test_the_same_alarm_is_not_told_again(gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a diagnostic is in the checkpoint."""
    monkeypatch.setattr(vitals.Vitals, "every", 2)
    monkeypatch.setattr(vitals, "EXPLODED", 1.0001)
    options = ("--set", "learning_rate=0.01", "--on-alarm", "warn")
    options += ("--set", "edges=0", "--set", "strided-autoencoder.output=linear")
    assert gankit("run", "began", *TINY, *options, "--steps", 7, "--out", "run").code == 0
    (alarm,) = lines(tmp_path / "run", "alarms.jsonl")
    assert gankit("resume", "run", "--steps", 12).code == 0
    assert lines(tmp_path / "run", "alarms.jsonl") == [alarm]


# After a kill -9.


def test_after_a_kill_it_writes_the_same_lines_again_and_none_twice(gankit: Gankit, run: Path, finished: Path) -> None:
    """Killed between two checkpoints: lines and samples exist beyond the last checkpoint."""
    for step in (6, 8):
        shutil.rmtree(run / "checkpoints" / f"{step:06d}")
    (run / "result.json").unlink()
    assert lines(run)[-1]["step"] == 8
    assert gankit("resume", run).code == 0
    assert timeless(run) == timeless(finished)
    assert weights(run, 8) == weights(finished, 8)
    assert not (run / "abandoned").exists()
    assert "attempt" not in lines(run)[-1]


@pytest.mark.parametrize("torn", [b'{"step": 7, "images": 28, "los', b"{", '{"message": "32×'.encode()[:-1]])
@pytest.mark.parametrize("options", [(), ("--from", 6)], ids=["last checkpoint", "earlier checkpoint"])
def test_a_line_that_a_crash_cut_short_is_forgotten(
    torn: bytes, options: tuple[object, ...], gankit: Gankit, run: Path
) -> None:
    for name in ("metrics.jsonl", "alarms.jsonl"):
        with open(run / name, "ab") as file:
            file.write(torn)
    assert gankit("report", run).code == 0
    assert gankit("resume", run, "--steps", 10, *options).code == 0
    assert [line["step"] for line in lines(run)][-2:] == [9, 10]
    assert lines(run, "alarms.jsonl") == []


def test_what_a_crash_left_beside_the_checkpoints_is_no_checkpoint(gankit: Gankit, run: Path) -> None:
    (run / "checkpoints/.000010.4242").mkdir()
    (run / "checkpoints/.000010.4242/networks.safetensors").write_bytes(b"half")
    assert gankit("resume", run, "--steps", 9).code == 0
    assert lines(run)[-1]["step"] == 9


# Where nothing is left to train.


def test_a_run_that_has_arrived_only_makes_what_is_missing(gankit: Gankit, tmp_path: Path) -> None:
    """Stopped between two lines, so that its last line is one that a longer run would not have."""
    assert gankit("run", "began", *TINY, "--steps", 5, "--log-every", 3, "--out", "run").code == 0
    run = tmp_path / "run"
    before, line_before, kept = weights(run, 5), lines(run), read(run / "result.json")
    (run / "result.json").unlink()
    (run / "samples/000005.png").unlink()
    said = gankit("resume", "run")
    assert (said.code, said.err) == (0, "")
    assert "--steps" in said.out
    assert lines(run) == line_before
    assert weights(run, 5) == before
    assert (run / "samples/000005.png").exists()
    result = read(run / "result.json")
    assert (result["outcome"], result["steps"], result["seconds"]) == ("finished", 5, kept["seconds"])


def test_fewer_steps_than_it_has_are_no_way_back(gankit: Gankit, run: Path) -> None:
    before = lines(run)
    assert gankit("resume", run, "--steps", 3).code == 0
    assert lines(run) == before
    assert checkpoints(run)[-1] == 8


# With other settings.


def test_changed_settings_are_told_in_the_history(gankit: Gankit, run: Path) -> None:
    before = lines(run)
    options = ("--set", "gamma=0.4", "--loss", "pulling-away=0.2", "--set", "halving.patience=9", "--on-alarm", "warn")
    assert gankit("resume", run, "--steps", 10, *options).code == 0
    config = read(run / "config.json")
    assert config["model"]["gamma"] == 0.4
    assert config["model"]["lambda_k"] == 0.3  # the first request still applies
    (entry,) = config["history"]
    assert entry["step"] == 8
    changed = entry["changed"]
    assert changed["model.gamma"] == 0.4
    assert changed["controllers.halving.patience"] == 9
    assert changed["on_alarm"] == "warn"
    assert changed["steps"] == 10
    assert lines(run)[: len(before)] == before
    assert "term/pulling-away" in lines(run)[-1]

    assert gankit("resume", run, "--steps", 12, "--set", "gamma=0.3").code == 0
    assert [entry["step"] for entry in read(run / "config.json")["history"]] == [8, 10]
    assert lines(run)[-1]["loss/generator"] != lines(run)[-1]["energy/fake"]  # and so does the term of the first resume


def test_a_plain_resume_changes_no_setting(gankit: Gankit, run: Path) -> None:
    before = read(run / "config.json")
    assert gankit("resume", run).code == 0
    assert read(run / "config.json") == before


@pytest.mark.parametrize(
    ("place", "value"),
    [("losses", {"imle": 0.2}), ("model", {"name": 5}), ("history", {}), ("requested", None), ("plugins", 3)],
)
def test_a_config_json_of_another_form_is_refused_in_one_line(
    place: str, value: Any, gankit: Gankit, run: Path
) -> None:
    (run / "config.json").write_text(json.dumps(read(run / "config.json") | {place: value}))
    before = contents(run)
    refused(gankit("resume", run, "--steps", 10), "config.json has not the form that gankit writes")
    assert contents(run) == before


def test_classes_that_have_changed_are_told(gankit: Gankit, tmp_path: Path) -> None:
    for n in range(40):
        path = tmp_path / "pets" / ("cats" if n % 2 else "dogs") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    assert gankit("run", "began", *TINY, "--data", "pets", "--out", "pet-run").code == 0
    (tmp_path / "pets/cats").rename(tmp_path / "pets/zebras")
    said = gankit("resume", "pet-run", "--steps", 9)
    assert said.code == 0
    assert "the classes of" in said.err + said.out
    assert "were cats, dogs when the run began, and are dogs, zebras" in said.err + said.out


def test_every_start_is_told_in_environment_json(gankit: Gankit, run: Path) -> None:
    assert gankit("resume", run, "--steps", 9).code == 0
    environment = read(run / "environment.json")
    assert environment["command"].startswith("gankit run began")
    (resumed,) = environment["resumes"]
    assert resumed["command"] == f"gankit resume {run} --steps 9"


def test_a_resume_says_anew_how_metrics_are_shown(gankit: Gankit, run: Path) -> None:
    environment = read(run / "environment.json")
    first = environment.pop("curves")  # as in a folder of an older version
    (run / "environment.json").write_text(json.dumps(environment))
    assert gankit("resume", run, "--steps", 9).code == 0
    environment = read(run / "environment.json")
    assert environment["curves"] == first
    assert "curves" not in environment["resumes"][0]


@pytest.mark.parametrize("setting", ["filters=8", "latent=9", "networks=began-autoencoder"])
def test_a_change_of_shape_is_refused_and_nothing_changes(setting: str, gankit: Gankit, run: Path) -> None:
    before = contents(run)
    refused(gankit("resume", run, "--steps", 10, "--set", setting), "does not fit", "new run")
    assert contents(run) == before


# Back to an earlier step.


def test_from_an_earlier_step_keeps_what_was_there(gankit: Gankit, run: Path) -> None:
    before, later = lines(run), weights(run, 8)
    sample = (run / "samples/000008.png").read_bytes()
    assert gankit("resume", run, "--from", 4, "--steps", 8, "--set", "gamma=0.2").code == 0
    assert lines(run)[:8] == before  # the lines of the abandoned steps stay
    assert [(line["step"], line["attempt"]) for line in lines(run)[8:]] == [(5, 2), (6, 2), (7, 2), (8, 2)]
    aside = run / "abandoned" / "1"
    assert (aside / "samples/000008.png").read_bytes() == sample
    assert checkpoints(aside) == [6, 8]
    assert weights(aside, 8) == later
    assert weights(run, 8) != later


def test_a_third_attempt_keeps_the_second(gankit: Gankit, run: Path) -> None:
    first = lines(run)
    assert gankit("resume", run, "--from", 6, "--set", "gamma=0.2").code == 0
    second = lines(run)
    assert gankit("resume", run, "--from", 6, "--set", "gamma=0.3").code == 0
    third = lines(run)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert [line.get("attempt", 1) for line in third] == [1] * 8 + [2] * 2 + [3] * 2
    assert [path.name for path in sorted((run / "abandoned").iterdir())] == ["1", "2"]


def test_a_later_attempt_that_goes_on_keeps_the_lines_of_the_first(gankit: Gankit, run: Path) -> None:
    """Attempt 1 came to step 8, attempt 2 stops at 7 and is resumed: it may drop only its own lines."""
    first = lines(run)
    assert gankit("resume", run, "--from", 4, "--steps", 7, "--set", "gamma=0.2").code == 0
    assert gankit("resume", run, "--steps", 9).code == 0
    assert lines(run)[:8] == first
    assert [(line["step"], line["attempt"]) for line in lines(run)[8:]] == [(step, 2) for step in range(5, 10)]


def test_a_second_attempt_that_was_killed_goes_on_as_the_second(gankit: Gankit, run: Path) -> None:
    """Killed before its first checkpoint: it starts again from a checkpoint of the first attempt."""
    first = lines(run)
    assert gankit("resume", run, "--from", 4, "--set", "gamma=0.2").code == 0
    whole, end = timeless(run), weights(run, 8)
    for step in (6, 8):
        shutil.rmtree(run / "checkpoints" / f"{step:06d}")
    kept = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(kept[:10]))  # lines 5 and 6 of the second attempt were written
    assert gankit("resume", run).code == 0
    assert lines(run)[:8] == first
    assert timeless(run) == whole
    assert weights(run, 8) == end


def test_a_second_attempt_that_was_killed_before_its_first_line_keeps_the_first(gankit: Gankit, run: Path) -> None:
    first = lines(run)
    assert gankit("resume", run, "--from", 4, "--set", "gamma=0.2").code == 0
    whole = timeless(run)
    for step in (6, 8):
        shutil.rmtree(run / "checkpoints" / f"{step:06d}")
    kept = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(kept[:8]))
    assert gankit("resume", run).code == 0
    assert lines(run)[:8] == first
    assert timeless(run) == whole


def test_other_settings_from_the_last_checkpoint_keep_the_lines_beyond_it(gankit: Gankit, run: Path) -> None:
    """Killed after step 8 with a checkpoint at 4: those lines are of other settings, and are not written again."""
    first = lines(run)
    for step in (6, 8):
        shutil.rmtree(run / "checkpoints" / f"{step:06d}")
    assert gankit("resume", run, "--set", "gamma=0.2").code == 0
    assert lines(run)[:8] == first
    assert [(line["step"], line["attempt"]) for line in lines(run)[8:]] == [(5, 2), (6, 2), (7, 2), (8, 2)]
    assert (run / "abandoned/1/samples/000008.png").exists()


# Branches.


def test_out_branches_off_and_leaves_the_original_untouched(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    before = contents(run)
    assert gankit("resume", run, "--from", 6, "--steps", 9, "--set", "gamma=0.2", "--out", "branch").code == 0
    assert contents(run) == before
    branch = tmp_path / "branch"
    assert lines(branch)[:6] == lines(run)[:6]
    assert [line["step"] for line in lines(branch)] == list(range(1, 10))
    assert all("attempt" not in line for line in lines(branch))
    assert checkpoints(branch) == [0, 6, 8, 9]
    assert [path.name for path in sorted((branch / "samples").iterdir())] == [
        "000000.png", "000004.png", "000006.png", "000008.png", "000009.png",
    ]  # fmt: skip
    assert read(branch / "config.json")["history"][0]["step"] == 6
    assert read(branch / "result.json")["steps"] == 9


def test_a_branch_that_is_killed_at_its_start_goes_on_with_its_own_settings(
    gankit: Gankit, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gankit.api.go_back", killed)
        assert gankit("resume", run, "--steps", 12, "--set", "gamma=0.6", "--out", "branch").code == 130
    assert read(tmp_path / "branch/config.json")["model"]["gamma"] == 0.6
    assert gankit("resume", "branch", "--steps", 12).code == 0
    assert read(tmp_path / "branch/config.json")["model"]["gamma"] == 0.6


def test_a_branch_with_the_same_settings_gives_the_same_numbers(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    assert gankit("resume", run, "--from", 4, "--out", "branch").code == 0
    assert weights(tmp_path / "branch", 8) == weights(run, 8)
    assert timeless(tmp_path / "branch") == timeless(run)


def test_a_branch_into_an_existing_folder_is_refused(gankit: Gankit, run: Path) -> None:
    before = contents(run)
    refused(gankit("resume", run, "--out", run), "--out", "exists")
    assert contents(run) == before


@pytest.mark.parametrize("damaged", [False, True], ids=["another shape", "a damaged checkpoint"])
def test_a_branch_that_cannot_be_leaves_no_folder(damaged: bool, gankit: Gankit, run: Path, tmp_path: Path) -> None:
    if damaged:
        (run / "checkpoints/000008/networks.safetensors").write_bytes(b"")
    setting = "gamma=0.4" if damaged else "filters=8"
    refused(gankit("resume", run, "--set", setting, "--out", "branch"))
    assert not (tmp_path / "branch").exists()


def test_a_branch_inside_the_pictures_is_refused(gankit: Gankit, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for n in range(6):
        Image.new("RGB", (16, 16), (40 * n, 0, 0)).save(tmp_path / "pictures" / f"{n}.png")
    assert gankit("run", "began", *TINY, "--data", "pictures", "--holdout", 0, "--steps", 1, "--out", "run").code == 0
    refused(gankit("resume", "run", "--steps", 2, "--out", "pictures/run"), "inside")
    assert not (tmp_path / "pictures/run").exists()


# Other pictures, other machines.


def test_changed_pictures_are_warned_of(gankit: Gankit, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for n in range(6):
        Image.new("RGB", (16, 16), (40 * n, 0, 0)).save(tmp_path / "pictures" / f"{n}.png")
    assert gankit("run", "began", *TINY, "--data", "pictures", "--holdout", 0, "--steps", 1, "--out", "run").code == 0
    assert "have changed" not in gankit("resume", "run", "--steps", 2).out
    Image.new("RGB", (16, 16), (0, 200, 0)).save(tmp_path / "pictures" / "new.png")
    said = gankit("resume", "run", "--steps", 3)
    assert said.code == 0
    assert "have changed" in said.out
    assert read(tmp_path / "run/data.json")["train"] == 7


def test_too_few_pictures_for_the_batch_of_a_run_are_refused_and_change_nothing(gankit: Gankit, tmp_path: Path) -> None:
    """A batch that nobody asked for is made smaller at the start of a run, and at no resume."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for n in range(40):
        Image.new("RGB", (16, 16), (6 * n, 0, 0)).save(tmp_path / "pictures" / f"{n}.png")
    asked = ("--data", "pictures", "--image-size", 16, "--set", "filters=4", "--set", "latent=8", "--holdout", 0)
    assert gankit("run", "ebgan", *asked, "--steps", 1, "--out", "run").code == 0
    batch = read(tmp_path / "run/config.json")["batch_size"]
    before = contents(tmp_path / "run")
    for n in range(41 - batch):
        (tmp_path / "pictures" / f"{n}.png").unlink()
    said = gankit("resume", "run", "--steps", 4)
    refused(said, f"{batch - 1} pictures to train on now", f"fewer than a batch of this run, {batch}")
    assert contents(tmp_path / "run") == before


def test_another_machine_is_warned_of(gankit: Gankit, run: Path) -> None:
    environment: dict[str, Any] = read(run / "environment.json")
    environment["torch"] = "1.0.0"
    (run / "environment.json").write_text(json.dumps(environment))
    said = gankit("resume", run, "--steps", 9)
    assert said.code == 0
    assert "torch was 1.0.0" in said.out


def test_settings_stay_as_they_were_whatever_the_defaults_are_now(gankit: Gankit, run: Path) -> None:
    """As after a new version with another default: the run has an ema that was not requested."""
    config = read(run / "config.json")
    config["model"]["ema"] = 0.5
    config["controllers"]["halving"]["patience"] = 77
    config["diagnostics"]["cleanliness"]["pictures"] = 99
    config["artifacts"]["report"]["an option of an older version"] = 1
    (run / "config.json").write_text(json.dumps(config))
    assert gankit("resume", run, "--steps", 10, "--set", "lambda_k=0.5").code == 0
    after = read(run / "config.json")
    assert after["model"]["ema"] == 0.5
    assert after["controllers"]["halving"]["patience"] == 77
    assert after["diagnostics"]["cleanliness"]["pictures"] == 99
    changed = after["history"][-1]["changed"]
    assert changed.pop("artifacts.report.an option of an older version") is None
    assert changed == {"steps": 10, "model.lambda_k": 0.5}


def test_a_preset_is_what_it_was_when_the_run_began(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = gankit_began.model.BEGAN.presets
    before = {"model": {"gamma": 0.6}, "set": {"balance.floor": 0.1}, "controllers": {"pace": {}}, "log_every": 2}
    monkeypatch.setitem(presets, "house", before)
    assert gankit("run", "began", *TINY, "--preset", "house", "--out", "a").code == 0
    monkeypatch.setitem(presets, "house", {"model": {"gamma": 0.9}, "views": {"augment": {}}, "mirror": True})
    config = read(tmp_path / "a" / "config.json")
    assert gankit("resume", "a", "--steps", 10).code == 0
    after = read(tmp_path / "a" / "config.json")
    assert after.pop("history")[-1]["changed"] == {"steps": 10}
    for table in (config, after):
        del table["requested"]
    assert after | {"history": []} == config | {"steps": 10}


def test_auto_at_a_resume_is_decided_anew(gankit: Gankit, tmp_path: Path) -> None:
    small = ("--data", "demo:60", "--image-size", 16, "--batch-size", 4, "--set", "filters=4")
    assert gankit("run", "ebgan", *small, "--set", "margin=0.3", "--steps", 1, "--out", "e").code == 0
    assert gankit("resume", "e", "--set", "margin=auto", "--steps", 2).code == 0
    after = read(tmp_path / "e" / "config.json")
    assert after["model"]["margin"] == "auto"
    asked = ("--set", "learning_rate_generator=none")
    assert gankit("run", "began", *small, *asked, "--steps", 1, "--out", "b").code == 0
    assert gankit("resume", "b", "--set", "learning_rate_generator=auto", "--steps", 2).code == 0
    after = read(tmp_path / "b" / "config.json")
    assert (after["model"]["learning_rate_generator"], after["model"]["networks"]) == ("2.5x", "strided-autoencoder")
    assert after["history"][-1]["changed"] == {"steps": 2, "model.learning_rate_generator": "2.5x"}
    assert gankit("resume", "b", "--steps", 3).code == 0  # and stays so
    assert read(tmp_path / "b" / "config.json")["model"]["learning_rate_generator"] == "2.5x"


def test_a_setting_has_one_home_and_keeps_the_last_value_there(gankit: Gankit, tmp_path: Path) -> None:
    """λ_k is a setting of the model; by its controller's name it is refused, with what to write."""
    (tmp_path / "asked.toml").write_text("[model]\nlambda_k = 0.02\n")
    (tmp_path / "twice.toml").write_text("[controllers.balance]\nlambda_k = 0.02\n")
    refused(gankit("run", "began", *TINY, "--config", "twice.toml", "--out", "a"), "write --set lambda_k=")

    def gain(lines_before: int) -> float:
        """From the k of one step and the next."""
        first, second = [line for line in lines(tmp_path / "a") if line["step"] > lines_before][-2:]
        return (second["began/k"] - first["began/k"]) / first["began/balance"]

    small = ("--set", "balance.floor=0", "--set", "gamma=0.9", "--set", "edges=0")
    small += ("--set", "strided-autoencoder.output=linear")  # so that k rises from the first step on
    assert gankit("run", "began", *TINY, *small, "--config", "asked.toml", "--out", "a").code == 0
    assert gain(0) == pytest.approx(0.02, rel=1e-3)
    for steps, value in ((9, 0.03), (13, 0.04)):
        assert gankit("resume", "a", "--set", f"lambda_k={value}", "--steps", steps).code == 0
        assert gain(steps - 3) == pytest.approx(value, rel=1e-3)
        refused(gankit("resume", "a", "--set", f"balance.lambda_k={value}", "--steps", 20), "write --set lambda_k=")
        assert gankit("resume", "a", "--steps", steps + 1).code == 0
        assert read(tmp_path / "a" / "config.json")["model"]["lambda_k"] == value


def test_a_run_of_an_older_gankit_goes_on_as_it_was_whatever_its_request_would_mean_now(gankit, run: Path) -> None:
    """Its stored request is only a record: older versions did not read some forms, or read them differently."""
    config = read(run / "config.json")
    config["model"]["learning_rate_generator"] = None  # from before it was 2.5x: both networks had the same rate
    config["requested"] |= {
        "preset": "paper",
        "networks": "ebgan-autoencoder",
        "reactions": {"mail": {"to": "me"}},
        "controllers": {"balance": {"floor": 0.9}},
        "losses": ["pulling-away"],
        "set": {"halving": {"window": 3}, "balance-pi.proportional": 2},
    }
    (run / "config.json").write_text(json.dumps(config))
    assert gankit("resume", run).code == 0
    after = read(run / "config.json")
    assert after["history"] == []
    for name in ("model", "networks", "losses", "controllers", "diagnostics", "batch_size"):
        assert after[name] == config[name], name


def test_a_length_that_is_asked_for_lifts_the_time_of_an_earlier_start(gankit: Gankit, tmp_path: Path) -> None:
    small = TINY[: TINY.index("--steps")]
    assert gankit("run", "began", *small, "--time", "0.05s", "--out", "a").code == 0
    done = read(tmp_path / "a" / "result.json")
    assert done["reason"] == "time"
    assert gankit("resume", "a", "--steps", done["steps"] + 40).code == 0
    assert read(tmp_path / "a" / "result.json")["reason"] == "steps"
    assert read(tmp_path / "a" / "config.json")["time"] is None


def test_what_the_networks_were_built_with_stays_where_the_model_sets_it_by_now(gankit: Gankit, tmp_path: Path) -> None:
    """A run from before EBGAN had its own `mapping`: the default is 0, and the run was built with 1."""
    run = ("run", "ebgan", "--data", "demo:60", "--image-size", 16, "--preset", "paper", "--set", "filters=4")
    assert gankit(*run, "--set", "mapping=1", "--steps", 1, "--out", "a").code == 0
    config = read(tmp_path / "a" / "config.json")
    config["networks"]["strided-autoencoder"]["mapping"] = config["model"].pop("mapping")
    del config["requested"]["model"]["mapping"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert gankit("resume", "a", "--steps", 2).code == 0
    after = read(tmp_path / "a" / "config.json")
    assert (after["model"]["mapping"], "mapping" in after["networks"]["strided-autoencoder"]) == (1, False)


@pytest.mark.usefixtures("undrawn", "short_windows")
def test_a_run_from_before_a_setting_is_as_it_was_without_it(gankit: Gankit, tmp_path: Path) -> None:
    """Its folder has no settings for opacity, edges and critic: it has none of them, in the report and in a resume."""
    before = ("--set", "edges=0", "--set", "strided-autoencoder.output=linear", "--loss", "critic=0")
    assert gankit("run", *BEGAN, *TINY, *before, "--steps", 3, "--out", "a").code == 0
    assert gankit("resume", "a", "--steps", 6, "--out", "whole").code == 0
    config = read(tmp_path / "a" / "config.json")
    del config["model"]["edges"], config["requested"]
    del config["networks"]["strided-autoencoder"]["output"]
    (tmp_path / "a" / "config.json").write_text(json.dumps({**config, "requested": {}}))
    assert gankit("sample", "a", "-n", 2).code == 0
    assert gankit("resume", "a", "--steps", 6).code == 0
    assert weights(tmp_path / "a", 6) == weights(tmp_path / "whole", 6)
    assert "critic" not in read(tmp_path / "a" / "config.json")["losses"]


CONSTANTS = {  # what were settings of components until they were constants
    "losses": {"critic": {"every": 8}},
    "controllers": {"halving": {"window": 500}},
    "diagnostics": {
        "vitals": {"exploded": 20.0, "vanished": 0.01},
        "cleanliness": {"warm_up": 10_000, "patience": 5000, "grainy": 2.0, "blurred": 0.4},
        "mode-collapse": {"warm_up": 3000, "narrowing": 0.8, "collapsed": 0.5},
        "equilibrium": {"patience": 2000, "sunk": 0.5, "outrun": 1.5},
        "reconstruction-errors": {"memorised": 1.5},
    },
}


def in_words_of_before(config: dict[str, Any], **changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """config.json as it was when values stood twice and thresholds were settings; `changed` has some of these."""
    old = json.loads(json.dumps(config))
    rate = old["model"]["learning_rate_generator"]
    follows = isinstance(rate, str)
    old["model"]["generator_pace"] = float(rate[:-1]) if follows else 1.0
    old["model"]["learning_rate_generator"] = None if follows else rate
    for pair in old["networks"].values():
        shared = ("filters", "latent", "skip_connections", "vanishing_residuals")
        pair |= {key: old["model"][key] for key in shared[: 2 if "mapping" in pair else 4]}
        pair |= {"background": old["background"]} if "mapping" in pair else {}
    old["controllers"]["balance"]["lambda_k"] = old["model"]["lambda_k"]
    for kind, tables in CONSTANTS.items():
        for name, table in tables.items():
            if name in old[kind]:
                old[kind][name] |= table
    for kind, tables in changed.items():
        for name, table in tables.items():
            old[kind][name] |= table
    return old


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--set", "learning_rate_generator=1.5x"),
        ("--set", "learning_rate_generator=none"),
        ("--set", "learning_rate_generator=2e-4"),
        ("--preset", "paper"),
    ],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_a_run_from_when_values_stood_twice_is_shown_and_goes_on_as_it_was(
    options: tuple[str, ...], gankit: Gankit, tmp_path: Path
) -> None:
    assert gankit("run", "began", *TINY, *options, "--steps", 3, "--out", "a").code == 0
    assert gankit("sample", "a", "-n", 2, "--out", "before").code == 0
    assert gankit("resume", "a", "--steps", 6, "--out", "whole").code == 0
    config = read(tmp_path / "a" / "config.json")
    (tmp_path / "a" / "config.json").write_text(json.dumps(in_words_of_before(config)))
    assert gankit("sample", "a", "-n", 2, "--out", "after").code == 0
    assert contents(tmp_path / "before") == contents(tmp_path / "after")
    said = gankit("resume", "a", "--steps", 6)
    assert (said.code, "constants" in said.out) == (0, False)
    assert weights(tmp_path / "a", 6) == weights(tmp_path / "whole", 6)
    assert timeless(tmp_path / "a") == timeless(tmp_path / "whole")
    assert read(tmp_path / "a" / "config.json") == read(tmp_path / "whole" / "config.json")


@pytest.mark.usefixtures("undrawn")
def test_what_an_older_run_had_otherwise_than_the_constants_is_told_once(gankit: Gankit, run: Path) -> None:
    config = read(run / "config.json")
    changed = {
        "diagnostics": {"vitals": {"exploded": 5.0}, "equilibrium": {"patience": 300}},
        "losses": {"critic": {"every": 2}},
    }
    (run / "config.json").write_text(json.dumps(in_words_of_before(config, **changed)))
    said = gankit("resume", run, "--steps", 9)
    assert said.code == 0
    (line,) = [line for line in said.out.splitlines() if "constants" in line]
    assert all(word in line for word in ("vitals.exploded is 20", "equilibrium.patience is 2000", "critic.every is 8"))
    after = read(run / "config.json")
    assert {key: after[key] for key in changed} == {key: config[key] for key in changed}
    assert after["history"][-1]["changed"] == {
        "steps": 9,
        "diagnostics.vitals.exploded": 20,
        "diagnostics.equilibrium.patience": 2000,
        "losses.critic.every": 8,
    }
    said = gankit("resume", run, "--steps", 10)
    assert (said.code, "constants" in said.out) == (0, False)


@pytest.mark.usefixtures("undrawn")
def test_what_a_component_of_an_older_run_had_otherwise_than_its_model_holds(gankit: Gankit, tmp_path: Path) -> None:
    """λ_k of the controller, n and the background of the networks were what counted."""
    asked = ("--set", "lambda_k=0.3", "--set", "filters=4", "--background", "navy")
    small = ("--data", "demo:60", "--image-size", 16, "--batch-size", 4, "--log-every", 1)
    assert gankit("run", "began", *small, *asked, "--steps", 3, "--out", "a").code == 0
    assert gankit("resume", "a", "--steps", 6, "--out", "whole").code == 0
    assert gankit("sample", "a", "-n", 2, "--out", "before").code == 0
    old = in_words_of_before(read(tmp_path / "a" / "config.json"))
    old["model"] |= {"lambda_k": 0.001, "filters": 32}
    (tmp_path / "a" / "config.json").write_text(json.dumps(old))
    assert gankit("sample", "a", "-n", 2, "--out", "after").code == 0
    assert contents(tmp_path / "before") == contents(tmp_path / "after")
    assert gankit("resume", "a", "--steps", 6).code == 0
    assert weights(tmp_path / "a", 6) == weights(tmp_path / "whole", 6)
    assert read(tmp_path / "a" / "config.json") == read(tmp_path / "whole" / "config.json")

    old = in_words_of_before(read(tmp_path / "whole" / "config.json"))
    (tmp_path / "whole" / "config.json").write_text(json.dumps(old | {"background": "#ffffff"}))
    assert gankit("sample", "whole", "-n", 2, "--out", "navy").code == 0
    assert gankit("resume", "whole", "--steps", 7).code == 0
    after = read(tmp_path / "whole" / "config.json")
    assert (after["background"], after["networks"]["strided-autoencoder"]["background"]) == ("#ffffff", "#000080")


def test_auto_is_the_learning_rate_that_fits_the_networks(gankit: Gankit, tmp_path: Path, undrawn: None) -> None:
    (tmp_path / "auto.toml").write_text('[model]\nlearning_rate = "auto"\n')
    small = ("run", "began", *TINY, "--set", "filters=4", "--set", "latent=8", "--steps", 1)
    for flags, rate in {
        (): 3e-4,
        ("--config", "auto.toml"): 3e-4,
        ("--set", "networks=began-autoencoder"): 1e-4,
        ("--preset", "paper"): 1e-4,
        ("--set", "learning_rate=2e-5"): 2e-5,
    }.items():
        out = tmp_path / f"r{len(list(tmp_path.iterdir()))}"
        assert gankit(*small, *flags, "--out", out).code == 0
        assert read(out / "config.json")["model"]["learning_rate"] == rate
        assert lines(out)[0]["learning_rate/discriminator"] == pytest.approx(rate)
