"""gankit: a plugin-based GAN toolkit. These are its public names; each is imported at its first use."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `as`: for type checkers these are exported
    from gankit.api import (
        compare as compare,
        resume as resume,
        run as run,
        sweep as sweep,
    )
    from gankit.builtin.networks import ResizeConvolution as ResizeConvolution
    from gankit.components import (
        Alarm as Alarm,
        Artifact as Artifact,
        Continue as Continue,
        Controller as Controller,
        Decision as Decision,
        Diagnostic as Diagnostic,
        LossTerm as LossTerm,
        Reaction as Reaction,
        Reading as Reading,
        Return as Return,
        Situation as Situation,
        Snapshot as Snapshot,
        Stop as Stop,
        View as View,
    )
    from gankit.data import (
        Data as Data,
        DataSource as DataSource,
        Folder as Folder,
        Request as Request,
    )
    from gankit.errors import (
        TrainingError as TrainingError,
        UserError as UserError,
    )
    from gankit.hookspecs import hookimpl as hookimpl
    from gankit.model import (
        Judged as Judged,
        Losses as Losses,
        Machine as Machine,
        Model as Model,
        NetworkPair as NetworkPair,
        Remedy as Remedy,
        Settings as Settings,
        Step as Step,
    )
    from gankit.options import (
        Component as Component,
        Curve as Curve,
        Options as Options,
    )
    from gankit.trained.run import Run as Run
    from gankit.training.watcher import Watcher as Watcher

_HOMES = {
    "gankit.api": ("compare", "resume", "run", "sweep"),
    "gankit.components": (
        "Alarm",
        "Artifact",
        "Continue",
        "Controller",
        "Decision",
        "Diagnostic",
        "LossTerm",
        "Reaction",
        "Reading",
        "Return",
        "Situation",
        "Snapshot",
        "Stop",
        "View",
    ),
    "gankit.data": ("Data", "DataSource", "Folder", "Request"),
    "gankit.errors": ("TrainingError", "UserError"),
    "gankit.hookspecs": ("hookimpl",),
    "gankit.model": ("Judged", "Losses", "Machine", "Model", "NetworkPair", "Remedy", "Settings", "Step"),
    "gankit.builtin.networks": ("ResizeConvolution",),
    "gankit.options": ("Component", "Curve", "Options"),
    "gankit.trained.run": ("Run",),
    "gankit.training.watcher": ("Watcher",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("gankit")
    if name not in _HOME:
        raise AttributeError(f"module 'gankit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
