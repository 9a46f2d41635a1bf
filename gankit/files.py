"""Files that appear whole or not at all."""

from __future__ import annotations

import os
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
