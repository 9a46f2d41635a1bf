"""Directions of the latents along which a generator's pictures change most.

Härkönen, Hertzmann, Lehtinen, Paris 2020, "GANSpace: Discovering Interpretable GAN Controls" (NeurIPS, arXiv
2004.02546): principal components of the generator's early features, and for each the latents' regression on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gankit.trained.sampling import BATCH, Rebuilt

DRAWS, SHOWN = 4096, 64  # latents for the components, and for the change of the pictures
COMPONENTS, FEWEST = 12, 6  # components that are looked at, and directions of them that are kept
SEED = 2


@dataclass(frozen=True)
class Directions:
    """What changes the pictures most comes first."""

    steps: Tensor  # (k, N_z), one standard deviation of each
    change: Tensor  # (k,), mean |G(z + 2 step) − G(z − 2 step)| of values in [-1, 1]
    low: Tensor  # (N_z,), the range of the model's own latents
    high: Tensor


@torch.no_grad()
def directions(rebuilt: Rebuilt) -> Directions:
    """The directions of a run's generator; none for one without features between its latents and its picture."""
    with rebuilt.stream(SEED):
        z = rebuilt.latents(DRAWS)
        features = _first_features(rebuilt, z)
    low, high = z.amin(0), z.amax(0)
    if features is None:
        return Directions(z[:0], z[:0, 0], low, high)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        count = min(COMPONENTS, *features.shape, *z.shape)
        u, s, _ = torch.pca_lowrank(features, q=count, niter=4)
    known = s > 1e-4 * s[0]
    scores = u[:, known] * len(z) ** 0.5  # each of variance 1
    steps = scores.T @ (z - z.mean(0)) / len(z)  # the regression of z on a score, times its standard deviation
    shown, labels = z[:SHOWN].repeat(len(steps), 1), rebuilt.labels(SHOWN)
    labels = None if labels is None else labels.repeat(len(steps))
    moved = steps.repeat_interleave(SHOWN, 0)
    with rebuilt.stream(SEED):
        both = [rebuilt.generate(shown + side * moved, labels).clamp(-1, 1) for side in (-2, 2)]
    change = (both[1] - both[0]).abs().flatten(1).mean(1).view(len(steps), SHOWN).mean(1)
    order = change.argsort(descending=True)[:FEWEST]
    return Directions(steps[order], change[order], low, high)


def _first_features(rebuilt: Rebuilt, z: Tensor) -> Tensor | None:
    """The first feature map (N, features) that a layer gives for the latents, without its mean; None without one."""
    seen: list[Tensor] = []

    def keep(part: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1 and not seen:
            seen.append(output.flatten(1))

    leaves = [part for part in rebuilt.networks["generator"].modules() if not list(part.children())]
    hooks = [part.register_forward_hook(keep) for part in leaves]
    maps = []
    try:
        for some in z.split(BATCH):
            seen.clear()
            rebuilt.generate(some, rebuilt.labels(len(some)))
            maps += seen
    finally:
        for hook in hooks:
            hook.remove()
    features = torch.cat(maps) if maps else None
    return None if features is None or len(features) != len(z) else features - features.mean(0)
