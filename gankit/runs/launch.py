"""The process of a run. Without torch: a worker of a cluster starts in no time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

from gankit.files import below, fcntl, opened


def log_of(path: Path) -> Path:
    """The output of a run's process, and the lock that it holds."""
    return Path(f"{path}.log")


def launch(
    folder: Path, path: Path, program: Sequence[str], cwd: str | None = None, threads: int | None = None
) -> Popen[bytes]:
    """Start Python with a program that trains the run at `path`, below `folder`, with its output in `path`.log.

    The output goes to a file: the process must outlive the reader of this one's output.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    if path.parent != folder:
        below(folder, path.parent.name, make=True)
    with os.fdopen(opened(path.parent, log_of(path).name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
        if fcntl:  # the child inherits the open file, so that the lock lasts until the child ends
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                pass  # no locks here: the run folder's lock is left
        # Its own session: this process passes Ctrl-C on, once. -P: no module of the current folder is imported.
        return Popen(
            [sys.executable, "-P", *program],
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )


def end_with(parent: int) -> None:
    """End this process once the one that started it is gone, at whatever moment."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
