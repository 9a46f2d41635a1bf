"""A training that is killed at any file operation goes on, loses nothing, and ends as an unbroken one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Gankit, checkpoints, quietly, read, timeless, weights

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

# The best score is early: its checkpoint must outlive the rotation, and every kill.
SCORES = {2: 0.3, 4: 0.9, 6: 0.2, 8: 0.5, 10: 0.1, 12: 0.4}
STEPS = (*TINY, "--steps", 12, "--sample-every", 6, "--checkpoint-every", 2)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")
KILLED = 137


@pytest.fixture(autouse=True)
def _scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankit.training.diagnose.score", lambda line: SCORES.get(line["step"]))


def killed_at(place: int, folder: Path, *command: object) -> tuple[int, int]:
    """Run a command in a process that dies at its file operation number `place` below `folder`, a write half done.

    Returns the exit code and the number of operations; `place` 0 never comes.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        with os.fdopen(reads) as told:
            count = told.read()
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status), int(count or 0)
    code = 1
    try:
        os.close(reads)
        done, real = [0], os.write

        def counted() -> None:
            done[0] += 1
            if done[0] == place:
                os._exit(KILLED)

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
            if (opened or event in EVENTS) and isinstance(arguments[0], str | os.PathLike):
                path = os.path.abspath(arguments[0])
                if path.startswith(str(folder)) or (opened and not os.path.isabs(arguments[0])):
                    counted()

        def write(descriptor: int, data: bytes) -> int:
            if done[0] + 1 == place:
                real(descriptor, data[: len(data) // 2])
            counted()
            return real(descriptor, data)

        sys.addaudithook(watch)
        os.write = write  # type: ignore[assignment]
        code = quietly(*command, cwd=folder)
        real(writes, str(done[0]).encode())
    finally:
        os._exit(code)


def places(count: int, few: int, every: bool) -> Iterator[int]:
    """All of the operations, or a few of them, spread evenly."""
    yield from range(1, count + 1) if every else sorted({1 + n * (count - 1) // (few - 1) for n in range(few)})


EVERY = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])


def whole(run: Path, unbroken: Path) -> None:
    """The run ended as the unbroken one did, the checkpoint with the best score is there, and nothing half-made."""
    assert read(run / "result.json")["outcome"] == "finished"
    assert weights(run, 12) == weights(unbroken, 12)
    assert timeless(run) == timeless(unbroken)
    assert checkpoints(run) == checkpoints(unbroken) == [0, 4, 8, 10, 12]
    assert read(run / "checkpoints/000012/state.json")["best"] == [4, 0.9]
    assert [path for path in run.rglob(".*")] == []


@EVERY
def test_a_training_that_is_killed_at_a_file_operation_ends_as_an_unbroken_one(
    every: bool, gankit: Gankit, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Before the run folder stands, the same command begins again; after that, a resume goes on, or begins."""
    assert gankit("run", "began", *STEPS, "--out", "unbroken").code == 0
    home = tmp_path / "counted"
    home.mkdir()
    code, count = killed_at(0, home, "run", "began", *STEPS, "--out", "run")
    assert (code, count > 60) == (0, True)
    for place in places(count, 6, every):
        record_property("kills tried", 1)
        home = tmp_path / f"killed-{place}"
        home.mkdir()
        assert killed_at(place, home, "run", "began", *STEPS, "--out", "run")[0] == KILLED
        again = ("resume", home / "run") if (home / "run").exists() else ("run", "began", *STEPS, "--out", home / "run")
        said = gankit(*again)
        assert said.code == 0, (place, said)
        whole(home / "run", tmp_path / "unbroken")
        record_property("kills survived", 1)


@EVERY
def test_a_return_to_an_earlier_step_that_is_killed_loses_nothing(
    every: bool, gankit: Gankit, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Pictures and checkpoints on their way to abandoned/ are at one of the two places."""
    assert gankit("run", "began", *STEPS, "--out", "unbroken").code == 0
    back = ("resume", "run", "--from", 8)

    def started(name: str) -> Path:
        home = tmp_path / name
        home.mkdir()
        assert quietly("run", "began", *STEPS, "--out", "run", cwd=home) == 0
        return home

    code, count = killed_at(0, started("counted"), *back)
    assert (code, count > 20) == (0, True)
    for place in places(count, 4, every):
        record_property("kills tried", 1)
        home = started(f"killed-{place}")
        run = home / "run"
        before = weights(run, 12)
        assert killed_at(place, home, *back)[0] == KILLED
        kept = [run / "checkpoints/000012", *(run / "abandoned").glob("*/checkpoints/000012")]
        assert any(folder.is_dir() for folder in kept)
        assert gankit("resume", run).code == 0
        assert weights(run, 12) == before
        assert 4 in checkpoints(run)
        record_property("kills survived", 1)


def test_a_run_that_was_killed_before_its_first_checkpoint_says_so_and_a_resume_begins_it(
    gankit: Gankit, tmp_path: Path
) -> None:
    import shutil

    assert gankit("run", "began", *STEPS, "--out", "unbroken").code == 0
    assert gankit("run", "began", *STEPS, "--steps", 0, "--out", "run").code == 0
    run = tmp_path / "run"
    for name in ("checkpoints", "samples"):
        shutil.rmtree(run / name)
    (run / "result.json").unlink()
    said = gankit("sample", run)
    assert (said.code, "gankit resume" in said.err) == (2, True)
    assert gankit("resume", run, "--steps", 12).code == 0
    assert weights(run, 12) == weights(tmp_path / "unbroken", 12)
    # One whose checkpoints were deleted does not begin again: its lines would be lost.
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    said = gankit("resume", run)
    assert (said.code, "has no checkpoint" in said.err) == (2, True)
    assert (run / "metrics.jsonl").read_bytes() == before
