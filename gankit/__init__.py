"""gankit: a plugin-based GAN toolkit. These are its public names; each is imported at its first use."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gankit.api import compare, resume, run, sweep
    from gankit.builtin.networks import ResizeConvolution
    from gankit.components import (
        Alarm,
        Artifact,
        Continue,
        Controller,
        Decision,
        Diagnostic,
        LossTerm,
        Reaction,
        Reading,
        Return,
        Situation,
        Snapshot,
        Stop,
        View,
    )
    from gankit.data import Data, DataSource, Folder, Request
    from gankit.errors import TrainingError, UserError
    from gankit.hookspecs import hookimpl
    from gankit.model import Judged, Losses, Machine, Model, NetworkPair, Remedy, Settings, Step
    from gankit.options import Component, Curve, Options
    from gankit.trained.run import Run
    from gankit.training.watcher import Watcher

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
