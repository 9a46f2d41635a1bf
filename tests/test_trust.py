"""What a stranger's folder cannot do: run anything, reach anything besides itself, or have anything deleted."""

from __future__ import annotations

import ast
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Gankit, checkpoints, contents, refused
from PIL import Image

undrawn = pytest.mark.usefixtures("undrawn")


def keepsakes(folder: Path) -> dict[str, str]:
    """Fill a folder with what a user would miss, and return what is in it."""
    for name in (".git/HEAD", ".ssh/id_ed25519", ".config/settings", ".000004.12/diary.txt", "letters/one.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the only copy of {name}")
    return contents(folder)


# Nothing that gankit did not make is deleted.


@undrawn
def test_a_resume_deletes_no_folder_that_it_did_not_make(gankit: Gankit, run: Path) -> None:
    before = keepsakes(run / "checkpoints")
    assert gankit("resume", run, "--steps", 16).code == 0
    there = contents(run / "checkpoints")
    mine = {name: hash for name, hash in before.items() if not name.startswith("0000")}
    assert mine.items() <= there.items()


@undrawn
def test_what_a_killed_process_left_half_made_is_removed(gankit: Gankit, run: Path) -> None:
    half = run / "checkpoints/.000010.4711"
    half.mkdir()
    for name in ("networks.safetensors", ".4711.state.json"):
        (half / name).write_bytes(b"half")
    assert gankit("resume", run, "--steps", 10).code == 0
    assert not half.exists()


@undrawn
def test_a_link_among_what_was_left_is_neither_followed_nor_removed(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = keepsakes(home)
    (home / "state.json").write_text("not a checkpoint's")
    (run / "checkpoints/.000010.4711").symlink_to(home)
    (run / "checkpoints/000001").symlink_to(home)
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
@pytest.mark.parametrize("command", ["resume", "sample"])
def test_checkpoints_that_are_a_link_are_refused(command: str, gankit: Gankit, run: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (run / "checkpoints").rename(home)
    before = keepsakes(home)
    (run / "checkpoints").symlink_to(home)
    more = ("--steps", 10) if command == "resume" else ()
    refused(gankit(command, run, *more), "checkpoints is a link")
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
    """A `gs` on the path that leaves a trace when it is started."""
    trace = tmp_path / "started"
    program = tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for anew
    return trace


def test_the_trap_works(ghostscript: Path, tmp_path: Path) -> None:
    """Pillow would start it: the other tests can fail."""
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
    root = Path(__file__).parent.parent
    opened = []
    for source in (path for part in ("gankit", "plugins", "examples") for path in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
                opened.append(f"{source}:{node.lineno}")
                assert "formats" in {keyword.arg for keyword in node.keywords}, opened[-1]
    assert opened
