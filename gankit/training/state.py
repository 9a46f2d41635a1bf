"""Everything that a training is made of, built from its configuration."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gankit.catalogue import Catalogue
from gankit.components import Controller, Diagnostic, LossTerm, View
from gankit.config.resolve import RunConfig, controller_instances, validate
from gankit.data.batches import Batches, seed_of, to_float
from gankit.data.source import Data
from gankit.errors import UserError, told
from gankit.model import Judged, Model, Networks, Step

# Streams of random numbers, kept apart: SeedSequence(seed, stream, …).
WEIGHTS, UPDATES, LATENTS, LOOKING = 10, 11, 12, 13


@dataclass
class Training:
    """A training in memory. `number` is the last step done; `seconds` the time spent training, over all starts."""

    config: RunConfig
    model: Model
    device: torch.device
    networks: dict[str, nn.Module]
    averaged: nn.Module  # the generator's moving average, which is what is shown
    optimizers: dict[str, torch.optim.Optimizer]
    controllers: dict[str, Controller]
    terms: dict[str, tuple[float, LossTerm]]
    view: Views
    diagnostics: dict[str, Diagnostic]
    paced: list[Any] = field(default_factory=list)  # modules and views that are told of each step before it
    number: int = 0
    seconds: float = 0.0
    attempt: int = 1
    since: int = 0  # the step that this attempt began at
    healthy: int = 0  # the last checkpoint at which no diagnostic saw anything wrong; it is kept
    verdicts: dict[str, bool] = field(default_factory=dict)  # diagnostic -> whether all was well at its last look
    disabled: dict[str, str] = field(default_factory=dict)  # diagnostics that raised, with the reason
    start: dict[str, float] = field(default_factory=dict)  # losses, readings, learning rates before the first step

    def asked(self, networks: Mapping[str, nn.Module] | None = None) -> Networks:
        """The networks as callables under this run's precision; what they return is float32."""
        bf16 = self.config.precision == "bf16"
        return {name: Asked(module, self.device.type, bf16) for name, module in (networks or self.networks).items()}

    @property
    def critics(self) -> list[str]:
        """The terms that have a network of their own."""
        return [name for name in self.terms if name in self.networks]

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each network at the start."""
        own = {name: self.optimizers[name].defaults["lr"] for name in self.critics}
        return own | {name: self.model.learning_rate(name) for name in self.networks if name not in own}

    @property
    def updates(self) -> list[tuple[str, ...]]:
        """The networks that each update moves: the model's, and those of terms that are added to one of them."""
        return [
            (*names, *(name for name in self.critics if self.terms[name][1].network in names))
            for names in self.model.updates
        ]

    def knobs(self) -> dict[str, Tensor]:
        """Every controller's value for the next step, and the learning rates that none drives."""
        values = {
            f"learning_rate/{name}": torch.full((), rate, device=self.device) for name, rate in self.rates.items()
        }
        for controller in self.controllers.values():
            values |= {knob: controller.value(knob).clone() for knob in controller.drives}
        return values


class Asked:
    """A network as a callable under a precision; the tensors that it returns are float32 at least."""

    def __init__(self, module: nn.Module, device: str, bf16: bool) -> None:
        self.module, self.device, self.bf16 = module, device, bf16

    def __call__(self, *inputs: Tensor) -> Any:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return _single(self.module(*inputs))


def _single(out: Any) -> Any:
    if isinstance(out, Judged):
        return Judged(_single(out.output), _single(out.code), _single(out.energy))
    if isinstance(out, tuple):
        return tuple(_single(part) for part in out)
    return out.float() if isinstance(out, Tensor) and out.dtype in (torch.bfloat16, torch.float16) else out


class Views:
    """The named views, one after the other."""

    def __init__(self, views: list[View]) -> None:
        self.views = views

    def __call__(self, batch: Tensor) -> Tensor:
        for view in self.views:
            batch = view(batch)
        return batch

    @property
    def together(self) -> int:
        """How many items are shown as one."""
        return math.prod(view.together for view in self.views)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for view in self.views:
            shape = view.shape(shape)
        return shape


def build_model(
    config: RunConfig, shape: tuple[int, ...], catalogue: Catalogue, classes: Sequence[str] = ()
) -> tuple[Model, dict[str, nn.Module], Views]:
    """The model, its networks with the weights that the seed gives, and what D is shown.

    `classes`: the names of the data's labels.
    """
    name = config.model["name"]
    cls = catalogue.get("models", name)
    given = {**cls.Settings.absent, **{key: value for key, value in config.model.items() if key != "name"}}
    model = cls(validate(cls.Settings, given, f"model {name!r}", "setting"), shape, classes)
    views = Views([_component(catalogue, "views", view, table) for view, table in config.views.items()])
    pair = (
        _component(catalogue, "networks", model.networks, config.networks[model.networks]) if model.networks else None
    )
    torch.manual_seed(seed_of(config.seed, WEIGHTS))
    return model, model.build_networks(pair, views.shape(shape)), views


def build(config: RunConfig, shape: tuple[int, ...], catalogue: Catalogue, classes: Sequence[str] = ()) -> Training:
    """A training at step 0. `shape` is of one real item; `classes` are the names of the data's labels."""
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
        # Convolutions are faster so, and their gradients come in this layout: fused Adam was measured to go
        # wrong without a word where a gradient's strides are not its weight's.
        network.to(memory_format=torch.channels_last)
    return Training(
        config=config,
        model=model,
        device=device,
        networks=networks,
        averaged=copy.deepcopy(networks["generator"]).requires_grad_(False),
        optimizers={
            name: terms[name][1].optimizer(parameters) if name in terms else model.optimizer(name, parameters)
            for name, parameters in ((name, list(network.parameters())) for name, network in networks.items())
        },
        controllers={name: item.to(device) for name, item in controller_instances(config, model, catalogue).items()},
        terms=terms,
        view=view,
        diagnostics={
            name: _component(catalogue, "diagnostics", name, table) for name, table in config.diagnostics.items()
        },
        paced=[m for n in networks.values() for m in n.modules() if hasattr(m, "at_step")] + view.views,
    )


def _component(catalogue: Catalogue, kind: str, name: str | None, table: Mapping[str, Any]) -> Any:
    cls = catalogue.get(kind, name or "")
    return cls(cls.Options(**{**cls.Options.absent, **table}))


class _Noting(dict[str, Tensor]):
    """The knobs, and which of them a model asked for."""

    def __init__(self, knobs: Mapping[str, Tensor]) -> None:
        super().__init__(knobs)
        self.asked: set[str] = set()

    def __getitem__(self, knob: str) -> Tensor:
        self.asked.add(knob)
        return super().__getitem__(knob)


def refuse_misfits(training: Training, batches: Batches) -> None:
    """One step without consequence: what does not fit the model is refused in one line before anything is written."""
    model, knobs = training.model, _Noting(training.knobs())
    terms = copy.deepcopy(training.terms)  # what a term remembers begins with the first step
    readings: dict[str, Tensor] = {}
    gives_energy = False
    with looking(training, LOOKING, 0), torch.enable_grad():
        for names in training.updates:
            real, labels = batches(1, 0)
            noise = model.latents(len(real), training.device)
            step = Step(model, 1, names, real, labels, noise, training.asked(), knobs, training.view)
            for name, (_, term) in terms.items():
                _refuse_unmet(name, term, step, model, training)
            try:
                losses = model.losses(step)
            except KeyError as error:
                if error.args[0] not in knobs.asked - knobs.keys():
                    raise
                raise UserError(
                    f"model {model.name!r} needs a controller for {error}, and none here drives it"
                ) from None
            except RuntimeError as error:
                if labels is None or training.view.together == 1:
                    raise
                raise UserError(
                    f"--view: model {model.name!r} cannot tell D the labels of {training.view.together} items shown as "
                    f"one ({error})"
                ) from None
            found = {f"loss/{network}": loss for network, loss in losses.by_network.items()} | losses.readings
            found |= {f"term/{name}": t(step) for name, (_, t) in terms.items() if t.network in names}
            found |= {f"loss/{name}": terms[name][1].own_loss(step) for name in training.critics if name in names}
            missing = [name for name in names if f"loss/{name}" not in found]
            if missing:
                raise UserError(f"model {model.name!r} gives no loss for the network {missing[0]!r} that it updates")
            for name, value in found.items():
                _refuse_no_scalar(name, value, model)
            readings |= found
            if any(diagnostic.needs for diagnostic in training.diagnostics.values()):
                gives_energy = step.judged_real.energy is not None
    training.start = {f"learning_rate/{name}": rate for name, rate in training.rates.items()}
    training.start |= {name: float(value.detach()) for name, value in readings.items()}
    used = knobs.asked | {f"learning_rate/{network}" for network in training.networks}
    for name, diagnostic in training.diagnostics.items():
        unknown = diagnostic.needs - {"energy"}
        if unknown:
            raise UserError(f"--diagnostic {name}: it asks for {sorted(unknown)[0]!r}, which gankit does not know")
        if "energy" in diagnostic.needs and not gives_energy:
            raise UserError(
                f"--diagnostic {name}: it needs a discriminator with an energy, and that of model {model.name!r} "
                "gives none"
            )
    for name, controller in training.controllers.items():
        idle = [knob for knob in controller.drives if knob not in used]
        if idle:
            raise UserError(f"--controller {name}: it drives {idle[0]!r}, which model {model.name!r} does not use")
        looked = copy.deepcopy(controller)
        try:
            looked.update(1, readings)
        except KeyError as error:
            raise UserError(
                f"--controller {name}: it needs the reading {error}, which {model.name!r} does not give"
            ) from None
        _refuse_unsaved(name, controller, looked)


def _refuse_no_scalar(name: str, value: Any, model: Model) -> None:
    """A loss or reading that is no number, or a loss that is none of the finite ones before it has taught anything."""
    whose = f"{name} of model {model.name!r}"
    if not isinstance(value, Tensor):
        raise UserError(f"{whose} is {value!r}: it must be a 0-dim tensor")
    if value.numel() != 1:
        raise UserError(f"{whose} is no scalar: its shape is {tuple(value.shape)}; take the mean over the batch")
    if name.startswith(("loss/", "term/")) and not value.isfinite().all():
        raise UserError(f"{whose} is {float(value.detach())} before the first step: no weight could learn from it")


def _refuse_unsaved(name: str, before: Controller, after: Controller) -> None:
    """A controller that a resume would begin anew, or that no checkpoint could be written of."""
    try:
        safetensors.torch.save({key: t.detach().contiguous().cpu() for key, t in after.state_dict().items()})
    except Exception as error:
        raise UserError(
            f"--controller {name}: its state cannot be saved ({told(error)}); keep it in buffers of their own memory"
        ) from None
    for attribute, value in vars(after).items():
        was = vars(before).get(attribute)
        plain = isinstance(value, bool | int | float | str | list | tuple | dict | Tensor)
        if plain and not attribute.startswith(("_", "training")) and repr(value) != repr(was) and "0x" not in repr(was):
            raise UserError(
                f"--controller {name}: it remembers {attribute!r} outside its buffers ({was!r} became {value!r}), "
                "where no checkpoint would find it; register_buffer it"
            )


def _refuse_unmet(name: str, term: LossTerm, step: Step, model: Model, training: Training) -> None:
    if term.network not in training.networks.keys() - set(training.critics):
        raise UserError(f"--loss {name}: model {model.name!r} has no network {term.network!r} to add it to")
    unknown = term.needs - {"code", "code as wide as the latent"}
    if unknown:
        raise UserError(f"--loss {name}: it asks for {sorted(unknown)[0]!r}, which gankit does not know")
    if not term.needs:
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


@contextmanager
def looking(training: Training, *stream: int) -> Iterator[None]:
    """Eval mode, no gradients, and a random stream of its own; all is put back afterwards."""
    modules = [*training.networks.values(), training.averaged]
    modes = [module.training for module in modules]
    cuda = [training.device] if training.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed_of(training.config.seed, *stream))
        try:
            for module in modules:
                module.eval()
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.train(mode)


class Showing:
    """The pictures that a training can show: generated from fixed or fresh latents, and real ones."""

    def __init__(self, training: Training, data: Data | None) -> None:
        self.training, self.data = training, data

    def generate(self, n: int, averaged: bool = True, batch: int = 64) -> Tensor:
        """`n` pictures (n, C, S, S), clipped to [-1, 1] (points as they are), from torch's own random stream."""
        training = self.training
        networks = dict(training.networks)
        if averaged:
            networks["generator"] = training.averaged
        noise = training.model.latents(n, training.device)
        labels = None
        if self.data is not None and self.data.labels is not None:
            spread = self.data.labels[:: max(1, len(self.data.labels) // n)]
            labels = torch.from_numpy(np.resize(spread, n)).to(training.device)  # again from the first, where too few
        asked = training.asked(networks)
        made = [
            training.model.generate(asked, noise[i : i + batch], None if labels is None else labels[i : i + batch])
            for i in range(0, n, batch)
        ]
        fake = torch.cat(made)
        return fake.clamp(-1, 1) if fake.ndim == 4 else fake

    def real(self, n: int, held_out: bool = False) -> Tensor:
        """At most `n` real pictures, spread over the set."""
        assert self.data is not None
        source = self.data.held_out if held_out else self.data.train
        chosen = source[:: max(1, len(source) // max(n, 1))][:n]
        return to_float(torch.from_numpy(chosen.copy())).to(self.training.device)

    def judge(self, pictures: Tensor, labels: Tensor | None = None) -> Judged:
        """D's answer to pictures, as it is shown them; a rest that is too few to be shown is left out."""
        training = self.training
        whole = len(pictures) - len(pictures) % training.view.together
        return training.model.judge(training.asked(), training.view(pictures[:whole]), labels)

    def fixed(self, n: int) -> Tensor:
        """The same latents at every sampling step, through the averaged generator."""
        with looking(self.training, LATENTS):
            return self.generate(n)
