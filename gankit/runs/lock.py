"""The lock of a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from gankit import files
from gankit.errors import UserError
from gankit.runs.folder import FolderGone, RunFolder

BRIEFLY = 0.5  # seconds to wait: `overview` holds the lock for a moment


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keep other processes from training in the folder. Raises UserError if one does already."""
    # Refuses a link: locking would truncate its target.
    os.close(files.opened(run.folder, run.lock_path, os.O_RDWR | os.O_CREAT))
    lock = FileLock(run.lock_path, timeout=BRIEFLY)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"run {run.folder} is being trained by another process: wait for it, or branch off with --out"
        ) from None
    run.hold()
    try:
        yield
    finally:
        with suppress(OSError, FolderGone):  # another folder may have the old name by now
            run.follow()
            os.unlink(run.lock_path)
        lock.release()
        run.let_go()
