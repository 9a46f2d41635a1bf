"""The tutorial is the example's own code, and every recipe of the cookbook does what the page says."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, refused
from PIL import Image, ImageDraw

from gankit import Run
from gankit.cli import cli
from gankit.scaffold import create

COOKBOOK = (ROOT / "docs" / "plugins" / "cookbook.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "plugins" / "tutorial.md").read_text(encoding="utf-8")
QUICK = ("--image-size", 16, "--batch-size", 4, "--precision", "fp32", *SMALL, "--steps", 4, "--log-every", 1)


def blocks(page: str, as_written: bool = False) -> list[tuple[str, str]]:
    """The code that a page shows: (file, text), where the file's name stands in a line of its own before it.

    `as_written`: also what a file has already; else only what the reader writes.
    """
    told = re.findall(r"^`([\w./-]+)`(, as written)?\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [(name, text) for name, written, text in told if as_written or not written]


def solid(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


# The tutorial.


MODEL, EQUATIONS = "gankit_wgan_gp/model.py", "tests/test_equations.py"
EXAMPLE = ROOT / "examples" / "plugins" / "wgan-gp"
NETWORKS, LOSSES = "    def build_networks", "    def losses"  # the lines before which the page puts and ends its text


@pytest.fixture
def written(tmp_path, gankit_cache, monkeypatch):
    """What `gankit plugins new wgan-gp` writes."""
    # Another test of this process may have loaded the example, whose name would be taken then.
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place).resolve() != EXAMPLE])
    for name in [name for name in sys.modules if name.partition(".")[0] == "gankit_wgan_gp"]:
        monkeypatch.delitem(sys.modules, name)
    return create("wgan-gp", ["model"], tmp_path)


@pytest.fixture
def followed(written):
    """What a reader of the tutorial makes of it."""
    head, *tail = [text for name, text in blocks(TUTORIAL) if name == MODEL]
    model = (written / MODEL).read_text(encoding="utf-8")
    kept = NETWORKS + model.partition(NETWORKS)[2].partition(LOSSES)[0]
    (written / MODEL).write_text(head + "\n" + kept + "\n".join(tail), encoding="utf-8")
    (written / EQUATIONS).write_text(
        "\n\n".join(text for name, text in blocks(TUTORIAL) if name == EQUATIONS), encoding="utf-8"
    )
    return written


def test_the_tutorial_shows_files_as_the_command_writes_them(written):
    shown = [there for there in blocks(TUTORIAL, as_written=True) if there not in blocks(TUTORIAL)]
    assert {name for name, _ in shown} == {"gankit_wgan_gp/__init__.py", MODEL, "tests/test_wgan_gp.py"}
    for name, text in shown:
        assert text in (written / name).read_text(encoding="utf-8")
    files = {str(path.relative_to(written)) for path in written.rglob("*.*")}
    assert set(re.findall(r"^\| `([\w./]+)` \|", TUTORIAL, re.MULTILINE)) == files


def test_the_tutorial_s_package_is_the_example(followed):
    todo = ('description = "A gankit plugin: TODO say what it is."', 'description = "WGAN-GP for gankit"')
    for name in ("pyproject.toml", "gankit_wgan_gp/__init__.py", MODEL, "tests/test_wgan_gp.py"):
        text = (followed / name).read_text(encoding="utf-8").replace(*todo)
        assert text == (EXAMPLE / name).read_text(encoding="utf-8"), name


def test_the_tests_that_the_tutorial_shows_are_among_the_example_s():
    shown = [text for name, text in blocks(TUTORIAL) if name == EQUATIONS]
    there = solid((EXAMPLE / EQUATIONS).read_text(encoding="utf-8"))
    assert shown
    for text in shown:
        lines = solid(text)
        assert any(there[i : i + len(lines)] == lines for i in range(len(there)))


def test_who_follows_the_tutorial_has_a_tidy_package_that_pip_installs_and_whose_tests_pass(followed, tmp_path):
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    site = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    for command in (
        ("ruff", "check", "--no-cache", "wgan-gp"),
        ("ruff", "format", "--check", "--no-cache", "wgan-gp"),
        ("pip", "install", *quiet, "--target", "site", "./wgan-gp"),
        ("pytest", "-p", "no:cacheprovider", "wgan-gp/" + EQUATIONS),
    ):
        there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": site, "OMP_NUM_THREADS": "1"}}
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, **there)
        assert done.returncode == 0, done.stdout + done.stderr


# The cookbook.

RECIPES = dict(blocks(COOKBOOK))


def command(name: str) -> list[str]:
    """The command line of a recipe on the page."""
    (line,) = [line for line in re.findall(r"^gankit .*", COOKBOOK, re.MULTILINE) if f"--plugin {name}" in line]
    return shlex.split(line)[1:]


@pytest.fixture
def cook(gankit, tmp_path, undrawn, monkeypatch):
    """Follow a recipe in an empty folder: the file as it stands, the command line of the page, a small training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def follow(name: str, *more: object, data: str | None = None) -> Run:
        (tmp_path / name).write_text(RECIPES[name], encoding="utf-8")
        words = command(name)
        if data:
            words[words.index("--data") + 1] = data
        said = gankit(*words, *QUICK, *more, "--out", "run")
        assert said.code == 0, said.err
        return Run(tmp_path / "run")

    return follow


def pictures(n: int) -> list[bytes]:
    """PNGs of a square on white, all different."""
    made = []
    for i in range(n):
        picture = Image.new("RGB", (20, 20), "white")
        ImageDraw.Draw(picture).rectangle((2, 2, 5 + i, 5 + i), fill=(20 * i, 0, 200))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        made.append(buffer.getvalue())
    return made


def test_every_recipe_is_tried():
    assert set(RECIPES) == {
        *("white_border.py", "hinge_critic.py", "pi_balance.py", "colour_drift.py", "board.py"),
        *("archive.py", "best.py"),
    }


def test_the_loss_term_is_logged_and_in_the_generator_s_loss(cook):
    line = cook("white_border.py", "--loss", "energy-distance=0", "--loss", "imle=0", "--loss", "critic=0").metrics()[0]
    assert 0 < line["term/white-border"] < 2
    assert line["loss/generator"] == pytest.approx(line["energy/fake"] + 0.1 * line["term/white-border"], rel=1e-5)


def test_the_critic_of_a_term_learns_from_its_own_loss(cook):
    line = cook("hinge_critic.py", "--loss", "energy-distance=0", "--loss", "imle=0", "--loss", "critic=0").metrics()[0]
    score = -line["term/hinge-critic"]
    assert line["loss/generator"] == pytest.approx(line["energy/fake"] - 0.05 * score, rel=1e-5)
    assert line["loss/hinge-critic"] == pytest.approx(2, abs=0.5)  # it cannot tell them apart yet
    assert line["learning_rate/hinge-critic"] == pytest.approx(1e-4)


def test_the_pi_controller_gives_k_as_its_formula_says(cook):
    lines = cook("pi_balance.py", "--set", "edges=0", "--set", "strided-autoencoder.output=linear").metrics()
    total, k = 0.0, 0.0
    for line in lines:
        assert line["began/k"] == pytest.approx(k, abs=1e-6)
        total = min(max(total + 0.001 * line["began/balance"], 0), 1)
        k = min(max(total + 0.2 * line["began/balance"], 0), 1)
    assert lines[-1]["began/k"] > 0


def test_the_alarm_is_raised_once_with_its_evidence(cook):
    run = cook("colour_drift.py", "--set", "colour-drift.every=2", "--set", "colour-drift.most=0.01")
    (alarm,) = run.alarms()
    assert (alarm["step"], alarm["kind"], alarm["severity"]) == (2, "colour-drift", "warning")
    assert alarm["readings"]["distance"] == pytest.approx(run.metrics()[1]["colour-drift/distance"])
    assert alarm["advice"] == ["run it longer"]


def test_the_logger_s_numbers_are_those_of_the_run(cook):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = cook("board.py")
    events = EventAccumulator(str(run.folder / "board")).Reload()
    logged = [(event.step, event.value) for event in events.Scalars("energy/real")]
    assert logged == [(line["step"], pytest.approx(line["energy/real"])) for line in run.metrics()]
    assert [event.step for event in events.Images("samples")] == [0, 4]


def test_an_archive_on_the_web_is_fetched_once_with_its_folders_as_labels(cook, gankit, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as packed:
        for i, picture in enumerate(pictures(12)):
            packed.writestr(f"{'ab'[i % 2]}/{i}.png", picture)
    url = (tmp_path / "pictures.zip").as_uri()
    run = cook("archive.py", "--holdout", 0, data=f"archive:{url}")
    assert run.data["train"] == 12
    assert run.data["labels"] == ["a", "b"]
    (tmp_path / "pictures.zip").unlink()  # it is here already
    again = gankit("run", "began", "--plugin", "archive.py", "--data", f"archive:{url}", *QUICK, "--out", "again")
    assert again.code == 0
    missing = gankit("run", "began", "--plugin", "archive.py", "--data", "archive:file:///nowhere.zip", *QUICK)
    refused(missing, "--data archive:file:///nowhere.zip cannot be had")


def test_the_command_is_there_once_it_is_installed(gankit, run, tmp_path, monkeypatch):
    site = tmp_path / "site"
    metadata = site / "best-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "best.py").write_text(RECIPES["best.py"], encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: best\nVersion: 1.0\n")
    entry = re.search(r"```toml\n\[project\.entry-points\.gankit\]\n(\w+) = \"(\w+)\"", COOKBOOK)
    assert entry
    (metadata / "entry_points.txt").write_text(f"[gankit]\n{entry[1]} = {entry[2]}\n")
    monkeypatch.syspath_prepend(site)
    vars(cli).pop("_catalogue", None)
    try:
        lines = [line for line in Run(run).metrics() if line.get("began/k") is not None]
        value, step = max((line["began/k"], line["step"]) for line in lines)
        assert gankit("best", run, "began/k").out == f"began/k was {value:.4g} at step {step}\n"
        refused(gankit("best", run, "beauty"), "has no metric 'beauty'")
    finally:
        vars(cli).pop("_catalogue", None)
