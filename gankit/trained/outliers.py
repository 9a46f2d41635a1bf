"""Any pictures by how badly a run's discriminator reconstructs them: what is unlike real ones comes first."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gankit.builtin.reconstruction_errors import MEMORISED
from gankit.data import decode
from gankit.data.batches import to_float
from gankit.data.colour import Unusable
from gankit.data.folder import look
from gankit.data.open import open_source
from gankit.data.source import Request
from gankit.errors import UserError
from gankit.files import replacing
from gankit.trained.latents import no_class, refuse_uncoloured
from gankit.trained.sampling import BATCH, Rebuilt

READINGS = "reconstruction-errors/"
COLUMNS = ("rank", "picture", "error", "energy")  # of the CSV file
SHEET = 48  # pictures on the sheet


@dataclass(frozen=True)
class Ranked:
    """Pictures in the order of their errors, the largest first."""

    names: list[str]  # paths below the folder
    errors: list[float]  # mean |x − D(x)| of values in [-1, 1]
    energies: list[float] | None  # the model's own, where it has one
    worst: Tensor  # the first ones, (n, C, S, S) in [-1, 1]
    skipped: list[tuple[str, str]]  # (path, reason)
    notes: list[str]  # what the errors can and cannot be compared with


def rank(rebuilt: Rebuilt, data: str | Path) -> Ranked:
    """The pictures of `data`, as of `--data`, in the run's size and on its background, by reconstruction error.

    Keeps the SHEET worst pictures. Raises `UserError` unless the discriminator is an autoencoder of one picture, and
    for data without a usable picture.
    """
    refuse_uncoloured(rebuilt)
    skipped: list[tuple[str, str]] = []
    small = 0
    names, errors, energies = list[str](), list[float](), list[float]()
    kept: list[tuple[float, Tensor]] = []
    for some, pictures, enlarged in _batches(_read(rebuilt, str(data), skipped)):
        small += enlarged
        x = to_float(torch.from_numpy(np.stack(pictures))).to(rebuilt.device)
        error, energy = _judged(rebuilt, x)
        if not bool(error.isfinite().all()):
            raise UserError(
                f"{rebuilt.run.folder}: the errors of its discriminator at step {rebuilt.step} are not finite; choose "
                "an earlier --from"
            )
        names += some
        errors += error.tolist()
        energies += [] if energy is None else energy.tolist()
        kept = sorted([*kept, *zip(error.tolist(), x.cpu(), strict=True)], key=lambda one: -one[0])[:SHEET]
    if not names:
        why = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise UserError(f"{data} has no usable picture ({len(skipped):,} files skipped{why})")
    order = sorted(range(len(names)), key=lambda n: (-errors[n], names[n]))
    return Ranked(
        names=[names[n] for n in order],
        errors=[errors[n] for n in order],
        energies=[energies[n] for n in order] if len(energies) == len(names) else None,
        worst=torch.stack([picture for _, picture in kept]),
        skipped=skipped,
        notes=_notes(rebuilt, small, len(names)),
    )


def write(ranked: Ranked, path: Path) -> None:
    """All pictures as CSV, the largest error first."""
    energies: Sequence[float | None] = ranked.energies or [None] * len(ranked.names)
    with replacing(path, folders=True) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for n, (name, error, energy) in enumerate(zip(ranked.names, ranked.errors, energies, strict=True), start=1):
            plain = name if name[:1] not in tuple("=+-@") else f"./{name}"  # no formula of a spreadsheet
            table.writerow((n, plain, f"{error:.6f}", "" if energy is None else f"{energy:.6f}"))


def _read(rebuilt: Rebuilt, data: str, skipped: list[tuple[str, str]]) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Names and pictures, one at a time, and whether one is smaller than the run's pictures."""
    side = rebuilt.model.shape[-1]
    request = Request(side, rebuilt.config.fit, rebuilt.config.background_rgb, holdout=0)
    if rebuilt.catalogue.source_of(data):
        opened = open_source(data, request, rebuilt.catalogue)
        if opened.shape != tuple(rebuilt.model.shape):
            raise UserError(f"{data} has items of shape {opened.shape}, and the run makes {rebuilt.model.shape}")
        yield from ((f"{opened.name} {n}", opened.train[n], False) for n in range(len(opened.train)))
        return
    place = look(data)
    skipped += [(entry["file"], entry["reason"]) for entry in place.problems]
    for item in place.items():
        try:
            if item.content is None:
                raise Unusable(item.reason)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's: `decode` handles their causes
                picture = decode.read(item.content, request)[0]
                with item.opened() as content, decode.opened(content) as one:
                    small = max(one.size) < side
        except Unusable as reason:
            skipped.append((item.name, str(reason)))
            continue
        yield item.name, picture, small


def _batches(
    pictures: Iterable[tuple[str, np.ndarray, bool]],
) -> Iterator[tuple[tuple[str, ...], tuple[np.ndarray, ...], int]]:
    """Batches of names and pictures, and how many of them are smaller than the run's pictures."""
    pictures = iter(pictures)
    while some := list(islice(pictures, BATCH)):
        names, arrays, small = zip(*some, strict=True)
        yield names, arrays, sum(small)


@torch.no_grad()
def _judged(rebuilt: Rebuilt, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """|x − D(x)| and the energy of each picture, (n,). The views of the run are left out: they change pictures."""
    name = rebuilt.model.name
    if "discriminator" not in rebuilt.networks or rebuilt.view.together > 1:
        raise UserError(f"the discriminator of {rebuilt.run.folder} ({name}) does not look at one picture by itself")
    judged = rebuilt.judge(x, no_class(rebuilt, len(x)))
    if judged.output.shape != x.shape:
        raise UserError(
            f"the discriminator of model {name!r} gives a score and no reconstruction, so its pictures have no "
            "reconstruction error: give a run of a model with an autoencoder, such as began or ebgan"
        )
    error = (x - judged.output.clamp(-1, 1)).abs().flatten(1).mean(1)
    return error.cpu(), None if judged.energy is None else judged.energy.float().cpu()


def _notes(rebuilt: Rebuilt, small: int, count: int) -> list[str]:
    """What these errors can be compared with."""
    notes = ["errors compare pictures under one discriminator: those of another run or step have another scale"]
    line = next((line for line in reversed(rebuilt.run.looks()) if f"{READINGS}real-mean" in line), None)
    real, held_out = (line.get(f"{READINGS}{name}") if line else None for name in ("real-mean", "held-out-mean"))
    if line and isinstance(real, float) and real > 0:
        notes.append(f"the run's own training pictures had a mean energy of {real:.4g} at step {line['step']:,}")
        if isinstance(held_out, float) and held_out > MEMORISED * real:
            notes.append(
                f"energies cannot be compared between pictures that it was trained on and others: held-out ones had "
                f"{held_out / real:.1f} times the energy of those"
            )
    if rebuilt.step == 0:
        notes.append("energies mean nothing yet: the discriminator is untrained")
    if small:
        notes.append(
            f"{small:,} of {count:,} pictures are smaller than {rebuilt.model.shape[-1]} pixels and were enlarged: "
            "their errors cannot be compared with those of the others"
        )
    return notes
