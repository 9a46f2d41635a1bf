"""The components that a plugin's hooks offer besides models. A model or a user's setting activates them by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gankit.model import Judged, Model, Remedy, Step
from gankit.options import Component, Curve, OptionsT

if TYPE_CHECKING:
    from gankit.runs.folder import RunFolder


class LossTerm(Component[OptionsT]):
    """An extra loss term for any model it fits: `--loss NAME=WEIGHT`, from the hook `gankit_losses`.

    It keeps its state from step to step in `memory`, tensors by name, which the checkpoint saves and each update
    detaches; it is empty before the first step. A term can train a network of its own (a critic, say) beside the
    model's: `build` and `own_loss`.

    ```python
    import gankit


    class MeanPicture(gankit.LossTerm):
        "The batch's mean item is that of the real items, averaged over the last hundred steps."

        name = "mean-picture"
        summary = "the mean of generated items is that of the real ones"

        def __call__(self, step):
            now = step.real.mean(0)  # of (B, C, S, S) in [-1, 1], or of points (B, D)
            self.memory["mean"] = self.memory.get("mean", now).lerp(now, 0.01)
            return (step.fake.mean(0) - self.memory["mean"]).square().mean()
    ```
    """

    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name, `term/NAME` -> its curve
    network: str = "generator"  # the term adds to the loss of this network; an option may set it
    needs: ClassVar[frozenset[str]] = frozenset()  # a subset of "code", "code as wide as the latent", "slope"
    memory: dict[str, Tensor]  # its state between steps, by name; the checkpoint saves it

    def __init__(self, options: OptionsT) -> None:
        """`options`: the user's, of the class `Options`. The memory is empty."""
        super().__init__(options)
        self.memory = {}

    @abstractmethod
    def __call__(self, step: Step) -> Tensor:
        """The term's value without its weight, 0-dim float32. It may call `step.networks` again."""

    def build(self, seen: tuple[int, ...]) -> nn.Module | None:
        """The term's own network, or None (the default).

        `seen` is the shape of one of D's input items: (C, S, S), or (D,) for points.

        The network is in `step.networks` under the term's name, learns in the updates that move `self.network`, and is
        saved in the checkpoint. Raise `gankit.UserError` for a shape that does not fit.
        """
        return None

    def own_loss(self, step: Step) -> Tensor:
        """The loss of the term's own network, 0-dim float32; no other network learns from it."""
        raise NotImplementedError(f"loss term {self.name!r} builds a network and has no `own_loss`")

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of the term's own network: by default Adam at 1e-4, which a term should override."""
        return torch.optim.Adam(parameters, lr=1e-4, fused=True)


class Controller(nn.Module, Component[OptionsT]):
    """A feedback controller: `--controller NAME`, from the hook `gankit_controllers`.

    It keeps its state in buffers: they are on the device, in the checkpoint, and need no host sync. `drives` names
    its knobs: any that a model reads (`k`, `margin`), a setting in `Model.knobs` (BEGAN's `gamma`), or one that every
    run has: `learning_rate/NETWORK`, `beta1/NETWORK` and `beta2/NETWORK` of Adam, `weight/TERM` of a loss term, and
    `ema`, the decay of the averaged generator. `model.initial` has the value that each has without a controller, and
    `model.steps` the run's length. Driven knobs are in the log under their names.

    ```python
    import torch
    from pydantic import Field

    import gankit


    class HalfLifeOptions(gankit.Options):
        steps: int = Field(10_000, ge=1, description="steps until half of the learning rate is left")


    class HalfLife(gankit.Controller[HalfLifeOptions]):
        "The generator's learning rate falls by half every so many steps."

        name = "half-life"
        summary = "the generator's learning rate falls by half every so many steps"
        drives = ("learning_rate/generator",)

        def __init__(self, options, model):
            super().__init__(options, model)
            self.register_buffer("rate", torch.tensor(model.learning_rate("generator")))

        def value(self, knob):
            return self.rate

        def update(self, number, readings):
            self.rate *= 0.5 ** (1 / self.options.steps)
    ```
    """

    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name -> its curve
    follows: Sequence[str] = ()  # readings of diagnostics that `observe` is told, or `score`; an option may set it

    def __init__(self, options: OptionsT, model: Model) -> None:
        """`options`: the user's. `model`: with its settings, the run's length and its knobs' initial values."""
        super().__init__()
        self.options = options
        self.model_settings = model.settings

    @property
    @abstractmethod
    def drives(self) -> tuple[str, ...]:
        """The names of the knobs that it sets."""

    @abstractmethod
    def value(self, knob: str) -> Tensor:
        """The knob's value for the next step, a 0-dim float32 tensor on the controller's device."""

    @abstractmethod
    def update(self, number: int, readings: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Adjust to the readings of step `number`, 0-dim tensors by metric name; without `.item()`.

        It may return readings of its own for the log, 0-dim tensors by name: the metric is `<controller>/<name>`.
        """

    def observe(self, number: int, readings: Mapping[str, float]) -> None:
        """Adjust to what diagnostics measured after step `number`: finite numbers by metric name, of `follows`.

        Called only at a step at which one of them was measured, with those that were. Keep what later steps need in
        buffers, the step's number too: a resume does not repeat the call.
        """
        return None


class View(Component[OptionsT]):
    """A transform of the discriminator's input, real and generated: `--view NAME`, from the hook `gankit_views`.

    ```python
    import torch
    from pydantic import Field

    import gankit


    class NoiseOptions(gankit.Options):
        deviation: float = Field(0.1, ge=0, le=2, description="standard deviation; from black to white it is 2")


    class Noise(gankit.View[NoiseOptions]):
        "Normal noise over real and generated items alike (Arjovsky, Bottou 2017, arXiv 1701.04862)."

        name = "noise"
        summary = "noise over the discriminator's input"

        def __call__(self, batch):
            return batch + self.options.deviation * torch.randn_like(batch)
    ```
    """

    @property
    def together(self) -> int:
        """How many items form one input of the discriminator; a batch must be a multiple of it."""
        return 1

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one item after the view, for the shape before it: (C, S, S), or (D,) for points.

        Raise `gankit.UserError` for a shape that the view does not support.
        """
        return shape

    def at_step(self, number: int) -> None:
        """Called before each step, counted from 1, for a view that changes with the step number."""
        return None

    @abstractmethod
    def __call__(self, batch: Tensor) -> Tensor:
        """(B, *shape) -> (B / together, *self.shape(shape)), differentiable.

        Real items are in [-1, 1]. Draw random numbers from torch's global stream.
        """


@dataclass(frozen=True)
class Alarm:
    """A message for the user: what happened, and what to try.

    `advice`: remedies, which gankit shows with the command that tries them, or plain sentences.
    """

    kind: str
    severity: Literal["warning", "critical"]  # a critical alarm calls the reaction
    message: str
    advice: Sequence[Remedy | str] = ()
    readings: Mapping[str, float] = field(default_factory=dict)  # the evidence
    before: int | None = None  # the last healthy step, for comparison


@dataclass(frozen=True)
class Reading:
    """The result of a diagnostic: numbers for the metrics line (`<diagnostic>/<name>`) and alarms.

    `health` is a word for the progress line. `healthy` is the verdict, or None without one: the last checkpoint of a
    healthy step is kept for a return to it. `details` is JSON for the report; it becomes a line of readings.jsonl.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()
    health: str | None = None
    healthy: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The training for a diagnostic: in eval mode, without gradients, with its own random stream.

    Using it changes no number of the training.
    """

    number: int  # of the last step
    line: Mapping[str, float]  # this step's metrics, on the host
    model: Model
    generate: Callable[..., Tensor]  # (n, averaged=True) -> pictures (n, C, S, S) in [-1, 1]
    real: Callable[..., Tensor]  # (n, held_out=False) -> at most n real pictures, as above
    judge: Callable[..., Judged]  # (pictures, labels=None) -> D's output
    since: int = 0  # the step at which this attempt began: 0, or that of a rescue or return
    remedies: Callable[[str], Sequence[Remedy]] = lambda alarm: ()  # the model's, if they change something in this run
    start: Mapping[str, float] = field(default_factory=dict)  # losses, readings, learning rates before the first step

    def advice(self, kind: str) -> list[Remedy]:
        """The model's remedies for an alarm of that kind that change something in this run."""
        return list(self.remedies(kind))


class Diagnostic(Component[OptionsT]):
    """An observer with readings and alarms: `--diagnostic NAME`, from the hook `gankit_diagnostics`.

    The training calls `read` every `every` steps. A diagnostic that raises is switched off and reported once.

    ```python
    import gankit


    class Spread(gankit.Diagnostic):
        "How much generated pictures differ: the mean over all pixels of the standard deviation; 0 for equal pictures."

        name = "spread"
        summary = "how much generated pictures differ"
        every = 100

        def read(self, snapshot):
            spread = snapshot.generate(64).std(0).mean().item()
            if spread > 0.01:
                return gankit.Reading({"spread": spread}, healthy=True)
            words = f"Generated pictures differ by {spread:.4f} only."
            alarm = gankit.Alarm("alike", "critical", words, snapshot.advice("alike"), {"spread": spread})
            return gankit.Reading({"spread": spread}, [alarm], healthy=False)
    ```
    """

    curves: ClassVar[Mapping[str, Curve]] = {}  # reading, without the diagnostic's name -> its curve
    needs: ClassVar[frozenset[str]] = frozenset()  # {"energy"} refuses a model without energy, before it trains

    every: int = 500  # steps between two readings
    budget: float = 0.25  # its largest share of the training's time; gankit warns once about a larger one

    @abstractmethod
    def read(self, snapshot: Snapshot) -> Reading:
        """Return numbers and alarms."""

    def state(self) -> dict[str, Any]:
        """The state between readings, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a value of `state`."""
        return None


@dataclass(frozen=True)
class Continue:
    """The training goes on. `words` become the alarm's `action` in alarms.jsonl."""

    words: str = "warned"


@dataclass(frozen=True)
class Stop:
    """The training ends after this step, with exit code 3.

    `keep_best`: move samples and checkpoints after the last healthy checkpoint to abandoned/.
    """

    words: str = "stopped"
    keep_best: bool = False


@dataclass(frozen=True)
class Return:
    """The training returns to the checkpoint of `step` and continues from there with `remedy`."""

    step: int
    remedy: Remedy
    words: str


Decision = Continue | Stop | Return


@dataclass(frozen=True)
class Situation:
    """The run's state, for a reaction."""

    healthy: int | None  # the step of the last healthy checkpoint, or None
    rescues: int  # how many remedies this run has tried
    remedies: Sequence[Remedy]  # the model's untried remedies for this alarm, without those for a new run


class Reaction(Component[OptionsT]):
    """The response to a critical alarm: `--on-alarm NAME`, from the hook `gankit_reactions`.

    ```python
    import gankit


    class SecondChance(gankit.Reaction):
        "One return to the last healthy checkpoint with the model's first remedy; then the end."

        name = "second-chance"
        summary = "one return with the model's first remedy, then the end"

        def react(self, alarm, situation):
            if situation.rescues or situation.healthy is None or not situation.remedies:
                return gankit.Stop(f"ended at {alarm.kind!r}", keep_best=True)
            step, remedy = situation.healthy, situation.remedies[0]
            return gankit.Return(step, remedy, f"back to step {step:,}: {remedy.why}")
    ```
    """

    @abstractmethod
    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        """Return `Continue`, `Stop` or `Return`. It may do other things as well, such as send mail."""


class Artifact(Component[OptionsT]):
    """A file drawn or logged from a run: `--artifact NAME`, from the hook `gankit_artifacts`.

    ```python
    import gankit


    class Lowest(gankit.Artifact):
        "lowest.txt: at which step the generator's loss was lowest."

        name = "lowest"
        summary = "lowest.txt: at which step the generator's loss was lowest"

        def finish(self):
            lines = [line for line in self.run.metrics() if line.get("loss/generator") is not None]
            lowest = min(lines, key=lambda line: line["loss/generator"], default={"step": "none"})
            path = self.run.folder / "lowest.txt"
            path.write_text(str(lowest["step"]))
            return path
    ```
    """

    def __init__(self, options: OptionsT, run: RunFolder) -> None:
        """`options`: the user's. `run`: the run folder, whose files are there as they are written."""
        super().__init__(options)
        self.run = run

    def line(self, line: Mapping[str, Any]) -> None:
        """Called with each new line of metrics.jsonl: numbers by metric name, None for one that is not finite."""
        return None

    def sampled(self, step: int, path: Path) -> None:
        """Called with each new sample grid, a PNG."""
        return None

    def finish(self) -> Path | None:
        """Called at the end of a run, however it ends; returns the new file, or None."""
        return None
