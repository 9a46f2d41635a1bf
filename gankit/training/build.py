"""Build a training at step 0 from its configuration."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from gankit.catalogue import Catalogue
from gankit.components import Controller, LossTerm
from gankit.config.resolve import shared
from gankit.config.schema import RunConfig
from gankit.data.batches import seed_of
from gankit.device import memory
from gankit.errors import UserError, nearest
from gankit.model import Model
from gankit.options import validate
from gankit.training.state import RATE, WEIGHTS, Displaced, Training, Views

NETWORK = re.compile(r"[A-Za-z0-9_-]+")  # a checkpoint's keys are NETWORK/WEIGHT


def build_model(
    config: RunConfig, shape: tuple[int, ...], catalogue: Catalogue, classes: Sequence[str] = ()
) -> tuple[Model, dict[str, nn.Module], Views]:
    """The model, its networks with the seed's initial weights, and the views.

    `shape` is that of one real item; `classes` are the names of the data's labels.
    """
    name = config.model["name"]
    cls = catalogue.get("models", name)
    settings = {key: value for key, value in config.model.items() if key != "name"}
    model = cls(validate(cls.Settings, settings, f"model {name!r}", "setting"), shape, classes)
    model.steps = config.steps
    views = Views([_component(catalogue, "views", view, table) for view, table in config.views.items()])
    pairs = [
        _component(
            catalogue, "networks", pair, shared(catalogue.get("networks", pair), settings, config.background) | table
        )
        for pair, table in config.networks.items()
    ]
    torch.manual_seed(seed_of(config.seed, WEIGHTS))
    networks = model.build_networks(pairs[0] if pairs else None, views.shape(shape))
    _refuse_other_networks(model, networks)
    return model, networks, views


def _refuse_other_networks(model: Model, networks: Any) -> None:
    """Raise `UserError` for networks, or updates of them, that a training cannot use."""
    whose = f"model {model.name!r}"
    if not isinstance(networks, dict) or not all(isinstance(one, nn.Module) for one in networks.values()):
        raise UserError(f"{whose}: build_networks returns {networks!r:.80}: it must be a dict from names to modules")
    there = ", ".join(map(repr, networks)) or "none"
    if "generator" not in networks:
        raise UserError(f"{whose}: build_networks gives no network 'generator', which samples need, but {there}")
    for name in (name for name in networks if not isinstance(name, str) or not NETWORK.fullmatch(name)):
        raise UserError(f"{whose} has a network {name!r}: its name must be of letters, digits, '_' and '-'")
    told: Any = model.updates
    if not _filled(told) or not all(map(_filled, told)):
        raise UserError(
            f"{whose}: its `updates` is {told!r}: it must be a tuple with a tuple of networks for each update, as "
            "(('discriminator',), ('generator',))"
        )
    for names in told:
        for name in names:
            if name not in networks:
                raise UserError(
                    f"{whose}: its `updates` names a network {name!r}{nearest(str(name), networks)}. There are: {there}"
                )
            if names.count(name) > 1:
                raise UserError(f"{whose}: its `updates` names the network {name!r} twice in one update: {names!r}")


def _filled(told: Any) -> bool:
    return isinstance(told, list | tuple) and bool(told)


def refuse_too_large(
    config: RunConfig, shape: tuple[int, ...], catalogue: Catalogue, classes: Sequence[str] = (), trained: bool = True
) -> None:
    """Raise `UserError` if the networks need more memory than the machine has, before any is taken.

    Without `trained` they have only weights, no gradients and moments.
    """
    try:
        with torch.device("meta"):  # shapes without memory
            networks = build_model(config, shape, catalogue, classes)[1]
        held = sum(weight.nbytes for network in networks.values() for weight in network.parameters())
    except Exception:  # a network that cannot be built so is built anyway, and fails by itself if it must
        return
    copies = 4 if trained else 1  # weights, gradients and two moments of Adam
    needed, there = copies * held, memory(config.device)
    if needed > there:
        what = "weights, gradients and moments" if trained else "weights"
        raise UserError(
            f"the networks' {what} need {needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB for them: "
            "choose smaller networks (for most: --set filters=N and --image-size S)"
        )


def build(config: RunConfig, shape: tuple[int, ...], catalogue: Catalogue, classes: Sequence[str] = ()) -> Training:
    """A training at step 0. `shape` is that of one real item; `classes` are the names of the data's labels."""
    model, networks, view = build_model(config, shape, catalogue, classes)
    device = torch.device(config.device)
    terms: dict[str, tuple[float, LossTerm]] = {}
    for name, table in config.losses.items():
        term = _component(catalogue, "losses", name, {k: v for k, v in table.items() if k != "weight"})
        terms[name] = table["weight"], term
        critic = term.build(view.shape(shape))
        if critic is not None and name in networks:
            raise UserError(f"--loss {name}: its network has the name of one of model {model.name!r}'s")
        if critic is not None:
            networks[name] = critic
    for network in networks.values():
        network.to(device)
        # Convolutions are faster so, and their gradients have this layout: fused Adam silently computes wrong
        # weights where a gradient's strides differ from its weight's.
        network.to(memory_format=torch.channels_last)
    optimizers = {
        name: _optimizer(terms[name][1].optimizer if name in terms else partial(model.optimizer, name), name, network)
        for name, network in networks.items()
    }
    model.initial = _initial(model, optimizers, terms)
    controllers, displaced = _controllers(config, model, catalogue)
    remaining = {name: config.controllers[name] for name in controllers}
    averaged = copy.deepcopy(networks["generator"]).requires_grad_(False)
    return Training(
        config=config.model_copy(update={"controllers": remaining}).with_yielding(()),
        model=model,
        device=device,
        networks=networks,
        averaged=averaged,
        optimizers=optimizers,
        controllers={name: controller.to(device) for name, controller in controllers.items()},
        displaced=displaced,
        terms=terms,
        view=view,
        diagnostics={
            name: _component(catalogue, "diagnostics", name, table) for name, table in config.diagnostics.items()
        },
        paced=paced((*networks.values(), averaged)) + view.views,
    )


def paced(networks: Iterable[torch.nn.Module]) -> list[Any]:
    """The modules of these networks whose `at_step` comes before each step."""
    return [module for network in networks for module in network.modules() if hasattr(module, "at_step")]


def _optimizer(make: Callable[[list[nn.Parameter]], Any], name: str, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a network's weights."""
    parameters = list(network.parameters())
    if not parameters:
        raise UserError(f"the network {name!r} has no weights to train: call it where it is used, as no network")
    made = make(parameters)
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"`optimizer` gives {made!r:.80} for the network {name!r}: it must return a torch optimizer")
    return made


class _Knobs(dict[str, float]):
    """Knobs by name; an unknown one is refused with the nearest."""

    def __missing__(self, knob: str) -> float:
        raise UserError(f"this run has no knob {knob!r}{nearest(knob, self)}. There are: {', '.join(self)}")


def _initial(
    model: Model, optimizers: Mapping[str, torch.optim.Optimizer], terms: Mapping[str, tuple[float, LossTerm]]
) -> Mapping[str, float]:
    """The value of every knob that needs no controller, by name."""
    knobs = _Knobs()
    for name, optimizer in optimizers.items():
        knobs[f"{RATE}{name}"] = float(optimizer.defaults["lr"] if name in terms else model.learning_rate(name))
        for one, decay in enumerate(optimizer.defaults.get("betas") or (), 1):
            knobs[f"beta{one}/{name}"] = decay
    knobs |= {f"weight/{name}": weight for name, (weight, _) in terms.items()} | {"ema": model.settings.ema}
    for name in model.knobs:
        value = getattr(model.settings, name, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"model {model.name!r}: {name!r} is among its knobs and is no setting with a number")
        knobs[name] = float(value)  # a whole number would be a tensor of another type
    return knobs


def _controllers(
    config: RunConfig, model: Model, catalogue: Catalogue
) -> tuple[dict[str, Controller], dict[str, Displaced]]:
    """One controller for each knob, and those of the model's own in whose place one of the user's is.

    Raises `UserError` for two of the user's, and for a setting of one that is displaced.
    """
    driver: dict[str, str] = {}
    kept: dict[str, Controller] = {}
    displaced: dict[str, Displaced] = {}
    for name, table in config.controllers.items():  # the user's come first
        cls = catalogue.get("controllers", name)
        controller = cls(cls.Options(**table), model)
        taken = [knob for knob in controller.drives if knob in driver]
        if taken and name not in config.yielding:
            raise UserError(f"controllers {driver[taken[0]]!r} and {name!r} both drive {taken[0]!r}: name one of them")
        if not taken:
            kept[name] = controller
            driver |= dict.fromkeys(controller.drives, name)
            continue
        displaced[name] = Displaced(driver[taken[0]], tuple(k for k in controller.drives if k not in driver))
        unread = [key for key in config.requested.get("set", {}) if key.startswith(f"{name}.")]
        if unread:
            raise UserError(
                f"--set {unread[0]}=… would be read by nothing: controller {driver[taken[0]]!r} drives {taken[0]!r} "
                f"in place of {name!r}. Leave out one of the two"
            )
    return kept, displaced


def _component(catalogue: Catalogue, kind: str, name: str | None, table: Mapping[str, Any]) -> Any:
    cls = catalogue.get(kind, name or "")
    made = cls(cls.Options(**table))
    if not hasattr(made, "options"):
        raise UserError(f"{cls.__name__}.__init__ must call super().__init__(options) first")
    return made
