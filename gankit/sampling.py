"""Pictures from a run folder's averaged generator, without its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gankit import checkpoint
from gankit.config import RunConfig, validate
from gankit.data.batches import seed_of
from gankit.errors import UserError
from gankit.plugins import Catalogue
from gankit.runs import Run
from gankit.training import LATENTS, ask, build_model


def sample(run: Run, n: int, seed: int = 0, step: int | None = None, plugins: Sequence[str] = ()) -> Tensor:
    """`n` pictures (n, C, S, S) in [-1, 1], or points (n, D), from latents that `seed` decides, on the CPU.

    A picture depends on (seed, place) and not on how many are drawn with it as far as the model's latents allow.
    Raises `UserError` where the run has no checkpoint, or needs a plugin that is not given.
    """
    config = validate(RunConfig, run.config, f"{run.folder}/config.json", "option")
    if "shape" not in run.data:
        raise UserError(
            f"{run.folder}/data.json is missing or damaged: without the pictures' shape nothing can be drawn"
        )
    model, networks, _ = build_model(config, tuple(run.data["shape"]), Catalogue(plugins))
    _, tensors = checkpoint.read(run, checkpoint.choose(run, step), only="averaged")
    generator = networks["generator"]
    generator.load_state_dict(tensors["averaged"])
    generator.eval()
    asked = {"generator": ask(generator, "cpu", bf16=False)}
    labels = None
    names = run.data.get("labels") or []
    if names:
        labels = torch.arange(n) % len(names)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed_of(seed, LATENTS))
        noise = model.latents(n, torch.device("cpu"))
        made = [
            model.generate(asked, noise[i : i + 64], None if labels is None else labels[i : i + 64])
            for i in range(0, n, 64)
        ]
    pictures = torch.cat(made)
    return pictures.clamp(-1, 1) if pictures.ndim == 4 else pictures


def save_each(pictures: Tensor, folder: Path) -> None:
    """00000.png, 00001.png, … in a new folder that appears whole."""
    import shutil

    from PIL import Image

    from gankit.report.grid import grid

    if pictures.ndim != 4:
        raise UserError(f"--out {folder} is for pictures, and this run makes points: draw them with --grid")
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for place, picture in enumerate(pictures):
        Image.fromarray(grid(picture[None], columns=1, padding=0).numpy()).save(beside / f"{place:05d}.png")
    beside.rename(folder)
