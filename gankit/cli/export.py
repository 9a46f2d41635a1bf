"""`gankit export RUN`: a folder to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, from_option, out_option, plugin_option, say


@click.command("export")
@click.argument("run", type=RUN, metavar="RUN")
@out_option("DIR", "New folder; default: RUN/export.")
@click.option("--credit", metavar="TEXT", help="A line on who made the real pictures, for the model card.")
@from_option("Checkpoint to use")
@plugin_option
def command(
    run: str,
    out: str | None,
    credit: str | None,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Write the networks of RUN into a folder that needs no gankit: ONNX, safetensors and a model card.

    The folder has the form that the Hugging Face hub expects. The ONNX forms are compared with PyTorch. Needs
    gankit[share].
    """
    from gankit.runs.folder import RunFolder

    run_folder = RunFolder(run)
    from gankit.sharing.hub import export

    folder = export(run_folder, Path(out) if out else None, from_step, plugins, credit)
    say(f"{', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}; README.md says how to load them")
