"""The files in a data folder, in the same order on every machine."""

from __future__ import annotations

import os
import stat
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Files that operating systems leave in folders; they are ignored without a message.
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}
# What the kernel shows as files: reading it may wait for ever, and it leads everywhere. /dev/shm is memory for files.
_KERNEL, _MEMORY = ("/proc", "/sys", "/dev"), "/dev/shm"
_INTO_KERNEL = "a link into /proc, /sys or /dev, where no pictures lie"


@dataclass(frozen=True)
class File:
    """One file: its path relative to the folder, and the values that reveal a change of it."""

    path: str
    size: int  # bytes
    changed: int  # nanoseconds
    readable: int  # the read permission bits: changing them does not change the time

    @property
    def label(self) -> str:
        """Its first-level subfolder, or "." without one."""
        first, _, rest = self.path.replace(os.sep, "/").partition("/")
        return shown(first) if rest else "."


def shown(path: str) -> str:
    """A path for messages: with forward slashes and in valid Unicode, whatever its bytes."""
    return os.fsencode(path.replace(os.sep, "/")).decode("utf-8", "replace")


def scan(root: Path, leave_out: Path | None = None) -> tuple[list[File], list[dict[str, str]]]:
    """Return the files below `root` sorted by path, and the unreadable ones as {"file", "reason"}.

    It ignores hidden files and folders and the folder `leave_out`. It follows links to folders, each folder once, but
    none to a folder that contains `root`, such as `/`, nor into /proc, /sys or /dev. Raises OSError if `root` itself
    cannot be listed.
    """
    os.scandir(root).close()
    walk = _Walk(root, leave_out)
    walk.visit("")
    # Links come last, so that a folder with a link to it keeps its own name.
    while walk.links:
        walk.follow(walk.links.popleft())
    walk.files.sort(key=lambda file: file.path)
    return walk.files, walk.problems


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class _Walk:
    def __init__(self, root: Path, leave_out: Path | None) -> None:
        self.root = root
        self.files: list[File] = []
        self.problems: list[dict[str, str]] = []
        self.links: deque[str] = deque()
        self._seen: set[tuple[int, int]] = set()  # folders, by device and inode
        if leave_out:
            with suppress(OSError):
                self._seen.add(_identity(os.stat(leave_out)))
        above = Path(os.path.realpath(root)).parents
        self._above = {_identity(os.stat(folder)) for folder in above}
        self._kernel = {os.stat(place).st_dev for place in _KERNEL if os.path.ismount(place)} - {os.stat(root).st_dev}

    def follow(self, link: str) -> None:
        """Visit the folder that a link leads to, unless it is the kernel's."""
        there = os.path.join(os.path.realpath(os.path.join(self.root, link)), "")
        if there.startswith(tuple(f"{place}/" for place in _KERNEL)) and not there.startswith(f"{_MEMORY}/"):
            self._problem(link, _INTO_KERNEL)
        else:
            self.visit(link)

    def visit(self, folder: str) -> None:
        folders = [folder]
        while folders:
            folder = folders.pop()
            place = os.path.join(self.root, folder)
            try:
                identity = _identity(os.stat(place))
                if identity in self._seen:
                    continue
                if identity[0] in self._kernel:  # mounted here
                    self._problem(folder, _INTO_KERNEL)
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
                except OSError as error:  # a link in a loop, or to an unreachable place
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
            if status.st_dev in self._kernel:
                self._problem(path, _INTO_KERNEL)
            elif stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                readable = status.st_mode & 0o444
                self.files.append(File(path, status.st_size, status.st_mtime_ns, readable))
            else:
                self._problem(path, "not an ordinary file")

    def _problem(self, path: str, reason: str) -> None:
        self.problems.append({"file": shown(path), "reason": reason})
