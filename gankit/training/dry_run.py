"""A dry first step, which raises misfits of the configuration before the run writes anything."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from gankit.components import Controller, LossTerm
from gankit.data.batches import Batches
from gankit.errors import UserError, in_one_line, nearest
from gankit.model import Losses, Model, Step
from gankit.runs.score import SCORE
from gankit.training import checkpoint
from gankit.training.pictures import looking
from gankit.training.record import COLUMNS
from gankit.training.state import LOOKING, Training

NAMESPACES = ("loss", "energy", "term", "weight")  # of readings and knobs that are not a component's


class _RecordedKnobs(dict[str, Tensor]):
    """The knobs, with a record of those that the model reads."""

    def __init__(self, knobs: Mapping[str, Tensor]) -> None:
        super().__init__(knobs)
        self.read: set[str] = set()

    def __getitem__(self, knob: str) -> Tensor:
        self.read.add(knob)
        return super().__getitem__(knob)


def refuse_misfits(training: Training, batches: Batches) -> None:
    """Compute every update's losses once, on a separate random stream. Raises `UserError` for a misfit.

    It stores the losses, readings and learning rates before the first step in `training.start`.
    """
    knobs = _RecordedKnobs(training.knobs())
    terms = copy.deepcopy(training.terms)  # copies, because a term's memory begins with the first step
    readings: dict[str, Tensor] = {}
    with looking(training, LOOKING, 0), torch.enable_grad():
        for names in training.updates:
            step = _first_step(training, batches, names, knobs)
            for name, (_, term) in terms.items():
                _refuse_unmet(name, term, step, training)
            _refuse_other_shape(step)
            values = _values(training, step, terms, knobs)
            for name in names:
                if f"loss/{name}" not in values:
                    raise UserError(
                        f"model {training.model.name!r} gives no loss for the network {name!r} that it updates"
                    )
            for name, value in values.items():
                _refuse_no_scalar(name, value, training.model)
            _refuse_no_gradient(names, values, training)
            readings |= values
        _refuse_blind(training, step)
    _refuse_unmoved(training, readings)
    _refuse_no_tensors(training, terms)
    for name in (*readings, *training.logged):
        if name in COLUMNS:
            raise UserError(
                f"model {training.model.name!r} has a reading {name!r}, and each line of metrics.jsonl has gankit's "
                f"own of that name: call it {training.model.name}/{name}"
            )
    for name in (*training.controllers, *training.diagnostics):
        if name in NAMESPACES:
            raise UserError(f"{name!r} is no name for a controller or a diagnostic: gankit's own readings are {name}/…")
    training.start = training.rates | {name: float(value.detach()) for name, value in readings.items()}
    used = knobs.read | (training.model.initial.keys() - set(training.model.knobs))
    for name, controller in training.controllers.items():
        _refuse_idle(name, controller, used, training.model)
        _refuse_unled(name, controller, readings, training)


def _first_step(training: Training, batches: Batches, names: tuple[str, ...], knobs: Mapping[str, Tensor]) -> Step:
    """The first step's `Step` for the update of the networks `names`."""
    real, labels = batches.first()
    noise = training.model.latents(len(real), training.device)
    networks, sloped = training.callables(), training.sloped(names)
    return Step(training.model, 1, names, real, labels, noise, networks, knobs, training.view, sloped=sloped)


def _values(
    training: Training, step: Step, terms: Mapping[str, tuple[float, LossTerm]], knobs: _RecordedKnobs
) -> dict[str, Tensor]:
    """The losses, readings and terms of an update, by metric name. Raises `UserError` for a misfit."""
    model, names = training.model, step.updating
    try:
        losses = model.losses(step)
    except KeyError as error:
        if error.args[0] not in knobs.read - knobs.keys():
            raise
        raise UserError(f"model {model.name!r} needs a controller for {error}, and none here drives it") from None
    except RuntimeError as error:
        if step.labels is None or training.view.together == 1:
            raise
        raise UserError(
            f"--view: model {model.name!r} cannot tell D the labels of {training.view.together} items shown as "
            f"one ({error})"
        ) from None
    if not isinstance(losses, Losses):
        raise UserError(
            f"losses of model {model.name!r} returns {type(losses).__name__}: it must return "
            "gankit.Losses({network: its loss, …}, {reading: its value, …})"
        )
    values = {f"loss/{network}": loss for network, loss in losses.by_network.items()} | losses.readings
    for name, (_, term) in terms.items():
        if term.network in names:
            try:
                values[f"term/{name}"] = term(step)
            except KeyError as error:
                if error.args[0] not in knobs.read - knobs.keys():
                    raise
                raise UserError(f"--loss {name}: it needs a controller for {error}, and none here drives it") from None
    return values | {f"loss/{name}": terms[name][1].own_loss(step) for name in training.critics if name in names}


def _refuse_blind(training: Training, step: Step) -> None:
    """Raise for a diagnostic that can never look, needs what the model does not have, or cannot be saved."""
    for name, diagnostic in training.diagnostics.items():
        if type(diagnostic.every) is not int or diagnostic.every < 1:
            raise UserError(
                f"--diagnostic {name}: its `every` is {diagnostic.every!r}: it must be a whole number of steps, at "
                "least 1"
            )
        try:
            checkpoint.plain(diagnostic.state())
        except Exception as error:
            raise UserError(
                f"--diagnostic {name}: its state cannot be saved ({in_one_line(error)}): let `state` return numbers, "
                "texts, lists and dicts of them"
            ) from None
        unknown = diagnostic.needs - {"energy"}
        if unknown:
            raise UserError(f"--diagnostic {name}: it asks for {sorted(unknown)[0]!r}, which gankit does not know")
        if "energy" in diagnostic.needs and step.judged_real.energy is None:
            raise UserError(
                f"--diagnostic {name}: it needs a discriminator with an energy, and that of model "
                f"{training.model.name!r} gives none"
            )


def _refuse_idle(name: str, controller: Controller, used: set[str], model: Model) -> None:
    """Raise for a controller whose knob nothing reads."""
    idle = [knob for knob in controller.drives if knob not in used]
    if idle:
        raise UserError(
            f"--controller {name}: it drives {idle[0]!r}, which model {model.name!r} does not use"
            f"{nearest(idle[0], used)}. It uses: {', '.join(sorted(used))}"
        )


def _refuse_unled(name: str, controller: Controller, readings: Mapping[str, Tensor], training: Training) -> None:
    """Raise for a controller that asks for readings that nothing gives, or keeps its state where none is saved."""
    for reading in controller.follows:
        diagnostic = reading.partition("/")[0]
        if reading != SCORE and diagnostic not in training.diagnostics:
            raise UserError(
                f"--controller {name}: it follows {reading!r}, and no diagnostic {diagnostic!r} is on: "
                f"add --diagnostic {diagnostic}"
            )
    updated = copy.deepcopy(controller)
    try:
        own = updated.update(1, readings) or {}
    except KeyError as error:
        raise UserError(
            f"--controller {name}: it needs the reading {error}, which {training.model.name!r} does not give; "
            "those of diagnostics come to `observe`"
        ) from None
    for key, value in own.items():
        _refuse_no_scalar(f"{name}/{key}", value, training.model)
    if controller.follows:
        try:
            updated.observe(1, dict.fromkeys(controller.follows, 0.5))
        except KeyError as error:
            raise UserError(
                f"--controller {name}: its `observe` needs the reading {error}, which is not in its `follows`"
            ) from None
    _refuse_unsaved(name, controller, updated)


def _refuse_other_shape(step: Step) -> None:
    """Raise for latents or a generator's items of another number or shape than the data's."""
    if len(step.noise) != len(step.real):
        raise UserError(
            f"latents of model {step.model.name!r} gives {len(step.noise)} latents where n is {len(step.real)}: let it "
            "draw n"
        )
    if step.fake.shape != step.real.shape:
        here, there = tuple(step.fake.shape[1:]), tuple(step.real.shape[1:])
        raise UserError(
            f"model {step.model.name!r}: its generator gives items of shape {here}, and the data's are {there}: "
            "let it end in that shape (self.shape of the model, `shape` of a network pair)"
        )


def _refuse_no_gradient(names: tuple[str, ...], values: Mapping[str, Tensor], training: Training) -> None:
    """Raise for a network with none of whose weights its loss and terms are computed: it could not learn from them."""
    for name in names:
        terms = [values[f"term/{term}"] for term, (_, one) in training.terms.items() if one.network == name]
        if not any(_reaches(value, training.networks[name]) for value in (values[f"loss/{name}"], *terms)):
            raise UserError(
                f"loss/{name} of model {training.model.name!r} has no gradient for the network {name!r}, so its "
                "weights would not move: compute it from that network's output, without detach() or item()"
            )


def _refuse_unmoved(training: Training, readings: Mapping[str, Tensor]) -> None:
    """Raise for a network that has a loss and learns in no update."""
    moved = {name for names in training.updates for name in names}
    for name in training.networks:
        if f"loss/{name}" in readings and name not in moved:
            every = tuple(network for network in training.networks if network not in training.critics)
            raise UserError(
                f"model {training.model.name!r} gives a loss for the network {name!r}, and none of its `updates` names "
                f"it, so its weights would not move: let the property `updates` return {(every,)}, say"
            )


def _reaches(value: Tensor, network: nn.Module) -> bool:
    """Whether a weight of the network is in the graph of a value; nothing is computed."""
    weights = {id(weight) for weight in network.parameters()}
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if id(getattr(node, "variable", None)) in weights:
                return True
            nodes += [following for following, _ in node.next_functions]
    return False


def _refuse_no_scalar(name: str, value: Any, model: Model) -> None:
    """Raise for a loss or reading that is no scalar tensor, and for a loss that is not finite."""
    whose = f"{name} of model {model.name!r}"
    if not isinstance(value, Tensor):
        raise UserError(f"{whose} is {value!r}: it must be a 0-dim tensor")
    if value.numel() != 1:
        raise UserError(f"{whose} is no scalar: its shape is {tuple(value.shape)}; take the mean over the batch")
    if name.startswith(("loss/", "term/")) and not value.isfinite().all():
        raise UserError(f"{whose} is {float(value.detach())} before the first step: no weight could learn from it")


def _refuse_unsaved(name: str, before: Controller, after: Controller) -> None:
    """Raise for a controller whose state a checkpoint cannot save, or would not save."""
    try:
        safetensors.torch.save({key: t.detach().contiguous().cpu() for key, t in after.state_dict().items()})
    except Exception as error:
        raise UserError(
            f"--controller {name}: its state cannot be saved ({in_one_line(error)}); "
            "keep it in buffers of their own memory"
        ) from None
    for attribute, value in vars(after).items():
        was = vars(before).get(attribute)
        plain = isinstance(value, bool | int | float | str | list | tuple | dict | Tensor)
        if plain and not attribute.startswith(("_", "training")) and repr(value) != repr(was) and "0x" not in repr(was):
            raise UserError(
                f"--controller {name}: it remembers {attribute!r} outside its buffers ({was!r} became {value!r}), "
                "where no checkpoint would find it; register_buffer it"
            )


def _refuse_no_tensors(training: Training, terms: Mapping[str, tuple[float, LossTerm]]) -> None:
    """Raise for state of a network or of a term after its first step that is no tensor: no checkpoint holds it."""
    parts: dict[str, Mapping[str, Any]] = {f"--loss {name}": term.memory for name, (_, term) in terms.items()}
    parts |= {f"network {name!r}": network.state_dict() for name, network in training.networks.items()}
    for whose, state in parts.items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                raise UserError(
                    f"{whose}: its state {key!r} is {value!r:.60}, and a checkpoint holds tensors alone: keep it in one"
                )


def _refuse_unmet(name: str, term: LossTerm, step: Step, training: Training) -> None:
    """Raise for a loss term whose network or needs the model does not have."""
    model = training.model
    if term.network not in training.networks.keys() - set(training.critics):
        raise UserError(f"--loss {name}: model {model.name!r} has no network {term.network!r} to add it to")
    codes = {"code", "code as wide as the latent"}
    unknown = term.needs - codes - {"slope"}
    if unknown:
        raise UserError(f"--loss {name}: it asks for {sorted(unknown)[0]!r}, which gankit does not know")
    if not term.needs & codes:
        return
    code = step.judged_fake.code
    if code is None:
        raise UserError(
            f"--loss {name}: it needs a discriminator with an encoder, and that of model {model.name!r} gives no code"
        )
    if "code as wide as the latent" in term.needs and code.shape != step.noise.shape:
        raise UserError(
            f"--loss {name}: it needs a code for each latent, of its width; "
            f"here they are {tuple(code.shape)} and {tuple(step.noise.shape)}"
        )
