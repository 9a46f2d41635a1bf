"""The checks of models, networks, losses, controllers and views, by small trainings."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gankit.config.resolve import needed
from gankit.data.batches import Batches
from gankit.errors import UserError, in_one_line, place
from gankit.model import Step
from gankit.testing.subject import Failed, Subject, tensors
from gankit.training import checkpoint, loop
from gankit.training.loop import step_once, trained, update
from gankit.training.pictures import Showing, looking
from gankit.training.state import LOOKING, Training

SIZES = (16, 32, 48, 64, 128)  # sides of pictures to try
USUAL = (32, 64)  # the defaults of `gankit run` on a CPU and on a GPU
STEPS = 50
WAITING = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__")


def keeps_gradients_apart(subject: Subject) -> None:
    """Each network learns from its own loss only, and only in the updates that name it."""
    training, batches = subject.training()
    owners: dict[int, str] = {}
    for name, network in training.networks.items():
        for parameter in network.parameters():
            other = owners.setdefault(id(parameter), name)
            if other != name:
                raise Failed(
                    f"{other!r} and {name!r} share a weight", "give each network its own, or make them one network"
                )
    _refuse_secret_steps(training)
    knobs = training.knobs()
    for which, names in enumerate(training.updates):
        before = _parameters(training)
        update(training, batches, 1, which, knobs)
        after = _parameters(training)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        if moved - set(names):
            raise Failed(
                f"update {which} moves {sorted(moved - set(names))[0]!r}", f"it names {', '.join(names)} alone"
            )
        if set(names) - moved:
            raise Failed(
                f"update {which} does not move {sorted(set(names) - moved)[0]!r}: its loss depends on no weight of it",
                "do not detach what the network gives in its own loss; leave it out of `updates` if it never learns",
            )
    alone = _gradients(subject, None)
    for larger in training.networks:
        for name, gradient in _gradients(subject, larger).items():
            if name != larger and not torch.allclose(gradient, alone[name], rtol=1e-3, atol=1e-9):
                raise Failed(
                    f"the gradient of {name!r} grows with the loss of {larger!r}",
                    "let `losses` return a loss for each network and take no step or backward of its own",
                )


def _refuse_secret_steps(training: Training) -> None:
    losses_of = training.model.losses

    def watched(step: Any) -> Any:
        before = _parameters(training)
        losses = losses_of(step)
        changed = [name for name, value in _parameters(training).items() if not torch.equal(value, before[name])]
        if changed:
            raise Failed(f"`losses` itself changes the weights of {changed[0]!r}", "leave the steps to the runner")
        return losses

    training.model.losses = watched  # type: ignore[method-assign]


def _parameters(training: Training) -> dict[str, Tensor]:
    return {
        name: torch.cat([p.detach().flatten() for p in (trained(network) or network.parameters())])
        for name, network in training.networks.items()
    }


def _gradients(subject: Subject, larger: str | None) -> dict[str, Tensor]:
    """The gradients of the first update of each network, with the loss of `larger` multiplied by 1000."""
    training, batches = subject.training()
    losses_of, gradients = training.model.losses, {}

    def scaled(step: Any) -> Any:
        losses = losses_of(step)
        if larger in losses.by_network:
            losses.by_network[larger] = 1000 * losses.by_network[larger]
        return losses

    training.model.losses = scaled  # type: ignore[method-assign]
    rates = {name: torch.zeros(()) if name.startswith("learning_rate/") else v for name, v in training.knobs().items()}
    for which, names in enumerate(training.updates):  # at a rate of 0, so that all are at the same weights
        update(training, batches, 1, which, rates)
        for name in names:
            grads = [p.grad.flatten() for p in trained(training.networks[name]) if p.grad is not None]
            gradients[name] = torch.cat(grads)
    return gradients


def survives_a_checkpoint(subject: Subject) -> None:
    """A training resumed from a checkpoint is bit-identical to the unbroken one."""
    whole, batches = subject.training()
    session = subject.session(whole, batches, "checkpointed")
    session.recorder.close()
    steps(whole, batches, 3)
    checkpoint.save(session.recorder.run, whole)
    steps(whole, batches, 3)
    again, batches = subject.training()
    checkpoint.load(session.recorder.run, 3, again)
    steps(again, batches, 3)
    refuse_difference(
        tensors(whole),
        tensors(again),
        "after a resume {} is another",
        "keep all that is remembered between steps in buffers (register_buffer), in weights, or in a term's memory",
    )


def follows_from_its_seed(subject: Subject) -> None:
    """The same seed gives the same numbers, whatever random numbers were drawn before; another seed gives others."""
    results, initial = [], []
    for disturbed, seed in ((1, 0), (2, 0), (3, 1)):
        with torch.random.fork_rng(devices=[]):
            random.seed(disturbed)
            np.random.seed(disturbed)
            torch.manual_seed(disturbed)
            training, batches = subject.training(seed=seed)
            initial.append(_parameters(training))
            for _ in range(2):
                torch.rand(disturbed)
                step_once(training, batches)
        results.append(tensors(training))
    refuse_difference(
        results[0],
        results[1],
        "with the same seed {} is another",
        "draw from torch's own stream (torch.rand and so on): it is seeded before every update; Python's and NumPy's "
        "are not, nor is a generator of your own",
    )
    if all(torch.equal(initial[0][name], initial[2][name]) for name in initial[0]):
        raise Failed(
            "another seed gives the same weights", "do not seed torch yourself; draw weights in build_networks"
        )


def waits_for_no_device(subject: Subject) -> None:
    """No code in a step reads a tensor's value, which on a GPU would make the program wait."""
    training, batches = subject.training()
    kept = {name: vars(Tensor).get(name, getattr(Tensor, name)) for name in WAITING}

    def waits(name: str) -> Callable[..., Any]:
        def refuse(*values: Any, **keywords: Any) -> Any:
            caller = sys._getframe(1)
            within = str(caller.f_globals.get("__name__"))
            on_host = within == loop.__name__ or within.startswith("torch.optim.")  # what they set lies there
            if on_host or caller.f_code is Step.at_zero.__code__:
                return kept[name](*values, **keywords)
            raise Failed(
                f"Tensor.{name} is called in a step, and waits for the device",
                "compute with tensors (torch.where for an if), and let the log read the values",
            )

        return refuse

    inherited = [name for name in WAITING if name not in vars(Tensor)]
    try:
        for name in WAITING:
            setattr(Tensor, name, waits(name))
        steps(training, batches, 2)
    except Failed as failed:
        where = place(failed)
        raise Failed(f"{failed.what}{f': {where}' if where else ''}", failed.do) from failed
    finally:
        for name, value in kept.items():
            if name in inherited:
                delattr(Tensor, name)
            else:
                setattr(Tensor, name, value)


def works_in_bf16(subject: Subject) -> None:
    """Under bf16, as on a GPU, all numbers are finite and the losses are float32."""
    training, batches = subject.training(precision="bf16")
    for _ in range(3):
        readings = step_once(training, batches)
    half = [name for name, value in readings.items() if value.dtype != torch.float32]
    if half:
        raise Failed(
            f"{half[0]} is {readings[half[0]].dtype}", "compute losses in float32; call networks by step.networks"
        )
    _refuse_broken(training, readings, 3)


def trains_fifty_steps(subject: Subject) -> None:
    """Fifty steps at its own settings give finite numbers only."""
    training, batches = subject.training()
    for number in range(1, STEPS + 1):
        _refuse_broken(training, step_once(training, batches), number)


def shows_its_own_readings(subject: Subject) -> None:
    """Each name in `shown` is a reading of every step or of one of the run's diagnostics."""
    training, batches = subject.training()
    readings = step_once(training, batches)
    diagnostics = tuple(f"{name}/" for name in training.config.diagnostics)
    for label, name in training.model.shown.items():
        if name not in readings and not name.startswith(diagnostics):
            raise Failed(f"`shown` has {label!r}, but no step logs {name!r}", f"write one of {', '.join(readings)}")


def _refuse_broken(training: Training, readings: Mapping[str, Tensor], number: int) -> None:
    broken = [name for name, value in readings.items() if not value.isfinite().all()]
    broken += [f"weights of {n!r}" for n, w in _parameters(training).items() if not w.isfinite().all()]
    if broken:
        raise Failed(f"{broken[0]} is not finite at step {number}", "look for a division, a root or a log of 0")


def builds_at_every_size(subject: Subject) -> str | None:
    """Every picture size builds or raises a UserError; the usual sizes build."""
    training, batches = subject.training()
    if len(batches.data.shape) != 3:
        _refuse_shape(training, batches)
        return f"it is tried on points, {subject.options['data']}"
    pair = next(iter(training.config.networks), None)
    declared = subject.catalogue.get("networks", pair).sizes if pair else ()
    for size in declared or SIZES:
        try:
            training, batches = subject.training(image_size=size)
        except UserError as error:
            if declared or size in USUAL:
                raise Failed(
                    f"pictures of {size}×{size} are refused: {error}", "build them, or declare `sizes`"
                ) from None
            continue
        except Exception as error:
            raise Failed(
                f"at {size}×{size}: {in_one_line(error)}",
                "raise gankit.UserError for a shape that cannot be built, or declare a pair's `sizes`",
            ) from error
        _refuse_shape(training, batches)
    return None


def says_what_its_discriminator_gives(subject: Subject) -> str | None:
    """A pair declares what its discriminator answers, and a model on a pair what it needs: misfits are refused so."""
    training, batches = subject.training()
    pair = next(iter(training.config.networks), None)
    if pair is None:
        return "the model builds its networks itself"
    if subject.kind == "models":
        if not needed(subject.cls, subject.catalogue):
            raise Failed(
                f"{subject} does not say what it needs of a discriminator: it could be put on networks of another kind",
                'write needs = frozenset({"score"}), or {"reconstruction"}, in its class; or `gives` in its pair\'s',
            )
        return None
    with looking(training, LOOKING, 0):
        seen = training.view(batches(1, 0)[0])
        judged = training.callables()["discriminator"](seen)
    given = {"reconstruction" if judged.output.shape == seen.shape else "score"}
    given |= {"code"} if judged.code is not None else set()
    if subject.cls.gives != given:
        words = ", ".join(f'"{word}"' for word in sorted(given))
        said = ", ".join(sorted(subject.cls.gives)) or "nothing"
        raise Failed(f"it declares that D gives {said}", f"write gives = frozenset({{{words}}}), which D gives")
    return None


def _refuse_shape(training: Training, batches: Batches) -> None:
    shape, showing = batches.data.shape, Showing(training, batches.data)
    for n in (1, 3):
        with looking(training, LOOKING, 0):
            fake = showing.generate(n)
        if fake.shape != (n, *shape) or not fake.isfinite().all():
            raise Failed(
                f"{n} generated items of {shape} have the shape {tuple(fake.shape)}, finite: {fake.isfinite().all()}",
                "let `generate` return (n, *model.shape), for any n and in eval mode too",
            )


def gives_plain_values(subject: Subject) -> None:
    """The value of each knob that a controller drives is a finite 0-dim float32 tensor, before and after steps."""
    training, batches = subject.training()
    for _ in range(2):
        controller = training.controllers[subject.name]
        for knob in controller.drives:
            value = controller.value(knob)
            if value.shape != () or value.dtype != torch.float32 or not value.isfinite():
                raise Failed(f"the value of {knob!r} is {value!r}", "return a finite 0-dim float32 tensor")
        steps(training, batches, 2)


def lets_gradients_through(subject: Subject) -> None:
    """The generator learns through a view: its output has a gradient for the pictures."""
    training, batches = subject.training()
    real = batches(1, 0)[0].clone().requires_grad_()
    shown = training.view.views[0](real)
    if not shown.requires_grad:
        raise Failed("what is shown has no gradient", "use differentiable operations of torch alone, without detach")
    (gradient,) = torch.autograd.grad(shown.square().sum(), real)
    if not gradient.isfinite().all() or not gradient.any():
        raise Failed("the gradient of what is shown is 0 or not finite", "let the view depend on the pictures' values")


def refuse_difference(one: dict[str, Tensor], other: dict[str, Tensor], what: str, do: str) -> None:
    for name in one.keys() | other.keys():
        if name not in one or name not in other or not torch.equal(one[name], other[name]):
            raise Failed(what.format(name), do)


def steps(training: Training, batches: Batches, n: int) -> None:
    for _ in range(n):
        step_once(training, batches)
        followed = {name for controller in training.controllers.values() for name in controller.follows}
        training.tell(dict.fromkeys(followed, training.number % 7 / 7))
