"""`gankit compare`: one run per arm and seed, each in its own process, and the results.

COMPARISON/comparison.json   the request, the arms, their differences, a row for each run, the table, the summary
COMPARISON/comparison.csv    a row for each run
COMPARISON/report.html       everything in one page
COMPARISON/runs/ARM-SEED/    ordinary run folders, with the output of each in ARM-SEED.log beside it

A second start goes on: it keeps the runs that ended, and resumes the interrupted ones.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gankit.catalogue import Catalogue
from gankit.cluster.engine import engine
from gankit.comparison import stored
from gankit.comparison.arms import (
    OWN,
    Arm,
    assembled,
    configuration,
    differences,
    flags,
    folder_names,
    given,
    parse,
    refuse_numbers,
    resolve,
    steps_of,
    usual_networks,
)
from gankit.comparison.processes import PACE, Comparison
from gankit.config.amend import changes, current_form
from gankit.config.request import RunRequest
from gankit.config.resolve import resolve as settled
from gankit.config.schema import RunConfig
from gankit.config.values import duration
from gankit.data.source import Data
from gankit.errors import UserError
from gankit.metrics.spaces import inception
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.processes import Here
from gankit.runs.processes import earlier as earlier_plan
from gankit.trained.real_and_generated import FEWEST
from gankit.training import start
from gankit.training.watcher import Watcher

FEW_SEEDS, ENOUGH_SEEDS = 3, 5  # docs/compare.md: what a verdict on so many seeds needs


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
    jobs: int | None = None,
    ray: str | None = None,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train each of `models` (MODEL or MODEL:KEY=VALUE,…) with `seeds` seeds from `seed` on, and compare them.

    All see equally many pictures: `images`, or `steps` steps of the smallest batch among them. Or all train for
    `budget` ("10m"). `networks` is the network pair of all, or "own"; by default the pair for comparisons. The
    measures use `samples` pictures of each run, with `fid` also FID. `coverage` is the level of the time to coverage.
    `ray`: where the runs are trained, "local" or the address of a Ray cluster.
    The other options are those of `gankit.run`. Returns the content of comparison.json, and its "folder".
    Raises UserError before anything is written. A run that collapses or fails is a result.
    """
    watcher = watcher or Watcher()
    if sum(length is not None for length in (options.get("steps"), images, budget)) > 1 or "time" in options:
        raise UserError("one length for all, please: --steps, --images or --budget")
    plugins = [os.path.abspath(name) if os.path.exists(name) else name for name in plugins]
    options = {"on_alarm": "warn", **given(options)}
    seconds = duration(budget, "--budget") if isinstance(budget, str) else budget
    refuse_numbers(jobs=1 if jobs is None else jobs, seeds=seeds)
    arms = parse(models)
    if len(arms) * seeds > stored.MOST_RUNS:
        raise UserError(
            f"--seeds {seeds}: {len(arms) * seeds:,} runs are too many for a comparison: at most {stored.MOST_RUNS:,}"
        )
    if seed + seeds - 1 > stored.MOST_SEED:
        raise UserError(f"--seed {seed}: the last of {seeds} seeds would be too large: at most {stored.MOST_SEED}")
    catalogue = Catalogue(plugins)
    shared: dict[str, Any] = {"data": str(data) if data is not None else None, "time": seconds, "plugins": plugins}
    shared = options | shared
    arms, networks = _on_networks(networks, arms, shared, catalogue, watcher)
    first = configuration(arms[0])
    request: dict[str, Any] = {
        "models": [arm.name for arm in arms],
        "data": first.data,
        "networks": networks,
        "images": images,
    }
    request |= {"budget": seconds, "samples": samples, "coverage": coverage, "seed": seed, "seeds": seeds, "fid": fid}
    request |= options
    shared |= {"data": first.data}
    if fid:
        inception()  # raises where it is not available
    with engine(ray, plugins) as place:
        return _carried_out(request, arms, shared, catalogue, out, jobs, watcher, place)


def _carried_out(
    request: dict[str, Any],
    arms: list[Arm],
    shared: dict[str, Any],
    catalogue: Catalogue,
    out: str | Path | None,
    jobs: int | None,
    watcher: Watcher,
    place: Here,
) -> dict[str, Any]:
    """Begin the comparison or go on with it. `shared`: the options of every run."""
    folder = Path(os.path.expanduser(out)) if out is not None else None
    earlier = earlier_plan(folder, "comparison", stored.read, request, grows="seeds", may_begin=("fid",))
    first, settled_alone, plugins = configuration(arms[0]), [configuration(arm) for arm in arms], shared["plugins"]
    opened = _opened(first, folder, earlier, catalogue, watcher)
    arms = assembled(arms, opened, catalogue)
    plan = _plan(request, arms, opened, plugins, catalogue)
    jobs = place.agree(settled_alone, opened.digest, jobs)
    if folder and earlier:
        _take_over(folder, earlier, plan, catalogue)
    else:
        start.refuse_inside(out, first.data)
        folder = RunFolder.create(out, "compare", lambda new: write_json(new / "comparison.json", plan))
    watcher.notice("\n".join([*_before(plan, catalogue), f"comparison folder: {folder}"]))
    Comparison(folder, plan, arms, shared, plugins, watcher, place).work_through(jobs)
    return {**plan, "folder": str(folder)}


def _on_networks(
    networks: str | None, arms: Sequence[Arm], shared: Mapping[str, Any], catalogue: Catalogue, watcher: Watcher
) -> tuple[list[Arm], str]:
    """The arms with their configurations, and the networks: those of that name, or the usual ones, which are told.

    Raises UserError where a settings file has a time and the comparison no budget.
    """
    if networks is None:
        networks, why = usual_networks(arms, shared, catalogue)
        if networks == OWN:  # otherwise `_before` says it
            watcher.notice(f"networks: {why}")
    arms = resolve(arms, shared, networks, catalogue)
    times = [time for time in (configuration(arm).time for arm in arms) if time is not None]
    if times and shared["time"] is None:
        raise UserError(f"the settings have a time, {times[0]:g} seconds: give --budget, and no other length")
    return arms, networks


def _opened(
    first: RunConfig, folder: Path | None, earlier: Mapping[str, Any], catalogue: Catalogue, watcher: Watcher
) -> Data:
    """The pictures to train on. Raises UserError where they have changed, or too few are held out."""
    pictures = start.open_data(first, catalogue, watcher)
    if earlier and earlier["data"]["digest"] != pictures.digest:
        raise UserError(f"{folder} compares other pictures: {first.data} has changed since then; choose another --out")
    if len(pictures.held_out) < FEWEST:
        raise UserError(
            f"{first.data}: only {len(pictures.held_out)} pictures would be held out, and a comparison needs at least "
            f"{FEWEST}: add pictures, or hold out more with --holdout"
        )
    return pictures


def _plan(
    request: Mapping[str, Any], arms: Sequence[Arm], data: Data, plugins: Sequence[str], catalogue: Catalogue
) -> dict[str, Any]:
    """The content of comparison.json before the first training."""
    images = request["images"]
    if images is None and request["budget"] is None:
        steps = configuration(arms[0]).steps
        assert steps is not None
        images = steps * min(arm.pictures_a_step for arm in arms)
    return {
        "schema": stored.SCHEMA,
        "gankit": version("gankit"),
        "command": _command(request, plugins),
        "state": "running",
        "asked": request,
        "data": start.describe_data(data),
        "images": images,
        "budget": request["budget"],
        "arms": [_arm_entry(arm, images) for arm in arms],
        "differences": differences(arms, catalogue),
        "runs": _rows(arms, range(request["seed"], request["seed"] + request["seeds"])),
        "about": {},
        "notes": [],
        "first_seeds": None,
        "coverage": None,
        "measures": [],
        "summary": [],
    }


def _before(plan: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    """What to know before the first training: how much it is, on which networks, and whether it can tell anything."""
    request, arms, runs = plan["asked"], plan["arms"], len(plan["runs"])
    lengths = sorted({arm["steps"] for arm in arms if arm["steps"] is not None})
    of = " or ".join(f"{length:,}" for length in lengths) + " steps"
    if plan["budget"] is not None:
        of = f"{plan['budget']:,.0f} seconds"
    seeds = f"{request['seeds']} seed{'s' * (request['seeds'] > 1)}"
    told = [
        f"{runs} runs: {len(arms)} models, {seeds} each, {of} a run; an estimate of the whole follows "
        + ("after the first run" if lengths and lengths[0] < PACE else f"once the first run has made {PACE} steps")
    ]
    other = []
    for arm in arms:
        own = settled(arm["model"], RunRequest(data="."), catalogue).networks
        if own.keys() != arm["config"]["networks"].keys():
            other.append((arm, " and ".join(own)))
    used = [f"{arm['name']} on {' and '.join(arm['config']['networks']) or 'networks of its own'}" for arm in arms]
    told.append(f"NETWORKS: {'; '.join(used)}")
    if other:
        models = {arm["model"]: f"`gankit run {arm['model']}` trains {own}" for arm, own in other}
        told.append(
            f"    these are not the models' own ({'; '.join(models.values())}): --networks own compares those, at "
            "their best"
        )
    if request["seeds"] < FEW_SEEDS:
        told.append(
            f"warning: with {seeds} hardly any difference can be told from chance"
            f"{' (one seed never tells)' if request['seeds'] == 1 else ''}: --seeds {ENOUGH_SEEDS} would do for "
            "differences of three times their spread over the seeds. Choose now: seeds that are added once results are "
            "seen make a wrong verdict more likely"
        )
    return told


def _take_over(folder: Path, earlier: Mapping[str, Any], plan: dict[str, Any], catalogue: Catalogue) -> None:
    """Copy the results of an earlier start into the plan. Raises UserError if its arms were others."""
    old = {arm["name"]: current_form(arm["config"], catalogue)[0] for arm in earlier["arms"]}
    new = {arm["name"]: arm["config"] for arm in plan["arms"]}
    changed = changes(old, new)
    if changed:
        raise UserError(f"{folder} was started with another {next(iter(changed))}: choose another --out")
    existing = (row for row in earlier["runs"] if (folder / row["folder"] / "config.json").is_file())
    done = {row["folder"]: row for row in existing}  # a run whose folder was deleted trains again
    plan["runs"] = [done.get(row["folder"], row) for row in plan["runs"]]
    plan |= {key: earlier[key] for key in ("about", "notes")}
    first = earlier.get("first_seeds") or earlier["asked"]["seeds"]
    if first < plan["asked"]["seeds"]:
        plan["first_seeds"] = first


def _command(request: Mapping[str, Any], plugins: Sequence[str]) -> str:
    """The command line of the same comparison, valid in any folder, without --out."""
    typed = {key: value for key, value in request.items() if key != "models"} | {"plugins": plugins}
    if typed["budget"] is not None:
        typed["budget"] = f"{typed['budget']:.12g}s"
    return shlex.join(["gankit", "compare", *request["models"], *flags(typed)])


def _arm_entry(arm: Arm, images: int | None) -> dict[str, Any]:
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
    """The runs, seed by seed, so that an unfinished comparison has equally many of each arm."""
    names = folder_names(arm.name for arm in arms)
    return [
        {"arm": arm.name, "seed": seed, "folder": f"runs/{name}-seed-{seed}"}
        for seed in seeds
        for arm, name in zip(arms, names, strict=True)
    ]
