"""`gankit compare MODEL MODEL…`: several models, or one with several settings, on the same pictures."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gankit.cli import complete, out_option, plugin_option, say
from gankit.cli.evaluate import fid_option
from gankit.cli.flags import SettingsCommand, config_option, flags, jobs_option, ray_option, seed_option

if TYPE_CHECKING:
    from rich.table import Table


@click.command("compare", cls=SettingsCommand)
@click.argument(
    "models",
    nargs=-1,
    required=True,
    metavar="MODEL[:KEY=VALUE,...]...",
    shell_complete=complete.components("models"),
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="K",
    help="Runs of each model, paired by seed.",
)
@seed_option
@click.option("--images", type=click.IntRange(1), metavar="N", help="Pictures to show to each run, instead of --steps.")
@click.option("--budget", metavar="10m", help="Training time of each run, instead of --steps.")
@click.option(
    "--networks",
    show_default="the pair for comparisons if it fits all models, else own",
    metavar="NAME",
    shell_complete=complete.components("networks"),
    help="Networks for all models; own: each model's own.",
)
@click.option(
    "--samples",
    type=click.IntRange(50),
    default=2000,
    show_default=True,
    metavar="N",
    help="Generated pictures to measure per run.",
)
@fid_option
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Report the time to this coverage; default: the level that all runs reached.",
)
@jobs_option
@ray_option
@out_option("DIR", "Folder of the comparison; an existing one goes on.")
@flags("data", "steps", "preset", "set")
@config_option
@plugin_option
@flags(but=("data", "steps", "preset", "set", "time", "seed"), defaults={"on_alarm": "warn"})
def command(models: tuple[str, ...], **options: Any) -> int:
    """Train several models on the same pictures, several seeds each, and say which is better in what.

    A model may have its own settings: those of --set, loss.NAME for --loss, view, controller, diagnostic, preset,
    batch_size, mirror and on_alarm. All models see equally many pictures, on the same networks where a pair fits all;
    the report lists the settings that differ. An alarm ends no run, unless --on-alarm says so. Give --out of an
    interrupted comparison to continue it.

    \b
    gankit compare ebgan began --data ./pictures --steps 10000
    gankit compare began:gamma=0.3 began:gamma=0.7,loss.imle=0 --data demo
    """
    from gankit.cli.progress import Progress
    from gankit.comparison import compare
    from gankit.training.interrupts import EXIT_CODES

    with Progress() as progress:
        comparison = compare.compare(
            models,
            watcher=progress,
            **options,
        )
    if comparison["state"] == "interrupted":
        say(f"interrupted, saved; go on with the same command and --out {shlex.quote(comparison['folder'])}")
        return EXIT_CODES[comparison["reason"]]
    show(comparison)
    say(f"look at {comparison['folder']}/report.html")
    return 0


def show(comparison: dict[str, Any]) -> None:
    """Print the measures, the runs and the summary."""
    from rich.console import Console
    from rich.table import Table

    from gankit.comparison.results import label, shown, some

    arms = [arm["name"] for arm in comparison["arms"]]
    pair = len(arms) == 2
    table = Table(box=None, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    for name in (*arms, "real"):
        table.add_column(name, justify="right", overflow="fold")
    if pair:
        table.add_column(f"{arms[0]} is", no_wrap=True)
    for entry in comparison["measures"]:
        name, cells = entry["name"], []
        for arm in arms:
            one = entry["arms"][arm]
            spread = "" if one["spread"] is None else f" ± {shown(name, one['spread'])}"
            of = f" ({some(one)})" if some(one) else ""
            cells.append(f"{shown(name, one['mean'])}{spread}{of}")
        cells.append("" if entry["ceiling"] is None else shown(name, entry["ceiling"]))
        verdicts = [one["verdict"] for one in entry["differences"]] or ["not compared"]
        table.add_row(label(name), *cells, *(verdicts if pair else []))
    text = io.StringIO()
    console = Console(file=text, highlight=False, markup=False, width=Console().width if sys.stdout.isatty() else 160)
    console.print(table)
    console.print()
    console.print(_runs(comparison["runs"]))
    console.print()
    for sentence in comparison["summary"]:
        console.print(sentence, soft_wrap=True)
    say(text.getvalue().rstrip("\n"))


def _runs(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row per run: how it ended, and its numbers."""
    from rich.table import Table

    from gankit.comparison.results import ending_cells

    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in ("collapse", "rescues", "images/s", "time"):
        table.add_column(name, justify="right")
    table.add_column("how it ended", overflow="fold")
    for row in filter(lambda row: row.get("outcome"), rows):
        how, *numbers = ending_cells(row)
        table.add_row(f"{row['arm']}, seed {row['seed']}", *numbers, how)
    return table
