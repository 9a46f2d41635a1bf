"""Every setting of a run: its name, type, range, default and description, in one place.

The flags, the options of `gankit.run`, the keys of a TOML file and docs/settings.md are derived from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, Strict

from gankit.config.values import Colour, colour, duration
from gankit.options import Options


@dataclass(frozen=True)
class Flag:
    """The command-line flag of a setting."""

    metavar: str | None = None  # placeholder for the value; a choice shows its values
    name: str | None = None  # where it is not the setting's name with hyphens
    read: Callable[[str], Any] | None = None  # parses the text, where the type alone does not
    auto: bool = False  # accepts `auto`: decided for the machine, and kept by a resume
    resumed: bool = False  # `gankit resume` accepts it


Tables = dict[str, dict[str, Any]]  # options by component name


class RunConfig(Options):
    """config.json: enough to repeat the run. Sizes in pixels, times in seconds, intervals in steps."""

    gankit: str = Field("", description="version of gankit that started the run")
    model: dict[str, Any] = Field(description="name of the model, and its settings")
    data: Annotated[str, Flag("DIR|NAME[:ARG]")] = Field(
        description="folder of pictures, Parquet or tar files of them, or a data source: try demo",
    )
    image_size: Annotated[int, Flag("S", auto=True)] = Field(
        ge=8,
        le=1024,
        description="side of the square pictures, in pixels: 16, 32, 64, 128 or 256 with gankit's networks",
    )
    batch_size: Annotated[int, Flag("B", auto=True)] = Field(ge=1, description="pictures in a batch")
    seed: Annotated[int, Flag("N")] = Field(0, ge=0, description="random seed for weights, batches and latents")
    steps: Annotated[int | None, Flag("N", auto=True, resumed=True)] = Field(ge=0, description="total number of steps")
    time: Annotated[float | None, Flag("2h", read=duration, resumed=True)] = Field(
        None, gt=0, description="time limit: 90s, 30m, 2h; a bare number is seconds"
    )
    device: Annotated[Literal["cpu", "cuda", "mps"], Flag(auto=True, resumed=True)] = Field(
        description="device to train on"
    )
    precision: Annotated[Literal["fp32", "bf16"], Flag(auto=True, resumed=True)] = Field(
        description="precision of the networks' arithmetic"
    )
    fit: Annotated[Literal["pad", "crop"], Flag()] = Field(
        "pad", description="make pictures square by padding or cropping"
    )
    background: Annotated[Colour, Flag("COLOUR")] = Field(
        "white", description="colour behind transparency and in the padding"
    )
    mirror: Annotated[bool, Flag(), Strict()] = Field(False, description="mirror pictures at random")
    holdout: Annotated[float, Flag("SHARE")] = Field(
        0.1, ge=0, lt=1, description="share of the pictures held out from training"
    )
    stream: Annotated[bool, Flag(), Strict()] = Field(
        False, description="decode pictures while training, and keep no cache of them: for more than the disk can hold"
    )
    log_every: Annotated[int, Flag("N")] = Field(50, ge=1, description="steps between lines of metrics.jsonl")
    sample_every: Annotated[int, Flag("N")] = Field(250, ge=1, description="steps between sample grids")
    checkpoint_every: Annotated[int, Flag("N")] = Field(1000, ge=1, description="steps between checkpoints")
    networks: Tables = Field({}, description="options of the network pair that the model's settings name")
    losses: Annotated[Tables, Flag("NAME=WEIGHT", "loss", resumed=True)] = Field(
        {}, description="add a loss term; weight 0 removes one of the model's own"
    )
    controllers: Annotated[Tables, Flag("NAME", "controller")] = Field(
        {}, description="add a controller; it replaces the model's own for the same knob"
    )
    diagnostics: Annotated[Tables, Flag("NAME", "diagnostic")] = Field({}, description="add a diagnostic")
    views: Annotated[Tables, Flag("NAME", "view")] = Field({}, description="change what the discriminator sees")
    artifacts: Annotated[Tables, Flag("NAME", "artifact")] = Field({}, description="add a drawing or a log")
    datasets: Tables = Field({}, description="options of the data source that `data` names")
    reactions: Tables = Field({}, description="options of the reaction that `on_alarm` names")
    on_alarm: Annotated[str, Flag("NAME", resumed=True)] = Field(
        "stop", description="reaction to a critical alarm: stop, rescue or warn"
    )
    plugins: list[str] = Field([], description="files and modules given with --plugin")
    requested: dict[str, Any] = Field({}, description="the requested settings, as a record")
    history: list[dict[str, Any]] = Field([], description="settings changed by later starts, with the first step")

    # Controllers of the model that yield to a requested one of the same knob. A controller's knobs are known only once
    # it is built: the training then decides, and config.json holds the controllers that remain.
    _yielding: tuple[str, ...] = PrivateAttr(())

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """RGB, 0..255."""
        return colour(self.background)

    @property
    def yielding(self) -> tuple[str, ...]:
        """The model's own controllers that nobody requested; empty once the training has decided which remain."""
        return self._yielding

    def with_yielding(self, controllers: Iterable[str]) -> RunConfig:
        """A copy in which these controllers yield to others."""
        new = self.model_copy()
        new._yielding = tuple(controllers)
        return new


def flags_of(settings: type[BaseModel]) -> dict[str, Flag]:
    """The fields that have a flag, in their order."""
    fields = settings.model_fields.items()
    return {name: item for name, field in fields for item in field.metadata if isinstance(item, Flag)}


SIZES: Mapping[str, tuple[int, int]] = {  # what `auto` is without a GPU, and with one
    "image_size": (32, 64),
    "batch_size": (32, 32),
    "steps": (20_000, 100_000),
}


def default_in_words(name: str, value: Any) -> str:
    """The default of a setting, "16" or "32, on a GPU 64"; `value` is the field's own. "" for none."""
    if name in SIZES:
        small, large = SIZES[name]
        return f"{small:,}" + (f", on a GPU {large:,}" if large != small else "")
    if name in AUTO:
        return "auto"
    return "" if value in (None, {}) or value is False else str(value)


COMPONENTS = ("controllers", "diagnostics", "views", "artifacts")  # kinds with any number of components in a run
SINGLE = {  # kinds with one component in a run, and the setting that names it
    "networks": "`networks` in [model]",
    "datasets": "`data`",
    "reactions": "`on_alarm`",
}
TABLES = (*COMPONENTS, *SINGLE, "losses")
_FLAGS = flags_of(RunConfig)
REQUESTABLE = tuple(name for name in RunConfig.model_fields if name in _FLAGS or name in TABLES)  # fields of a request
AUTO = tuple(name for name, flag in _FLAGS.items() if flag.auto)
PLAIN = tuple(name for name in _FLAGS if name not in (*AUTO, *TABLES))  # single values, the same on any machine
