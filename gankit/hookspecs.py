"""Every hook that a plugin may implement. Hooks offer components and report events; the components do the work.

A plugin is a module (or object) with an entry point in the group `gankit`, or an argument of `--plugin FILE|MODULE`.
It implements only the hooks that it needs, each marked with `@gankit.hookimpl`. gankit calls every plugin's hooks, but
never inside a training step. A component takes effect only when a model or a user's setting names it.
Import torch inside the hook, because every command imports the module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from gankit import components, data, model
    from gankit.runs.folder import RunFolder

VERSION = 2  # raise it when existing plugins break; a plugin states its own in GANKIT_HOOKS
CHANGED = {  # version -> hook -> the change that a plugin of an earlier version needs
    2: {
        "gankit_reactions": "Reaction.react(alarm, situation) returns gankit.Continue, gankit.Stop or gankit.Return, "
        "and no words",
    }
}


@dataclass(frozen=True)
class Form:
    """A form of an attribute, or all of it, that a version of the hooks ended; what has it is refused in one line."""

    version: int
    kind: str  # of the classes, as in the hook's name
    attribute: str
    ended: Callable[[Any], bool]  # whether an attribute, as a class's body has it, is of that form
    instead: str


FORMS = (
    Form(
        *(2, "models", "controller_options"),
        lambda written: True,
        "a controller is given the model: let it read model.settings, and leave controller_options out",
    ),
    *(
        Form(
            *(2, "models", name),
            lambda written: isinstance(written, property),
            f"no model is made to ask it: write {name} = … in the class, or @classmethod def {name}(cls, settings)",
        )
        for name in ("terms", "controllers", "diagnostics")
    ),
    Form(
        *(2, "models", "networks"),
        lambda written: isinstance(written, property),
        "no model is made to ask it: give the model's Settings a field `networks`, which `resolve` may decide",
    ),
)

hookspec = pluggy.HookspecMarker("gankit")
hookimpl = pluggy.HookimplMarker("gankit")


@hookspec
def gankit_models() -> Sequence[type[model.Model]]:
    """Models, for `gankit run NAME`.

    @gankit.hookimpl
    def gankit_models():
        from my_gan.model import MyGAN
        return [MyGAN]
    """
    raise NotImplementedError


@hookspec
def gankit_networks() -> Sequence[type[model.NetworkPair]]:
    """Named generator/discriminator pairs, for a model's `networks` setting: `return [SmallResNet]`."""
    raise NotImplementedError


@hookspec
def gankit_losses() -> Sequence[type[components.LossTerm]]:
    """Extra loss terms for any model they fit, for `--loss NAME=WEIGHT`: `return [PullingAway]`."""
    raise NotImplementedError


@hookspec
def gankit_controllers() -> Sequence[type[components.Controller]]:
    """Feedback controllers, for `--controller NAME`: `return [PIBalance]`."""
    raise NotImplementedError


@hookspec
def gankit_diagnostics() -> Sequence[type[components.Diagnostic]]:
    """Observers with readings and alarms, for `--diagnostic NAME`: `return [WeightNorms]`."""
    raise NotImplementedError


@hookspec
def gankit_reactions() -> Sequence[type[components.Reaction]]:
    """Responses to a critical alarm, for `--on-alarm NAME`: `return [SendMail]`."""
    raise NotImplementedError


@hookspec
def gankit_views() -> Sequence[type[components.View]]:
    """Transforms of the discriminator's input, for `--view NAME`: `return [Packing]`."""
    raise NotImplementedError


@hookspec
def gankit_artifacts() -> Sequence[type[components.Artifact]]:
    """Files drawn or logged from a run, for `--artifact NAME`: `return [TensorBoard]`."""
    raise NotImplementedError


@hookspec
def gankit_datasets() -> Sequence[type[data.DataSource]]:
    """Data sources, for `--data NAME[:ARGUMENT]`: `return [Ring]`."""
    raise NotImplementedError


@hookspec
def gankit_commands() -> Sequence[click.Command]:
    """Further commands, for `gankit NAME`: `return [my_command]`. Import their modules inside them."""
    raise NotImplementedError


@hookspec
def gankit_run_started(run: RunFolder) -> None:
    """Called before the first step of a training, or of a resume: `notify(f"started {run.folder}")`."""


@hookspec
def gankit_alarm_raised(run: RunFolder, alarm: dict[str, Any]) -> None:
    """Called after the reaction to an alarm; `alarm` is its line of alarms.jsonl: `notify(alarm["message"])`."""


@hookspec
def gankit_run_finished(run: RunFolder, result: dict[str, Any]) -> None:
    """Called at the end of a training, however it ends; `result` is its result.json: `notify(result["outcome"])`."""
