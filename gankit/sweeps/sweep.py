"""`gankit sweep`: trainings with varied settings, each in its own process, and the best of them.

SWEEP/sweep.json             the request, the trials with their values and results, the summary
SWEEP/sweep.csv              a row for each run
SWEEP/report.html            everything in one page
SWEEP/runs/trial-N-seed-K/   ordinary run folders, with the output of each in trial-N-seed-K.log beside it
SWEEP/optuna.log             with Optuna: the trials as a study, for optuna-dashboard

A second start goes on: it keeps the runs that ended, and resumes the interrupted ones.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from gankit.catalogue import Catalogue
from gankit.cluster.engine import engine
from gankit.comparison.arms import Arm, as_typed, flags, given, options_of, refuse_numbers, requested
from gankit.config.amend import changes, current_form
from gankit.config.request import meant
from gankit.config.resolve import resolve as settled
from gankit.config.schema import RunConfig
from gankit.config.values import duration
from gankit.data.source import Data
from gankit.errors import UserError, nearest
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.processes import Here
from gankit.runs.processes import earlier as earlier_plan
from gankit.runs.score import SCORE
from gankit.runs.verdict import JUDGED
from gankit.sweeps import search as search_engine
from gankit.sweeps import space as spaces
from gankit.sweeps import stored
from gankit.sweeps.space import Parameter, Values
from gankit.sweeps.trials import Sweep, Trial
from gankit.training import start
from gankit.training.state import Training
from gankit.training.watcher import Watcher

SEARCHES = ("grid", "random", "optuna")
TRIALS = 20  # without --trials, where a grid does not say how many
MOST = 10_000  # trials
SEES = ("mode-collapse", "cleanliness")  # the diagnostics behind the score
Vary = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a sweep will do: the space, the way through it, and the number of trials."""

    space: list[Parameter]
    search: str
    trials: int


def sweep(
    model: str,
    data: str | Path | None = None,
    *,
    vary: Vary,
    trials: int | None = None,
    search: str | None = None,
    stop_early: bool = False,
    jobs: int | None = None,
    ray: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    goal: str = SCORE,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train `model` with each of many combinations of settings, and tell the best by the score or another `goal`.

    `vary`: "NAME=a,b,c" and the like, or {"gamma": [0.3, 0.5], "learning_rate": "loguniform:1e-5,4e-4"}. `ray`: where
    the runs are trained, "local" or the address of a Ray cluster. The other options are those of `gankit.run`.
    Returns the content of sweep.json, and its "folder".
    Raises UserError before anything is written, and if no run gives the goal. A trial that collapses or fails is a
    result.
    """
    watcher = watcher or Watcher()
    plugins = [os.path.abspath(name) if os.path.exists(name) else name for name in plugins]
    catalogue, options = Catalogue(plugins), given(options)
    fields = catalogue.get("models", model).Settings.model_fields
    if isinstance(options.get("time"), str):
        options["time"] = duration(options["time"])
    chosen = _plan(spaces.parse(_typed(vary), fields), search, trials)
    refuse_numbers(jobs=1 if jobs is None else jobs, seeds=seeds, trials=chosen.trials)
    if "on_alarm" in options:
        raise UserError("--on-alarm: a sweep ends a trial at its critical alarm, and takes no other reaction")
    if chosen.search == "optuna" or stop_early:
        search_engine.require("--search optuna" if chosen.search == "optuna" else "--stop-early")
    shared = options | {"data": str(data) if data is not None else None, "plugins": plugins, "on_alarm": "stop"}
    first = _checked(model, chosen, shared, seed, catalogue)
    shared |= {"data": first.data}
    request: dict[str, Any] = {"model": model, "data": first.data, "vary": {p.name: p.text for p in chosen.space}}
    request |= {"search": chosen.search, "trials": chosen.trials, "stop_early": stop_early, "seeds": seeds}
    request |= {"seed": seed, "goal": goal} | options
    with engine(ray, plugins) as place:
        return _carried_out(chosen, request, shared, first, catalogue, out, jobs, watcher, place)


def _carried_out(
    chosen: Plan,
    request: dict[str, Any],
    shared: dict[str, Any],
    first: RunConfig,
    catalogue: Catalogue,
    out: str | Path | None,
    jobs: int | None,
    watcher: Watcher,
    place: Here,
) -> dict[str, Any]:
    """Begin the sweep or go on with it. `shared`: the options of every run; `first`: the first trial's settings."""
    folder = Path(os.path.expanduser(out)) if out is not None else None
    earlier = earlier_plan(folder, "sweep", stored.read, request, grows="trials")
    opened = start.open_data(first, catalogue, watcher)
    with start.quiet_random(first.device):
        training, _ = start.assemble(first, opened, catalogue)
    goal = _goal(request["goal"], training, opened, request["stop_early"])
    plan = _sweep_plan(request, shared["plugins"], training.config, opened, goal)
    jobs = place.agree([first], opened.digest, jobs)
    if folder and earlier:
        _take_over(folder, earlier, plan, catalogue)
    else:
        start.refuse_inside(out, first.data)
        folder = RunFolder.create(out, "sweep", lambda new: write_json(new / "sweep.json", plan))
    watcher.notice("\n".join([*_before(plan, jobs), f"sweep folder: {folder}"]))
    work = Sweep(folder, plan, shared, _proposer(chosen, plan), shared["plugins"], watcher, place)
    work.work_through(jobs)
    if work.hopeless:
        raise UserError(work.hopeless)
    return {**plan, "folder": str(folder)}


def _typed(vary: Vary) -> list[str]:
    """`vary` as texts of `--vary`."""
    if isinstance(vary, str):
        return [vary]
    if not isinstance(vary, Mapping):
        return [str(text) for text in vary]
    return [
        f"{name}={','.join(map(as_typed, values)) if isinstance(values, list | tuple) else as_typed(values)}"
        for name, values in vary.items()
    ]


def _plan(space: list[Parameter], search: str | None, trials: int | None) -> Plan:
    """The search and the number of trials. Raises UserError where they do not fit the space."""
    ranges = [parameter for parameter in space if parameter.kind != "choices"]
    search = search or ("random" if ranges or trials else "grid")
    if search not in SEARCHES:
        raise UserError(f"--search {search}{nearest(search, SEARCHES)}: write one of {', '.join(SEARCHES)}")
    if search == "grid" and ranges:
        one = ranges[0]
        raise UserError(
            f"--search grid takes choices, and --vary {one.name}={one.text} is a range: write "
            f"{one.name}=A,B,C, or --search random"
        )
    whole = spaces.size(space)
    if search == "grid" and trials is not None and trials < (whole or 0):
        raise UserError(
            f"--trials {trials}: the grid has {whole:,} combinations; leave --trials out, or try some of them with "
            "--search random"
        )
    count = (whole or 0) if search == "grid" else min(trials if trials is not None else TRIALS, whole or MOST)
    if count > MOST or (trials or 0) > MOST:
        raise UserError(f"{max(count, trials or 0):,} trials are too many for a sweep: at most {MOST:,}")
    return Plan(space, search, count)


def _checked(model: str, plan: Plan, shared: Mapping[str, Any], seed: int, catalogue: Catalogue) -> RunConfig:
    """The configuration of the first trial, after a look at every choice and every end of a range.

    Raises UserError for a setting that is also given, that does not exist, or for a value that is not allowed.
    """
    fields = catalogue.get("models", model).Settings.model_fields
    named = {meant(name, fields) for name in shared.get("set") or {}}
    given_too = {*shared, *named, *(f"loss.{name}" for name in shared.get("losses") or {})}
    for parameter in plan.space:
        if parameter.name in given_too:
            raise UserError(f"{parameter.name} is given and varied: leave --vary {parameter.name} or the other out")
    start_at = {parameter.name: parameter.samples()[0] for parameter in plan.space}

    def resolved(values: Values) -> RunConfig:
        return settled(
            model, requested(Arm(model, model, options_of(values)), {**shared, "seed": seed}, catalogue), catalogue
        )

    for parameter in plan.space:
        trainings: dict[str, Any] = {}
        for value in parameter.samples():
            try:
                config = resolved(start_at | {parameter.name: value})
                same = trainings.setdefault(config.model_dump_json(exclude={"requested"}), value)
                if same is not value:
                    raise UserError(
                        f"{as_typed(same)} and {as_typed(value)} are the same training here, because of the other "
                        "settings: leave one out"
                    )
            except UserError as error:
                try:
                    resolved({})
                except UserError:
                    raise error from None  # it is not the varied setting
                raise UserError(f"--vary {parameter.name}={parameter.text}: {error}") from None
    return resolved(start_at)


def _goal(goal: str, training: Training, data: Data, stop_early: bool) -> dict[str, Any]:
    """What is maximised, or with `min:` minimised. Raises UserError for a goal that no run would measure."""
    least, name = goal.startswith("min:"), goal.removeprefix("min:")
    every, steps = training.config.log_every, training.config.steps
    looks = {one: diagnostic.every for one, diagnostic in training.diagnostics.items()}
    if name == SCORE:
        if len(data.shape) != 3 or len(data.train) < JUDGED:
            few = f"{len(data.train)} training pictures are too few for a score"
            what = "points have no score" if len(data.shape) != 3 else few
            raise UserError(f"{training.config.data}: {what}: name another goal, such as --goal min:loss/generator")
        every = max(looks.get(one, every) for one in SEES)
    elif name.partition("/")[0] in looks:
        every = looks[name.partition("/")[0]]
        if steps is not None and steps < every:
            raise UserError(f"--goal {goal}: it is first measured at step {every:,}, and a trial has {steps:,} steps")
    elif name not in training.start:
        there = [SCORE, *training.start, *(f"{one}/…" for one in looks)]
        raise UserError(f"--goal {goal}: no run logs {name}{nearest(name, there)}. There are: {', '.join(there)}")
    if stop_early and (steps is None or steps <= every):
        length = "with --time" if steps is None else f"in {steps:,} steps"
        raise UserError(
            f"--stop-early compares trials while they train, and {name} is measured every {every:,} steps: too rarely "
            f"{length}; give more --steps, or leave --stop-early out"
        )
    return {"name": name, "maximise": not least}


def _sweep_plan(
    request: Mapping[str, Any], plugins: Sequence[str], config: RunConfig, data: Data, goal: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of sweep.json before the first training."""
    typed = {key: value for key, value in request.items() if key not in ("model", "vary")} | {"plugins": plugins}
    vary = [part for name, text in request["vary"].items() for part in ("--vary", f"{name}={text}")]
    stored_config = config.model_dump(mode="json")
    return {
        "schema": stored.SCHEMA,
        "gankit": version("gankit"),
        "command": shlex.join(["gankit", "sweep", request["model"], *vary, *flags(typed)]),
        "state": "running",
        "asked": dict(request),
        "model": request["model"],
        "data": start.describe_data(data),
        "goal": dict(goal),
        "steps": config.steps,
        "config": {key: value for key, value in stored_config.items() if key not in ("seed", "requested", "history")},
        "trials": [],
        "best": None,
        "deviation": None,
        "importance": {},
        "summary": [],
        "best_command": "",
        "check_command": "",
    }


def _take_over(folder: Path, earlier: Mapping[str, Any], plan: dict[str, Any], catalogue: Catalogue) -> None:
    """Copy the trials of an earlier start into the plan. Raises UserError if the settings or the pictures were others.

    A run whose folder was deleted, or whose process died, trains again.
    """
    if earlier["data"]["digest"] != plan["data"]["digest"]:
        raise UserError(f"{folder} has other pictures: {plan['asked']['data']} has changed since; choose another --out")
    changed = changes({"config": current_form(earlier["config"], catalogue)[0]}, {"config": plan["config"]})
    if changed:
        raise UserError(f"{folder} was started with another {next(iter(changed))}: choose another --out")
    plan["trials"] = [dict(trial) for trial in earlier["trials"]]
    seeds = range(plan["asked"]["seed"], plan["asked"]["seed"] + plan["asked"]["seeds"])
    for trial in plan["trials"]:
        gone = any(row.get("outcome") and _anew(folder, row) for row in trial["runs"])
        trial["runs"] = [
            {"seed": row["seed"], "folder": row["folder"]} if _anew(folder, row) else row for row in trial["runs"]
        ]
        if gone or not trial["runs"][0].get("outcome"):
            trial |= {"state": "waiting", "value": None, "spread": None}
        if [row["seed"] for row in trial["runs"]] != list(seeds):
            raise UserError(f"{folder / 'sweep.json'} is damaged: trial {trial['number']} has other seeds")


def _anew(folder: Path, row: Mapping[str, Any]) -> bool:
    return row.get("reason") == "process" or not (folder / row["folder"] / "config.json").is_file()


def _proposer(chosen: Plan, plan: Mapping[str, Any]) -> Callable[[Sequence[Trial]], Values | None]:
    """The values of the next trial after some, by the search. They depend on the trials and the seed alone."""
    seed, maximise = plan["asked"]["seed"], plan["goal"]["maximise"]

    def propose(trials: Sequence[Trial]) -> Values | None:
        if chosen.search == "grid":
            return next(islice(spaces.grid(chosen.space), len(trials), None), None)
        if chosen.search == "random":
            return spaces.drawn(chosen.space, seed, len(trials), [trial["values"] for trial in trials])
        return search_engine.proposed(chosen.space, trials, chosen.trials, seed, maximise)

    return propose


def _before(plan: Mapping[str, Any], jobs: int) -> list[str]:
    """What to know before the first training."""
    asked, goal = plan["asked"], plan["goal"]
    length = f"{plan['steps']:,} steps" if plan["steps"] is not None else f"{plan['config']['time']:,.0f} seconds"
    seeds = f"{asked['seeds']} seed{'s' * (asked['seeds'] > 1)}"
    told = [
        f"{asked['trials']:,} trials of {length}, {seeds} each, {jobs} at a time, by {asked['search']} search of "
        f"{', '.join(asked['vary'])}; the {'highest' if goal['maximise'] else 'lowest'} {goal['name']} wins"
    ]
    if "batch_size" in asked["vary"] and plan["steps"] is not None:
        told.append("warning: in equally many steps a larger batch shows more pictures; --time gives all the same time")
    return told
