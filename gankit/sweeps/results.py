"""What came of a sweep: the best trial, and in sentences what can be said of the others."""

from __future__ import annotations

import csv
import functools
import math
import shlex
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from gankit.comparison.arms import LISTS, as_typed, flags, options_of, together
from gankit.files import finite
from gankit.runs.folder import RunFolder
from gankit.sweeps import space as spaces

FRESH = 100  # added to the first seed, for seeds that the sweep did not use
CHECKED = 5  # seeds of the comparison that checks the best trial
RUN = ("seed", "folder", "outcome", "steps", "alarm_step", "alarm", "value")  # columns of the CSV, of a run
EDGE = 0.03  # of a range: a best value this near to an end may lie beyond it


def last(run: RunFolder, goal: str, at_end: bool = False) -> float | None:
    """The last logged value of the goal; with `at_end` only if the last line has it. None without one."""
    value = None
    for line in run.each_line():
        here = finite(line.get(goal))
        value = here if here is not None or at_end else value
    return value


def settings(values: Mapping[str, Any]) -> str:
    """Values in words: "gamma 0.5, learning_rate 0.0002"."""
    return ", ".join(f"{name} {as_typed(value)}" for name, value in values.items())


def shown(value: float | None) -> str:
    """A value of the goal."""
    return "unknown" if value is None else f"{value:.4f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"


def ending(trial: Mapping[str, Any], goal: Mapping[str, Any]) -> str:
    """How a trial ended, in a few words."""
    runs = [row for row in trial["runs"] if row.get("outcome")]
    match trial["state"]:
        case "complete":
            spread = "" if trial["spread"] is None else f" ± {shown(trial['spread'])}"
            return f"{goal['name']} {shown(trial['value'])}{spread}"
        case "collapsed":
            row = next((row for row in runs if row["reason"] == "alarm"), None)
            return "collapsed" if row is None else f"collapsed at step {row['steps']:,}: {row['alarm']}"
        case "ended early":
            return f"ended early at step {runs[0]['steps'] if runs else 0:,}, {goal['name']} {shown(trial.get('last'))}"
        case "failed":
            row = next((row for row in runs if row.get("unmeasured") or row["outcome"] == "failed"), None)
            return f"failed: {(row.get('unmeasured') or row['message']) if row else 'unknown'}"
    return f"{len(runs)} of {len(trial['runs'])} runs are done" if runs else "not done"


def ranked(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The complete trials, the best first; of equal ones the earlier first."""
    sign = -1 if plan["goal"]["maximise"] else 1
    complete = [trial for trial in plan["trials"] if trial["state"] == "complete"]
    return sorted(complete, key=lambda trial: (sign * trial["value"], trial["number"]))


def deviation(plan: Mapping[str, Any]) -> float | None:
    """The standard deviation of the goal over the seeds of one trial, pooled over all complete trials."""
    spreads = [trial["spread"] for trial in ranked(plan) if trial["spread"] is not None]
    return math.sqrt(sum(one**2 for one in spreads) / len(spreads)) if spreads else None


def told(plan: Mapping[str, Any], importance: Mapping[str, float], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of sweep.json that follow from the trials. `shared`: the options of every run."""
    order = ranked(plan)
    shared = {key: value for key, value in shared.items() if key != "on_alarm"}
    return {
        "best": order[0]["number"] if order else None,
        "deviation": deviation(plan),
        "importance": dict(importance),
        "summary": summary(plan),
        "best_command": best_command(plan, shared),
        "check_command": check_command(plan, shared),
    }


def summary(plan: Mapping[str, Any]) -> list[str]:
    """The sweep in a few sentences: the best trial, what the seeds tell, collapses, early ends, failures."""
    order, goal = ranked(plan), plan["goal"]
    ended = [trial for trial in plan["trials"] if trial["state"] != "waiting"]
    sentences = []
    if len(order) > 1 and order[0]["value"] == order[-1]["value"]:
        sentences.append(
            f"All {len(order)} complete trials have the same {goal['name']}, {shown(order[0]['value'])}: nothing tells "
            "them apart, and the first stands for all. Longer trials may."
        )
    elif order:
        best = order[0]
        sentences.append(
            f"Trial {best['number']} is the best of {len(ended)}: {ending(best, goal)}, with "
            f"{settings(best['values'])}."
        )
        sentences += [_spread(plan, order), *_edges(plan, best)]
    elif ended:
        sentences.append(f"None of {len(ended)} trials reached its end.")
    return [*sentences, *_collapses(plan, ended), *_others(plan, ended)]


def _spread(plan: Mapping[str, Any], order: Sequence[Mapping[str, Any]]) -> str:
    """What the seeds say of the difference between the best trial and the others.

    The best is chosen after looking, so the spread is that of all trials: Tukey's honestly significant difference
    ("The Problem of Multiple Comparisons", 1953). In 95 % of sweeps of equal trials it holds all of them.
    """
    seeds, best = plan["asked"]["seeds"], order[0]
    lucky = "The best of several trials is also the luckiest, so expect somewhat less of a new training."
    if seeds == 1:
        return (
            "Each trial has one seed, so nothing here says how much another seed would change: differences may be "
            f"chance. {lucky} The comparison on fresh seeds below tells more."
        )
    spread = deviation(plan) or 0.0
    freedom = (seeds - 1) * sum(trial["spread"] is not None for trial in order)
    near = _range(len(order), max(freedom, 1)) * spread / math.sqrt(seeds)
    like = [trial["number"] for trial in order[1:] if abs(trial["value"] - best["value"]) <= near]
    said = f"Seeds of one trial differ by {shown(spread)} (standard deviation, over all trials)."
    if like:
        named = ", ".join(map(str, like[:8])) + (" and others" if len(like) > 8 else "")
        said += f" Within that spread trial{'s' * (len(like) > 1)} {named} may be as good as the best."
    elif len(order) > 1:
        said += " The best is ahead of all others by more than that spread explains."
    return f"{said} {lucky}"


@functools.cache  # a third of a second
def _range(count: int, freedom: int) -> float:
    """The 95 % quantile of the range of `count` ≥ 1 normal values over their standard deviation, known from others."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(0.95, count, freedom)) if count > 1 else 0.0


def _edges(plan: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    """Where the best value lies at an end of its range."""
    found = []
    for parameter in space_of(plan):
        at = parameter.position(best["values"][parameter.name])
        if parameter.kind != "choices" and at is not None and not EDGE < at < 1 - EDGE:
            found.append(
                f"The best {parameter.name}, {as_typed(best['values'][parameter.name])}, is at the "
                f"{'lower' if at < 0.5 else 'upper'} end of its range: better values may lie beyond it."
            )
    return found


def _collapses(plan: Mapping[str, Any], ended: Sequence[Mapping[str, Any]]) -> list[str]:
    collapsed = [trial for trial in ended if trial["state"] == "collapsed"]
    if not collapsed:
        return []
    numbers = ", ".join(str(trial["number"]) for trial in collapsed[:10])
    said = [
        f"{len(collapsed)} of {len(ended)} trials collapsed ({numbers}{'…' * (len(collapsed) > 10)}): each ended at "
        "its alarm and counts as worse than all others."
    ]
    for parameter in space_of(plan):
        for choice in parameter.choices:
            with_it = [trial for trial in ended if trial["values"][parameter.name] == choice]
            without = [trial for trial in ended if trial not in with_it]
            all_of_it = len(with_it) > 1 and all(trial["state"] == "collapsed" for trial in with_it)
            if all_of_it and any(trial["state"] != "collapsed" for trial in without):
                said.append(f"All {len(with_it)} trials with {parameter.name} {as_typed(choice)} collapsed.")
    return said


def _others(plan: Mapping[str, Any], ended: Sequence[Mapping[str, Any]]) -> list[str]:
    early = [trial for trial in ended if trial["state"] == "ended early"]
    said = []
    if early:
        said.append(
            f"{len(early)} of {len(ended)} trials ended early: at a ninth or a third of the steps their "
            f"{plan['goal']['name']} was not in the best third so far. Some of them may have become good later."
        )
    failed = [trial for trial in ended if trial["state"] == "failed"]
    return said + [f"Trial {trial['number']} {ending(trial, plan['goal'])}" for trial in failed[:5]]


def space_of(plan: Mapping[str, Any]) -> list[spaces.Parameter]:
    """The parameters of a sweep."""
    return [spaces.one(name, text) for name, text in plan["asked"]["vary"].items()]


# Commands to paste.


def best_command(plan: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The command that trains the best trial's settings, or ""."""
    order = ranked(plan)
    if not order:
        return ""
    seed = plan["asked"]["seed"]
    options = together(shared, options_of(order[0]["values"]))
    options["seed"] = seed if seed or options.get("config_file") else None  # a file may have another one
    return shlex.join(["gankit", "run", plan["model"], *flags(options)])


def check_command(plan: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The command that compares the best trial with the shared settings, on seeds that the sweep did not use; or ""."""
    order = ranked(plan)
    if not order:
        return ""
    values = {name: value for name, value in order[0]["values"].items() if value is not None or name not in LISTS}
    arm = f"{plan['model']}:{','.join(f'{name}={as_typed(value)}' for name, value in values.items())}"
    options = dict(shared)
    options.pop("time", None)
    if plan["config"]["time"] is not None:  # also a settings file's
        options["budget"] = f"{plan['config']['time']:.12g}s"
    first = plan["asked"]["seed"] + plan["asked"]["seeds"] + FRESH
    command = ["gankit", "compare", plan["model"], arm, *flags(options)]
    return shlex.join([*command, "--networks", "own", "--seed", str(first), "--seeds", str(CHECKED)])


def as_csv(plan: Mapping[str, Any]) -> str:
    """One row per run: its trial, the trial's values and state, how the run ended, its value of the goal."""
    text, names = StringIO(), list(plan["asked"]["vary"])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *names, *RUN])
    for trial in plan["trials"]:
        for row in trial["runs"]:
            values = [as_typed(trial["values"][name]) for name in names]
            writer.writerow([trial["number"], trial["state"], *values, *(row.get(key) for key in RUN)])
    return text.getvalue()
