"""The training loop. It knows no model, and does everything at fixed multiples of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gankit.builtin.vitals import LOST, lost
from gankit.components import Continue, Return, Stop
from gankit.data.batches import Batches, seed_of
from gankit.data.places import PicturesGone
from gankit.model import DECISIVE, Losses, Step
from gankit.training import checkpoint
from gankit.training.diagnose import Decided, Watch
from gankit.training.interrupts import Interrupts
from gankit.training.pictures import Showing
from gankit.training.ranks import Ranks
from gankit.training.record import Recorder
from gankit.training.state import UPDATES, Training
from gankit.training.threads import Threads


def update(
    training: Training,
    batches: Batches,
    number: int,
    which: int,
    knobs: Mapping[str, Tensor],
    ranks: Ranks | None = None,
) -> dict[str, Tensor]:
    """Update number `which` of step `number`: of the networks that the model names for it and those of their terms.

    Each network's gradient is that of its own loss with respect to its own weights, all computed before any weight
    moves. Returns the readings, 0-dim tensors on the device, without waiting for it.
    """
    model, names = training.model, training.updates[which]
    stream = (training.config.seed, UPDATES, number, which)
    torch.manual_seed(seed_of(*stream))

    # The batch and the latents; the networks run when a loss first reads their outputs.
    real, labels = batches(number, which)
    noise = model.latents(len(real), training.device)
    networks, sloped = training.callables(), training.sloped(names)
    if ranks:
        networks = ranks.divided(networks, *stream)
    step = Step(model, number, names, real, labels, noise, networks, knobs, training.view, sloped=sloped)
    still = [p for name, network in training.networks.items() if name not in names for p in trained(network)]
    for parameter in still:  # compute no gradient for weights that this update does not move
        parameter.requires_grad_(False)

    # The model's losses and the extra terms, in one region: autocast rounds each weight to bf16 once for all passes.
    with torch.autocast(training.device.type, enabled=False):
        losses: Losses = model.losses(step)
        for term_name, (weight, term) in training.terms.items():
            if term.network in names:
                value = term(step)
                weighted = knobs.get(f"weight/{term_name}", weight) * value
                losses.by_network[term.network] = losses.by_network[term.network] + weighted
                losses.readings[f"term/{term_name}"] = value
                if term_name in names:  # it has a network of its own
                    losses.by_network[term_name] = term.own_loss(step)

    # The gradient of each loss for its own network only, then the optimizers.
    for place, name in enumerate(names):
        parameters = trained(training.networks[name])
        again = place < len(names) - 1
        gradients = torch.autograd.grad(losses.by_network[name], parameters, retain_graph=again, materialize_grads=True)
        if ranks:
            gradients = tuple(ranks.added(gradients))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
    for name in names:
        _set(training.optimizers[name], name, knobs)
        training.optimizers[name].step()
    for _, term in training.terms.values():  # a part of the graph in a memory would keep that of all steps
        term.memory.update({key: kept.detach() for key, kept in term.memory.items() if kept.requires_grad})
    for parameter in still:
        parameter.requires_grad_(True)
    readings = {f"loss/{name}": losses.by_network[name] for name in names} | losses.readings
    return {name: value.detach() for name, value in readings.items()}


def _set(optimizer: torch.optim.Optimizer, name: str, knobs: Mapping[str, Tensor]) -> None:
    """Set the learning rate of network `name`, and Adam's decay rates if a controller drives them."""
    rate, decays = knobs[f"learning_rate/{name}"], [knobs.get(f"beta{one}/{name}") for one in (1, 2)]
    for group in optimizer.param_groups:
        group["lr"] = rate if group.get("fused") else float(rate)
        if any(decay is not None for decay in decays):
            pairs = zip(decays, group["betas"], strict=True)
            group["betas"] = tuple(old if decay is None else float(decay) for decay, old in pairs)


def trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights of a network that its model has not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def step_once(training: Training, batches: Batches, ranks: Ranks | None = None) -> dict[str, Tensor]:
    """One training step: every update, then the averaged generator and the controllers. Returns the readings.

    Of several processes, process 0 alone moves the controllers. Raises `PicturesGone` before anything
    changes if pictures of a stream cannot be read any more.
    """
    number = training.number + 1
    batches.fetch(number, ranks)
    for part in training.paced:
        part.at_step(number)
    knobs = ranks.share_knobs(training.knobs()) if ranks else training.knobs()
    readings: dict[str, Tensor] = {}
    for which in range(len(training.updates)):
        readings |= update(training, batches, number, which, knobs, ranks)
    average(training, number, knobs.get("ema"))
    own: dict[str, Tensor] = {}
    for name, controller in training.controllers.items() if ranks is None or ranks.first else ():
        own |= {f"{name}/{key}": value for key, value in (controller.update(number, readings) or {}).items()}
    training.number, training.score = number, None  # it has none until somebody looks at its samples
    return readings | {name: knobs[name] for name in training.logged} | own


@torch.no_grad()
def average(training: Training, number: int, driven: Tensor | None = None) -> None:
    """Update the averaged generator with the decay `ema`, a smaller one in the first steps; buffers are copied.

    Its own batch statistics come where it is shown (`Showing.settle`).
    """
    decay = min(training.model.settings.ema if driven is None else float(driven), number / (number + 10))
    source, target = training.networks["generator"], training.averaged
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - decay)
    for buffer, new in zip(target.buffers(), source.buffers(), strict=True):
        buffer.copy_(new)


def scheduled(training: Training, step: int) -> bool:
    """Whether metrics.jsonl gets a line at that step; it depends on the step alone, not on time or the run's length."""
    everies = [d.every for name, d in training.diagnostics.items() if name not in training.disabled]
    return any(step % every == 0 for every in (training.config.log_every, *everies))


def sound(training: Training, readings: Mapping[str, Tensor]) -> bool:
    """Whether every loss, energy and weight is finite, so that the checkpoint is worth saving.

    The weights count because gradients can be NaN for a finite loss, and because the readings precede the update.
    """
    decisive = [value for name, value in readings.items() if name.startswith(DECISIVE)]
    weights = [weight for network in training.networks.values() for weight in network.parameters()]
    return bool(torch.stack([value.isfinite().all() for value in (*decisive, *weights)]).all())


@dataclass(frozen=True)
class Ending:
    """The end of an attempt."""

    reason: str  # steps, time, alarm, rescue or a signal's name
    decided: Decided
    steps: int
    seconds: float
    pace: float  # images a second

    @property
    def result(self) -> dict[str, Any]:
        """Its part of result.json."""
        return {
            "outcome": {"steps": "finished", "time": "stopped", "alarm": "stopped"}.get(self.reason, "interrupted"),
            "reason": self.reason,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.pace, 1),
        }


@dataclass(frozen=True)
class Session:
    """A training with its batches, recorder and watch."""

    training: Training
    batches: Batches
    showing: Showing
    recorder: Recorder
    watch: Watch
    threads: Threads
    ranks: Ranks | None = None  # this process among several

    def observe(self, readings: Mapping[str, Tensor]) -> Decided:
        """Write the line of the last step, call the diagnostics and decide on their alarms."""
        return self.watch.observe(self.recorder.line(readings))


class Saves:
    """Checkpoints at fixed multiples of steps."""

    def __init__(self, session: Session) -> None:
        self.session, self.last, self.overdue = session, session.training.number, False

    def save_if_due(self, readings: Mapping[str, Tensor]) -> None:
        """Save at a multiple, or, after a full disk, at the next line."""
        training, watch = self.session.training, self.session.watch
        number, healthy = training.number, training.healthy
        due = number % training.config.checkpoint_every == 0 or (self.overdue and scheduled(training, number))
        if not due or not sound(training, readings):
            return
        if watch.all_well(number):
            training.healthy = number
        self.session.showing.settle()
        self.overdue = not self.session.recorder.save()
        if self.overdue:
            training.healthy = healthy
        else:
            self.last = number


def train(
    session: Session, interrupts: Interrupts, deadline: float = math.inf, decided: Decided | None = None
) -> Ending:
    """Train to the configured length, to `deadline` (of `time.perf_counter`), or until a reaction or a signal ends it.

    `decided`: the decision before the first step. Raises `PicturesGone` after it has saved the last step.
    """
    training, config = session.training, session.training.config
    length = config.steps if config.steps is not None else math.inf
    started, before, first = time.perf_counter(), training.seconds, training.number
    decided, saves = decided or Decided(), Saves(session)
    reason, readings, gone = _reason(decided, None, False), dict[str, Tensor](), None

    while not reason and training.number < length:
        # One step of the model's equations.
        if session.ranks:
            session.ranks.go_on(True)
        try:
            readings = step_once(training, session.batches, session.ranks)
        except PicturesGone as error:
            gone = error
            break
        training.seconds = before + time.perf_counter() - started
        session.recorder.follow()
        session.threads.follow()

        # A line of metrics, with the readings of the diagnostics.
        if scheduled(training, training.number):
            decided = session.observe(readings).after(decided)
        if session.watch.all_well(training.number):  # then the last checkpoint was healthy, too
            training.healthy = saves.last

        # Samples and checkpoints; none of a step after whose critical alarm the training ends or returns.
        if training.number % config.sample_every == 0:
            session.recorder.sample(session.showing)
        if isinstance(decided.decision, Continue):
            saves.save_if_due(readings)
        reason = _reason(decided, interrupts.signal, time.perf_counter() >= deadline)

    if session.ranks:
        session.ranks.go_on(False)
    reason = reason or "steps"
    if training.number > first:
        decided = _keep_last(session, readings, saves.last, reason, decided)
        reason = _reason(decided, None, False) or reason
    else:  # a process that was killed after its last checkpoint has left the older ones
        checkpoint.tidy(session.recorder.run, training)
    if gone is not None:
        raise gone
    pace = (training.number - first) * session.recorder.pictures_a_step / max(training.seconds - before, 1e-9)
    return Ending(reason, decided, training.number, training.seconds, pace)


def _reason(decided: Decided, signal: str | None, late: bool) -> str:
    """The reason to end the training before its full length, or ""."""
    match decided.decision:
        case Return():
            return "rescue"
        case Stop():
            return "alarm"
        case Continue():
            return signal or ("time" if late else "")


def _keep_last(session: Session, readings: Mapping[str, Tensor], saved: int, reason: str, decided: Decided) -> Decided:
    """Log, save and sample the last step, at whatever multiple. Decides again if its numbers are lost."""
    training, recorder = session.training, session.recorder
    if not scheduled(training, training.number):  # then no diagnostic is due
        session.observe(readings)
    if saved != training.number and reason not in ("alarm", "rescue"):
        if sound(training, readings):
            session.showing.settle()
            checkpoint.save(recorder.run, training)
        elif decided.alarm is None or decided.alarm.kind != LOST:  # vitals may not have looked since
            decided = session.watch.react([("vitals", lost("A loss or a weight", session.watch.snapshot({})))])
    if not recorder.run.sample_path(training.number).exists():
        recorder.sample(session.showing)
    return decided
