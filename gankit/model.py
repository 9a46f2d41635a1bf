"""What a model is: its settings, its networks, its losses; and the step that it is asked about.

A model knows no file, no clock and no terminal. One update of the runner is, in its words:

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
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gankit.options import Component, Curve, Options, OptionsT

Decay = Annotated[float, Field(ge=0, lt=1)]
Simultaneous = (("generator", "discriminator"),)
Alternating = (("discriminator",), ("generator",))


@dataclass(frozen=True)
class Machine:
    """What `auto` settings are resolved for."""

    device: str  # "cpu", "cuda" or "mps"
    fast_bf16: bool  # bf16 matrix products run natively


class Settings(Options):
    """What every model can be told with `--set` or in the `[model]` table of a TOML file."""

    learning_rate: float = Field(1e-4, gt=0, le=1e30, description="Adam's learning rate")
    learning_rate_generator: float | None = Field(
        None,
        gt=0,
        le=1e30,
        description="learning rate of the generator alone; none: learning_rate, times the pace of a model that has one",
    )
    betas: tuple[Decay, Decay] = Field((0.5, 0.999), description="Adam's decay rates of both moments, each in [0, 1)")
    ema: float = Field(0.999, ge=0, lt=1, description="decay per step of the averaged generator that is shown; 0: none")
    updates: Literal["simultaneous", "alternating"] = Field(
        "simultaneous", description="both networks from gradients at the same weights, or one after the other"
    )


@dataclass
class Judged:
    """What a discriminator says of a batch.

    `output`: its raw answer, a score (B,) or a reconstruction of the same shape as what it saw. `code`: the
    encoder's output (B, N_h), where it has an encoder. `energy` (B,), float32: low for what looks real.
    """

    output: Tensor
    code: Tensor | None = None
    energy: Tensor | None = None


@dataclass
class Losses:
    """One scalar for each network to minimise, and 0-dim readings for the log and the controllers, by name."""

    by_network: dict[str, Tensor]
    readings: dict[str, Tensor] = field(default_factory=dict)


Networks = Mapping[str, Callable[..., Any]]


@dataclass
class Step:
    """One update: what was drawn, what the networks made of it, and the networks to be asked again.

    `number` counts training steps from 1; `updating` names the networks that this update moves. What a model's
    losses never look at is never computed, and each batch passes a network once.
    `knobs` are the controllers' values that this step uses, 0-dim float32 tensors by name (`k`, `margin`, …).
    """

    model: Model
    number: int
    updating: Sequence[str]
    real: Tensor  # (B, C, S, S) in [-1, 1], or points (B, D)
    labels: Tensor | None  # (B,) int64, places in `model.classes`
    noise: Tensor  # (B, N_z)
    networks: Networks
    knobs: Mapping[str, Tensor]
    view: Callable[[Tensor], Tensor]
    shared: dict[str, Any] = field(default_factory=dict)  # what a term computes once for several uses, by its name

    @cached_property
    def fake(self) -> Tensor:
        """G(z), of the shape of `real`."""
        return self.model.generate(self.networks, self.noise, self.labels)

    @cached_property
    def seen_real(self) -> Tensor:
        """The real batch as the discriminator is shown it: by default the batch itself."""
        return self.view(self.real)

    @cached_property
    def seen_fake(self) -> Tensor:
        """The generated batch as the discriminator is shown it."""
        return self.view(self.fake)

    @cached_property
    def judged_real(self) -> Judged:
        """D's answer to `seen_real`."""
        return self.model.judge(self.networks, self.seen_real, self.labels)

    @cached_property
    def judged_fake(self) -> Judged:
        """D's answer to `seen_fake`."""
        return self.model.judge(self.networks, self.seen_fake, self.labels)

    def redraw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """G(z) of other latents than this step's, chosen ones perhaps.

        Batch normalisation goes by the batch as ever, and its running statistics, with which samples are shown, are
        left as they are: they are those of latents that were drawn.
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
    """Normalisation in any of them goes by the batch as before, and does not move its running statistics."""
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

    Options that a model's settings have by the same name (`filters`, `latent`) are taken from there. A module of a
    network with a method `at_step(number)` has it called before each step (vanishing residuals).

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

        def build(self, shape, seen):
            n = self.options.latent
            encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(seen), n))
            decoder = nn.Sequential(nn.Linear(n, prod(seen)), nn.Unflatten(1, seen))
            generator = nn.Sequential(nn.Linear(n, prod(shape)), nn.Unflatten(1, shape))
            return {"generator": generator, "discriminator": Autoencoder(encoder, decoder)}
    ```
    """

    sizes: ClassVar[Sequence[int]] = ()  # sides of pictures that can be built; none: any
    for_comparison: ClassVar[bool] = False  # `gankit compare` puts it under every model, where no other is asked for

    @abstractmethod
    def build(self, shape: tuple[int, ...], seen: tuple[int, ...]) -> dict[str, nn.Module]:
        """Return {"generator": …, "discriminator": …}.

        `shape` is of one real item, (C, S, S) or (D,); `seen` of one item as the discriminator is shown it.
        The generator maps (B, N_z) to (B, *shape); the discriminator maps (B, *seen) to `Judged`.
        Raise `gankit.UserError` for a shape that cannot be built.
        """


@dataclass(frozen=True)
class Remedy:
    """What to change against a collapse, and why: a rung of the ladder that a model declares.

    `settings` as for --set, `losses` as for --loss. What changes a network's shape is advice for a `new_run`, as are
    further `flags_of_run`: no training can go on with it.
    """

    why: str
    settings: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    lowers: bool = False  # the settings of components are to be lower than they are, and not higher
    new_run: bool = False  # said, and never tried by a rescue
    flags_of_run: Sequence[str] = ()  # of `gankit run`, such as ("--view", "augment")

    @property
    def arguments(self) -> list[str]:
        """As the words of a command line."""
        given = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value:g}")]
        given += [part for name, weight in self.losses.items() for part in ("--loss", f"{name}={weight:g}")]
        return [*given, *self.flags_of_run]

    @property
    def flags(self) -> str:
        """As they are typed."""
        return shlex.join(self.arguments)


class Model(ABC):
    """Base class of what the hook `gankit_models` offers. Its docstring is shown by `gankit run NAME --help`.

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
    controllers: ClassVar[Sequence[str]] = ()  # on by default, by name
    diagnostics: ClassVar[Sequence[str]] = ()  # on by default, besides the core's own
    terms: ClassVar[Mapping[str, float]] = {}  # loss terms on by default where a plugin offers them: name -> weight
    shown: ClassVar[Mapping[str, str]] = {}  # in the progress line: short label -> metric name
    curves: ClassVar[Mapping[str, Curve]] = {}  # metric name -> how it is shown; has the last word over components

    def __init__(self, settings: Any, shape: tuple[int, ...], classes: Sequence[str] = ()) -> None:
        """`shape` is of one real item: (C, S, S) for pictures, (D,) for points.

        `classes` are the names of the data's labels, in the order of their numbers; empty where it has none.
        """
        self.settings = settings
        self.shape = shape
        self.classes = tuple(classes)

    @classmethod
    def resolve(cls, settings: Any, machine: Machine) -> Any:
        """Return the settings with every `auto` that depends on the machine replaced by its value."""
        return settings

    @property
    def updates(self) -> Sequence[Sequence[str]]:
        """The networks that are updated together, in order; each update draws its own batch and latents."""
        return Simultaneous if self.settings.updates == "simultaneous" else Alternating

    @property
    def networks(self) -> str | None:
        """The name of the network pair to build: the setting `networks`; None where `build_networks` is overridden."""
        return getattr(self.settings, "networks", None)

    def build_networks(self, pair: NetworkPair | None, seen: tuple[int, ...]) -> dict[str, nn.Module]:
        """Return all networks by name; "generator" must be one of them. By default those of the named pair."""
        if pair is None:
            raise NotImplementedError(f"model {self.name!r} names no networks and builds none")
        return pair.build(self.shape, seen)

    @classmethod
    def controller_options(cls, settings: Any, controller: str) -> dict[str, Any]:
        """Options of a default controller that follow from the model's settings (lambda_k, say)."""
        return {}

    def learning_rate(self, network: str) -> float:
        """The learning rate at the start."""
        if network == "generator" and self.settings.learning_rate_generator is not None:
            return self.settings.learning_rate_generator
        return self.settings.learning_rate

    def optimizer(self, network: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of one network: Adam. Its learning rate is set anew in every step."""
        return torch.optim.Adam(parameters, lr=self.learning_rate(network), betas=self.settings.betas, fused=True)

    def remedies(self, alarm: str) -> Sequence[Remedy]:
        """What to try against the trouble that an alarm's kind names, first things first; by default to go slower.

        A rung that changes nothing in the run, or does not fit it, is left out: it is what was tried before.
        """
        if alarm in ("rate-vanished", "memorises", "grainy", "blurred"):  # slower does not help
            return ()
        rates = {"learning_rate": self.learning_rate("discriminator") / 4}
        if self.settings.learning_rate_generator is not None:
            rates["learning_rate_generator"] = self.settings.learning_rate_generator / 4
        return (Remedy("a lower learning rate", rates),)

    @abstractmethod
    def latents(self, n: int, device: torch.device) -> Tensor:
        """Draw latents (n, N_z). The runner has seeded torch for this update, so draw from torch's own stream."""

    def generate(self, networks: Networks, noise: Tensor, labels: Tensor | None) -> Tensor:
        """G(z): (B, *shape). Override it to use the labels or further networks."""
        return networks["generator"](noise)

    def judge(self, networks: Networks, seen: Tensor, labels: Tensor | None) -> Judged:
        """D's answer to what it is shown. Override it to compute the energy or to use the labels."""
        return networks["discriminator"](seen)

    @abstractmethod
    def losses(self, step: Step) -> Losses:
        """The equations: one scalar to minimise for each network that `step.updating` names, and readings.

        Readings are 0-dim tensors; names that a controller or the log rely on: `energy/real`, `energy/fake`,
        and the model's own as `<model>/<reading>`.
        """
