"""`gankit explore RUN...`: runs in a browser."""

from __future__ import annotations

from typing import Literal

import click

from gankit.cli import RUN, complete, from_option, plugin_option, say


@click.command("explore")
@click.argument("runs", type=RUN, metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--data",
    metavar="DIR|NAME[:ARG]",
    shell_complete=complete.components("datasets", beside=complete.files),
    help="Pictures for the map; default: those of each run, from the cache.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the first free one from 7860 on.")
@from_option("Checkpoint to use")
@plugin_option
def command(
    runs: tuple[str, ...],
    data: str | None,
    port: int | None,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Look at one or more runs in a browser, side by side, until Ctrl-C.

    Give a picture of yours: you see D's reconstruction, the energy, and the nearest G(z). The map of modes shows which
    real pictures no sample is near. The page is for this machine alone. Needs gankit[explore].
    """
    from gankit.runs.folder import RunFolder

    folders = [RunFolder(run) for run in runs]
    from gankit.device import choose_device
    from gankit.trained.explore import refuse_without_packages, serve
    from gankit.trained.sampling import rebuild

    refuse_without_packages()
    rebuilt = [rebuild(run, from_step, plugins, choose_device("auto")) for run in folders]
    serve(rebuilt, data, port, lambda address: say(f"open {address} in a browser of this machine; Ctrl-C ends it"))
