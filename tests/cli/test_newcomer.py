"""What somebody types who has read nothing: it works, or one line says what to type."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import SMALL, Gankit, contents, read, refused
from PIL import Image

TRAINED = ("--image-size", 16, "--batch-size", 4, "--precision", "fp32", "--steps", 1)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder of 40 pictures."""
    folder = tmp_path / "messy"
    folder.mkdir()
    for n in range(40):
        Image.new("RGB", (18, 16), (6 * n, 200, 250 - 6 * n)).save(folder / f"{n}.png")
    return folder


# Settings and synonyms as flags.


@pytest.mark.parametrize(
    ("typed", "where", "value"),
    [
        (("--gamma", 0.6), ("model", "gamma"), 0.6),
        (("--gamma=0.6",), ("model", "gamma"), 0.6),
        (("--lambda-k", 0.2), ("model", "lambda_k"), 0.2),
        (("--lambda_k", 0.2), ("model", "lambda_k"), 0.2),
        (("--lr", 0.002), ("model", "learning_rate"), 0.002),
        (("--lr-g", "3x"), ("model", "learning_rate_generator"), "3x"),
        (("--z_dim", 6), ("model", "latent"), 6),
        (("--skip-connections",), ("model", "skip_connections"), True),
        (("--skip-connections", "false"), ("model", "skip_connections"), False),
        (("--balance.floor", 0.1), ("controllers", "balance", "floor"), 0.1),
        (("--strided_autoencoder.output=linear",), ("networks", "strided-autoencoder", "output"), "linear"),
        (("--size", 32), ("image_size",), 32),
        (("--resolution", 32), ("image_size",), 32),
        (("--image_size", 32), ("image_size",), 32),
        (("--batch", 5), ("batch_size",), 5),
        (("--iterations", 2), ("steps",), 2),
        (("--on_alarm=warn",), ("on_alarm",), "warn"),
        (("--losses", "imle=0.5"), ("losses", "imle", "weight"), 0.5),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_a_setting_is_a_flag_with_either_hyphen_and_the_field_s_other_names_are_known(
    gankit: Gankit, undrawn, tmp_path: Path, typed, where, value
):
    small = ("--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--set", "latent=8", "--steps", 0)
    said = gankit("run", "began", "--data", "demo:60", *small, *typed, "--out", "run")
    assert said.code == 0, said.err
    found = read(tmp_path / "run" / "config.json")
    for key in where:
        found = found[key]
    assert found == value


def test_a_resume_and_a_comparison_know_a_setting_as_a_flag_too(gankit: Gankit, undrawn, run: Path, tmp_path: Path):
    assert gankit("resume", run, "--gamma", 0.55, "--steps", 9).code == 0
    assert read(run / "config.json")["history"][-1]["changed"]["model.gamma"] == 0.55
    compared = ("compare", "began", "ebgan", "--data", "demo:60", *TRAINED)
    refused(gankit(*compared, "--gamma", 0.5), "model 'ebgan' has no setting 'gamma'")  # it is for all models


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--gama", 0.5), ("no option --gama", "'--gamma'")),
        (("--stepss", 5), ("no option --stepss", "'--steps'")),
        (("--gamma",), ("--gamma needs a value",)),
        (("--gamma", 7), ("gamma=7", "(0, 1]")),
        (("--nothing.at", 1), ("no component 'nothing'",)),
        (("--epochs", 3), ("54 pictures", "--steps 41")),  # 3 · 54 / 4
        (("--epochs", 0), ("--epochs",)),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_a_flag_that_does_not_exist_is_refused_with_the_one_that_is_meant(gankit: Gankit, tmp_path: Path, typed, words):
    refused(gankit("run", "began", "--data", "demo:60", *TRAINED, *SMALL, *typed), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_looks_like_a_flag_stays_a_value(gankit: Gankit, tmp_path: Path):
    refused(gankit("run", "began", "--data", "--gamma", *TRAINED), "no data folder", "--gamma")


# A folder without --data.


@pytest.mark.parametrize("words", [("began", "messy"), ("./messy",), ("messy",), ("messy/",)], ids=" ".join)
def test_a_folder_is_trained_on_however_it_is_named(gankit: Gankit, undrawn, tmp_path: Path, messy: Path, words):
    said = gankit("run", *words, *TRAINED, *SMALL, "--out", "run")
    assert said.code == 0, said.err
    config = read(tmp_path / "run" / "config.json")
    assert (config["model"]["name"], config["data"]) == ("began", str(messy))


def test_a_folder_with_a_model_s_name_is_no_data_unless_it_is_named_so(gankit: Gankit, tmp_path: Path, messy: Path):
    shutil.move(messy, tmp_path / "began")
    refused(gankit("run", "began", *TRAINED), "no data named")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("began", "--data", "mesy"), "did you mean 'messy'?"),
        (("began", "mesy"), "did you mean 'messy'?"),
        (("./mesy",), "did you mean 'messy'?"),
        (("began", "messy", "--data", "demo"), "'messy' is too much"),
        (("began", "messy/1.png", "messy/2.png"), "takes one folder"),
        (("began", "messy/1.png"), "is a file, not a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_folder_that_cannot_be_meant_is_refused_in_one_line(gankit: Gankit, tmp_path: Path, messy: Path, words, said):
    before = contents(tmp_path)
    refused(gankit("run", *words, *TRAINED), said)
    assert contents(tmp_path) == before


# Help.

COMMANDS = ("", "run", "run began", "run ebgan", "resume", "compare", "sample", "evaluate", "interpolate", "invert")
COMMANDS += ("animate", "report", "runs", "plugins", "plugins list", "plugins new", "plugins check", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_help_is_wider_than_80_columns(gankit: Gankit, monkeypatch, command: str):
    monkeypatch.setenv("COLUMNS", "200")
    said = gankit(*command.split(), "--help")
    assert said.code == 0
    assert [line for line in said.out.splitlines() if len(line) > 80] == []


def test_help_shows_the_defaults_of_steps_size_batch_and_seed_and_they_are_those_of_a_run(gankit: Gankit, undrawn):
    shown = " ".join(gankit("run", "--help").out.split())
    for flag, default in (
        ("--steps N", "20,000, on a GPU 100,000"),
        ("--image-size S", "32, on a GPU 64"),
        ("--batch-size B", "16"),
        ("--seed N", "0"),
    ):
        assert f"default {default}." in shown.partition(flag)[2].partition(" --")[0]
    assert "default" not in " ".join(gankit("resume", "--help").out.split()).partition("--steps")[2].partition(" --")[0]
    assert gankit("run", "began", "--data", "demo:60", "--device", "cpu", "--time", 1, *SMALL, "--out", "r").code == 0
    config = read(Path("r/config.json"))
    assert (config["image_size"], config["batch_size"], config["seed"]) == (32, 16, 0)


@pytest.mark.parametrize(
    "command", ["run", "resume", "compare", "sample", "evaluate", "interpolate", "invert", "animate"]
)
def test_one_word_says_where_something_is_written_and_one_which_checkpoint(gankit: Gankit, command: str):
    shown = gankit(command, "--help").out
    assert "-o, --out" in shown
    for former in ("--grid", "--save", "--output", "--step "):
        assert former not in shown
    if command not in ("run", "compare", "animate"):
        assert "--from STEP" in shown
