"""Files that appear whole or not at all, and folders below another one that no link leads out of."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gankit.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` (with its suffix) to write to; it takes the name `path` once all went well.

    Raises UserError if nothing can be written there.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb") as written:  # on the disk before it takes the name
            os.fsync(written.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink()


def below(root: Path, *parts: str, make: bool = False) -> Path:
    """The folder `parts` below `root`, which it is through no link; with `make` it is made where it is not there.

    `root` itself is the user's own and may be a link. Raises UserError where one of `parts` is a link, or no folder.
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
            raise UserError(f"{folder} is a link, and links within such a folder are not followed: put a folder there")
        if not stat.S_ISDIR(kind):
            raise UserError(f"{folder} is no folder: move it away")
    return folder
