"""The mode-collapse detector on labelled streams of samples: `make bench-collapse`.

Planted streams (planted.py) and recorded ones (streams/, from recorded.py) go look by look through
`ModeCollapse.read`, as in a training. The table also has the obvious alternatives. The streams for the choice of
thresholds (seeds below 100, and marked streams) are separate from those of the report: other seeds, drawn after the
last change of the detector, which looks at places because of what it missed on seeds 101 to 107; and streams of a
folder's pictures, of which nothing was ever chosen.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import planted  # noqa: E402
from collapse_cost import costs  # noqa: E402
from planted import DEMO_KINDS, EVERY, FOLDER_KINDS, LEVELS, LONG, Stream  # noqa: E402
from recorded import recorded  # noqa: E402
from speed import commit, machine  # noqa: E402

from gankit import Judged, Snapshot  # noqa: E402
from gankit.builtin.mode_collapse import ONE_COLOUR, OPEN, WARM_UP, ModeCollapse  # noqa: E402

TUNE, REPORT = (0,), (201, 202)
HEALTHY = {"tune": (0, 1), "report": tuple(range(201, 208))}  # seeds at each level: 21 stretches are reported
NO_MODEL: Any = None  # the detector does not use it
WITHIN = 3  # an alarm is in time within these looks from the first collapsed one: a delay of two intervals at most


@dataclass
class Seen:
    """The measurements of a stream, look by look."""

    group: str  # "demo", "folder", "long" or "recorded"
    name: str
    kind: str
    steps: Sequence[int]
    collapsed: Sequence[bool | None]
    alarms: list[list[str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)  # higher: more collapsed
    values: list[dict[str, float]] = field(default_factory=list)

    @property
    def onset(self) -> int | None:
        """The look from which an alarm is due: the first with a loss.

        Every training starts collapsed, and a recorded one may stay so: then the alarm is due after warm-up.
        """
        lost = [i for i, lost in enumerate(self.collapsed) if lost]
        if self.group == "recorded":
            return next((i for i in lost if self.steps[i] >= WARM_UP), None)
        return max(i for i, lost in enumerate(self.collapsed) if lost is False) + 1 if lost else None


def watch(group: str, stream: Stream) -> Seen:
    """Send a stream through the detector and the alternatives."""
    seen = Seen(
        group, stream.name, stream.kind, stream.steps, [None if c is None else bool(c) for c in stream.collapsed]
    )
    shown: tuple[Tensor, Tensor] = stream.looks[0]()
    count = len(shown[0])
    detector = ModeCollapse(ModeCollapse.Options(pictures=count))
    distance, alike, coverage, energy = Best(), Best(), Best(), [Best(), Best()]

    def generate(n: int, averaged: bool = True) -> Tensor:
        return shown[not averaged][:n]

    def real(n: int, held_out: bool = False) -> Tensor:
        source = stream.held_out if held_out else stream.real
        return source[:: max(1, len(source) // max(n, 1))][:n]

    for look, step in enumerate(stream.steps):
        shown = stream.looks[look]()
        reading = detector.read(Snapshot(step, {}, NO_MODEL, generate, real, Judged))
        values, share = reading.values, detector.health.share
        variety, colours = ((values[k] + values[f"raw-{k}"]) / 2 for k in ("variety", "colours"))
        found = {
            "gankit": 1 - min(share, variety / OPEN, colours / ONE_COLOUR),  # relative to its thresholds
            "coverage alone": 1 - coverage.share(values["coverage"]),
            "pairwise distance": 1 - distance.share(values["diversity"]),
            "MS-SSIM": 1 - alike.share(1 - ms_ssim(shown[0])),
        }
        if stream.energies:
            found["loss fall"] = 1 - max(b.share(e) for b, e in zip(energy, stream.energies[look], strict=True))
        for name, score in found.items():
            seen.scores.setdefault(name, []).append(score)
        seen.alarms.append([f"{alarm.kind} ({alarm.severity})" for alarm in reading.alarms])
        seen.words.append(reading.health or "")
        seen.values.append(dict(values))
    return seen


class Best:
    """A number's share of its own best so far; a best must last two looks."""

    def __init__(self) -> None:
        self.best = self.last = 0.0

    def share(self, value: float) -> float:
        found = value / self.best if self.best else 1.0
        self.best, self.last = max(self.best, min(value, self.last)), value
        return found


def ms_ssim(pictures: Tensor, pairs: int = 64) -> float:
    """Mean MS-SSIM of pairs of pictures in [-1, 1] (Wang, Simoncelli, Bovik 2003): window 7, two scales at 32×32.

    The weights of the paper's first two scales, from memory, scaled to a sum of 1.
    """
    x, y = (pictures[part : 2 * pairs : 2] / 2 + 0.5 for part in (0, 1))
    place = torch.arange(-3.0, 4.0)
    taps = torch.exp(-(place**2) / (2 * 1.5**2))
    window = (taps[:, None] * taps / taps.sum() ** 2).expand(x.shape[1], 1, 7, 7)

    def blur(z: Tensor) -> Tensor:
        return F.conv2d(z, window, groups=z.shape[1])

    found = torch.ones(len(x))
    for scale, weight in enumerate((0.136, 0.864)):
        a, b = blur(x), blur(y)
        contrast = (2 * (blur(x * y) - a * b) + 0.03**2) / (blur(x * x) - a * a + blur(y * y) - b * b + 0.03**2)
        if scale == 1:
            contrast = contrast * (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
        found = found * contrast.mean((1, 2, 3)).clamp(min=0) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return float(found.mean())


def streams(which: str, illustrations: str | None) -> Iterator[tuple[str, Stream]]:
    """The streams for tuning or for the report, each with its group."""
    for kind in DEMO_KINDS:
        seeds = HEALTHY[which] if kind == "healthy" else TUNE if which == "tune" else REPORT
        for level in LEVELS:
            for seed in seeds:
                yield "demo", planted.planted(kind, level, seed)
    if which == "report":
        for level in LEVELS:
            for seed in REPORT:
                yield "long", planted.planted("healthy", level, seed, length=LONG)
                for kind in FOLDER_KINDS if illustrations else ():
                    yield "folder", planted.planted(kind, level, seed, planted.folder(illustrations))
    for stream in recorded(HERE / "streams", which, illustrations):
        yield "recorded", stream


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The share of pairs of a collapsed and a healthy look that a score orders correctly."""
    p, n = np.array(positive)[:, None], np.array(negative)[None]
    return float(((p > n) + 0.5 * (p == n)).mean()) if p.size and n.size else math.nan


def looks(seen: Sequence[Seen], score: str, kind: str | None = None) -> tuple[list[float], list[float]]:
    """The scores of collapsed looks (of one kind) and of healthy ones."""
    found: tuple[list[float], list[float]] = [], []
    for stream in seen:
        for value, lost in zip(stream.scores.get(score, ()), stream.collapsed, strict=False):
            if lost is not None and not (lost and kind not in (None, stream.kind)):
                found[not lost].append(value)
    return found


def watched(which: str, index: int, illustrations: str | None) -> tuple[str, Seen]:
    """The work of a process. It builds the stream itself: a stream has functions, which cannot be sent."""
    torch.set_num_threads(1)
    with torch.no_grad():
        return which, watch(*next(islice(streams(which, illustrations), index, None)))


def alarmed(stream: Seen, score: str, threshold: float) -> list[int]:
    """The looks with a new alarm: the detector's own, or two looks in a row above a threshold.

    A lasting alarm counts once; like the detector's, it can come again only after its end.
    """
    if score == "gankit":
        return [i for i, alarms in enumerate(stream.alarms) if alarms]
    values = stream.scores.get(score, [])
    above = [min(pair) > threshold for pair in pairwise(values)]
    return [i + 1 for i, now in enumerate(above) if now and not (i and above[i - 1])]


@dataclass
class Found:
    """A detector's results on streams."""

    delays: list[int | None]  # intervals from the look at which an alarm is due; None: never seen
    false: int  # alarms without a loss
    steps: int  # steps without a loss


def judge(seen: Sequence[Seen], score: str, threshold: float, kind: str | None = None) -> Found:
    found = Found([], 0, 0)
    for stream in seen:
        raised, onset = alarmed(stream, score, threshold), stream.onset
        # Planted: no look before the onset has a loss. Recorded: the looks with the label healthy.
        healthy = [
            i
            for i, lost in enumerate(stream.collapsed)
            if (lost is False if stream.group == "recorded" else onset is None or i < onset)
        ]
        found.false += len([i for i in raised if i in healthy])
        found.steps += EVERY * len(healthy)
        if onset is not None and kind in (None, stream.kind):
            after = [max(0, i - onset) for i in raised if i >= onset or stream.collapsed[i]]
            found.delays.append(after[0] if after else None)
    return found


def table(tune: Sequence[Seen], report: Sequence[Seen]) -> str:
    """Markdown: per detector and kind."""
    names = list(dict.fromkeys(name for seen in report for name in seen.scores))
    kinds = [
        k
        for k in dict.fromkeys(seen.kind for seen in report)
        if any(s.kind == k and s.onset is not None for s in report)
    ]
    rows = ["| | ROC AUC | " + " | ".join(kinds) + " | false alarms per 100,000 steps |"]
    rows.append("|---" * (len(kinds) + 3) + "|")
    for name in names:
        healthy = looks(tune, name)[1]
        threshold = max(healthy, default=math.nan)
        positive, negative = looks(report, name)
        cells = [f"{name}", f"**{auc(positive, negative):.4f}**"]
        for kind in kinds:
            score = auc(*looks(report, name, kind))
            delays = judge(report, name, threshold, kind).delays
            if not any(s.kind == kind and name in s.scores for s in report):
                cells.append("–")
                continue
            seen = [d for d in delays if d is not None]
            in_time = sum(d < WITHIN for d in seen)
            middle = f"{statistics.median(seen):g}" if seen else "–"
            cells.append(f"{score:.3f}; {middle}; {in_time}/{len(delays)}" if delays else f"{score:.3f}")
        found = judge([s for s in report if name in s.scores], name, threshold)
        cells.append(f"{found.false / found.steps * 1e5:.2f} ({found.false} in {found.steps:,})")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def of(seen: Sequence[Seen], *groups: str) -> list[Seen]:
    return [stream for stream in seen if stream.group in groups]


def false_alarms(seen: Sequence[Seen]) -> str:
    """Markdown: the alarms without a loss, by quality and length of the stream."""
    rows = ["| healthy streams | steps each | streams | warnings | critical alarms |", "|---|---|---|---|---|"]
    healthy = [stream for stream in seen if stream.group != "recorded" and stream.onset is None]
    for length in sorted({stream.steps[-1] for stream in healthy}):
        for group in dict.fromkeys(s.group for s in healthy):
            for level in LEVELS:
                some = [s for s in of(healthy, group) if s.steps[-1] == length and f", {level}," in s.name]
                raised = [alarm for s in some for alarms in s.alarms for alarm in alarms]
                critical = sum("(critical)" in alarm for alarm in raised)
                name = "the folder" if group == "folder" else "demo data"
                if some:
                    cells = (f"{name}, {level}", f"{length:,}", f"{len(some)}", len(raised) - critical, critical)
                    rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def told(seen: Sequence[Seen]) -> str:
    """Markdown: the alarms on recorded streams, with their steps."""
    rows = ["| recorded | called collapsed, steps | called healthy | said |", "|---|---|---|---|"]
    for stream in of(seen, "recorded"):
        spans = []
        for truth in (True, False):
            steps = [step for step, lost in zip(stream.steps, stream.collapsed, strict=True) if lost is truth]
            spans.append(f"{steps[0]:,}–{steps[-1]:,}" if steps else "–")
        said = [f"{s:,} {', '.join(a)}" for s, a in zip(stream.steps, stream.alarms, strict=True) if a]
        rows.append(f"| {stream.name} | {spans[0]} | {spans[1]} | {'; '.join(said) or 'nothing'} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--illustrations", help="the folder that some recorded streams were trained on; without: left out"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"collapse-{date.today()}.md")
    parser.add_argument("--keep", type=Path, help="write every look's numbers here, as JSON")
    parser.add_argument("--kept", type=Path, help="measure no stream, draw the table of what --keep wrote")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    measured = commit()  # of the loaded code, even if later commits follow
    found: dict[str, list[Seen]] = {"tune": [], "report": []}
    if chosen.kept:
        found = {which: [Seen(**seen) for seen in some] for which, some in json.loads(chosen.kept.read_text()).items()}
    else:
        count = {which: len(list(streams(which, chosen.illustrations))) for which in found}
        asked = [(which, i, chosen.illustrations) for which in found for i in range(count[which])]
        with ProcessPoolExecutor(chosen.workers) as pool:
            for which, seen in pool.map(watched, *zip(*asked, strict=True)):
                found[which].append(seen)
                said = [f"{s:,} {', '.join(a)}" for s, a in zip(seen.steps, seen.alarms, strict=True) if a]
                print(f"{which}: {seen.name}: {'; '.join(said) or 'no alarm'}; due at look {seen.onset}", flush=True)
    if chosen.keep:
        kept: dict[str, Any] = {which: [asdict(seen) for seen in some] for which, some in found.items()}
        chosen.keep.write_text(json.dumps(kept))
    folder = of(found["report"], "folder")
    parts = (
        f"# Collapse, {date.today()}",
        f"{machine()}. Commit: {measured}.",
        EXPLAINED,
        table(found["tune"], of(found["report"], "demo", "recorded")),
        *(["Of the folder's pictures, by cluster:", table(found["tune"], folder)] if folder else []),
        false_alarms(found["report"]),
        told(found["report"]),
        "For tuning:",
        told(found["tune"]),
        "# Cost",
        costs(),
    )
    chosen.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(chosen.out.read_text())


EXPLAINED = f"""\
Each kind's cell: ROC AUC of its collapsed looks against all healthy looks; median delay in intervals of 500 steps to
the first alarm, from the first look with a loss; streams with an alarm within two intervals. Recorded streams are
collapsed almost from the start: their delay counts from step {WARM_UP:,}, the end of warm-up. gankit's alarms are its
own; an alternative raises one at two looks in a row above the highest score of a healthy look among the streams for
tuning. A false alarm comes at a look without a loss.

Planted streams have 2 seeds × 3 levels of quality for each kind, and 21 healthy ones, 6 of the folder. Recorded streams
are few, their labels come from one look at the sheets, and only they have "loss fall". A "slow" loss is spread over
eight looks: its delay counts from the first, its AUC from the look that has lost 60 %."""


if __name__ == "__main__":
    main()
