"""A stranger's shard writes nothing to the disk, reads nothing outside itself, and takes no memory without measure."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SMALL, Gankit, contents, refused
from PIL import Image

from gankit.data import Data, Folder, Request, tables, tar

pa = pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'gankit[dev]'")
pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'gankit[dev]'")

TRAIN = ("--image-size", "16", "--batch-size", "4", "--precision", "fp32", *SMALL, "--steps", "2")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 146 146\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANKIT_CACHE", str(place))
    return place


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def member(name: str, size: int = 0, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in more.items():
        setattr(made, key, value)
    return made


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(member(name, len(content)), io.BytesIO(content))


def load(path: Path, stream: bool = False) -> Data:
    data = Folder().open(str(path), Request(image_size=16, holdout=0, stream=stream))
    assert len(data.train[:]) == len(data.train)
    return data


streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["cached", "streamed"])


@streamed_or_not
def test_nothing_of_a_tar_reaches_the_disk_and_nothing_outside_is_read(
    stream: bool, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/secret.png").write_bytes(png(99))
    secret = str(tmp_path / "home/secret.png")
    (tmp_path / "all").mkdir()
    with tarfile.open(tmp_path / "all/a.tar", "w") as archive:
        for n, name in enumerate(("a/b/c/0.png", "../../up.png", f"{tmp_path}/home/absolute.png", "a/../../b/1.png")):
            add(archive, name, png(n))
        archive.addfile(member("link.png", type=tarfile.SYMTYPE, linkname=secret))
        archive.addfile(member("hard.png", type=tarfile.LNKTYPE, linkname=secret))
        archive.addfile(member("folder", type=tarfile.SYMTYPE, linkname=str(tmp_path / "home")))
        add(archive, "folder/secret.png", png(4))
        for name, kind in (
            ("null.png", tarfile.CHRTYPE),
            ("disk.png", tarfile.BLKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            archive.addfile(member(name, type=kind, devmajor=1, devminor=3))
        archive.addfile(member("odd.png", type=b"Z"))
    before = contents(tmp_path)
    data = load(tmp_path / "all", stream)
    assert contents(tmp_path) == before
    kept = {"index.json", "rows", "names", "first"} if stream else {"index.json", "pictures.npy"}
    assert {path.name for path in own_cache.rglob("*") if path.is_file()} == kept
    assert len(data.train) == 5
    told = {one["file"].removeprefix("a.tar/"): one["reason"] for one in data.skipped}
    assert told == dict.fromkeys(("link.png", "hard.png", "folder"), "a link") | dict.fromkeys(
        ("null.png", "disk.png", "pipe.png", "odd.png"), "not an ordinary file"
    )


def test_the_names_in_a_tar_do_not_steer_the_terminal(gankit: Gankit, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for n in range(12):
            add(archive, f"{n}.png", png(n))
        add(archive, "\x1b]0;stolen\x07\x1b[2J.png", b"no picture")
        add(archive, "two\nlines.png", b"no picture")
    for said in (gankit("data", "inspect", "all.tar"), gankit("data", "inspect", "all.tar", "--json")):
        assert said.code == 0
        assert "\x1b" not in said.out + said.err
        assert "stolen" in said.out


def test_a_picture_in_a_shard_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gankit: Gankit
) -> None:
    trace = tmp_path / "started"
    program = tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        add(archive, "a.png", EPS)
        add(archive, "b.eps", EPS)
    refused(gankit("run", "began", "--data", "all.tar", *TRAIN), "PostScript")
    assert not trace.exists()


# Sizes are not believed.


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """The 512 bytes before a file, with any bytes for its size."""
    block = bytearray(member("x").tobuf(tarfile.USTAR_FORMAT))
    block[: len(name) + 1] = name + b"\0"
    block[124:136] = size.ljust(12, b"\0")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def picture(name: bytes, seed: int) -> bytes:
    content = png(seed)
    return header(name, b"%011o" % len(content)) + content + bytes(-len(content) % 512)


HUGE = {
    "a file of 8 GB": header(b"b.png", b"77777777777"),
    "a file of 8 EB": header(b"b.png", b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7),
    "a size below zero": header(b"b.png", b"\xff" * 11 + b"\0"),
    "a pax header of 8 GB": header(b"b.png", b"77777777777", b"x"),
    "a pax header below zero": header(b"b.png", b"\xff" * 11 + b"\0", b"x"),
    "a global header of 2 GB": header(b"b.png", b"17777777777", b"g"),
    "a long name of 4 GB": header(b"b.png", b"37777777777", b"L"),
    "a long link of 4 GB": header(b"b.png", b"37777777777", b"K"),
    "no number": header(b"b.png", b"elephants"),
    "a thousand pax headers": header(b"b.png", b"%011o" % 512, b"x") + bytes(512),
}


@streamed_or_not
@pytest.mark.parametrize("what", HUGE)
def test_a_tar_that_claims_sizes_gives_what_is_before_it_and_takes_no_memory(
    what: str, stream: bool, tmp_path: Path
) -> None:
    times = 2000 if what.startswith("a thousand") else 1
    path = tmp_path / "all.tar"
    path.write_bytes(picture(b"a.png", 1) + HUGE[what] * times + picture(b"c.png", 2) + bytes(1024))
    os.truncate(path, 3 << 30)  # of holes: what is claimed could be read
    load(tmp_path, stream)  # imports
    path.touch()
    tracemalloc.start()
    data = load(tmp_path, stream)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.train) in (1, 2)
    assert data.skipped or what == "a pax header below zero"
    assert taken < 40 << 20


def test_a_sparse_file_in_a_tar_is_skipped(tmp_path: Path) -> None:
    content = b"1\n0\n0\n".ljust(512, b"\0")
    with tarfile.open(tmp_path / "all.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a.png", png(1))
        hole = member("b.png", len(content))
        hole.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "3000000000"}
        archive.addfile(hole, io.BytesIO(content))
        add(archive, "c.png", png(2))
    data = load(tmp_path / "all.tar")
    assert len(data.train) == 2
    assert data.skipped[0]["file"] == "all.tar/b.png"


def test_a_picture_of_a_shard_is_read_into_memory_only_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(tar, "LARGEST", 5000)
    monkeypatch.setattr(tables, "LARGEST", 5000)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        add(archive, "a.png", png(1))
        add(archive, "b.png", png(2) + bytes(9000))
    pq.write_table(pa.table({"image": [png(3), png(4) + bytes(9000)]}), tmp_path / "all.parquet")
    data = load(tmp_path)
    assert len(data.train) == 2
    assert [one["file"] for one in data.skipped] == ["all.parquet row 1", "all.tar/b.png"]
    assert all(one["reason"].startswith("too large") for one in data.skipped)


def test_a_named_pipe_in_place_of_a_shard_keeps_nothing_waiting(gankit: Gankit, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "all.tar")
    refused(gankit("run", "began", "--data", "all.tar", *TRAIN), "all.tar")
    (tmp_path / "all").mkdir()
    os.mkfifo(tmp_path / "all/train-0.tar")
    for data in ("all", "all/train-{0..1}.tar"):
        refused(gankit("run", "began", "--data", data, *TRAIN), "not an ordinary file")


# Parquet and Arrow: any bytes are pictures or one line, and never a crash of pyarrow.

ANY = """
import sys, random
from pathlib import Path
from gankit.data import Folder, Request
from gankit.errors import UserError
path, raw = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
numbers = random.Random(0)
for case in range(int(sys.argv[2])):
    odd = bytearray(raw)
    for _ in range(numbers.randint(1, 8)):
        place = numbers.randrange(len(odd)) if numbers.random() < 0.4 else -1 - numbers.randrange(min(len(odd), 900))
        odd[place] = numbers.choice((0, 1, 0x7F, 0x80, 0xFF, numbers.randrange(256)))
    if numbers.random() < 0.2:
        odd = odd[: numbers.randrange(len(odd))]
    path.write_bytes(odd)
    try:
        data = Folder().open(str(path), Request(16, holdout=0, stream=sys.argv[3] == "True"))
        assert len(data.train) <= 30
        data.train[:]
    except UserError as error:
        assert len(str(error).splitlines()) == 1, error
print("whole")
"""


@streamed_or_not
@pytest.mark.parametrize("form", ["parquet", "unlabelled.parquet", "arrow", "tar"])
def test_any_bytes_are_pictures_or_one_line(form: str, stream: bool, tmp_path: Path) -> None:

    table = pa.table(
        {"image": [{"bytes": png(n), "path": "x"} for n in range(30)], "label": [f"{n % 3}" for n in range(30)]}
    )
    path = tmp_path / f"all.{form}"
    if form.endswith("parquet"):
        pq.write_table(table if form == "parquet" else table.drop_columns("label"), path, row_group_size=10)
    elif form == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, 10)
    else:
        with tarfile.open(path, "w") as archive:
            for n in range(30):
                add(archive, f"{n:03d}.png", png(n))
    done = subprocess.run(
        [sys.executable, "-c", ANY, str(path), "60", str(stream)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-2000:]
