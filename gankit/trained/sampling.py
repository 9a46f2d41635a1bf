"""Rebuild a run's networks from its folder, and sample its generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gankit.builtin.networks import Opacity
from gankit.catalogue import Catalogue
from gankit.config.amend import current_form
from gankit.config.schema import RunConfig
from gankit.data.batches import seed_of
from gankit.device import memory
from gankit.errors import UserError
from gankit.files import making
from gankit.model import Judged, Model, Networks
from gankit.options import validate
from gankit.runs.folder import RunFolder
from gankit.training import checkpoint
from gankit.training.build import build_model, paced, refuse_too_large
from gankit.training.state import LATENTS, Autocast, Views

BATCH = 64  # pictures in one pass of a network


@dataclass(frozen=True)
class Rebuilt:
    """A run's networks at a checkpoint, in eval mode and fp32, with frozen weights."""

    run: RunFolder
    step: int
    config: RunConfig
    model: Model
    networks: dict[str, nn.Module]
    view: Views
    device: torch.device
    catalogue: Catalogue

    @contextmanager
    def stream(self, seed: int) -> Iterator[None]:
        """Seed torch's global random stream, and restore it afterwards."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed_of(seed, LATENTS))
            yield

    def latents(self, n: int) -> Tensor:
        """Latents (n, N_z) from the stream, the same on every device. Raises as `refuse_many` does."""
        self.refuse_many(n)
        return self.model.latents(n, torch.device("cpu")).to(self.device)

    def refuse_many(self, n: int) -> None:
        """Raise `UserError` if `n` items need more memory than the machine has: as float32, and a copy."""
        needed, there = 8 * n * math.prod(self.run.data["shape"]), memory("cpu")
        if needed > there:
            raise UserError(
                f"{n:,} pictures need {needed // 10**9:,} GB, and this machine has {there / 1e9:,.0f} GB: ask for fewer"
            )

    def labels(self, n: int) -> Tensor | None:
        """The classes in turn, (n,), or None without classes."""
        classes = len(self.model.classes)
        return torch.arange(n, device=self.device) % classes if classes else None

    def generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """G(z): (n, *shape), unclipped."""
        networks, parts = self._callables(), range(0, len(z), BATCH)
        return torch.cat(
            [
                self.model.generate(networks, z[i : i + BATCH], None if labels is None else labels[i : i + BATCH])
                for i in parts
            ]
        )

    def draw(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """G(z) as gankit shows it: pictures clipped to [-1, 1], points as they are."""
        items = self.generate(z, labels)
        return items.clamp(-1, 1) if self.makes_pictures else items

    @property
    def makes_pictures(self) -> bool:
        """Whether the items are pictures (C, S, S), and not points."""
        return len(self.model.shape) == 3

    def judge(self, seen: Tensor, labels: Tensor | None) -> Judged:
        """D's output for its input `seen`."""
        return self.model.judge(self._callables(), seen, labels)

    def _callables(self) -> Networks:
        return {name: Autocast(network, self.device.type, bf16=False) for name, network in self.networks.items()}


def rebuild(
    run: RunFolder,
    step: int | Literal["best"] | None = None,
    plugins: Sequence[str] = (),
    device: str = "cpu",
    averaged: bool = True,
) -> Rebuilt:
    """The networks of a run at `step` (default: its last checkpoint), on `device`; the generator `averaged` or bare.

    Raises `UserError` if the run has no checkpoint, or needs a plugin that is not in `plugins` or installed.
    """
    if not isinstance(run.config.get("model"), Mapping):
        raise UserError(
            f"{run.folder} is no run folder: its config.json is an export's or another program's; give the run folder"
        )
    config = validate(RunConfig, run.config, f"{run.folder}/config.json", "option", flags=True)
    data = run.data
    shape, labels = data.get("shape"), data.get("labels") or []
    sized = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    if not isinstance(shape, list) or not isinstance(labels, list) or not sized:
        raise UserError(
            f"{run.folder}/data.json is missing or damaged: without the pictures' shape nothing can be drawn"
        )
    catalogue, classes = Catalogue(plugins, made_with=config.plugins), tuple(map(str, labels))
    config = RunConfig(**current_form(config.model_dump(), catalogue)[0])
    refuse_too_large(config, tuple(shape), catalogue, classes, trained=False)
    with torch.random.fork_rng(devices=[]):
        model, networks, view = build_model(config, tuple(shape), catalogue, classes)
    step = checkpoint.choose(run, step)
    checkpoint.load_shown(run, step, networks, averaged)
    for part in (*paced(networks.values()), *view.views):
        part.at_step(step)
    for network in networks.values():
        network.to(device).eval().requires_grad_(False)
    return Rebuilt(run, step, config, model, networks, view, torch.device(device), catalogue)


def sample(
    run: RunFolder,
    n: int,
    seed: int = 0,
    step: int | Literal["best"] | None = None,
    plugins: Sequence[str] = (),
    alpha: bool = False,
) -> Tensor:
    """`n` pictures (n, C, S, S) in [-1, 1], or points (n, D), from latents drawn by `seed`, on the CPU.

    If the model's latents allow it, a picture depends on (seed, index) and not on `n`. `alpha`: the colours without
    the ground, and one more channel, the opacity from -1 (transparent) to 1. Raises `UserError` as `rebuild` does, and
    if the generator has no opacity.
    """
    rebuilt = rebuild(run, step, plugins)
    opacities = [part for part in rebuilt.networks["generator"].modules() if isinstance(part, Opacity)] if alpha else []
    if alpha and len(opacities) != 1:
        raise UserError(f"--alpha: the generator of run {run.folder} draws no opacity, its pictures have a ground")
    for part in opacities:
        part.register_forward_hook(_parts)
    with rebuilt.stream(seed), torch.no_grad():
        return rebuilt.draw(rebuilt.latents(n), rebuilt.labels(n))


def _parts(part: Opacity, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    colours, opacity = part.parts(*inputs)
    return torch.cat([colours, opacity * 2 - 1], 1)


def save_each(pictures: Tensor, folder: Path, scale: int = 1, smooth: bool = False) -> None:
    """Write 00000.png, 00001.png, … into a new folder, atomically. Raises `UserError` for points.

    `scale` and `smooth`: as `enlarged` in gankit/report/sample_grid.py.
    """
    from PIL import Image

    from gankit.report.sample_grid import enlarged, grid

    if pictures.ndim != 4:
        raise UserError(f"--out {folder} is for pictures, and this run makes points: give --out FILE.png")
    with making(folder) as beside:
        for place, picture in enumerate(pictures):
            large = enlarged(picture[None], scale, smooth)
            Image.fromarray(grid(large, columns=1, padding=0).numpy()).save(beside / f"{place:05d}.png")
