"""environment.json: the machine, versions and command of each start of a run."""

from __future__ import annotations

import platform
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from gankit.catalogue import Catalogue
from gankit.config.schema import RunConfig
from gankit.device import describe
from gankit.errors import UserError
from gankit.options import Curve
from gankit.runs.folder import RunFolder, write_json


def environment(resolved: RunConfig, catalogue: Catalogue, command: str | None) -> dict[str, Any]:
    """The contents of environment.json."""
    packages = ("torch", "torchvision", "numpy", "pillow", "pydantic", "safetensors")
    return {
        "gankit": version("gankit"),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "platform": platform.platform(),
        "device": describe(resolved.device),
        "threads": torch.get_num_threads(),
        "plugins": [
            {"name": p.name, "distribution": p.distribution, "version": p.version}
            for p in catalogue.plugins
            if not p.broken
        ],
        "command": command or "gankit.run(...)",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "curves": curves(resolved, catalogue),
    }


def curves(resolved: RunConfig, catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """How the run's metrics are shown, by metric name, as its components say and, with the last word, its model."""
    found: dict[str, Curve] = {}
    for kind in ("losses", "controllers", "diagnostics"):
        for name in getattr(resolved, kind):
            prefix = f"{name}/" if kind == "diagnostics" else ""
            found |= {f"{prefix}{metric}": curve for metric, curve in catalogue.get(kind, name).curves.items()}
    found |= catalogue.get("models", resolved.model["name"]).curves
    return {metric: curve.model_dump(mode="json", exclude_defaults=True) for metric, curve in found.items()}


def record_resume(made: RunFolder, resolved: RunConfig, catalogue: Catalogue, command: str | None) -> None:
    """Add this start to environment.json, where how metrics are shown is as of now."""
    old = made.environment
    new = environment(resolved, catalogue, command)
    old["curves"] = new.pop("curves")
    old["resumes"] = [
        *old.get("resumes", []),
        {key: value for key, value in new.items() if key in ("command", "started") or old.get(key) != value},
    ]
    write_json(made.folder / "environment.json", old)


def record_rescue(made: RunFolder, resolved: RunConfig, catalogue: Catalogue) -> None:
    """How metrics are shown, now that a remedy may have brought a component that has some."""
    with suppress(UserError, OSError):  # of a file that somebody has damaged since: a rescue is worth more
        write_json(made.folder / "environment.json", made.environment | {"curves": curves(resolved, catalogue)})


def another_machine(made: RunFolder, resolved: RunConfig) -> str:
    """A warning if the machine or torch has changed since the start, so that the resume is not bit-identical, or ""."""
    old = made.environment
    now = {"torch": _version("torch"), "device": describe(resolved.device)}
    other = [f"{key} was {old.get(key)}, is {value}" for key, value in now.items() if old.get(key) != value]
    words = "; ".join(other)
    return f"warning: the numbers will differ in the last bits from an unbroken run ({words})" if other else ""


def command_line() -> str:
    """The command line of this process."""
    return shlex.join(["gankit", *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
