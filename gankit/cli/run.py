"""`gankit run MODEL`: train a model into a new run folder."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import exit_code, plugin_option


class RunCommand(click.Command):
    """Its help, with a model named, shows the model's settings as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--help" in args or "-h" in args:
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
            click.echo(ctx.get_help())
            if isinstance(given.get("model"), str):
                from gankit.cli.settings import describe

                click.echo(describe(given["model"], given.get("plugins") or ()))
            else:
                click.echo("\nWith a model, `gankit run began --help` also shows its settings, for --set.")
            ctx.exit()
        return super().parse_args(ctx, args)


@click.command("run", cls=RunCommand)
@click.argument("model", required=False)
@click.option("--data", metavar="DIR|NAME[:ARG]", help="Folder of pictures, or a data source: try demo.")
@click.option("--out", type=click.Path(), metavar="DIR", help="New folder for the run; by default one under runs/.")
@click.option("--steps", type=click.IntRange(0), metavar="N", help="Total length.")
@click.option("--time", metavar="2h", help="End in good order after so long: 90s, 30m, 2h.")
@click.option("--image-size", type=int, metavar="S", help="Side of the pictures in pixels.")
@click.option("--batch-size", type=int, metavar="B", help="Pictures in a batch.")
@click.option("--seed", type=int, metavar="N", help="Decides weights, batches and latents.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Where to compute.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the networks' arithmetic.")
@click.option("--preset", metavar="NAME", help="A recipe of the model, e.g. paper.")
@click.option("--config", "config_file", type=click.Path(), metavar="FILE.toml", help="Flags and settings from a file.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of the model, or COMPONENT.FIELD.")
@click.option("--loss", "losses", multiple=True, metavar="NAME=WEIGHT", help="An extra loss term.")
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    metavar="NAME",
    help="A controller; replaces that of its knob.",
)
@click.option("--diagnostic", "diagnostics", multiple=True, metavar="NAME", help="A further diagnostic.")
@click.option("--view", "views", multiple=True, metavar="NAME", help="What the discriminator is shown.")
@click.option("--artifact", "artifacts", multiple=True, metavar="NAME", help="A further thing to draw or log.")
@plugin_option
@click.option("--on-alarm", metavar="NAME", help="At a critical alarm: stop (default), rescue or warn.")
@click.option("--fit", type=click.Choice(["pad", "crop"]), help="How a picture becomes square; default pad.")
@click.option("--background", metavar="COLOUR", help="Under transparency and in the padding; default white.")
@click.option("--mirror", is_flag=True, default=None, help="Mirror pictures at random.")
@click.option("--holdout", type=float, metavar="SHARE", help="Share of the pictures never trained on; default 0.1.")
@click.option("--log-every", type=int, metavar="N", help="Steps between lines of metrics.jsonl; default 50.")
@click.option("--sample-every", type=int, metavar="N", help="Steps between sample grids; default 250.")
@click.option("--checkpoint-every", type=int, metavar="N", help="Steps between checkpoints; default 1000.")
def command(model: str | None, sets: tuple[str, ...], losses: tuple[str, ...], **options: Any) -> int:
    """Train MODEL on pictures into a new run folder.

    \b
    gankit run began --data ./pictures
    gankit run began --data demo --steps 2000 --set gamma=0.7 --loss pulling-away=0.1
    """
    if model is None:
        raise click.UsageError("name a model: gankit run began --data DIR (`gankit plugins list` shows what there is)")
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.config.values import parse_pairs
    from gankit.runs.environment import command_line

    with Progress() as progress:
        made = api.run(
            model,
            set=parse_pairs(sets, "--set"),
            losses=parse_pairs(losses, "--loss"),
            watcher=progress,
            command=command_line(),
            **options,
        )
    progress.farewell(made)
    return exit_code(made.result)
