"""The results of a comparison: a row for each run, and a table of means, spreads and differences, in sentences too."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import combinations
from statistics import fmean
from typing import Any

from gankit.comparison import paired
from gankit.files import finite
from gankit.report.words import duration
from gankit.runs.folder import COVERAGE, RunFolder, counts, rescues

COST = {  # measures that need no pictures
    "images_per_second": "higher",
    "seconds_to_coverage": "lower",
    "peak_memory": "lower",
    "collapse_step": "higher",
    "rescues": "lower",
}
EXACT = {"peak_memory"}  # the same for every seed on one machine
WORTH = dict.fromkeys(("images_per_second", "seconds_to_coverage", "peak_memory"), 0.01)  # less does not matter
# Shown and not compared: a density above 1 says that samples are in the crowd, and `clipped-density` is its calibrated
# form. `coverage` says less than `clipped-coverage`, which sees that one picture has taken the place of many, and each
# measure more makes the others harder to tell from chance.
SHOWN = {"density", "density-native", "coverage", "coverage-native"}
# Events that some runs never reach. The runs that reach one are a biased choice, so no difference is given.
REACHED = {"seconds_to_coverage": "reached it", "collapse_step": "collapsed"}
FIXED = ("arm", "seed", "folder", "outcome", "steps", "images", "alarm_step", "alarm")  # columns of the CSV


def row(run: RunFolder, pictures_a_step: int) -> dict[str, Any]:
    """The row of a run from its folder, without its measures. A value of another kind than gankit writes is unknown."""
    result, critical = run.result, [alarm for alarm in run.alarms() if alarm.get("severity") == "critical"]
    collapses = [alarm for alarm in critical if alarm.get("diagnostic") == "mode-collapse"]
    steps = result["steps"] if counts(result.get("steps"), 0) else 0
    texts = {key: value for key, value in result.items() if isinstance(value, str)}
    numbers = {key: value for key, value in result.items() if finite(value) is not None}
    return {
        "outcome": texts.get("outcome"),
        "reason": texts.get("reason"),
        "message": texts.get("message", ""),
        "steps": steps,
        "images": steps * pictures_a_step,
        "seconds": numbers.get("seconds"),
        "alarm_step": critical[0]["step"] if critical else None,  # the first critical alarm of any kind
        "alarm": str(critical[0].get("kind")) if critical else None,
        "collapse_step": collapses[0]["step"] if collapses else None,
        "rescues": len(rescues(run.config.get("history"))),
        "images_per_second": numbers.get("images_per_second"),
        "peak_memory": numbers.get("peak_memory"),
    }


def no_row(message: str) -> dict[str, Any]:
    """The row of a run without a result: it counts as failed, and the next start tries it again."""
    unknown = dict.fromkeys(("seconds", "alarm_step", "alarm", "collapse_step", "images_per_second", "peak_memory"))
    return {
        "outcome": "failed",
        "reason": "process",
        "message": message,
        "steps": 0,
        "images": 0,
        "rescues": 0,
        **unknown,
    }


def ending(row: Mapping[str, Any]) -> str:
    """How a run ended, in a few words."""
    how = f"{row['outcome']} at step {row['steps']:,}"
    if row["outcome"] == "failed":
        return f"failed at step {row['steps']:,}: {row['message']}"
    if row["alarm_step"] is not None:
        how += f", {row['alarm']} at step {row['alarm_step']:,}"
    return how + (f", {row['rescues']} rescues" if row["rescues"] else "")


def ending_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Table cells of an ended run: how it ended, step of its collapse, rescues, images a second, time."""
    collapse = row.get("collapse_step")
    return (
        ending(row),
        "none" if collapse is None else f"{collapse:,}",
        str(row["rescues"]),
        shown("images_per_second", row["images_per_second"]),
        duration(row["seconds"]),
    )


def coverage_curve(run: RunFolder) -> list[tuple[float, float]]:
    """(seconds of training, coverage of the samples) at each look."""
    looks = ((finite(line.get("seconds")), finite(line.get(COVERAGE))) for line in run.each_line())
    return [(seconds, value) for seconds, value in looks if seconds is not None and value is not None]


def common_level(curves: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """The highest multiple of 0.05 that the coverage of every run reached; None if a run reached none."""
    if not curves or not all(curves):
        return None
    level = int(min(max(value for _, value in curve) for curve in curves) * 20 + 1e-9) / 20
    return level or None


def seconds_to(curve: Sequence[tuple[float, float]], level: float | None) -> float | None:
    """The time of the first look at which the coverage was at least `level`, or None."""
    return next((seconds for seconds, value in curve if level is not None and value >= level), None)


def table(
    arms: Sequence[str], rows: Sequence[Mapping[str, Any]], about: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One entry per measure: each arm's values over its seeds, and each pair's difference with its sentence.

    `rows` hold "arm", "seed", "measures" (name -> value) and the names in COST. `about` holds for each measure what is
    "better" ("higher", "lower" or "nearer"), its "space" and its "ceiling". "nearer" compares the distances from the
    ceiling. The p-values are corrected over all that the table says: all measures, COST too, and all pairs of arms.
    """
    seeds = sorted({row["seed"] for row in rows})
    cost = {name: {"better": better} for name, better in COST.items()}
    entries = []
    for name, facts in {**about, **cost}.items():
        values = {arm: [_value(rows, arm, seed, name) for seed in seeds] for arm in arms}
        finite = [value for one in values.values() for value in paired.known(one)]
        if not finite or (name == "rescues" and not any(finite)):
            continue
        entries.append(
            {
                "name": name,
                "cost": name in COST,
                **{"space": "", "against": "", "ceiling": None, **facts},
                "arms": {
                    arm: {
                        "mean": paired.mean(one),
                        "spread": paired.spread(one),
                        "interval": paired.interval(one),
                        "values": one,
                        "runs": sum(row["arm"] == arm for row in rows),
                    }
                    for arm, one in values.items()
                },
                "differences": [],
            }
        )
        entries[-1]["note"] = _note(entries[-1])
    _compare(arms, entries)
    return entries


def _compare(arms: Sequence[str], entries: Sequence[dict[str, Any]]) -> None:
    """Add to each entry the differences of all pairs of arms."""
    differences = []
    for entry in entries:
        for these, others in combinations(arms, 2):
            of, less = entry["arms"][these], entry["arms"][others]
            if entry["name"] in SHOWN or (entry["name"] in REACHED and (some(of) or some(less))):
                continue
            these_values, other_values = (_to_compare(entry, one["values"]) for one in (of, less))
            difference = paired.difference(these_values, other_values, entry["name"] in EXACT)
            if difference is not None:
                differences.append((entry, these, others, difference))
    corrected = paired.holm([difference.p for *_, difference in differences])
    for (entry, these, others, difference), p in zip(differences, corrected, strict=True):
        better = "lower" if entry["better"] == "nearer" else entry["better"]
        verdict = paired.verdict(difference, p, better, WORTH.get(entry["name"], 0.0))
        entry["differences"].append(
            {
                "of": these,
                "less": others,
                "mean": difference.mean,
                "interval": difference.interval,
                "p": difference.p,
                "p_corrected": p,
                "pairs": difference.pairs,
                "verdict": verdict,
                "sentence": " ".join(
                    filter(
                        None,
                        (
                            _sentence(entry, these, others, difference, verdict),
                            _although(entry, difference, verdict, p, len(differences)),
                        ),
                    )
                ),
            }
        )


def _to_compare(entry: Mapping[str, Any], values: Sequence[float | None]) -> list[float | None]:
    """The values that are compared: nothing is better than what real pictures reach.

    Where nearer is better they are the distances from the ceiling, else the values up to it, or down to it.
    """
    ceiling = entry["ceiling"]
    if ceiling is None:
        return list(values)
    kept = {"nearer": lambda value: abs(value - ceiling), "higher": lambda value: min(value, ceiling)}.get(
        entry["better"], lambda value: max(value, ceiling)
    )
    return [None if value is None else kept(value) for value in values]


def _value(rows: Sequence[Mapping[str, Any]], arm: str, seed: int, name: str) -> float | None:
    for row in rows:
        if row["arm"] == arm and row["seed"] == seed:
            if name in COST and row.get("outcome") == "failed":  # it cost less the earlier it failed
                return None
            value = row.get(name) if name in COST else row.get("measures", {}).get(name)
            return None if value is None else float(value)
    return None


def some(one: Mapping[str, Any]) -> str:
    """ "2 of 3" where only some of an arm's runs have a known value, or ""."""
    known, runs = len(paired.known(one["values"])), one.get("runs", 0)
    return f"{known} of {runs}" if known < runs else ""


def _note(entry: Mapping[str, Any]) -> str:
    """How many runs reached an event, if not all did: the mean over them alone would mislead."""
    name, arms = entry["name"], entry["arms"]
    if name not in REACHED or not any(map(some, arms.values())):
        return ""
    counts = [f"{len(paired.known(one['values']))} of {one['runs']} runs of {arm}" for arm, one in arms.items()]
    return (
        f"{label(name)}: {_listed(counts)} {REACHED[name]}. The means are over those runs "
        "only, so this measure compares no model with runs that did not."
    )


def _sentence(entry: Mapping[str, Any], these: str, others: str, difference: paired.Difference, verdict: str) -> str:
    name, seeds = entry["name"], f"{difference.pairs} seed{'s' * (difference.pairs > 1)}"
    pairs = paired.pairs(*(entry["arms"][arm]["values"] for arm in (these, others)))  # as of the interval
    plain = [shown(name, fmean(side)) for side in zip(*pairs, strict=True)]
    counted = [shown(name, value) for value in (difference.of, difference.less)]
    values = " against ".join(
        a if a == b else f"{a}, which counts as {b}," for a, b in zip(plain, counted, strict=True)
    )
    values, whose = values.rstrip(","), "the difference's"
    if entry["better"] == "nearer":
        values = f"on average {' against '.join(counted)} away from the real pictures' {shown(name, entry['ceiling'])}"
        whose = "their difference's"
    if verdict == "not distinguishable":
        which = "this one seed" if difference.pairs == 1 else f"these {seeds}"
        return f"{label(name)}: {these} and {others} are not distinguishable with {which} ({values})."
    assert difference.interval is not None
    low, high = (shown(name, value) for value in difference.interval)
    return (
        f"{label(name)}: {these} is {verdict} than {others} ({values}; "
        f"{whose} 95 % interval over {seeds} is {low} to {high})."
    )


def _although(
    entry: Mapping[str, Any], difference: paired.Difference, verdict: str, corrected: float, tests: int
) -> str:
    """Why an interval that leaves 0 out is no verdict, or "" where it is one or holds 0."""
    if verdict != "not distinguishable" or not _leaves_0_out(difference.interval):
        return ""
    assert difference.interval is not None
    low, high = (shown(entry["name"], value) for value in difference.interval)
    if difference.p > paired.RISK:
        return "The difference is the same for all seeds, so only its sign counts, and so few signs agree by chance."
    if corrected <= paired.RISK:
        return (
            f"The interval of the difference, {low} to {high}, leaves 0 out, but so small a difference does not matter."
        )
    return (
        f"The interval of the difference, {low} to {high}, leaves 0 out, but of {tests} differences tested at once "
        f"some do so by chance: corrected for that, p is {corrected:.2g}, and a verdict needs {paired.RISK}. Fresh "
        "seeds may tell."
    )


def _leaves_0_out(interval: Sequence[float] | None) -> bool:
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def label(name: str) -> str:
    """A measure's name as people read it."""
    known = {
        "images_per_second": "images a second",
        "seconds_to_coverage": "time to coverage",
        "peak_memory": "peak memory",
        "collapse_step": "collapse step",
    }
    return known.get(name, name)


def shown(name: str, value: float | None) -> str:
    """A measure's value with its unit, and with the digits that matter in a comparison."""
    if value is None:
        return "unknown"
    size = abs(value)
    if name == "peak_memory":
        text = f"{size / 2**20:,.0f} MiB"
    elif name == "seconds_to_coverage":
        text = duration(size) if size else "0 s"
    elif name in COST:
        text = f"{size:,.0f}" if size >= 100 else f"{size:.3g}"
    else:
        text = f"{size:,.1f}" if size >= 100 else f"{size:.4f}" if size < 10 else f"{size:.2f}"
    return f"{'−' * (value < 0)}{text}"


def summary(comparison: Mapping[str, Any]) -> list[str]:
    """The comparison in a few sentences: which model is better in which measures, and which runs had trouble."""
    arms = [arm["name"] for arm in comparison["arms"]]
    quality = [entry for entry in comparison["measures"] if not entry["cost"]]
    sentences = []
    for these, others in combinations(arms, 2):
        words: dict[str, list[str]] = {}
        pairs, hints = 0, list[str]()
        for entry in quality:
            for one in entry["differences"]:
                if (one["of"], one["less"]) == (these, others):
                    words.setdefault(one["verdict"], []).append(label(entry["name"]))
                    pairs = max(pairs, one["pairs"])
                    if one["verdict"] == "not distinguishable" and _leaves_0_out(one["interval"]):
                        hints.append(label(entry["name"]))
        if not words:
            sentences.append(f"{these} and {others}: nothing could be measured on both yet.")
            continue
        verdicts = [f"{verdict} in {_listed(words[verdict])}" for verdict in ("better", "worse") if verdict in words]
        open_ = len(words.get("not distinguishable", ()))
        seeds = "this one seed" if pairs == 1 else f"these {pairs} seeds"
        if not verdicts:
            sentences.append(
                f"{these} and {others} are not distinguishable with {seeds} in any of the {open_} measures of their "
                "pictures."
            )
        else:
            rest = f"; in the other {open_} measures they are not distinguishable" if open_ else ""
            sentences.append(f"{these} is {' and '.join(verdicts)} than {others} with {seeds}{rest}.")
        if hints:
            sentences.append(
                f"{_listed(hints)}: the interval of the difference of {these} and {others} leaves 0 out, and yet it is "
                "no verdict: where so many are tested at once some do so by chance. Another comparison with fresh "
                "seeds (--seed 100) may tell."
            )
    first = comparison.get("first_seeds")
    if first is not None:
        sentences.append(
            f"Seeds were added when the results of {first} were known, so a wrong verdict is more likely than the 5 % "
            "of a comparison whose seeds were chosen before: another one with fresh seeds (--seed 100) can confirm it."
        )
    sentences += [line for arm in arms for line in _troubles(arm, [r for r in comparison["runs"] if r["arm"] == arm])]
    return sentences


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _troubles(arm: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    sentences = []
    ended = [row for row in rows if row.get("outcome")]
    alarmed = [row for row in ended if row["alarm_step"] is not None]
    if alarmed:
        first = min(alarmed, key=lambda row: row["alarm_step"])
        sentences.append(
            f"{arm} had a critical alarm in {len(alarmed)} of {len(ended)} runs, the earliest at step "
            f"{first['alarm_step']:,} ({first['alarm']}, seed {first['seed']})."
        )
    rescues = sum(row["rescues"] for row in ended)
    if rescues:
        sentences.append(f"{arm} was rescued {rescues} time{'s' * (rescues > 1)}.")
    for row in ended:
        if row["outcome"] == "failed":
            sentences.append(f"{arm} failed with seed {row['seed']} at step {row['steps']:,}: {row['message']}")
        elif row.get("unmeasured"):
            sentences.append(f"{arm} could not be measured with seed {row['seed']}: {row['unmeasured']}")
        elif row["reason"] == "alarm":
            sentences.append(f"{arm} was stopped by its alarm with seed {row['seed']} at step {row['steps']:,}.")
        if (measured := row.get("measured_step")) is not None and measured != row["steps"]:
            sentences.append(
                f"{arm} is measured with seed {row['seed']} at step {measured:,}, the last that it kept of "
                f"{row['steps']:,}."
            )
    return sentences


def as_csv(comparison: Mapping[str, Any]) -> str:
    """One row per run: how it ended, its costs and its measures."""
    names = [entry["name"] for entry in comparison["measures"] if not entry["cost"]]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED, *COST, *names])
    for row in comparison["runs"]:
        measures = row.get("measures", {})
        writer.writerow([row.get(name) for name in (*FIXED, *COST)] + [measures.get(name) for name in names])
    return text.getvalue()
