"""Atomic writes, and access below a folder that follows no link out of it.

A run folder or a comparison is not trusted: gankit follows no link inside it, and a path in one of its files cannot
leave it. The folder itself may be a link, because the user names it.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic_core import from_json

from gankit.errors import UserError

try:
    import fcntl as fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

OBJECT, LINE = 64 << 20, 16 << 20  # bytes: more has no JSON file and no line of gankit's
HOLES = 200  # a file with less than this part of its size on the disk is sparse: no file system compresses so well
MARK = "drawn by gankit"  # in the pictures and films that gankit draws, whose place the next ones may take
EDGE = 4096  # bytes at either end of a file, where such a mark stands
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK, because opening a named pipe would wait.
_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE |= getattr(os, "O_BINARY", 0)


class Unreachable(UserError):
    """A file below a folder that gankit does not open: a link leads to it, or it is no ordinary file."""


def refuse_foreign(path: Path, mark: str = MARK, by: str = "gankit") -> None:
    """Raise UserError where something is at `path` that has no `mark` of gankit's, and so is the user's."""
    if not os.path.lexists(path):
        return
    ours = False
    with suppress(OSError, UserError), ordinary(path) as file:
        ours = mark.encode() in file.read(EDGE)
        file.seek(-EDGE, os.SEEK_END)
        ours = ours or mark.encode() in file.read(EDGE)
    if not ours:
        raise UserError(f"--out {path} exists, and {by} did not write it: give another name")


@contextmanager
def replacing(path: Path, folders: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside `path` (with its suffix) to write to; without an error it then replaces `path`.

    A link at `path` is replaced, not followed. The folder must be there, or `folders` makes it: a run's may have been
    deleted, and is not made anew. Raises UserError for an OSError.
    """
    beside = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        if folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o666))
        yield beside
        with open(beside, "rb") as written:  # on the disk before the rename
            os.fsync(written.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder` to fill; without an error it then takes that name, which must be free.

    So `folder` is there whole or not at all. Raises OSError, FileExistsError if the name is taken.
    """
    beside = folder.with_name(f".{secrets.token_hex(4)}.{folder.name[:60]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside.mkdir()
    try:
        yield beside
        if os.path.lexists(folder):  # an empty folder would be replaced without a word
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        os.rename(beside, folder)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # another process was faster
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder)) from None
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def make(folder: Path, fill: Callable[[Path], object] | None = None) -> None:
    """Make a folder of a free name, whole with what `fill` writes into it. Raises as `making` does."""
    if fill is None:
        folder.mkdir(parents=True)
        return
    with making(folder) as beside:
        fill(beside)


def relative(name: str) -> PurePosixPath:
    """A relative path from a file. Raises ValueError if it leads out of the file's folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} does not lie below it")
    return path


def below(root: Path, *parts: str, make: bool = False) -> Path:
    """The folder `parts` below `root`, which `make` creates. Raises Unreachable if a part is a link or no folder."""
    folder = root
    for part in parts:
        folder = folder / part
        try:
            kind = folder.lstat().st_mode
        except FileNotFoundError:
            if make:
                folder.mkdir(exist_ok=True)
            continue
        if stat.S_ISLNK(kind):
            raise linked(folder)
        if not stat.S_ISDIR(kind):
            raise Unreachable(f"{folder} is no folder: move it away")
    return folder


def opened(root: Path, path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Open an ordinary file below `root` without following links or waiting; return the descriptor.

    `path` is relative, or begins with `root`. Raises Unreachable if it or a folder on the way is a link, if it is no
    ordinary file, if it leads out of `root`, or for writing to a file that has a second name; OSError as `os.open`.
    """
    parts = Path(path).relative_to(root).parts if Path(path).is_relative_to(root) else Path(path).parts
    where = root.joinpath(*parts)
    if not parts or ".." in parts or Path(*parts).is_absolute():
        raise Unreachable(f"{where} does not lie in {root}")
    if os.open not in os.supports_dir_fd:  # Windows
        if below(root, *parts[:-1]) and where.is_symlink():
            raise linked(where)
        return _ordinary(os.open(where, flags | _FILE, 0o666), where, flags)
    here, where = os.open(root, os.O_RDONLY | _FOLDER & ~os.O_NOFOLLOW), root
    for n, part in enumerate(parts, start=1):
        where = where / part
        how = flags | _FILE if n == len(parts) else os.O_RDONLY | _FOLDER
        try:
            deeper = os.open(part, how, 0o666, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and where.is_symlink():
                raise linked(where) from None
            if error.errno == errno.ENXIO:  # a named pipe or socket that nobody reads
                raise Unreachable(f"{where} is no ordinary file: move it away") from None
            raise OSError(error.errno, error.strerror, str(where)) from None
        finally:
            os.close(here)
        here = deeper
    return _ordinary(here, where, flags)


def ordinary(path: str | Path) -> io.BufferedReader:
    """Open a file of the user's, also through a link, without waiting.

    Raises Unreachable if it is no ordinary file, such as a named pipe or a device, and OSError as `os.open` does.
    """
    return os.fdopen(_ordinary(os.open(path, os.O_RDONLY | _FILE & ~getattr(os, "O_NOFOLLOW", 0)), Path(path)), "rb")


def read(root: Path, path: str | Path, most: int = 1 << 30) -> bytes:
    """The bytes of a file below `root`. Raises as `opened` does, and Unreachable for a file of more than `most`."""
    with os.fdopen(opened(root, path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            where = path if Path(path).is_relative_to(root) else root / path
            raise Unreachable(f"{where} has {size >> 20:,} MB: gankit wrote no such file; move it away")
        return file.read()


def read_object(root: Path, path: str | Path) -> dict[str, Any]:
    """The JSON object of a file below `root`. Raises as `read` does, and ValueError where it holds anything else."""
    value = parse(read(root, path, OBJECT))
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def read_lines(root: Path, path: str | Path) -> Iterator[bytes]:
    """The whole lines of a file below `root`; none that is still being written. Raises as `opened` does.

    A line of more bytes than gankit writes comes in pieces, none of which is JSON.
    """
    with os.fdopen(opened(root, path), "rb") as file:
        while line := file.readline(LINE):
            if line.endswith(b"\n") or len(line) == LINE:
                yield line


def parse(data: bytes) -> Any:
    """The value of strict JSON, which may be a stranger's.

    Raises ValueError also for NaN, for half a character, for numbers of thousands of digits, and for deep nesting.
    """
    return from_json(data, allow_inf_nan=False)


def finite(value: Any) -> float | None:
    """A value of JSON as a finite number; None where it is none, or beyond what a float holds."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return float(value) if sound else None


def _ordinary(descriptor: int, where: Path, flags: int | None = None) -> int:
    """The descriptor of an ordinary file. `flags`: of a file in a folder that is not trusted: it is looked at more."""
    told = os.fstat(descriptor)
    if not stat.S_ISREG(told.st_mode):
        os.close(descriptor)
        raise Unreachable(f"{where} is no ordinary file: move it away")
    if flags is None:
        return descriptor
    if told.st_size > OBJECT and getattr(told, "st_blocks", told.st_size) * 512 < told.st_size // HOLES:
        os.close(descriptor)
        raise Unreachable(f"{where} is {told.st_size >> 20:,} MB of holes: gankit wrote no such file; move it away")
    if flags & (os.O_WRONLY | os.O_RDWR) and told.st_nlink > 1:  # of a file outside, or of a copy that `cp -l` made
        os.close(descriptor)
        raise Unreachable(f"{where} is a hard link, and what is written there changes another file: put a copy there")
    return descriptor


class Lines:
    """Appends whole lines to a file. Text that a full disk refuses waits in memory for the next write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._waiting, self._closed = descriptor, b"", False

    def write(self, line: str | bytes = b"") -> None:
        """Append a line, which must end with a line feed, after the waiting ones. Raises OSError if it has to wait."""
        if self._closed:
            raise ValueError("these lines are closed")
        self._waiting += line.encode() if isinstance(line, str) else line
        while self._waiting:
            self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]

    def close(self) -> None:
        """Write the waiting lines, if there is room now, and close."""
        if self._closed:  # by now the descriptor may be another file's
            return
        with suppress(OSError):
            self.write()
        self._closed = True
        os.close(self._descriptor)


def place_of(descriptor: int) -> str:
    """The current path of an open folder. Raises OSError if the system does not provide it."""
    if os.path.isdir("/proc/self/fd"):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    if hasattr(fcntl, "F_GETPATH"):  # macOS
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    raise OSError(errno.ENOTSUP, "no way to tell")


def linked(where: Path) -> Unreachable:
    """The error for a link in a run's folder."""
    return Unreachable(f"{where} is a link, and no link in a run's folder is followed: put there what it leads to")
