"""A stranger's folder cannot run code, reach anything outside itself, or have anything deleted."""

from __future__ import annotations

import ast
import base64
import errno
import fcntl
import html
import json
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import COMPARED, DATA, ROOT, TINY, Gankit, checkpoints, contents, lines, read, refused, with_few
from PIL import Image
from test_report import Page

from gankit.errors import UserError
from gankit.files import opened
from gankit.testing.plugin import Said
from gankit.trained.run import Run
from gankit.training import checkpoint

undrawn = pytest.mark.usefixtures("undrawn")


def keepsakes(folder: Path) -> dict[str, str]:
    """Fill a folder with files that a user would miss, and return its contents."""
    for name in (".git/HEAD", ".ssh/id_ed25519", ".config/settings", ".000004.12/diary.txt", "letters/one.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the only copy of {name}")
    return contents(folder)


# gankit deletes only its own files.


@undrawn
@pytest.mark.parametrize("steps", [8, 16], ids=["with nothing left to do", "with more to do"])
def test_a_resume_deletes_no_folder_that_it_did_not_make(gankit: Gankit, run: Path, steps: int) -> None:
    before = keepsakes(run / "checkpoints")
    assert gankit("resume", run, "--steps", steps).code == 0
    there = contents(run / "checkpoints")
    mine = {name: hash for name, hash in before.items() if not name.startswith("0000")}
    assert mine.items() <= there.items()


@undrawn
@pytest.mark.parametrize("steps", [8, 10], ids=["with nothing left to do", "with more to do"])
def test_what_a_killed_process_left_half_made_is_removed(gankit: Gankit, run: Path, steps: int) -> None:
    half = run / "checkpoints/.000010.4711"
    half.mkdir()
    for name in ("networks.safetensors", ".4711.state.json"):
        (half / name).write_bytes(b"half")
    assert gankit("resume", run, "--steps", steps).code == 0
    assert not half.exists()


@undrawn
def test_a_link_among_what_was_left_is_neither_followed_nor_removed(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = keepsakes(home)
    (home / "state.json").write_text("not a checkpoint's")
    (run / "checkpoints/.000010.4711").symlink_to(home)
    assert gankit("resume", run, "--steps", 16).code == 0
    assert before.items() <= contents(home).items()
    assert (home / "state.json").exists()


@undrawn
def test_what_a_user_put_into_a_checkpoint_stays_when_others_are_let_go(gankit: Gankit, run: Path) -> None:
    note = run / "checkpoints/000004/why-this-one.txt"
    note.write_text("the best faces")
    assert gankit("resume", run, "--steps", 16).code == 0
    assert note.read_text() == "the best faces"
    assert checkpoints(run) == [0, 4, 12, 14, 16]


@undrawn
@pytest.mark.parametrize("command", ["resume", "resume --steps 10", "sample"])
def test_checkpoints_that_are_a_link_are_refused(command: str, gankit: Gankit, run: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (run / "checkpoints").rename(home)
    before = keepsakes(home)
    (run / "checkpoints").symlink_to(home)
    name, *more = command.split()
    refused(gankit(name, run, *more), "checkpoints is a link")
    assert contents(home) == before


@undrawn
def test_a_run_folder_that_a_user_reaches_by_a_link_is_as_good(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(run)
    assert gankit("resume", "linked", "--steps", 10).code == 0
    assert checkpoints(run)[-1] == 10


# A picture starts no program.

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 146 146\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on the path that leaves a trace when it starts."""
    trace = tmp_path / "started"
    program = tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # forget the cached search
    return trace


def test_the_trap_works(ghostscript: Path, tmp_path: Path) -> None:
    """Pillow starts it without a guard: so the other tests can fail."""
    (tmp_path / "x.png").write_bytes(EPS)
    with Image.open(tmp_path / "x.png") as picture, suppress(OSError):
        picture.load()
    assert ghostscript.exists()


@pytest.mark.parametrize("command", ["report", "animate", "resume"])
def test_a_picture_in_a_run_folder_starts_no_program(
    command: str, gankit: Gankit, run: Path, ghostscript: Path
) -> None:
    for name in ("samples/000004.png", "samples/000008.png", "neighbours.png", "animation.gif", "interpolation.gif"):
        (run / name).write_bytes(EPS)
    gankit(command, run, *(("--steps", "9") if command == "resume" else ()))
    assert not ghostscript.exists()


def test_a_picture_in_a_folder_of_samples_starts_no_program(gankit: Gankit, ghostscript: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for n in range(8):
        (tmp_path / f"samples/{n}.png").write_bytes(EPS)
    refused(gankit("evaluate", "samples", "--data", "demo:60"), "PostScript")
    assert not ghostscript.exists()


def test_every_picture_that_is_opened_is_one_of_named_formats() -> None:
    root = ROOT
    opened = []
    for source in (path for part in ("gankit", "plugins", "examples") for path in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
                opened.append(f"{source}:{node.lineno}")
                assert "formats" in {keyword.arg for keyword in node.keywords}, opened[-1]
    assert opened


# A link in a run folder leads nowhere.

SECRET = "secret-4fd1c7"
LINKED = (  # together, where one does not hide the next
    ("report.html", "losses.png", "animation.gif", "neighbours.png", "sample.png", "samples/000009.png"),
    ("checkpoints/000008/state.json", "checkpoints/000006/networks.safetensors", "samples/000008.png"),
    ("samples",),
    ("checkpoints",),
    ("abandoned",),
    ("checkpoints/000008",),
    (".lock",),
    ("metrics.jsonl", "alarms.jsonl", "readings.jsonl"),
    ("environment.json", "data.json", "result.json", "neighbours.json"),
    ("config.json",),
)


def link(there: Path, home: Path) -> None:
    """Put a link to something of the user's, of the same kind, in the place of a file or folder."""
    theirs = home / there.name
    if there.exists():
        there.rename(theirs)
    elif there.suffix or there.name == ".lock":
        theirs.write_text(SECRET)
    else:
        keepsakes(theirs)
    there.symlink_to(theirs)


@undrawn
@pytest.mark.parametrize("names", LINKED, ids=lambda names: names[0])
def test_no_command_writes_through_a_link(names: tuple[str, ...], gankit: Gankit, run: Path, tmp_path: Path) -> None:
    keepsakes(home := tmp_path / "home")
    for name in names:
        link(run / name, home)
    before = contents(home)
    resume = ("resume", run, "--steps", 9)
    for command in [("report", run), ("animate", run), ("sample", run, "-n", 2), ("runs", run.parent), resume]:
        said = gankit(*command)
        assert said.code in (0, 2), said
        assert len(said.err.splitlines()) == (said.code == 2)
    assert contents(home) == before


@undrawn
@pytest.mark.parametrize("name", ["metrics.jsonl", "readings.jsonl.damaged", ".lock"])
def test_a_resume_writes_through_no_hard_link(name: str, gankit: Gankit, run: Path, tmp_path: Path) -> None:
    (home := tmp_path / "home").write_text(SECRET)
    (run / name).unlink(missing_ok=True)
    os.link(home, run / name)
    before = contents(run)
    refused(gankit("resume", run, "--steps", 9), f"{name} is a hard link")
    assert home.read_text() == SECRET
    assert contents(run) == before


@undrawn
def test_a_return_moves_nothing_through_a_link(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    """The attempt's number comes from the metrics, and its folder may be there already."""
    keepsakes(home := tmp_path / "home")
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) | {"attempt": 2_000_000_000}
    with open(run / "metrics.jsonl", "a") as lines:
        lines.write(json.dumps(line) + "\n")
    for kind, name in (("checkpoints", "000008"), ("samples", "000008.png")):
        (run / "abandoned/2000000000" / kind).mkdir(parents=True)
        (run / "abandoned/2000000000" / kind / name).symlink_to(home)
    before = contents(home)
    said = gankit("resume", run, "--from", 4, "--steps", 9)
    assert said.code in (0, 1, 2)
    assert len(said.err.splitlines()) <= 1
    assert contents(home) == before


@undrawn
def test_a_file_of_holes_keeps_no_command_waiting(gankit: Gankit, run: Path) -> None:
    os.truncate(run / "metrics.jsonl", 200 << 30)
    os.truncate(run / "checkpoints/000008/networks.safetensors", 40 << 30)
    refused(gankit("sample", run), "holes")
    assert gankit("runs", run.parent).code == 0


def test_a_name_with_a_line_feed_forges_no_row(gankit: Gankit, run: Path) -> None:
    environment = read(run / "environment.json") | {"started": "2026\n\nrun fake"}
    (run / "environment.json").write_text(json.dumps(environment))
    assert not any(line.startswith("run fake") for line in gankit("runs", run.parent).out.splitlines())


@undrawn
def test_a_process_of_several_imports_nothing_of_the_current_folder(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("open('ran', 'w'); raise SystemExit")
    said = gankit("run", "began", *TINY, "--nproc", 2, "--out", "run")
    assert (said.code, said.err) == (0, "")
    assert not (tmp_path / "ran").exists()


@undrawn
def test_the_traceback_of_a_failure_is_not_written_through_a_link(
    gankit: Gankit, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.training import loop as runner

    monkeypatch.setattr(runner, "step_once", lambda *_: 1 / 0)
    keepsakes(home := tmp_path / "home")
    link(run / "traceback.txt", home)
    before = contents(home)
    assert gankit("resume", run, "--steps", 10).code == 1
    assert contents(home) == before
    assert "ZeroDivisionError" in (run / "traceback.txt").read_text()


@undrawn
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples", ".lock"])
def test_a_resume_of_a_folder_with_a_link_is_refused_before_it_changes_anything(
    name: str, gankit: Gankit, run: Path, tmp_path: Path
) -> None:
    keepsakes(home := tmp_path / "home")
    link(run / name, home)
    before = contents(run)
    refused(gankit("resume", run, "--steps", 10), f"{name} is a link")
    assert contents(run) == before


def test_no_secret_behind_a_link_gets_into_a_report(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    """Text, and private pictures, whose bytes the page would hold in base64."""
    home = tmp_path / "home"
    home.mkdir()
    secret = (run / "samples/000004.png").read_bytes()
    private = Image.effect_noise((146, 146), 90)  # like nothing else in the page
    private.save(home / "private.png")
    private.save(home / "private.gif")
    (home / "key.txt").write_text(SECRET)
    for name in ("neighbours.png", "interpolation.gif", "animation.gif", "samples/000004.png", "samples/000007.png"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(home / f"private{Path(name).suffix}")
    (run / "samples/000006.png").symlink_to(home / "key.txt")
    (run / "environment.json").unlink()
    (home / "machine.json").write_text(json.dumps({"device": SECRET, "torch": SECRET}))
    (run / "environment.json").symlink_to(home / "machine.json")
    assert gankit("report", run).code == 0
    page = (run / "report.html").read_text()
    for text in (SECRET.encode(), (home / "private.png").read_bytes(), (home / "private.gif").read_bytes()):
        assert base64.b64encode(text).decode()[:60] not in page
    assert SECRET not in page
    assert "environment.json is a link" in page
    assert secret  # and files that are no links are shown
    assert base64.b64encode((run / "samples/000008.png").read_bytes()).decode() in page


def test_what_is_no_picture_is_not_shown_as_one(gankit: Gankit, run: Path) -> None:
    """A hard link, which an archive may hold too, looks like any file."""
    for name in ("samples/000004.png", "animation.gif", "interpolation.gif", "neighbours.png"):
        (run / name).write_text(SECRET * 20)
    assert gankit("report", run).code == 0
    assert base64.b64encode((SECRET * 20).encode()).decode() not in (run / "report.html").read_text()


@undrawn
def test_a_checkpoint_names_no_file_outside_it(gankit: Gankit, run: Path) -> None:
    from gankit.training.checkpoint import _checksum

    state = read(run / "checkpoints/000008/state.json")
    state.pop("checksum")
    for name in list(state["sha256"]):
        state["sha256"][f"../000006/{name}"] = state["sha256"].pop(name)
    (run / "checkpoints/000008/state.json").write_text(json.dumps(state | {"checksum": _checksum(state)}))
    refused(gankit("sample", run), "000008", "damaged")


# A comparison of somebody else's.


@pytest.fixture
def compared(comparison: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(comparison, tmp_path / "theirs"))


@pytest.mark.parametrize("folder", ["../run", "/etc", "runs/../../run", "", ".", "runs\\..\\run", 7, None])
def test_a_comparison_reads_no_run_outside_it(folder: object, gankit: Gankit, compared: Path, run: Path) -> None:
    run.rename(run.parent / "run")
    told = read(compared / "comparison.json")
    told["runs"][0]["folder"] = folder
    (compared / "comparison.json").write_text(json.dumps(told))
    refused(gankit("report", compared), "comparison.json is damaged")


def test_a_run_of_a_comparison_lies_in_no_home(
    gankit: Gankit, compared: Path, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A path below the comparison may begin with ~."""
    monkeypatch.chdir(compared)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run.rename((tmp_path / "home").mkdir() or tmp_path / "home" / "private")
    (compared / "~" / "private").mkdir(parents=True)
    (compared / "~" / "private" / "config.json").write_text("{}")
    told = read(compared / "comparison.json")
    told["runs"][0]["folder"] = "~/private"
    (compared / "comparison.json").write_text(json.dumps(told))
    assert gankit("report", ".").code == 0
    columns = [one for one in Page(compared / "report.html").json("grids") if one]
    assert len(columns) == len(told["runs"]) - 1


@pytest.mark.parametrize("name", ["runs", "runs/ebgan-seed-0", "comparison.json", "report.html"])
def test_a_link_in_a_comparison_leads_nowhere(name: str, gankit: Gankit, compared: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (compared / name).rename(home / "there")
    (compared / name).symlink_to(home / "there")
    before = contents(home)
    said = gankit("report", compared)
    if name == "report.html":  # a link of that name is replaced
        assert said.code == 0
    else:
        refused(said, f"{Path(name).name} is a link")
    assert contents(home) == before


def test_a_comparison_of_odd_arms_or_endless_runs_is_refused_in_one_line(gankit: Gankit, compared: Path) -> None:
    told = read(compared / "comparison.json")
    arm, row = told["arms"][0], told["runs"][0]
    for odd in (
        {"arms": [{key: value for key, value in arm.items() if key != "model"}, *told["arms"][1:]]},
        {"arms": [arm | {"config": {"networks": {}}}, *told["arms"][1:]]},
        {"runs": [row | {"seed": seed} for seed in range(2001)]},
    ):
        (compared / "comparison.json").write_text(json.dumps(told | odd))
        refused(gankit("report", compared), "comparison.json is damaged")


def test_a_comparison_that_goes_on_deletes_nothing(
    gankit: Gankit, compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without a checkpoint starts again; the folder in its place is set aside, whoever wrote it."""
    with_few(monkeypatch)
    place = compared / "runs/ebgan-seed-0"
    shutil.rmtree(place)
    kept = keepsakes(place)
    assert gankit("compare", *COMPARED, "--out", compared).code == 0
    assert contents(compared / "runs/.ebgan-seed-0.1") == kept
    assert checkpoints(place)


# A folder that is moved or deleted during its training.


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Do something between two steps of a training."""
    from gankit.training import loop as runner

    real = runner.step_once

    def step_once(training: Any, batches: Any, ranks: Any = None) -> Any:
        if training.number + 1 == number:
            act()
        return real(training, batches, ranks)

    monkeypatch.setattr(runner, "step_once", step_once)


def test_a_run_folder_that_is_moved_under_its_training_takes_everything_along(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also its drawings; and nothing is written under the old name."""
    (tmp_path / "archive").mkdir()
    at_step(monkeypatch, 4, lambda: (tmp_path / "run").rename(tmp_path / "archive/moved"))
    said = gankit("run", "began", *TINY, "--sample-every", 2, "--checkpoint-every", 2, "--out", "run")
    assert said.code == 0
    assert "was moved: the training goes on in" in said.out
    assert not (tmp_path / "run").exists()
    moved = tmp_path / "archive/moved"
    assert checkpoints(moved) == [0, 2, 4, 6]
    assert [line["step"] for line in lines(moved)] == [1, 2, 3, 4, 5, 6]
    assert read(moved / "result.json")["outcome"] == "finished"
    assert (moved / "report.html").exists()
    assert str(moved) in said.out.splitlines()[-1]
    assert gankit("resume", moved, "--steps", 7).code == 0


@undrawn
@pytest.mark.parametrize("how", ["deleted", "deleted, and another is in its place"])
def test_a_run_folder_that_is_deleted_under_its_training_ends_it_in_one_line(
    how: str, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete() -> None:
        shutil.rmtree(tmp_path / "run")
        if how != "deleted":
            (tmp_path / "run").mkdir()
            (tmp_path / "run/thesis.txt").write_text("somebody else's")

    at_step(monkeypatch, 4, delete)
    said = gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "run")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "was deleted under its training" in line
    left = contents(tmp_path / "run") if how != "deleted" else {}
    assert list(left) == ([] if how == "deleted" else ["thesis.txt"])
    assert (tmp_path / "run").exists() == (how != "deleted")


# A settings file runs no code.


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_settings_file_alone_loads_no_plugin(command: str, gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("open('it-ran', 'w').close()\n")
    (tmp_path / "settings.toml").write_text(f'data = "demo:60"\nplugins = ["{tmp_path}/theirs.py"]\n')
    models = ["began"] if command == "run" else ["began", "ebgan"]
    said = gankit(command, *models, "--config", "settings.toml", "--out", "out")
    refused(said, "settings.toml names plugins", f"--plugin {tmp_path}/theirs.py")
    assert not (tmp_path / "it-ran").exists()
    assert not (tmp_path / "out").exists()


def test_the_flag_loads_it(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("open('it-ran', 'w').close()\n")
    (tmp_path / "settings.toml").write_text('plugins = ["mine.py"]\nimage_size = 3\n')
    refused(
        gankit("run", "began", "--config", "settings.toml", "--plugin", "mine.py", "--data", "demo:60"),
        "--image-size 3",
    )
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "a = " + "9" * 5000, 'data = "a\\u0000b"', "a = 1\n\0"])
def test_an_odd_settings_file_is_refused_in_one_line(text: str, gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(text)
    refused(gankit("run", "began", "--config", "odd.toml"))


def commands_of(page: Path) -> list[list[str]]:
    """The words of every command line on a page, as a shell takes them."""
    texts = re.findall(r"<code>(gankit .*?)</code>", page.read_text(encoding="utf-8"), re.S)
    return [shlex.split(html.unescape(re.sub("<[^>]*>", "", text))) for text in texts]


CLUSTER = "--ray 203.0.113.5:6379 --ray=203.0.113.6:6379"  # which would be sent code, and answer with code
THEIRS = f"gankit run began --plugin theirs.py --plugin=more.py {CLUSTER} --data demo; touch it-ran"


def test_no_command_of_a_report_takes_a_plugin_from_a_strangers_files(gankit: Gankit, run: Path) -> None:
    settings = read(run / "config.json")
    assert settings["plugins"] == []
    (run / "config.json").write_text(json.dumps(settings | {"plugins": ["theirs.py"]}))
    (run / "environment.json").write_text(json.dumps(read(run / "environment.json") | {"command": THEIRS}))
    hidden = {"why": "it helps", "arguments": ["--plugin", "theirs.py", "--gamma", "0.7"], "new_run": False}
    again = {"why": "once more", "arguments": ["--gamma", "0.6"], "new_run": True}
    alarm = {"step": 8, "diagnostic": "d", "kind": "k", "severity": "critical", "message": "ill", "action": "none"}
    (run / "alarms.jsonl").write_text(json.dumps(alarm | {"remedies": [hidden, again]}) + "\n")
    assert gankit("report", run).code == 0
    told = commands_of(run / "report.html")
    assert ["gankit", "resume", str(run), "--steps", "500"] in told
    assert ["gankit", "run", "began", "--data", "demo;", "touch", "it-ran"] in told  # words, that start nothing
    assert any("0.6" in words for words in told)
    assert not any("theirs.py" in word or "more.py" in word for words in told for word in words)
    assert "name the plugin theirs.py: code, which the commands here leave out" in (run / "report.html").read_text()
    refused(gankit("run", "began", "--config", run / "config.json"), "--plugin theirs.py if you trust them")


@undrawn
def test_a_resume_keeps_no_plugin_that_only_the_run_names(gankit: Gankit, run: Path) -> None:
    (run / "config.json").write_text(json.dumps(read(run / "config.json") | {"plugins": ["theirs.py"]}))
    said = gankit("resume", run, "--steps", 10)
    assert said.code == 0
    assert "theirs.py" not in said.out
    assert read(run / "config.json")["plugins"] == []


def test_no_command_of_a_comparison_takes_a_plugin_from_a_strangers_file(gankit: Gankit, compared: Path) -> None:
    told = read(compared / "comparison.json")
    (compared / "comparison.json").write_text(json.dumps(told | {"command": THEIRS.replace("run", "compare")}))
    assert gankit("report", compared).code == 0
    words = commands_of(compared / "report.html")
    assert ["gankit", "compare", "began", "--data", "demo;", "touch", "it-ran", "--out", str(compared)] in words
    assert not any(one in word for each in words for word in each for one in ("theirs.py", "more.py", "203.0"))
    assert "name the plugins theirs.py, more.py: code" in (compared / "report.html").read_text()


# Two processes and one run folder.


@undrawn
def test_a_second_resume_reads_nothing_before_the_first_one_has_let_go(
    gankit: Gankit, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a resume that chose its step and then waited moved the first one's results into abandoned/."""
    from gankit import api
    from gankit.runs.lock import locked

    real, seen = api.checkpoint.choose, []

    def choose(made: Any, step: Any = None) -> int:
        with pytest.raises(UserError, match="being trained by another process"), locked(made):
            pass
        seen.append(made.lock_path.exists())
        return int(real(made, step))

    monkeypatch.setattr(api.checkpoint, "choose", choose)
    assert gankit("resume", run, "--steps", 10).code == 0
    assert seen == [True]
    assert not (run / "abandoned").exists()


def test_to_look_at_runs_does_not_keep_one_from_being_resumed(gankit: Gankit, run: Path) -> None:
    from filelock import FileLock

    (run / "result.json").unlink()
    (run / ".lock").touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            with suppress(FileNotFoundError), open(run / ".lock") as file:  # as `gankit runs` does
                fcntl.flock(file, fcntl.LOCK_SH)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        from gankit.runs.lock import locked

        for _ in range(20):
            (run / ".lock").touch()
            with locked(Run(run)):
                pass
            (run / ".lock").touch()
    finally:
        stop.set()
        looking.join()
    with FileLock(run / ".lock"):
        assert "training" in gankit("runs", run.parent).out
    (run / ".lock").touch()
    assert "broken off" in gankit("runs", run.parent).out


# A failing output must not end a training.


def gankit_in_a_shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = f"set -o pipefail; {command.replace('GANKIT', f'{shlex.quote(sys.executable)} -m gankit')}"
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "command",
    ["GANKIT run began OPTIONS | head -n 1", "GANKIT run began OPTIONS > /dev/full", "GANKIT run began OPTIONS >&-"],
    ids=["a reader that goes", "a full disk", "closed"],
)
def test_a_training_goes_on_when_nobody_can_read_what_it_prints(command: str, tmp_path: Path) -> None:
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    options = shlex.join([*TINY, "--checkpoint-every", "3", "--out", "run"])
    done = gankit_in_a_shell(command.replace("OPTIONS", options), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    result = read(tmp_path / "run/result.json")
    assert (result["outcome"], result["steps"]) == ("finished", 6)
    if ">&-" not in command:
        assert result["output"].startswith("lost: ")
    assert checkpoints(tmp_path / "run")[-1] == 6
    assert (tmp_path / "run/report.html").exists()


# Odd JSON in a run folder.

DEEP = "[" * 5000
ODD = {
    "a number": "7",
    "a list": "[1, 2]",
    "nested without end": DEEP,
    "nested and closed": DEEP + "]" * 5000,
    "NaN": '{"model": {"name": NaN}, "steps": NaN}',
    "half a character": '{"model": {"name": "\\ud800"}}',
    "five thousand digits": '{"model": {"name": "began"}, "steps": %s}' % ("9" * 5000),
    "no UTF-8": b"\xff\xfe{}",
    "empty": "",
    "a model that is a text": '{"model": "began"}',
    "values of other kinds": '{"model": {"name": [1]}, "data": {"a": 1}, "steps": "many", "plugins": 3}',
    "steps that are none": '{"model": {"name": "began"}, "steps": -1, "diagnostics": [], "history": {}, "outcome": 3}',
}
PARTS = (
    "config.json",
    "environment.json",
    "data.json",
    "result.json",
    "metrics.jsonl",
    "alarms.jsonl",
    "rescues.jsonl",
)


def test_a_run_folder_that_nobody_may_read_is_named(
    gankit: Gankit, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Regression: it was missing among the runs without a word."""
    shutil.copytree(run, tmp_path / "locked")
    listing = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("locked"):  # root may read everything, so its mode would not show it
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    said = gankit("runs", tmp_path)
    assert said.code == 0
    assert str(run) in said.out
    assert f"cannot be read: {tmp_path}/locked: cannot be read: permission denied" in said.out
    rows = json.loads(gankit("runs", tmp_path, "--json").out)["runs"]
    assert [row["path"] for row in rows] == [str(run), f"{tmp_path}/locked"]


def test_a_value_of_kilobytes_is_told_shortened(gankit: Gankit, tmp_path: Path) -> None:
    for value in ("9" * 6000, "x" * 6000, "a b " * 2000):
        for arguments in (("--gamma", value), ("--set", f"filters={value}"), ("--loss", f"edges={value}")):
            said = gankit("run", "began", "--data", "demo:60", *arguments, "--out", "out")
            refused(said)
            assert len(said.err) < 3100
            (tmp_path / "mine.toml").write_text(f"steps = '{value}'")
            refused(said := gankit("run", "began", "--data", "demo:60", "--config", "mine.toml", "--out", "out"))
            assert len(said.err) < 3100
    deep = tmp_path / "/".join(["a-folder-of-a-long-name"] * 10)
    refused(gankit("report", deep), str(deep))  # and a path is told as it is


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_odd_json_in_one_run_folder_leaves_the_other_listed_and_ends_in_one_line(
    content: str | bytes, gankit: Gankit, run: Path, tmp_path: Path
) -> None:
    for parts in (PARTS[:1], PARTS[1:]):
        odd = tmp_path / "odd"
        shutil.copytree(run, odd)
        for part in parts:
            (odd / part).write_bytes(content if isinstance(content, bytes) else content.encode() + b"\n")
        listed = gankit("runs", tmp_path)
        assert listed.code == 0
        assert str(run.name) in listed.out
        for command in ("report", "sample"):
            said = gankit(command, odd)
            assert said.code in (0, 2), (command, said.err)
            assert said.code == 0 or said.err.count("\n") == 1, (command, said.err)
        shutil.rmtree(odd)


@undrawn
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("result.json", {"images_per_second": 10**400, "seconds": 10**400}),
        ("data.json", {"shape": [[], 16, 16]}),
        ("metrics.jsonl", {"step": 8, "score": 10**400, "loss/generator": 10**400}),
        ("readings.jsonl", {"step": 8, "mode-collapse/variety": 10**400, "reconstruction-errors/w2": -(10**400)}),
    ],
    ids=["a result", "a shape", "metrics", "readings"],
)
def test_a_number_that_no_float_holds_and_a_list_in_its_place_are_unknown(
    name: str, values: dict[str, Any], gankit: Gankit, run: Path
) -> None:
    """Regression: tracebacks that mutated files found."""
    if name.endswith(".json"):
        (run / name).write_text(json.dumps(read(run / name) | values))
    else:
        with open(run / name, "a") as file:
            file.write(json.dumps(values) + "\n")
    assert gankit("runs", run).code == 0
    assert gankit("report", run).code == 0


def test_a_json_file_of_no_reasonable_size_is_not_read(
    gankit: Gankit, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gankit.files.OBJECT", 100)
    assert "has 0 MB: gankit wrote no such file" in gankit("sample", run).err
    assert "gankit wrote no such file" in gankit("runs", run).out


def test_a_line_without_end_is_no_line(gankit: Gankit, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankit.files.LINE", 1 << 12)
    before = gankit("runs", "--json", run).out
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as lines:
        lines.write('{"step": 999999, "long": "%s"}\n' % ("x" * (1 << 13)))
    assert gankit("runs", "--json", run).out == before


# Sizes without measure.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", "filters=1000000"], ("need 13,", "GB", "--set filters=N")),
        (["--set", "latent=100000000000"], ("need 5,", "GB")),
        (["--set", "strided-autoencoder.mapping=1000000000"], ("mapping=1000000000 is refused", "[0, 100]")),
        (["--set", "filters=99999999999999999999"], ("filters has a number of 67 bits",)),
        (["--seed", "99999999999999999999"], ("seed has a number of 67 bits",)),
        (["--batch-size", "9" * 5000], ("--batch-size",)),
        (["--batch-size", "1000000000"], ("fewer than a batch",)),
        (["--image-size", "1000000000"], ("--image-size",)),
        (["--set", "mode-collapse.pictures=1000000000"], ("pictures=1000000000 is refused",)),
        (["--data", "demo:9999999"], ("not a number of pictures",)),
    ],
    ids=lambda value: value[-1][:30] if isinstance(value, list) else "",
)
def test_a_size_without_measure_is_refused_before_memory_is_taken(
    flags: list[str], words: tuple[str, ...], gankit: Gankit, tmp_path: Path
) -> None:
    with few_bytes(1 << 30):
        refused(gankit("run", "began", *DATA, "--out", "out", *flags), *words)
    assert not (tmp_path / "out").exists()


@contextmanager
def few_bytes(more: int) -> Iterator[None]:
    """This process may take only so many bytes more of address space, beyond its libraries."""
    import gankit.api  # noqa: F401

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_training_that_does_not_fit_into_memory_is_refused_in_one_line(gankit: Gankit, tmp_path: Path) -> None:
    large = ("--data", "demo:2000", "--image-size", "64", "--batch-size", "1700", "--set", "filters=64")
    with few_bytes(1 << 29):
        refused(gankit("run", "began", *large, "--out", "out"), "does not fit into memory", "--batch-size")
    assert not (tmp_path / "out").exists()


def test_a_machine_without_the_memory_to_start_is_told_so_in_one_line(tmp_path: Path) -> None:
    done = gankit_in_a_shell("ulimit -v 1000000; GANKIT run began --data demo:60 --out run", tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "not enough memory" in done.stderr


# Named pipes and devices, which never end.


@undrawn
@pytest.mark.parametrize(
    "names",
    [
        ("config.json",),
        (".lock",),
        ("environment.json", "data.json", "metrics.jsonl", "alarms.jsonl", "samples/000008.png", "report.html"),
        ("result.json", "traceback.txt", "neighbours.png", "checkpoints/000008/state.json"),
        ("checkpoints/000008/networks.safetensors",),
    ],
    ids=lambda names: names[0],
)
def test_a_named_pipe_in_a_run_folder_keeps_no_command_waiting(
    names: tuple[str, ...], gankit: Gankit, run: Path
) -> None:
    for name in names:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    for command in (
        ("runs", run.parent),
        ("report", run),
        ("animate", run),
        ("sample", run),
        ("resume", run, "--steps", 9),
    ):
        with soon():
            said = gankit(*command)
        assert said.code in (0, 2), said
        assert len(said.err.splitlines()) == (said.code == 2)


@contextmanager
def soon(seconds: int = 60) -> Iterator[None]:
    """Raise `TimeoutError` in what waits for ever."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_named_pipe_named_on_the_command_line_keeps_nothing_waiting(
    gankit: Gankit, run: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with soon():
        refused(gankit("run", "began", "--config", "pipe"), "is no ordinary file")
        refused(gankit("invert", run, "pipe"), "ordinary file")
        refused(gankit("run", "began", "--data", "pipe"))


# Text that steers a terminal.

ESCAPES = "\x1b]0;stolen\x07\x1b[2J\x9b31m\u202egnp\u2028"


def harmless(said: Said) -> None:
    """Nothing in what was said steers a terminal."""
    for character in (said.out + said.err).replace("\n", "").replace("\t", ""):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), ascii(said)


@undrawn
def test_names_of_pictures_do_not_steer_the_terminal(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for n in range(9):
        Image.effect_noise((16, 16), 20 + n).save(tmp_path / f"pictures/{n}.png")
    (tmp_path / f"pictures/{ESCAPES}.png").write_bytes(b"no picture")
    said = gankit("run", "began", *TINY, "--data", "pictures", "--out", "run")
    assert said.code == 0
    harmless(said)
    assert "\\u001b]0;stolen" in said.out


def test_a_strangers_run_folder_does_not_steer_the_terminal(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    for name, key in (("config.json", "data"), ("environment.json", "device"), ("result.json", "outcome")):
        (run / name).write_text(json.dumps(read(run / name) | {key: ESCAPES}))
    config = read(run / "config.json")
    (run / "config.json").write_text(json.dumps(config | {"model": config["model"] | {"name": f"began{ESCAPES}"}}))
    listed = gankit("runs", tmp_path)
    harmless(listed)
    assert "began\\u001b]0;stolen" in listed.out
    as_json = gankit("runs", "--json", tmp_path)
    harmless(as_json)
    assert json.loads(as_json.out)["runs"][0]["model"] == f"began{ESCAPES}"
    for command in (("resume", run), ("sample", run), ("report", run), ("evaluate", run), ("invert", run, "x.png")):
        harmless(gankit(*command))
    (tmp_path / "s.toml").write_text(f"data = {json.dumps(ESCAPES)}\nmodel = {{ {json.dumps(ESCAPES)} = 1 }}\n")
    harmless(gankit("run", "began", "--config", "s.toml"))
    harmless(gankit("run", ESCAPES, "--data", ESCAPES, "--set", f"{ESCAPES}={ESCAPES}"))
    harmless(gankit(ESCAPES))


def test_one_place_prints() -> None:
    """`say` makes all text printable; progress also prints beside its live display, through the same function."""
    bare = ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write")
    prints = set()
    for source in (ROOT / "gankit").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in bare:
                prints.add(source.relative_to(ROOT).as_posix())
    assert {name for name in prints if "templates" not in name} == {"gankit/cli/__init__.py"}


def test_japanese_names_are_shown_as_they_are() -> None:
    from gankit.cli import printable

    assert printable("いらすとや　絵.png ñ é 👩‍🎨".replace("\u200d", "")) == "いらすとや　絵.png ñ é 👩🎨"
    assert printable("\ud800\U000e0001\x7f") == "\\ud800\\udb40\\udc01\\u007f"


# Damage that a resume finds.


@undrawn
def test_damaged_lines_are_kept_aside_and_told(gankit: Gankit, run: Path) -> None:
    """Regression: they vanished."""
    whole = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damaged = [whole[2][:20] + b"\n", b"\xff\xfe of a broken disk\n"]
    (run / "metrics.jsonl").write_bytes(b"".join([*whole[:2], *damaged, *whole[3:], b'{"step": 9, "cut o']))
    said = gankit("resume", run, "--steps", 10)
    assert said.code == 0
    assert "warning: 2 damaged lines of metrics.jsonl: kept in metrics.jsonl.damaged" in said.out
    assert (run / "metrics.jsonl.damaged").read_bytes() == b"".join(damaged)
    assert [line["step"] for line in lines(run)] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert "damaged line" not in gankit("resume", run, "--steps", 11).out


@undrawn
def test_a_cache_that_is_cut_short_under_a_training_ends_it_in_one_line(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it ended in SIGBUS."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    at_step(monkeypatch, 4, lambda: [os.truncate(path, 5000) for path in (tmp_path / "cache").rglob("*.npy")])
    said = gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "run")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "was cut short by another program" in line
    assert checkpoints(tmp_path / "run")[-1] == 2
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    assert gankit("resume", "run").code == 0
    assert checkpoints(tmp_path / "run")[-1] == 6


@undrawn
def test_what_killed_processes_left_half_written_is_removed_and_nothing_else(gankit: Gankit, run: Path) -> None:
    half = [run / ".0123abcd.config.json", run / ".89abcdef.report.html", run / "samples/.01234567.000004.png"]
    half += [run / f".01234567.{name}" for name in ("share.html", "scores.csv", "scores.png")]
    kept = [run / ".0123abcd.thesis.txt", run / ".config.json", run / "samples/.hidden", run / "0123abcd.config.json"]
    for path in (*half, *kept):
        path.write_text("x")
    assert gankit("resume", run, "--steps", 9).code == 0
    assert not any(path.exists() for path in half)
    assert all(path.read_text() == "x" for path in kept)


@undrawn
def test_files_of_a_checkpoint_are_as_readable_as_others(gankit: Gankit, run: Path) -> None:
    before = os.umask(0o027)
    try:
        assert gankit("resume", run, "--steps", 9).code == 0
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (run / "checkpoints/000009").iterdir()}
    assert modes == {0o640}


# Names that are not UTF-8.


@undrawn
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_names_that_are_not_utf_8_end_in_one_line_or_in_a_whole_run(locale: str, tmp_path: Path) -> None:
    pictures = os.fsencode(tmp_path) + b"/\xe9\xff"
    os.mkdir(pictures)
    for n in range(9):
        Image.effect_noise((16, 16), 20 + n).save(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", pictures + b"/\xfe%d.png" % n)
    shutil.copytree(pictures, os.fsencode(tmp_path) + "/絵é".encode())
    few = shlex.join([*TINY[4:], "--steps", "1", "--checkpoint-every", "1"])
    for data, out, code in (("$'\\xe9\\xff'", "run", 2), ("絵é", "$'o\\xff'", 2), ("絵é", "ö", 0)):
        command = f"export LC_ALL={locale}; GANKIT run began --image-size 16 {few} --data {data} --out {out}"
        done = gankit_in_a_shell(command, tmp_path)
        assert done.returncode == code, done
        assert len(done.stderr.splitlines()) == (code == 2), done.stderr
        assert code == 0 or "is not UTF-8" in done.stderr
    assert sorted(os.listdir(os.fsencode(tmp_path))) == sorted([b"\xe9\xff", "絵é".encode(), "ö".encode()])
    assert checkpoints(tmp_path / "ö") == [0, 1]


@undrawn
def test_a_run_that_was_moved_to_a_name_that_is_not_utf_8_is_no_damaged_one(gankit: Gankit, run: Path) -> None:
    """Regression: its last checkpoint was called damaged, and another one recommended."""
    there = Path(os.fsdecode(os.fsencode(run) + b"\xff"))
    run.rename(there)
    assert gankit("sample", there, "-n", 1).code == 0
    assert (there / "sample.png").exists()
    refused(gankit("resume", there, "--steps", 9), "the name is not UTF-8: rename it")
    assert gankit("resume", there, "--steps", 9, "--out", "readable").code == 0


def test_tensors_that_are_put_in_place_of_checked_ones_are_not_read(
    gankit: Gankit, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gankit("sample", run, "-n", 4, "--out", "before.png").code == 0

    def swapping(root: Path, path: str | Path, *more: int) -> int:
        """Open a file, and let another program put that of another checkpoint in its place."""
        descriptor = opened(root, path, *more)
        if Path(path).name == "averaged.safetensors":
            shutil.copyfile(run / "checkpoints/000000/averaged.safetensors", tmp_path / "other")
            os.replace(tmp_path / "other", path)
        return descriptor

    monkeypatch.setattr(checkpoint, "opened", swapping)
    assert gankit("sample", run, "-n", 4, "--out", "after.png").code == 0
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()
    refused(gankit("sample", run, "-n", 4), "averaged.safetensors is not what was written")
