"""KL of samples of stacked digits to the 1,000 modes, and how many samples show digits: `make bench-digits`, or --help.

BEGAN and EBGAN, plain and cured, trained by `gankit.run` on `--data stacked-digits`. A restart with the same --out
keeps finished runs and resumes interrupted ones; more --steps lengthen them.

The protocol is VEEGAN's and PacGAN's for stacked MNIST (Lin, Khetan, Fanti, Oh 2018, arXiv 1712.04086; their
published code): 26,000 samples; a classifier of single real digits reads each channel; one sample catches a mode; KL
compares the samples' modes with the data's. Here the digits are scikit-learn's, of 8×8 pixels, and the data's
distribution is the product of the digits' shares.

Modes alone flatter: the classifier calls anything some digit, so means of two random real pictures, which show no
digits, catch 986 of 1,000. So KL comes first, then the share of good samples: those whose three channels each lie as
near to a real digit as 95 % of the digits that were held out from it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import gankit
from gankit.config.values import parse_pairs
from gankit.data.batches import to_float
from gankit.data.digits import COUNT, SIDE, StackedDigits, enlarged, single_digits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from speed import commit, machine, save  # noqa: E402
from two_dimensional import mean_and_deviation  # noqa: E402

SAMPLES = 26_000
STEPS = 20_000
TESTED = 0.2  # share of the single digits in the classifier's test set
NEAR = 0.95  # the quantile of the test digits' distances to the nearest of the others

MODELS: dict[str, tuple[str, str | None, dict[str, Any]]] = {  # model, preset, settings
    "BEGAN": ("began", "paper", {}),
    "BEGAN cured": ("began", None, {}),
    "EBGAN": ("ebgan", None, {"pull_away": 0}),
    "EBGAN cured": ("ebgan", None, {"pull_away": 0.1}),
}
CURE = "Cured: BEGAN with gankit's defaults, the plain one is the paper's; EBGAN with pulling-away 0.1."

# Stacked MNIST in PacGAN's tables: modes and KL, means. Larger networks, 28×28, other digits.
PUBLISHED: dict[str, tuple[float, float]] = {
    "ALI": (16, 5.40),
    "Unrolled GAN": (48.7, 4.32),
    "DCGAN, in VEEGAN's paper": (99, 3.40),
    "DCGAN, in PacGAN's": (78.9, 4.50),
    "VEEGAN": (150, 2.95),
    "PacDCGAN2": (1000, 0.06),
}


@dataclass(frozen=True)
class Measured:
    """Measures of one set of samples."""

    kl: float  # nats, of the samples' modes against the data's
    good: float  # share of the samples whose three channels all look like digits
    modes: int  # with at least one sample


def measure(labels: np.ndarray, good: np.ndarray, law: np.ndarray) -> Measured:
    """Measures of samples' modes (N,) in 0..999 and whether each is good, (N,).

    `law` (1000,) are the probabilities of the data's modes, all above 0.
    """
    shares = np.bincount(labels, minlength=len(law)) / len(labels)
    there = shares > 0
    kl = float((shares[there] * np.log(shares[there] / law[there])).sum())
    return Measured(kl, float(good.mean()), int(there.sum()))


def law_of(targets: np.ndarray) -> np.ndarray:
    """The probability of each mode, (1000,), for three independent draws from the digits `targets` (N,)."""
    share = np.bincount(targets, minlength=10) / len(targets)
    return np.einsum("a,b,c->abc", share, share, share).ravel()


def as_digits(channels: Tensor) -> np.ndarray:
    """Pictures (N, C, S, S) in [-1, 1] as single digits of 8×8 pixels by averaging areas, (N·C, 64) in 0..1."""
    return (F.adaptive_avg_pool2d(channels, SIDE).reshape(-1, SIDE**2).numpy() + 1) / 2


class Reader:
    """Tells which mode a picture shows, by a support vector machine for each channel, and whether it shows digits.

    The machine is trained on single real digits; a channel shows a digit if one of these is near. The split of the
    digits is random, so the same hands may have written training and test digits.
    """

    def __init__(self, size: int) -> None:
        """`size`: side of the pictures, since enlarging and averaging back blurs a digit a little."""
        from sklearn.neighbors import NearestNeighbors
        from sklearn.svm import SVC

        digits, targets = single_digits()
        pictures = torch.from_numpy(enlarged(digits, size)).float().div(127.5).sub(1)[:, None]
        seen = as_digits(pictures)
        order = np.random.default_rng(0).permutation(len(seen))
        tested, trained = np.split(order, [round(TESTED * len(seen))])
        self.machine = SVC(C=10, gamma="scale").fit(seen[trained], targets[trained])
        self.digits = NearestNeighbors(n_neighbors=1).fit(seen[trained])
        self.near = float(np.quantile(self._distances(seen[tested]), NEAR))
        self.law = law_of(targets)
        self.sizes = (len(trained), len(tested))
        self.accuracy = float((self.machine.predict(seen[tested]) == targets[tested]).mean())

    def _distances(self, channels: np.ndarray) -> np.ndarray:
        return self.digits.kneighbors(channels)[0][:, 0]

    def modes(self, pictures: Tensor) -> np.ndarray:
        """The modes (N,) of pictures (N, 3, S, S)."""
        return self.machine.predict(as_digits(pictures)).reshape(-1, 3) @ (100, 10, 1)

    def good(self, pictures: Tensor) -> np.ndarray:
        """Whether all channels of pictures (N, 3, S, S) are near to a real digit, (N,)."""
        return (self._distances(as_digits(pictures)) <= self.near).reshape(-1, 3).all(1)

    def __call__(self, pictures: Tensor) -> Measured:
        """The measures of pictures (N, 3, S, S)."""
        return measure(self.modes(pictures), self.good(pictures), self.law)


@dataclass(frozen=True)
class Asked:
    """The command line's settings for every run."""

    seeds: int = 1
    steps: int = STEPS
    samples: int = SAMPLES
    image_size: int = 16
    batch_size: int = 16
    pictures: int = COUNT
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    views: Sequence[str] = ()

    @property
    def data(self) -> str:
        return f"{StackedDigits.name}:{self.pictures}"


def train(model: str, seed: int, asked: Asked, folder: Path) -> gankit.Run:
    """The finished run in `folder`: finished before, resumed, or new. A resumed run keeps its settings."""
    if (folder / "checkpoints").is_dir():
        run = gankit.Run(folder)
        done = run.result.get("outcome") == "finished" and run.result["steps"] >= asked.steps
        return run if done else gankit.resume(run, steps=asked.steps)
    name, preset, own = MODELS[model]
    return gankit.run(
        name,
        asked.data,
        out=folder,
        preset=preset,
        set=own | dict(asked.settings),
        losses=dict(asked.losses),
        views=list(asked.views),
        steps=asked.steps,
        image_size=asked.image_size,
        batch_size=asked.batch_size,
        seed=seed,
        on_alarm="warn",
        sample_every=max(asked.steps // 20, 1),
    )


def real_pictures(asked: Asked) -> Tensor:
    """Real pictures, as many as samples or all of them, (N, 3, S, S)."""
    data = StackedDigits().open(str(asked.pictures), gankit.Request(asked.image_size, holdout=0))
    return to_float(torch.from_numpy(data.train[: asked.samples].copy()))


def means_of_two(pictures: Tensor) -> Tensor:
    """Each picture averaged with another random one: what shows no digits, and still catches modes."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    return (pictures + pictures[order]) / 2


def bench(out: Path, models: Sequence[str], asked: Asked, say: Callable[[str], None]) -> None:
    read = Reader(asked.image_size)
    trained, tested = read.sizes
    say(
        f"The classifier tells {100 * read.accuracy:.1f} % of {tested} single digits rightly, after {trained} others; "
        f"all three of a picture then {100 * read.accuracy**3:.0f} %.\n"
    )
    say("| model | KL, nats | good samples, % | modes caught of 1,000 | training, s |")
    say("|---|---|---|---|---|")
    real = real_pictures(asked)
    for name, pictures in (("real pictures", real), ("means of two real pictures", means_of_two(real))):
        found = read(pictures)
        say(f"| {name} | {found.kl:.3f} | {100 * found.good:.1f} | {found.modes} | |")
    for model in models:
        measured: list[tuple[Measured, float]] = []
        for seed in range(asked.seeds):
            run = train(model, seed, asked, out / f"{model.replace(' ', '-')}-{seed}")
            found = read(run.sample(asked.samples, seed=seed))
            measured.append((found, run.result["seconds"]))
            print(f"{model}, seed {seed}, step {run.result['steps']}: {found}", file=sys.stderr, flush=True)
        cells = (
            mean_and_deviation([one.kl for one, _ in measured], 2),
            mean_and_deviation([100 * one.good for one, _ in measured], 1),
            mean_and_deviation([one.modes for one, _ in measured], 1),
            mean_and_deviation([seconds for _, seconds in measured], 0),
        )
        say(f"| {model} | " + " | ".join(cells) + " |")
    for model, (modes, kl) in PUBLISHED.items():
        say(f"| {model}, stacked MNIST, published | {kl:.2f} | | {modes:g} | |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="KL, good samples and caught modes of stacked digits, of BEGAN and EBGAN, plain and cured."
    )
    parser.add_argument("--out", type=Path, help="folder of the run folders, to go on from (default: a temporary one)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=Asked.seeds)
    parser.add_argument("--steps", type=int, default=Asked.steps)
    parser.add_argument("--samples", type=int, default=Asked.samples)
    parser.add_argument("--pictures", type=int, default=Asked.pictures, help="triples that are trained on")
    parser.add_argument("--image-size", type=int, default=Asked.image_size)
    parser.add_argument("--batch-size", type=int, default=Asked.batch_size)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of gankit run, for all")
    parser.add_argument("--loss", action="append", default=[], metavar="NAME=WEIGHT", help="as of gankit run, for all")
    parser.add_argument("--view", action="append", default=[], metavar="NAME", help="as of gankit run, for all")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/DATE-stacked-digits.md")
    given = parser.parse_args()
    asked = Asked(
        seeds=given.seeds,
        steps=given.steps,
        samples=given.samples,
        image_size=given.image_size,
        batch_size=given.batch_size,
        pictures=given.pictures,
        settings=parse_pairs(given.set, "--set"),
        losses=parse_pairs(given.loss, "--loss"),
        views=given.view,
    )
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gankit-bench-") as scratch:
        say(f"{machine()}.")
        say(
            f"{asked.image_size}×{asked.image_size}, batch {asked.batch_size}, {asked.steps:,} steps, "
            f"{asked.pictures:,} pictures, {asked.samples:,} samples, seeds: {asked.seeds}. Commit: {commit()}."
        )
        more = [*(f"--set {pair}" for pair in given.set), *(f"--loss {pair}" for pair in given.loss)]
        more += [f"--view {name}" for name in given.view]
        say(CURE + (f" All with {' '.join(more)}.\n" if more else "\n"))
        bench(given.out or Path(scratch), given.models, asked, say)
    say("\nMean ± standard deviation over the seeds. The published rows are means on stacked MNIST: digits of 28×28")
    say("and other networks and losses. They show the size of the trouble, and compare no methods with these.")
    print(f"{time.perf_counter() - started:.0f} s")
    if given.save:
        save("Stacked digits", "-stacked-digits", lines)


if __name__ == "__main__":
    main()
