"""The two sides of an evaluation: the samples of a run or a folder, and the real pictures."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.config.schema import RunConfig
from gankit.data.batches import to_float
from gankit.data.open import open_source
from gankit.data.remembered import FORMAT, remembered
from gankit.data.source import Data, Items, Request
from gankit.device import choose_device
from gankit.errors import UserError
from gankit.metrics.spaces import Space
from gankit.runs.folder import RunFolder, near
from gankit.runs.score import SCORE
from gankit.trained.sampling import Rebuilt, rebuild
from gankit.trained.scored import Scored, of_pictures, of_run

FEWEST = 20  # pictures that an evaluation needs on either side
LARGEST = 256  # pixels: a folder's larger pictures are reduced to this side
SEED = 1  # of the latents


class Real:
    """Real pictures, uint8 (N, S, S, C), in a random order, the same every time."""

    def __init__(self, pictures: Items) -> None:
        self.pictures = pictures
        self.order = np.random.default_rng(0).permutation(len(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, places: slice) -> Tensor:
        """The pictures as floats (n, C, S, S) in [-1, 1]."""
        return to_float(torch.from_numpy(self.pictures[self.order[places]]))

    @property
    def streamed(self) -> bool:
        """Whether pictures are decoded when they are asked for."""
        return not isinstance(self.pictures, np.ndarray)

    @property
    def chunk(self) -> int:
        """How many pictures to convert at once: 64 MiB of floats."""
        return max(16, (1 << 24) // math.prod(self.pictures.shape[1:]))

    def map(self, function: Callable[[Tensor], Tensor], places: slice) -> Tensor:
        """`function` applied to the pictures from `places.start` to `places.stop`, in chunks."""
        starts = range(places.start, places.stop, self.chunk)
        return torch.cat([function(self[start : min(start + self.chunk, places.stop)]) for start in starts])

    def features(self, space: Space, places: slice) -> Tensor:
        """The features of the pictures from `places.start` to `places.stop`, from the cache where it has them."""
        if not space.version:
            return self.map(space.features, places)
        content = hashlib.blake2b(f"{FORMAT} {space.name} {space.version} {self.pictures.shape[1:]}".encode())
        for start in range(places.start, places.stop, self.chunk):
            content.update(self.pictures[self.order[start : min(start + self.chunk, places.stop)]].tobytes())
        compute = partial(self.map, space.features, places)
        key, count = content.hexdigest()[:32], places.stop - places.start
        return torch.from_numpy(remembered(key, count, lambda: compute().numpy()))


@dataclass(frozen=True)
class Pictures:
    """Samples (n, C, S, S) in [-1, 1], and real pictures."""

    samples: Tensor
    train: Real
    held_out: Real
    scored: Scored
    of: dict[str, Any]  # the source of the samples and of the data, for the result
    notes: list[str] = field(default_factory=list)
    mirror: bool = True  # whether samples may copy mirrored training pictures; of a folder nobody knows


def collect(
    run_or_folder: str | Path | RunFolder,
    data: str | Path | None,
    step: int | Literal["best"] | None,
    n: int,
    averaged: bool,
    plugins: Sequence[str],
) -> Pictures:
    """Samples and real pictures for the arguments of `gankit.trained.evaluation.evaluate`. Raises `UserError`."""
    if n < FEWEST:
        raise UserError(f"--n {n}: at least {FEWEST} samples are needed")
    catalogue = Catalogue(plugins)
    if isinstance(run_or_folder, RunFolder):
        return _of_run(run_or_folder, data, step, n, averaged, plugins, catalogue)
    folder = Path(os.path.expanduser(run_or_folder))
    if (folder / "config.json").is_file() and isinstance(RunFolder(folder).config.get("model"), Mapping):
        return _of_run(RunFolder(folder), data, step, n, averaged, plugins, catalogue)
    if not folder.is_dir():
        raise UserError(f"{folder} is neither a run folder nor a folder of pictures{near(folder)}: give one of the two")
    for what in ("comparison", "sweep"):
        if (folder / f"{what}.json").is_file():
            raise UserError(f"{folder} is a {what}: its runs are below {folder / 'runs'}; evaluate one of them")
    if step is not None or not averaged:
        raise UserError(f"{'--raw' if step is None else '--from'} is for a run, and {folder} is no run folder")
    if data is None:
        raise UserError(f"{folder} is no run folder: say with --data DIR|NAME what its pictures are compared with")
    return _of_folder(folder, str(data), n, catalogue)


def _of_run(
    run: RunFolder,
    data: str | Path | None,
    step: int | Literal["best"] | None,
    n: int,
    averaged: bool,
    plugins: Sequence[str],
    catalogue: Catalogue,
) -> Pictures:
    rebuilt = rebuild(run, step, plugins, choose_device("auto"), averaged)
    if len(rebuilt.model.shape) != 3:
        raise UserError(f"{run.folder} makes points, not pictures, and these measures are for pictures")
    opened = open_for(rebuilt, data, catalogue)
    notes = []
    if opened.digest != run.data.get("digest"):
        if data is None:
            notes.append(
                f"the pictures of {opened.name} have changed since the run began: some that are held out now may have "
                "been trained on"
            )
        else:
            notes.append(f"{opened.name} is not what the run was trained on: its split is that of a run on it")
    samples = generated(rebuilt, opened, n)
    if not bool(samples.isfinite().all()):
        raise UserError(
            f"{run.folder}: the generator's pictures at step {rebuilt.step} are not finite; choose an earlier --from"
        )
    of = {
        "kind": "run",
        "path": str(run.folder),
        "model": rebuilt.config.model["name"],
        "step": rebuilt.step,
        "generator": "averaged" if averaged else "bare",
    }
    own = averaged and opened.digest == run.data.get("digest")
    scored = of_run(rebuilt, opened, own)
    return replace(_against(samples, opened, scored, of, notes), mirror=rebuilt.config.mirror)


def score_of(run: RunFolder, plugins: Sequence[str]) -> float | None:
    """The score at a run's last checkpoint, in [0, 1]; None with too few real pictures. Raises UserError for points."""
    rebuilt = rebuild(run, None, plugins, choose_device("auto"))
    if len(rebuilt.model.shape) != 3:
        raise UserError(f"{run.folder} makes points, and a score is for pictures")
    return of_run(rebuilt, open_for(rebuilt, None, Catalogue(plugins)), own=True).values.get(SCORE)


def open_for(rebuilt: Rebuilt, data: str | Path | None, catalogue: Catalogue) -> Data:
    """The run's data, or other data with the run's size, fit and background. Raises `UserError` for a misfit."""
    config: RunConfig = rebuilt.config
    request = Request(config.image_size, config.fit, config.background_rgb, config.holdout)
    if config.stream and catalogue.source_of(str(data or config.data)) is None:
        request = replace(request, stream=True)
    try:
        opened = open_source(str(data or config.data), request, catalogue, None if data else config.datasets)
    except UserError as error:
        if data is not None:
            raise
        raise UserError(f"the run's pictures are not at hand ({error}): say where they are with --data") from None
    if opened.shape != tuple(rebuilt.model.shape):
        raise UserError(f"{opened.name} has items of shape {opened.shape}, and the run makes {rebuilt.model.shape}")
    return opened


@torch.no_grad()
def generated(rebuilt: Rebuilt, data: Data, n: int) -> Tensor:
    """`n` samples (n, C, S, S) in [-1, 1] on the CPU; with classes, in the proportions of the data."""
    labels = None
    if rebuilt.model.classes and data.labels is not None:
        spread = data.labels[np.linspace(0, len(data.labels) - 1, n).astype(int)]
        labels = torch.from_numpy(spread).to(rebuilt.device) % len(rebuilt.model.classes)
    elif rebuilt.model.classes:
        labels = rebuilt.labels(n)
    with rebuilt.stream(SEED):
        return rebuilt.generate(rebuilt.latents(n), labels).clamp(-1, 1).float().cpu()


def _of_folder(folder: Path, data: str, n: int, catalogue: Catalogue) -> Pictures:
    """A folder of samples; both sides get the most common size of the samples."""
    side, notes = _side(folder), []
    if side > LARGEST:
        notes.append(f"pictures of {side} pixels are compared at {LARGEST}")
        side = LARGEST
    request = Request(max(side, 8), holdout=0)
    fake = open_source(str(folder.resolve()), request, catalogue)
    if fake.skipped:
        first = fake.skipped[0]
        notes.append(f"skipped {len(fake.skipped)} of {folder}, first {first['file']}: {first['reason']}")
    if len(fake.train) < FEWEST:
        raise UserError(f"{folder} has {len(fake.train)} usable pictures: at least {FEWEST} are needed")
    opened = open_source(data, Request(request.image_size), catalogue)
    if len(opened.shape) != 3:
        raise UserError(f"--data {data} has points, not pictures, and these measures are for pictures")
    if opened.shape != fake.shape:
        raise UserError(f"--data {data} has items of shape {opened.shape}, and {folder} pictures of {fake.shape}")
    samples = Real(fake.train)[:n]
    return _against(samples, opened, of_pictures(samples, opened), {"kind": "folder", "path": str(folder)}, notes)


def _side(folder: Path) -> int:
    """The most common longer side among the folder's first 200 pictures."""
    from gankit.data.decode import opened
    from gankit.data.folder import look

    sides: Counter[int] = Counter()
    for item in islice(look(str(folder)).items(), 200):
        try:
            with item.opened() as content, opened(content) as picture:
                sides[max(picture.size)] += 1
        except Exception:  # no picture: opening the folder reports it
            continue
    return sides.most_common(1)[0][0] if sides else 32


def _against(samples: Tensor, data: Data, scored: Scored, of: dict[str, Any], notes: list[str]) -> Pictures:
    of = of | {
        "n": len(samples),
        "image_size": samples.shape[-1],
        "data": data.name,
        "digest": data.digest,
        "train": len(data.train),
        "held_out": len(data.held_out),
        "score": "recorded" if scored.recorded else "measured",
    }
    return Pictures(samples, Real(data.train), Real(data.held_out), scored, of, notes)
