"""`gankit run MODEL`: train a model into a new run folder."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import exit_code, plugin_option, say
from gankit.cli.flags import flags

FIRST = ("steps", "time", "preset", "set")  # the most used


class RunCommand(click.Command):
    """The command's help with a model also shows the model's settings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--help" in args or "-h" in args:
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            say(ctx.get_help())
            if isinstance(given.get("model"), str):
                from gankit.cli.model_help import describe

                say(describe(given["model"], given.get("plugins") or ()))
            else:
                say("\nWith a model, `gankit run began --help` also shows its settings, for --set.")
            ctx.exit()
        return super().parse_args(ctx, args)


@click.command("run", cls=RunCommand)
@click.argument("model", required=False)
@flags("data")
@click.option("--out", type=click.Path(), metavar="DIR", help="New folder for the run; default: one under runs/.")
@flags(*FIRST)
@click.option("--config", "config_file", type=click.Path(), metavar="FILE.toml", help="Flags and settings from a file.")
@plugin_option
@flags(but=("data", *FIRST))
def command(model: str | None, **options: Any) -> int:
    """Train MODEL on pictures into a new run folder.

    \b
    gankit run began --data ./pictures
    gankit run began --data demo --steps 2000 --set gamma=0.7 --loss pulling-away=0.1
    """
    if model is None:
        raise click.UsageError("name a model: gankit run began --data DIR (`gankit plugins list` shows what there is)")
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.runs.environment import command_line

    with Progress() as progress:
        run_folder = api.run(
            model,
            watcher=progress,
            command=command_line(),
            **options,
        )
    progress.farewell(run_folder)
    return exit_code(run_folder.result)
