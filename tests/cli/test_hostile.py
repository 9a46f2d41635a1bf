"""Further attacks: by a stranger's run folder, by a disk, and by whoever deletes what is in use."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, Gankit, checkpoints, contents, lines, read, refused
from test_trust import few_bytes, gankit_in_a_shell

undrawn = pytest.mark.usefixtures("undrawn")


# Pictures of great size in few bytes.


def great(path: Path, side: int) -> None:
    """A PNG of side × side pixels, one bit each: some ten kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize("command", ["report", "animate"])
def test_samples_of_fifty_thousand_pixels_a_side_are_left_out(command: str, gankit: Gankit, run: Path) -> None:
    for step in (8, 9):
        great(run / f"samples/{step:06d}.png", 50_000)
    with few_bytes(1 << 30):
        said = gankit(command, run)
    assert (said.code, said.err) == (0, "")


def test_an_animation_of_large_samples_takes_the_memory_of_a_few(gankit: Gankit, run: Path) -> None:
    """Regression: twelve of 12,000 × 12,000 in 22 kB each took 9 GB, and a warning of Pillow's was printed."""
    for step in range(9, 21):
        great(run / f"samples/{step:06d}.png", 9_000)
    tracemalloc.start()
    with few_bytes(3 << 30):
        said = gankit("animate", run)
    tracemalloc.stop()
    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"filters": 10**6}, "weights need"), ({"latent": 10**10}, "weights need"), ({}, "pictures need")],
    ids=["filters", "latent", "pictures"],
)
def test_what_does_not_fit_into_memory_is_refused_by_the_commands_that_draw(
    changes: Any, words: str, gankit: Gankit, run: Path
) -> None:
    """Regression: torch's own error, or the memory."""
    config = read(run / "config.json")
    (run / "config.json").write_text(json.dumps(config | {"model": config["model"] | changes}))
    for command in (["sample", run, "-n", 10**30], ["interpolate", run, "--frames", 10**9]):
        with few_bytes(1 << 30):
            refused(gankit(*command), words, "GB")


@pytest.mark.parametrize("how", ["cut short", "holes", "too large"])
def test_a_report_leaves_out_a_sample_that_cannot_be_shown_and_names_it(how: str, gankit: Gankit, run: Path) -> None:
    """Regression: a large one of few blocks ended the report, and a damaged one stood in the page."""
    last, whole = run / "samples/000008.png", (run / "samples/000008.png").read_bytes()
    if how == "cut short":
        last.write_bytes(whole[: len(whole) // 2])
    else:
        size = 2_000_000_000 if how == "too large" else 60_000_000
        with open(last, "r+b") as file:
            file.write(whole[:100])
            file.truncate(size)
            file.seek(size // 2)
            file.write(os.urandom(size // 150))  # more than `files.HOLES` asks for
    assert gankit("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "a sample is left out, 000008.png: damaged, or too large for a page" in page
    assert base64.b64encode((run / "samples/000004.png").read_bytes()).decode() in page
    assert gankit("animate", run).code == 0
    for path in (run / "samples").iterdir():
        path.write_bytes(whole[:100])
    refused(gankit("animate", run), "no samples that can be read")
    assert gankit("report", run).code == 0
    assert "samples are left out, the first 000000.png" in (run / "report.html").read_text(encoding="utf-8")


ODD = [7, "3x16x16", ["a", 16, 16], [[3], 16, 16], [3, -16, 16], [3, 16.5, 16], [True, 16, 16], {}, [3, 10**6, 10**6]]


@pytest.mark.parametrize(("key", "value"), [*(("shape", odd) for odd in ODD), ("labels", 5), ("labels", {"a": 1})])
def test_odd_pictures_in_a_strangers_data_json_end_in_one_line(
    key: str, value: object, gankit: Gankit, run: Path
) -> None:
    (run / "data.json").write_text(json.dumps(read(run / "data.json") | {key: value}))
    refused(gankit("sample", run, "-n", 1))
    assert gankit("runs", run).code == 0


def test_a_settings_file_without_a_name_is_refused(gankit: Gankit, tmp_path: Path) -> None:
    refused(gankit("run", "began", "--data", "demo:60", "--config", ""), "--config", "cannot be read")


# A checkpoint whose checksums are right, and whose content is not.


def sealed(folder: Path, tensors: dict[str, Any], **changes: Any) -> None:
    """Write the tensors of training.safetensors, and a state.json with these changes that confirms them."""
    from safetensors.torch import save_file

    from gankit.training.checkpoint import _checksum

    save_file(tensors, folder / "training.safetensors")
    state = read(folder / "state.json")
    state.pop("checksum")
    state["sha256"]["training.safetensors"] = hashlib.sha256((folder / "training.safetensors").read_bytes()).hexdigest()
    state |= changes
    (folder / "state.json").write_text(json.dumps(state | {"checksum": _checksum(state)}))


MOMENT = "optimizer/generator/0/exp_avg"


@undrawn
@pytest.mark.parametrize(
    "how", ["a moment of another shape", "no such weight", "not a number", "no scalar", "another network"]
)
def test_a_checkpoint_of_tensors_that_do_not_fit_is_refused_in_one_line(how: str, gankit: Gankit, run: Path) -> None:
    """Adam's own code reads as much memory as a weight has, whatever a moment's shape."""
    import torch
    from safetensors.torch import load_file

    folder = run / "checkpoints/000008"
    tensors = load_file(folder / "training.safetensors")
    if how == "a moment of another shape":
        tensors[MOMENT] = torch.zeros(1)
    elif how == "no such weight":
        tensors["optimizer/generator/99999/exp_avg"] = torch.zeros(1)
    elif how == "not a number":
        tensors["optimizer/generator/²/exp_avg"] = torch.zeros(1)
    elif how == "no scalar":
        tensors["optimizer/generator/0/step"] = torch.zeros(0)
    else:
        tensors["controller/balance/k"] = torch.zeros(7)
    sealed(folder, tensors)
    before = contents(run)
    refused(gankit("resume", run, "--steps", 9), "000008")
    assert contents(run) == before


@undrawn
@pytest.mark.parametrize(
    "changes",
    [
        {"best": [10**30, "x"]},
        {"best": [4]},
        {"best": "best"},
        {"healthy": -1},
        {"since": "0"},
        {"attempt": 10**400},
        {"seconds": -1e308},
        {"verdicts": [1]},
        {"diagnostics": {"vitals": 3}},
        {"diagnostics": None},
        {"sha256": {}},
    ],
    ids=str,
)
def test_a_state_of_odd_values_is_refused_or_does_no_harm(changes: Any, gankit: Gankit, run: Path) -> None:
    from safetensors.torch import load_file

    folder = run / "checkpoints/000008"
    sealed(folder, load_file(folder / "training.safetensors"), **changes)
    before = contents(run)
    said = gankit("resume", run, "--steps", 9)
    if said.code != 0:
        refused(said, "000008", "damaged")
        assert contents(run) == before
    assert gankit("runs", run).code == 0


@undrawn
def test_a_best_checkpoint_that_is_gone_does_not_keep_a_later_one_from_being_the_best(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {2: 0.9, 4: 0.1, 6: 0.2, 8: 0.5, 10: 0.3, 12: 0.3, 14: 0.3, 16: 0.3}
    monkeypatch.setattr("gankit.training.diagnose.score", lambda line: scores.get(line["step"]))
    assert gankit("run", "began", *TINY, "--checkpoint-every", 2, "--out", "run").code == 0
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoints/000002")
    assert gankit("resume", run, "--steps", 16).code == 0
    assert read(run / "checkpoints/000016/state.json")["best"] == [8, 0.5]
    assert checkpoints(run) == [0, 8, 12, 14, 16]


# Nothing outside a run folder is looked at.


def test_a_report_looks_into_no_folder_that_a_strangers_config_names(
    gankit: Gankit, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it listed everything below that folder, which for / takes minutes."""
    from gankit.data import folder as pictures

    def scan(*_: Any, **__: Any) -> None:
        raise AssertionError("a stranger's folder is listed")

    monkeypatch.setattr(pictures, "scan", scan)
    (run / "config.json").write_text(json.dumps(read(run / "config.json") | {"data": "/"}))
    before = (run / "neighbours.png").stat().st_mtime_ns
    assert gankit("report", run).code == 0
    assert (run / "neighbours.png").stat().st_mtime_ns > before  # by their digest the pictures are found in the cache


# Folders that gankit removes are its own.


def test_a_folder_of_the_users_beside_new_samples_stays(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    (tmp_path / ".faces.part").mkdir()
    (tmp_path / ".faces.part/letter.txt").write_text("the only copy")
    assert gankit("sample", run, "-n", 2, "--out", "faces").code == 0
    assert (tmp_path / ".faces.part/letter.txt").exists()
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == ["00000.png", "00001.png"]


def test_the_cache_removes_only_old_entries_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gankit.data import cache

    place, own = tmp_path / "pictures", "0" * 32
    kept = [".building-house/plan.txt", f".building-{own}/plan.txt", f"{own}/letter.txt", "holidays/1.png"]
    gone = [f".building-{'1' * 32}/unsorted", f"{'2' * 32}/pictures.npy"]
    for name in (*kept, *gone, f"{own}/index.json", f"{'2' * 32}/index.json"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("x")
    (tmp_path / "home").mkdir()
    (place / f".building-{'3' * 32}").symlink_to(tmp_path / "home")
    growing = f".building-{'4' * 32}/unsorted"  # for more than a day; the folder's own time is that of its begin
    (place / growing).parent.mkdir()
    (place / growing).write_text("x")
    for path in (*place.rglob("*"), tmp_path / "home"):
        os.utime(path, (0, 0))
    os.utime(place / growing)
    kept.append(growing)
    cache._tidy(place)
    assert all((place / name).exists() for name in kept)
    assert not any((place / name).exists() for name in gone)
    assert (tmp_path / "home").exists()


# A folder that is deleted when its training is over, and its pages are drawn.


@pytest.mark.parametrize("when", ["while it is drawn", "in the last checkpoint"])
def test_a_run_folder_that_is_deleted_at_its_end_is_not_made_anew(
    when: str, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.builtin.artifacts import Losses
    from gankit.training import checkpoint

    real = checkpoint._write

    def write(beside: Path, training: Any) -> None:
        if training.number == 6:
            shutil.rmtree(tmp_path / "run")
        real(beside, training)

    if when == "while it is drawn":
        monkeypatch.setattr(Losses, "finish", lambda self: shutil.rmtree(self.run.folder))
    else:
        monkeypatch.setattr(checkpoint, "_write", write)
    said = gankit("run", "began", *TINY, "--out", "run")
    assert said.code == 1
    assert "Traceback" not in said.err + said.out
    assert not (tmp_path / "run").exists()


# Disks.


def mounted(command: str, cwd: Path, size: str = "64m", *more: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a namespace of its own, where the folder `disk` is a file system in memory."""
    (cwd / "disk").mkdir(exist_ok=True)
    script = (
        f"mount -t tmpfs -o size={size} none disk && {{ {command.replace('GANKIT', f'{sys.executable} -m gankit')}; }}"
    )
    begin = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*begin, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here")
    return subprocess.run([*begin, "bash", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=600)


FEW = " ".join(map(str, [*TINY, "--checkpoint-every", 2]))


def test_a_disk_that_is_really_full_keeps_the_last_checkpoint_whole_and_a_resume_goes_on(tmp_path: Path) -> None:
    """A file system of some hundred kilobytes: a checkpoint or two fit."""
    done = mounted(
        f"GANKIT run began {FEW} --out disk/run; echo code $?; cat disk/run/result.json; cp -r disk/run kept",
        tmp_path,
        "400k",
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert "code 1" in done.stdout or "code 2" in done.stdout
    if (tmp_path / "kept").exists():
        assert read(tmp_path / "kept/result.json")["outcome"] == "failed"
        done = gankit_in_a_shell("GANKIT resume kept --steps 6", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line["step"] for line in lines(tmp_path / "kept")] == [1, 2, 3, 4, 5, 6]


def test_a_run_on_a_disk_that_is_read_only_is_refused_in_one_line_and_can_be_looked_at(tmp_path: Path) -> None:
    command = f"GANKIT run began {FEW} --out disk/run >/dev/null; mount -o remount,ro disk; "
    command += "for what in 'resume disk/run --steps 9' 'report disk/run' 'sample disk/run' 'runs disk' "
    command += (
        f"'run began {FEW} --out disk/other' 'sample disk/run --out here'; do GANKIT $what >out; echo $? >&2; done"
    )
    done = mounted(command, tmp_path)
    said = done.stderr.splitlines()
    assert [line for line in said if line.isdigit()] == ["2", "2", "2", "0", "2", "0"]
    told = [line for line in said if not line.isdigit()]
    assert len(told) == 4
    assert all("ead-only" in line for line in told)
    assert (tmp_path / "here/00000.png").exists()


def test_a_report_that_a_full_disk_refuses_is_written_at_its_next_turn_and_the_disk_named_once(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it was dropped for good, without a word."""
    from gankit.builtin import artifacts
    from gankit.report import run_page

    there, pages = run_page.write_page, list[bool]()

    def write_page(*arguments: Any) -> Path:
        pages.append(2 <= len(pages) < 4)
        if pages[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return there(*arguments)

    monkeypatch.setattr(run_page, "write_page", write_page)
    monkeypatch.setattr(artifacts, "SHARE", math.inf)
    said = gankit("run", "began", *TINY, "--sample-every", 1, "--checkpoint-every", 1, "--out", "run")
    assert said.code == 0
    assert pages == [False, False, True, True, *[False] * (len(pages) - 4)]
    assert len(pages) > 5
    assert said.out.count("artifact 'report' cannot be written in run (No space left on device)") == 1
    assert (tmp_path / "run/report.html").exists()
    assert "left out" not in said.out


# Load.


@pytest.mark.slow
def test_memory_stays_flat_over_twenty_thousand_small_steps(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Within 5 % from a tenth of the way on."""
    script = f"""
import os, sys
sys.path[:0] = {[str(ROOT), str(ROOT / "plugins/began")]!r}
import gankit
from gankit.training.watcher import Watcher
seen = []
class Look(Watcher):
    def line(self, line):
        pages = int(open("/proc/self/statm").read().split()[1])
        if line["step"] % 1000 == 0:
            seen.append(pages * os.sysconf("SC_PAGE_SIZE"))
gankit.run("began", "demo:60", out="run", image_size=16, batch_size=2, precision="fp32", filters=4, latent=4,
           steps=20_000, log_every=100, sample_every=5000, checkpoint_every=5000, set={{"edges": 0}},
           losses={{"critic": 0, "imle": 0}}, watcher=Look())
print(*seen)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken = list(map(int, done.stdout.split()[-20:]))
    record_property(
        "memory of a training at step 2,000 and 20,000", f"{taken[1] / 1e6:.0f} and {taken[-1] / 1e6:.0f} MB"
    )
    assert max(taken[1:]) < 1.05 * taken[1]


def scanned(folder: Path, count: int) -> float:
    """Make a folder of so many files in a hundred subfolders, links to one; return the seconds of a scan of it."""
    from time import process_time

    from gankit.data.scan import scan

    folder.mkdir()
    (folder / "one.png").write_bytes(b"x")
    for part in range(100):
        (folder / f"{part:02d}").mkdir()
        for n in range(count // 100):
            if n % 20_000 == 0:  # a file has at most so many names
                (folder / f"{part:02d}/{n}.png").write_bytes(b"x")
                one = folder / f"{part:02d}/{n}.png"
            else:
                os.link(one, folder / f"{part:02d}/{n}.png")
    begun = process_time()
    files, problems = scan(folder)
    taken = process_time() - begun
    assert (len(files), problems) == (count + 1, [])
    return taken


@pytest.mark.slow
def test_the_time_of_a_scan_grows_as_the_files_do(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Ten times the files take ten times as long, and no more than 16 times."""
    few, many = scanned(tmp_path / "few", 100_000), scanned(tmp_path / "many", 1_000_000)
    record_property("a folder of 100,000 and of 1,000,000 files is scanned in", f"{few:.1f} and {many:.1f} s")
    assert many < 16 * few
