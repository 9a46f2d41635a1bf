"""The checks of the conformance kit. Each is a promise that gankit's users are given, in its name and its docstring.

A check is handed a `Subject` and raises `Failed`, or whatever the plugin's own code raises; it returns nothing, or in
words why it does not apply.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gankit.components import Alarm, Continue, Reading, Return, Situation, Stop
from gankit.config import resolve as config
from gankit.data.batches import Batches
from gankit.data.source import Data, Request
from gankit.errors import UserError, place, told
from gankit.model import Remedy
from gankit.testing.subject import Failed, Subject, tensors
from gankit.training import checkpoint
from gankit.training.loop import step_once, trained, update
from gankit.training.showing import Showing, looking
from gankit.training.state import LOOKING, Training

SIZES = (16, 32, 48, 64, 128)  # sides of pictures that are tried
USUAL = (32, 64)  # what `gankit run` takes on a CPU and on a GPU
STEPS = 50
WAITING = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__")

Check = Callable[[Subject], str | None]


# Every component.


def is_accepted(subject: Subject) -> None:
    """`gankit run` takes it: its settings are in order and its first step gives what it must."""
    _ = subject.carrier


def is_documented(subject: Subject) -> None:
    """The class has a docstring and a summary, and every setting a description: they are its users' only manual."""
    cls = subject.cls
    if not (vars(cls).get("__doc__") or "").strip():
        raise Failed(f"{cls.__name__} has no docstring", "say what it is in one sentence, with its source")
    if not cls.summary:
        raise Failed(f"{cls.__name__} has no summary", 'give it one: summary = "…", shown by `gankit run MODEL --help`')
    settings = getattr(cls, "Settings", None) or cls.Options
    bare = [name for name, info in settings.model_fields.items() if not info.description]
    if bare:
        raise Failed(f"the setting {bare[0]!r} has no description", 'write Field(…, description="…")')


def round_trips_through_toml(subject: Subject) -> None:
    """A TOML file with every value of its configuration gives the same configuration again."""
    resolved = subject.config()
    told_of = resolved.model_dump(mode="json", exclude={"gankit", "plugins", "requested", "history"})
    model = told_of["model"].pop("name")
    path = subject.folder / "settings.toml"
    path.write_text(toml(told_of), encoding="utf-8")
    again = config.resolve(model, config.read_toml(path), subject.catalogue)
    differing = config.changes(resolved.model_dump(mode="json"), again.model_dump(mode="json"))
    differing = {key: value for key, value in differing.items() if key.split(".")[0] != "requested"}
    if differing:
        key = next(iter(differing))
        raise Failed(
            f"{key} comes back from a TOML file as {differing[key]!r}",
            "use settings that JSON and TOML can write: numbers, texts, true and false, lists; none only as a default",
        )


def toml(table: Mapping[str, Any], path: str = "") -> str:
    """The table as TOML; what is None is left out, as TOML has no word for it."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    text = "".join(f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{json.dumps(key)}" if path else json.dumps(key)
            text += f"\n[{inner}]\n{toml(value, inner)}"
    return text


# What takes part in a training.


def builds_at_every_size(subject: Subject) -> str | None:
    """Networks of every picture size, or a refusal in one line; the usual sizes must be built."""
    training, batches = subject.training()
    if len(batches.data.shape) != 3:
        _refuse_shape(subject, training, batches)
        return f"it is tried on points, {subject.options['data']}"
    pair = training.model.networks
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
                f"at {size}×{size}: {told(error)}",
                "raise gankit.UserError for a shape that cannot be built, or declare a pair's `sizes`",
            ) from error
        _refuse_shape(subject, training, batches)
    return None


def _refuse_shape(subject: Subject, training: Training, batches: Batches) -> None:
    shape, showing = batches.data.shape, Showing(training, batches.data)
    for n in (1, 3):
        with looking(training, LOOKING, 0):
            made = showing.generate(n)
        if made.shape != (n, *shape) or not made.isfinite().all():
            raise Failed(
                f"{n} generated items of {shape} have the shape {tuple(made.shape)}, finite: {made.isfinite().all()}",
                "let `generate` return (n, *model.shape), for any n and in eval mode too",
            )


def keeps_gradients_apart(subject: Subject) -> None:
    """Each network learns from its own loss alone, and only in the updates that name it."""
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
    """The gradients of a first update of each network; the loss of `larger` is made a thousand times as large."""
    training, batches = subject.training()
    losses_of, found = training.model.losses, {}

    def scaled(step: Any) -> Any:
        losses = losses_of(step)
        if larger in losses.by_network:
            losses.by_network[larger] = 1000 * losses.by_network[larger]
        return losses

    training.model.losses = scaled  # type: ignore[method-assign]
    rates = {name: torch.zeros(()) if name.startswith("learning_rate/") else v for name, v in training.knobs().items()}
    for which, names in enumerate(training.updates):  # at a rate of 0, so that all are taken at the same weights
        update(training, batches, 1, which, rates)
        for name in names:
            found[name] = torch.cat([p.grad.flatten() for p in trained(training.networks[name]) if p.grad is not None])
    return found


def survives_a_checkpoint(subject: Subject) -> None:
    """Three steps, a checkpoint, three more: to the bit what a new training makes of that checkpoint."""
    whole, batches = subject.training()
    session = subject.session(whole, batches, "checkpointed")
    session.recorder.close()
    _steps(whole, batches, 3)
    checkpoint.save(session.recorder.run, whole)
    _steps(whole, batches, 3)
    again, batches = subject.training()
    checkpoint.load(session.recorder.run, 3, again)
    _steps(again, batches, 3)
    _refuse_difference(
        tensors(whole),
        tensors(again),
        "after a resume {} is another",
        "keep all that is remembered between steps in buffers (register_buffer) or in weights: only those are saved",
    )


def follows_from_its_seed(subject: Subject) -> None:
    """The same seed gives the same numbers, whoever has drawn random numbers before; another seed gives others."""
    found, begun = [], []
    for disturbed, seed in ((1, 0), (2, 0), (3, 1)):
        with torch.random.fork_rng(devices=[]):
            random.seed(disturbed)
            np.random.seed(disturbed)
            torch.manual_seed(disturbed)
            training, batches = subject.training(seed=seed)
            begun.append(_parameters(training))
            for _ in range(2):
                torch.rand(disturbed)
                step_once(training, batches)
        found.append(tensors(training))
    _refuse_difference(
        found[0],
        found[1],
        "with the same seed {} is another",
        "draw from torch's own stream (torch.rand and so on): it is seeded before every update; Python's and NumPy's "
        "are not, nor is a generator of your own",
    )
    if all(torch.equal(begun[0][name], begun[2][name]) for name in begun[0]):
        raise Failed(
            "another seed gives the same weights", "do not seed torch yourself; draw weights in build_networks"
        )


def _refuse_difference(one: dict[str, Tensor], other: dict[str, Tensor], what: str, do: str) -> None:
    for name in one.keys() | other.keys():
        if name not in one or name not in other or not torch.equal(one[name], other[name]):
            raise Failed(what.format(name), do)


def waits_for_no_device(subject: Subject) -> None:
    """Nothing in a step reads a tensor's value: on a GPU each such place would halt the program."""
    training, batches = subject.training()
    kept = {name: vars(Tensor).get(name, getattr(Tensor, name)) for name in WAITING}

    def waits(name: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Failed(
                f"Tensor.{name} is called in a step, and waits for the device",
                "compute with tensors (torch.where for an if), and let the log read the values",
            )

        return refuse

    inherited = [name for name in WAITING if name not in vars(Tensor)]
    try:
        for name in WAITING:
            setattr(Tensor, name, waits(name))
        _steps(training, batches, 2)
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
    """Under bf16, as on a GPU: finite, and the losses in float32."""
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
    """Fifty steps at its own settings without a number that is not finite."""
    training, batches = subject.training()
    for number in range(1, STEPS + 1):
        _refuse_broken(training, step_once(training, batches), number)


def _refuse_broken(training: Training, readings: Mapping[str, Tensor], number: int) -> None:
    broken = [name for name, value in readings.items() if not value.isfinite().all()]
    broken += [f"weights of {n!r}" for n, w in _parameters(training).items() if not w.isfinite().all()]
    if broken:
        raise Failed(f"{broken[0]} is not finite at step {number}", "look for a division, a root or a log of 0")


def _steps(training: Training, batches: Batches, n: int) -> None:
    for _ in range(n):
        step_once(training, batches)


# Single kinds.


def gives_plain_values(subject: Subject) -> None:
    """Each knob that a controller drives has a value: a finite 0-dim float32 tensor, before and after steps."""
    training, batches = subject.training()
    for _ in range(2):
        controller = training.controllers[subject.name]
        for knob in controller.drives:
            value = controller.value(knob)
            if value.shape != () or value.dtype != torch.float32 or not value.isfinite():
                raise Failed(f"the value of {knob!r} is {value!r}", "return a finite 0-dim float32 tensor")
        _steps(training, batches, 2)


def lets_gradients_through(subject: Subject) -> None:
    """The generator learns through a view: what is shown depends on the pictures, smoothly."""
    training, batches = subject.training()
    real = batches(1, 0)[0].clone().requires_grad_()
    shown = training.view.views[0](real)
    if not shown.requires_grad:
        raise Failed("what is shown has no gradient", "use differentiable operations of torch alone, without detach")
    (gradient,) = torch.autograd.grad(shown.square().sum(), real)
    if not gradient.isfinite().all() or not gradient.any():
        raise Failed("the gradient of what is shown is 0 or not finite", "let the view depend on the pictures' values")


def looks_and_says(subject: Subject) -> None:
    """A diagnostic's reading: numbers, alarms with a kind and a severity, details that JSON can hold."""
    _, _, readings = _watched(subject, "said")
    for reading in readings:
        if not isinstance(reading, Reading):
            raise Failed(f"read returned {reading!r}", "return gankit.Reading(values, alarms, …)")
        for name, value in reading.values.items():
            float(value)
            if not isinstance(name, str):
                raise Failed(f"a reading is called {name!r}", "call it by a text")
        json.dumps(dict(reading.details))
        for alarm in reading.alarms:
            if not isinstance(alarm, Alarm) or alarm.severity not in ("warning", "critical"):
                raise Failed(f"{alarm!r} is no alarm", 'give gankit.Alarm(kind, "warning" or "critical", message)')


def leaves_no_trace(subject: Subject) -> None:
    """Looking changes no number of the training."""
    watched, _, _ = _watched(subject, "watched")
    unseen, batches = subject.training()
    _steps(unseen, batches, watched.number)
    _refuse_difference(
        tensors(unseen), tensors(watched), "looking changes {}", "change no network, and put back what you set"
    )


def remembers_through_a_checkpoint(subject: Subject) -> None:
    """What a diagnostic remembers comes from `state()`, as JSON, and `restore` takes it up: it reads on as before."""
    training, session, _ = _watched(subject, "remembered")
    old = training.diagnostics[subject.name]
    new = type(old)(old.options)
    new.restore(json.loads(json.dumps(old.state())))
    line = {"step": float(training.number)}
    said = []
    for diagnostic in (old, new):
        with looking(training, LOOKING, training.number):
            said.append((diagnostic.read(session.watch.snapshot(line)), diagnostic.state()))
    if repr(said[0]) != repr(said[1]):
        raise Failed(
            f"after a resume it reads {said[1][0]} instead of {said[0][0]}",
            "return all that it remembers from `state()`, and take it up in `restore`",
        )


def keeps_to_its_budget(subject: Subject) -> None:
    """Its looks take no larger share of the training's time than its `budget` says."""
    training, batches = subject.training()
    session = subject.session(training, batches, "timed")
    session.recorder.close()
    diagnostic = training.diagnostics[subject.name]
    _steps(training, batches, 2)
    began = time.perf_counter()
    _steps(training, batches, 5)
    between = (time.perf_counter() - began) / 5 * diagnostic.every
    looks = []
    for _ in range(3):
        began = time.perf_counter()
        with looking(training, LOOKING, 0):
            diagnostic.read(session.watch.snapshot({"step": float(training.number)}))
        looks.append(time.perf_counter() - began)
    share = min(looks) / (min(looks) + between)
    if share > diagnostic.budget:
        raise Failed(
            f"a look takes {min(looks):.2g} s and the {diagnostic.every} steps between two {between:.2g} s: "
            f"{share:.0%} of the time, and its budget is {diagnostic.budget:.0%}",
            "look at fewer pictures, or more rarely (`every`)",
        )


def _watched(subject: Subject, name: str) -> tuple[Training, Any, list[Any]]:
    """A training of four steps with a look after each; what was said."""
    training, batches = subject.training()
    session = subject.session(training, batches, name)
    session.recorder.close()
    said = []
    for _ in range(4):
        line = session.recorder.line(step_once(training, batches))
        with looking(training, LOOKING, training.number):
            said.append(training.diagnostics[subject.name].read(session.watch.snapshot(line)))
    return training, session, said


def says_what_it_did(subject: Subject) -> None:
    """A reaction answers a critical alarm in words, whether there is a way back or not."""
    alarm = Alarm("one-mode", "critical", "All pictures are one.", (), {"spread": 0.01}, 100)
    ways = (Situation(100, 0, [Remedy("a lower learning rate", {"learning_rate": 1e-5})]), Situation(None, 0, []))
    for situation in ways:
        decision = subject.cls(subject.cls.Options()).react(alarm, situation)
        if not isinstance(decision, Continue | Stop | Return):
            raise Failed(f"react returned {decision!r}", "return gankit.Continue, gankit.Stop or gankit.Return")
        if not decision.words:
            raise Failed(f"react returned {decision!r}", "say in a few words what is done: they stand in alarms.jsonl")


def draws_from_a_run(subject: Subject) -> None:
    """An artifact takes every line and finishes, more than once, and where there is no line at all."""
    for name, lines in (("drawn", 3), ("empty", 0)):
        training, batches = subject.training(artifacts=[])
        session = subject.session(training, batches, name)
        artifact = subject.cls(subject.cls.Options(), session.recorder.run)
        for _ in range(lines):
            line = session.recorder.line(step_once(training, batches))
            session.recorder.write(line)
            artifact.line(line)
        session.recorder.close()
        for made in (artifact.finish(), subject.cls(subject.cls.Options(), session.recorder.run).finish()):
            if made is not None and not made.exists():
                raise Failed(f"finish returned {made}, which is not there", "return the file that was made, or None")


def opens_to_items(subject: Subject) -> None:
    """A data source opens to uint8 pictures of the size asked for, or float32 points, the same ones every time."""
    argument = str(subject.options.get("data", subject.name)).partition(":")[2] or None
    digests = []
    for size in (16, 32, 16):
        data = subject.cls(subject.cls.Options()).open(argument, Request(image_size=size, holdout=0.25))
        if not isinstance(data, Data):
            raise Failed(f"open returned {data!r}", "return gankit.Data(name, train, held_out, digest)")
        for part, items in (("train", data.train), ("held_out", data.held_out)):
            pictures = items.dtype == np.uint8 and items.shape[1:] == (size, size, 3)
            points = items.dtype == np.float32 and items.ndim == 2
            if not (pictures or points):
                raise Failed(
                    f"{part} is {items.dtype} of shape {items.shape} where {size}×{size} was asked for",
                    "give uint8 (N, S, S, 3) with S the size asked for, or float32 (N, D)",
                )
        if not len(data.held_out):
            raise Failed("nothing is held out of a share of 0.25", "split by request.holdout")
        for part, labels, items in (
            ("labels", data.labels, data.train),
            ("held_out_labels", data.held_out_labels, data.held_out),
        ):
            if labels is not None and (
                labels.dtype != np.int64
                or labels.shape != (len(items),)
                or not 0 <= labels.min() <= labels.max() < len(data.label_names)
            ):
                raise Failed(f"{part} do not fit", "give int64 (N,), each a place in label_names")
        digests.append(data.digest)
    if digests[0] != digests[2]:
        raise Failed("opened twice, its digest is another", "let the digest follow from the content alone")


def says_how_it_is_used(subject: Subject) -> None:
    """A command's --help works, and says what the command is for: `gankit --help` shows its first line."""
    from click.testing import CliRunner

    said = CliRunner().invoke(subject.cls, ["--help"])
    if said.exit_code:
        raise Failed(
            f"gankit {subject.name} --help ends with {said.exit_code}: {said.exception!r}", "mend what it names"
        )
    if not subject.cls.get_short_help_str():
        raise Failed(f"gankit {subject.name} --help does not say what it does", "give its function a docstring")


# Which checks a kind must pass.

TRAINED: tuple[Check, ...] = (
    is_accepted,
    is_documented,
    round_trips_through_toml,
    keeps_gradients_apart,
    survives_a_checkpoint,
    waits_for_no_device,
    follows_from_its_seed,
    works_in_bf16,
    trains_fifty_steps,
)
ALWAYS: tuple[Check, ...] = (is_accepted, is_documented, round_trips_through_toml)
CHECKS: dict[str, tuple[Check, ...]] = {
    "models": (*TRAINED, builds_at_every_size),
    "networks": (*TRAINED, builds_at_every_size),
    "losses": TRAINED,
    "controllers": (*TRAINED, gives_plain_values),
    "diagnostics": (*ALWAYS, looks_and_says, leaves_no_trace, remembers_through_a_checkpoint, keeps_to_its_budget),
    "reactions": (*ALWAYS, says_what_it_did),
    "views": (*TRAINED, lets_gradients_through),
    "artifacts": (*ALWAYS, draws_from_a_run),
    "datasets": (*ALWAYS, opens_to_items),
    "commands": (says_how_it_is_used,),
}
