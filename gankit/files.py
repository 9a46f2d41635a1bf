"""Files that appear whole or not at all, and files below a folder that no link leads out of.

A run folder or a comparison may be somebody else's. What is read and written there is reached through no link, and a
path that stands in one of its files cannot leave it. The folder itself is the user's to name, and may be a link.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from gankit.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# What is opened must not make us wait, as a named pipe would.
_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FILE |= getattr(os, "O_BINARY", 0)


class Unreachable(UserError):
    """A file of a run's folder that is not read or written: a link leads to it, or it is no ordinary file."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` (with its suffix) to write to; it takes the name `path` once all went well.

    A link that has the name is replaced, not followed. Raises UserError if nothing can be written there.
    """
    beside = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o666))
        yield beside
        with open(beside, "rb") as written:  # on the disk before it takes the name
            os.fsync(written.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink()


def relative(name: str) -> PurePosixPath:
    """A path that stands in a file, below the folder of that file. Raises ValueError where it leads out of it."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} does not lie below it")
    return path


def below(root: Path, *parts: str, make: bool = False) -> Path:
    """The folder `parts` below `root`, which it is through no link; with `make` it is made where it is not there.

    Raises Unreachable where one of `parts` is a link, or no folder.
    """
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
    """A descriptor of an ordinary file below `root`, reached through no link and without waiting.

    `path` is relative, or begins with `root`. Raises Unreachable where it or a folder on the way is a link, where it is
    no ordinary file or leads out of `root`; OSError as `os.open` does.
    """
    parts = Path(path).relative_to(root).parts if Path(path).is_relative_to(root) else Path(path).parts
    where = root.joinpath(*parts)
    if not parts or ".." in parts or Path(*parts).is_absolute():
        raise Unreachable(f"{where} does not lie in {root}")
    if os.open not in os.supports_dir_fd:  # Windows
        if below(root, *parts[:-1]) and where.is_symlink():
            raise linked(where)
        return _ordinary(os.open(where, flags | _FILE, 0o666), where)
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
    return _ordinary(here, where)


def read(root: Path, path: str | Path) -> bytes:
    """All of a file below `root`. Raises as `opened` does."""
    with os.fdopen(opened(root, path), "rb") as file:
        return file.read()


def _ordinary(descriptor: int, where: Path) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreachable(f"{where} is no ordinary file: move it away")
    return descriptor


class Lines:
    """Lines at the end of a file, each whole. What a full disk does not take waits in memory for the next one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._waiting, self._closed = descriptor, b"", False

    def write(self, line: str = "") -> None:
        """Add a line, which ends with a line feed, after those that wait. Raises OSError where it has to wait."""
        if self._closed:
            raise ValueError("these lines are closed")
        self._waiting += line.encode()
        while self._waiting:
            self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]

    def close(self) -> None:
        """Write what waits, if there is room by now. Once is enough: the number may be another file's by then."""
        if self._closed:
            return
        with suppress(OSError):
            self.write()
        self._closed = True
        os.close(self._descriptor)


def place_of(descriptor: int) -> str:
    """Where an open folder is now. Raises OSError where the system does not tell."""
    if os.path.isdir("/proc/self/fd"):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    if hasattr(fcntl, "F_GETPATH"):  # macOS
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    raise OSError(errno.ENOTSUP, "no way to tell")


def linked(where: Path) -> Unreachable:
    """What is said of a link in a run's folder."""
    return Unreachable(f"{where} is a link, and no link in a run's folder is followed: put there what it leads to")
