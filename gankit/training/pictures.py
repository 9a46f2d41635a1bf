"""Generated and real pictures of a training, and D's outputs for them, without an effect on the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gankit.data.batches import seed_of, to_float
from gankit.data.source import Data
from gankit.model import Judged
from gankit.training.state import LATENTS, STANDING, Training

SETTLING = 1024  # pictures of the averaged generator that give its batch statistics, 64 at a time


@contextmanager
def looking(training: Training, *stream: int) -> Iterator[None]:
    """Eval mode, no gradients and a separate random stream; the end restores everything."""
    networks = [*training.networks.values(), training.averaged]
    modes = [(part, part.training) for network in networks for part in network.modules()]
    cuda = [training.device] if training.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed_of(training.config.seed, *stream))
        try:
            for network in networks:
                network.eval()
            yield
        finally:
            for part, mode in modes:  # each its own: a plugin may have frozen one
                part.training = mode


def real_pictures(data: Data, n: int, held_out: bool = False) -> Tensor:
    """At most `n` real pictures in [-1, 1], evenly spaced in the set."""
    source = data.held_out if held_out else data.train
    return to_float(torch.from_numpy(source[_spread(len(source), n)]))


def spread_labels(labels: np.ndarray, n: int) -> Tensor:
    """`n` of the labels (N,), evenly spaced in the set; too few are repeated."""
    return torch.from_numpy(np.resize(labels[_spread(len(labels), n)], n))


def _spread(count: int, n: int) -> np.ndarray:
    """At most `n` of the places 0 .. count − 1, evenly spaced from the first to the last."""
    return np.linspace(0, max(count - 1, 0), min(n, count)).astype(int)


class Showing:
    """Generated pictures, from fixed or fresh latents, and real ones."""

    def __init__(self, training: Training, data: Data | None) -> None:
        self.training, self.data = training, data

    def generate(self, n: int, averaged: bool = True, batch: int = 64) -> Tensor:
        """`n` pictures (n, C, S, S), clipped to [-1, 1], or points (n, D), unclipped, from torch's global stream."""
        training = self.training
        networks = dict(training.networks)
        if averaged:
            networks["generator"] = training.averaged
        noise = training.model.latents(n, training.device)
        labels = None
        if self.data is not None and self.data.labels is not None:
            labels = spread_labels(self.data.labels, n).to(training.device)
        callables = training.callables(networks)
        parts = [
            training.model.generate(callables, noise[i : i + batch], None if labels is None else labels[i : i + batch])
            for i in range(0, n, batch)
        ]
        fake = torch.cat(parts)
        return fake.clamp(-1, 1) if fake.ndim == 4 else fake

    def settle(self) -> None:
        """Give the averaged generator's batch normalisations the statistics of its own pictures, once a step.

        Standing statistics (Brock, Donahue, Simonyan 2019, BigGAN, arXiv 1809.11096, section 4.1): those of the bare
        generator, which the average has while it trains, are of other weights. They are a function of the weights, the
        run's seed and the step, so a resume has the same. Measured in docs/evidence/pictures.md.
        """
        training = self.training
        modules = training.averaged.modules()
        norms = [module for module in modules if isinstance(module, _BatchNorm) and module.track_running_stats]
        if training.settled == training.number or not norms:
            return
        with looking(training, STANDING, training.number):
            momenta = [module.momentum for module in norms]
            before = [buffer.clone() for module in norms for buffer in module.buffers()]
            for module in norms:
                module.reset_running_stats()
                module.momentum = None  # the mean over all batches
                module.train()
            self.generate(SETTLING)
            for module, momentum in zip(norms, momenta, strict=True):
                module.momentum = momentum
            now = [buffer for module in norms for buffer in module.buffers()]
            if not all(bool(buffer.isfinite().all()) for buffer in now):  # of weights that have just diverged
                for buffer, old in zip(now, before, strict=True):
                    buffer.copy_(old)
        training.settled = training.number

    def real(self, n: int, held_out: bool = False) -> Tensor:
        """At most `n` real pictures in [-1, 1], evenly spaced in the set."""
        assert self.data is not None
        return real_pictures(self.data, n, held_out).to(self.training.device)

    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> Judged:
        """D's output for pictures after the views, without a remainder that does not fill a view's group."""
        training = self.training
        whole = len(pictures) - len(pictures) % training.view.together
        return training.model.judge(training.callables(), training.view(pictures[:whole]), labels)

    def fixed(self, n: int) -> Tensor:
        """`n` pictures of the averaged generator, from the same latents at every call."""
        with looking(self.training, LATENTS):
            return self.generate(n)
