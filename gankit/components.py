"""The objects that a plugin's hooks offer besides models: each inert until a model or a user's setting names it."""

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
    """An extra term for any model it fits: `--loss NAME=WEIGHT`, from the hook `gankit_losses`.

    What it remembers from step to step lies in `memory`, tensors by name, and so in the checkpoint. A term can have a
    network of its own (a critic, say), which learns beside the model's: `build` and `own_loss`.

    ```python
    import gankit


    class TotalVariation(gankit.LossTerm):
        "The mean difference between neighbouring pixels of G(z) (Rudin, Osher, Fatemi 1992)."

        name = "total-variation"
        summary = "neighbouring pixels of generated pictures are to be alike"

        def __call__(self, step):
            fake = step.fake  # (B, C, S, S) in [-1, 1]
            return fake.diff(dim=-1).abs().mean() + fake.diff(dim=-2).abs().mean()
    ```
    """

    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name, `term/NAME`, -> how it is shown
    network: str = "generator"  # whose loss it is added to; an option may decide
    needs: ClassVar[frozenset[str]] = frozenset()  # of "code", "code as wide as the latent"

    def __init__(self, options: OptionsT) -> None:
        super().__init__(options)
        self.memory: dict[str, Tensor] = {}

    @abstractmethod
    def __call__(self, step: Step) -> Tensor:
        """The term's value before its weight, 0-dim float32. It may call `step.networks` again."""

    def build(self, seen: tuple[int, ...]) -> nn.Module | None:
        """The network of the term's own, or None: by default it has none.

        `seen` is the shape of one item as D is shown it: (C, S, S), or (D,) for points.

        It stands in `step.networks` by the term's name, learns in the updates that move `self.network`, and is in
        the checkpoint, but in no folder of samples. Raise `gankit.UserError` for a shape that cannot be built.
        """
        return None

    def own_loss(self, step: Step) -> Tensor:
        """What the network of the term's own minimises, 0-dim float32; no other network learns from it."""
        raise NotImplementedError(f"loss term {self.name!r} builds a network and has no `own_loss`")

    def optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """That of its network: Adam at 1e-4, for which a term should know better."""
        return torch.optim.Adam(parameters, lr=1e-4, fused=True)


class Controller(nn.Module, Component[OptionsT]):
    """A feedback controller: `--controller NAME`, from the hook `gankit_controllers`.

    What it remembers lies in buffers, so that it is on the device, in the checkpoint, and free of host syncs.
    It declares what it drives: `k`, `margin`, `learning_rate/NETWORK`, or any knob that a model asks for.

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

    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name -> how it is shown: of what it holds or moves

    def __init__(self, options: OptionsT, model: Model) -> None:
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


class View(Component[OptionsT]):
    """What the discriminator is shown instead of the bare picture: `--view NAME`, from the hook `gankit_views`.

    ```python
    import torch
    from pydantic import Field

    import gankit


    class NoiseOptions(gankit.Options):
        deviation: float = Field(0.1, ge=0, le=2, description="standard deviation; from black to white it is 2")


    class Noise(gankit.View[NoiseOptions]):
        "Normal noise over real and generated items alike (Arjovsky, Bottou 2017, arXiv 1701.04862)."

        name = "noise"
        summary = "noise over what the discriminator is shown"

        def __call__(self, batch):
            return batch + self.options.deviation * torch.randn_like(batch)
    ```
    """

    @property
    def together(self) -> int:
        """How many items are shown as one: a batch must be a multiple of it."""
        return 1

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one item after the view, from that before it: (C, S, S), or (D,) for points.

        Raise `gankit.UserError` for a shape that it is not for.
        """
        return shape

    def at_step(self, number: int) -> None:
        """Called before each step, counted from 1: what changes as the training goes on follows from the number."""
        return None

    @abstractmethod
    def __call__(self, batch: Tensor) -> Tensor:
        """(B, *shape) -> (B / together, *self.shape(shape)): the batch as it is shown, by differentiable operations.

        Real items are in [-1, 1]. Random choices come from torch's own stream.
        """


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


class Diagnostic(Component[OptionsT]):
    """An observer with readings and alarms: `--diagnostic NAME`, from the hook `gankit_diagnostics`.

    It looks after every `every` steps. One that raises is switched off and reported once; the training goes on.

    ```python
    import gankit


    class Spread(gankit.Diagnostic):
        "How much generated pictures differ: the deviation at a place, the mean over all places; 0 where all are one."

        name = "spread"
        summary = "how much generated pictures differ"
        every = 100

        def read(self, snapshot):
            spread = snapshot.generate(64).std(0).mean().item()
            if spread > 0.01:
                return gankit.Reading({"spread": spread}, healthy=True)
            words = f"Generated pictures differ by {spread:.4f} alone."
            alarm = gankit.Alarm("alike", "critical", words, snapshot.advice("alike"), {"spread": spread})
            return gankit.Reading({"spread": spread}, [alarm], healthy=False)
    ```
    """

    curves: ClassVar[Mapping[str, Curve]] = {}  # reading, without the diagnostic's name, -> how it is shown
    needs: ClassVar[frozenset[str]] = frozenset()  # of "energy": a model without is refused before it trains

    every: int = 500  # steps from one look to the next
    budget: float = 0.25  # the share of a training's time that it may take; beyond, the user is told once

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


class Reaction(Component[OptionsT]):
    """What is done at a critical alarm: `--on-alarm NAME`, from the hook `gankit_reactions`.

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
        """Decide what is done: `Continue`, `Stop` or `Return`. What else it does (send a letter) is its own affair."""


class Artifact(Component[OptionsT]):
    """What is drawn or logged from a run: `--artifact NAME`, from the hook `gankit_artifacts`.

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
        super().__init__(options)
        self.run = run

    def line(self, line: Mapping[str, Any]) -> None:
        """Handed every line of metrics.jsonl as it is written: numbers by metric name, None for one not finite."""
        return None

    def sampled(self, step: int, path: Path) -> None:
        """Told of every sample grid, a PNG, when it has been written."""
        return None

    def finish(self) -> Path | None:
        """Called at the end of a run, however it ended; returns the file that was made, if any."""
        return None
