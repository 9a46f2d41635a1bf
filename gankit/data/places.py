"""Where pictures lie: their files or shards, and for streams the place of every picture in an index on the disk.

CACHE/places/KEY/rows          for each picture its shard, place, size, label, and the end of its name in `names`
CACHE/places/KEY/names         the names, one after another
CACHE/places/KEY/first         pictures in the order of their names' hashes, as many as may be held out
CACHE/places/KEY/index.json    the names of the labels, and what is left out
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gankit.data import cache
from gankit.data.scan import File, shown
from gankit.data.shards import PICTURES, Item
from gankit.errors import UserError
from gankit.files import Unreachable, ordinary

_FORMAT = 1  # of the index
ROW = np.dtype([("shard", "<u4"), ("extent", "<u4"), ("place", "<i8"), ("end", "<i8"), ("label", "<u4")])
HELD = 10_000  # pictures that may be held out of a stream
_AT_ONCE = 4096  # rows that are written at once


class PicturesGone(UserError):
    """Pictures of an open stream cannot be read any more. Nothing has changed in the training."""


@dataclass(frozen=True)
class Place:
    """Where pictures lie: the files of a folder, or shards."""

    argument: str
    root: Path
    files: list[File]
    problems: list[dict[str, str]]  # {"file", "reason"}
    packed: bool  # the files are shards
    columns: str = ""  # of tables: PICTURES or PICTURES,LABELS

    @property
    def identity(self) -> list[Any]:
        """What reveals a change of the files, for a key of the cache."""
        known = [str(self.root), [[file.path, file.size, file.changed, file.readable] for file in self.files]]
        return [*known, ["shards", self.columns]] if self.packed else known

    def items(self, contents: bool = True) -> Iterator[Item]:
        """Everything that should be a picture, in the order of the files. Raises `UserError` as the shards' readers.

        Without `contents` the pictures in shards are only found.
        """
        before = 0
        for file in self.files:
            if self.packed:
                for item in _unpacked(self.root, file, self.columns, contents):
                    yield item._replace(at=before + item.at)
            else:
                yield Item(shown(file.path), file.label, self.root / file.path, "", before + file.size)
            before += file.size

    def all_of(self, done: int, at: int) -> int:
        """How many items there are; of shards a guess from those so far."""
        if not self.packed:
            return len(self.files)
        return max(done + 1, done * sum(file.size for file in self.files) // max(1, at))


def _unpacked(root: Path, shard: File, columns: str, contents: bool) -> Iterator[Item]:
    """The pictures of a shard."""
    from gankit.data import tables, tar

    name = shown(shard.path)
    try:
        with ordinary(root / shard.path) as file:
            if name.lower().endswith(".tar"):
                yield from tar.pictures(file, name, contents)
            else:
                yield from tables.pictures(file, name, shard.size, columns, contents)
    except Unreachable:  # the scan saw a file
        yield Item(name, ".", None, "not an ordinary file", shard.size)
    except OSError as error:
        yield Item(name, ".", None, f"cannot be read: {(error.strerror or 'error').lower()}", shard.size)


@dataclass(frozen=True)
class Index:
    """The places of the pictures of a stream, none of which has been decoded."""

    place: Place  # without the files of a folder, whose names are below
    rows: np.ndarray  # (N,) of type ROW, on the disk
    names: np.ndarray  # uint8, on the disk
    first: np.ndarray  # int64: rows in the order of their names' hashes, at most HELD
    label_names: tuple[str, ...]  # by the numbers in the rows
    skipped: list[dict[str, str]]
    digest: str  # of names, sizes and places, and not of contents

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """The name of a picture for messages, as in `Item`."""
        name = self._name(row)
        return self._shard(row) + name.decode("utf-8", "replace") if self.place.packed else shown(os.fsdecode(name))

    def items(self, rows: np.ndarray) -> Iterator[Item]:
        """The pictures of these rows, in ascending order, with their content but no name.

        Raises `PicturesGone` where a shard or the folder has vanished or changed.
        """
        cache.refuse_cut_short(self.rows)
        cache.refuse_cut_short(self.names)
        if not self.place.packed:
            yield from (Item("", ".", self.place.root / os.fsdecode(self._name(row)), "", 0) for row in rows)
            if not self.place.root.is_dir():  # or else all of them would be named
                raise PicturesGone(f"the folder {self.place.argument} has vanished")
            return
        found = self.rows[rows]
        places = zip(found["shard"].tolist(), found["place"].tolist(), found["extent"].tolist(), strict=True)
        for number, some in groupby(places, lambda place: place[0]):
            with self._opened(self.place.files[number]) as file:
                wanted = [(place, extent) for _, place, extent in some]
                yield from _picked(file, self.place.files[number], self.place.columns, wanted)

    def _name(self, row: int) -> bytes:
        start = int(self.rows[row - 1]["end"]) if row else 0
        return self.names[start : int(self.rows[row]["end"])].tobytes()

    def _shard(self, row: int) -> str:
        return shown(self.place.files[int(self.rows[row]["shard"])].path)

    @contextmanager
    def _opened(self, shard: File) -> Iterator[BinaryIO]:
        """A shard that is what it was, also after it was read."""
        name = f"the file {shown(shard.path)} of {self.place.argument}"

        def look(file: BinaryIO) -> None:
            told = os.fstat(file.fileno())
            if (told.st_size, told.st_mtime_ns) != (shard.size, shard.changed):
                raise PicturesGone(f"{name} has changed under the training")

        try:
            with ordinary(self.place.root / shard.path) as file:
                look(file)
                yield file
                look(file)
        except FileNotFoundError:
            raise PicturesGone(f"{name} has vanished") from None
        except Unreachable:
            raise PicturesGone(f"{name} is no ordinary file any more") from None
        except OSError as error:
            raise PicturesGone(f"{name} cannot be read: {(error.strerror or 'error').lower()}") from None


def _picked(file: BinaryIO, shard: File, columns: str, wanted: list[tuple[int, int]]) -> Iterator[Item]:
    from gankit.data import tables, tar

    if not shard.path.lower().endswith(".tar"):
        yield from tables.some(file, shard.path, shard.size, columns, wanted)
        return
    for place, size in wanted:
        content = tar.read(file, place, size)
        yield Item("", ".", content if len(content) == size else None, "damaged or cut short", 0)


def index(place: Place, progress: Callable[[int, int], None] | None = None) -> Index:
    """The index of what lies there, from the cache or made now: of a tar the headers are read, of a Parquet file its
    footer and labels, an Arrow file whole. `progress` is called with (done, total) meanwhile.

    Raises `UserError` if there is no picture, as far as names tell, and if the cache is not writable.
    """
    key = cache.hashed([_FORMAT, place.identity])[:32]
    slim = place if place.packed else replace(place, files=[])
    return cache.kept(
        cache.root() / "places" / key,
        lambda folder: _load(folder, slim),
        lambda folder: _Builder(place, folder).build(progress),
    )


class _Builder:
    """Writes the index of a place into a folder, without holding it in memory."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.waiting: list[tuple[int, int, int, int, int]] = []  # rows
        self.spelled: list[bytes] = []  # their names in the file
        self.hashed: list[bytes] = []  # the hashes of their whole names
        self.end = self.count = 0
        self.hashes, self.first = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.labels: dict[str, int] = {}
        self.skipped: list[dict[str, str]] = []

    def build(self, progress: Callable[[int, int], None] | None) -> None:
        with (
            cache.explained(self.folder.parent),
            open(self.folder / "rows", "wb") as rows,
            open(self.folder / "names", "wb") as names,
        ):
            at = 0
            for shard, name, item in self._found():
                at = item.at
                if item.content is None:
                    self.skipped.append({"file": item.name, "reason": item.reason})
                else:
                    self._add(shard, name, item)
                if len(self.waiting) == _AT_ONCE:
                    self._write(rows, names)
                    if progress is not None:
                        progress(self.count, self.place.all_of(self.count, at))
            self._write(rows, names)
        if not self.count:
            first = "{file}: {reason}".format(**self.skipped[0]) if self.skipped else "its shards are empty"
            raise UserError(f"no pictures in {self.place.argument} ({first}); give shards that hold them")
        if progress is not None:
            progress(self.count, self.count)
        with cache.explained(self.folder.parent):
            (self.folder / "first").write_bytes(self.first.astype("<i8").tobytes())
        written = {name: cache.checksum(self.folder / name) for name in ("rows", "names", "first")}
        told = {
            "format": _FORMAT,
            "count": self.count,
            "checksums": written,
            "labels": list(self.labels),
            "skipped": self.skipped,
            "digest": self._digest(),
        }
        with cache.explained(self.folder.parent):
            (self.folder / "index.json").write_text(json.dumps(told))

    def _found(self) -> Iterator[tuple[int, bytes, Item]]:
        """The number of the shard, the name in it, the item. Of a folder only files called pictures, if any are."""
        if self.place.packed:
            before = 0
            for number, file in enumerate(self.place.files):
                for item in replace(self.place, files=[file]).items(contents=False):
                    name = item.name.removeprefix(shown(file.path)).encode()
                    yield number, name, item._replace(at=before + item.at)
                before += file.size
            return
        called = [file for file in self.place.files if file.path.lower().rpartition(".")[2] in PICTURES]
        if called and len(called) < len(self.place.files):
            other = next(file for file in self.place.files if file.path.lower().rpartition(".")[2] not in PICTURES)
            more = len(self.place.files) - len(called) - 1
            self.skipped.append(
                {
                    "file": shown(other.path),
                    "reason": "a stream leaves out files that are not called pictures"
                    + f", {more:,} more" * (more > 0),
                }
            )
        for file in called or self.place.files:
            name = os.fsencode(file.path)
            yield 0, name, Item(shown(file.path), file.label, b"", "", 0, file.size, 0)

    def _add(self, shard: int, name: bytes, item: Item) -> None:
        self.end += len(name)
        self.spelled.append(name)
        self.hashed.append(hashlib.blake2b(item.name.encode(), digest_size=8).digest())
        label = self.labels.setdefault(item.label, len(self.labels))
        self.waiting.append((shard, item.extent, item.place, self.end, label))

    def _write(self, rows: BinaryIO, names: BinaryIO) -> None:
        rows.write(np.array(self.waiting, ROW).tobytes())
        names.write(b"".join(self.spelled))
        hashes = np.concatenate([self.hashes, np.frombuffer(b"".join(self.hashed), "<u8")])
        places = np.concatenate([self.first, np.arange(self.count, self.count + len(self.waiting))])
        order = np.lexsort((places, hashes))[:HELD]
        self.hashes, self.first = hashes[order], places[order]
        self.count += len(self.waiting)
        self.waiting, self.spelled, self.hashed = [], [], []

    def _digest(self) -> str:
        """Of the names, sizes and places of all pictures, wherever the folder lies."""
        told = hashlib.sha256(json.dumps([shown(file.path) for file in self.place.files if self.place.packed]).encode())
        for name in ("rows", "names"):
            with open(self.folder / name, "rb") as file:
                while block := file.read(1 << 20):
                    told.update(block)
        return told.hexdigest()


def _load(folder: Path, place: Place) -> Index | None:
    """The index in a folder of the cache, or None if it is missing or damaged."""
    try:
        told = json.loads((folder / "index.json").read_text())
        rows = np.memmap(folder / "rows", ROW, "r")
        names = np.memmap(folder / "names", np.uint8, "r")
        first = np.frombuffer((folder / "first").read_bytes(), "<i8")
        whole = (
            told["format"] == _FORMAT
            and len(rows) == told["count"]
            and len(first) == min(HELD, len(rows))
            and all(cache.checksum(folder / name) == value for name, value in told["checksums"].items())
            and bool(((first >= 0) & (first < len(rows))).all())
        )
        return (
            Index(place, rows, names, first, tuple(told["labels"]), told["skipped"], told["digest"]) if whole else None
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
