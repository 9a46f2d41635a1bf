"""The start of a training: its data and networks, checked before the run folder exists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gankit.catalogue import Catalogue
from gankit.config.request import RunRequest
from gankit.config.schema import RunConfig
from gankit.data.batches import Batches
from gankit.data.folder import parted
from gankit.data.open import open_source
from gankit.data.source import Data, Request, by_reason
from gankit.device import describe
from gankit.errors import TrainingError, UserError, in_one_line, nearest
from gankit.runs.verdict import FEW, JUDGED
from gankit.training.build import build, refuse_too_large
from gankit.training.dry_run import refuse_misfits
from gankit.training.state import Training
from gankit.training.watcher import Watcher

_JUDGED = ("output", "code", "energy")


def open_data(resolved: RunConfig, catalogue: Catalogue, watcher: Watcher) -> Data:
    """Open a folder, or the data source NAME[:ARGUMENT]. Raises `UserError` for fewer pictures than --batch-size."""
    request = Request(
        resolved.image_size,
        resolved.fit,
        resolved.background_rgb,
        resolved.holdout,
        watcher.finding if resolved.stream else watcher.decoding,
        resolved.stream,
        watcher.notice,
    )
    data = open_source(resolved.data, request, catalogue, resolved.datasets)
    if data.skipped:
        out = len(data.skipped)
        watcher.notice(f"skipped {out:,} file{'s' * (out > 1)} of {resolved.data}{by_reason(data.skipped)}")
    if data.warned:
        odd = len({note["file"] for note in data.warned})  # one can be blank and a copy
        watcher.notice(f"warning: {odd:,} picture{'s' * (odd > 1)}{by_reason(data.warned)}")
    least = resolved.batch_size if "batch_size" in resolved.requested else 2
    if len(data.train) < least:
        count = f"{len(data.train)} picture{'s' * (len(data.train) != 1)}"
        smaller = f", fewer than a batch of {least}: add pictures, or use a smaller --batch-size"
        raise UserError(
            f"{resolved.data} has {count} to train on"
            + (smaller if "batch_size" in resolved.requested else ", and a model learns from many: add pictures")
            + (" or --holdout 0" if least <= len(data.train) + len(data.held_out) else "")
        )
    return data


def assemble(resolved: RunConfig, data: Data, catalogue: Catalogue) -> tuple[Training, Batches]:
    """The training and its batches, after a dry step.

    A batch size that nobody asked for is halved until there are as many pictures. Raises `UserError` for a misfit, and
    `TrainingError` if the code of a model or component fails.
    """
    networks: tuple[str, ...] = ()
    batch = resolved.batch_size
    while batch > max(1, len(data.train)):
        batch //= 2
    resolved = resolved.model_copy(update={"batch_size": batch})
    try:
        refuse_too_large(resolved, data.shape, catalogue, data.classes)
        training = build(resolved, data.shape, catalogue, data.classes)
        networks, updates = tuple(training.networks), len(training.model.updates)
        batches = Batches(data, resolved.batch_size, resolved.seed, training.device, resolved.mirror, updates)
        refuse_misfits(training, batches)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = str(error)  # torch's and oneDNN's, on a CPU
        if isinstance(error, MemoryError) or "can't allocate memory" in said or "create a primitive" in said:
            raise UserError(
                "the training does not fit into memory: choose a smaller --batch-size or --image-size, or smaller "
                f"networks ({in_one_line(error)})"
            ) from None
        if catalogue.strict:
            raise
        raise TrainingError(
            f"model {resolved.model['name']!r} failed before its first step, and nothing was written: "
            f"{in_one_line(error)}{_hint(error, networks)}; GANKIT_STRICT=1 shows the traceback"
        ) from error
    return training, batches


def _hint(error: Exception, networks: tuple[str, ...]) -> str:
    """What to do about a usual mistake, or nothing. `networks`: their names, as far as they are built."""
    if isinstance(error, KeyError) and networks:
        near = nearest(str(error.args[0]), networks) if error.args else ""
        return f"{near}; the networks are {', '.join(networks)}"
    if isinstance(error, AttributeError) and isinstance(error.obj, torch.Tensor) and error.name in _JUDGED:
        return "; a discriminator, or the model's judge, returns gankit.Judged(output=…), and here it is a plain tensor"
    return ""


def chosen(resolved: RunConfig, request: RunRequest, data: Data, training: Training) -> str:
    """One line about the training: model, data, sizes, and the reason for automatic choices."""
    free = [
        key
        for key in ("image_size", "batch_size", "precision", "steps")
        if getattr(request, key) is None and not (key == "steps" and resolved.time)
    ]
    size = "×".join(map(str, data.shape[1:])) if len(data.shape) == 3 else f"points of {data.shape[0]} numbers"
    filters = f", {resolved.model['filters']} filters" if "filters" in resolved.model else ""
    length = f"{resolved.steps:,} steps" if resolved.steps is not None else f"{resolved.time:.0f} s"
    why = "a GPU is there, so larger sizes"
    if resolved.device == "cpu":
        why = "no GPU here, so small sizes"
    because = f" ({why}; change with --{', --'.join(key.replace('_', '-') for key in free)})" if free else ""
    return (
        f"{resolved.model['name']} on {len(data.train):,} items of {resolved.data} ({len(data.held_out):,} held out): "
        f"{size}{filters}, batch {resolved.batch_size}, {length}, "
        f"{resolved.precision} on {describe(resolved.device)}{because}"
    )


def displaced(training: Training) -> list[str]:
    """A line for each of the model's own controllers that yields to a requested one."""
    return [
        f"controller {one.by!r} takes the place of {training.model.name}'s own {name!r}"
        + (f", so nothing drives {' and '.join(one.idle)} any more" if one.idle else "")
        for name, one in training.displaced.items()
    ]


def few(resolved: RunConfig, data: Data) -> str:
    """What so few pictures mean and which flags help, or "" for enough of them and for points."""
    count = len(data.train)
    if count >= FEW or len(data.shape) != 3:
        return ""
    flags = [] if resolved.mirror else ["--mirror (where a mirror image could be real: faces, not letters)"]
    flags += ["a smaller --steps" + (", then --from best" if count >= JUDGED else "")]
    unjudged = (
        " The samples are not judged: there will be no score and no alarm about variety." if count < JUDGED else ""
    )
    unjudged += " Fewer than 20 are held out, so copies are not looked for." if len(data.held_out) < 20 else ""
    return (
        f"warning: {count} pictures are few. A model learns so few by heart and draws copies of them; more pictures "
        f"help most.{unjudged} What helps: {'; '.join(flags)}. A larger --holdout leaves fewer to learn from."
    )


def describe_data(data: Data) -> dict[str, Any]:
    """The contents of data.json."""
    return {
        "name": data.name,
        "train": len(data.train),
        "held_out": len(data.held_out),
        "shape": list(data.shape),
        "digest": data.digest,
        "labels": list(data.classes),
        "skipped": data.skipped,
        "warned": data.warned,
        **({"streamed": True} if data.streamed else {}),  # then nobody looked for copies, nor at all pictures
    }


@contextmanager
def quiet_random(device: str) -> Iterator[None]:
    """Restore the caller's random stream afterwards: a training seeds torch's global one at every update."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        yield


def refuse_unwritable(what: str, name: str | Path) -> None:
    """Raise `UserError` for a name that is not UTF-8, as the files of a run are."""
    try:
        os.fspath(name).encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} {name}: the name is not UTF-8: rename it, or use a link of another name") from None


def refuse_inside(out: str | Path | None, data: str | Path) -> None:
    """Raise `UserError` if the run folder would lie inside the pictures' folder, or for a name that is not UTF-8."""
    refuse_unwritable("--data", data)
    refuse_unwritable("--out", out or "")
    pictures = os.path.realpath(os.path.expanduser(parted(os.fspath(data))[0]))
    folder = Path(os.path.realpath(os.path.expanduser(out or "runs")))
    if os.path.isdir(pictures) and folder.is_relative_to(pictures):
        where = f"--out {out}" if out else "the new run's folder under runs/"
        raise UserError(
            f"{where} would lie inside the pictures of {data}, and its samples would join them: "
            "choose an --out elsewhere"
        )
