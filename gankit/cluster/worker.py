"""What a machine of a cluster does: it says whether it fits, and trains runs in processes.

A machine that sees the folder of the sweep trains in it. Any other one trains in a new folder of its own, whose files
are brought back (`transfer`).
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gankit.cluster.transfer import Files, Stamp, changed, received
from gankit.errors import TrainingError, UserError
from gankit.files import below, fcntl, opened
from gankit.runs.launch import end_with, launch

SCRATCH, HELD = "gankit-run-", "held"  # a folder for a run that is brought back, and the file with its lock
OWN = ("device", "requested", "history", "gankit", "plugins")  # settings that may be another machine's own


def objection(terms: Mapping[str, Any]) -> str:
    """Why this machine cannot train the same runs as the driver, in one line; or "".

    `terms`: the "plugins", the "configs" of the runs as the driver settles them, the "digest" of the pictures, and
    whether runs have "gpus"; and its "versions".
    """
    unlike = others(versions(), terms["versions"])
    if unlike:
        return f"it has {unlike}"
    if terms["gpus"] and not os.environ.get("CUDA_VISIBLE_DEVICES"):  # Ray hides them from a task that books none
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    from gankit.catalogue import Catalogue  # these import torch, which an actor does not need
    from gankit.config.amend import changes
    from gankit.config.request import RunRequest
    from gankit.config.resolve import resolve
    from gankit.training.start import open_data
    from gankit.training.watcher import Watcher

    try:
        catalogue = Catalogue(terms["plugins"])
        for stored in terms["configs"]:
            request = RunRequest(**{**stored["requested"], "data": stored["data"]})
            here = resolve(stored["model"]["name"], request, catalogue)
            settled = here.model_dump(mode="json")
            other = changes({**stored, **dict.fromkeys(OWN)}, {**settled, **dict.fromkeys(OWN)})
            if other:
                values = ", ".join(f"{name} = {value}" for name, value in other.items())
                return f"it would train with {values}, which depend on the machine: give them as flags"
        if open_data(here, catalogue, Watcher()).digest != terms["digest"]:
            return f"it finds other pictures in {here.data}"
    except (UserError, TrainingError) as error:
        return str(error)
    return ""


def versions() -> dict[str, str]:
    """Those that all machines must have alike."""
    return {"Python": platform.python_version(), "gankit": version("gankit"), "torch": version("torch")}


def others(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The versions of a machine that are not the driver's, in words, or ""."""
    return ", ".join(
        f"{name} {there[name] or 'missing'} (not {here[name]})" for name in here if there[name] != here[name]
    )


def sees(folder: str, token: str) -> bool:
    """Whether this machine can write to the very folder of the driver: the file `token` is in it."""
    return os.path.exists(os.path.join(folder, token)) and os.access(folder, os.W_OK)


class Trainer:
    """A run on this machine. It is an actor of Ray, so its methods come one after another."""

    def __init__(self, name: str) -> None:
        """`name`: of the run folder, below the folder of the sweep."""
        self.name, self.path, self.scratch = name, Path(), ""
        self.held: Any = None  # keeps the lock on the scratch folder
        self.process: Any = None

    def begin(self, terms: Mapping[str, Any], known: Sequence[str] | None) -> tuple[str, bool]:
        """An objection, or ""; and whether this machine sees the sweep's folder. `known`: the ids of machines that
        were asked before; a cluster may grow. None: no machine needs to be asked.
        """
        import ray

        new = known is not None and ray.get_runtime_context().get_node_id() not in known
        against = objection(terms) if new else ""
        shared = sees(terms["folder"], terms["token"])
        if not against and not shared:
            self.scratch, self.held = _own_folder()
        self.path = Path(self.scratch or terms["folder"]) / self.name
        return against, shared

    def train(self, arguments: Sequence[str], place: str, cwd: str, files: Files) -> None:
        """Start the process, with `files` of an earlier start. `place` stands for the run folder in the arguments."""
        folder = Path(*self.path.parts[: -len(Path(self.name).parts)])
        received(below(folder, self.path.parent.name, make=True), self.path.name, files)
        typed = [str(self.path) if word == place else word for word in arguments]
        if hasattr(signal, "pthread_sigmask"):  # Ray blocks Ctrl-C in its workers, and a child inherits that
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        program = ["-c", "from gankit.cluster.worker import train; train()", str(os.getpid())]
        self.process = launch(folder, self.path, [*program, *typed], cwd if os.path.isdir(cwd) else None)

    def state(self, number: int, known: Mapping[str, Stamp]) -> tuple[int | None, Files, list[str]]:
        """The exit code once the process has ended, and what changed since `known`. `number`: a signal, or 0."""
        if number:
            self.process.send_signal(number)
        code = self.process.poll()
        files, gone = changed(self.path.parent, self.path.name, known) if self.scratch else ({}, [])
        return code, files, gone

    def end(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def _own_folder() -> tuple[str, Any]:
    """A new folder, and a lock on it that ends with this process. Those of killed ones are removed."""
    if fcntl:
        for old in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*/{HELD}"):
            with suppress(OSError, UserError), os.fdopen(opened(old.parent, HELD), "rb") as file:
                told = os.fstat(file.fileno())
                if told.st_uid == os.getuid() and time.time() - told.st_mtime > 60:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old.parent, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=SCRATCH)
    held = open(os.path.join(folder, HELD), "wb")  # noqa: SIM115 - as long as the actor lives
    if fcntl:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, held


def train() -> None:
    """`gankit` as the child of a `Trainer`, whose end is its own: nobody would hear of it any more."""
    parent, *arguments = sys.argv[1:]
    threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    sys.argv = ["gankit", *arguments]
    from gankit.cli import main

    main()
