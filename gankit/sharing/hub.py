"""`gankit export`: a folder as model hubs expect it, which draws without gankit.

README.md is the model card, with the front matter that the Hugging Face hub reads; the networks are there as ONNX,
equal to PyTorch, and as safetensors.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import save_file

from gankit.errors import UserError
from gankit.files import making
from gankit.report import words
from gankit.report.sample_grid import save_grid
from gankit.report.story import read
from gankit.runs.folder import RunFolder, write_json
from gankit.sharing import onnx
from gankit.sharing.facts import facts
from gankit.trained.latents import conditional
from gankit.trained.sampling import Rebuilt, rebuild

SAMPLES = 64
TOLD = (  # of config.json: what a reader of the card wants to know, and no path of this machine
    *("model", "losses", "controllers", "views", "networks", "image_size", "batch_size", "steps", "seed"),
    *("precision", "fit", "background", "mirror", "holdout"),
)


def export(
    run: RunFolder,
    folder: Path | None = None,
    step: int | Literal["best"] | None = None,
    plugins: Sequence[str] = (),
    credit: str | None = None,
) -> Path:
    """Write a run's networks at `step`, by default the last, with a model card into a new folder; return its path.

    `folder`: by default export in the run. `credit`: a line on who made the real pictures. Raises `UserError` if the
    folder exists or a network has no ONNX form.
    """
    folder = folder or run.folder / "export"
    onnx.refuse_without_packages()
    if folder.exists() or folder.is_symlink():
        raise UserError(f"--out {folder} exists: name a new folder")
    rebuilt = rebuild(run, step, plugins)
    forms = {"generator": onnx.generator(rebuilt)}
    if "discriminator" in rebuilt.networks:
        forms["discriminator"] = onnx.discriminator(rebuilt)
    latents = onnx.latents(rebuilt)
    forms["latents"] = latents.model
    classes = list(rebuilt.model.classes) if conditional(rebuilt) else []
    try:
        with making(folder) as beside:
            for name, form in forms.items():
                (beside / f"{name}.onnx").write_bytes(form)
            _weights(rebuilt, beside)
            _samples(rebuilt, beside / "samples.png")
            write_json(beside / "config.json", _config(rebuilt, latents, classes))
            card = _card(run, rebuilt, latents, classes, credit)
            (beside / "README.md").write_text(card, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror or error}") from None
    return folder


def _weights(rebuilt: Rebuilt, folder: Path) -> None:
    """model.safetensors: the averaged generator by the names of its state_dict; another file for each other network."""
    for name, network in rebuilt.networks.items():
        file = "model" if name == "generator" else re.sub(r"\W", "-", name)
        tensors = {key: value.detach().contiguous().clone() for key, value in network.state_dict().items()}
        save_file(tensors, folder / f"{file}.safetensors", metadata={"format": "pt"})
        (folder / f"{file}.safetensors").chmod(folder.stat().st_mode & 0o666)


@torch.no_grad()
def _samples(rebuilt: Rebuilt, path: Path) -> None:
    with rebuilt.stream(0):
        items = rebuilt.draw(rebuilt.latents(SAMPLES), rebuilt.labels(SAMPLES))
    save_grid(items, path, scale=None)


def _config(rebuilt: Rebuilt, latents: onnx.Latents, classes: list[str]) -> dict[str, Any]:
    config = rebuilt.config.model_dump(mode="json")
    return {
        "model_type": rebuilt.config.model["name"],
        "library": f"gankit {rebuilt.config.gankit}",
        "step": rebuilt.step,
        "shape": list(rebuilt.model.shape),
        "latent": {"uniform": latents.uniform, "normal": latents.normal},
        "classes": classes,
        "training": {name: config[name] for name in TOLD if name in config},
    }


def _card(run: RunFolder, rebuilt: Rebuilt, latents: onnx.Latents, classes: list[str], credit: str | None) -> str:
    """README.md. What comes from the run folder is shown as plain text."""
    story = read(run)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"plain": plain, "quoted": lambda text: json.dumps(str(text), ensure_ascii=True)}
    settings = words.flat({"model": rebuilt.config.model, "losses": rebuilt.config.losses})
    return environment.get_template("card.md.j2").render(
        facts=facts(story, rebuilt, credit),
        settings=[(name, words.setting(value)) for name, value in settings.items()],
        shape=rebuilt.model.shape,
        items="pictures" if rebuilt.makes_pictures else "points",
        latents=latents,
        unconditional=rebuilt.makes_pictures and not classes,
        classes=classes,
        judged="discriminator" in rebuilt.networks,
    )


def plain(text: str) -> str:
    """The text for Markdown: on one line, without a mark of Markdown's or an element of HTML's."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]()#|!~$])", r"\\\1", line)
