"""`gankit.run` and `gankit.resume`, with the options of the commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.amend import amend, current_form
from gankit.config.request import RESUMED, RunRequest, read_toml
from gankit.config.resolve import resolve
from gankit.errors import UserError
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
    config_file: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    **options: Any,
) -> Run:
    """Train `model` on `data` into a new run folder and return it. The options are those of `gankit run`.

    `options`: those of docs/settings.md by name. `set`: settings of the model, or `COMPONENT.FIELD`, e.g.
    {"gamma": 0.7}; losses: {name: weight}; controllers, diagnostics, views, artifacts: names; time: seconds or "2h".
    Raises `UserError` for an invalid request, before it writes anything, and `TrainingError` if the training fails.
    `Run.result` says how the training ended.
    """
    watcher = watcher or Watcher()
    if out is not None and Path(os.path.expanduser(out)).exists():
        RunFolder.create(out, model)  # raises the UserError
    from_file = read_toml(config_file, plugins) if config_file else RunRequest()
    catalogue = Catalogue(plugins)
    request = RunRequest(data=str(data) if data is not None else None, **options).over(from_file)
    resolved = resolve(model, request, catalogue)
    resolved = resolved.model_copy(update={"gankit": version("gankit"), "plugins": list(plugins)})
    refuse_inside(out, resolved.data)
    opened = open_data(resolved, catalogue, watcher)
    with quiet_random(resolved.device):
        training, batches = assemble(resolved, opened, catalogue)
        resolved = training.config
        watcher.notice(chosen(resolved, request, opened, training))
        with Interrupts() as interrupts:
            folder = RunFolder.create(out, model)
            write_json(folder / "config.json", resolved.model_dump(mode="json"))
            write_json(folder / "environment.json", environment(resolved, catalogue, command))
            write_json(folder / "data.json", describe_data(opened))
            new_run = Run(folder)
            watcher.notice(f"run folder: {folder}")
            with locked(new_run):
                go(new_run, training, batches, catalogue, watcher, interrupts)
                return new_run


def resume(
    run: str | Path | RunFolder,
    *,
    from_step: int | None = None,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    **options: Any,
) -> Run:
    """Continue a run from its last checkpoint, or that of `from_step`. The options are those of `gankit resume`.

    `options`: steps (the total length), time, set, losses, on_alarm, device, precision, as for `run`.
    On the same machine and thread count the result is bit-identical to an unbroken training. Changed settings go into
    `history` in config.json; `out` branches off into a new folder. Raises as `run` does.
    """
    watcher = watcher or Watcher()
    request = RunRequest(**options)
    fixed = sorted(options.keys() - RESUMED)
    if fixed:
        raise UserError(f"{fixed[0]} cannot be changed at a resume; what can: {', '.join(sorted(RESUMED))}")
    run_folder = run if isinstance(run, Run) else Run(run.folder if isinstance(run, RunFolder) else run)
    run_folder.refuse_links()
    with locked(run_folder) if out is None else nullcontext():  # first, because another resume could change the files
        return _resumed(run_folder, request, from_step, out, plugins, watcher, command)


def _resumed(
    run: Run,
    request: RunRequest,
    from_step: int | None,
    out: str | Path | None,
    plugins: Sequence[str],
    watcher: Watcher,
    command: str | None,
) -> Run:
    stored = run.config
    if out is None:  # then this process holds the lock
        run.clear_unfinished()
    step = checkpoint.choose(run, from_step)
    catalogue = Catalogue(plugins, made_with=stored.get("plugins", ()))
    old, dropped = current_form(stored | {"plugins": list(plugins) or stored["plugins"]}, catalogue)
    resolved, differing = amend(old, request, catalogue, step, dropped=dropped)
    if dropped:
        constants = ", ".join(f"{key.partition('.')[2]} is {value:g}" for key, value in dropped.items())
        watcher.notice(f"warning: former settings of this run are constants now: {constants}")
    data = open_data(resolved, catalogue, watcher)
    if data.digest != run.data.get("digest"):
        watcher.notice(
            f"warning: the pictures of {resolved.data} have changed since the run began; "
            "it goes on with those there are now"
        )
    with quiet_random(resolved.device):
        training, batches = assemble(resolved, data, catalogue)
        resolved = training.config
        if out is not None:
            refuse_inside(out, resolved.data)
            checkpoint.load(run, step, training)  # raises a misfit before `branch` makes a folder
            run = Run(branch(run, step, out, training.healthy).folder)
        with Interrupts() as interrupts, nullcontext() if out is None else locked(run):
            checkpoint.load(run, step, training)
            # With other settings the training goes on first: they may help.
            trains_alike = differing <= {"steps", "time", "on_alarm"}
            alarms = standing(run, training) if "on_alarm" in differing and trains_alike else []
            for name, count in run.damaged_lines().items():
                watcher.notice(f"warning: {count:,} damaged line{'s' * (count > 1)} of {name}: kept in {name}.damaged")
            go_back(run, training, step, differing - {"steps", "time"})
            differs = another_machine(run, resolved)
            if differs:
                watcher.notice(differs)
            write_json(run.folder / "config.json", resolved.model_dump(mode="json"))
            write_json(run.folder / "data.json", describe_data(data))
            record_resume(run, resolved, catalogue, command)
            if resolved.steps is not None and training.number >= resolved.steps:
                watcher.notice(f"{run.folder} is at step {training.number:,} already: give a larger --steps to go on")
            go(run, training, batches, catalogue, watcher, interrupts, alarms)
            return run
