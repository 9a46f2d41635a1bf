"""The loop. It reads from top to bottom, knows no model, and does everything at fixed multiples of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gankit.data.batches import Batches, seed_of
from gankit.model import Losses, Step
from gankit.runs.folder import RunFolder
from gankit.training import checkpoint
from gankit.training.interrupts import Interrupts
from gankit.training.record import Recorder
from gankit.training.state import UPDATES, Training


def update(
    training: Training, batches: Batches, number: int, which: int, knobs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Update number `which` of step `number`: the networks that the model names for it, those of terms, and no other.

    Each network's gradient is that of its own loss with respect to its own weights; all are taken before any weight
    moves. Returns the readings, 0-dim tensors still on the device: nothing here waits for it.
    """
    model, names = training.model, training.updates[which]
    torch.manual_seed(seed_of(training.config.seed, UPDATES, number, which))

    # Draw a batch and latents; the networks judge when the losses first look.
    real, labels = batches(number, which)
    noise = model.latents(len(real), training.device)
    step = Step(model, number, names, real, labels, noise, training.asked(), knobs, training.view)
    still = [p for name, network in training.networks.items() if name not in names for p in trained(network)]
    for parameter in still:  # nothing is computed for weights that this update does not move
        parameter.requires_grad_(False)

    # The model's losses and the extra terms.
    losses: Losses = model.losses(step)
    for term_name, (weight, term) in training.terms.items():
        if term.network in names:
            value = term(step)
            losses.by_network[term.network] = losses.by_network[term.network] + weight * value
            losses.readings[f"term/{term_name}"] = value
            if term_name in names:  # it has a network of its own
                losses.by_network[term_name] = term.own_loss(step)

    # Gradients of each loss for its own network alone, then the optimizers.
    for place, name in enumerate(names):
        parameters = trained(training.networks[name])
        again = place < len(names) - 1
        gradients = torch.autograd.grad(losses.by_network[name], parameters, retain_graph=again, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
    for name in names:
        optimizer, rate = training.optimizers[name], knobs[f"learning_rate/{name}"]
        for group in optimizer.param_groups:
            group["lr"] = rate if group.get("fused") else float(rate)
        optimizer.step()
    for parameter in still:
        parameter.requires_grad_(True)
    readings = {f"loss/{name}": losses.by_network[name] for name in names} | losses.readings
    return {name: value.detach() for name, value in readings.items()}


def trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights of a network that are not frozen by its model."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def step_once(training: Training, batches: Batches) -> dict[str, Tensor]:
    """One training step: every update, then the averaged generator and the controllers. Returns the readings."""
    number = training.number + 1
    for part in training.paced:
        part.at_step(number)
    knobs = training.knobs()
    readings: dict[str, Tensor] = {}
    for which in range(len(training.updates)):
        readings |= update(training, batches, number, which, knobs)
    average(training, number)
    for controller in training.controllers.values():
        controller.update(number, readings)
    training.number = number
    return readings | {name: value for name, value in knobs.items() if name.startswith("learning_rate/")}


@torch.no_grad()
def average(training: Training, number: int) -> None:
    """Move the averaged generator's weights towards the generator's; early on it follows closely."""
    decay = min(training.model.settings.ema, number / (number + 10))
    source, target = training.networks["generator"], training.averaged
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - decay)
    for buffer, new in zip(target.buffers(), source.buffers(), strict=True):
        buffer.copy_(new)


def scheduled(training: Training, step: int) -> bool:
    """Whether a line of metrics.jsonl is due at that step: fixed multiples, never the clock or the run's length."""
    everies = [d.every for name, d in training.diagnostics.items() if name not in training.disabled]
    return any(step % every == 0 for every in (training.config.log_every, *everies))


def sound(training: Training, readings: Mapping[str, Tensor]) -> bool:
    """Whether every number and weight is finite; those that are not are never saved over good ones.

    The weights as well: a finite loss can have a slope that is none, and the readings are from before it was followed.
    """
    weights = [weight for network in training.networks.values() for weight in network.parameters()]
    return bool(torch.stack([value.isfinite().all() for value in (*readings.values(), *weights)]).all())


def train(
    run: RunFolder,
    training: Training,
    batches: Batches,
    recorder: Recorder,
    interrupts: Interrupts,
    deadline: float = math.inf,
) -> dict[str, Any]:
    """Train to the configured length, or to the moment `deadline` of `time.perf_counter`.

    Returns what result.json says of it; where a rescue is to follow, `recorder.plan` says which.
    """
    config = training.config
    length = config.steps if config.steps is not None else float("inf")
    started, before, first = time.perf_counter(), training.seconds, training.number
    saved, readings = training.number, {}
    reason = "rescue" if recorder.plan else "alarm" if recorder.stopping else "steps"

    while reason == "steps" and training.number < length:
        # One step of the model's equations.
        readings = step_once(training, batches)
        number, elapsed = training.number, time.perf_counter() - started
        training.seconds = before + elapsed
        recorder.follow()

        # A line where one is due, with the readings of the diagnostics that look at this step.
        if scheduled(training, number):
            recorder.record(readings)
        alarmed = recorder.stopping or recorder.plan is not None
        if recorder.all_well(number):  # then what was saved before was well, too
            training.healthy = saved

        # Pictures and checkpoints.
        if number % config.sample_every == 0:
            recorder.sample()
        due = number % config.checkpoint_every == 0 or (recorder.unsaved and scheduled(training, number))
        if due and not alarmed and sound(training, readings):
            before_healthy = training.healthy
            if recorder.all_well(number):
                training.healthy = number
            if recorder.save():
                saved = number
            else:
                training.healthy = before_healthy

        # Reasons to end before the length is reached.
        if recorder.plan:
            reason = "rescue"
        elif recorder.stopping:
            reason = "alarm"
        elif interrupts.signal is not None:
            reason = interrupts.signal
        elif time.perf_counter() >= deadline:
            reason = "time"

    # The last step is kept, shown and logged wherever it fell.
    if training.number > first:
        if not scheduled(training, training.number):
            recorder.record(readings)
        if saved != training.number and reason not in ("alarm", "rescue") and sound(training, readings):
            checkpoint.save(run, training)
        if not run.sample_path(training.number).exists():
            recorder.sample()
    pace = (training.number - first) * recorder.pictures_a_step / max(training.seconds - before, 1e-9)
    return {
        "outcome": {"steps": "finished", "time": "stopped", "alarm": "stopped"}.get(reason, "interrupted"),
        "reason": reason,
        "steps": training.number,
        "seconds": round(training.seconds, 3),
        "images_per_second": round(pace, 1),
    }
