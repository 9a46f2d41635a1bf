"""Caught modes of the 1,000 of stacked digits, and KL to their distribution: `make bench-digits`, or see --help.

BEGAN and EBGAN, plain and cured, trained by `gankit.run` on `--data stacked-digits`. A restart with the same --out
keeps finished runs and resumes interrupted ones; more --steps lengthen them.

The protocol is VEEGAN's and PacGAN's for stacked MNIST (Lin, Khetan, Fanti, Oh 2018, arXiv 1712.04086; their
published code): 26,000 samples; a classifier of single real digits reads each channel; one sample catches a mode; KL
compares the samples' modes with the data's. Here the digits are scikit-learn's, of 8×8 pixels, and the data's
distribution is the product of the digits' shares.
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

    modes: int  # with at least one sample
    kl: float  # nats, of the samples' modes against the data's


def measure(labels: np.ndarray, law: np.ndarray) -> Measured:
    """Measures of samples' modes (N,) in 0..999; the data's modes have probabilities `law` (1000,), all above 0."""
    shares = np.bincount(labels, minlength=len(law)) / len(labels)
    there = shares > 0
    return Measured(int(there.sum()), float((shares[there] * np.log(shares[there] / law[there])).sum()))


def law_of(targets: np.ndarray) -> np.ndarray:
    """The probability of each mode, (1000,), for three independent draws from the digits `targets` (N,)."""
    share = np.bincount(targets, minlength=10) / len(targets)
    return np.einsum("a,b,c->abc", share, share, share).ravel()


def as_digits(channels: Tensor) -> np.ndarray:
    """Pictures (N, C, S, S) in [-1, 1] as single digits of 8×8 pixels by averaging areas, (N·C, 64) in 0..1."""
    return (F.adaptive_avg_pool2d(channels, SIDE).reshape(-1, SIDE**2).numpy() + 1) / 2


class Reader:
    """Tells which mode a picture shows: a support vector machine, trained on single real digits, for each channel.

    The split of the digits is random, so the same hands may have written training and test digits.
    """

    def __init__(self, size: int) -> None:
        """`size`: side of the pictures, since enlarging and averaging back blurs a digit a little."""
        from sklearn.svm import SVC

        digits, targets = single_digits()
        pictures = torch.from_numpy(enlarged(digits, size)).float().div(127.5).sub(1)[:, None]
        seen = as_digits(pictures)
        order = np.random.default_rng(0).permutation(len(seen))
        tested, trained = np.split(order, [round(TESTED * len(seen))])
        self.machine = SVC(C=10, gamma="scale").fit(seen[trained], targets[trained])
        self.law = law_of(targets)
        self.sizes = (len(trained), len(tested))
        self.accuracy = float((self.machine.predict(seen[tested]) == targets[tested]).mean())

    def __call__(self, pictures: Tensor) -> np.ndarray:
        """The modes (N,) of pictures (N, 3, S, S)."""
        return self.machine.predict(as_digits(pictures)).reshape(-1, 3) @ (100, 10, 1)


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


def bench(out: Path, models: Sequence[str], asked: Asked, say: Callable[[str], None]) -> None:
    read = Reader(asked.image_size)
    trained, tested = read.sizes
    say(
        f"The classifier tells {100 * read.accuracy:.1f} % of {tested} single digits rightly, after {trained} others; "
        f"all three of a picture then {100 * read.accuracy**3:.0f} %.\n"
    )
    say("| model | modes caught of 1,000 | KL, nats | training, s |")
    say("|---|---|---|---|")
    ceiling = measure(read(real_pictures(asked)), read.law)
    say(f"| real pictures, for the ceiling | {ceiling.modes} | {ceiling.kl:.3f} | |")
    for model in models:
        measured: list[tuple[Measured, float]] = []
        for seed in range(asked.seeds):
            run = train(model, seed, asked, out / f"{model.replace(' ', '-')}-{seed}")
            found = measure(read(run.sample(asked.samples, seed=seed)), read.law)
            measured.append((found, run.result["seconds"]))
            print(f"{model}, seed {seed}, step {run.result['steps']}: {found}", file=sys.stderr, flush=True)
        cells = (
            mean_and_deviation([one.modes for one, _ in measured], 1),
            mean_and_deviation([one.kl for one, _ in measured], 2),
            mean_and_deviation([seconds for _, seconds in measured], 0),
        )
        say(f"| {model} | " + " | ".join(cells) + " |")
    for model, (modes, kl) in PUBLISHED.items():
        say(f"| {model}, stacked MNIST, published | {modes:g} | {kl:.2f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Modes of stacked digits caught by BEGAN and EBGAN, plain and cured.")
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
