"""The mode-collapse detector: does the generator still show what there is in the data, in form and colour.

Losses do not tell: collapse came with falling ones in the article that gankit starts from and with rising ones
elsewhere, and the distance between samples stays healthy while all share one colour. So samples are compared with real
pictures, in spaces that the training cannot game, and a run is judged by what real pictures reach and by its own best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Alarm, Diagnostic, Reading, Snapshot
from gankit.metrics.bins import bins, different_bins
from gankit.metrics.features import RandomConvolutions, chroma, pixels
from gankit.metrics.neighbours import mean_distance, neighbours, reach

LEAST = 20  # real pictures, below which nothing can be said
CELLS = 20  # of NDB


class ModeCollapse(Diagnostic):
    """Compares samples of both generators with real pictures and tells a collapse from its signs.

    Readings, each `mode-collapse/…` of the averaged generator and `mode-collapse/raw-…` of the bare one:

    coverage, precision, recall, density   Naeem et al. 2020, on pixels averaged to 16×16, k = 5
    features-coverage                      the same coverage in a fixed random convolutional network's features
    different-bins                         NDB of Richardson and Weiss 2018, share of 20 cells
    diversity                              mean distance between two samples, over that of two real pictures
    duplicates                             share of samples that have a nearer double than any 100th real one has
                                           (a birthday test after Arora and Zhang 2017)
    colours                                spread of the samples' mean colours over that of the real pictures
    code-diversity                         `diversity` in the discriminator's code, where it has one (an early sign)
    variety                                what the verdict rests on: coverage of both spaces, over what as many other
                                           real pictures reach

    All depend on how many pictures are compared: they are not those of an evaluation with thousands.
    """

    name = "mode-collapse"
    summary = "do the samples still cover the data, in form and in colour"
    every = 500

    class Options(gankit.Options):
        pictures: int = Field(
            256, ge=LEAST, le=10_000, description="generated pictures at each look, of each generator"
        )
        real: int = Field(1000, ge=LEAST, le=20_000, description="real pictures that they are compared with")
        warm_up: int = Field(3000, ge=0, description="steps until which one mode for all is no alarm")
        narrowing: float = Field(0.7, gt=0, lt=1, description="a variety below this share of the run's best narrows")
        collapsed: float = Field(0.4, gt=0, lt=1, description="and below this share it has collapsed")
        least: float = Field(
            0.1, ge=0, lt=1, description="a variety that after warm-up was never above this is one mode"
        )
        one_colour: float = Field(0.15, ge=0, lt=1, description="colours below this after warm-up are one for all")

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.reference: Reference | None = None
        self.health = Health(options)

    def read(self, snapshot: Snapshot) -> Reading:
        if snapshot.real(1).ndim != 4:
            return Reading()  # points: what covers them is another question
        if self.reference is None:
            self.reference = Reference.of(snapshot, self.options)
        if self.reference.too_few:
            return Reading(health="too few pictures to judge")
        values: dict[str, float] = {}
        for prefix, averaged in (("", True), ("raw-", False)):
            pictures = snapshot.generate(self.options.pictures, averaged=averaged)
            found = self.reference.compare(pictures)
            code = self.reference.code_diversity(snapshot, pictures)
            values |= {f"{prefix}{name}": value for name, value in {**found, **code}.items()}
        word, new = self.health.judge(snapshot.number, values, snapshot.since)
        alarms = [self.alarm(kind, snapshot, values) for kind in new]
        verdict = None if word == "warming up" else word in ("healthy", "recovered")
        return Reading(values, alarms, word, verdict)

    def alarm(self, kind: str, snapshot: Snapshot, values: Mapping[str, float]) -> Alarm:
        """What happened, the evidence, and what to try."""
        health = self.health
        best = health.best_step
        shown = (
            f"coverage {values['coverage']:.2f}, recall {values['recall']:.2f}, colours {values['colours']:.2f}, "
            f"distance between samples {values['diversity']:.2f} of the real pictures'"
        )
        share = health.share({prefix: values[f"{prefix}variety"] for prefix in health.best})
        left = f"{share:.0%} of its best, at step {best:,}"
        message = {
            "one-mode": f"The samples never came to cover more than a sliver of the data: {shown}.",
            "one-colour": f"All samples share one colour, whatever their forms: {shown}. Losses do not show it.",
            "narrowing": f"The samples narrow: their variety is {left} ({shown}).",
            "mode-collapse": f"The generator has collapsed: the samples' variety is {left} ({shown}).",
        }[kind]
        critical = kind in ("one-mode", "mode-collapse")
        before = best if kind in ("narrowing", "mode-collapse") else None
        keys = ("variety", "coverage", "recall", "precision", "colours", "diversity")
        return Alarm(
            kind,
            "critical" if critical else "warning",
            message,
            snapshot.advice(kind),
            {key: values[key] for key in keys},
            before,
        )

    def state(self) -> dict[str, Any]:
        return self.health.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.health.restore(state)


class Reference:
    """Real pictures as the samples are compared with them, and what other real pictures reach."""

    def __init__(self, real: Tensor, other: Tensor) -> None:
        """`real` (N, C, S, S) to compare with; `other` real ones, as many as there will be samples, for the ceiling."""
        self.too_few = min(len(real), len(other)) < LEAST
        if self.too_few:
            return
        self.network = RandomConvolutions(real.shape[1]).to(real.device)
        self.real = {"": pixels(real), "features-": self.network(real)}
        self.scale = self.real["features-"].std(0).clamp(min=1e-6)  # each feature counts alike
        self.real["features-"] = self.real["features-"] / self.scale
        self.reach = {name: reach(points, 5) for name, points in self.real.items()}
        self.cells = bins(self.real[""], min(CELLS, len(real) // 5))
        self.distance = mean_distance(self.real[""])
        self.double = float(reach(self.real[""], 1).quantile(0.01))
        self.colour_spread = _spread(real)
        self.ceiling: dict[str, float] = {}
        found = self.compare(other)
        self.ceiling = {name: max(found[f"{name}coverage"], 0.05) for name in self.real}

    @classmethod
    def of(cls, snapshot: Snapshot, options: Any) -> Reference:
        """From a training's pictures: those held out are the others, where they are enough."""
        other = snapshot.real(options.pictures, held_out=True)
        if len(other) >= options.pictures:
            return cls(snapshot.real(options.real), other)
        both = snapshot.real(options.real + options.pictures)
        fifth = torch.arange(len(both), device=both.device) % 5 == 0
        return cls(both[~fifth], both[fifth])

    def compare(self, pictures: Tensor) -> dict[str, float]:
        """The readings of samples (M, C, S, S)."""
        points = {"": pixels(pictures), "features-": self.network(pictures) / self.scale}
        near = neighbours(self.real[""], points[""], real_reach=self.reach[""])
        features = neighbours(self.real["features-"], points["features-"], real_reach=self.reach["features-"])
        values = {name: float(value) for name, value in near._asdict().items()}
        values["features-coverage"] = features.coverage
        values["different-bins"] = different_bins(self.cells, points[""])
        values["diversity"] = mean_distance(points[""]) / max(self.distance, 1e-9)
        values["duplicates"] = float((reach(points[""], 1) < self.double).double().mean())
        values["colours"] = _spread(pictures) / self.colour_spread if self.colour_spread > 1e-3 else math.nan
        if self.ceiling:
            shares = [values[f"{name}coverage"] / top for name, top in self.ceiling.items()]
            values["variety"] = sum(shares) / len(shares)
        return values

    def code_diversity(self, snapshot: Snapshot, pictures: Tensor) -> dict[str, float]:
        """Mean distance between codes, over that of as many real pictures' codes by the same discriminator."""
        n = min(len(pictures), 64)
        real, fake = snapshot.judge(snapshot.real(n)).code, snapshot.judge(pictures[:n]).code
        if real is None or fake is None:
            return {}
        return {"code-diversity": mean_distance(fake.float()) / max(mean_distance(real.float()), 1e-9)}


def _spread(pictures: Tensor) -> float:
    """Root of the summed variances of the pictures' mean colours, less their grey."""
    return float(chroma(pictures).var(0, correction=0).sum().sqrt())


class Health:
    """The verdict: warming up -> healthy -> narrowing -> collapsed -> recovered, with hysteresis.

    It knows numbers alone, so that a stream of samples from anywhere can be judged.
    """

    def __init__(self, options: Any) -> None:
        self.options = options
        self.word = "warming up"
        self.best: dict[str, float] = {}  # variety of either generator, held for two looks
        self.last: dict[str, float] = {}
        self.best_step = 0
        self.low = 0  # looks in a row below `narrowing`
        self.colourless = 0  # looks in a row with one colour for all
        self.told: list[str] = []

    def judge(self, step: int, values: Mapping[str, float], since: int = 0) -> tuple[str, list[str]]:
        """The word for the progress line, and what is new: names of alarms."""
        o = self.options
        variety = {prefix: values[f"{prefix}variety"] for prefix in ("", "raw-")}
        share = self.share(variety)
        for prefix, value in variety.items():
            held = min(value, self.last.get(prefix, 0.0))
            if held > self.best.get(prefix, 0.0):
                self.best[prefix], self.best_step = held, step
        self.last = variety
        varied = self.best[""] >= 2 * o.least if self.best else False
        self.low = self.low + 1 if varied and share < o.narrowing else 0
        self.colourless = self.colourless + 1 if values["colours"] < o.one_colour else 0
        warm = step - since >= o.warm_up
        self.word = self._word(warm, variety[""], share, varied)
        now = {
            "one-mode": self.word == "collapsed" and not varied,
            "one-colour": warm and self.colourless >= 3,
            "narrowing": self.word == "narrowing",
            "mode-collapse": self.word == "collapsed" and varied,
        }
        new = [name for name, present in now.items() if present and name not in self.told]
        self.told = [name for name, present in now.items() if present]
        return self.word, new

    def share(self, variety: Mapping[str, float]) -> float:
        """Of the run's own best that is left; the lower one of both generators'."""
        return min((variety[prefix] / best for prefix, best in self.best.items() if best), default=1.0)

    def _word(self, warm: bool, variety: float, share: float, varied: bool) -> str:
        o = self.options
        if not varied:
            return "warming up" if not warm else "collapsed" if variety < o.least else "healthy"
        well = share > (1 + o.narrowing) / 2
        if share < o.collapsed and (self.low >= 2 or share < o.collapsed / 2):
            return "collapsed"
        if self.word == "collapsed" and not well:
            return "collapsed"
        if self.low >= 2 or (self.word == "narrowing" and not well):
            return "narrowing"
        return "recovered" if self.word in ("narrowing", "collapsed", "recovered") else "healthy"

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "options"}

    def restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
