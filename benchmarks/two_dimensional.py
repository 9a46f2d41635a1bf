"""Caught modes, share of good samples and reverse KL on a ring of 8 and a grid of 25 Gaussians: `make bench-2d`.

BEGAN, EBGAN and EBGAN-PT with the networks of mixtures.py, each over five seeds, trained by `gankit.run` like any
other run: only the measures know that the data are points. A restart with the same --out keeps finished runs and
resumes interrupted ones.

The protocol is PacGAN's (Lin, Khetan, Fanti, Oh 2018, arXiv 1712.04086; their published code): 2,500 samples; one is
good within 3σ of its nearest mode; one good sample catches a mode; reverse KL compares the good samples' modes with
the uniform distribution. D's energies at the modes and half-way between them say how well it tells the two apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gankit
from gankit.trained.sampling import rebuild

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from mixtures import Grid, Mixture, Ring  # noqa: E402
from speed import commit, machine, save  # noqa: E402

PLUGIN = str(HERE / "mixtures.py")
MIXTURES: tuple[type[Mixture], ...] = (Ring, Grid)
SAMPLES = 2500
STEPS = 4000

# The same for all; docs/evidence/two-dimensional.md lists other experiments.
SETTINGS: dict[str, Any] = {
    "networks": "dense",
    "latent": 4,
    "dense.width": 64,
    "dense.activation": "relu",
    "learning_rate": 1e-3,
}
MODELS: dict[str, tuple[str, str | None, dict[str, Any]]] = {  # model, preset, settings
    "BEGAN": ("began", "paper", {"lambda_k": 0.1}),
    "BEGAN cured": ("began", None, {"lambda_k": 0.1}),
    "EBGAN": ("ebgan", None, {"pull_away": 0}),
    "EBGAN-PT": ("ebgan", None, {"pull_away": 0.1}),
}

# PacGAN's tables, means of ten runs of 400 epochs with larger networks: modes, good samples in %, reverse KL.
PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    "GAN": {"ring": (6.3, 98.2, 0.45), "grid": (17.3, 94.8, 0.70)},
    "ALI": {"ring": (6.6, 97.6, 0.36), "grid": (24.1, 95.7, 0.14)},
    "PacGAN2": {"ring": (7.9, 95.6, 0.07), "grid": (23.8, 91.3, 0.13)},
    "PacGAN4": {"ring": (7.8, 95.9, 0.07), "grid": (24.8, 93.6, 0.04)},
}


@dataclass(frozen=True)
class Measured:
    """Measures of one set of samples."""

    modes: int  # with at least one good sample
    good: float  # share of samples within 3σ of their nearest mode, 0..1
    reverse_kl: float  # nats, of the good samples' modes against the uniform distribution; nan without a good one
    at_modes: float = math.nan  # D's mean energy of points of the mixture
    between: float = math.nan  # and half-way between a mode and its nearest neighbours


def measure(points: np.ndarray, centres: np.ndarray, sigma: float) -> Measured:
    """PacGAN's measures of `points` (N, 2) for Gaussians around `centres` (M, 2)."""
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    good = distances.min(axis=1) < 3 * sigma
    counts = np.bincount(distances.argmin(axis=1)[good], minlength=len(centres))
    shares = counts[counts > 0] / max(counts.sum(), 1)
    reverse_kl = float((shares * np.log(shares * len(centres))).sum()) if good.any() else math.nan
    return Measured(len(shares), float(good.mean()), reverse_kl)


def midpoints(centres: np.ndarray) -> np.ndarray:
    """The points (N, 2) half-way between neighbours among `centres` (M, 2), each once."""
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    nearest = distances[distances > 0].min()
    one, other = np.nonzero(np.triu(np.abs(distances - nearest) < 1e-6 * nearest))
    return (centres[one] + centres[other]) / 2


@torch.no_grad()
def energies(run: gankit.Run, mixture: type[Mixture], count: int = 2000) -> tuple[float, float]:
    """D's mean energy of `count` points around the modes, and of as many around the points half-way between them."""
    rebuilt, random = rebuild(run, plugins=[PLUGIN]), np.random.default_rng(0)

    def mean(places: np.ndarray) -> float:
        chosen = places[random.integers(0, len(places), count)] + random.normal(0, mixture.sigma, (count, 2))
        energy = rebuilt.judge(torch.from_numpy(chosen.astype(np.float32)), None).energy
        assert energy is not None
        return float(energy.mean())

    return mean(mixture.centres), mean(midpoints(mixture.centres))


def train(model: str, mixture: type[Mixture], seed: int, steps: int, folder: Path) -> gankit.Run:
    """The finished run in `folder`: finished before, resumed, or new. A resumed run keeps its settings."""
    if (folder / "checkpoints").is_dir():
        run = gankit.Run(folder)
        done = run.result.get("outcome") == "finished" and run.result["steps"] >= steps
        return run if done else gankit.resume(run, steps=steps, plugins=[PLUGIN])
    name, preset, own = MODELS[model]
    return gankit.run(
        name,
        mixture.name,
        out=folder,
        plugins=[PLUGIN],
        preset=preset,
        set=SETTINGS | own,
        losses={"critic": 0} if name == "began" else {},  # it is for pictures
        steps=steps,
        batch_size=128,
        seed=seed,
        holdout=0,
        device="cpu",
        precision="fp32",  # σ is a hundredth of a point's numbers, and bf16 is no finer
        on_alarm="warn",
        log_every=500,
        sample_every=steps,
        checkpoint_every=1000,
    )


def mean_and_deviation(values: Sequence[float], digits: int, scale: float = 1) -> str:
    """Over the seeds with a value; their number if some have none."""
    known = [scale * value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{deviation}" + (f" ({len(known)})" if len(known) < len(values) else "")


def rows(measured: Mapping[str, Sequence[tuple[Measured, float]]], mixture: type[Mixture]) -> list[str]:
    """Table rows of one mixture: our measurements with seconds, and PacGAN's."""
    total = len(mixture.centres)
    lines = []
    for model, of_seeds in measured.items():
        found = [one for one, _ in of_seeds]
        cells = (
            mean_and_deviation([one.modes for one in found], 1),
            mean_and_deviation([one.good for one in found], 1, 100),
            mean_and_deviation([one.reverse_kl for one in found], 2),
            mean_and_deviation([one.at_modes for one in found], 3),
            mean_and_deviation([one.between for one in found], 3),
            mean_and_deviation([seconds for _, seconds in of_seeds], 0),
        )
        lines.append(f"| {mixture.name} of {total} | {model} | " + " | ".join(cells) + " |")
    for model, published in PUBLISHED.items():
        modes, good, reverse_kl = published[mixture.name]
        lines.append(f"| {mixture.name} of {total} | {model}, published | {modes} | {good} | {reverse_kl:.2f} | | | |")
    return lines


def draw(samples: Mapping[tuple[str, str], np.ndarray], path: Path) -> None:
    """Samples over circles at the modes (not of 3σ, which would hardly be seen): a row for each mixture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(MODELS), 2.5 * len(MIXTURES)), dpi=100, layout="constrained")
    all_axes = figure.subplots(len(MIXTURES), len(MODELS), squeeze=False)
    for mixture, line in zip(MIXTURES, all_axes, strict=True):
        reach = 1.3 * float(np.abs(mixture.centres).max())
        for model, axes in zip(MODELS, line, strict=True):
            axes.plot(*mixture.centres.T, "o", markersize=7, markerfacecolor="none", markeredgecolor="#bbbbbb")
            axes.plot(*samples[mixture.name, model].T, ".", markersize=1.5, color="#1f5fa8", alpha=0.4)
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
            axes.set_title(f"{model}, {mixture.name}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def bench(out: Path, seeds: int, steps: int, figure: Path | None, say: Callable[[str], None]) -> None:
    measured: dict[str, dict[str, list[tuple[Measured, float]]]] = {
        mixture.name: {model: [] for model in MODELS} for mixture in MIXTURES
    }
    shown: dict[tuple[str, str], np.ndarray] = {}
    for seed, mixture, model in product(range(seeds), MIXTURES, MODELS):
        run = train(model, mixture, seed, steps, out / f"{mixture.name}-{model}-{seed}")
        if run.result["outcome"] != "finished":
            raise SystemExit(f"{run}: start again with the same --out to go on")
        points = run.sample(SAMPLES, seed=seed, plugins=[PLUGIN]).numpy()
        shown.setdefault((mixture.name, model), points)
        found = measure(points, mixture.centres, mixture.sigma)
        at_modes, between = energies(run, mixture)
        found = replace(found, at_modes=at_modes, between=between)
        measured[mixture.name][model].append((found, run.result["seconds"]))
        print(f"{mixture.name}, {model}, seed {seed}: {found}", file=sys.stderr, flush=True)
    say("| mixture | model | modes caught | good samples, % | reverse KL | energy at modes | between | training, s |")
    say("|---|---|---|---|---|---|---|---|")
    for mixture in MIXTURES:
        for line in rows(measured[mixture.name], mixture):
            say(line)
    if figure is not None:
        draw(shown, figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="BEGAN, EBGAN and EBGAN-PT on mixtures of Gaussians, PacGAN's measures."
    )
    parser.add_argument("--out", type=Path, help="folder of the run folders, to go on from (default: a temporary one)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--figure", type=Path, help="draw the first seed's samples as a PNG")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/DATE-two-dimensional.md")
    asked = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gankit-bench-") as scratch:
        say(f"{machine()}.")
        say(f"{asked.seeds} seeds, {asked.steps:,} steps, {SAMPLES:,} samples. Commit: {commit()}.\n")
        bench(asked.out or Path(scratch), asked.seeds, asked.steps, asked.figure, say)
    say("\nMean ± standard deviation over the seeds. Reverse KL is over the seeds with a good sample, their number in")
    say("brackets where not all have one. PacGAN's rows are its own: other networks, other losses, far longer.")
    print(f"{time.perf_counter() - started:.0f} s")
    if asked.save:
        save("Two dimensions", "-two-dimensional", lines)


if __name__ == "__main__":
    main()
