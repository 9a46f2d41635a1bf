"""The objects that a plugin's hooks offer besides models: each inert until a model or a user's setting names it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gankit.model import Judged, Model, Remedy, Step
from gankit.options import Curve, Options

if TYPE_CHECKING:
    from gankit.runs.folder import RunFolder


class LossTerm(ABC):
    """An extra term for any model it fits: `--loss NAME=WEIGHT`, from the hook `gankit_losses`.

    What it remembers from step to step lies in `memory`, tensors by name, and so in the checkpoint. A term can have a
    network of its own (a critic, say), which learns beside the model's: `build` and `own_loss`.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name, `term/NAME`, -> how it is shown
    network: str = "generator"  # whose loss it is added to; an option may decide
    needs: ClassVar[frozenset[str]] = frozenset()  # of "code", "code as wide as the latent"

    class Options(Options):
        """No settings by default."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.memory: dict[str, Tensor] = {}

    @abstractmethod
    def __call__(self, step: Step) -> Tensor:
        """The term's value before its weight, a scalar. It may call `step.networks` again."""

    def build(self, seen: tuple[int, ...]) -> nn.Module | None:
        """The network of the term's own, or None: by default it has none. `seen` is the shape of what D is shown.

        It stands in `step.networks` by the term's name, learns in the updates that move `self.network`, and is in
        the checkpoint, but in no folder of samples. Raise `gankit.UserError` for a shape that cannot be built.
        """
        return None

    def own_loss(self, step: Step) -> Tensor:
        """What the network of the term's own minimises, a scalar; no other network learns from it."""
        raise NotImplementedError(f"loss term {self.name!r} builds a network and has no `own_loss`")

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """That of its network: Adam at 1e-4, for which a term should know better."""
        return torch.optim.Adam(parameters, lr=1e-4, fused=True)


class Controller(nn.Module, ABC):
    """A feedback controller: `--controller NAME`, from the hook `gankit_controllers`.

    What it remembers lies in buffers, so that it is on the device, in the checkpoint, and free of host syncs.
    It declares what it drives: `k`, `margin`, `learning_rate/NETWORK`, or any knob that a model asks for.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name -> how it is shown: of what it holds or moves

    class Options(Options):
        """No settings by default."""

    def __init__(self, options: Any, model: Model) -> None:
        super().__init__()
        self.options = options
        self.model_settings = model.settings

    @property
    @abstractmethod
    def drives(self) -> tuple[str, ...]:
        """The knobs whose value it gives."""

    @abstractmethod
    def value(self, knob: str) -> Tensor:
        """The value that the next step uses, a 0-dim float32 tensor on the controller's device."""

    @abstractmethod
    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        """Look at the readings of step `number` (0-dim tensors by metric name) and adjust; no `.item()`."""


class View(ABC):
    """What the discriminator is shown instead of the bare picture: `--view NAME`, from the hook `gankit_views`."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""

    class Options(Options):
        """No settings by default."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def together(self) -> int:
        """How many items are shown as one: a batch must be a multiple of it."""
        return 1

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one item after the view, from that before it."""
        return shape

    def at_step(self, number: int) -> None:
        """Called before each step, counted from 1: what changes as the training goes on follows from the number."""
        return None

    @abstractmethod
    def __call__(self, batch: Tensor) -> Tensor:
        """The batch as it is shown; differentiable. Random choices come from torch's own stream."""


@dataclass(frozen=True)
class Alarm:
    """Something that a person should know: what happened, and what to try.

    `advice`: remedies, each of which is told with the command that tries it, or plain sentences.
    """

    kind: str
    severity: Literal["warning", "critical"]  # the reaction is asked at a critical one
    message: str
    advice: Sequence[Remedy | str] = ()
    readings: Mapping[str, float] = field(default_factory=dict)  # the evidence
    before: int | None = None  # the last step at which all was well, for comparison


@dataclass(frozen=True)
class Reading:
    """What a diagnostic saw: numbers for the metrics line (`<diagnostic>/<name>`), alarms, a word for the progress.

    `healthy` is its verdict, where it has one: the last checkpoint of a healthy step is kept for a return to it.

    `details` is JSON that a report can show besides the curves; it becomes a line of readings.jsonl.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()
    health: str | None = None
    healthy: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The training as a diagnostic sees it: in eval mode, without gradients, with a random stream of its own.

    Looking changes no number of the training.
    """

    number: int  # of the step just done
    line: Mapping[str, float]  # this step's metrics, on the host
    model: Model
    generate: Callable[..., Tensor]  # (n, averaged=True) -> pictures (n, C, S, S) in [-1, 1]
    real: Callable[..., Tensor]  # (n, held_out=False) -> the same, at most as many as there are
    judge: Callable[..., Judged]  # (pictures, labels=None) -> D's answer
    since: int = 0  # the step that this attempt began at: where a rescue or a return set in
    remedies: Callable[[str], Sequence[Remedy]] = lambda alarm: ()  # what the model has against it and this run has not
    start: Mapping[str, float] = field(default_factory=dict)  # losses, readings, learning rates before the first step

    def advice(self, kind: str) -> list[Remedy]:
        """What an alarm of that kind advises: the remedies of the model that change something in this run."""
        return list(self.remedies(kind))


class Diagnostic(ABC):
    """An observer with readings and alarms: `--diagnostic NAME`, from the hook `gankit_diagnostics`.

    It looks after every `every` steps. One that raises is switched off and reported once; the training goes on.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    curves: ClassVar[Mapping[str, Curve]] = {}  # reading, without the diagnostic's name, -> how it is shown
    needs: ClassVar[frozenset[str]] = frozenset()  # of "energy": a model without is refused before it trains

    class Options(Options):
        """No settings by default."""

    every: int = 500
    budget: float = 0.25  # the share of a training's time that it may take; beyond, the user is told once

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def read(self, snapshot: Snapshot) -> Reading:
        """Look, and return numbers and alarms."""

    def state(self) -> dict[str, Any]:
        """What it remembers between readings, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        return None


@dataclass(frozen=True)
class Continue:
    """The training goes on. `words`, a few, are the alarm's `action` in alarms.jsonl."""

    words: str = "warned"


@dataclass(frozen=True)
class Stop:
    """The training ends after this step, with exit code 3.

    `keep_best`: what came after the last healthy checkpoint is set aside.
    """

    words: str = "stopped"
    keep_best: bool = False


@dataclass(frozen=True)
class Return:
    """After this step the training goes back to the checkpoint of `step`, and on from there with `remedy`."""

    step: int
    remedy: Remedy
    words: str


Decision = Continue | Stop | Return


@dataclass(frozen=True)
class Situation:
    """What a reaction decides by, besides the alarm."""

    healthy: int | None  # the step of the last healthy checkpoint, None where there is none to go back to
    rescues: int  # how often this run went back to try a remedy
    remedies: Sequence[Remedy]  # of the model against this alarm: those that a training can go on with, and has not had


class Reaction(ABC):
    """What is done at a critical alarm: `--on-alarm NAME`, from the hook `gankit_reactions`."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""

    class Options(Options):
        """No settings by default."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        """Decide what is done: `Continue`, `Stop` or `Return`. What else it does (send a letter) is its own affair."""


class Artifact(ABC):
    """What is drawn or logged from a run: `--artifact NAME`, from the hook `gankit_artifacts`."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""

    class Options(Options):
        """No settings by default."""

    def __init__(self, options: Any, run: RunFolder) -> None:
        self.options = options
        self.run = run

    def line(self, line: Mapping[str, Any]) -> None:
        """Handed every line of metrics.jsonl as it is written."""
        return None

    def sampled(self, step: int, path: Path) -> None:
        """Told of every sample grid, a PNG, when it has been written."""
        return None

    def finish(self) -> Path | None:
        """Called at the end of a run, however it ended; returns the file that was made, if any."""
        return None
