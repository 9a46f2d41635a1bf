"""The promises of a checkpoint: whole or absent, verified, never pickle, and the last three stay."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Gankit, checkpoints, contents, lines, read, refused, strict_json, weights

pytestmark = pytest.mark.usefixtures("undrawn")

FILES = ["averaged.safetensors", "networks.safetensors", "state.json", "training.safetensors"]


def test_a_checkpoint_is_safetensors_and_json_and_no_pickle(finished: Path) -> None:
    from safetensors import safe_open

    for step in checkpoints(finished):
        folder = finished / "checkpoints" / f"{step:06d}"
        assert sorted(path.name for path in folder.iterdir()) == FILES
        for path in folder.glob("*.safetensors"):
            size = int.from_bytes(path.read_bytes()[:8], "little")
            strict_json(path.read_bytes()[8 : 8 + size].decode())  # the header that tells where each tensor lies
            with safe_open(path, "pt") as file:
                assert list(file.keys())


def test_tied_weights_are_saved_each_under_its_name(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from gankit.training.checkpoint import apart

    weight = torch.rand(3, 3)
    save_file(apart({"one": weight, "two": weight, "row": weight[1]}), tmp_path / "tied")
    loaded = load_file(tmp_path / "tied")
    assert torch.equal(loaded["one"], weight)
    assert torch.equal(loaded["two"], weight)
    assert torch.equal(loaded["row"], weight[1])


def test_a_checkpoint_states_its_step_and_a_checksum_of_each_file(finished: Path) -> None:
    import hashlib

    folder = finished / "checkpoints/000008"
    state = read(folder / "state.json")
    assert state["step"] == 8
    assert state["sha256"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")
    }


def test_everything_stateful_is_in_it(finished: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(finished / "checkpoints/000008/training.safetensors")
    names = "\n".join(tensors)
    for network in ("generator", "discriminator"):
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert re.search(rf"^optimizer/{network}/0/{moment}$", names, re.MULTILINE)
    assert 0 < tensors["controller/balance/k"] <= 1
    assert "controller/halving/scale" in tensors
    assert "vitals" in read(finished / "checkpoints/000008/state.json")["diagnostics"]


def test_the_last_three_are_kept_and_the_last_that_was_found_healthy(finished: Path) -> None:
    """No diagnostic looks within so few steps: only the checkpoint before the first step counts as healthy."""
    assert checkpoints(finished) == [0, 4, 6, 8]


def test_a_resumed_run_keeps_them_as_well(gankit: Gankit, run: Path) -> None:
    assert gankit("resume", run, "--steps", 13).code == 0
    assert checkpoints(run) == [0, 10, 12, 13]


def test_what_is_found_healthy_later_takes_the_place_of_what_was_kept(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--steps", 56, "--checkpoint-every", 10, "--out", "run").code == 0
    assert checkpoints(tmp_path / "run") == [40, 50, 56]  # vitals look after 50 steps


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["a flipped byte", "cut short", "gone"])
def test_a_damaged_checkpoint_is_refused_and_another_one_named(
    name: str, damage: str, gankit: Gankit, run: Path
) -> None:
    path = run / "checkpoints/000008" / name
    there = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(there[: len(there) // 2])
    else:
        there[there.index(b'"step": 8') + 8 if name == "state.json" else -1] ^= 1
        path.write_bytes(there)
    before = contents(run)
    refused(gankit("resume", run, "--steps", 10), "000008", "damaged", "--from 6")
    assert contents(run) == before
    assert gankit("resume", run, "--from", 6, "--steps", 10).code == 0
    assert lines(run)[-1]["step"] == 10


def test_a_damaged_checkpoint_is_not_sampled_from(gankit: Gankit, run: Path) -> None:
    path = run / "checkpoints/000008/averaged.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    refused(gankit("sample", run), "damaged", "--from 6")
    assert gankit("sample", run, "--from", 6, "-n", 1).code == 0


def test_a_run_without_checkpoints_says_so(gankit: Gankit, run: Path) -> None:
    import shutil

    shutil.rmtree(run / "checkpoints")
    refused(gankit("resume", run), "no checkpoint")
    refused(gankit("sample", run), "no checkpoint")


def failing(
    monkeypatch: pytest.MonkeyPatch, at: int, calls_in_all: float = math.inf, error: int = errno.ENOSPC
) -> None:
    """Let the writing of tensors fail as on a full disk, halfway through the file, from call number `at` on."""
    from gankit.training import checkpoint

    real, calls = checkpoint.save_file, []

    def save_file(tensors: Any, path: Path) -> None:
        calls.append(path)
        if at <= len(calls) < at + calls_in_all:
            path.write_bytes(b"half")
            raise OSError(error, os.strerror(error))
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", save_file)


@pytest.mark.parametrize("at", [7, 8, 9], ids=["first file", "second file", "third file"])
def test_a_crash_while_saving_leaves_the_earlier_ones_whole(
    at: int, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files a checkpoint: 000000 and 000002 are written, and then no more."""
    assert gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "whole").code == 0
    with monkeypatch.context() as patch:
        failing(patch, at)
        said = gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "run")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "No space left" in line
    assert "gankit resume run" in line
    run = tmp_path / "run"
    result = read(run / "result.json")
    assert (result["outcome"], result["steps"]) == ("failed", 6)
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5, 6]  # the training went on as long as it could
    assert "cannot be written" in said.out
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert [step for step in range(7) if (run / f"checkpoints/{step:06d}").exists()] == [0, 2]

    assert gankit("resume", "run").code == 0
    assert weights(run, 6) == weights(tmp_path / "whole", 6)
    assert read(run / "result.json")["outcome"] == "finished"
    assert checkpoints(run) == [0, 2, 4, 6]  # and nothing half-written


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT], ids=["a full disk", "a quota"])
def test_a_disk_that_is_full_for_a_while_costs_a_checkpoint_and_nothing_else(
    error: int, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """000004 fails; it is tried again at the next line."""
    assert gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "whole").code == 0
    with monkeypatch.context() as patch:
        failing(patch, 8, 1, error)
        said = gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "run")
    assert said.code == 0
    assert os.strerror(error) in said.out
    assert "step 5 is saved: there is room again" in said.out
    assert weights(tmp_path / "run", 6) == weights(tmp_path / "whole", 6)
    assert checkpoints(tmp_path / "run") == [0, 2, 5, 6]


@pytest.mark.parametrize("full", [(3, 5), (2, 100)], ids=["for a while", "to the end"])
def test_lines_that_a_full_disk_does_not_take_wait_and_none_is_torn(full: tuple[int, int], tmp_path: Path) -> None:
    from gankit.files import Lines

    real, calls = os.write, []

    def write(descriptor: int, content: bytes) -> int:
        calls.append(content)
        if full[0] <= len(calls) < full[1]:
            if len(calls) == full[0]:
                return real(descriptor, content[:3])  # a size that still fits
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    path = tmp_path / "lines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        lines = Lines(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        for n in range(6):
            with suppress(OSError):
                lines.write(f'{{"step": {n}}}\n')
        lines.close()
    whole = "".join(f'{{"step": {n}}}\n' for n in range(6))
    assert whole.startswith(path.read_text())
    assert (path.read_text() == whole) == (full[1] < 100)


def test_a_crash_while_the_first_is_saved_is_told_in_one_line(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 2)
    said = gankit("run", "began", *TINY, "--out", "run")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "No space left" in line
    assert read(tmp_path / "run/result.json")["outcome"] == "failed"
    assert not (tmp_path / "run/checkpoints/000000").exists()


def test_a_failed_resume_says_failed_and_can_be_resumed(
    gankit: Gankit, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, 2)
        assert gankit("resume", run, "--steps", 12).code == 1
    assert read(run / "result.json")["outcome"] == "failed"
    assert gankit("resume", run, "--steps", 12).code == 0
    assert [line["step"] for line in lines(run)] == list(range(1, 13))
    assert read(run / "result.json")["outcome"] == "finished"


def test_a_checkpoint_of_a_newer_gankit_is_refused(gankit: Gankit, run: Path) -> None:
    path = run / "checkpoints/000008/state.json"
    path.write_text(json.dumps({**read(path), "format": 99}))
    refused(gankit("resume", run, "--steps", 10), "000008")
