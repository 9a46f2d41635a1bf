"""`gankit doctor`: versions, device, threads, disk, plugins, and problems."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gankit.cli import say

PACKAGES = ("gankit", "torch", "torchvision", "numpy", "pillow", "pydantic", "pluggy", "safetensors", "imageio")


@click.command("doctor")
def command() -> int:
    """Check the installation; exit code 1 if something is wrong."""
    from gankit.data import cache

    wrong = [*_packages(), *_device(), *_disk("runs", Path.cwd()), *_disk("cache", cache.root()), *_plugins()]
    for line in wrong:
        say(f"WRONG: {line}")
    if not wrong:
        say("nothing is wrong")
    return 1 if wrong else 0


# Each check prints what it sees and returns the problems.


def _packages() -> list[str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    wrong = []
    for package in PACKAGES:
        try:
            _row(package, version(package))
        except PackageNotFoundError:
            _row(package, "not installed")
            wrong.append(f"{package} is not installed: pip install {package}")
    _row("python", f"{platform.python_version()} on {platform.platform()}")
    return wrong


def _device() -> list[str]:
    wrong = []
    try:
        import torch

        from gankit.device import choose_device, describe, machine_of

        device = choose_device("auto")
        bf16 = "bf16" if machine_of(device).fast_bf16 else "fp32 (no native bf16)"
        _row("device", f"{device}: {describe(device)}; trains in {bf16}")
        _row("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores")
        torch.nn.functional.conv2d(torch.zeros(1, 1, 3, 3, device=device), torch.zeros(1, 1, 3, 3, device=device))
    except Exception as error:
        wrong.append(f"torch does not work here: {type(error).__name__}: {error}")
    try:
        import torchvision.utils  # noqa: F401
    except Exception as error:
        wrong.append(
            f"torchvision does not fit this torch: {error}. Reinstall both: pip install --upgrade torch torchvision"
        )
    return wrong


def _disk(what: str, folder: Path) -> list[str]:
    import shutil
    import tempfile

    wrong = []
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    _row(f"{what} in", f"{folder} ({free:.0f} GB free)")
    if free < 1:
        wrong.append(f"less than 1 GB is free for {what} in {folder}")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        wrong.append(f"{what} cannot be written in {folder}: {error.strerror}")
    return wrong


def _plugins() -> list[str]:
    from gankit.catalogue import Catalogue

    catalogue = Catalogue()
    models = catalogue.kind("models")
    _row("models", ", ".join(models) or "none")
    for plugin in catalogue.plugins:
        _row("plugin", f"{plugin.name} ({plugin}, {plugin.where})" + (" BROKEN" if plugin.broken else ""))
    wrong = [f"plugin {p.name!r} ({p}) is broken: {p.broken}" for p in catalogue.broken]
    wrong += catalogue.clashes()
    if not models:
        wrong.append("no model is offered: install gankit's own plugins again, or look at GANKIT_DISABLE_PLUGINS")
    return wrong


def _row(name: str, value: str) -> None:
    say(f"{name + ':':14}{value}")
