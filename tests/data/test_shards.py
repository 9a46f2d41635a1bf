"""Pictures in tar, Parquet and Arrow files are those of a folder; a stranger's shard reads and writes nothing else."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Gankit, read, refused, timeless
from PIL import Image

from gankit.data import Data, Folder, Request
from gankit.data.folder import look
from gankit.errors import UserError

pa = pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'gankit[dev]'")
pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'gankit[dev]'")

TRAIN = ("--image-size", "16", "--batch-size", "4", "--precision", "fp32", *SMALL, "--steps", "4", "--log-every", "1")
undrawn = pytest.mark.usefixtures("undrawn")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(seed: int, size: int = 16) -> bytes:
    """A picture of noise, different for each seed."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {f"{'ab'[n % 2]}/{n:02d}.png": png(n) for n in range(60)}


def load(path: Path | str, **wishes: Any) -> Data:
    return Folder().open(str(path), Request(image_size=16, **wishes))


def packed(path: Path, files: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in files.items():
            entry(archive, name, content)
    return path


def entry(archive: tarfile.TarFile, name: str, content: bytes = b"", **more: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def unpacked(folder: Path) -> Path:
    """The pictures as a folder, whose subfolders are labels."""
    for name, content in PICTURES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def table(struct: bool = True, features: bool = True, start: int = 0, end: int = 60) -> Any:
    """The pictures as a table, as 🤗 datasets writes one: {bytes, path}, and classes by number."""
    rows = list(PICTURES.items())[start:end]
    images: list[Any] = [{"bytes": content, "path": name} if struct else content for name, content in rows]
    labels = [int(name.startswith("b")) for name, _ in rows]
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
    made = pa.table({"id": list(range(len(rows))), "image": images, "label": labels})
    return made.replace_schema_metadata({"huggingface": json.dumps(told)}) if features else made


def stream(path: Path, rows: Any, of: int = 5) -> Path:
    """An Arrow stream of batches, as `save_to_disk` of 🤗 datasets writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, of)
    return path


def saved(folder: Path) -> Path:
    """A folder as `DatasetDict.save_to_disk` leaves it, with a later result kept beside it."""
    stream(folder / "train/data-00000-of-00002.arrow", table(end=32))
    stream(folder / "train/data-00001-of-00002.arrow", table(start=32))
    stream(folder / "train/cache-0123456789abcdef.arrow", table(end=7))
    (folder / "train/state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00002.arrow"}]}')
    (folder / "train/dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return folder


def test_a_shard_may_be_called_cache(tmp_path: Path) -> None:
    pq.write_table(table(end=13), tmp_path / "cache-photos.parquet")
    for place in (tmp_path, tmp_path / "cache-photos.parquet"):
        data = load(place)
        assert len(data.train) + len(data.held_out) == 13


def parquet(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    pq.write_table(table(end=13, **more), folder / "train-00000-of-00002.parquet", row_group_size=5)
    pq.write_table(table(start=13, **more), folder / "train-00001-of-00002.parquet", row_group_size=5)
    return folder


def webdataset(folder: Path) -> Path:
    """Two tar shards with labels in .cls files and companions that are no pictures."""
    rows = [(f"{n:06d}", name[0], content) for n, (name, content) in enumerate(PICTURES.items())]
    for shard in range(2):
        files = {}
        for key, label, content in rows[shard * 30 : shard * 30 + 30]:
            files |= {f"{key}.cls": label.encode(), f"{key}.json": b"{}", f"{key}.png": content, f"{key}.txt": b"words"}
        packed(folder / f"train-{shard:04d}.tar", files)
    return folder


def arrow_file(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / "all.arrow"), "wb") as sink, pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table(), 5)
    return folder


FORMS: dict[str, Callable[[Path], Path | str]] = {
    "parquet": parquet,
    "parquet-file": lambda folder: _one_parquet(folder),
    "parquet-of-bytes": lambda folder: parquet(folder, struct=False),
    "arrow": saved,
    "arrow-file": arrow_file,
    "tar": lambda folder: packed(folder / "all.tar", PICTURES).parent,
    "old-tar": lambda folder: packed(folder / "all.tar", PICTURES, tarfile.USTAR_FORMAT),
    "tar-in-a-folder": lambda folder: packed(folder / "all.tar", {f"./{name}": one for name, one in PICTURES.items()}),
    "webdataset": webdataset,
    "webdataset-pattern": lambda folder: f"{webdataset(folder)}/train-{{0000..0001}}.tar",
    "webdataset-stars": lambda folder: f"{webdataset(folder)}/train-*.tar",
}


def _one_parquet(folder: Path) -> Path:
    folder.mkdir()
    pq.write_table(table(), folder / "all.parquet")
    return folder / "all.parquet"


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pictures_are_the_same_data_in_every_form(form: str, tmp_path: Path) -> None:
    as_folder, as_shards = load(unpacked(tmp_path / "folder")), load(FORMS[form](tmp_path / "shards"))
    assert as_shards.digest == as_folder.digest
    assert (as_shards.train == as_folder.train).all()
    assert (as_shards.held_out == as_folder.held_out).all()
    assert as_shards.label_names == as_folder.label_names == ("a", "b")
    assert as_shards.labels is not None
    assert (as_shards.labels == as_folder.labels).all()
    assert (as_shards.skipped, as_shards.warned) == ([], [])


@undrawn
def test_a_training_on_shards_is_that_on_the_folder_and_goes_on_from_elsewhere(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path / "folder"), webdataset(tmp_path / "shards")
    assert gankit("run", "began", "--data", "folder", *TRAIN, "--mirror", "--out", "whole").code == 0
    said = gankit("run", "began", "--data", "shards/train-{0000..0001}.tar", *TRAIN[:-4], "--steps", "2", "--mirror",
                  "--log-every", "1", "--out", "parted")  # fmt: skip
    assert said.code == 0, said.err
    assert "read 60 files into the cache" in said.out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = gankit("resume", tmp_path / "parted", "--steps", "4")
    assert again.code == 0
    assert "have changed" not in again.out
    assert timeless(tmp_path / "parted") == timeless(tmp_path / "whole")
    assert read(tmp_path / "parted/data.json")["labels"] == ["a", "b"]


def test_inspect_and_evaluate_take_shards(gankit: Gankit, tmp_path: Path) -> None:
    parquet(tmp_path / "hub")
    said = gankit("data", "inspect", "hub", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert (found["pictures"], found["formats"], found["sides"]) == (60, {"PNG": 60}, [16, 16, 16])
    assert found["labels"] == {"a": 30, "b": 30}
    unpacked(tmp_path / "samples")
    said = gankit("evaluate", "samples", "--data", "hub/train-*.parquet", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["of"]["train"] == 54


def test_a_second_start_reads_no_shard_and_a_changed_one_is_noticed(tmp_path: Path, own_cache: Path) -> None:
    path = packed(tmp_path / "all.tar", PICTURES)
    told: list[tuple[int, int]] = []
    load(path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
    assert all(done < total for done, total in told[:-1])
    told.clear()
    before = load(path, progress=lambda done, total: told.append((done, total)))
    assert told == []
    packed(path, dict(list(PICTURES.items())[:10]))
    assert len(load(path).train) < len(before.train)


@pytest.mark.parametrize("form", ["parquet-file", "parquet", "arrow", "arrow-file", "tar", "webdataset"])
def test_the_number_of_pictures_in_shards_is_guessed_well_enough(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: of a Parquet file with one row group billions were expected, which fit on no disk."""
    expected: list[int] = []
    monkeypatch.setattr("gankit.data.folder._FIRST", 12)
    monkeypatch.setattr("gankit.data.cache.Writer.expect", lambda self, count: expected.append(count))
    guesses: list[int] = []
    load(FORMS[form](tmp_path / "shards"), progress=lambda done, total: guesses.append(total))
    assert len(expected) == 1
    assert expected[0] <= 60
    assert 12 < guesses[11] <= 120
    assert guesses[-1] == 60


def test_the_columns_can_be_named_behind_the_path(gankit: Gankit, tmp_path: Path) -> None:
    images = [{"bytes": one, "path": None} for one in PICTURES.values()]
    masks = [png(100 + n) for n in range(60)]
    kinds = pa.array([f"kind {n % 3}" for n in range(60)]).dictionary_encode()
    made = pa.table({"photo": images, "mask": masks, "kind": kinds, "size": [float(n) for n in range(60)]})
    pq.write_table(made, tmp_path / "all.parquet")
    refused(gankit("data", "inspect", "all.parquet"), "pictures in the columns photo, mask", "--data PATH#photo")
    refused(gankit("data", "inspect", "all.parquet#photos"), "no column photos", "photo", "mask")
    refused(gankit("data", "inspect", "all.parquet#photo,kinds"), "no column kinds", "did you mean 'kind'")
    photos, masks_ = load(tmp_path / "all.parquet#photo,kind"), load(tmp_path / "all.parquet#mask")
    assert photos.digest == load(unpacked(tmp_path / "folder")).digest
    assert photos.label_names == ("kind 0", "kind 1", "kind 2")
    assert masks_.digest != photos.digest
    assert masks_.labels is None
    refused(gankit("data", "inspect", "folder#photo"), "#photo names a column", "a folder of pictures")


def test_a_sign_of_columns_in_the_name_of_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "my#set").mkdir()
    (tmp_path / "my#set" / "a.parquet").touch()
    whole, chosen = look(f"{tmp_path}/my#set/*.parquet"), look(f"{tmp_path}/my#set/*.parquet#photo")
    assert (whole.columns, chosen.columns) == ("", "photo")
    assert whole.root == chosen.root == tmp_path.resolve() / "my#set"


# Damage: skipped and named, or one line.


def test_a_tar_that_is_cut_short_gives_what_is_whole_and_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", PICTURES)
    packed(tmp_path / "b.tar", {"z/1.png": png(77)})
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        place = archive.getmembers()[10].offset_data
    for cut in (place + 100, place - 300, place - 512):  # in a picture, in a header, between two
        path.write_bytes(whole[:cut])
        data = load(tmp_path, holdout=0)
        assert len(data.train) == 11
        (told,) = [one for one in data.skipped if one["file"] == "a.tar"]
        assert told["reason"].startswith("damaged or cut short after 1")
        (tmp_path / "a.tar").unlink()
    path.write_bytes(whole[: place - 512] + b"\xff" * 512 + whole[place:])
    assert [one["file"] for one in load(tmp_path, holdout=0).skipped] == ["a.tar"]


def test_a_damaged_row_group_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    pq.write_table(table(), path, row_group_size=15, compression="zstd", use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(1)
    places = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    column = places["image.bytes"]
    raw = bytearray(path.read_bytes())
    raw[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(raw)
    data = load(path, holdout=0)
    assert len(data.train) == 45
    assert data.skipped == [{"file": "all.parquet rows 15 to 29", "reason": "damaged: these rows are left out"}]


@pytest.mark.parametrize("cut", [2, 4, 60])
def test_an_arrow_stream_that_is_cut_short_is_named(cut: int, tmp_path: Path) -> None:
    path = stream(tmp_path / "data.arrow", table())
    raw = path.read_bytes()
    path.write_bytes(raw[: -8 if cut == 4 else len(raw) * cut // 100])
    if cut == 2:
        with pytest.raises(UserError, match=r"data\.arrow: damaged or cut short"):
            load(path)
        return
    data = load(path, holdout=0)
    assert len(data.train) == (60 if cut == 4 else 35)
    assert data.skipped[0]["file"] == "data.arrow"
    assert "the rest is left out" in data.skipped[0]["reason"]


def test_rows_without_a_picture_are_skipped_and_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    rows = [
        {"bytes": None, "path": str(secret)},
        None,
        {"bytes": b"%!PS-Adobe-3.0 EPSF-3.0", "path": ""},
        {"bytes": png(1)[:60], "path": ""},
        {"bytes": png(1), "path": ""},
        {"bytes": png(2), "path": ""},
    ]
    made = pa.table({"image": rows, "label": [0, 1, None, -5, None, 7]})
    pq.write_table(made, tmp_path / "all.parquet")
    data = load(tmp_path / "all.parquet", holdout=0)
    assert len(data.train) == 2
    assert [one["file"] for one in data.skipped] == [f"all.parquet row {n}" for n in range(4)]
    assert "only the path of a file" in data.skipped[0]["reason"]
    assert data.skipped[2]["reason"] == "PostScript: export it as PNG"
    assert data.label_names == (".", "7")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: (folder / "a.tar").write_bytes(b""), "a.tar: damaged or cut short"),
        (lambda folder: packed(folder / "a.tar", {}), "its shards are empty"),
        (lambda folder: packed(folder / "a.tar", {"README": b"hello"}), "a.tar/README: not a picture"),
        (lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 nothing PAR1"), "a.parquet: damaged"),
        (lambda folder: pq.write_table(pa.table({"x": [1]}), folder / "a.parquet"), "no column of pictures"),
        (lambda folder: (folder / "a.arrow").write_bytes(b"\xff\xff\xff\xff\0\0\0\0"), "a.arrow: damaged"),
    ],
)
def test_shards_without_a_picture_end_in_one_line(
    make: Callable[[Path], Any], words: str, gankit: Gankit, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    make(tmp_path / "all")
    refused(gankit("run", "began", "--data", "all", *TRAIN), words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("shards/train-{0005..0009}.tar", "shards/train-{0005..0009}.tar (train-0005.tar: cannot be read"),
        ("shards/{0..999999999}.tar", "no range of at most"),
        ("shards/{0..999}-{0..999}.tar", "more than 100,000 shards"),
        (f"shards/{{0..{'9' * 5000}}}.tar", "check the path and the numbers"),
        ("shards/other-*.tar", "no shards"),
        ("shards/train-0007.tar", "did you mean 'train-0001.tar'"),
        ("nobody/pictures", "gankit fetches nothing"),
        ("all.zip", "a .parquet, .arrow or .tar file"),
    ],
)
def test_a_path_that_leads_to_nothing_is_refused(data: str, words: str, gankit: Gankit, tmp_path: Path) -> None:
    webdataset(tmp_path / "shards")
    (tmp_path / "all.zip").write_bytes(b"PK")
    refused(gankit("run", "began", "--data", data, *TRAIN), words)


def test_missing_shards_of_a_pattern_are_named_and_the_others_used(tmp_path: Path) -> None:
    data = load(f"{webdataset(tmp_path / 'shards')}/train-{{0000..0002}}.tar", holdout=0)
    assert len(data.train) == 60
    assert data.skipped == [{"file": "train-0002.tar", "reason": "cannot be read: no such file or directory"}]


def test_shards_among_pictures_are_named_and_the_pictures_used(tmp_path: Path) -> None:
    unpacked(tmp_path / "all")
    packed(tmp_path / "all/all.tar", PICTURES)
    pq.write_table(table(), tmp_path / "all/all.parquet")
    data = load(tmp_path / "all", holdout=0)
    assert len(data.train) == 60
    assert [one["reason"] for one in data.skipped] == [
        "a Parquet file among pictures: give its own path to --data",
        "a tar file among pictures: give its own path to --data",
    ]


def test_without_pyarrow_one_line_says_what_to_install(gankit: Gankit, tmp_path: Path, monkeypatch: Any) -> None:
    parquet(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(gankit("run", "began", "--data", "hub", *TRAIN), "pip install 'gankit[parquet]'")


def test_a_run_within_shards_with_a_named_column_is_refused(gankit: Gankit, tmp_path: Path) -> None:
    parquet(tmp_path / "ds")
    refused(
        gankit("run", "began", "--data", "ds#image", "--out", "ds/run"), "would lie inside the pictures", "ds#image"
    )
