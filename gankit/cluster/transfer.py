"""A run's files, from a machine to another that sees none of its folders, and back.

Both sides are named by ROOT/NAME (the run folder) and ROOT/NAME.log. What arrives is not trusted: no name leaves these
two. A checkpoint arrives whole or not at all, after the lines of its steps, and result.json arrives last. So whatever
is killed meanwhile, the copy is a run that a resume can go on with.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from gankit.errors import UserError
from gankit.files import below, making, read, relative, replacing

Stamp = tuple[int, int]  # size and time of the last change, in ns
Files = dict[str, tuple[Stamp, bytes]]  # by the path below ROOT
CHECKPOINTS = "checkpoints"


def changed(root: Path, name: str, known: Mapping[str, Stamp]) -> tuple[Files, list[str]]:
    """The files that are new or other than `known`, and the names of known ones that are gone."""
    new: Files = {}
    there: set[str] = set()
    for checkpoint, paths in groupby(_listed(root, name), key=_checkpoint):
        part: Files = {}
        for path in paths:
            try:
                stamp = _stamp(root / path)
                if known.get(path) != stamp:
                    part[path] = stamp, read(root, path, most=1 << 40)
                there.add(path)
            except FileNotFoundError:
                if checkpoint:  # it is on its way out, and half of one is none
                    part = {}
                    break
        new |= part
    return new, sorted(known.keys() - there)


def received(root: Path, name: str, files: Files, gone: Iterable[str] = ()) -> None:
    """Write files of `changed` below `root`, and remove what is gone. Raises UserError for a name that is no run's."""
    for path in (*files, *gone):
        try:
            parts = relative(path).parts
        except ValueError:
            parts = ()
        if path != f"{name}.log" and (len(parts) < 2 or parts[0] != name):
            raise UserError(f"a worker sent a file {path!r}, which is not in its run: it is not written")
    if any(path != f"{name}.log" for path in files) and not os.path.lexists(root / name):
        with making(root / name) as beside:
            for path, one in files.items():
                if path != f"{name}.log":
                    _write(beside, path.removeprefix(f"{name}/"), one)
        files = {path: one for path, one in files.items() if path == f"{name}.log"}
    order = sorted(files, key=lambda path: (path == f"{name}/result.json", _checkpoint(path)))
    for checkpoint, paths in groupby(order, key=_checkpoint):
        if checkpoint and not os.path.lexists(root / checkpoint):
            below(root, *relative(checkpoint).parts[:-1], make=True)
            with making(root / checkpoint) as beside:
                for path in paths:
                    _write(beside, path.removeprefix(f"{checkpoint}/"), files[path])
        else:
            for path in paths:
                _write(root, path, files[path])
    for checkpoint, paths in groupby(sorted(gone, key=lambda path: (_checkpoint(path), path)), key=_checkpoint):
        _remove(root, checkpoint, list(paths))


def _listed(root: Path, name: str) -> Iterator[str]:
    """The ordinary files of a run, checkpoints first: the lines that are read later have their steps."""
    if (root / name / CHECKPOINTS).is_dir():
        yield from _walked(root, f"{name}/{CHECKPOINTS}")
    if (root / f"{name}.log").is_file():
        yield f"{name}.log"
    if (root / name).is_dir():
        yield from (path for path in _walked(root, name) if not path.startswith(f"{name}/{CHECKPOINTS}/"))


def _walked(root: Path, folder: str) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(root / folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith("."):  # half-written, or a lock
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walked(root, f"{folder}/{entry.name}")
            elif entry.is_file(follow_symlinks=False):
                yield f"{folder}/{entry.name}"


def _checkpoint(path: str) -> str:
    """The folder of the checkpoint that a file belongs to, or ""."""
    parts = path.split("/")
    return "/".join(parts[:3]) if len(parts) > 3 and parts[1] == CHECKPOINTS else ""


def _stamp(path: Path) -> Stamp:
    told = path.lstat()
    return told.st_size, told.st_mtime_ns


def _write(root: Path, path: str, one: tuple[Stamp, bytes]) -> None:
    (_, time), content = one
    *folders, last = relative(path).parts
    with replacing(below(root, *folders, make=True) / last) as beside:
        beside.write_bytes(content)
        os.utime(beside, ns=(time, time))  # so that both sides know the file by one stamp


def _remove(root: Path, checkpoint: str, paths: list[str]) -> None:
    for path in paths:
        below(root, *relative(path).parts[:-1])  # raises for a link
    if checkpoint:  # whole: half of one would be a damaged one
        with suppress(FileNotFoundError):
            aside = (root / checkpoint).with_name(f".{secrets.token_hex(4)}.{Path(checkpoint).name}")
            os.rename(root / checkpoint, aside)
            shutil.rmtree(aside, ignore_errors=True)
    else:
        for path in paths:
            with suppress(OSError):
                os.unlink(root / path)
