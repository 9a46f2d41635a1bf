"""Every setting of a run: its name, type, range, default and words, in one place.

Flags of the commands, options of `gankit.run`, keys of a TOML file and docs/settings.md follow from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr

from gankit.config.values import Colour, colour, duration
from gankit.options import Options


@dataclass(frozen=True)
class Flag:
    """That a setting has a flag, and how it is written."""

    metavar: str | None = None  # what stands for the value; a choice shows its own
    name: str | None = None  # where it is not the setting's own with hyphens
    read: Callable[[str], Any] | None = None  # what makes a value of the text, where the type alone does not say
    auto: bool = False  # may be `auto`: decided for the machine, and kept by a resume
    resumed: bool = False  # `gankit resume` takes it


Tables = dict[str, dict[str, Any]]  # options by the component's name


class RunConfig(Options):
    """config.json: enough to repeat the run. Sizes in pixels, times in seconds, intervals in steps."""

    gankit: str = Field("", description="the version of gankit that began the run")
    model: dict[str, Any] = Field(description="the model's name and its settings")
    data: Annotated[str, Flag("DIR|NAME[:ARG]")] = Field(
        description="folder of pictures, or a data source: try demo",
    )
    image_size: Annotated[int, Flag("S", auto=True)] = Field(
        ge=8, le=1024, description="side of the square pictures, in pixels"
    )
    batch_size: Annotated[int, Flag("B", auto=True)] = Field(ge=1, description="pictures in a batch")
    seed: Annotated[int, Flag("N")] = Field(0, ge=0, description="decides weights, batches and latents")
    steps: Annotated[int | None, Flag("N", auto=True, resumed=True)] = Field(ge=0, description="total length in steps")
    time: Annotated[float | None, Flag("2h", read=duration, resumed=True)] = Field(
        None, gt=0, description="end in good order after so long: 90s, 30m, 2h; a bare number is seconds"
    )
    device: Annotated[Literal["cpu", "cuda", "mps"], Flag(auto=True, resumed=True)] = Field(
        description="where to compute"
    )
    precision: Annotated[Literal["fp32", "bf16"], Flag(auto=True, resumed=True)] = Field(
        description="of the networks' arithmetic"
    )
    fit: Annotated[Literal["pad", "crop"], Flag()] = Field("pad", description="how a picture becomes square")
    background: Annotated[Colour, Flag("COLOUR")] = Field(
        "white", description="colour under transparency and in the padding"
    )
    mirror: Annotated[bool, Flag()] = Field(False, description="mirror pictures at random")
    holdout: Annotated[float, Flag("SHARE")] = Field(
        0.1, ge=0, lt=1, description="share of the pictures never trained on"
    )
    log_every: Annotated[int, Flag("N")] = Field(50, ge=1, description="steps between lines of metrics.jsonl")
    sample_every: Annotated[int, Flag("N")] = Field(250, ge=1, description="steps between sample grids")
    checkpoint_every: Annotated[int, Flag("N")] = Field(1000, ge=1, description="steps between checkpoints")
    networks: Tables = Field({}, description="options of the network pair that the model's settings name")
    losses: Annotated[Tables, Flag("NAME=WEIGHT", "loss", resumed=True)] = Field(
        {}, description="an extra loss term; a weight of 0 leaves out one of the model's own"
    )
    controllers: Annotated[Tables, Flag("NAME", "controller")] = Field(
        {}, description="a controller; replaces that of its knob"
    )
    diagnostics: Annotated[Tables, Flag("NAME", "diagnostic")] = Field({}, description="a further diagnostic")
    views: Annotated[Tables, Flag("NAME", "view")] = Field({}, description="what the discriminator is shown")
    artifacts: Annotated[Tables, Flag("NAME", "artifact")] = Field({}, description="a further thing to draw or log")
    datasets: Tables = Field({}, description="options of the data source that `data` names")
    reactions: Tables = Field({}, description="options of the reaction that `on_alarm` names")
    on_alarm: Annotated[str, Flag("NAME", resumed=True)] = Field(
        "stop", description="at a critical alarm: stop, rescue or warn"
    )
    plugins: list[str] = Field([], description="what --plugin named: files and modules")
    requested: dict[str, Any] = Field({}, description="the request as it was made, kept as a record")
    history: list[dict[str, Any]] = Field([], description="what later starts changed, and from which step on")

    # The model's own controllers, which yield to a named one of the same knob. Only what is built knows its knobs, so a
    # training's building decides, and config.json has what remains.
    _yielding: tuple[str, ...] = PrivateAttr(())

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """RGB, 0..255."""
        return colour(self.background)

    @property
    def yielding(self) -> tuple[str, ...]:
        """The model's own controllers that nobody named; none, once it is decided which remain."""
        return self._yielding

    def with_yielding(self, controllers: Iterable[str]) -> RunConfig:
        """The same, of which these controllers yield to others."""
        new = self.model_copy()
        new._yielding = tuple(controllers)
        return new


def flags_of(settings: type[BaseModel]) -> dict[str, Flag]:
    """The fields that have a flag, in their order."""
    fields = settings.model_fields.items()
    return {name: item for name, field in fields for item in field.metadata if isinstance(item, Flag)}


COMPONENTS = ("controllers", "diagnostics", "views", "artifacts")  # kinds that a run has by name, with options
SINGLE = {  # of which it has one, with options; and what says which
    "networks": "`networks` in [model]",
    "datasets": "`data`",
    "reactions": "`on_alarm`",
}
TABLES = (*COMPONENTS, *SINGLE, "losses")
_FLAGS = flags_of(RunConfig)
ASKED = tuple(name for name in RunConfig.model_fields if name in _FLAGS or name in TABLES)  # what a request may have
AUTO = tuple(name for name, flag in _FLAGS.items() if flag.auto)
PLAIN = tuple(name for name in _FLAGS if name not in (*AUTO, *TABLES))  # one value each, none of them the machine's
