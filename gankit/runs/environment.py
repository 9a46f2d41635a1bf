"""environment.json: the machine, versions and command of each start of a run."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gankit.catalogue import GROUP, Catalogue, Plugin
from gankit.config.schema import TABLES, RunConfig
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
            {"name": p.name, "distribution": p.distribution, "version": p.version, "sha256": _digest(p)}
            for p in catalogue.plugins
            if not p.broken
        ],
        "command": command or "gankit.run(...)",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "torchrun": torchrun_job(),
        "curves": curves(resolved, catalogue),
    }


def torchrun_job() -> str | None:
    """What names this job of torchrun, the same after each of its restarts; None without torchrun."""
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"agent {os.getppid()}" if job == "none" else job  # "none" is the name of all that were given none


def of_this_job(run: RunFolder) -> bool:
    """Whether the run's last start was of the job of torchrun that this process belongs to."""
    old = run.environment
    resumes = old.get("resumes")
    last = resumes[-1] if isinstance(resumes, list) and resumes and isinstance(resumes[-1], Mapping) else {}
    return bool(last.get("torchrun", old.get("torchrun")) == torchrun_job())


def curves(resolved: RunConfig, catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """The curves of the run's components and its model by metric name; the model's take precedence."""
    by_metric: dict[str, Curve] = {}
    for kind in ("losses", "controllers", "diagnostics"):
        for name in getattr(resolved, kind):
            prefix = f"{name}/" if kind == "diagnostics" else ""
            by_metric |= {f"{prefix}{metric}": curve for metric, curve in catalogue.get(kind, name).curves.items()}
    by_metric |= catalogue.get("models", resolved.model["name"]).curves
    return {metric: curve.model_dump(mode="json", exclude_defaults=True) for metric, curve in by_metric.items()}


def record_resume(run: RunFolder, resolved: RunConfig, catalogue: Catalogue, command: str | None) -> None:
    """Add this start to environment.json, and update its curves."""
    old = run.environment
    new = environment(resolved, catalogue, command)
    old["curves"] = new.pop("curves")
    old["resumes"] = [
        *old.get("resumes", []),
        {key: value for key, value in new.items() if key in ("command", "started") or old.get(key) != value},
    ]
    write_json(run.folder / "environment.json", old)


def record_rescue(run: RunFolder, resolved: RunConfig, catalogue: Catalogue) -> None:
    """Update the curves in environment.json: a remedy may add a component."""
    with suppress(UserError, OSError):  # a damaged file must not prevent a rescue
        write_json(run.folder / "environment.json", run.environment | {"curves": curves(resolved, catalogue)})


def another_machine(run: RunFolder, resolved: RunConfig) -> str:
    """A warning if the machine or torch has changed since the start, so that the resume is not bit-identical, or ""."""
    old = run.environment
    now = {"torch": _version("torch"), "device": describe(resolved.device)}
    other = [f"{key} was {old.get(key)}, is {value}" for key, value in now.items() if old.get(key) != value]
    words = "; ".join(other)
    return f"warning: the numbers will differ in the last bits from an unbroken run ({words})" if other else ""


def edited(run: RunFolder, resolved: RunConfig, catalogue: Catalogue) -> list[str]:
    """A warning for each plugin of others whose code has changed since the run's last start, if the run uses it."""
    old = run.environment
    starts = [start for start in (old, *(old.get("resumes") or ())) if isinstance(start, Mapping)]
    listed = [start.get("plugins", old.get("plugins")) for start in starts]  # a resume's entry has what differs
    known: dict[Any, Any] = {}
    for entry in (entry for one in listed if isinstance(one, list) for entry in one if isinstance(entry, Mapping)):
        known[entry.get("name"), entry.get("distribution")] = entry.get("sha256")
    named = {"models": [resolved.model["name"]], **{kind: list(getattr(resolved, kind)) for kind in TABLES}}
    used = [p for kind, names in named.items() for name in names for p in catalogue.kind(kind).get(name, (0, ()))[1]]
    return [
        f"warning: the code of plugin {plugin.name!r} ({plugin}) has changed since the run's last start: the steps "
        "from here on follow the new one"
        for plugin in {id(one): one for one in used}.values()
        if known.get((plugin.name, plugin.distribution)) not in (None, _digest(plugin))
    ]


def _digest(plugin: Plugin) -> str | None:
    """SHA-256 of a plugin's Python files; None for gankit's own, whose version says it, and without files."""
    path = Path(plugin.where).expanduser()
    if plugin.distribution == GROUP:
        return None
    with suppress(OSError, ImportError, ValueError):
        if path.suffix != ".py":
            spec = importlib.util.find_spec(plugin.where)
            path = Path((spec and spec.origin) or "")
        files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return None


def command_line() -> str:
    """The command line of this process."""
    return shlex.join(["gankit", *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
