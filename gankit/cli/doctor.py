"""`gankit doctor`: versions, device, threads, disk, plugins, and what is wrong."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> int:
    """Say what is here, and what is wrong; exit code 1 where something is."""
    import os
    import platform
    import shutil
    import tempfile
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    wrong: list[str] = []

    def row(name: str, value: str) -> None:
        click.echo(f"{name + ':':14}{value}")

    for package in (
        "gankit",
        "torch",
        "torchvision",
        "numpy",
        "pillow",
        "pydantic",
        "pluggy",
        "safetensors",
        "imageio",
    ):
        try:
            row(package, version(package))
        except PackageNotFoundError:
            row(package, "not installed")
            wrong.append(f"{package} is not installed: pip install {package}")
    row("python", f"{platform.python_version()} on {platform.platform()}")

    try:
        import torch

        from gankit.device import choose_device, describe, machine_of

        device = choose_device("auto")
        bf16 = "bf16" if machine_of(device).fast_bf16 else "fp32 (no native bf16)"
        row("device", f"{device}: {describe(device)}; trains in {bf16}")
        row("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores")
        torch.nn.functional.conv2d(torch.zeros(1, 1, 3, 3, device=device), torch.zeros(1, 1, 3, 3, device=device))
    except Exception as error:
        wrong.append(f"torch does not work here: {type(error).__name__}: {error}")
    try:
        import torchvision.utils  # noqa: F401
    except Exception as error:
        wrong.append(
            f"torchvision does not fit this torch: {error}. Reinstall both: pip install --upgrade torch torchvision"
        )

    from gankit.data import cache

    for what, folder in (("runs", Path.cwd()), ("cache", cache.root())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / 1e9
        row(f"{what} in", f"{folder} ({free:.0f} GB free)")
        if free < 1:
            wrong.append(f"less than 1 GB is free for {what} in {folder}")
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            wrong.append(f"{what} cannot be written in {folder}: {error.strerror}")

    from gankit.catalogue import Catalogue

    catalogue = Catalogue()
    models = catalogue.kind("models")
    row("models", ", ".join(models) or "none")
    for plugin in catalogue.plugins:
        row("plugin", f"{plugin.name} ({plugin}, {plugin.where})" + (" BROKEN" if plugin.broken else ""))
    wrong += [f"plugin {p.name!r} ({p}) is broken: {p.broken}" for p in catalogue.broken]
    wrong += catalogue.clashes()
    if not models:
        wrong.append("no model is offered: install gankit's own plugins again, or look at GANKIT_DISABLE_PLUGINS")
    for line in wrong:
        click.echo(f"WRONG: {line}")
    if not wrong:
        click.echo("nothing is wrong")
    return 1 if wrong else 0
