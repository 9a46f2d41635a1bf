"""Shards: files that hold many pictures each. How they are named, and what is read from one."""

from __future__ import annotations

import glob
import io
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gankit.data.scan import File, shown
from gankit.errors import UserError
from gankit.files import ordinary

SUFFIXES = (".parquet", ".arrow", ".tar")
KEPT = re.compile(r"cache-[0-9a-f]{16}.*\.arrow")  # beside a stored data set: results that 🤗 datasets keeps
PICTURES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif")  # suffixes
LARGEST = 1 << 27  # bytes of one picture in a shard, which is read into memory at once
_MOST = 100_000  # shards that a pattern may name
_GROUP = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")


class Item(NamedTuple):
    """What should be a picture: a file, or the bytes of one in a shard."""

    name: str  # for messages: cats/17.jpg, train-0003.tar/000017.jpg, train.parquet row 17
    label: str  # "." without one
    content: Path | bytes | None
    reason: str  # why there is no content
    at: int  # bytes of the data up to here, roughly
    place: int = 0  # where a shard has it: in a tar the offset, in a table the group of rows (of a stream, its offset)
    extent: int = 0  # in a tar the bytes, in a table the row of the group

    def opened(self) -> BinaryIO:
        """The file, or the bytes of a shard as one. Raises as `gankit.files.ordinary` does."""
        return ordinary(self.content) if isinstance(self.content, Path) else io.BytesIO(self.content or b"")


def is_shard(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and not KEPT.match(os.path.basename(path))


def named(argument: str) -> tuple[Path, list[File], list[dict[str, str]]] | None:
    """The shards of a file's name or a pattern: train-{0000..0009}.tar, data/train-*.parquet. None for another name.

    Returns the folder that holds them, its files in order, and the missing ones as {"file", "reason"}. Raises
    `UserError` if no such file is there.
    """
    place = os.path.expanduser(argument)
    if os.path.isdir(place) or not is_shard(place) or not (os.path.isfile(place) or re.search(r"[{*?\[]", place)):
        return None
    names = [place] if os.path.isfile(place) else list(_expanded(place))
    base = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in names or [place]])
    files, problems = [], []
    for name in names:
        path = os.path.relpath(os.path.abspath(name), base)
        try:
            told = os.stat(name)
        except OSError as error:
            problems.append({"file": shown(path), "reason": f"cannot be read: {(error.strerror or 'error').lower()}"})
            continue
        if stat.S_ISREG(told.st_mode):
            files.append(File(path, told.st_size, told.st_mtime_ns, told.st_mode & 0o444))
        else:
            problems.append({"file": shown(path), "reason": "not an ordinary file"})
    if not files:
        first = f" ({problems[0]['file']}: {problems[0]['reason']})" if problems else ""
        raise UserError(f"no shards {argument}{first}; check the path and the numbers in {{}}")
    return Path(os.path.realpath(base)), files, problems


def _expanded(pattern: str) -> Iterator[str]:
    """The names of a pattern: {0000..0009} and {a,b} as in bash, and then *, ? and [] as they are on the disk."""
    parts: list[list[str]] = []
    place = count = 0
    for found in [*_GROUP.finditer(pattern), None]:
        parts.append([pattern[place : found.start() if found else None]])
        if found is None:
            break
        first, last, words = found.groups()
        if words is None and not 0 <= int(last) - int(first) < _MOST:
            raise UserError(f"{found[0]} in {pattern} is no range of at most {_MOST:,} shards from low to high")
        numbers = range(int(first), int(last) + 1) if words is None else ()
        parts.append(words.split(",") if words is not None else [f"{n:0{len(first)}d}" for n in numbers])
        place = found.end()
    for name in map("".join, itertools.product(*parts)):
        for one in sorted(glob.glob(name)) if glob.has_magic(name) and not os.path.exists(name) else [name]:
            count += 1
            if count > _MOST:
                raise UserError(f"{pattern} names more than {_MOST:,} shards")
            yield one
