"""The mode-collapse detector: does the generator still show what there is in the data, in form and colour.

Losses do not tell: collapse came with falling ones in the article that gankit starts from and with rising ones
elsewhere, and the distance between samples stays healthy while all share one colour. So samples are compared with real
pictures, in a space that the training cannot game, and a run is judged by what real pictures reach and by its own best.

What was tried and what it was chosen by: benchmarks/collapse.py (`make bench-collapse`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gankit.components import Alarm, Diagnostic, Reading, Snapshot
from gankit.metrics.bins import bins, different_bins
from gankit.metrics.features import RandomConvolutions, chroma, pixels
from gankit.metrics.neighbours import mean_distance, neighbours, reach
from gankit.options import Curve, Options

LEAST = 20  # real pictures, below which nothing can be said
REAL = 500  # that samples are compared with: more make the balls so small that a few hundred samples miss most
GLANCE = 4  # side: what is seen at a glance, which colour lies where. Finer, and a blur alone counts as a loss
CELLS = 20  # of NDB
PLACES = ((1, 10), (3, 30))  # seen closely: windows of so many eighths of the side, and the kinds told apart in each
FAR = 1e3  # a centre that no picture is near to: where a place has fewer kinds
FEW = 3  # places that must lose for it to count: one alone is chance
OPEN = 0.15  # variety that a run must have had before it counts as more than one mode
ONE_COLOUR = 0.3  # colours below this are one for all; a third more and they are not
DEAD = 1e-3  # mean distance between samples, over the real ones', of a generator that ignores its latent
PATIENCE = 1500  # steps without growth until a run that shows one mode or one colour is told so


class ModeCollapseOptions(Options):
    pictures: int = Field(256, ge=LEAST, le=10_000, description="generated pictures at each look, of each generator")
    warm_up: int = Field(3000, ge=0, description="steps until which one mode for all is no alarm")
    narrowing: float = Field(0.8, gt=0, lt=1, description="a variety below this share of the run's best narrows")
    collapsed: float = Field(0.5, gt=0, lt=1, description="and below this share it has collapsed")


class ModeCollapse(Diagnostic[ModeCollapseOptions]):
    """Compares samples of both generators with real pictures and tells a collapse from its signs.

    Readings, each `mode-collapse/…` of the averaged generator and `mode-collapse/raw-…` of the bare one:

    coverage, precision, recall, density   Naeem et al. 2020, on pictures averaged to 4×4, k = 5
    features-coverage                      the same coverage in a fixed random convolutional network's features
    different-bins                         NDB of Richardson and Weiss 2018 on the same 4×4, share of 20 cells
    diversity                              mean distance between two samples, over that of two real pictures
    duplicates                             share of samples that have a nearer double than any 100th real one has
                                           (a birthday test after Arora and Zhang 2017)
    colours                                spread of what colour the pictures are painted in, over the real ones'
    variety                                geometric mean of coverage and recall, over what as many other real
                                           pictures reach

    and of both generators together:

    left                                   what the verdict rests on: the share that is left of the run's own best,
                                           of the variety or at the places of the picture that lost most (`Places`)

    Coverage alone hardly falls when poor samples lose half of the modes: those left hit theirs twice as often, and
    few were hit before. Recall sees it, where the modes differ at a glance; the places see half of the skins or of
    the hair styles go. All depend on how many pictures are compared: they are not those of an evaluation with
    thousands.
    """

    name = "mode-collapse"
    summary = "do the samples still cover the data, in form and in colour"
    every = 500
    curves = {
        "variety": Curve(note="Variety of the samples, over what as many other real pictures have."),
        "coverage": Curve(note="Share of the real pictures that have a sample near them, at a glance."),
        "recall": Curve(note="Share of the real pictures that lie among the samples."),
        "precision": Curve(note="Share of the samples that lie among real pictures."),
        "colours": Curve(note="How far the samples' colours spread, over the real pictures'."),
    }

    def __init__(self, options: ModeCollapseOptions) -> None:
        super().__init__(options)
        self.reference: Reference | None = None
        self.health = Health(options)

    def read(self, snapshot: Snapshot) -> Reading:
        if snapshot.real(1).ndim != 4:
            return Reading()  # points: what covers them is another question
        if self.reference is None:
            self.reference = Reference.of(snapshot, self.options.pictures)
        reference = self.reference
        if reference.too_few:
            return Reading(health="too few pictures to judge")
        values: dict[str, float] = {}
        shown = [snapshot.generate(reference.count, averaged=averaged) for averaged in (True, False)]
        for prefix, pictures in zip(("", "raw-"), shown, strict=True):
            values |= {f"{prefix}{name}": value for name, value in reference.compare(pictures).items()}
        variety, colours = ((values[name] + values[f"raw-{name}"]) / 2 for name in ("variety", "colours"))
        places = reference.places.shown(torch.cat(shown))
        apart = max(values["diversity"], values["raw-diversity"])
        told = self.health.judge(snapshot.number, variety, colours, snapshot.since, places, apart)
        values["left"] = min(1.0, self.health.share)
        alarms = [self.alarm(kind, severity, snapshot, values) for kind, severity in told]
        word = self.health.word
        well = word in ("healthy", "recovered") and not self.health.low  # the first low look may be the beginning
        verdict = None if word in ("warming up", "opening up") else well
        return Reading(values, alarms, word, verdict)

    def alarm(self, kind: str, severity: Severity, snapshot: Snapshot, values: Mapping[str, float]) -> Alarm:
        """What happened, the evidence, and what to try."""
        health = self.health
        shown = (
            f"coverage {values['coverage']:.2f}, recall {values['recall']:.2f}, colours {values['colours']:.2f}, "
            f"distance between samples {values['diversity']:.2f} of the real pictures'"
        )
        left = f"{health.share:.0%} of its best, at step {health.best_step:,}"
        if health.share < health.at_a_glance:
            left += ", at the places of the picture that lost most"
        message = {
            "dead-generator": f"The generator draws one and the same picture, whatever the latent: {shown}.",
            "one-mode": f"The samples never showed more than a sliver of the data, and it does not grow: {shown}.",
            "one-colour": f"All samples share one colour, whatever their forms: {shown}. Losses do not show it.",
            "narrowing": f"The samples narrow: their variety is {left} ({shown}).",
            "mode-collapse": f"The generator has collapsed: the samples' variety is {left} ({shown}).",
        }[kind]
        before = health.best_step if kind in ("narrowing", "mode-collapse") else None
        keys = ("left", "variety", "coverage", "recall", "precision", "colours", "diversity")
        evidence = {key: values[key] for key in keys}
        return Alarm(kind, severity, message, snapshot.advice(kind), evidence, before)

    def state(self) -> dict[str, Any]:
        return self.health.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.health.restore(state)


class Reference:
    """Real pictures as the samples are compared with them, and what other real pictures reach."""

    def __init__(self, real: Tensor, other: Tensor) -> None:
        """`real` (N, C, S, S) to compare with; `other` real ones, as many as there will be samples, for the ceiling."""
        self.count = len(other)
        self.too_few = min(len(real), len(other)) < LEAST
        if self.too_few:
            return
        self.network = RandomConvolutions(real.shape[1]).to(real.device)
        self.glance = pixels(real, GLANCE)
        self.reach = reach(self.glance, 5)
        features = self.network(real)
        self.scale = features.std(0).clamp(min=1e-6)  # each feature counts alike
        self.features = features / self.scale
        self.features_reach = reach(self.features, 5)
        self.cells = bins(self.glance, min(CELLS, len(real) // 5))
        self.distance = max(mean_distance(self.glance), 1e-9)
        self.double = float(reach(pixels(real), 1).quantile(0.01))
        self.background = real.transpose(0, 1).flatten(1)[:, ::7].mode(1).values.view(-1, 1, 1)
        self.places = Places(real)
        self.colours = self.spread(real)
        self.ceiling = 1.0
        self.ceiling = max(self.compare(other)["variety"], 0.05)

    @classmethod
    def of(cls, snapshot: Snapshot, pictures: int) -> Reference:
        """From a training's pictures: those held out are the others, where they are enough."""
        other = snapshot.real(pictures, held_out=True)
        if len(other) >= pictures:
            return cls(snapshot.real(REAL), other)
        both = snapshot.real(REAL + pictures)
        third = torch.arange(len(both), device=both.device) % 3 == 0
        return cls(both[~third], both[third][:pictures])

    def compare(self, pictures: Tensor) -> dict[str, float]:
        """The readings of samples (M, C, S, S)."""
        points = pixels(pictures, GLANCE)
        near = neighbours(self.glance, points, real_reach=self.reach)
        values = {name: float(value) for name, value in near._asdict().items()}
        between = torch.cdist(self.features, self.network(pictures) / self.scale)
        values["features-coverage"] = float((between.amin(1) <= self.features_reach).float().mean())
        values["different-bins"] = different_bins(self.cells, points)
        values["diversity"] = mean_distance(points) / self.distance
        values["duplicates"] = float((reach(pixels(pictures), 1) < self.double).float().mean())
        values["colours"] = self.spread(pictures) / self.colours if self.colours > 1e-3 else math.nan
        values["variety"] = math.sqrt(near.coverage * near.recall) / self.ceiling
        return values

    def spread(self, pictures: Tensor) -> float:
        """Root of the summed variances of the colours that pictures are painted in, less their grey.

        Differences from the background (the commonest value of each channel) over their size: otherwise much and
        little of one brown were two colours.
        """
        ink = pictures - self.background
        painted = ink.sum((2, 3), keepdim=True) / (ink.abs().amax(1, keepdim=True) + 0.05).sum((2, 3), keepdim=True)
        return float(chroma(painted).var(0, correction=0).sum().sqrt())


class Places:
    """Which kinds real pictures show at each place, and how much of that samples show.

    At a glance the skins or the hair styles of two figures hardly differ; at the place where they are, little else
    does. The kinds of a place are cells around centres that k-means finds among the real pictures' windows there.
    """

    def __init__(self, real: Tensor) -> None:
        """Of pictures (N, C, S, S), N ≥ LEAST."""
        self.cells: list[tuple[int, Tensor, Tensor, Tensor]] = []  # window, places, centres, shares
        for window, kinds in PLACES:
            seen = windows(real, window)
            spread = seen.std(1).norm(dim=1)
            places = (spread > 0.15 * spread.max()).nonzero()[:, 0]  # a place where all are alike tells nothing
            centres, shares = (
                seen.new_full((len(places), kinds, seen.shape[2]), FAR),
                seen.new_zeros(len(places), kinds),
            )
            for i, place in enumerate(places):
                found = bins(seen[place], min(kinds, len(real) // 5))
                centres[i, : len(found.share)], shares[i, : len(found.share)] = found.centres, found.share
            self.cells.append((window, places, centres, shares))

    def shown(self, pictures: Tensor) -> list[float]:
        """For each place in [0, 1]: the squared Bhattacharyya coefficient of the samples' kinds and the real ones'.

        1 where they have the same shares, and half where half of the kinds are gone and the others as they were.
        It forgives shares that differ a little, as those of two trainings do.
        """
        values = []
        for window, places, centres, shares in self.cells:
            nearest = torch.cdist(windows(pictures, window)[places], centres).argmin(2)
            found = torch.zeros_like(shares).scatter_add_(1, nearest, shares.new_ones(nearest.shape)) / len(pictures)
            values += ((found * shares).sqrt().sum(1) ** 2).tolist()
        return values


def windows(pictures: Tensor, side: int) -> Tensor:
    """Pictures (N, C, S, S) -> (places, N, C·side²): every window of that side, of pictures averaged to 8×8."""
    seen = F.adaptive_avg_pool2d(pictures, 8).unfold(2, side, 1).unfold(3, side, 1)
    return seen.permute(2, 3, 0, 1, 4, 5).flatten(3).flatten(0, 1)


Severity = Literal["warning", "critical"]


class Growth(NamedTuple):
    """How far something has grown, and when it last grew by a quarter."""

    mark: float = 0.0
    step: int = 0

    def after(self, step: int, value: float) -> Growth:
        return Growth(value, step) if value > 1.25 * self.mark + 0.01 else self


class Best(NamedTuple):
    """The most that something was in two looks in a row."""

    value: float = 0.0
    step: int = 0
    last: float = 0.0

    def after(self, step: int, value: float) -> Best:
        held = min(value, self.last)
        return Best(held, step, value) if held > self.value else self._replace(last=value)

    def left(self, value: float) -> float:
        """The share of it that a value is."""
        return value / self.value if self.value else 1.0


class Health:
    """The verdict: warming up -> healthy -> narrowing -> collapsed -> recovered, with hysteresis.

    It knows numbers alone, so that a stream of samples from anywhere can be judged. Every GAN starts with one mode:
    a run is told that it shows no more, in form or in colour, once it is warm and has stopped to open up.
    """

    def __init__(self, options: ModeCollapseOptions) -> None:
        self.options = options
        self.word = "warming up"
        self.glance = Best()  # variety
        self.places: list[Best] = []
        self.share = self.at_a_glance = 1.0  # of the run's own best that is left: in all; of the variety
        self.best_step = 0  # of what lost most
        self.low = 0  # looks in a row below `narrowing`
        self.colourless = 0  # looks in a row with one colour for all
        self.variety, self.colours = Growth(), Growth()
        self.told: dict[str, Severity] = {}
        self.dead = 0  # looks in a row with one picture for all, to the last digit

    def judge(
        self,
        step: int,
        variety: float,
        colours: float,
        since: int = 0,
        places: Sequence[float] = (),
        apart: float = 1.0,
    ) -> list[tuple[str, Severity]]:
        """Take in a look; returns the alarms that are new. `apart`: the samples' mean distance over the real ones'."""
        o = self.options
        self._compare(variety, places)
        self.variety = self.variety.after(step, min(variety, self.glance.last))
        self.colours = self.colours.after(step, colours)
        self.glance = self.glance.after(step, variety)
        opened = self.glance.value >= OPEN
        for i, value in enumerate(places if opened else ()):  # what was shown before is no best: it changes at random
            self.places[i] = self.places[i].after(step, value)
        self.low = self.low + 1 if opened and self.share < o.narrowing else 0
        bound = ONE_COLOUR * 4 / 3 if "one-colour" in self.told else ONE_COLOUR
        self.colourless = self.colourless + 1 if colours < bound else 0
        warm = step - since >= o.warm_up
        self.word = self._word(step, warm, opened)
        now: dict[str, Severity] = {}
        self.dead = self.dead + 1 if apart < DEAD and not opened else 0
        if self.dead >= 2:
            self.word, now["dead-generator"] = "dead", "critical"
        elif self.word == "one mode":
            hopeless = step - max(self.variety.step, since + o.warm_up) >= o.warm_up
            now["one-mode"] = "critical" if hopeless else "warning"
        elif self.word == "narrowing":
            now["narrowing"] = "warning"
        elif self.word == "collapsed":
            now["mode-collapse"] = "critical"
        if opened and warm and self._one_colour(step):
            now["one-colour"] = "warning"
            self.word = "one colour" if self.word in ("healthy", "recovered") else self.word
        new = [(kind, severity) for kind, severity in now.items() if self.told.get(kind) not in (severity, "critical")]
        self.told = now
        return new

    def _compare(self, variety: float, places: Sequence[float]) -> None:
        """What is left of the best: of the variety or at the places that lost most, whichever is less."""
        if len(places) != len(self.places):
            self.places = [Best()] * len(places)
        self.share = self.at_a_glance = self.glance.left(variety)
        self.best_step = self.glance.step
        shown = [
            (best.left(value), best.step) for best, value in zip(self.places, places, strict=True) if best.value >= OPEN
        ]
        worst = sorted(shown)[:FEW]
        share = sum(left for left, _ in worst) / FEW
        if len(worst) == FEW and share < self.share:
            self.share, self.best_step = share, worst[0][1]

    def _one_colour(self, step: int) -> bool:
        return self.colourless >= 2 and ("one-colour" in self.told or step - self.colours.step >= PATIENCE)

    def _word(self, step: int, warm: bool, opened: bool) -> str:
        o = self.options
        if not opened:
            if not warm:
                return "warming up"
            stuck = self.glance.last < OPEN and step - self.variety.step >= PATIENCE
            return "one mode" if stuck else "opening up"
        well = self.share > (1 + o.narrowing) / 2
        if self.share < o.collapsed and (self.low >= 2 or self.share < o.collapsed / 2):
            return "collapsed"
        if self.word == "collapsed" and not well:
            return "collapsed"
        if self.low >= 2 or (self.word == "narrowing" and not well):
            return "narrowing"
        return "recovered" if self.word in ("narrowing", "collapsed", "recovered") else "healthy"

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "options"}

    def restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: value for name, value in state.items() if name in vars(self)})
        self.variety, self.colours, self.glance = Growth(*self.variety), Growth(*self.colours), Best(*self.glance)
        self.places = [Best(*best) for best in self.places]
