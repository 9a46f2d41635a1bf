"""What somebody types who has read nothing: it works, or one line says what to type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, TINY, Gankit, contents, read, refused, timeless, weights
from PIL import Image

import gankit as package

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


def test_without_a_model_a_setting_is_began_s(gankit: Gankit, undrawn, tmp_path: Path, messy: Path):
    assert gankit("run", "--data", messy, *TRAINED, "--gamma", 0.6, "--set", "filters=4", "--out", "run").code == 0
    model = read(tmp_path / "run/config.json")["model"]
    assert (model["name"], model["gamma"]) == ("began", 0.6)


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


def test_a_file_of_settings_without_a_model_has_began_s_and_its_errors_name_it(gankit: Gankit, undrawn, tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text("gamma = 0.6\nfilters = 4\n")
    assert gankit("run", "--config", file, "--data", "demo:60", *TRAINED, "--out", "run").code == 0
    assert read(tmp_path / "run/config.json")["model"]["gamma"] == 0.6
    file.write_text("gama = 0.6\n")
    refused(gankit("run", "--config", file, "--data", "demo:60"), str(file), "'gama'", "'gamma'")


def test_a_plugin_s_model_is_trained_where_none_is_named_and_of_two_one_must_be(
    gankit: Gankit, undrawn, tmp_path: Path
):
    dcgan, r3gan = ROOT / "examples/plugins/dcgan", ROOT / "examples/plugins/r3gan"
    small = ("run", "--data", "demo:60", "--steps", 0, "--set", "filters=4", "--plugin", dcgan)
    assert gankit(*small, "--out", "run").code == 0
    assert read(tmp_path / "run/config.json")["model"]["name"] == "dcgan"
    refused(gankit(*small, "--plugin", r3gan), "name a model", "dcgan, r3gan")
    (tmp_path / "mine.toml").write_text('model = "dcgan"\n')
    assert gankit(*small, "--plugin", r3gan, "--config", "mine.toml", "--out", "named").code == 0


def test_what_stands_in_a_command_s_place_is_named(gankit: Gankit, tmp_path: Path, messy: Path):
    refused(gankit("./messy"), "gankit run ./messy")
    refused(gankit("began", "--data", "./messy"), "gankit run began")
    refused(gankit("--data", "./messy"), "--data stands before a command", "gankit run began --data")
    (tmp_path / "film.mp4").write_bytes(b"film")
    refused(gankit("run", "film.mp4"), "film.mp4 is a file, not a folder")
    assert gankit("help").out == gankit("--help").out


# A folder without --data.


@pytest.mark.parametrize("words", [("began", "messy"), ("./messy",), ("messy",), ("messy/",)], ids=" ".join)
def test_a_folder_is_trained_on_however_it_is_named(gankit: Gankit, undrawn, tmp_path: Path, messy: Path, words):
    said = gankit("run", *words, *TRAINED, *SMALL, "--out", "run")
    assert said.code == 0, said.err
    config = read(tmp_path / "run" / "config.json")
    assert (config["model"]["name"], config["data"]) == ("began", str(messy))


def test_a_run_s_own_folder_is_no_folder_of_pictures(gankit: Gankit, undrawn, tmp_path: Path, run: Path):
    """Regression: it trained on sample sheets and losses.png."""
    (asked, before) = ("run", "began", *TRAINED, *SMALL), contents(run)
    for words in ((*asked, "--data", run), ("run", run), ("data", "inspect", run), (*asked, "--data", f"folder:{run}")):
        refused(gankit(*words), "is a run folder", f"gankit resume {run}")
    assert contents(run) == before
    mine = tmp_path / "mine"  # as somebody else's training may leave it
    (mine / "checkpoints").mkdir(parents=True)
    (mine / "config.json").write_text('{"architectures": ["Other"]}')
    for n in range(8):
        Image.new("RGB", (16, 16), (30 * n, 9, 200)).save(mine / f"{n}.png")
    assert gankit(*asked, "--data", mine, "--out", "other").code == 0
    assert gankit(*asked, "--data", run / "samples", "--batch-size", 2, "--holdout", 0, "--out", "sheets").code == 0


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


# A file of settings.


def test_a_run_s_config_json_repeats_it_and_flags_change_it(gankit: Gankit, undrawn, tmp_path: Path):
    asked = ("--loss", "imle=0", "--loss", "energy-distance=0.1", "--controller", "balance-pi", "--view", "packing")
    asked += ("--gamma", 0.6, "--mirror", "--background", "navy")
    assert gankit("run", "began", *TINY, *asked, "--out", "a").code == 0
    assert gankit("run", "--config", "a/config.json", "--out", "b").code == 0
    a, b, c = (tmp_path / name for name in "abc")
    told = [{key: value for key, value in read(run / "config.json").items() if key != "requested"} for run in (a, b)]
    assert told[0] == told[1]
    assert timeless(a) == timeless(b)
    assert weights(a, 6) == weights(b, 6)
    changed = ("--gamma", 0.5, "--loss", "imle=0.1", "--steps", 1, "--data", "demo:100")
    assert gankit("run", "began", "--config", "a/config.json", *changed, "--out", "c").code == 0
    config = read(c / "config.json")
    assert (config["model"]["gamma"], config["steps"], config["data"]) == (0.5, 1, "demo:100")
    assert {"imle", "energy-distance"} <= config["losses"].keys()
    refused(gankit("run", "ebgan", "--config", "a/config.json"), "the [model] table is for 'began'")


def test_the_file_on_the_page_of_settings_trains(gankit: Gankit, undrawn, tmp_path: Path, messy: Path):
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mine.toml").write_text(text.replace("./pictures", "messy"))
    small = ("--set", "filters=4", "--image-size", 16, "--batch-size", 4)
    assert gankit("run", "--config", "mine.toml", *small, "--steps", 0, "--out", "run").code == 0
    config = read(tmp_path / "run" / "config.json")
    assert (config["model"]["name"], config["model"]["gamma"]) == ("began", 0.6)
    assert (config["losses"]["imle"]["weight"], config["controllers"]["balance"]["floor"]) == (0.2, 0.1)
    assert (config["data"], list(config["views"])) == (str(messy), ["augment"])
    compared = ("compare", "began", "ebgan", "--config", "mine.toml", "--steps", 1)
    refused(gankit(*compared), "is for model 'began', and the model is 'ebgan'")


# The last run.


def test_last_is_the_newest_run_below_runs_wherever_a_run_is_asked_for(gankit: Gankit, finished: Path, tmp_path: Path):
    for name, started in (
        ("a", "2026-01-02T00:00:00"),
        ("z", "2026-01-01T00:00:00"),
        ("deep/b", "2026-01-03T00:00:00"),
    ):
        folder = Path(shutil.copytree(finished, tmp_path / "runs" / name))
        environment = read(folder / "environment.json")
        (folder / "environment.json").write_text(json.dumps(environment | {"started": started}))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{}")
    (tmp_path / "runs" / "broken" / "environment.json").write_text("{")
    newest = Path("runs/deep/b")
    shutil.copy(next((newest / "samples").iterdir()), "picture.png")
    for command, words, made in (
        ("sample", ("-n", 1), "sample.png"),
        ("invert", ("picture.png", "--steps", 1), "inversion.png"),
        ("interpolate", ("--frames", 2), "interpolation.gif"),
        ("animate", (), "animation.gif"),
        ("report", (), "report.html"),
    ):
        said = gankit(command, "last", *words)
        assert (said.code, said.out.splitlines()[-1]) == (0, str(newest / made)), said.err
    assert gankit("resume", "last", "--steps", 9).code == 0
    assert read(newest / "result.json")["steps"] == 9
    assert gankit("evaluate", "last", "--n", 20, "--json").out.startswith("{")
    assert package.Run("last").folder == newest


@pytest.mark.parametrize("command", ["sample", "resume", "report", "evaluate"])
def test_a_run_s_name_that_is_misspelt_is_refused_with_the_near_one(
    gankit: Gankit, finished: Path, tmp_path: Path, command: str
):
    shutil.copytree(finished, tmp_path / "runs" / "began-demo")
    for typed, meant in (("runs/begn-demo", "runs/began-demo"), ("began-dem", "runs/began-demo"), ("lst", "last")):
        refused(gankit(command, typed), typed, f"did you mean '{meant}'?")


def test_without_a_run_last_is_refused_and_a_run_of_that_name_is_itself(gankit: Gankit, finished: Path, tmp_path: Path):
    refused(gankit("sample", "last"), "no run below runs/")
    shutil.copytree(finished, tmp_path / "last")
    assert gankit("sample", "last", "-n", 1).out.strip() == "last/sample.png"


# Help.

COMMANDS = ("", "run", "run began", "run ebgan", "resume", "compare", "sample", "evaluate", "interpolate", "invert")
COMMANDS += (
    "share",
    "export",
    "score",
    "explore",
    "animate",
    "report",
    "runs",
    "plugins",
    "plugins list",
    "plugins new",
    "plugins check",
    "doctor",
)


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
        ("--batch-size B", "32"),
        ("--seed N", "0"),
    ):
        assert f"default {default}." in shown.partition(flag)[2].partition(" --")[0]
    assert "default" not in " ".join(gankit("resume", "--help").out.split()).partition("--steps")[2].partition(" --")[0]
    assert gankit("run", "began", "--data", "demo:60", "--device", "cpu", "--time", 1, *SMALL, "--out", "r").code == 0
    config = read(Path("r/config.json"))
    assert (config["image_size"], config["batch_size"], config["seed"]) == (32, 32, 0)


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


# Few pictures


def test_with_few_pictures_it_says_at_the_start_what_that_means_and_which_flags_help(
    gankit: Gankit, messy: Path
) -> None:
    said = gankit("run", messy, *TRAINED, *SMALL, "--out", "few")
    assert said.code == 0
    (warning,) = (line for line in said.out.splitlines() if line.startswith("warning: 36 pictures are few."))
    assert said.out.index(warning) < said.out.index("run folder:")
    for words in ("by heart", "not judged", "Fewer than 20 are held out", "--mirror", "--holdout"):
        assert words in warning
    said = gankit("run", messy, *TRAINED, *SMALL, "--mirror", "--out", "set")
    (warning,) = (line for line in said.out.splitlines() if line.startswith("warning: 36 pictures"))
    assert "--mirror" not in warning


def test_with_enough_pictures_it_says_nothing_of_few(gankit: Gankit) -> None:
    said = gankit("run", "began", "demo:400", *TRAINED, *SMALL, "--out", "enough")
    assert said.code == 0
    assert "are few" not in said.out
