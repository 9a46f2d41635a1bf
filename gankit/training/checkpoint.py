"""Checkpoints: safetensors and JSON, written beside and renamed, checksummed, never pickle.

    checkpoints/NNNNNN/networks.safetensors    NETWORK/PARAMETER
                       averaged.safetensors    PARAMETER of the averaged generator
                       training.safetensors    optimizer/NETWORK/INDEX/STATE, controller/NAME/BUFFER,
                                                loss/NAME/WHAT of what a term remembers
                       state.json              step, seconds, diagnostics' states, sha256 of each file and of itself

Random streams need no place in it: each update's stream follows from (seed, step, update).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gankit.errors import UserError
from gankit.files import below, opened
from gankit.runs.folder import RunFolder, rescues, strict, write_json
from gankit.training.state import Training

FORMAT = 1
KEPT = 3
FILES = ("networks", "averaged", "training")
UNFINISHED = re.compile(r"\.\d{6,}\.\d+")  # a checkpoint that is being written or removed
OWN = re.compile(rf"({'|'.join(FILES)})\.safetensors|(\.\w+\.)?state\.json")  # what is written into one


def save(run: RunFolder, training: Training) -> Path:
    """Write the checkpoint of the last step done, whole or not at all.

    All but the last three, the last healthy one and those that rescues returned to are let go of.
    """
    path = run.checkpoint_path(training.number)
    run.make(path.parent.name)
    _clear(path.parent)
    beside = _beside(path)
    beside.mkdir()
    try:
        _write(beside, training)
    except BaseException:  # a full disk, say, on which it must not lie
        _remove(beside)
        raise
    os.replace(beside, path)
    kept = {training.healthy, *(entry["step"] for entry in rescues(training.config.history))}
    for step in run.checkpoints()[:-KEPT]:
        if step < training.number and step not in kept:
            with suppress(OSError):  # the new one is whole; this one is let go of next time
                _let_go(run.checkpoint_path(step))
    return path


def _write(beside: Path, training: Training) -> None:
    tensors: dict[str, dict[str, Tensor]] = {
        "networks": {
            f"{name}/{key}": t for name, net in training.networks.items() for key, t in net.state_dict().items()
        },
        "averaged": dict(training.averaged.state_dict()),
        "training": _training_tensors(training),
    }
    checksums = {}
    for name, table in tensors.items():
        file = beside / f"{name}.safetensors"
        save_file({key: t.detach().contiguous().cpu() for key, t in table.items()}, file)
        with open(file, "rb") as written:
            checksums[file.name] = _sha256(written)
            os.fsync(written.fileno())
    state = {
        "format": FORMAT,
        "step": training.number,
        "seconds": training.seconds,
        "attempt": training.attempt,
        "since": training.since,
        "healthy": training.healthy,
        "verdicts": training.verdicts,
        "diagnostics": {name: d.state() for name, d in training.diagnostics.items()},
        "sha256": checksums,
    }
    write_json(beside / "state.json", state | {"checksum": _checksum(state)})


def _let_go(path: Path) -> None:
    """Remove a checkpoint, unless somebody has put something else into it."""
    if all(OWN.fullmatch(name) for name in os.listdir(path)):
        beside = _beside(path)
        os.replace(path, beside)  # first, so that a kill leaves no half of it listed
        _remove(beside)


def _beside(path: Path) -> Path:
    """A free name beside a checkpoint, which is no checkpoint's: .NNNNNN.NUMBER."""
    number = os.getpid()
    while os.path.lexists(beside := path.with_name(f".{path.name}.{number}")):
        number += 1
    return beside


def _clear(folder: Path) -> None:
    """Remove what killed processes left half-made in checkpoints/; the run's lock is ours."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if UNFINISHED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))


def _remove(folder: Path) -> None:
    """Remove the files of a checkpoint and then its folder, which stays where anything else lies in it."""
    with suppress(OSError):
        for entry in os.listdir(folder):
            if OWN.fullmatch(entry):
                (folder / entry).unlink()
        folder.rmdir()


def load(run: RunFolder, step: int, training: Training) -> None:
    """Take up what the checkpoint of `step` holds. Raises `UserError` if it is damaged or does not fit."""
    state, tensors = read(run, step)
    where = run.checkpoint_path(step)
    for name, network in training.networks.items():
        found = _below(tensors["networks"], name)
        if found or name not in training.terms:  # that of a term that was named at this resume begins anew
            _take(network, found, f"network {name!r}", where)
    _take(training.averaged, tensors["averaged"], "the averaged generator", where)
    for name, optimizer in training.optimizers.items():
        _take_optimizer(optimizer, name, tensors["training"])
    for name, controller in training.controllers.items():
        found = _below(tensors["training"], f"controller/{name}")
        if found:  # a controller that was named at this resume begins anew
            _take(controller, found, f"controller {name!r}", where)
    for name, (_, term) in training.terms.items():
        found = _below(tensors["training"], f"loss/{name}")
        term.memory = {key: t.to(training.device) for key, t in found.items()}
    for name, diagnostic in training.diagnostics.items():
        if name in state["diagnostics"]:
            diagnostic.restore(state["diagnostics"][name])
    training.number, training.seconds, training.attempt = state["step"], state["seconds"], state["attempt"]
    training.since, training.healthy = state.get("since", 0), state.get("healthy", 0)
    training.verdicts = dict(state.get("verdicts", {}))


def load_shown(run: RunFolder, step: int, networks: Mapping[str, torch.nn.Module], averaged: bool = True) -> None:
    """Take up the networks' weights at `step`, the generator's averaged: what is shown, without its training."""
    where = run.checkpoint_path(step)
    _, tensors = read(run, step, only=("networks", "averaged"))
    for name, network in networks.items():
        found = _below(tensors["networks"], name)
        _take(network, tensors["averaged"] if averaged and name == "generator" else found, f"network {name!r}", where)


def read(run: RunFolder, step: int, only: Sequence[str] = FILES) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The verified state and tensors of a checkpoint; `only` some of its files."""
    where = run.checkpoint_path(step)
    try:
        state = json.loads(run.read(where / "state.json"))
        told = state.pop("checksum", None)
        if told not in (None, _checksum(state)) or state["format"] != FORMAT or state["step"] != step:
            raise ValueError("state.json is not what was written")
        tensors = {}
        for stem in only:
            file = f"{stem}.safetensors"
            with os.fdopen(opened(run.folder, where / file), "rb") as content:
                if _sha256(content) != state["sha256"][file]:
                    raise ValueError(f"{file} is not what was written")
            tensors[stem] = load_file(where / file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, UserError) as error:
        others = [other for other in run.checkpoints() if other != step]
        instead = f"; try --from {others[-1]}" if others else ""
        raise UserError(f"checkpoint {where} is damaged ({error}){instead}") from None
    return state, tensors


def files(run: RunFolder, step: int) -> list[Path]:
    """The files of a checkpoint."""
    return [run.checkpoint_path(step) / name for name in (*(f"{stem}.safetensors" for stem in FILES), "state.json")]


def choose(run: RunFolder, step: int | None = None) -> int:
    """The step of the checkpoint to take: the given one, or the last."""
    below(run.folder, "checkpoints")
    there = run.checkpoints()
    if not there:
        raise UserError(f"run {run.folder} has no checkpoint to start from")
    if step is not None and step not in there:
        raise UserError(f"run {run.folder} has no checkpoint at step {step}. There are: {', '.join(map(str, there))}")
    return there[-1] if step is None else step


def _training_tensors(training: Training) -> dict[str, Tensor]:
    tensors = {}
    for name, optimizer in training.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value)
    for name, controller in training.controllers.items():
        for key, value in controller.state_dict().items():
            tensors[f"controller/{name}/{key}"] = value
    for name, (_, term) in training.terms.items():
        tensors |= {f"loss/{name}/{key}": value for key, value in term.memory.items()}
    return tensors


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}


def _take(module: torch.nn.Module, found: Mapping[str, Tensor], what: str, where: Path) -> None:
    try:
        module.load_state_dict(found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{what} of checkpoint {where} does not fit the settings "
            f"(a change of a network's shape needs a new run): {reason}"
        ) from None


def _take_optimizer(optimizer: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer" and rest.startswith(f"{name}/"):
            index, _, entry = rest.removeprefix(f"{name}/").partition("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:  # moments in the layout of their weight, as fused Adam needs them
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _checksum(state: dict[str, Any]) -> str:
    """Of all that state.json holds besides."""
    return hashlib.sha256(json.dumps(strict(state), sort_keys=True).encode()).hexdigest()


def _sha256(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
