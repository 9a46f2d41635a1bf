"""Checkpoints: safetensors and JSON with checksums, written atomically; never pickle.

    checkpoints/NNNNNN/networks.safetensors    NETWORK/PARAMETER
                       averaged.safetensors    PARAMETER of the averaged generator
                       training.safetensors    optimizer/NETWORK/INDEX/STATE, controller/NAME/BUFFER,
                                                loss/NAME/KEY of a term's memory
                       state.json              step, seconds, diagnostics' states, sha256 of each file and of itself

They hold no random state: (seed, step, update) determines each update's stream.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gankit.errors import UserError, in_one_line
from gankit.files import below, opened, read_object
from gankit.runs.folder import MOST_STEPS, RunFolder, rescues, strict, write_json
from gankit.training.state import Training

FORMAT = 1
KEPT = 3
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")  # of Adam
FILES = ("networks", "averaged", "training")
UNFINISHED = re.compile(r"\.\d{6,}\.\d+")  # a checkpoint during its writing or removal
OWN = re.compile(rf"({'|'.join(FILES)})\.safetensors|(\.\w+\.)?state\.json")  # the files of a checkpoint


Step = Annotated[int, Field(ge=0, lt=MOST_STEPS)]


class State(BaseModel):
    """state.json, which may be a stranger's, or an older version's without the fields that have a default."""

    format: Literal[1]
    step: Step
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    attempt: Annotated[int, Field(ge=1, lt=MOST_STEPS)]
    since: Step = 0
    healthy: Step = 0
    best: tuple[Step, Annotated[float, Field(allow_inf_nan=False)]] | None = None  # a step and its score
    verdicts: dict[str, bool] = {}
    diagnostics: dict[str, Any]
    sha256: dict[str, str]


def save(run: RunFolder, training: Training) -> Path:
    """Write the checkpoint of the last step, atomically. Partial ones go before it, and older ones after it."""
    path = run.checkpoint_path(training.number)
    run.make(path.parent.name)
    _clear(path.parent)
    beside, best, score = _beside(path), training.best, training.score
    if score is not None and (best is None or score > best[1]):
        training.best = (training.number, score)
    beside.mkdir()
    try:
        _write(beside, training)
        os.replace(beside, path)
    except BaseException:  # on a full disk, say, a partial checkpoint must not take room
        training.best = best
        _remove(beside)
        raise
    _rotate(run, training)
    return path


def tidy(run: RunFolder, training: Training) -> None:
    """Remove partial checkpoints, and all but the last three, the last healthy one, the one with the best score, those
    that rescues returned to, and those after the last step.
    """
    _clear(run.make("checkpoints"))  # refuses a link
    _rotate(run, training)


def _rotate(run: RunFolder, training: Training) -> None:
    kept = {training.healthy, *(entry["step"] for entry in rescues(training.config.history))}
    kept |= {training.best[0]} if training.best else set()
    for step in run.checkpoints()[:-KEPT]:
        if step < training.number and step not in kept:
            with suppress(OSError):  # the next save tries again
                _discard(run.checkpoint_path(step))


def tensors_of(training: Training) -> dict[str, dict[str, Tensor]]:
    """The tensors of a training, by file."""
    return {
        "networks": {
            f"{name}/{key}": t for name, net in training.networks.items() for key, t in net.state_dict().items()
        },
        "averaged": dict(training.averaged.state_dict()),
        "training": _training_tensors(training),
    }


def state_of(training: Training) -> dict[str, Any]:
    """The state of a training beside its tensors."""
    return {
        "format": FORMAT,
        "step": training.number,
        "seconds": training.seconds,
        "attempt": training.attempt,
        "since": training.since,
        "healthy": training.healthy,
        "best": training.best,
        "verdicts": training.verdicts,
        "diagnostics": _diagnostic_states(training),
    }


def _diagnostic_states(training: Training) -> dict[str, Any]:
    """The states of the diagnostics that still look. One that cannot be saved is left out: its next look says so."""
    states = {}
    for name, diagnostic in training.diagnostics.items():
        if name not in training.disabled:
            with suppress(Exception):
                states[name] = plain(diagnostic.state())
    return states


def plain(state: Any) -> Any:
    """A diagnostic's state as a resume finds it. Raises TypeError or ValueError for one that is not JSON."""
    return json.loads(json.dumps(strict(state), allow_nan=False))


def put(state: Mapping[str, Any], tensors: Mapping[str, dict[str, Tensor]], training: Training) -> None:
    """Give a training of the same configuration what `state_of` and `tensors_of` gave."""
    _load(State(**state, sha256={}), tensors, training, Path("process 0"))


def _write(beside: Path, training: Training) -> None:
    checksums = {}
    for name, table in tensors_of(training).items():
        file = beside / f"{name}.safetensors"
        save_file(apart(table), file)
        os.chmod(file, beside.stat().st_mode & 0o666)  # safetensors gives 600, whatever the umask
        with open(file, "rb") as written:
            checksums[file.name] = hashlib.file_digest(written, "sha256").hexdigest()
            os.fsync(written.fileno())
    state = state_of(training) | {"sha256": checksums}
    write_json(beside / "state.json", state | {"checksum": _checksum(state)})


def apart(table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the host. Each has memory of its own, as a file needs it: a network may tie two weights."""
    result: dict[str, Tensor] = {}
    places = set()
    for key, tensor in table.items():
        held = tensor.detach().contiguous().cpu()
        place = held.untyped_storage().data_ptr()
        result[key] = held.clone() if place in places else held
        places.add(place)
    return result


def _discard(path: Path) -> None:
    """Remove a checkpoint, unless it holds foreign files."""
    if all(OWN.fullmatch(name) for name in os.listdir(path)):
        beside = _beside(path)
        os.replace(path, beside)  # first, so that a kill leaves no partial checkpoint under its name
        _remove(beside)


def _beside(path: Path) -> Path:
    """A free temporary name beside a checkpoint: .NNNNNN.NUMBER."""
    number = os.getpid()
    while os.path.lexists(beside := path.with_name(f".{path.name}.{number}")):
        number += 1
    return beside


def _clear(folder: Path) -> None:
    """Remove partial checkpoints of killed processes; this process holds the run's lock."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if UNFINISHED.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))


def _remove(folder: Path) -> None:
    """Remove the files of a checkpoint, and its folder unless it holds foreign files."""
    with suppress(OSError):
        for entry in os.listdir(folder):
            if OWN.fullmatch(entry):
                (folder / entry).unlink()
        folder.rmdir()


def load(run: RunFolder, step: int, training: Training) -> None:
    """Load the checkpoint of `step` into `training`. Raises `UserError` if it is damaged or does not fit."""
    state, tensors = read(run, step)
    where = run.checkpoint_path(step)
    try:
        _load(state, tensors, training, where)
    except UserError:
        raise
    except Exception as error:  # its checksums may be a stranger's
        raise UserError(f"checkpoint {where} is damaged ({in_one_line(error)})") from None


def _load(state: State, tensors: Mapping[str, dict[str, Tensor]], training: Training, where: Path) -> None:
    for name, network in training.networks.items():
        saved = _below(tensors["networks"], name)
        if saved or name not in training.terms:  # a term added at this resume starts with a new network
            _load_module(network, saved, f"network {name!r}", where)
    _load_module(training.averaged, tensors["averaged"], "the averaged generator", where)
    for name, optimizer in training.optimizers.items():
        _load_optimizer(optimizer, name, tensors["training"])
    for name, controller in training.controllers.items():
        saved = _below(tensors["training"], f"controller/{name}")
        if saved:  # a controller added at this resume starts anew
            _load_module(controller, saved, f"controller {name!r}", where)
    for name, (_, term) in training.terms.items():
        saved = _below(tensors["training"], f"loss/{name}")
        term.memory = {key: t.to(training.device) for key, t in saved.items()}
    for name, diagnostic in training.diagnostics.items():
        if name in state.diagnostics:
            try:
                diagnostic.restore(state.diagnostics[name])
            except Exception as error:
                raise UserError(
                    f"diagnostic {name!r} cannot restore its state of checkpoint {where} ({in_one_line(error)}): the "
                    "file is damaged, or its `restore` does not fit its `state`"
                ) from None
    training.number, training.seconds, training.attempt = state.step, state.seconds, state.attempt
    training.since, training.healthy, training.best = state.since, state.healthy, state.best
    training.verdicts = dict(state.verdicts)
    for part in training.paced:
        part.at_step(training.number)


def load_shown(run: RunFolder, step: int, networks: Mapping[str, torch.nn.Module], averaged: bool = True) -> None:
    """Load the networks' weights at `step`, with `averaged` those of the averaged generator. Raises as `load` does."""
    where = run.checkpoint_path(step)
    _, tensors = read(run, step, only=("networks", "averaged"))
    for name, network in networks.items():
        shown = averaged and name == "generator"
        saved = tensors["averaged"] if shown else _below(tensors["networks"], name)
        _load_module(network, saved, f"network {name!r}", where)


def read(run: RunFolder, step: int, only: Sequence[str] = FILES) -> tuple[State, dict[str, dict[str, Tensor]]]:
    """The verified state and tensors of a checkpoint, of the files `only`. Raises `UserError` if it is damaged."""
    where = run.checkpoint_path(step)
    try:
        written = read_object(run.folder, where / "state.json")
        checksum = written.pop("checksum", None)
        if checksum not in (None, _checksum(written)) or written["format"] != FORMAT or written["step"] != step:
            raise ValueError("state.json is not what was written")
        state = State(**written)
        tensors = {}
        for stem in only:
            file = f"{stem}.safetensors"
            with os.fdopen(opened(run.folder, where / file), "rb") as content:
                data = content.read()  # once, so that nobody can put other tensors in place of those with this checksum
            if hashlib.sha256(data).hexdigest() != state.sha256[file]:
                raise ValueError(f"{file} is not what was written")
            tensors[stem] = safetensors.torch.load(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, UserError) as error:
        if isinstance(error, ValidationError):
            error = ValueError(f"{'.'.join(map(str, error.errors()[0]['loc']))} in state.json is not what was written")
        others = [other for other in run.checkpoints() if other != step]
        instead = f"; try --from {others[-1]}" if others else ""
        raise UserError(f"checkpoint {where} is damaged ({error}){instead}") from None
    return state, tensors


def files(run: RunFolder, step: int) -> list[Path]:
    """The files of a checkpoint."""
    return [run.checkpoint_path(step) / name for name in (*(f"{stem}.safetensors" for stem in FILES), "state.json")]


def choose(run: RunFolder, step: int | Literal["best"] | None = None) -> int:
    """The step of the checkpoint to load: `step`, the one with the best score, or the last.

    Raises `UserError` if there is none.
    """
    below(run.folder, "checkpoints")
    there = run.checkpoints()
    if not there:
        instead = "they are gone. Move it away, and give its command again"
        if not run.begun():
            instead = f"it was broken off before the first. `gankit resume {shlex.quote(str(run.folder))}` begins it"
        raise UserError(f"run {run.folder} has no checkpoint to start from: {instead}")
    if step == "best":
        step = run.best()
        if step is None:
            raise UserError(
                f"run {run.folder} measured no score at a checkpoint, so none is the best: give --from STEP"
            )
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


def _load_module(module: torch.nn.Module, saved: Mapping[str, Tensor], what: str, where: Path) -> None:
    try:
        module.load_state_dict(saved)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{what} of checkpoint {where} does not fit the settings "
            f"(a change of a network's shape needs a new run): {reason}"
        ) from None


def _load_optimizer(optimizer: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer" and rest.startswith(f"{name}/"):
            index, _, entry = rest.removeprefix(f"{name}/").partition("/")
            parameter = parameters[int(index)]
            wanted = torch.Size() if entry == "step" else parameter.shape if entry in MOMENTS else value.shape
            if value.shape != wanted:  # Adam's own code trusts them
                raise ValueError(f"{key} is of shape {tuple(value.shape)}")
            if value.shape == parameter.shape:  # fused Adam needs moments in the layout of their weight
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _checksum(state: dict[str, Any]) -> str:
    """The checksum of state.json's other entries."""
    return hashlib.sha256(json.dumps(strict(state), sort_keys=True).encode()).hexdigest()
