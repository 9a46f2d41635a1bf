"""`gankit resume RUN`: go on from the last checkpoint."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import exit_code, plugin_option
from gankit.cli.flags import flags


@click.command("resume")
@click.argument("run", metavar="RUN")
@flags("steps", "time", resumed=True)
@click.option("--from", "from_step", type=int, metavar="STEP", help="From the checkpoint of that step.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Branch off into a new folder.")
@flags(but=("steps", "time"), resumed=True)
@plugin_option
def command(run: str, **options: Any) -> int:
    """Go on with RUN from its last checkpoint. What no flag changes from here on stays as it is.

    On the same machine and thread count the result is bit-identical to a run that was never stopped.
    """
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.runs.environment import command_line

    with Progress() as progress:
        made = api.resume(
            run,
            watcher=progress,
            command=command_line(),
            **options,
        )
    progress.farewell(made)
    return exit_code(made.result)
