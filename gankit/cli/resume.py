"""`gankit resume RUN`: go on from the last checkpoint."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import (
    RUN,
    after_restart,
    exit_code,
    from_option,
    nproc_option,
    other_process,
    out_option,
    plugin_option,
)
from gankit.cli.flags import SettingsCommand, flags


@click.command("resume", cls=SettingsCommand)
@click.argument("run", type=RUN, metavar="RUN")
@flags("steps", "time", resumed=True)
@from_option("Checkpoint to resume")
@out_option("DIR", "Continue in a new folder, as a branch.")
@flags(but=("steps", "time"), resumed=True)
@nproc_option
@plugin_option
def command(run: str, **options: Any) -> int:
    """Go on with RUN from its last checkpoint. Settings stay as stored unless a flag changes them.

    On the same machine and thread count the result is bit-identical to a run that was never stopped.
    """
    if other_process(options["device"]):
        return 0
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.runs.environment import command_line

    with Progress() as progress:
        told = {"watcher": progress, "command": command_line(), "plugins": options["plugins"]}
        run_folder = after_restart(options["out"] or run, **told) or api.resume(run, **options | told)
    progress.farewell(run_folder)
    return exit_code(run_folder.result)
