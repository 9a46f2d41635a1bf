"""The subject of the checks: one component of a plugin, and small trainings with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from gankit.catalogue import KINDS, Catalogue
from gankit.config.request import RunRequest, merge
from gankit.config.resolve import resolve
from gankit.config.schema import COMPONENTS, RunConfig
from gankit.data.batches import Batches
from gankit.errors import TrainingError, UserError
from gankit.runs.folder import RunFolder, write_json
from gankit.training import start
from gankit.training.attempts import session
from gankit.training.checkpoint import tensors_of
from gankit.training.loop import Session
from gankit.training.state import Training
from gankit.training.threads import Threads
from gankit.training.watcher import Watcher

SMALL: dict[str, Any] = {"data": "demo:64", "image_size": 16, "batch_size": 4, "precision": "fp32", "device": "cpu"}


class Failed(AssertionError):
    """A check failed: `what` happened, and what to `do`."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what}. What to do: {do}")
        self.what, self.do = what, do


def training(
    model: str, plugins: Sequence[str] = (), options: Mapping[str, Any] | None = None, **more: Any
) -> tuple[Training, Batches]:
    """A training at step 0, as `gankit run` builds it, and its batches; options as for `gankit.run`."""
    catalogue = Catalogue(plugins)
    resolved = resolve(model, RunRequest(**merge(options or {}, more)), catalogue)
    return start.assemble(resolved, start.open_data(resolved, catalogue, Watcher()), catalogue)


@dataclass
class Subject:
    """One component, and its way into a training.

    `model`: the model to test it with; by default the first that accepts it of its plugin's models and gankit's own.
    `options`: as for `gankit.run`, over `SMALL`. `plugins`: files or modules that are not installed, as for `--plugin`.
    """

    kind: str
    name: str
    folder: Path  # to write to
    plugins: Sequence[str] = ()
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    catalogue: Catalogue = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.catalogue = self.catalogue or Catalogue(self.plugins)

    def __str__(self) -> str:
        return f"{KINDS[self.kind][0]} {self.name!r}"

    @cached_property
    def cls(self) -> Any:
        """The component's class."""
        return self.catalogue.get(self.kind, self.name)

    @cached_property
    def carrier(self) -> str:
        """The name of the model to test the component with. Raises `Failed` if no model accepts it."""
        refusals = []
        for model in self._candidates():
            try:
                self._assemble(model, {})
            except (UserError, TrainingError) as error:
                refusals.append(f"with {model}: {error}")
            else:
                return model
        raise Failed(
            f"gankit run refuses it ({'; '.join(refusals) or 'there is no model to try it on'})",
            f"mend what the refusal names; where it needs an argument, give one: --data {self.name}:ARGUMENT"
            if self.kind == "datasets"
            else "mend what the refusal names; where only another model takes it, name that (`model`, or "
            "--model), and where a setting has no default, give one (--set)",
        )

    def config(self, **more: Any) -> RunConfig:
        """The whole configuration of a small run with the component, as it is built."""
        return self.training(**more)[0].config

    def training(self, **more: Any) -> tuple[Training, Batches]:
        """A new training at step 0 with the component, and its batches."""
        return self._assemble(self.carrier, more)

    def session(self, built: Training, batches: Batches, name: str) -> Session:
        """A training with its recorder and its watch, in a new run folder of that name, or NAME-2 and so on."""
        names = (name, *(f"{name}-{n}" for n in range(2, 1000)))
        folder = RunFolder.create(next(p for p in map(self.folder.joinpath, names) if not p.exists()), built.model.name)
        write_json(folder / "config.json", built.config.model_dump(mode="json"))
        write_json(folder / "data.json", start.describe_data(batches.data))
        watcher = Watcher()
        threads = Threads(built.config.device, watcher, alone=False)
        return session(RunFolder(folder), built, batches, self.catalogue, watcher, threads)

    def _candidates(self) -> list[str]:
        if self.model or self.kind == "models":
            return [self.model or self.name]
        models = self.catalogue.kind("models")
        givers = [plugin.name for plugin in self.catalogue.kind(self.kind)[self.name][1]]
        own = [name for name, (_, plugins) in models.items() if {p.name for p in plugins} & set(givers)]
        return list(dict.fromkeys([*own, *self.catalogue.own("models")]))

    def _resolve(self, model: str, more: Mapping[str, Any]) -> RunConfig:
        ways: dict[str, dict[str, Any]] = {
            "models": {},
            "networks": {"set": {"networks": self.name}},
            "losses": {"losses": {self.name: 0.1}},
            "reactions": {"on_alarm": self.name},
            "datasets": {"data": self.name},
        }
        joined = ways.get(self.kind, {self.kind: {self.name: {}}})
        beside = {**self.options}
        for key in beside.keys() & set(COMPONENTS):  # tables, which `merge` joins
            beside[key] = beside[key] if isinstance(beside[key], Mapping) else {one: {} for one in beside[key]}
        options = merge(SMALL, joined, {"steps": 0}, beside, more)
        return resolve(model, RunRequest(**options), self.catalogue)

    def _assemble(self, model: str, more: Mapping[str, Any]) -> tuple[Training, Batches]:
        resolved = self._resolve(model, more)
        return start.assemble(resolved, start.open_data(resolved, self.catalogue, Watcher()), self.catalogue)


def tensors(built: Training) -> dict[str, Tensor]:
    """Copies of a training's whole state between two steps: what its checkpoint saves, and the knobs."""
    state = {f"{file}/{key}": value for file, table in tensors_of(built).items() for key, value in table.items()}
    state |= {f"knob {name}": value for name, value in built.knobs().items()}
    return {name: value.detach().clone() for name, value in state.items()}
