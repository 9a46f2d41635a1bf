"""Which files lie in a data folder, in an order that is the same on every machine."""

from __future__ import annotations

import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# What systems leave lying in folders; nobody means these as pictures, so nobody is told of them.
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}


@dataclass(frozen=True)
class Found:
    """One file: its path relative to the folder, and what shows that it was changed."""

    path: str
    size: int  # bytes
    changed: int  # nanoseconds
    readable: int  # the permission bits for reading, since making a file readable does not touch its time

    @property
    def label(self) -> str:
        """The first-level folder that it lies in, "." for the data folder itself."""
        first, _, rest = self.path.replace(os.sep, "/").partition("/")
        return shown(first) if rest else "."


def shown(path: str) -> str:
    """A path as it is written in messages: with forward slashes and, whatever its bytes, in valid Unicode."""
    return os.fsencode(path.replace(os.sep, "/")).decode("utf-8", "replace")


def scan(root: Path, leave_out: Path | None = None) -> tuple[list[Found], list[dict[str, str]]]:
    """Return the files below `root` sorted by path, and what could not be looked at as {"file", "reason"}.

    Hidden files and folders are passed over. Links to folders are followed, each folder once, so that a loop
    ends; but not one to a folder that `root` lies in, such as `/`. `leave_out` is a folder not to look into.
    Raises OSError if `root` itself cannot be listed.
    """
    os.scandir(root).close()
    walk = _Walk(root, leave_out)
    walk.visit("")
    # Links come last: a folder that is also there in its own right is found under its own name.
    while walk.links:
        walk.visit(walk.links.popleft())
    walk.found.sort(key=lambda found: found.path)
    return walk.found, walk.problems


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class _Walk:
    def __init__(self, root: Path, leave_out: Path | None) -> None:
        self.root = root
        self.found: list[Found] = []
        self.problems: list[dict[str, str]] = []
        self.links: deque[str] = deque()
        self._seen: set[tuple[int, int]] = set()  # folders, by what tells one from another whatever its path
        if leave_out:
            with suppress(OSError):
                self._seen.add(_identity(os.stat(leave_out)))
        above = Path(os.path.realpath(root)).parents
        self._above = {_identity(os.stat(folder)) for folder in above}

    def visit(self, folder: str) -> None:
        folders = [folder]
        while folders:
            folder = folders.pop()
            place = os.path.join(self.root, folder)
            try:
                identity = _identity(os.stat(place))
                if identity in self._seen:
                    continue
                if identity in self._above:
                    self._problem(folder, "a link to a folder that this one lies in")
                    continue
                self._seen.add(identity)
                with os.scandir(place) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self._problem(folder, f"the folder cannot be read: {(error.strerror or 'error').lower()}")
                continue
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError as error:  # a link in a loop, or to what cannot be reached
                    self._problem(path, f"cannot be read: {(error.strerror or 'error').lower()}")
                    continue
                if is_folder:
                    (self.links if entry.is_symlink() else folders).append(path)
                else:
                    self._file(path, entry)

    def _file(self, path: str, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat()
        except FileNotFoundError:
            self._problem(path, "a link to nothing" if entry.is_symlink() else "vanished while it was looked at")
        except OSError as error:
            self._problem(path, f"cannot be read: {(error.strerror or 'error').lower()}")
        else:
            if stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                readable = status.st_mode & 0o444
                self.found.append(Found(path, status.st_size, status.st_mtime_ns, readable))
            else:
                self._problem(path, "not an ordinary file")

    def _problem(self, path: str, reason: str) -> None:
        self.problems.append({"file": shown(path), "reason": reason})
