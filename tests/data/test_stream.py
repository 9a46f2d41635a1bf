"""A stream's batches are a function of the step, whoever decodes them, and no picture is kept on the disk."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Gankit, lines, read, refused, timeless, weights
from PIL import Image
from test_shards import FORMS, PICTURES, TRAIN, load, packed, png, unpacked

from gankit import api
from gankit.data import Data, decode, places, stream, tar
from gankit.data.batches import Batches
from gankit.errors import TrainingError
from gankit.training.watcher import Watcher

PICTURE = 16 * 16 * 3  # bytes
STREAMED = (*TRAIN[:-4], "--log-every", "1", "--stream")
ALL: dict[str, Callable[[Path], Path | str]] = {"folder": unpacked, **FORMS}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 pictures in blocks of 3."""
    monkeypatch.setattr(stream, "BYTES", 2 * 20 * PICTURE)
    monkeypatch.setattr(stream, "BLOCKS", 6)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often the bytes of each picture have been decoded."""
    seen: Counter[bytes] = Counter()

    def counted(source: Any, request: Any, inner: Any = decode.read) -> Any:
        seen[source if isinstance(source, bytes) else source.read_bytes()] += 1
        return inner(source, request)

    monkeypatch.setattr(decode, "read", counted)
    return seen


def streamed(path: Path | str, **wishes: Any) -> Data:
    return load(path, stream=True, **wishes)


def batches(data: Data, seed: int = 5, updates: int = 2, size: int = 4) -> Batches:
    return Batches(data, size, seed, torch.device("cpu"), False, updates)


def pictures(batch: torch.Tensor) -> list[bytes]:
    return [one.tobytes() for one in ((batch + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()]


# What is in it, and in which order.


@pytest.mark.parametrize("form", ALL)
@pytest.mark.usefixtures("small")
def test_every_training_picture_comes_once_an_epoch_with_its_label_and_no_held_out_one(
    form: str, tmp_path: Path, own_cache: Path
) -> None:
    place = ALL[form](tmp_path / "pictures")
    data = streamed(place)
    drawn, epochs = batches(data, updates=1, size=9), []
    for epoch in range(2):
        seen: dict[bytes, int] = {}
        for step in range(1, 7):
            batch, labels = drawn(6 * epoch + step, 0)
            assert labels is not None
            seen |= dict(zip(pictures(batch), labels.tolist(), strict=True))
        epochs.append(seen)
    assert {path.name for path in own_cache.iterdir()} == {"places"}
    whole = load(place, holdout=0)
    assert whole.labels is not None
    truth = {one.tobytes(): int(label) for one, label in zip(whole.train, whole.labels, strict=True)}
    held = {one.tobytes() for one in data.held_out[:]}
    assert (len(data.train), len(data.held_out), len(held)) == (54, 6, 6)
    assert epochs[0] == epochs[1] == {one: label for one, label in truth.items() if one not in held}
    assert list(epochs[0]) != list(epochs[1])
    assert data.label_names == ("a", "b")


def test_as_many_labels_as_pictures_are_numbered_without_a_look_at_each_for_each() -> None:
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    names = tuple(Name(f"n{n:03d}") for n in reversed(range(300)))
    rows = np.zeros(300, places.ROW)
    rows["label"] = np.arange(300)
    found = places.Index(places.Place("", Path(), [], [], True), rows, rows, rows, names, [], "")
    labels = stream._labels(found, SimpleNamespace(apart=np.array([0])))  # type: ignore[arg-type]
    assert labels is not None
    assert labels.tolist() == list(range(298, -1, -1))
    assert len(compared) < 3000


@pytest.mark.usefixtures("small")
def test_a_batch_is_a_function_of_seed_and_step_and_takes_one_window_and_the_next(
    tmp_path: Path, decoded: Counter[bytes]
) -> None:
    path = packed(tmp_path / "all.tar", PICTURES)
    unbroken = batches(streamed(path))
    expected = {(step, update): unbroken(step, update)[0] for step in range(1, 31) for update in (0, 1)}
    assert not torch.equal(expected[3, 0], batches(streamed(path), seed=6)(3, 0)[0])
    for step in (17, 4, 29):
        later = batches(streamed(path))
        decoded.clear()
        for update in (1, 0):
            assert torch.equal(later(step, update)[0], expected[step, update])
        ahead = later.windows._ahead if later.windows else None
        if ahead:
            ahead.join()
        assert sum(decoded.values()) <= 3 * 20  # a step may lie across two windows, and the next is begun


def test_pictures_that_fit_into_one_window_are_decoded_once(tmp_path: Path, decoded: Counter[bytes]) -> None:
    drawn = batches(streamed(packed(tmp_path / "all.tar", PICTURES), holdout=0))
    for step in range(1, 40):
        drawn(step, 0)
    assert set(decoded.values()) == {1}


def test_windows_take_no_more_memory_than_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.zeros((16, 16, 3), np.uint8)

    def one(n: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(flat + n % 256).save(buffer, "PNG")
        return buffer.getvalue()

    path = packed(tmp_path / "all.tar", {f"{n:05d}.png": one(n) for n in range(4000)})  # 3 MB decoded
    monkeypatch.setattr(stream, "BYTES", 400_000)
    drawn = batches(streamed(path, holdout=0), updates=1, size=50)
    drawn(1, 0)
    tracemalloc.start()
    for step in range(2, 81):
        drawn(step, 0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * 400_000  # and what threads are decoding; all pictures are 3 MB


def test_a_batch_larger_than_a_window_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BYTES", 2 * 5 * PICTURE)
    batch, _ = batches(streamed(packed(tmp_path / "all.tar", PICTURES), holdout=0), updates=1, size=60)(1, 0)
    assert len(set(pictures(batch))) == 60


def test_the_held_out_pictures_follow_from_their_names_and_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (packed(tmp_path / f"{place}/all.tar", PICTURES) for place in "ab")
    os.utime(other, (1, 1))
    first, second = streamed(one, holdout=0.3), streamed(other, holdout=0.3)
    assert first.digest == second.digest
    assert (first.held_out[:] == second.held_out[:]).all()
    assert (streamed(one, holdout=0.1).held_out[:] == first.held_out[:6]).all()
    monkeypatch.setattr(stream, "HELD_BYTES", 5 * PICTURE)
    assert len(streamed(one, holdout=0.3).held_out) == 5
    changed = packed(tmp_path / "c/all.tar", {**PICTURES, "b/99.png": png(99)})
    assert streamed(changed, holdout=0.3).digest != first.digest


def test_a_picture_by_its_place_is_that_of_the_slice(tmp_path: Path) -> None:
    data = streamed(packed(tmp_path / "all.tar", PICTURES))
    every = data.train[:]
    assert data.train.shape == every.shape == (54, 16, 16, 3)
    assert (data.train[np.array([53, 0, 7, 7, -1])] == every[[53, 0, 7, 7, -1]]).all()
    assert (data.train[3:50:9] == every[3:50:9]).all()
    assert (data.train[4] == every[4]).all()
    assert data.train[:0].shape == (0, 16, 16, 3)
    with pytest.raises(IndexError):
        data.train[[54]]


# Damage.


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", ["folder", "tar", "parquet", "arrow"])
def test_a_picture_that_cannot_be_decoded_is_named_once_and_another_takes_its_place(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [f"{'ab'[n % 2]}/{n:02d}.png" for n in (3, 4, 5, 40)]
    for name in broken:
        monkeypatch.setitem(PICTURES, name, PICTURES[name][:70])
    told: list[str] = []
    data = streamed(ALL[form](tmp_path / "pictures"), holdout=0, notice=told.append)
    drawn, again = batches(data, updates=1, size=10), batches(data, updates=1, size=10)
    seen = [pictures(drawn(step, 0)[0]) for step in range(1, 19)]
    assert pictures(again(11, 0)[0]) == seen[10]
    counts = Counter(one for batch in seen[:6] for one in batch)
    assert (len(counts), sum(counts.values())) == (56, 60)
    assert len(data.skipped) == 4
    assert all(one["reason"] == "damaged or cut short" for one in data.skipped)
    assert sum(int(line.split()[1]) for line in told) == 4
    assert len(data.train[:]) == 60


def test_a_damaged_index_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    path = packed(tmp_path / "all.tar", PICTURES)
    before = streamed(path)
    held_out = before.held_out[:]
    (entry,) = (own_cache / "places").glob("?" * 32)
    for name in ("rows", "names", "first", "index.json"):
        content = (entry / name).read_bytes()
        (entry / name).write_bytes(content[:-9])
        with pytest.raises(places.PicturesGone, match="was cut short") if name in ("rows", "names") else nullcontext():
            before.train[:5]
        after = streamed(path)
        assert after.digest == before.digest
        assert (after.held_out[:] == held_out).all()
        assert (entry / name).read_bytes() == content
        before = after


def test_files_beside_pictures_in_a_folder_are_left_out_by_their_names(tmp_path: Path) -> None:
    unpacked(tmp_path / "folder")
    for n in range(5):
        (tmp_path / f"folder/a/{n}.json").write_text("{}")
    data = streamed(tmp_path / "folder", holdout=0)
    assert len(data.train) == 60
    assert data.skipped == [
        {"file": "a/0.json", "reason": "a stream leaves out files that are not called pictures, 4 more"}
    ]
    for path in (tmp_path / "folder").rglob("*.png"):
        path.rename(path.with_suffix(""))
    assert len(streamed(tmp_path / "folder", holdout=0).train) == 65


# Through the command line.


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("form", ["folder", "tar", "parquet-file"])
def test_a_streamed_run_goes_on_to_the_bit_and_keeps_no_picture(
    form: str, gankit: Gankit, tmp_path: Path, own_cache: Path
) -> None:
    place = ALL[form](tmp_path / "pictures")
    for out, steps in (("whole", 7), ("parted", 3)):
        said = gankit("run", "began", "--data", place, *STREAMED, "--mirror", "--steps", steps, "--out", out)
        assert (said.code, said.err) == (0, "")
        assert ("found 60 pictures, which are decoded while it trains" in said.out) == (out == "whole")
    assert gankit("resume", "parted", "--steps", 7).code == 0
    assert timeless(tmp_path / "parted") == timeless(tmp_path / "whole")
    assert weights(tmp_path / "parted", 7) == weights(tmp_path / "whole", 7)
    assert read(tmp_path / "parted/config.json")["stream"] is True
    assert read(tmp_path / "whole/data.json")["streamed"] is True
    assert {path.name for path in own_cache.iterdir()} == {"places"}


def test_a_streamed_run_is_reported_and_evaluated(gankit: Gankit, tmp_path: Path) -> None:
    path = packed(tmp_path / "all.tar", {f"{n}.png": png(n) for n in range(200)})
    assert gankit("run", "began", "--data", path, *STREAMED, "--steps", 3, "--out", "run").code == 0
    assert (tmp_path / "run/real.png").is_file()
    assert read(tmp_path / "run/neighbours.json")["looked"] == 180
    assert "nobody looked for copies among the pictures" in (tmp_path / "run/report.html").read_text()
    said = gankit("evaluate", "run", "--n", 50, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["of"]["train"] == 180
    path.rename(tmp_path / "moved.tar")
    refused(gankit("evaluate", "run", "--n", 50), "say where they are with --data")
    assert gankit("evaluate", "run", "--n", 50, "--data", "moved.tar").code == 0


def test_inspect_looks_at_a_part_and_says_so(gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankit.data.inspection.MOST", 40)
    path = packed(tmp_path / "all.tar", {**PICTURES, "b/01.png": b"no picture"})
    said = gankit("data", "inspect", path, "--stream", "--image-size", 16, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["pictures"], found["labels"]) == (60, {"a": 30, "b": 30})
    assert found["looked"] + len(found["skipped"]) == 40
    assert "nobody looks for files that are equal" in found["advice"][0]


@pytest.mark.usefixtures("undrawn")
def test_without_room_for_the_cache_the_refusal_names_the_flag(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path / "folder")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("gankit.data.cache.shutil.disk_usage", lambda path: usage._replace(free=1000))
    run = ("run", "began", "--data", "folder", *TRAIN, "--steps", 2)
    refused(gankit(*run), "take", "or --stream")
    assert gankit(*run, "--stream").code == 0


def test_only_pictures_of_the_user_are_streamed(gankit: Gankit) -> None:
    refused(gankit("run", "began", "--data", "demo:100", *STREAMED), "--stream: demo makes its own pictures")


# Shards that vanish or change under a training.


class Meddling(Watcher):
    """Does something after the fifth step."""

    def __init__(self, meddle: Callable[[], Any]) -> None:
        self.meddle = meddle

    def line(self, line: Any) -> None:
        if line["step"] == 5:
            self.meddle()


@pytest.mark.usefixtures("small", "undrawn")
@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (lambda path: path.rename(path.with_name("away")), "the file all.tar of .* has vanished"),
        (lambda path: os.utime(path, (1, 1)), "has changed under the training"),
        (lambda path: os.truncate(path, 5000), "has changed under the training"),
    ],
)
def test_a_shard_that_goes_ends_the_training_in_one_line_and_no_step_is_lost(
    meddle: Callable[[Path], Any], words: str, gankit: Gankit, tmp_path: Path
) -> None:
    path, copy = packed(tmp_path / "all.tar", PICTURES), tmp_path / "copy.tar"
    shutil.copy2(path, copy)
    wishes: dict[str, Any] = {"image_size": 16, "batch_size": 4, "precision": "fp32", "stream": True, "log_every": 1}
    wishes |= {"filters": 4, "latent": 8, "steps": 30}
    with pytest.raises(TrainingError, match=f"^the training failed after step .*{words}.* go on from [^\n]*$"):
        api.run("began", path, out=tmp_path / "run", watcher=Meddling(lambda: meddle(path)), **wishes)
    ended = lines(tmp_path / "run")[-1]["step"]
    assert 5 <= ended < 30
    assert (tmp_path / f"run/checkpoints/{ended:06d}").is_dir()
    path.unlink(missing_ok=True)
    refused(gankit("resume", "run"), "all.tar")
    shutil.copy2(copy, path)
    assert gankit("resume", "run").code == 0
    api.run("began", path, out=tmp_path / "whole", watcher=Watcher(), **wishes)
    assert weights(tmp_path / "run", 30) == weights(tmp_path / "whole", 30)


def test_a_shard_that_changes_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "all.tar", PICTURES)
    drawn = batches(streamed(path))

    def meddling(file: Any, place: int, size: int, inner: Any = tar.read) -> bytes:
        os.utime(path, (1, 1))
        return bytes(inner(file, place, size))

    monkeypatch.setattr(tar, "read", meddling)
    with pytest.raises(places.PicturesGone, match="has changed under the training"):
        drawn.fetch(1)


@pytest.mark.usefixtures("small")
def test_pictures_of_a_folder_that_vanish_are_skipped_and_without_any_it_ends(tmp_path: Path) -> None:
    folder, told = unpacked(tmp_path / "folder"), list[str]()
    drawn = batches(streamed(folder, holdout=0, notice=told.append), updates=1, size=10)
    drawn(1, 0)
    for path in sorted(folder.rglob("*.png"))[::2]:
        path.unlink()
    for step in range(2, 19):
        drawn(step, 0)
    assert told
    assert all("vanished while it was looked at" in line for line in told)
    shutil.rmtree(folder)
    with pytest.raises(places.PicturesGone, match=r"folder .* has vanished|can be decoded any more"):
        [drawn(step, 0) for step in range(19, 40)]


# Several processes.

RANKS = """
import hashlib, os, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
from gankit.data import Folder, Request, decode, places, stream
from gankit.data.batches import Batches
from gankit.training.ranks import Ranks

rank, count, port, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
stream.BYTES, stream.BLOCKS = 2 * 20 * 768, 6
ranks = Ranks("cpu", dist.TCPStore("127.0.0.1", port, count, is_master=rank == 0), rank, count)
told, reads = [], []
inner = decode.read
decode.read = lambda source, request: (reads.append(source), inner(source, request))[1]
data = Folder().open(str(path), Request(16, stream=True, notice=told.append if rank == 0 else None))
batches, alone = (Batches(data, 4, 5, torch.device("cpu"), False, 2) for _ in range(2))
for step in range(1, 9):
    batches.fetch(step, ranks)
    together = [batches(step, update)[0] for update in (0, 1)]
    if step == 1 and count > 1:
        batches.windows._ahead.join()
        first = len(reads)
    if rank == 0:
        assert all(torch.equal(alone(step, update)[0], together[update]) for update in (0, 1))
assert first <= 2 * -(-20 // count) + 2, first
dist.barrier()
if rank == count - 1:
    path.rename(path.with_name("away"))
dist.barrier()
try:
    for step in range(9, 40):
        batches.fetch(step, ranks)
except places.PicturesGone as error:
    print(f"gone at {step}: {error}")
print(told)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_decode_a_part_each_and_have_the_batches_of_one(count: int, tmp_path: Path) -> None:
    from test_ranks import free_port

    (tmp_path / "ranks.py").write_text(RANKS)
    path = packed(tmp_path / "all.tar", {**PICTURES, "a/04.png": b"no picture", "b/51.png": b"no picture"})
    arguments = [str(count), str(free_port()), str(path)]
    several = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "ranks.py"), str(rank), *arguments], stdout=subprocess.PIPE, text=True
        )
        for rank in range(count)
    ]
    said = [one.communicate(timeout=120)[0].splitlines() for one in several]
    assert [one.returncode for one in several] == [0] * count
    assert len({lines[0] for lines in said}) == 1
    assert "all.tar has vanished" in said[0][0]
    assert "not a picture" in said[0][1]
    assert said[1][1] == "[]"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_streamed_run_of_two_processes_has_the_numbers_of_one(gankit: Gankit, tmp_path: Path) -> None:
    packed(tmp_path / "all.tar", PICTURES)
    run = ("run", "began", "--data", "all.tar", *STREAMED, "--steps", 5)
    assert gankit(*run, "--out", "one").code == 0
    said = gankit(*run, "--nproc", 2, "--out", "two")
    assert (said.code, said.err) == (0, "")
    for alone, divided in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert divided["loss/discriminator"] == pytest.approx(alone["loss/discriminator"], rel=1e-4)
