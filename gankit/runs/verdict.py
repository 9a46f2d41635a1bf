"""The verdict on a run: one headline, what it rests on, and the command to go on with.

The report, the terminal and `gankit runs` show the same one. It needs no torch.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from gankit.errors import UserError
from gankit.files import finite, read_object
from gankit.runs.advice import FIRST_LOOK, command, named, to_resume, to_train_further, with_plugins
from gankit.runs.folder import RunFolder, counts
from gankit.runs.score import SCORE, best, parts, recorded

# Least values of a part, and the words for it. benchmarks/score.py: blur of 3×3 has the form 0.56; half of the modes,
# cut where a glance sees it, the variety 0.66 to 0.74. Where it does not, modes can be lost beside the word "varied"
# (docs/measures.md), and the sentence says so.
VARIETY = ((0.8, "varied"), (0.5, "somewhat varied"), (0.0, "of little variety"))
DETAIL = ((0.9, "clean"), (0.7, "rough in detail"), (0.4, "rough"), (0.0, "far from real in detail"))
FEW = 300  # training pictures; docs/evidence: trainings learned 270 by heart in 2,000 to 7,000 steps
JUDGED = 60  # training pictures that the looks at the samples need: 20 of them stand in for other real ones
COPIES = 0.05  # a share of copies that the headline names
BEGUN = 0.1  # of the steps: a training that has made fewer is only begun
RECENT = 0.75  # a best score after this share of the steps says that it still got better


@dataclass(frozen=True)
class Verdict:
    """What to say first of a run."""

    headline: str
    word: str  # the same in two or three words, for a list of runs
    because: tuple[str, ...]
    next: str  # a command line, or "" for none
    judged: bool = False  # by a score, which `because` begins with


def verdict(
    run: RunFolder,
    metrics: Sequence[Mapping[str, Any]],
    alarms: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    copies: Mapping[str, Any] | None = None,
    plugins: Sequence[str] | None = None,
    until: int | None = None,
) -> Verdict:
    """The verdict on a run from its lines, alarms and result. `copies`: neighbours.json, if there is one.

    `plugins`: those of this process's own flags, for the command; by default it says which ones the run's files name.
    `until`: the last step that counts; None for all.
    """
    try:
        config = run.config
    except (UserError, ValueError):
        return Verdict("Not judged: its config.json is damaged", "damaged", (), "")
    scored = [line for line in recorded(metrics).values() if parts(line)]
    alarm = open_alarm(run, result, alarms, until)
    because = [*_score(scored, run.scores(metrics)), of_copies(copies or {})]
    because.append(_alarms(alarms, bool(config.get("diagnostics"))))
    if plugins is None and (names := named(config.get("plugins"))):
        because.append(names)
    plugins = plugins or ()
    following = _next(run, metrics, scored, result, plugins)
    if alarm:
        given = [one for one in _several(alarm.get("remedies")) if _table(one)]
        remedies = [command(run, one, alarm.get("healthy"), plugins) for one in given]
        kind = str(alarm.get("kind") or alarm.get("diagnostic") or "an alarm")
        first = str(alarm.get("message") or kind).partition(":")[0].rstrip(".")
        return Verdict(first, kind, tuple(because), next(filter(None, remedies), following), bool(scored))
    if result.get("outcome") == "failed":
        return Verdict("The training failed", "failed", (str(result.get("message") or ""), *because), following)
    count = 0 if scored else _pictures(run)
    if 0 < count < JUDGED:
        why = f"{count} training pictures are too few to judge variety and form: look at the samples yourself."
        if following and result.get("reason") == "steps":  # more steps would bring no verdict either
            following = _sample(run, plugins)
        return Verdict("Not judged: too few pictures", "not judged", (why, *because), following)
    if not scored:
        return Verdict("Not judged yet", "not judged yet", (_unjudged(count, metrics), *because), following)
    word, (share, _, beyond) = _words(parts(scored[-1]) or {}), _shares(copies or {})
    current = counts(step := (copies or {}).get("step"), 0) and step >= scored[-1]["step"]
    if current and beyond and share >= COPIES:
        word = f"{share:.0%} copies, {word}"
    begun = _only_begun(scored[-1]["step"], config.get("steps"), result)
    headline = f"{word[0].upper()}{word[1:]}: score {scored[-1][SCORE]:.2f}, where other real pictures have 1"
    return Verdict(f"{begun}{headline}", word, tuple(because), following, judged=True)


def open_alarm(
    run: RunFolder, result: Mapping[str, Any], alarms: Sequence[Mapping[str, Any]], until: int | None = None
) -> Mapping[str, Any] | None:
    """The last critical alarm that still holds: since the last checkpoint, or while its diagnostic's verdict is bad.

    `until`: the last step that counts; None for all.
    """
    critical = [alarm for alarm in alarms if alarm.get("severity") == "critical"]
    if result.get("reason") == "alarm" and critical:
        return critical[-1]
    state = last_state(run, until) if critical else {}
    for alarm in reversed(critical):
        young = alarm["step"] > state["step"] and alarm.get("attempt", 1) == state.get("attempt", 1)
        if young or state["verdicts"].get(str(alarm.get("diagnostic")), True) is False:
            return alarm
    return None


def last_state(run: RunFolder, until: int | None = None) -> dict[str, Any]:
    """state.json of the last checkpoint, up to step `until`; where it cannot be read, step -1 without verdicts."""
    there, state = [step for step in run.checkpoints() if until is None or step <= until], dict[str, Any]()
    with suppress(OSError, UserError, ValueError):
        state = read_object(run.folder, run.checkpoint_path(there[-1]) / "state.json") if there else {}
    step = state.get("step")
    known = {"step": step if counts(step, 0) else -1}
    return state | known | {"verdicts": state.get("verdicts") if _table(state.get("verdicts")) else {}}


def of(run: RunFolder, plugins: Sequence[str] | None = None) -> Verdict:
    """The verdict on a run folder as it is on the disk. `plugins`: as for `verdict`."""
    return verdict(run, run.looks(), run.alarms(), run.result, copies_of(run), plugins)


def copies_of(run: RunFolder) -> dict[str, Any]:
    """neighbours.json; {} where it cannot be read."""
    try:
        return run.neighbours
    except (OSError, UserError):
        return {}


def _words(values: Mapping[str, float]) -> str:
    variety = next(word for least, word in VARIETY if values["variety"] >= least)
    rest = min(values["form"], values["clean"])
    detail = next(word for least, word in DETAIL if rest >= least)
    agree = (values["variety"] >= VARIETY[0][0]) == (rest >= DETAIL[0][0])
    return f"{variety}{' and ' if agree else ', but '}{detail}"


def _score(scored: Sequence[Mapping[str, Any]], saved: Mapping[int, float]) -> list[str]:
    """`scored`: the lines with a score; `saved`: the scores of the checkpoints, by step."""
    if not scored:
        return []
    last, values = scored[-1], parts(scored[-1]) or {}
    sentences = [
        f"At step {last['step']:,} the samples reach {values['variety']:.0%} of the variety, {values['form']:.0%} of "
        f"the form and {values['clean']:.0%} of the cleanliness of other real pictures. These measures do not "
        "know what a picture shows, and do not notice the loss of kinds that look alike at a glance: look at the "
        "samples."
    ]
    first = best(saved)
    if first is not None and saved[first] > 0:  # of nothing but zeros the first is no better
        sentences.append(f"The best checkpoint is step {first:,}, score {saved[first]:.2f}: --from best takes it.")
    return sentences


def _shares(copies: Mapping[str, Any]) -> tuple[float, float, bool]:
    """The share of copies, the one up to which chance explains it, and whether it is beyond: Wilson's 95 % interval.

    The share is NaN where nobody looked. An older neighbours.json does not say what chance explains.
    """
    count, of, known = copies.get("copies"), copies.get("samples"), finite(copies.get("chance"))
    chance = known if known is not None and 0 <= known <= 1 else 0.01
    if not (isinstance(count, int) and isinstance(of, int) and counts(count, 0) and counts(of, 1) and count <= of):
        return math.nan, chance, False
    share, z = count / of, NormalDist().inv_cdf(0.975)
    least = (share + z**2 / (2 * of) - z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))) / (1 + z**2 / of)
    return share, chance, least > chance


def of_copies(copies: Mapping[str, Any]) -> str:
    """What neighbours.json says of copies, in a sentence; {} where nobody looked."""
    share, chance, beyond = _shares(copies)
    if math.isnan(share):
        if counts(copies.get("step"), 0) and copies.get("held_out") == 0:  # fewer than 20, which judge nothing
            few = "Too few pictures are held out to judge whether samples are copies: look at the pairs."
            return few + _equal(copies)
        return "Nobody looked for copies of training pictures yet."
    at = f" of step {copies['step']:,}" if counts(copies.get("step"), 0) else ""
    found = f"{copies['copies']:,} of {copies['samples']:,} samples{at} are as near to a training picture as a copy"
    return f"{found}: {explained(share, chance, beyond)}.{_equal(copies)}"


def explained(share: float, chance: float, beyond: bool) -> str:
    """Whether chance, which explains shares of copies up to `chance`, explains this one, in words.

    `beyond`: the interval of the share lies above `chance`. A share above it whose interval holds it tells nothing.
    """
    if beyond or share <= chance:
        return f"{'more' if beyond else 'no more'} than chance explains (up to {chance:.0%})"
    few = "so few samples and held-out pictures cannot tell whether this is more"
    return f"chance explains up to {chance:.0%}, and {few}: look at the pairs"


def _equal(copies: Mapping[str, Any]) -> str:
    """How many samples equal a training picture, where that is a larger share than of real pictures; or ""."""
    equal, of, real, held_out = (
        int(copies[key]) if counts(copies.get(key), 0) else -1
        for key in ("equal", "samples", "equal_held_out", "held_out")
    )
    if not (1 <= equal <= of and 0 <= real <= held_out):  # an older neighbours.json does not say
        return ""
    if not held_out:
        return f" {equal:,} of {of:,} samples equal a training picture."
    if equal / of <= (real + 1) / (held_out + 1):  # of a further real picture
        return ""
    return f" {equal:,} of the samples and {real:,} of {held_out:,} held-out pictures equal a training picture."


def _alarms(alarms: Sequence[Mapping[str, Any]], watched: bool) -> str:
    if not alarms:
        return "There was no alarm." if watched else "No diagnostic watched this run: no alarm means nothing."
    count, last = len(alarms), alarms[-1]
    many = "1 alarm was" if count == 1 else f"{count:,} alarms were"
    return f"{many} raised, the last at step {last['step']:,} ({last.get('kind') or 'an alarm'})."


def _only_begun(step: int, steps: Any, result: Mapping[str, Any]) -> str:
    """What to say before a low score that means nothing yet, or ""."""
    early = isinstance(steps, int) and step < BEGUN * steps and result.get("reason") != "steps"
    return f"Only begun, step {step:,} of {steps:,}. " if early else ""


def _pictures(run: RunFolder) -> int:
    """The number of training pictures; 0 for points, or where data.json does not tell."""
    with suppress(OSError, UserError, ValueError):
        count, shape = run.data.get("train"), run.data.get("shape")
        if isinstance(count, int) and isinstance(shape, list) and len(shape) == 3:
            return max(count, 0)
    return 0


def _unjudged(pictures: int, metrics: Sequence[Mapping[str, Any]]) -> str:
    looked = any(key.startswith(("mode-collapse/", "cleanliness/")) for line in metrics[-20:] for key in line)
    if looked:
        return "The looks at the samples lack a part of the score: too few pictures, or a run of an earlier version."
    if not pictures:
        return "The score is for pictures."
    return f"Nothing was measured yet: the first look at the samples is at step {FIRST_LOOK}."


def _next(
    run: RunFolder,
    metrics: Sequence[Mapping[str, Any]],
    scored: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    plugins: Sequence[str],
) -> str:
    """Go on while the score still grew or the run is not at its end, else look at the best pictures."""
    if not run.checkpoints():
        return ""
    if result.get("reason") != "steps":
        return to_resume(run.folder, plugins)
    done: int = metrics[-1]["step"] if metrics else 0
    if counts(result.get("steps"), 0):
        done = result["steps"]
    highest = best({line["step"]: line[SCORE] for line in scored if line[SCORE] > 0})
    if highest is None or highest > RECENT * done:
        return to_train_further(run.folder, done, plugins)
    return _sample(run, plugins, "--from", "best")


def _sample(run: RunFolder, plugins: Sequence[str], *more: str) -> str:
    return shlex.join(["gankit", "sample", str(run.folder), *more, *with_plugins(plugins)])


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _table(value: Any) -> bool:
    return isinstance(value, Mapping)
