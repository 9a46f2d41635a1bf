"""Decoded pictures on disk: one memory-mapped file for each set of files and settings, written once and atomically.

    CACHE/pictures/KEY/pictures.npy    uint8 (N, S, S, 3), sorted by content, so that copies lie side by side
    CACHE/pictures/KEY/index.json      the file of each picture, and the skipped files
    CACHE/places/KEY/…                 where each picture of a stream lies, and no picture (`gankit.data.places`)

CACHE is the environment variable GANKIT_CACHE, or else the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from gankit.data.source import Data
from gankit.data.split import held_out_count
from gankit.errors import UserError

_FORMAT = 1  # of the files below
DAY = 86400
_GROWING = ("unsorted", "pictures.npy", "names")  # files of an entry that take time to write
_OWN = (*_GROWING, "index.json", "rows", "first")  # what an entry holds; one with foreign files is not removed
UNUSED_DAYS = 60  # older entries are removed
_PATIENCE = 60  # seconds in which a process that decodes writes something
_BLOCK, _BLOCKS = 1 << 16, 1024  # the checksum reads at most this much: 64 MiB

Kept = TypeVar("Kept")


@dataclass
class Notes:
    """A builder's information about the pictures, besides their pixels."""

    labels: list[int] | None = None  # in the order of `Writer.add`
    label_names: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    warned: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """The pictures of a data source, sorted by content: uint8 (N, S, S, 3), memory-mapped."""

    pictures: np.ndarray
    contents: list[str]  # (N,) hex hashes
    files: list[str]  # (N,)
    labels: np.ndarray | None  # int64 (N,)
    label_names: tuple[str, ...]
    skipped: list[dict[str, str]]
    warned: list[dict[str, str]]
    digest: str

    def as_data(self, name: str, holdout: float, skipped: Sequence[dict[str, str]] = ()) -> Data:
        """Split into the part to train on and the held-out part, without a copy.

        `skipped`: files skipped before decoding.
        """
        cut = held_out_count(self.contents, holdout)
        return Data(
            name=name,
            train=self.pictures[cut:],
            held_out=self.pictures[:cut],
            digest=self.digest,
            labels=None if self.labels is None else self.labels[cut:],
            label_names=self.label_names,
            skipped=sorted([*self.skipped, *skipped], key=lambda note: note["file"]),
            warned=self.warned,
        )


def root() -> Path:
    """The cache folder."""
    return Path(os.environ.get("GANKIT_CACHE") or platformdirs.user_cache_dir("gankit")).expanduser()


def fetch(
    settings: Mapping[str, Any],
    identity: Any,
    size: int,
    build: Callable[[Writer], Notes],
    outdated: Callable[[Entry], bool] = lambda entry: False,
) -> Entry:
    """Return the cached pictures of `identity` (the files) under `settings` (everything that alters pixels).

    Both must be JSON-serialisable. If they are not in the cache, `build` adds every picture, (size, size, 3), to the
    writer; once more if what is there is `outdated`. Raises `UserError` if the cache folder is not writable, and
    whatever `build` raises.
    """
    place = root() / "pictures"

    def fill(scratch: Path) -> None:
        writer = Writer(scratch, size, place)
        try:
            notes = build(writer)
            writer.finish(notes, settings)
        finally:
            writer.close()

    folder = place / hashed([_FORMAT, settings, identity])[:32]
    if outdated(entry := kept(folder, _load, fill)):
        shutil.rmtree(folder, ignore_errors=True)
        entry = kept(folder, _load, fill)
    return entry


def kept(folder: Path, load: Callable[[Path], Kept | None], build: Callable[[Path], None]) -> Kept:
    """What `load` reads from the cache's folder; where it is missing or damaged, `build` fills a new one first.

    One process builds while others wait. A reader finds the folder whole or not at all. Raises `UserError` if the
    cache is not writable, and whatever `build` raises.
    """
    place = folder.parent
    if (entry := _used(folder, load)) is not None:
        return entry
    with explained(place):
        place.mkdir(parents=True, exist_ok=True)
        _tidy(place)
    with _alone(folder):
        if (entry := _used(folder, load)) is not None:  # another process was faster
            return entry
        scratch = place / f".building-{uuid.uuid4().hex}"
        try:
            with explained(place):
                scratch.mkdir()
            build(scratch)
            with explained(place):
                _install(scratch, folder, load)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _load_again(folder, load)


def _used(folder: Path, load: Callable[[Path], Kept | None]) -> Kept | None:
    """What `load` gives, in a way that `_tidy` sees."""
    if (entry := load(folder)) is not None:
        with suppress(OSError):
            os.utime(folder / "index.json")
    return entry


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let other processes wait that want the same pictures, so that one of them decodes.

    Nobody waits for a process that has stopped writing: two that decode at once do no harm.
    """
    path = folder.with_name(f"{folder.name}.lock")
    lock = FileLock(path)
    with suppress(OSError, NotImplementedError):  # some file systems have no locks
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_PATIENCE / 10)
            except Timeout:
                if not _somebody_writes(folder.parent):
                    break
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                path.unlink()
            lock.release(force=True)


def _somebody_writes(place: Path) -> bool:
    """Whether a process writes an entry, or did so lately."""
    for name in _GROWING:
        for path in place.glob(f".building-*/{name}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime < _PATIENCE:
                    return True
    return False


def find(digest: str) -> Entry | None:
    """An entry whose pictures have the digest `digest` (`Data.digest`), or None. It reads only the cache."""
    named = f'"digest": {json.dumps(digest)}'
    for path in sorted((root() / "pictures").glob("*/index.json")):
        with suppress(OSError):
            with open(path, encoding="utf-8", errors="replace") as index:
                start = index.read(1000)  # the lists of files come after the digest
            if named in start and (entry := _load(path.parent)) is not None and entry.digest == digest:
                return entry
    return None


class Writer:
    """Takes pictures in any order and writes them sorted, without holding them in memory."""

    def __init__(self, folder: Path, size: int, place: Path) -> None:
        self._folder, self._size, self._place = folder, size, place
        self._contents: list[str] = []
        self._files: list[str] = []
        with explained(place):
            self._unsorted = open(folder / "unsorted", "wb")  # noqa: SIM115 - `close` closes it

    def expect(self, count: int) -> None:
        """Raise `UserError` if there is no room on the disk for `count` pictures in all, before hours are spent."""
        whole = count * self._size**2 * 3
        free = shutil.disk_usage(self._folder).free
        if 2 * whole > free:
            raise UserError(
                f"{count:,} pictures or more of {self._size}×{self._size} pixels take {whole / 1e9:,.1f} GB in the "
                f"cache, and twice that until they are sorted; {self._place} has {free / 1e9:,.1f} GB free: make room, "
                "set GANKIT_CACHE to a folder on another disk, use a smaller --image-size, or --stream: then nothing "
                "is kept, and pictures are decoded again each time"
            )

    def add(self, pixels: np.ndarray, file: str, content: str) -> None:
        """Add the picture, uint8 (S, S, 3), of a file; `content` is a hash (hex), equal for copies."""
        if pixels.shape != (self._size, self._size, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype} from {file}")
        with explained(self._place):
            self._unsorted.write(pixels.tobytes())
        self._contents.append(content)
        self._files.append(file)

    def close(self) -> None:
        with suppress(OSError):
            self._unsorted.close()

    def finish(self, notes: Notes, settings: Mapping[str, Any]) -> None:
        """Write pictures.npy and index.json."""
        with explained(self._place):
            self._unsorted.close()
            order = sorted(range(len(self._files)), key=lambda i: (self._contents[i], self._files[i]))
            written = self._write_sorted(order)
            contents = [self._contents[i] for i in order]
            index = {
                "format": _FORMAT,
                "shape": [len(order), self._size, self._size, 3],
                "checksum": written,
                "digest": hashed([settings, contents]),
                "files": [self._files[i] for i in order],
                "contents": contents,
                "labels": None if notes.labels is None else [notes.labels[i] for i in order],
                "label_names": notes.label_names,
                "skipped": notes.skipped,
                "warned": notes.warned,
            }
            (self._folder / "index.json").write_text(json.dumps(index))

    def _write_sorted(self, order: list[int]) -> int:
        shape = (len(order), self._size, self._size, 3)
        picture = self._size * self._size * 3
        # Plain reads and writes: a full disk raises an error here, but kills the process in a memory-mapped file, and a
        # mapped file counts as this process's memory.
        with open(self._folder / "unsorted", "rb", 0) as unsorted, open(self._folder / "pictures.npy", "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for place in order:
                unsorted.seek(place * picture)
                file.write(unsorted.read(picture))
            file.flush()
            os.fsync(file.fileno())
        (self._folder / "unsorted").unlink()
        return checksum(self._folder / "pictures.npy")


def _load(folder: Path) -> Entry | None:
    """The entry in a folder, or None if it is missing or damaged."""
    try:
        index = json.loads((folder / "index.json").read_text())
        count = index["shape"][0]
        labels = None if index["labels"] is None else np.array(index["labels"], dtype=np.int64)
        lists = [index["files"], index["contents"], *([] if labels is None else [labels])]
        pictures = np.load(folder / "pictures.npy", mmap_mode="r", allow_pickle=False)
        whole = (
            index["format"] == _FORMAT
            and pictures.dtype == np.uint8
            and list(pictures.shape) == index["shape"]
            and all(len(values) == count for values in lists)
            and checksum(folder / "pictures.npy") == index["checksum"]
        )
        if not whole:
            return None
        return Entry(
            pictures, index["contents"], index["files"], labels, tuple(index["label_names"]),
            index["skipped"], index["warned"], index["digest"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError):
        return None


def refuse_cut_short(array: object) -> None:
    """Raise `UserError` if the file of a memory-mapped array has lost its end: reading there kills the process."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and mapped.size() < len(mapped):
        raise UserError(
            f"the picture cache {getattr(array, 'filename', '')} was cut short by another program; "
            "a resume makes it anew"
        )


def _load_again(folder: Path, load: Callable[[Path], Kept | None]) -> Kept:
    """Load the entry just installed; another process that repairs the same damage may be replacing it."""
    for _ in range(20):
        if (entry := load(folder)) is not None:
            return entry
        time.sleep(0.05)
    raise UserError(f"the picture cache in {folder} cannot be read back; set GANKIT_CACHE to another folder")


def _install(scratch: Path, folder: Path, load: Callable[[Path], Any]) -> None:
    try:
        scratch.rename(folder)
    except OSError:
        if load(folder) is not None:
            return  # another process was faster; its pictures are the same
        with suppress(FileNotFoundError):
            damaged = folder.rename(folder.with_name(f".building-{uuid.uuid4().hex}"))
            shutil.rmtree(damaged, ignore_errors=True)
        scratch.rename(folder)


def _tidy(place: Path) -> None:
    """Remove unfinished entries of killed processes, and entries that nobody has used for long."""
    for folder in place.iterdir():
        with suppress(OSError):
            if folder.is_symlink():
                continue
            if re.fullmatch("[0-9a-f]{32}[.]lock", folder.name) and time.time() - folder.stat().st_mtime > DAY:
                folder.unlink()  # of a killed process
            if re.fullmatch("[.]building-[0-9a-f]{32}", folder.name):
                written = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
                stale = time.time() - written > DAY
            elif re.fullmatch("[0-9a-f]{32}", folder.name):
                stale = time.time() - (folder / "index.json").stat().st_mtime > UNUSED_DAYS * DAY
            else:
                stale = False
            if stale and all(name in _OWN for name in os.listdir(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def checksum(path: Path) -> int:
    """CRC-32 of a file's size and bytes; for a long file, of evenly spaced blocks only."""
    size = path.stat().st_size
    value = zlib.crc32(str(size).encode())
    with open(path, "rb") as file:
        if size <= _BLOCK * _BLOCKS:
            while block := file.read(1 << 20):
                value = zlib.crc32(block, value)
        else:
            for i in range(_BLOCKS):
                file.seek((size - _BLOCK) * i // (_BLOCKS - 1))
                value = zlib.crc32(file.read(_BLOCK), value)
    return value


def hashed(value: Any) -> str:
    """The hash (hex) of what JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """A `UserError` for an OSError in the cache's folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the picture cache in {place}: {reason}; make room, or set GANKIT_CACHE to another folder"
        ) from error
