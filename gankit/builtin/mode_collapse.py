"""The mode-collapse detector: whether the samples still cover the data, in form and colour.

Losses do not show a collapse: they fall in one and rise in another, and the distance between samples stays high while
all share one colour. So the detector compares samples with real pictures, in features that the training does not
optimise, and judges a run by the values of real pictures and by its own best values.

benchmarks/collapse.py (`make bench-collapse`) compares it with alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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

LEAST = 20  # real pictures that a judgement needs
REAL = 500  # real pictures to compare with: with more, the balls are so small that a few hundred samples miss most
GLANCE = 4  # side of the coarse averages, which show the layout of colours; in finer ones mere blur looks like a loss
CELLS = 20  # of NDB
PLACES = ((1, 10), (3, 30))  # (side of a local window in eighths of the picture's, kinds at each place)
FAR = 1e3  # a centre far from all pictures, for a place with fewer kinds
FEW = 3  # places that must lose variety together: one alone can be chance
OPEN = 0.15  # variety above which a run has more than one mode
ONE_COLOUR = 0.3  # `colours` below this means one colour for all samples, until it is a third higher
DEAD = 1e-3  # mean distance between samples, over that of real pictures, of a generator that ignores its latent
# The detector on labelled streams: docs/evidence/collapse.md, "The detector"; benchmarks/collapse.py.
WARM_UP = 3000  # steps without an alarm about one mode for all
NARROWING = 0.8  # a share of the run's best below which the variety narrows
COLLAPSED = 0.5  # a share of the run's best below which it has collapsed
PATIENCE = 1500  # steps without growth before an alarm about one mode or one colour
OTHER = "The step with the best score may be another: it counts form and cleanliness too."


class ModeCollapseOptions(Options):
    now_constant = {"warm_up": WARM_UP, "narrowing": NARROWING, "collapsed": COLLAPSED}

    pictures: int = Field(256, ge=LEAST, le=10_000, description="generated pictures at each look, of each generator")


class ModeCollapse(Diagnostic[ModeCollapseOptions]):
    """Compares samples of the averaged and of the bare generator with real pictures, to detect a collapse.

    Readings, each `mode-collapse/…` of the averaged generator and `mode-collapse/raw-…` of the bare one:

    coverage, precision, recall, density   Naeem et al. 2020, on pictures averaged to 4×4, k = 5
    features-coverage                      the same coverage in a fixed random convolutional network's features
    different-bins                         NDB of Richardson and Weiss 2018 on the same 4×4, share of 20 cells
    diversity                              mean distance between two samples, over that of two real pictures
    duplicates                             share of samples with a neighbour nearer than the 1 % quantile of different
                                           real pictures' nearest distances (after Arora and Zhang 2017's birthday test)
    colours                                spread of the pictures' mean colours, over that of the real ones
    variety                                geometric mean of coverage and recall, over that of as many other real
                                           pictures
    form                                   the same in the random network's features, which see form and texture

    and of both generators together:

    left                                   the basis of the verdict: the current share of the run's own best variety,
                                           or of the places of the picture that lost most (`Places`)

    Coverage alone hardly falls when poor samples lose half of the modes, because the remaining modes get twice the
    samples. Recall falls if the modes differ at a coarse look; the places detect the loss of half of the skins or hair
    styles. All readings depend on the number of pictures, so they differ from those of an evaluation with thousands.
    """

    name = "mode-collapse"
    summary = "do the samples still cover the data, in form and in colour"
    every = 500
    curves = {
        "variety": Curve(note="Variety of the samples, over what as many other real pictures have."),
        "form": Curve(note="The same by form and texture, in a fixed random network's features."),
        "coverage": Curve(note="Share of the real pictures that have a sample near them, at a glance."),
        "recall": Curve(note="Share of the real pictures that lie among the samples."),
        "precision": Curve(note="Share of the samples that lie among real pictures."),
        "colours": Curve(note="How far the samples' colours spread, over the real pictures'."),
    }

    def __init__(self, options: ModeCollapseOptions) -> None:
        super().__init__(options)
        self.reference: Reference | None = None
        self.health = Health()

    def read(self, snapshot: Snapshot) -> Reading:
        if snapshot.real(1).ndim != 4:
            return Reading()  # points
        if self.reference is None:
            self.reference = Reference.of(snapshot.real, self.options.pictures)
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
        new = self.health.judge(snapshot.number, variety, colours, snapshot.since, places, apart)
        values["left"] = min(1.0, self.health.share)
        alarms = [self.alarm(kind, severity, snapshot, values) for kind, severity in new]
        word = self.health.word
        well = word in ("healthy", "recovered") and not self.health.low  # one low reading may begin a collapse
        verdict = None if word in ("warming up", "opening up") else well
        return Reading(values, alarms, word, verdict)

    def alarm(self, kind: str, severity: Severity, snapshot: Snapshot, values: Mapping[str, float]) -> Alarm:
        """The alarm: its message, evidence and advice."""
        health, colours = self.health, values["colours"]
        shown = (
            f"coverage {values['coverage']:.2f}, recall {values['recall']:.2f}, "
            f"{f'colours {colours:.2f}, ' if math.isfinite(colours) else ''}"  # grey pictures have none
            f"distance between samples {values['diversity']:.2f} of the real pictures'"
        )
        left = f"{health.share:.0%} of the best variety of this run, at step {health.best_step:,}"
        if health.share < health.at_a_glance:
            left += ", at the places of the picture that lost most"
        message = {
            "dead-generator": f"The generator draws one and the same picture, whatever the latent: {shown}.",
            "one-mode": f"The samples never showed more than a sliver of the data, and it does not grow: {shown}.",
            "one-colour": f"All samples share one colour, whatever their forms: {shown}. Losses do not show it.",
            "narrowing": f"The samples narrow: their variety is {left} ({shown}). {OTHER}",
            "mode-collapse": f"The generator has collapsed: the samples' variety is {left} ({shown}). {OTHER}",
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
    """Real pictures to compare samples with, and the values of other real pictures."""

    def __init__(self, real: Tensor, other: Tensor) -> None:
        """`real` (N, C, S, S): to compare with; `other`: as many real ones as later samples, for the ceiling."""
        self.count = len(other)
        self.too_few = min(len(real), len(other)) < LEAST
        if self.too_few:
            return
        self.network = RandomConvolutions(real.shape[1]).to(real.device)
        self.glance = pixels(real, GLANCE)
        self.reach = reach(self.glance, 5)
        features = self.network(real)
        self.scale = features.std(0).clamp(min=1e-6)  # gives each feature the same weight
        self.features = features / self.scale
        self.features_reach = reach(self.features, 5)
        self.cells = bins(self.glance, min(CELLS, len(real) // 5))
        self.distance = max(mean_distance(self.glance), 1e-9)
        different = pixels(real).unique(dim=0)  # second copies among the real pictures would set it to 0
        self.double = float(reach(different, 1).quantile(0.01)) if len(different) > 1 else 0.0
        self.background = real.transpose(0, 1).flatten(1)[:, ::7].mode(1).values.view(-1, 1, 1)
        self.places = Places(real)
        self.colours = self.spread(real)
        self.ceilings = {"variety": 1.0, "form": 1.0}
        values = self.compare(other)
        self.ceilings = {name: max(values[name], 0.05) for name in self.ceilings}

    @classmethod
    def of(cls, real: Callable[..., Tensor], pictures: int) -> Reference:
        """The reference for that many samples; the others are held-out pictures, if there are enough.

        `real`: as `Snapshot.real`, from a number and `held_out` to real pictures.
        """
        other = real(pictures, held_out=True)
        if len(other) >= pictures:
            return cls(real(REAL), other)
        both = real(REAL + pictures)
        third = torch.arange(len(both), device=both.device) % 3 == 0
        return cls(both[~third], both[third][:pictures])

    def compare(self, pictures: Tensor) -> dict[str, float]:
        """The readings of samples (M, C, S, S)."""
        points = pixels(pictures, GLANCE)
        near = neighbours(self.glance, points, real_reach=self.reach)
        values = {name: float(value) for name, value in near._asdict().items()}
        seen = neighbours(self.features, self.network(pictures) / self.scale, real_reach=self.features_reach)
        values["features-coverage"] = seen.coverage
        values["different-bins"] = different_bins(self.cells, points)
        values["diversity"] = mean_distance(points) / self.distance
        values["duplicates"] = float((reach(pixels(pictures), 1) < self.double).float().mean())
        values["colours"] = self.spread(pictures) / self.colours if self.colours > 1e-3 else math.nan
        for name, found in (("variety", near), ("form", seen)):
            values[name] = math.sqrt(found.coverage * found.recall) / self.ceilings[name]
        return values

    def spread(self, pictures: Tensor) -> float:
        """The root of the summed variances of the pictures' mean colours, without their grey.

        A picture's mean colour is its difference from the background (the commonest value of each channel), divided by
        the size of that difference, so that much and little of one brown are the same colour.
        """
        ink = pictures - self.background
        painted = ink.sum((2, 3), keepdim=True) / (ink.abs().amax(1, keepdim=True) + 0.05).sum((2, 3), keepdim=True)
        return float(chroma(painted).var(0, correction=0).sum().sqrt())


class Places:
    """The kinds of real pictures at each place, and the samples' share of them.

    Skins or hair styles hardly change a coarse average, but dominate a window at their place. The kinds of a place are
    the k-means cells of the real pictures' windows there.
    """

    def __init__(self, real: Tensor) -> None:
        """`real`: pictures (N, C, S, S), N ≥ LEAST."""
        self.cells: list[tuple[int, Tensor, Tensor, Tensor]] = []  # window, places, centres, shares
        for window, kinds in PLACES:
            seen = windows(real, window)
            spread = seen.std(1).norm(dim=1)
            places = (spread > 0.15 * spread.max()).nonzero()[:, 0]  # without places where all pictures are alike
            centres, shares = (
                seen.new_full((len(places), kinds, seen.shape[2]), FAR),
                seen.new_zeros(len(places), kinds),
            )
            for i, place in enumerate(places):
                cells = bins(seen[place], min(kinds, len(real) // 5))
                centres[i, : len(cells.share)], shares[i, : len(cells.share)] = cells.centres, cells.share
            self.cells.append((window, places, centres, shares))

    def shown(self, pictures: Tensor) -> list[float]:
        """For each place, the squared Bhattacharyya coefficient of the samples' and the real kinds, in [0, 1].

        It is 1 for equal shares, and 0.5 if half of the kinds are lost and the others keep their proportions. Small
        differences, as between two trainings, hardly change it.
        """
        values = []
        for window, places, centres, shares in self.cells:
            nearest = torch.cdist(windows(pictures, window)[places], centres).argmin(2)
            fake = torch.zeros_like(shares).scatter_add_(1, nearest, shares.new_ones(nearest.shape)) / len(pictures)
            values += ((fake * shares).sqrt().sum(1) ** 2).tolist()
        return values


def windows(pictures: Tensor, side: int) -> Tensor:
    """Pictures (N, C, S, S) -> (places, N, C·side²): every window of that side in the pictures averaged to 8×8."""
    seen = F.adaptive_avg_pool2d(pictures, 8).unfold(2, side, 1).unfold(3, side, 1)
    return seen.permute(2, 3, 0, 1, 4, 5).flatten(3).flatten(0, 1)


Severity = Literal["warning", "critical"]


class Growth(NamedTuple):
    """The last value that grew by a quarter, and its step."""

    mark: float = 0.0
    step: int = 0

    def after(self, step: int, value: float) -> Growth:
        return Growth(value, step) if value > 1.25 * self.mark + 0.01 else self


class Best(NamedTuple):
    """The greatest value that two readings in a row reached."""

    value: float = 0.0
    step: int = 0
    last: float = 0.0

    def after(self, step: int, value: float) -> Best:
        held = min(value, self.last)
        return Best(held, step, value) if held > self.value else self._replace(last=value)

    def left(self, value: float) -> float:
        """`value` divided by the best; 1 without a best."""
        return value / self.value if self.value else 1.0


class Health:
    """The verdict: warming up -> healthy -> narrowing -> collapsed -> recovered, with hysteresis.

    It needs only numbers, so it can judge any stream of samples. Every GAN starts with one mode, so an alarm about one
    mode or one colour waits until the run is warm and its variety has stopped growing.
    """

    def __init__(self) -> None:
        self.word = "warming up"
        self.glance = Best()  # variety
        self.places: list[Best] = []
        self.share = self.at_a_glance = 1.0  # current values over the run's best: the least of all; of the variety
        self.best_step = 0  # the step of that best value
        self.low = 0  # readings in a row below `NARROWING`
        self.colourless = 0  # readings in a row with one colour for all samples
        self.variety, self.colours = Growth(), Growth()
        self.told: dict[str, Severity] = {}  # the current alarms
        self.dead = 0  # readings in a row with equal samples

    def judge(
        self,
        step: int,
        variety: float,
        colours: float,
        since: int = 0,
        places: Sequence[float] = (),
        apart: float = 1.0,
    ) -> list[tuple[str, Severity]]:
        """Update the verdict; return the new alarms. `apart`: the samples' mean distance over that of real pictures."""
        self._compare(variety, places)
        self.variety = self.variety.after(step, min(variety, self.glance.last))
        self.colours = self.colours.after(step, colours)
        self.glance = self.glance.after(step, variety)
        opened = self.glance.value >= OPEN
        for i, value in enumerate(places if opened else ()):  # earlier values change at random
            self.places[i] = self.places[i].after(step, value)
        self.low = self.low + 1 if opened and self.share < NARROWING else 0
        bound = ONE_COLOUR * 4 / 3 if "one-colour" in self.told else ONE_COLOUR
        self.colourless = self.colourless + 1 if colours < bound else 0
        warm = step - since >= WARM_UP
        self.word = self._word(step, warm, opened)
        now: dict[str, Severity] = {}
        self.dead = self.dead + 1 if apart < DEAD and not opened else 0
        if self.dead >= 2:
            self.word, now["dead-generator"] = "dead", "critical"
        elif self.word == "one mode":
            hopeless = step - max(self.variety.step, since + WARM_UP) >= WARM_UP
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
        """Set `share`: the variety over its best, or the mean of the worst places over theirs, whichever is less."""
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
        if not opened:
            if not warm:
                return "warming up"
            stuck = self.glance.last < OPEN and step - self.variety.step >= PATIENCE
            return "one mode" if stuck else "opening up"
        well = self.share > (1 + NARROWING) / 2
        if self.share < COLLAPSED and (self.low >= 2 or self.share < COLLAPSED / 2):
            return "collapsed"
        if self.word == "collapsed" and not well:
            return "collapsed"
        if self.low >= 2 or (self.word == "narrowing" and not well):
            return "narrowing"
        return "recovered" if self.word in ("narrowing", "collapsed", "recovered") else "healthy"

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: value for name, value in state.items() if name in vars(self)})
        self.variety, self.colours, self.glance = Growth(*self.variety), Growth(*self.colours), Best(*self.glance)
        self.places = [Best(*best) for best in self.places]
