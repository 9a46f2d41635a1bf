"""`gankit resume RUN`: go on from the last checkpoint."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import exit_code, plugin_option


@click.command("resume")
@click.argument("run", metavar="RUN")
@click.option("--steps", type=click.IntRange(0), metavar="N", help="Total length; by default that of the run.")
@click.option("--time", metavar="2h", help="End in good order after so long.")
@click.option("--from", "from_step", type=int, metavar="STEP", help="From the checkpoint of that step.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Branch off into a new folder.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option("--loss", "losses", multiple=True, metavar="NAME=WEIGHT", help="An extra loss term from here on.")
@click.option("--on-alarm", metavar="NAME", help="At a critical alarm: stop, rescue or warn.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), help="Where to compute from here on.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of the networks' arithmetic.")
@plugin_option
def command(run: str, sets: tuple[str, ...], losses: tuple[str, ...], **options: Any) -> int:
    """Go on with RUN from its last checkpoint.

    On the same machine and thread count the result is bit-identical to a run that was never stopped.
    """
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.config.values import parse_pairs
    from gankit.runs.environment import command_line

    with Progress() as progress:
        made = api.resume(
            run,
            set=parse_pairs(sets, "--set"),
            losses=parse_pairs(losses, "--loss"),
            watcher=progress,
            command=command_line(),
            **options,
        )
    progress.farewell(made)
    return exit_code(made.result)
