"""Pictures in tar shards, as WebDataset writes them: nothing is written to the disk, and no link is followed.

Files that are called alike up to the first dot are one sample: 000017.jpg, 000017.cls, 000017.json.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from gankit.data.shards import LARGEST, PICTURES, Item

_HEADER = 1 << 20  # bytes that tarfile may read at once: only headers
_TOGETHER = 1000  # files of one sample
_LABEL = 255  # bytes of a label


class _Headers:
    """A file as tarfile sees it: a header that claims to be large takes no memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError("an enormous header")
        return self._read(size)


def pictures(file: BinaryIO, shard: str, contents: bool = True) -> Iterator[Item]:
    """Everything in an open tar file that should be a picture, in its order; damage as the last item.

    `shard`: its name for messages. A label is the text of the sample's .cls file, or else the first folder. Without
    `contents` the pictures are only found: their content is empty.
    """
    end = file.seek(0, 2)
    file.seek(0)
    sample: list[tuple[str, int, int]] = []  # name, place, bytes
    key, count, at = "", 0, 0
    try:
        for member in _members(file):
            clean = member.name.encode("utf-8", "replace").decode()  # no half characters, in messages and JSON
            name = "/".join(part for part in clean.split("/") if part not in ("", ".", ".."))
            count, at = count + 1, member.offset
            if member.isdir() or any(part.startswith(".") for part in name.split("/")):
                continue
            if not member.isreg() or member.issparse():
                reason = "a link" if member.issym() or member.islnk() else "not an ordinary file"
                yield Item(f"{shard}/{name}", ".", None, reason, at)
                continue
            folder, _, last = name.rpartition("/")
            if (stem := f"{folder}/{last.partition('.')[0]}") != key or len(sample) == _TOGETHER:
                yield from _sample(file, shard, sample, end, contents)
                sample, key = [], stem
            sample.append((name, member.offset_data, member.size))
    except Exception:  # tarfile raises many kinds of errors for damaged files
        yield from _sample(file, shard, sample, end, contents)
        yield Item(shard, ".", None, f"damaged or cut short after {count:,} files: the rest is left out", at)
        return
    yield from _sample(file, shard, sample, end, contents)


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The headers, one at a time: tarfile would keep all of them. Raises for damage, which tarfile takes for an end."""
    with tarfile.open(fileobj=_Headers(file), mode="r:", encoding="utf-8", errors="replace") as tar:  # type: ignore[call-overload]
        place = -1
        while (member := tar.next()) is not None:
            tar.members.clear()
            if tar.offset <= place or member.size < 0:
                raise tarfile.ReadError("a size below zero")
            place = tar.offset
            yield member
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0") or file.tell() < tar.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no end")


def _sample(file: BinaryIO, shard: str, sample: list[tuple[str, int, int]], end: int, contents: bool) -> Iterator[Item]:
    """The pictures of one sample; without a picture's suffix all its files, whose content then decides."""
    label = ""
    for name, place, size in sample:
        if name.lower().endswith(".cls"):
            label = read(file, place, min(size, _LABEL)).decode("utf-8", "replace").strip()
    chosen = [one for one in sample if one[0].lower().rpartition(".")[2] in PICTURES] or sample
    for name, place, size in chosen:
        first, _, rest = name.partition("/")
        known = label or (first if rest else ".")
        content, reason = None, f"too large: {size >> 20:,} MB, and gankit reads {LARGEST >> 20} MB at most"
        if size <= LARGEST and place + size > end:
            reason = "damaged or cut short"
        elif size <= LARGEST:
            content, reason = read(file, place, size) if contents else b"", ""
        yield Item(f"{shard}/{name}", known, content, reason, place, place, size)


def read(file: BinaryIO, place: int, size: int) -> bytes:
    """The bytes of one picture."""
    file.seek(place)
    return file.read(size)
