"""`gankit.run` and `gankit.resume`: what the commands do, in the same words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config import resolve as config
from gankit.runs.environment import another_machine, environment, record_resume
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.lock import locked
from gankit.trained.run import Run
from gankit.training import checkpoint
from gankit.training.attempts import go
from gankit.training.interrupts import Interrupts
from gankit.training.resume import branch, go_back, standing
from gankit.training.start import assemble, chosen, describe_data, open_data, quiet_random, refuse_inside
from gankit.training.watcher import Watcher


def run(
    model: str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    preset: str | None = None,
    config_file: str | Path | None = None,
    set: Mapping[str, Any] | None = None,  # the flag's name
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    **options: Any,
) -> Run:
    """Train `model` on `data` into a new run folder and return it. The words are those of `gankit run`.

    `set`: settings of the model, or `COMPONENT.FIELD`, e.g. {"gamma": 0.7}. `options`: steps, time (seconds or "2h"),
    image_size, batch_size, seed, device, precision, on_alarm, fit, background, mirror, holdout, log_every,
    sample_every, checkpoint_every, losses ({name: weight}), controllers, diagnostics, views, artifacts (names).
    Raises `UserError` for a request that cannot be met, before anything is written; `TrainingError` for a training
    that failed. How it ended is in `Run.result`.
    """
    watcher = watcher or Watcher()
    if out is not None and Path(os.path.expanduser(out)).exists():
        RunFolder.create(out, model)  # refuses
    from_file = config.read_toml(config_file, plugins) if config_file else {}
    catalogue = Catalogue(plugins)
    flags = config.request(data=str(data) if data is not None else None, set=set, preset=preset, **options)
    asked = config.combine(from_file, flags)
    resolved = config.resolve(model, asked, catalogue)
    resolved = resolved.model_copy(update={"gankit": version("gankit"), "plugins": list(plugins)})
    refuse_inside(out, resolved.data)
    opened = open_data(resolved, catalogue, watcher)
    with quiet_random(resolved.device):
        training, batches = assemble(resolved, opened, catalogue)
        watcher.notice(chosen(resolved, asked, opened, training))
        with Interrupts() as interrupts:
            folder = RunFolder.create(out, model)
            write_json(folder / "config.json", resolved.model_dump(mode="json"))
            write_json(folder / "environment.json", environment(resolved, catalogue, command))
            write_json(folder / "data.json", describe_data(opened))
            made = Run(folder)
            watcher.notice(f"run folder: {folder}")
            with locked(made):
                go(made, training, batches, catalogue, watcher, interrupts)
                return made


def resume(
    run: str | Path | RunFolder,
    *,
    steps: int | None = None,
    time: float | str | None = None,
    from_step: int | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    losses: Mapping[str, float] | None = None,
    on_alarm: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, or that of `from_step`; `steps` is the total length.

    The result is bit-identical to a training that was never stopped, on the same machine and thread count. Changed
    settings are added to `history` in config.json; `out` branches off into a new folder. Raises as `run` does.
    """
    watcher = watcher or Watcher()
    made = run if isinstance(run, Run) else Run(run.folder if isinstance(run, RunFolder) else run)
    made.refuse_links()
    with locked(made) if out is None else nullcontext():  # before anything is read that another resume would change
        return _resumed(
            made, steps, time, from_step, out, set, losses, on_alarm, device, precision, plugins, watcher, command
        )


def _resumed(
    made: Run,
    steps: int | None,
    time: float | str | None,
    from_step: int | None,
    out: str | Path | None,
    set: Mapping[str, Any] | None,
    losses: Mapping[str, float] | None,
    on_alarm: str | None,
    device: str | None,
    precision: str | None,
    plugins: Sequence[str],
    watcher: Watcher,
    command: str | None,
) -> Run:
    old = made.config
    step = checkpoint.choose(made, from_step)
    catalogue = Catalogue(plugins, made_with=old.get("plugins", ()))
    if steps is not None:
        steps = max(steps, step)  # what is done is done
    flags = config.request(
        steps=steps, time=time, set=set, losses=losses, on_alarm=on_alarm, device=device, precision=precision
    )
    resolved, differing = config.amend(old | {"plugins": list(plugins) or old["plugins"]}, flags, catalogue, step)
    opened = open_data(resolved, catalogue, watcher)
    if opened.digest != made.data.get("digest"):
        watcher.notice(
            f"warning: the pictures of {resolved.data} have changed since the run began; "
            "it goes on with those there are now"
        )
    with quiet_random(resolved.device):
        training, batches = assemble(resolved, opened, catalogue)
        if out is not None:
            refuse_inside(out, resolved.data)
            checkpoint.load(made, step, training)  # what does not fit is refused before there is a folder
            made = Run(branch(made, step, out, training.healthy).folder)
        with Interrupts() as interrupts, nullcontext() if out is None else locked(made):
            checkpoint.load(made, step, training)
            # With other settings it is to be tried first whether they help.
            trains_alike = differing <= {"steps", "time", "on_alarm"}
            alarms = standing(made, training) if "on_alarm" in differing and trains_alike else []
            go_back(made, training, step, differing - {"steps", "time"})
            differs = another_machine(made, resolved)
            if differs:
                watcher.notice(differs)
            write_json(made.folder / "config.json", resolved.model_dump(mode="json"))
            write_json(made.folder / "data.json", describe_data(opened))
            record_resume(made, resolved, catalogue, command)
            if resolved.steps is not None and training.number >= resolved.steps:
                watcher.notice(f"{made.folder} is at step {training.number:,} already: give a larger --steps to go on")
            go(made, training, batches, catalogue, watcher, interrupts, alarms)
            return made
