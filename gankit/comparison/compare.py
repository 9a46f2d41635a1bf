"""`gankit compare`: each arm with each seed as a run of its own, in a process of its own, and what came of them.

COMPARISON/comparison.json   what was asked, the arms, their differences, a row for each run, the table, the summary
COMPARISON/comparison.csv    a row for each run
COMPARISON/report.html       all of it in one page
COMPARISON/runs/ARM-SEED/    ordinary run folders, with what each printed in ARM-SEED.log beside it

Started again it goes on: what is done is kept, what was interrupted is resumed.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gankit.catalogue import Catalogue
from gankit.comparison import results
from gankit.comparison.arms import (
    Arm,
    assembled,
    backbone,
    configuration,
    differences,
    flags,
    folder_names,
    parse,
    resolve,
    steps_of,
)
from gankit.comparison.work import Comparison
from gankit.config.amend import changes
from gankit.config.schema import RunConfig
from gankit.config.values import duration
from gankit.data.source import Data
from gankit.errors import UserError
from gankit.metrics.spaces import inception
from gankit.runs.folder import RunFolder
from gankit.trained.two_sides import FEWEST
from gankit.training import start
from gankit.training.interrupts import Interrupts
from gankit.training.watcher import Watcher


def compare(
    models: Sequence[str],
    data: str | Path | None = None,
    *,
    seeds: int = 3,
    seed: int = 0,
    images: int | None = None,
    budget: float | str | None = None,
    networks: str | None = None,
    coverage: float | None = None,
    samples: int = 2000,
    fid: bool = False,
    jobs: int = 1,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train every one of `models` (MODEL or MODEL:KEY=VALUE,…) with `seeds` seeds from `seed` on, and compare them.

    All see as many pictures: `images`, or what `steps` steps of the smallest batch among them show; or all train for
    `budget` ("10m"). `networks` is the pair that all are built on, or "own"; by default the pair for comparisons.
    `samples` pictures of each run are measured, with `fid` by FID as well; `coverage` is the share to which the time is
    told. The other options are those of `gankit.run`. Returns what stands in comparison.json, and its "folder".
    Raises UserError, before anything is written. A run that collapses or fails is a result.
    """
    watcher = watcher or Watcher()
    if sum(given is not None for given in (options.get("steps"), images, budget)) > 1 or "time" in options:
        raise UserError("one length for all, please: --steps, --images or --budget")
    plugins = [os.path.abspath(name) if os.path.exists(name) else name for name in plugins]
    options = _settled(options)
    seconds = duration(budget, "--budget") if isinstance(budget, str) else budget
    catalogue = Catalogue(plugins)
    networks = backbone(catalogue) if networks is None else networks
    shared = options | {"data": str(data) if data is not None else None, "time": seconds, "plugins": plugins}
    arms = resolve(parse(models), shared, networks, catalogue)
    first = configuration(arms[0])
    asked: dict[str, Any] = {
        "models": [arm.name for arm in arms],
        "data": first.data,
        "networks": networks,
        "images": images,
    }
    asked |= {"budget": seconds, "samples": samples, "coverage": coverage, "seed": seed, "seeds": seeds, "fid": fid}
    asked |= options
    folder = Path(os.path.expanduser(out)) if out is not None else None
    before = _earlier(folder, asked)
    if fid:
        inception()  # refuses where it cannot be had
    opened = _opened(first, folder, before, catalogue, watcher)
    arms = assembled(arms, opened, catalogue)
    plan = _plan(asked, arms, opened, plugins)
    if folder and before:
        _take_over(folder, before, plan)
    else:
        start.refuse_inside(out, first.data)
        folder = RunFolder.create(out, "compare")
    watcher.notice(f"comparison folder: {folder}")
    _work_through(Comparison(folder, plan, arms, shared, plugins, watcher), jobs)
    return {**plan, "folder": str(folder)}


def _settled(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, and what an alarm does here; a settings file by its whole path."""
    given = {key: value for key, value in options.items() if value not in (None, (), {})}
    if given.get("config_file"):
        given["config_file"] = os.path.abspath(given["config_file"])
    return {"on_alarm": "warn", **given}


def _opened(
    first: RunConfig, folder: Path | None, before: Mapping[str, Any], catalogue: Catalogue, watcher: Watcher
) -> Data:
    """The pictures that all are trained on. Raises UserError where they have changed, or too few are held out."""
    opened = start.open_data(first, catalogue, watcher)
    if before and before["data"]["digest"] != opened.digest:
        raise UserError(
            f"{folder} compares other pictures: those of {first.data} have changed since; choose another --out"
        )
    if len(opened.held_out) < FEWEST:
        raise UserError(
            f"{first.data}: {len(opened.held_out)} pictures would be held out, and a comparison is made on them with "
            f"{FEWEST} at least: add pictures, or hold out more with --holdout"
        )
    return opened


def _plan(asked: Mapping[str, Any], arms: Sequence[Arm], data: Data, plugins: Sequence[str]) -> dict[str, Any]:
    """What comparison.json holds before anything is trained."""
    images = asked["images"]
    if images is None and asked["budget"] is None:
        steps = configuration(arms[0]).steps
        assert steps is not None
        images = steps * min(arm.pictures_a_step for arm in arms)
    return {
        "schema": results.SCHEMA,
        "gankit": version("gankit"),
        "command": _command(asked, plugins),
        "state": "running",
        "asked": asked,
        "data": start.describe_data(data),
        "images": images,
        "budget": asked["budget"],
        "arms": [_told(arm, images) for arm in arms],
        "differences": differences(arms),
        "runs": _rows(arms, range(asked["seed"], asked["seed"] + asked["seeds"])),
        "about": {},
        "notes": [],
        "coverage": None,
        "measures": [],
        "summary": [],
    }


def _take_over(folder: Path, before: Mapping[str, Any], plan: dict[str, Any]) -> None:
    """Let the plan keep what an earlier start has done. Raises UserError where it was begun with other arms."""
    old, new = ({arm["name"]: arm["config"] for arm in one["arms"]} for one in (before, plan))
    changed = changes(old, new)
    if changed:
        raise UserError(f"{folder} was begun with another {next(iter(changed))}: choose another --out")
    there = (row for row in before["runs"] if (folder / row["folder"] / "config.json").is_file())
    done = {row["folder"]: row for row in there}  # one whose folder was deleted is made again
    plan["runs"] = [done.get(row["folder"], row) for row in plan["runs"]]
    plan |= {key: before[key] for key in ("about", "notes")}


def _command(asked: Mapping[str, Any], plugins: Sequence[str]) -> str:
    """The command that asks for the same, from wherever it is typed, but for --out."""
    typed = {key: value for key, value in asked.items() if key != "models"} | {"plugins": plugins}
    if typed["budget"] is not None:
        typed["budget"] = f"{typed['budget']:.12g}s"
    return shlex.join(["gankit", "compare", *asked["models"], *flags(typed)])


def _told(arm: Arm, images: int | None) -> dict[str, Any]:
    resolved = configuration(arm)
    steps = resolved.steps if images is None else steps_of(arm, images)
    settled = resolved.model_dump(mode="json") | {"steps": steps}
    return {
        "name": arm.name,
        "model": arm.model,
        "steps": steps,
        "pictures_a_step": arm.pictures_a_step,
        "weights": arm.weights,
        "config": {key: value for key, value in settled.items() if key not in ("seed", "requested", "history")},
    }


def _rows(arms: Sequence[Arm], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Seed by seed, so that an unfinished comparison has as much of each."""
    names = folder_names(arm.name for arm in arms)
    return [
        {"arm": arm.name, "seed": seed, "folder": f"runs/{name}-seed-{seed}"}
        for seed in seeds
        for arm, name in zip(arms, names, strict=True)
    ]


def _earlier(folder: Path | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison.json of an earlier start in that folder, or {}. Raises UserError where it was another request."""
    if folder is None or not folder.exists():
        return {}
    if not (folder / "comparison.json").is_file():
        raise UserError(
            f"--out {folder} exists and is no comparison, and nothing is overwritten: choose another folder"
        )
    before = results.read(folder)
    old = before["asked"]
    if asked["seeds"] < old["seeds"]:
        raise UserError(f"{folder} has {old['seeds']} seeds already: give --seeds {old['seeds']} or more")
    for key in [*asked, *(key for key in old if key not in asked)]:
        now, then = (json.loads(json.dumps(one.get(key))) for one in (asked, old))
        if key != "seeds" and (now or None) != (then or None) and not (key == "fid" and now):
            shown = [" ".join(value) if isinstance(value, list) else value for value in (then, now)]
            raise UserError(
                f"{folder} compares with another --{key.replace('_', '-')} ({shown[0]}, and now {shown[1]}): "
                "start it again as it was, or choose another --out"
            )
    return before


def _work_through(work: Comparison, jobs: int) -> None:
    """Train and measure what is not done yet, `jobs` runs at a time, until all is or a signal comes."""
    with _locked(work.folder), Interrupts() as interrupts:
        work.forget_other_measures()
        work.write()
        work.train(jobs, interrupts)
        work.plan["state"] = "interrupted" if interrupts.signal else "finished"
        work.plan["reason"] = interrupts.signal
        work.write()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder} is being worked on by another `gankit compare`: wait for it") from None
    try:
        yield
    finally:
        lock.release()
