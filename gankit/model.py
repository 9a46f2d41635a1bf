"""The base class of models, and the values that it exchanges with the runner.

A model uses no files, no clock and no terminal. One update of the runner is:

    noise = model.latents(n)                        fake = model.generate(networks, noise, labels)
    seen_real, seen_fake = view(real), view(fake)   judged = model.judge(networks, seen, labels)
    losses = model.losses(step)                     one scalar for each network of this update
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gankit.options import Component, Curve, Options, OptionsT

Decay = Annotated[float, Field(ge=0, lt=1)]
Simultaneous = (("generator", "discriminator"),)
Alternating = (("discriminator",), ("generator",))
DECISIVE = ("loss/", "energy/")  # beginnings of metrics; where one is not finite, the weights are lost


@dataclass(frozen=True)
class Machine:
    """The machine for which `auto` settings are resolved."""

    device: str  # "cpu", "cuda" or "mps"
    fast_bf16: bool  # bf16 matrix products run natively


class Settings(Options):
    """The settings of every model, for `--set` or the `[model]` table of a TOML file."""

    learning_rate: float = Field(1e-4, gt=0, le=1e30, description="Adam's learning rate")
    learning_rate_generator: float | None = Field(
        None, gt=0, le=1e30, description="learning rate of the generator alone; none: learning_rate"
    )
    betas: tuple[Decay, Decay] = Field((0.5, 0.999), description="Adam's decay rates of both moments, each in [0, 1)")
    ema: float = Field(0.999, ge=0, lt=1, description="decay per step of the averaged generator that is shown; 0: none")
    updates: Literal["simultaneous", "alternating"] = Field(
        "simultaneous", description="both networks from gradients at the same weights, or one after the other"
    )


@dataclass
class Judged:
    """A discriminator's output for a batch.

    `output`: a score (B,), or a reconstruction of the same shape as the input. `code`: the encoder's output (B, N_h),
    if it has one. `energy` (B,), float32: low for items that look real.
    """

    output: Tensor
    code: Tensor | None = None
    energy: Tensor | None = None


@dataclass
class Losses:
    """A scalar loss for each network, and 0-dim readings by name for the log and the controllers."""

    by_network: dict[str, Tensor]
    readings: dict[str, Tensor] = field(default_factory=dict)


Networks = Mapping[str, Callable[..., Any]]


@dataclass
class Step:
    """One update: its batch and latents, the networks' outputs for them, and the networks as callables.

    `number` counts training steps from 1; `updating` names the networks that this update moves. An output is computed
    when a loss first reads it, and only once. `knobs` are 0-dim float32 tensors by name, this step's values: of every
    knob that a controller drives (`k`, `margin`, …), of the learning rates, and of the settings in `Model.knobs`.
    """

    model: Model
    number: int
    updating: Sequence[str]
    real: Tensor  # (B, C, S, S) in [-1, 1], or points (B, D)
    labels: Tensor | None  # (B,) int64, indices into `model.classes`
    noise: Tensor  # (B, N_z)
    networks: Networks
    knobs: Mapping[str, Tensor]
    view: Callable[[Tensor], Tensor]
    shared: dict[str, Any] = field(default_factory=dict)  # a term's results for several uses, by its name
    sloped: bool = False  # a term of this update needs `slope_real`

    @cached_property
    def fake(self) -> Tensor:
        """G(z), of the shape of `real`."""
        return self.model.generate(self.networks, self.noise, self.labels)

    @cached_property
    def seen_real(self) -> Tensor:
        """The real batch after the views, the discriminator's input."""
        seen = self.view(self.real)
        return seen.detach().requires_grad_() if self.sloped else seen

    @cached_property
    def seen_fake(self) -> Tensor:
        """The generated batch after the views, the discriminator's input."""
        return self.view(self.fake)

    @cached_property
    def judged_real(self) -> Judged:
        """D's output for `seen_real`."""
        return self.model.judge(self.networks, self.seen_real, self.labels)

    @cached_property
    def judged_fake(self) -> Judged:
        """D's output for `seen_fake`."""
        return self.model.judge(self.networks, self.seen_fake, self.labels)

    @cached_property
    def slope_real(self) -> Tensor:
        """∇ of D's energy, or of its output where it has none, at `seen_real`: (B, *seen), differentiable.

        It shares the pass of `judged_real` if a term says so (`LossTerm.needs`), or if it is read before `judged_real`;
        else it costs one more pass of D.
        """
        if "seen_real" not in self.__dict__:
            self.sloped = True
        seen = self.seen_real if self.seen_real.requires_grad else self.seen_real.detach().requires_grad_()
        shared = seen is self.seen_real
        judged = self.judged_real if shared else self.model.judge(self.networks, seen, self.labels)
        answer = judged.output if judged.energy is None else judged.energy
        return torch.autograd.grad(answer.sum(), seen, create_graph=True)[0]

    def at_zero(self, knob: str) -> bool:
        """Whether a knob is 0, so that a loss can leave out what it multiplies; on a GPU, to know is to wait: False."""
        value = self.knobs[knob]
        return value.device.type == "cpu" and not value

    def redraw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """G(z), (B, *shape), for latents (B, N_z) other than this step's.

        Batch normalisation uses the batch, but does not update its running statistics: samples need those of random
        latents, and these may be chosen ones.
        """
        with _keeping_statistics(self.networks):
            return self.model.generate(self.networks, noise, labels)

    @cached_property
    def energy_real(self) -> Tensor:
        """L(x), the batch's mean energy, 0-dim."""
        return _mean_energy(self.judged_real)

    @cached_property
    def energy_fake(self) -> Tensor:
        """L(G(z)), the batch's mean energy, 0-dim."""
        return _mean_energy(self.judged_fake)


@contextmanager
def _keeping_statistics(networks: Networks) -> Iterator[None]:
    """Keep batch normalisation from updating its running statistics."""
    modules = [getattr(network, "module", network) for network in networks.values()]
    parts = [part for module in modules if isinstance(module, nn.Module) for part in module.modules()]
    tracking = [part for part in parts if isinstance(part, _NormBase) and part.training and part.track_running_stats]
    for part in tracking:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in tracking:
            part.track_running_stats = True


def _mean_energy(judged: Judged) -> Tensor:
    if judged.energy is None:
        raise TypeError("this model's `judge` gives no energy")
    return judged.energy.mean()


class NetworkPair(Component[OptionsT]):
    """A named generator and discriminator, for a model's `networks` setting.

    An option takes its value from the model's setting of the same name (`filters`, `latent`). A module of a network
    may have a method `at_step(number)`, which the runner calls before each step (vanishing residuals).

    ```python
    from math import prod

    from pydantic import Field
    from torch import nn

    import gankit


    class Autoencoder(nn.Sequential):
        def forward(self, seen):
            encoder, decoder = self
            code = encoder(seen)
            return gankit.Judged(output=decoder(code), code=code)


    class LinearOptions(gankit.Options):
        latent: int = Field(64, ge=1, description="numbers in a latent and in a code")


    class Linear(gankit.NetworkPair[LinearOptions]):
        "A linear generator and a linear autoencoder, for items of any shape."

        name = "linear"
        summary = "a linear generator and a linear autoencoder"
        gives = frozenset({"reconstruction", "code"})

        def build(self, shape, seen):
            n = self.options.latent
            encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(seen), n))
            decoder = nn.Sequential(nn.Linear(n, prod(seen)), nn.Unflatten(1, seen))
            generator = nn.Sequential(nn.Linear(n, prod(shape)), nn.Unflatten(1, shape))
            return {"generator": generator, "discriminator": Autoencoder(encoder, decoder)}
    ```
    """

    sizes: ClassVar[Sequence[int]] = ()  # supported picture sides; empty: any
    gives: ClassVar[frozenset[str]] = frozenset()  # D's answers, of "score", "reconstruction", "code"; empty: unknown
    for_comparison: ClassVar[bool] = False  # whether it is the default pair of all models in `gankit compare`

    @abstractmethod
    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        """Return {"generator": …, "discriminator": …}.

        `shape` is that of one real item, (C, S, S) or (D,); `seen` that of one of the discriminator's input items.
        The generator maps (B, N_z) to (B, *shape); the discriminator maps (B, *seen) to `Judged`.
        Raise `gankit.UserError` for a shape that does not fit.
        """


@dataclass(frozen=True)
class Remedy:
    """A change of settings to try after an alarm, and the reason for it.

    `settings` as for --set, `losses` as for --loss. A change that a training cannot continue with, such as one of a
    network's shape, is for a `new_run`, with further flags in `flags_of_run`.
    """

    why: str
    settings: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    lowers: bool = False  # it lowers the settings of components instead of raising them
    new_run: bool = False  # advice only: a rescue never tries it
    flags_of_run: Sequence[str] = ()  # of `gankit run`, such as ("--view", "augment")

    def __post_init__(self) -> None:
        for key, value in (*self.settings.items(), *self.losses.items()):
            if not isinstance(value, Real):
                raise TypeError(f"a gankit.Remedy has {key}={value!r}: it must be a number")

    @property
    def arguments(self) -> list[str]:
        """The change as command-line arguments."""
        flags = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value:g}")]
        flags += [part for name, weight in self.losses.items() for part in ("--loss", f"{name}={weight:g}")]
        return [*flags, *self.flags_of_run]

    @property
    def flags(self) -> str:
        """The arguments as one shell-quoted string."""
        return shlex.join(self.arguments)


class Model(ABC):
    """Base class of models, from the hook `gankit_models`. `gankit run NAME --help` shows a model's docstring.

    ```python
    from math import prod

    import torch
    from torch import nn

    import gankit


    class LeastSquares(gankit.Model):
        "The least squares GAN (Mao et al. 2017, arXiv 1611.04076) of two linear networks."

        name = "least-squares"
        summary = "the least squares GAN of two linear networks"

        def build_networks(self, pair, seen):
            generator = nn.Sequential(nn.Linear(8, prod(self.shape)), nn.Tanh(), nn.Unflatten(1, self.shape))
            return {"generator": generator, "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(prod(seen), 1))}

        def latents(self, n, device):
            return torch.randn(n, 8, device=device)

        def judge(self, networks, seen, labels):
            return gankit.Judged(output=networks["discriminator"](seen).squeeze(1))  # a score (B,)

        def losses(self, step):
            real, fake = step.judged_real.output, step.judged_fake.output
            discriminator = (real - 1).square().mean() + fake.square().mean()
            return gankit.Losses({"discriminator": discriminator, "generator": (fake - 1).square().mean()})
    ```

    `controllers`, `diagnostics` and `terms` that hang on the settings are classmethods of them in place of attributes.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    Settings: ClassVar[type[Settings]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # recipes for --preset: settings by name
    controllers: ClassVar[Sequence[str]] = ()  # names of the default controllers
    diagnostics: ClassVar[Sequence[str]] = ()  # names of the default diagnostics, besides the core's
    terms: ClassVar[Mapping[str, float]] = {}  # default loss terms, if a plugin offers them: name -> weight
    needs: ClassVar[frozenset[str]] = frozenset()  # what D must answer, as `NetworkPair.gives`; empty: as its own pair
    shown: ClassVar[Mapping[str, str]] = {}  # for the progress line: short label -> metric name
    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name -> its curve; overrides those of components
    knobs: ClassVar[Sequence[str]] = ()  # settings with a number that controllers may drive; read them in `step.knobs`
    steps: int | None = None  # the run's length, for schedules; None: a time limit ends it
    initial: Mapping[str, float] = {}  # every knob's value where no controller drives it; controllers find it built

    def __init__(self, settings: Any, shape: tuple[int, ...], classes: Sequence[str] = ()) -> None:
        """`shape` is that of one real item: (C, S, S) for pictures, (D,) for points.

        `classes` are the names of the data's labels, in the order of their numbers; empty without labels.
        """
        self.settings = settings
        self.shape = shape
        self.classes = tuple(classes)

    @classmethod
    def resolve(cls, settings: Any, machine: Machine) -> Any:
        """Return the settings with a value for every `auto` that depends on the machine."""
        return settings

    @property
    def updates(self) -> Sequence[Sequence[str]]:
        """The networks of each update, in order; each update draws its own batch and latents."""
        return Simultaneous if self.settings.updates == "simultaneous" else Alternating

    @property
    def networks(self) -> str | None:
        """The pair to build: the setting `networks`, or None if the model overrides `build_networks`."""
        return getattr(self.settings, "networks", None)

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        """Return all networks by name, by default those of the pair; "generator" must be one of them."""
        if pair is None:
            raise NotImplementedError(f"model {self.name!r} names no networks and builds none")
        return pair.build(self.shape, seen)

    def learning_rate(self, network: str) -> float:
        """The initial learning rate of a network."""
        if network == "generator" and self.settings.learning_rate_generator is not None:
            return self.settings.learning_rate_generator
        return self.settings.learning_rate

    def optimizer(self, network: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of one network: Adam. The runner sets its learning rate before every step."""
        return torch.optim.Adam(parameters, lr=self.learning_rate(network), betas=self.settings.betas, fused=True)

    def remedies(self, alarm: str) -> Sequence[Remedy]:
        """The remedies for an alarm of this kind, best first; by default a lower learning rate.

        gankit leaves out a remedy that changes nothing in the run or does not fit it.
        """
        if alarm in ("rate-vanished", "memorises", "grainy", "blurred"):  # a lower rate does not help
            return ()
        rates = {"learning_rate": self.learning_rate("discriminator") / 4}
        if isinstance(self.settings.learning_rate_generator, int | float):  # what follows the other needs no word
            rates["learning_rate_generator"] = self.settings.learning_rate_generator / 4
        return (Remedy("a lower learning rate", rates),)

    @abstractmethod
    def latents(self, n: int, device: torch.device) -> Tensor:
        """Draw latents (n, N_z) from torch's global random stream, which the runner seeds for each update."""

    def generate(self, networks: Networks, noise: Tensor, labels: Tensor | None) -> Tensor:
        """G(z): (B, *shape). Override it to use the labels or further networks."""
        return networks["generator"](noise)

    def judge(self, networks: Networks, seen: Tensor, labels: Tensor | None) -> Judged:
        """D's output for `seen`. Override it to compute the energy or to use the labels."""
        return networks["discriminator"](seen)

    @abstractmethod
    def losses(self, step: Step) -> Losses:
        """The equations: a scalar loss for each network in `step.updating`, and readings.

        Readings are 0-dim tensors. Controllers and the log rely on the names `energy/real` and `energy/fake`; name
        the model's own readings `<model>/<reading>`.
        """
