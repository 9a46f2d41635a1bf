"""`gankit run MODEL`: train a model into a new run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from gankit.cli import (
    after_restart,
    complete,
    exit_code,
    nproc_option,
    other_process,
    out_option,
    plugin_option,
    say,
)
from gankit.cli.flags import SettingsCommand, config_option, flags
from gankit.errors import NO_DATA

FIRST = ("steps", "time", "preset", "set")  # the most used


class RunCommand(SettingsCommand):
    """The command's help with a model also shows the model's settings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and ("--help" in args or "-h" in args):
            given, _, _ = self.make_parser(ctx).parse_args(self.rewritten(ctx, args))
            say(ctx.get_help())
            if isinstance(given["words"], tuple) and given["words"]:  # else click's sign for "not given"
                from gankit.cli.model_help import describe

                say(describe(given["words"][0], given.get("plugins") or ()))
            else:
                say("\nWith a model, `gankit run began --help` also shows its settings, for --set.")
            ctx.exit()
        return super().parse_args(ctx, args)


@click.command("run", cls=RunCommand)
@click.argument(
    "words", nargs=-1, metavar="[MODEL] [DIR]", shell_complete=complete.components("models", beside=complete.files)
)
@flags("data")
@out_option("DIR", "New folder for the run; default: one under runs/.")
@flags(*FIRST)
@config_option
@plugin_option
@flags(but=("data", *FIRST))
@nproc_option
@click.option("--epochs", type=click.FloatRange(0, min_open=True), hidden=True)
def command(words: tuple[str, ...], data: str | None, epochs: float | None, **options: Any) -> int:
    """Train MODEL on pictures into a new run folder; by default BEGAN. A setting of the model is a flag as well.

    \b
    gankit run ./pictures
    gankit run began --data demo --steps 2000 --gamma 0.7 --loss pulling-away=0.1
    """
    if other_process(options["device"]):
        return 0
    if not words and not data and not options["config_file"]:
        raise click.UsageError(NO_DATA)  # before torch is imported
    model, data = _model_and_data(words, data, options["plugins"])
    options["data"] = data
    if epochs is not None:
        raise click.UsageError(_in_steps(epochs, model, options))
    from gankit import api
    from gankit.cli.progress import Progress
    from gankit.runs.environment import command_line

    with Progress() as progress:
        told = {"watcher": progress, "command": command_line(), "plugins": options["plugins"]}
        run_folder = after_restart(options["out"], **told) or api.run(model, **options | told)
    progress.farewell(run_folder)
    return exit_code(run_folder.result)


def _model_and_data(words: Sequence[str], data: str | None, plugins: Sequence[str]) -> tuple[str | None, str | None]:
    """The model, if one is named, and the data of `run MODEL --data DIR`, `run MODEL DIR` or `run DIR`."""
    if len(words) > 2 or (data and len(words) > 1):
        raise click.UsageError(f"{words[-1]!r} is too much: gankit run MODEL --data DIR takes one folder of pictures")
    if len(words) == 2:
        return words[0], words[1]
    if words and data is None:
        from gankit.catalogue import Catalogue, is_package

        catalogue, word = Catalogue(plugins), words[0]
        if os.path.isfile(os.path.expanduser(word)) and word not in catalogue.kind("models"):
            return None, word  # refused as data, which says what it should be
        folder = os.sep in word or os.path.isdir(os.path.expanduser(word)) or catalogue.source_of(word)
        if folder and word not in catalogue.kind("models") and not is_package(word):
            return None, word
    return words[0] if words else None, data


def _in_steps(epochs: float, model: str | None, options: dict[str, Any]) -> str:
    """What to write instead of --epochs."""
    import math

    from gankit import api

    resolved, data, training = api.prepare(
        model, **{key: value for key, value in options.items() if key not in ("out", "nproc")}
    )
    pictures = resolved.batch_size * len(training.model.updates)
    steps = math.ceil(epochs * len(data.train) / pictures)
    return (
        f"--epochs {epochs:g}: a training's length is --steps here. {epochs:g} times through the {len(data.train):,} "
        f"pictures of {resolved.data} are {steps:,} steps of {pictures} pictures: write --steps {steps}"
    )
