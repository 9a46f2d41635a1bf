"""No second process trains in the same run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from gankit import files
from gankit.errors import UserError
from gankit.runs.folder import FolderGone, RunFolder

BRIEFLY = 0.5  # seconds to wait for a lock: who only looks whether a training goes on holds it for a moment


@contextmanager
def locked(made: RunFolder) -> Iterator[None]:
    """No second process trains in the same folder."""
    # A link, whose end a lock would empty, is refused.
    os.close(files.opened(made.folder, made.lock_path, os.O_RDWR | os.O_CREAT))
    lock = FileLock(made.lock_path, timeout=BRIEFLY)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"run {made.folder} is being trained by another process: wait for it, or branch off with --out"
        ) from None
    made.hold()
    try:
        yield
    finally:
        with suppress(OSError, FolderGone):  # ours alone: another folder may have the name by now
            made.follow()
            os.unlink(made.lock_path)
        lock.release()
        made.let_go()
