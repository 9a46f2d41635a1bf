"""`gankit sweep MODEL --vary NAME=…`: many trainings with varied settings, and the best of them."""

from __future__ import annotations

import io
import shlex
import sys
from typing import Any

import click

from gankit.cli import out_option, plugin_option, say
from gankit.cli.flags import SettingsCommand, config_option, flags, jobs_option, ray_option, seed_option

LISTED = 20  # trials in the terminal; the page has all


@click.command("sweep", cls=SettingsCommand)
@click.argument("model", metavar="MODEL")
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="a,b,c or uniform:LOW,HIGH, loguniform:LOW,HIGH, int:LOW,HIGH; may be repeated.",
)
@click.option(
    "--trials", type=click.IntRange(1), metavar="N", help="Combinations to try; default: the whole grid, or 20."
)
@click.option(
    "--search",
    type=click.Choice(["grid", "random", "optuna"]),
    help="The way through the combinations; default: grid, with a range or --trials random.",
)
@click.option("--stop-early", is_flag=True, help="End trials that fall behind the others; needs gankit[sweep].")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="K",
    help="Runs of each trial; their mean counts.",
)
@seed_option
@click.option(
    "--goal",
    default="score",
    show_default=True,
    metavar="[min:]NAME",
    help="What the best trial has most of: the score, or another logged measure; with min: least of.",
)
@jobs_option
@ray_option
@out_option("DIR", "Folder of the sweep; an existing one goes on.")
@flags("data", "steps", "time", "preset", "set")
@config_option
@plugin_option
@flags(but=("data", "steps", "time", "preset", "set", "seed", "on_alarm"))
def command(model: str, **options: Any) -> int:
    """Train MODEL with many combinations of settings on the same pictures, and tell the best by its score.

    NAME is a setting of the model, COMPONENT.FIELD, loss.NAME, batch_size, mirror, preset, view or controller. All
    other options are those of `gankit run`, for every trial. A trial ends at its critical alarm and then counts as
    worst. Give --out of an interrupted sweep to continue it, also with more --trials.

    \b
    gankit sweep began --data ./pictures --steps 6000 --vary gamma=0.3,0.5,0.7
    gankit sweep began --data demo --vary gamma=uniform:0.3,1 --trials 40 \\
        --vary learning_rate=loguniform:1e-5,4e-4 --search optuna
    """
    from gankit.cli.progress import Progress
    from gankit.sweeps import sweep
    from gankit.training.interrupts import EXIT_CODES

    with Progress() as progress:
        done = sweep.sweep(model, watcher=progress, **options)
    if done["state"] == "interrupted":
        say(f"interrupted, saved; go on with the same command and --out {shlex.quote(done['folder'])}")
        return EXIT_CODES[done["reason"]]
    show(done)
    say(f"look at {done['folder']}/report.html")
    return 0


def show(done: dict[str, Any]) -> None:
    """Print the trials, the best first, the summary and the command for the best."""
    from rich.console import Console
    from rich.table import Table

    from gankit.comparison.arms import as_typed
    from gankit.sweeps.results import ending, ranked

    order = ranked(done)
    order += [trial for trial in done["trials"] if trial not in order]
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", justify="right")
    for name in done["asked"]["vary"]:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("how it ended", overflow="fold")
    for trial in order[:LISTED]:
        values = [as_typed(value) for value in trial["values"].values()]
        table.add_row(str(trial["number"]), *values, ending(trial, done["goal"]))
    text = io.StringIO()
    console = Console(file=text, highlight=False, markup=False, width=Console().width if sys.stdout.isatty() else 160)
    console.print(table)
    console.print()
    for sentence in done["summary"]:
        console.print(sentence, soft_wrap=True)
    if done["best_command"]:
        console.print(f"\nthe best settings: {done['best_command']}", soft_wrap=True)
        console.print(f"to check them:     {done['check_command']}", soft_wrap=True)
    say(text.getvalue().rstrip("\n"))
