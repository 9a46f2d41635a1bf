"""`gankit evaluate RUN|DIR`: measures of the pictures of a run or of any folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gankit.cli import RUN, aligned, complete, from_option, out_option, plugin_option, say

if TYPE_CHECKING:
    from gankit.trained.evaluation import Evaluation


fid_option = click.option(
    "--fid", is_flag=True, help="Also FID and KID by Inception; needs gankit[fid] and its weights."
)


@click.command("evaluate")
@click.argument("what", type=RUN, metavar="RUN|DIR")
@click.option(
    "--data",
    metavar="DIR|NAME[:ARG]",
    shell_complete=complete.components("datasets", beside=complete.files),
    help="Pictures to compare with; default: the run's own data.",
)
@from_option("Checkpoint of the run")
@click.option("--n", type=click.IntRange(20), default=2000, show_default=True, metavar="N", help="Number of samples.")
@click.option("--raw", is_flag=True, help="Use the generator itself, not its average.")
@fid_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@out_option("FILE.png", "Draw the samples that are nearest to a copy.", "--save")
@plugin_option
def command(
    what: str,
    data: str | None,
    from_step: int | Literal["best"] | None,
    n: int,
    raw: bool,
    fid: bool,
    as_json: bool,
    out: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Measure the pictures of RUN, or of any folder DIR, against held-out pictures.

    The column `real` shows what equally many other real pictures reach: no generator needs to do better.
    --out draws the samples that are nearest to a training picture, each with that picture to its right.
    """
    from gankit.errors import UserError
    from gankit.files import refuse_foreign

    if out and Path(out).suffix.lower() != ".png":
        raise UserError(f"--out {out}: the name must end in .png")
    if out:
        refuse_foreign(Path(out))
    from gankit.report.sample_grid import save_grid
    from gankit.runs.folder import json_text
    from gankit.trained.evaluation import evaluate

    if sys.stderr is not None and sys.stderr.isatty():
        say(f"measuring {n:,} pictures of {what}: this takes a minute or two on a CPU", err=True)
    evaluation = evaluate(what, data=data, step=from_step, n=n, averaged=not raw, fid=fid, plugins=plugins)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        save_grid(evaluation.closest, Path(out), columns=4, scale=None)
    if as_json:
        say(json_text(evaluation.model_dump() | ({"saved": out} if out else {})))
        return
    for line in table(evaluation):
        say(line)
    if out:
        say(out)


def table(evaluation: Evaluation) -> list[str]:
    """The evaluation as lines of text."""
    from gankit.comparison.results import shown

    of = evaluation.of
    name = f"{of['path']}, step {of['step']:,}, {of['generator']} generator" if of["kind"] == "run" else of["path"]
    held_out = f"{of['held_out']:,} held out"
    rows = [("measure", "value", "", "real", "better", "compared by", "with", "samples")]
    for key, measure in evaluation.measures.items():
        spread = "" if measure.spread is None else f"±{shown(key, measure.spread)}"
        against = f"{measure.real:,} {measure.against}"
        rows.append(
            (
                *(key, shown(key, measure.value), spread, shown(key, measure.ceiling), measure.better, measure.space),
                *(against, f"{measure.n:,}"),
            )
        )
    head = f"{name}: {of['n']:,} pictures against {of['data']} ({of['train']:,} to train on, {held_out})"
    return [head, "", *aligned(rows, numbers=(1, 2, 3, 7)), "", *(f"note: {note}" for note in evaluation.notes)]
