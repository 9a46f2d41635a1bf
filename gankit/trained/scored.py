"""The score of the samples of a run or a folder: the training's own figure, or the same measured now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gankit.builtin.cleanliness import REAL as CLEANED
from gankit.builtin.cleanliness import Reference as CleanReference
from gankit.builtin.mode_collapse import REAL, ModeCollapseOptions, Reference
from gankit.data.batches import seed_of
from gankit.data.source import Data
from gankit.runs.score import SCORE, parts, recorded, score
from gankit.trained.sampling import Rebuilt
from gankit.training.pictures import real_pictures, spread_labels
from gankit.training.state import LOOKING

PICTURES = ModeCollapseOptions().pictures  # samples behind a score, unless a run is set to look at more or fewer
RealPictures = Callable[..., Tensor]  # as `Snapshot.real`: a number, and whether held out -> (n, C, S, S) in [-1, 1]


@dataclass(frozen=True)
class Scored:
    """A score and its parts, each in [0, 1]; empty where there are too few real pictures to measure it."""

    values: Mapping[str, float]
    samples: int
    real: int  # real pictures in one comparison
    recorded: bool  # by the training

    @property
    def note(self) -> str:
        """Where the figures come from, for a reader."""
        if not self.values:
            return "the score is not measured: there are too few real pictures"
        of = ", ".join(self.values)
        if self.recorded:
            return f"{of}: recorded in the training from {self.samples} samples, whatever --n is"
        return f"{of}: measured now from {self.samples} samples, as a training does, whatever --n is"


class Scale:
    """Compares pictures with real ones as the training's diagnostics do."""

    def __init__(self, real: RealPictures, pictures: int = PICTURES) -> None:
        """`pictures`: how many samples will be compared."""
        self.variety, self.clean = Reference.of(real, pictures), CleanReference(real(CLEANED))

    @property
    def real(self) -> int:
        """The number of real pictures that samples are compared with."""
        return 0 if self.variety.too_few else len(self.variety.glance)

    def line(self, samples: Tensor, clean: Tensor | None = None) -> dict[str, float]:
        """The readings of samples (n, C, S, S) by the names in metrics.jsonl; those of cleanliness are of `clean`.

        Variety and form are those of as many samples as there were other real pictures, because they depend on it.
        """
        if self.variety.too_few:
            return {}
        varied = self.variety.compare(samples[: self.variety.count])
        found = {f"mode-collapse/{name}": value for name, value in varied.items()}
        cleaned = self.clean.compare(samples if clean is None else clean)
        return found | {f"cleanliness/{name}": value for name, value in cleaned.items()}


def of_pictures(samples: Tensor, data: Data) -> Scored:
    """The score of the first `PICTURES` of the pictures (n, C, S, S)."""
    return _measured(lambda n: samples[:n], min(PICTURES, len(samples)), data)


def of_run(rebuilt: Rebuilt, data: Data, own: bool) -> Scored:
    """The score of a run's samples: the recorded one if there is one, of these samples and against these pictures.

    `own`: whether the samples are those that the training looked at, against the pictures that it had.
    """
    count = int(rebuilt.config.diagnostics.get("mode-collapse", {}).get("pictures", PICTURES))
    line = recorded(rebuilt.run.looks()).get(rebuilt.step) if own else None
    if line is None:
        return _measured(partial(_looked_at, rebuilt, data), count, data)
    values = {SCORE: float(line[SCORE])} | (parts(line) or {})
    return Scored(values, *_compared(data, count), True)


def _measured(samples: Callable[[int], Tensor], count: int, data: Data) -> Scored:
    """`samples`: from a number to so many of them, at most `count`."""
    scale = Scale(partial(real_pictures, data), count)
    looked = samples(scale.variety.count)
    line = scale.line(looked, looked if len(looked) == count else samples(count))
    whole = score(line)
    values = {} if whole is None else {SCORE: whole} | (parts(line) or {})
    return Scored(values, scale.variety.count, scale.real, False)


@torch.no_grad()
def _looked_at(rebuilt: Rebuilt, data: Data, n: int) -> Tensor:
    """The `n` samples that a diagnostic sees in the training at this step (on another kind of device, others)."""
    model, labels = rebuilt.model, rebuilt.labels(n)
    if labels is not None and data.labels is not None:
        labels = spread_labels(data.labels, n).to(rebuilt.device) % len(model.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(rebuilt.config.seed, LOOKING, rebuilt.step))
        noise = rebuilt.latents(n)
    with rebuilt.stream(0):
        return rebuilt.generate(noise, labels).clamp(-1, 1).float().cpu()


def _compared(data: Data, count: int) -> tuple[int, int]:
    """How many samples `Reference.of` compares with how many real pictures, without the pictures."""
    if len(data.held_out) >= count:
        return count, min(REAL, len(data.train))
    both = min(REAL + count, len(data.train))
    other = -(-both // 3)
    return min(other, count), both - other
