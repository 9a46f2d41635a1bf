"""Samples of real trainings, look by look: a plugin that records them, the packing, and their streams for collapse.py.

gankit run began --plugin benchmarks/recorded.py --diagnostic record --set record.folder=LOOKS ... --out RUN
python benchmarks/recorded.py LOOKS NAME        writes streams/NAME.webp; enter it in streams/streams.json

A stream's sheet has a row of pictures a look: first the averaged generator's, then the bare one's. streams.json has
the command of each stream and the labels of a person who looked at the sheet: the steps of collapsed and of healthy
looks. The looks between have no label.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Diagnostic, Reading, Snapshot, hookimpl
from gankit.data.batches import to_float
from gankit.data.folder import Folder
from gankit.data.source import Request

sys.path.insert(0, str(Path(__file__).resolve().parent))  # as a plugin it is loaded by its path
from planted import Stream, reference

SIDE = 32
COUNT, COLUMNS = 256, 64  # pictures of each generator that are kept of a look, and how many abreast


class Record(Diagnostic):
    """Keeps the samples of both generators at each look."""

    name = "record"
    summary = "keeps samples, for the benchmark of the collapse detector"
    every = 500

    class Options(gankit.Options):
        folder: Path = Field(Path("looks"), description="where they are written")

    def read(self, snapshot: Snapshot) -> Reading:
        shown = {name: snapshot.generate(256, averaged=name == "averaged") for name in ("averaged", "raw")}
        energies = {name: snapshot.line.get(name.replace("_", "/"), np.nan) for name in ("energy_real", "energy_fake")}
        self.options.folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: ((x + 1) * 127.5).round().byte().cpu().numpy() for name, x in shown.items()}
        np.savez_compressed(self.options.folder / f"{snapshot.number:06d}.npz", **arrays, **energies)
        return Reading()


@hookimpl
def gankit_diagnostics() -> list[type[Diagnostic]]:
    return [Record]


def pack(folder: Path, name: str, streams: Path) -> None:
    """Write streams/NAME.webp and print the entry for streams.json."""
    from PIL import Image

    rows, steps, energies = [], [], []
    for path in sorted(folder.glob("*.npz")):
        look = np.load(path)
        both = np.concatenate([look["averaged"][:COUNT], look["raw"][:COUNT]]).transpose(0, 2, 3, 1)
        tall = both.reshape(-1, COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
        rows.append(tall.reshape(-1, COLUMNS * SIDE, 3))
        steps.append(int(path.stem))
        energies.append([round(float(look[key]), 5) for key in ("energy_real", "energy_fake")])
    Image.fromarray(np.concatenate(rows)).save(streams / f"{name}.webp", quality=80, method=6)
    print(json.dumps({name: {"count": COUNT, "steps": steps, "energies": energies}}))


def recorded(streams: Path, which: str, illustrations: str | None) -> Iterator[Stream]:
    """The recorded streams for tuning or for the report; without the illustrations only those of the demo data."""
    for name, entry in json.loads((streams / "streams.json").read_text(encoding="utf-8")).items():
        if entry["for"] != which or (entry["data"] != "demo" and not illustrations):
            continue
        real, held_out = reference() if entry["data"] == "demo" else _folder(str(illustrations))
        shown = _sheet(streams / f"{name}.webp", len(entry["steps"]), entry["count"])
        looks = [lambda pair=pair: pair for pair in shown]
        collapsed = [_label(entry, step) for step in entry["steps"]]
        yield Stream(name, "recorded", looks, entry["steps"], collapsed, real, held_out, entry.get("energies", []))


def _label(entry: dict[str, Any], step: int) -> bool | None:
    """Whether a look is collapsed, by {"healthy": [[from, to], …], "collapsed": […]}, both ends included."""
    for name, truth in (("healthy", False), ("collapsed", True)):
        if any(low <= step <= high for low, high in entry.get(name, [])):
            return truth
    return None


def _sheet(path: Path, looks: int, count: int) -> list[tuple[Tensor, Tensor]]:
    from PIL import Image

    sheet = np.asarray(Image.open(path, formats=["WEBP"]).convert("RGB"))
    tiles = sheet.reshape(sheet.shape[0] // SIDE, SIDE, sheet.shape[1] // SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    pictures = to_float(torch.from_numpy(tiles.reshape(looks, -1, SIDE, SIDE, 3).reshape(-1, SIDE, SIDE, 3).copy()))
    both = pictures.view(looks, -1, 3, SIDE, SIDE)
    return [(look[:count], look[-count:]) for look in both]


@cache
def _folder(path: str) -> tuple[Tensor, Tensor]:
    data = Folder().open(path, Request(SIDE))
    return to_float(torch.from_numpy(data.train.copy())), to_float(torch.from_numpy(data.held_out.copy()))


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2], Path(__file__).parent / "streams")
