"""The promises of `gankit run`: the run folder, its numbers, its place, and its end."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (
    DATA,
    SMALL,
    STRANGER,
    TINY,
    Gankit,
    checkpoints,
    contents,
    lines,
    process,
    read,
    refused,
    timeless,
    weights,
)
from filelock import FileLock
from PIL import Image

from gankit.builtin.cleanliness import Cleanliness
from gankit.builtin.mode_collapse import ModeCollapse
from gankit.cli.progress import Progress
from gankit.runs.advice import FIRST_LOOK, to_train_further
from gankit.trained.run import Run

pytestmark = pytest.mark.usefixtures("undrawn")

ON_EVERY_LINE = {
    "step",
    "images",
    "seconds",
    "images_per_second",
    "loss/discriminator",
    "loss/generator",
    "learning_rate/discriminator",
    "learning_rate/generator",
    "energy/real",
    "energy/fake",
}
OF_THE_MODEL = {"began": {"began/k", "began/balance", "began/convergence"}, "ebgan": {"ebgan/margin"}}


def only(folder: Path) -> Path:
    """The one run below a folder's runs/."""
    (run,) = (folder / "runs").iterdir()
    return run


def test_a_folder_may_be_given_by_its_data_source_s_name_as_others_are(gankit, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for place in range(20):
        Image.new("RGB", (20, 20), (12 * place, 0, 0)).save(tmp_path / "mine" / f"{place}.png")
    small = ("--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--steps", 0, "--out", "run")
    assert gankit("run", "began", "--data", "folder:mine", *small).code == 0
    assert read(tmp_path / "run" / "config.json")["data"] == str(tmp_path / "mine")


# The run folder.


def test_a_run_folder_holds_what_the_contract_names_and_nothing_half_made(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.json",
        "environment.json",
        "data.json",
        "metrics.jsonl",
        "alarms.jsonl",
        "neighbours.png",
        "neighbours.json",
        "real.png",
        "readings.jsonl",
        "samples",
        "checkpoints",
        "result.json",
        "report.html",
        "animation.gif",
        "losses.png",
    }
    assert [path.name for path in sorted((finished / "samples").iterdir())] == [
        "000000.png",
        "000004.png",
        "000008.png",
    ]
    assert not [path for path in finished.rglob(".*")]
    assert all(
        path.stat().st_size for path in finished.rglob("*") if path.name not in ("alarms.jsonl", "readings.jsonl")
    )


def test_every_json_file_of_a_run_is_strict(finished: Path) -> None:
    found = [path for path in finished.rglob("*.json")]
    assert len(found) == 5 + len(checkpoints(finished))
    for path in found:
        assert isinstance(read(path), dict)
    assert lines(finished)


def test_config_writes_out_every_default(finished: Path) -> None:
    from gankit_began.model import BEGAN

    from gankit.config.schema import RunConfig

    config = read(finished / "config.json")
    assert set(config) == set(RunConfig.model_fields)
    assert set(config["model"]) == {"name", *BEGAN.Settings.model_fields}
    assert config["model"]["name"] == "began"
    assert '"auto"' not in json.dumps(config)
    assert config["controllers"] == {
        "balance": {"floor": 0},
        "halving": {"patience": 20, "floor": 1e-07},
    }


def toml(value: Any) -> str:
    """A JSON value in TOML; tables in line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items() if v is not None) + "}"
    return json.dumps(value)


def test_config_is_enough_to_repeat_the_run(gankit: Gankit, finished: Path, tmp_path: Path) -> None:
    """Every value of config.json written into a TOML file, and no other flag."""
    config = read(finished / "config.json")
    told = {key: value for key, value in config.items() if value is not None and key not in ("requested", "history")}
    told.pop("gankit")
    (tmp_path / "again.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in told.items()))
    assert gankit("run", "began", "--config", "again.toml", "--out", "again").code == 0
    assert weights(tmp_path / "again", 8) == weights(finished, 8)
    assert timeless(tmp_path / "again") == timeless(finished)
    repeated = read(tmp_path / "again" / "config.json")
    assert {**repeated, "requested": None} == {**config, "requested": None}


def test_the_same_command_gives_the_same_weights_and_another_seed_gives_others(gankit: Gankit, tmp_path: Path) -> None:
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert gankit("run", "began", *TINY, "--seed", seed, "--out", out).code == 0
    assert weights(tmp_path / "a", 6) == weights(tmp_path / "b", 6)
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")
    assert weights(tmp_path / "a", 6) != weights(tmp_path / "c", 6)
    assert (tmp_path / "a/samples/000006.png").read_bytes() == (tmp_path / "b/samples/000006.png").read_bytes()


def test_environment_names_versions_device_plugins_and_the_command(finished: Path) -> None:
    import torch

    environment = read(finished / "environment.json")
    assert environment["torch"] == torch.__version__.partition("+")[0]
    assert re.fullmatch(r"\d+\.\d+\.\d+", environment["gankit"])
    assert environment["threads"] == torch.get_num_threads()
    assert environment["device"]
    assert environment["command"].startswith("gankit run began --data demo:120 --image-size 16")
    assert {plugin["name"] for plugin in environment["plugins"]} >= {"gankit", "began", "ebgan"}


def test_environment_says_how_the_metrics_are_shown(finished: Path) -> None:
    curves = read(finished / "environment.json")["curves"]
    assert curves["began/k"].keys() == {"letter", "note", "bounds"}
    assert (curves["began/k"]["letter"], curves["began/k"]["bounds"]) == ("k_t", [0, 1])
    assert curves["began/convergence"]["letter"] == "M_global"
    assert "near them" in curves["mode-collapse/coverage"]["note"]  # a diagnostic's, under its whole name
    assert "ebgan/margin" not in curves  # of components that the run does not have


def test_data_json_counts_what_is_used_and_what_is_held_out(finished: Path) -> None:
    data = read(finished / "data.json")
    assert data["train"] + data["held_out"] == 120
    assert data["held_out"] == 12
    assert data["shape"] == [3, 16, 16]
    assert re.fullmatch("[0-9a-f]{64}", data["digest"])
    assert data["skipped"] == data["warned"] == []


def test_data_json_lists_skipped_files_and_one_line_says_so(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for n in range(8):
        Image.new("RGB", (20, 16), (n * 30, 80, 255 - n * 30)).save(tmp_path / "pictures" / f"{n}.png")
    (tmp_path / "pictures" / "notes.png").write_text("no picture")
    said = gankit("run", "began", *TINY, "--data", "pictures", "--holdout", 0, "--steps", 1)
    assert said.code == 0
    data = read(only(tmp_path) / "data.json")
    assert [entry["file"] for entry in data["skipped"]] == ["notes.png"]
    assert all(set(entry) == {"file", "reason"} for entry in [*data["skipped"], *data["warned"]])
    assert data["train"] == 8
    assert any("notes.png" in line and "data.json" in line for line in said.out.splitlines())


def test_a_line_on_odd_pictures_counts_each_reason_by_itself(gankit: Gankit, tmp_path: Path) -> None:
    """Regression: "2 pictures, first clear.png: blank" where only one was blank."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(8):
        Image.effect_noise((20, 16), 60 + n).save(folder / f"{n}.png")
    Image.new("RGBA", (20, 16), (0, 0, 0, 0)).save(folder / "clear.png")
    for name in ("copy.png", "double.png"):
        (folder / name).write_bytes((folder / "3.png").read_bytes())
    (folder / "alike.png").write_bytes((folder / "clear.png").read_bytes())  # the first of two by name
    (folder / "notes.txt").write_text("no picture")
    said = gankit("run", "began", *TINY, "--data", "pictures", "--steps", 0).out.splitlines()
    assert (
        "warning: 4 pictures: 3 copies, first clear.png: same bytes as alike.png; 2 blank, first alike.png: every "
        "pixel is the same colour (fully transparent?) (all in data.json)"
    ) in said
    assert f"skipped 1 file of {folder}, first notes.txt: not a picture (all in data.json)" in said
    (folder / "empty.png").touch()
    said = gankit("run", "began", *TINY, "--data", "pictures", "--steps", 0, "--out", "again").out.splitlines()
    assert (
        f"skipped 2 files of {folder}: 1 an empty file, first empty.png; 1 not a picture, first notes.txt (all in "
        "data.json)"
    ) in said


def test_to_hold_nothing_out_is_advised_only_where_it_helps(gankit: Gankit, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.effect_noise((20, 16), 60).save(folder / "0.png")
    asked = ("run", "began", "--data", "pictures", "--image-size", 16, *SMALL, "--steps", 0)
    said = gankit(*asked)
    refused(said, "1 picture to train on", "add pictures")
    assert "--holdout" not in said.err
    Image.effect_noise((20, 16), 61).save(folder / "1.png")
    refused(gankit(*asked), "1 picture to train on", "add pictures or --holdout 0")
    assert gankit(*asked, "--holdout", 0).code == 0


def test_result_says_how_it_ended(finished: Path) -> None:
    result = read(finished / "result.json")
    assert result["outcome"] == "finished"
    assert result["steps"] == 8
    assert result["seconds"] > 0
    assert result["images_per_second"] == pytest.approx(8 * 4 / result["seconds"], rel=0.1)


def test_config_and_the_first_checkpoint_are_there_before_the_first_step(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def begin(self: Progress, training: Any) -> None:
        assert training.number == 0
        seen.extend(contents(only(tmp_path)))
        self.training = training

    monkeypatch.setattr(Progress, "begin", begin)
    assert gankit("run", "began", *TINY).code == 0
    assert {"config.json", "environment.json", "data.json", "checkpoints/000000/state.json"} <= set(seen)
    assert "checkpoints/000000/networks.safetensors" in seen
    assert "samples/000000.png" in seen


def test_no_steps_at_all_is_a_run_with_a_checkpoint_and_a_sample(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("run", "began", *TINY, "--steps", 0)
    assert (said.code, said.err) == (0, "")
    assert checkpoints(only(tmp_path)) == [0]
    assert (only(tmp_path) / "samples/000000.png").exists()
    assert read(only(tmp_path) / "result.json")["outcome"] == "finished"


# The metrics.


@pytest.mark.parametrize("model", ["began", "ebgan"])
def test_every_step_has_its_line_with_the_names_of_the_contract(model: str, gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", model, *TINY).code == 0
    found = lines(only(tmp_path))
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert [line["images"] for line in found] == [4, 8, 12, 16, 20, 24]
    for line in found:
        assert ON_EVERY_LINE | OF_THE_MODEL[model] <= set(line)
        assert all(isinstance(value, int | float) and math.isfinite(value) for value in line.values())
    assert [line["seconds"] for line in found] == sorted(line["seconds"] for line in found)


def test_k_recomputed_line_by_line_is_the_logged_k(finished: Path) -> None:
    """Equation (5) from the logged numbers alone: k_{t+1} = clip(k_t + λ_k (γ L(x) − L(G(z))), 0, 1), k_0 = 0."""
    k, gamma, lambda_k = np.float32(0), np.float32(0.9), np.float32(0.3)
    logged = lines(finished)
    for line in logged:
        assert line["began/k"] == pytest.approx(k, abs=1e-6)
        balance = gamma * np.float32(line["energy/real"]) - np.float32(line["energy/fake"])
        assert line["began/balance"] == pytest.approx(balance, abs=1e-6)
        k = np.clip(np.float32(line["began/k"]) + lambda_k * balance, 0, 1)
    assert 0 < logged[1]["began/k"] < logged[-1]["began/k"] <= 1  # it moved


def test_the_losses_and_m_global_follow_from_the_energies(finished: Path) -> None:
    for line in lines(finished):
        real, fake, k = line["energy/real"], line["energy/fake"], line["began/k"]
        assert line["loss/discriminator"] == pytest.approx(real - k * fake, abs=1e-6)  # (3)
        terms = 0.3 * (line["term/energy-distance"] + line["term/imle"]) + 0.1 * line["term/critic"]
        assert line["loss/generator"] == pytest.approx(fake + terms, abs=1e-6)  # (4), and BEGAN's own terms
        assert line["began/convergence"] == pytest.approx(real + abs(0.9 * real - fake), abs=1e-6)  # M_global


def test_lines_come_at_multiples_of_log_every_and_at_the_end(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--log-every", 1, "--out", "each").code == 0
    assert gankit("run", "began", *TINY, "--log-every", 4, "--out", "some").code == 0
    each, some = timeless(tmp_path / "each"), timeless(tmp_path / "some")
    assert [line["step"] for line in some] == [4, 6]
    assert some == [each[3], each[5]]  # a line holds the values of its own step


def test_an_extra_loss_term_has_its_reading(gankit: Gankit, tmp_path: Path) -> None:
    own = ("--loss", "energy-distance=0", "--loss", "imle=0", "--loss", "critic=0")
    assert gankit("run", "began", *TINY, *own, "--loss", "pulling-away=0.5").code == 0
    for line in lines(only(tmp_path)):
        assert line["loss/generator"] == pytest.approx(line["energy/fake"] + 0.5 * line["term/pulling-away"], abs=1e-6)


# Where it goes.


def test_without_out_each_run_gets_a_folder_of_its_own(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gankit.runs.folder as runs

    monkeypatch.setattr(runs.time, "strftime", lambda form: "20260101-000000")  # both within the same second
    for _ in range(2):
        assert gankit("run", "began", *TINY, "--steps", 0).code == 0
    made = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert made == ["began-20260101-000000", "began-20260101-000000-2"]


def test_runs_that_start_at_the_same_moment_never_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(Run.create(None, "began"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16


def test_an_existing_out_is_refused_and_nothing_in_it_changes(gankit: Gankit, run: Path) -> None:
    before = contents(run)
    refused(gankit("run", "began", *TINY, "--out", run), "--out", "exists", "gankit resume")
    assert contents(run) == before


def test_an_existing_empty_folder_is_refused_as_well(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(gankit("run", "began", *TINY, "--out", "empty"), "exists")
    assert not list((tmp_path / "empty").iterdir())


def test_out_may_lie_below_folders_that_are_not_there_yet(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--steps", 0, "--out", "a/b/run").code == 0
    assert (tmp_path / "a/b/run/result.json").exists()


@pytest.mark.parametrize("out", [("--out", "pictures/run"), ("--out", "link/run"), ()], ids=["below", "link", "runs"])
def test_a_run_inside_its_own_pictures_is_refused(out: tuple[str, ...], gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to("pictures")
    for n in range(6):
        Image.new("RGB", (16, 16), (40 * n, 0, 0)).save(tmp_path / "pictures" / f"{n}.png")
    before = contents(tmp_path)
    data = "pictures" if out else "."  # `--data .` holds the runs/ that would be made
    refused(gankit("run", "began", *TINY, "--data", data, *out), "--out", "inside")
    assert contents(tmp_path) == before


# The request.


def settled(gankit: Gankit, tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """config.json of a run of no steps."""
    out = f"asked-{len(list(tmp_path.iterdir()))}"
    assert gankit("run", "began", *DATA, *SMALL, "--steps", 0, *arguments, "--out", out).code == 0
    return read(tmp_path / out / "config.json")


def test_a_default_yields_to_a_preset_that_to_a_file_and_that_to_a_flag(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "asked.toml").write_text("seed = 7\nlog_every = 3\n[model]\nvanishing_residuals = false\ngamma = 0.3\n")
    preset, file = ("--preset", "paper"), ("--config", "asked.toml")
    flags = ("--set", "gamma=0.4", "--seed", 8)

    config = settled(gankit, tmp_path)
    assert (config["model"]["vanishing_residuals"], config["seed"], config["log_every"]) == (False, 0, 50)
    config = settled(gankit, tmp_path, *preset)
    assert (config["model"]["vanishing_residuals"], config["model"]["gamma"]) == (True, 0.5)
    config = settled(gankit, tmp_path, *preset, *file)
    assert (config["model"]["vanishing_residuals"], config["model"]["gamma"], config["seed"]) == (False, 0.3, 7)
    config = settled(gankit, tmp_path, *preset, *file, *flags)
    assert (config["model"]["gamma"], config["seed"], config["log_every"]) == (0.4, 8, 3)


def test_a_file_can_name_the_preset_and_the_components(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "asked.toml").write_text(
        'preset = "paper"\ntime = "2h"\nlosses = {pulling-away = 0.1}\n[controllers.halving]\npatience = 7\n'
    )
    config = settled(gankit, tmp_path, "--config", "asked.toml")
    assert config["model"]["vanishing_residuals"] is True
    assert config["time"] == 7200
    assert config["losses"]["pulling-away"]["weight"] == 0.1
    assert config["controllers"]["halving"]["patience"] == 7


@pytest.mark.parametrize("model", ["began", "ebgan"])
@pytest.mark.parametrize("columns", ["50", "90", "200"])
def test_a_preset_is_the_flags_that_the_help_writes_it_out_as(
    model: str, columns: str, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    told = gankit("run", model, "--help").out
    _, _, shown = told.partition("Presets, for --preset:\n  paper ")
    flags = shlex.split(shown.partition("\n\n")[0])
    assert "--set" in flags
    configs = []
    for name, asked in (("preset", ["--preset", "paper"]), ("flags", flags)):
        small = ("--data", "demo:60", "--image-size", 16, *SMALL, "--steps", 0, "--out", name)
        assert gankit("run", model, *asked, *small).code == 0
        config = read(tmp_path / name / "config.json")
        configs.append({key: value for key, value in config.items() if key != "requested"})
    assert configs[0] == configs[1]


def test_in_whatever_form_a_file_asks_it_yields_to_flags_and_a_preset_to_it(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_text("[controllers.balance]\nfloor = 0.2\n[losses.imle]\nweight = 0.5\n")
    (tmp_path / "set.toml").write_text("[set]\ngamma = 0.3\nbalance.floor = 0.2\n'halving.patience' = 7\n")
    (tmp_path / "names.toml").write_text("losses = ['pulling-away']\n")
    paper, flag = ("--preset", "paper"), ("--set", "balance.floor=0.1")
    for name in ("table.toml", "set.toml"):
        file = ("--config", name)
        assert settled(gankit, tmp_path, *file)["controllers"]["balance"]["floor"] == 0.2
        assert settled(gankit, tmp_path, *paper, *file)["controllers"]["balance"]["floor"] == 0.2  # the preset says 0
        assert settled(gankit, tmp_path, *paper, *file, *flag)["controllers"]["balance"]["floor"] == 0.1
    config = settled(gankit, tmp_path, *paper, "--config", "set.toml")
    assert (config["model"]["gamma"], config["controllers"]["halving"]["patience"]) == (0.3, 7)
    assert settled(gankit, tmp_path, "--config", "set.toml", "--set", "gamma=0.4")["model"]["gamma"] == 0.4
    assert settled(gankit, tmp_path, *paper, "--config", "table.toml")["losses"]["imle"]["weight"] == 0.5
    (tmp_path / "imle.toml").write_text("losses = ['imle']\n")
    assert settled(gankit, tmp_path, *paper, "--config", "imle.toml")["losses"]["imle"]["weight"] == 0.3
    config = settled(gankit, tmp_path, "--config", "names.toml", "--loss", "imle=0.2")
    weights = {name: table["weight"] for name, table in config["losses"].items()}
    assert weights == {"energy-distance": 0.3, "imle": 0.2, "critic": 0.1, "pulling-away": 1}


def test_set_takes_numbers_truths_lists_none_and_words(gankit: Gankit, tmp_path: Path) -> None:
    asked = {
        "gamma": ("0.7", 0.7),
        "learning_rate": ("2e-4", 2e-4),
        "learning_rate_generator": ("none", None),
        "betas": ("[0.0, 0.9]", [0.0, 0.9]),
        "skip_connections": ("false", False),
        "eta": ("2", 2),
        "updates": ("alternating", "alternating"),
        "networks": ('"strided-autoencoder"', "strided-autoencoder"),
    }
    config = settled(gankit, tmp_path, *(a for key, (text, _) in asked.items() for a in ("--set", f"{key}={text}")))
    assert {key: config["model"][key] for key in asked} == {key: value for key, (_, value) in asked.items()}
    assert config["networks"] == {"strided-autoencoder": {"upsampling": "resize", "mapping": 2, "output": "opacity"}}


def test_set_reaches_the_fields_of_components(gankit: Gankit, tmp_path: Path) -> None:
    config = settled(gankit, tmp_path, "--set", "halving.patience=9", "--set", "cleanliness.pictures=50")
    assert config["controllers"]["halving"]["patience"] == 9
    assert config["diagnostics"]["cleanliness"]["pictures"] == 50


def test_no_value_stands_twice_in_config_json(gankit: Gankit, tmp_path: Path) -> None:
    """What the model or the run says is not written for a component as well."""
    for asked in ((), ("--preset", "paper"), ("--controller", "balance-pi")):
        config = settled(gankit, tmp_path, *asked)
        above = config["model"].keys() | {"background"}
        parts = [table for kind in ("networks", "controllers") for table in config[kind].values()]
        assert not [key for table in parts for key in table if key in above]


def test_what_depends_on_the_machine_is_chosen_and_said_in_one_line(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("run", "began", "--data", "demo:120", "--steps", 0)
    config = read(only(tmp_path) / "config.json")
    assert (config["image_size"], config["batch_size"], config["model"]["filters"]) == (32, 32, 40)
    assert config["precision"] in ("fp32", "bf16")
    first = said.out.splitlines()
    (chosen,) = [line for line in first if "32×32" in line]
    assert all(word in chosen for word in ("began", "demo:120", "40 filters", "batch 32", "no GPU here"))


def test_a_batch_that_nobody_asked_for_is_as_small_as_the_folder_needs(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", "--data", "demo:30", *SMALL, "--steps", 0, "--out", "run").code == 0
    assert read(tmp_path / "run/data.json")["train"] == 27
    assert read(tmp_path / "run/config.json")["batch_size"] == 16
    assert gankit("resume", "run", "--steps", 1).code == 0
    wanted = gankit("run", "began", "--data", "demo:30", *SMALL, "--steps", 0, "--batch-size", 32)
    refused(wanted, "27 pictures to train on", "a batch of 32")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("45", 45)]
)
def test_time_is_written_as_people_write_it(text: str, seconds: float) -> None:
    from gankit.config.values import duration

    assert duration(text) == seconds


# How it ends.


def test_numbers_that_are_not_finite_end_in_an_alarm(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("run", "began", *TINY, "--steps", 400, "--set", "learning_rate=1e12", "--checkpoint-every", 1)
    assert (said.code, said.err) == (3, "")
    run = only(tmp_path)
    result = read(run / "result.json")
    assert (result["outcome"], result["steps"]) == ("stopped", 50)
    (alarm,) = lines(run, "alarms.jsonl")
    assert set(alarm) >= {"step", "diagnostic", "kind", "severity", "message", "advice", "action"}
    assert (alarm["step"], alarm["diagnostic"], alarm["kind"]) == (50, "vitals", "not-finite")
    assert (alarm["severity"], alarm["action"]) == ("critical", "stopped")
    assert f"gankit resume {Path('runs') / run.name} --from 0 --set learning_rate=" in alarm["advice"][0]
    assert lines(run)[-1]["energy/real"] is None  # strict JSON has no NaN
    assert alarm["message"] in said.out
    assert alarm["advice"][0] in said.out


@pytest.mark.parametrize(
    ("reaction", "code", "outcome"), [("stop", 3, "stopped"), ("warn", 0, "finished"), ("rescue", 3, "stopped")]
)
def test_a_length_that_no_diagnostic_looks_at_hides_no_lost_weights(
    gankit: Gankit, tmp_path: Path, reaction: str, code: int, outcome: str
) -> None:
    """The vitals look every 50 steps, and this training ends before."""
    said = gankit("run", "began", *TINY, "--steps", 9, "--set", "learning_rate=1e30", "--on-alarm", reaction)
    assert (said.code, said.err) == (code, "")
    run = only(tmp_path)
    assert read(run / "result.json")["outcome"] == outcome
    alarms = lines(run, "alarms.jsonl")
    assert {(alarm["step"], alarm["kind"], alarm["severity"]) for alarm in alarms} == {(9, "not-finite", "critical")}
    assert alarms[-1]["message"] in said.out
    assert checkpoints(run) == [0]


def test_weights_that_are_not_finite_are_never_saved(gankit: Gankit, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    assert gankit("run", "began", *TINY, "--set", "learning_rate=1e12", "--checkpoint-every", 1).code == 3
    run = only(tmp_path)
    assert lines(run)[-1]["energy/real"] is None
    assert checkpoints(run)
    for path in (run / "checkpoints").rglob("*.safetensors"):
        if path.name != "training.safetensors":
            assert all(tensor.isfinite().all() for tensor in load_file(path).values()), path


def test_weights_that_a_finite_loss_has_ruined_are_not_saved_either(gankit: Gankit, tmp_path: Path) -> None:
    """A root at zero: its value is 0, its slope is not a number, and the losses show nothing until the next step."""
    (tmp_path / "roots.py").write_text(
        "import gankit\n"
        "class Root(gankit.LossTerm):\n"
        "    name = 'root'\n"
        "    def __call__(self, step):\n"
        "        return (step.fake - step.fake).sqrt().sum() if step.number == 3 else step.fake.sum() * 0\n"
        "@gankit.hookimpl\n"
        "def gankit_losses():\n"
        "    return [Root]\n"
    )
    options = ("--plugin", "roots.py", "--loss", "root=1", "--checkpoint-every", 1, "--steps", 3)
    assert gankit("run", "began", *TINY, *options).code == 3
    assert all(value is not None for value in lines(only(tmp_path))[-1].values())
    assert [alarm["kind"] for alarm in lines(only(tmp_path), "alarms.jsonl")] == ["not-finite"]
    assert checkpoints(only(tmp_path)) == [0, 1, 2]


def test_on_alarm_warn_says_it_once_and_goes_on(gankit: Gankit, tmp_path: Path) -> None:
    options = ("--steps", 101, "--log-every", 50, "--set", "learning_rate=1e12", "--on-alarm", "warn")
    said = gankit("run", "began", *TINY, *options)
    assert said.code == 0
    run = only(tmp_path)
    assert read(run / "result.json")["outcome"] == "finished"
    assert [line["step"] for line in lines(run)] == [50, 100, 101]
    (alarm,) = lines(run, "alarms.jsonl")
    assert alarm["action"] == "warned"
    assert said.out.count("ALARM at step 50") == 1


def test_an_unwise_learning_rate_runs(gankit: Gankit) -> None:
    """Ranges refuse only meaningless values, not unwise ones."""
    assert gankit("run", "began", *TINY, "--set", "learning_rate=0.05").code == 0


def test_time_ends_a_run_in_good_order(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("run", "began", *DATA, *SMALL, "--time", "1s")
    assert (said.code, said.err) == (0, "")
    run = only(tmp_path)
    result = read(run / "result.json")
    assert result["outcome"] == "stopped"
    assert 1 <= result["seconds"] < 3
    assert checkpoints(run) == [0, result["steps"]]
    assert lines(run)[-1]["step"] == result["steps"]
    assert (run / "samples" / f"{result['steps']:06d}.png").exists()


def test_a_broken_network_fails_with_one_line_and_keeps_a_traceback(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(
        "import gankit\n"
        "class Breaks(gankit.LossTerm):\n"
        "    name = 'breaks'\n"
        "    def __call__(self, step):\n"
        "        assert step.number < 4, 'it\\nbroke'\n"
        "        return step.fake.mean()\n"
        "@gankit.hookimpl\n"
        "def gankit_losses():\n"
        "    return [Breaks]\n"
    )
    options = ("--plugin", "breaks.py", "--loss", "breaks=1", "--checkpoint-every", 2)
    said = gankit("run", "began", *TINY, *options)
    assert said.code == 1
    (line,) = said.err.splitlines()
    run = only(tmp_path)
    assert all(word in line for word in ("after step 3", "it broke", "traceback.txt", "gankit resume"))
    assert "Traceback" not in said.out
    assert "breaks.py" in (run / "traceback.txt").read_text()
    result = read(run / "result.json")
    assert (result["outcome"], result["steps"]) == ("failed", 3)
    assert result["seconds"] > 0
    assert "images_per_second" in result
    assert checkpoints(run) == [0, 2]
    assert [line["step"] for line in lines(run)] == [1, 2, 3]


# Signals.


def until(process: subprocess.Popen[str], wanted: str) -> str:
    """Read the output of a process up to the line with `wanted`."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return line
    assert process.stderr is not None
    raise AssertionError(f"it ended without {wanted!r}: {process.stderr.read()}")


@pytest.fixture
def training(tmp_path: Path) -> Any:
    """Start an endless training as a separate process, and end it after the test."""
    started = []

    def start(*options: object, **more: Any) -> subprocess.Popen[str]:
        arguments = ("run", "began", *TINY, "--steps", 10**6, "--out", "run", *options)
        started.append(process(*arguments, cwd=tmp_path, **more))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_the_resumed_run_is_as_if_unbroken(
    number: signal.Signals, code: int, training: Any, gankit: Gankit, tmp_path: Path
) -> None:
    run, running = tmp_path / "run", training()
    until(running, "step 3/")

    # Meanwhile no second process trains in the same folder; to branch off is possible.
    refused(gankit("resume", run, "--steps", 2), "another process", "--out")
    assert gankit("resume", run, "--steps", 2, "--out", "branch").code == 0

    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (code, "")
    assert "gankit resume run" in out.splitlines()[-1]
    result = read(run / "result.json")
    assert result["outcome"] == "interrupted"
    steps = result["steps"]
    assert checkpoints(run)[-1] == steps
    assert lines(run)[-1]["step"] == steps
    assert {"report.html", "animation.gif", "losses.png"} <= {path.name for path in run.iterdir()}

    assert gankit("resume", run, "--steps", steps + 2).code == 0
    assert gankit("run", "began", *TINY, "--steps", steps + 2, "--out", "unbroken").code == 0
    assert weights(run, steps + 2) == weights(tmp_path / "unbroken", steps + 2)
    assert timeless(run) == timeless(tmp_path / "unbroken")


def test_a_second_ctrl_c_leaves_at_once(training: Any, gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, gankit\n"
        "class Slow(gankit.Diagnostic):\n"
        "    name, every = 'slow', 3\n"
        "    def read(self, snapshot):\n"
        "        print('fallen asleep', flush=True)\n"
        "        time.sleep(600)\n"
        "        return gankit.Reading()\n"
        "@gankit.hookimpl\n"
        "def gankit_diagnostics():\n"
        "    return [Slow]\n"
    )
    running = training("--plugin", "slow.py", "--diagnostic", "slow", "--checkpoint-every", 2)
    until(running, "fallen asleep")
    running.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the first waits for the end of the step
        running.wait(timeout=0.5)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=2) == 130
    run = tmp_path / "run"
    assert checkpoints(run) == [0, 2]
    assert gankit("resume", run, "--plugin", "slow.py", "--steps", 2).code == 0
    assert [line["step"] for line in lines(run)] == [1, 2]


def test_a_killed_process_leaves_no_lock_behind(training: Any, gankit: Gankit, tmp_path: Path) -> None:
    running = training("--checkpoint-every", 2)
    until(running, "step 5/")
    running.kill()
    running.wait()
    saved = checkpoints(tmp_path / "run")[-1]
    assert gankit("resume", tmp_path / "run", "--steps", saved + 2).code == 0
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, saved + 3))


def test_a_folder_that_is_being_trained_is_left_alone(gankit: Gankit, run: Path) -> None:
    before = contents(run)
    with FileLock(run / ".lock"):
        refused(gankit("resume", run, "--steps", 9), "another process")
    (run / ".lock").unlink(missing_ok=True)
    assert contents(run) == before


def test_ctrl_c_before_the_training_says_that_nothing_is_lost(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "decoding", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    said = gankit("run", "began", *TINY, "--data", "demo:77")
    assert said.code == 130
    assert said.err.strip() == "gankit: interrupted; nothing is lost"
    assert not list(tmp_path.iterdir())


# Progress.


def test_without_a_terminal_there_is_one_plain_line_an_interval(gankit: Gankit) -> None:
    said = gankit("run", "began", *TINY, "--log-every", 2, "--sample-every", 2)
    shown = [line for line in said.out.splitlines() if line.startswith("step ")]
    assert [line.split("  ")[0] for line in shown] == ["step 2/6", "step 4/6", "step 6/6"]
    for line in shown:
        assert all(f"  {word} " in line for word in ("images/s", "left", "k", "M", "real", "fake", "sample", "health"))
    assert "\x1b" not in said.out
    assert said.err == ""


def test_the_last_lines_say_where_to_look_and_how_to_go_on(gankit: Gankit, tmp_path: Path) -> None:
    said = gankit("run", "began", *TINY)
    run = f"runs/{only(tmp_path).name}"
    *_, ended, verdict, look, on = said.out.splitlines()
    assert ended.startswith("finished at step 6 ")
    assert verdict == "verdict: Not judged yet"
    assert run in look
    assert f"gankit resume {run} --steps {FIRST_LOOK}" in on


def test_to_go_on_is_as_long_again_and_to_the_first_look_at_the_samples_at_least() -> None:
    """Regression: a run of 6 steps was told to go on to 12, where nothing is measured either."""
    assert max(ModeCollapse.every, Cleanliness.every) == FIRST_LOOK
    assert to_train_further(Path("r"), 6) == f"gankit resume r --steps {FIRST_LOOK}"
    assert to_train_further(Path("r"), 8000) == "gankit resume r --steps 16000"


def test_an_unfinished_run_of_too_few_pictures_is_told_to_go_on_by_terminal_and_report_alike(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the report said only to sample."""
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "line", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        said = gankit("run", "began", *TINY, "--data", "demo:10", "--steps", 20000, "--out", "few")
    assert said.code == 130
    assert said.out.splitlines()[-1] == "go on with: gankit resume few"
    assert gankit("report", "few").code == 0
    page = re.sub(r"<[^>]*>", "", (tmp_path / "few/report.html").read_text(encoding="utf-8"))
    assert re.search(r"Next:\s*gankit resume few\s", page)
    assert "Not judged: too few pictures" in page
    said = gankit("resume", "few", "--steps", 6)
    assert said.out.splitlines()[-1] == "or: gankit sample few"  # more steps bring no verdict


def test_too_few_pictures_are_said_to_be_too_few_for_a_verdict(gankit: Gankit, tmp_path: Path) -> None:
    """More steps would not bring one, so none is promised."""
    said = gankit("run", "began", *TINY, "--data", "demo:40", "--out", "few")
    assert "verdict: Not judged: too few pictures" in said.out
    assert "not judged" in gankit("runs", ".").out


def test_the_command_to_go_on_can_be_pasted_as_it_is(gankit: Gankit, tmp_path: Path) -> None:
    plugin = STRANGER / "conditional.py"
    said = gankit("run", "began", *TINY, "--plugin", plugin, "--out", "two words")
    command = said.out.splitlines()[-1].partition("gankit ")[2]
    assert f"--plugin {plugin}" in command
    assert gankit(*shlex.split(command), "--steps", 12).code == 0
    assert read(tmp_path / "two words" / "result.json")["steps"] == 12


def test_a_terminal_shows_a_live_display(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "gankit", "run", "began", *TINY, "--steps", "150"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
        try:
            read_now = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other end was closed
            break
        shown += read_now
    os.close(ours)
    assert running.wait(timeout=30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "Traceback" not in text
    for word in ("step", "images/s", "left", "real", "fake", "sample", "health", "numbers ok"):
        assert word in text
    assert re.search(r"\bk\b", text)
    assert re.search(r"\bM\b", text)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # the cursor is back
    assert "finished at step 150" in text


FADING = """
import gankit
from gankit_began.model import BEGAN
from torch import nn


class Fade(nn.Module):
    share = 1.0

    def at_step(self, number):
        self.share = max(0.0, 1 - number / 4)

    def forward(self, x):
        return x * self.share


class Fading(BEGAN):
    "Its generator fades to grey."

    name = "fading"

    def build_networks(self, pair, seen):
        networks = super().build_networks(pair, seen)
        return networks | {"generator": nn.Sequential(networks["generator"], Fade())}


@gankit.hookimpl
def gankit_models():
    return [Fading]
"""


def test_what_a_module_does_at_a_step_is_shown_too(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "fading.py").write_text(FADING)
    asked = ("run", "fading", "--plugin", "fading.py", *TINY, "--checkpoint-every", 2, "--steps", 6, "--out", "run")
    assert gankit(*asked).code == 0
    run = Run(tmp_path / "run")
    assert run.sample(4, plugins=["fading.py"]).abs().max() == 0
    assert run.sample(4, from_step=2, plugins=["fading.py"]).abs().max() > 0
    with Image.open(run.sample_path(6)) as grid:
        assert len(grid.convert("RGB").getcolors()) <= 2  # grey, and the gap between pictures
