"""`gankit.run`, `gankit.resume`, `gankit.compare` and `gankit.sweep`, with the options of the commands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from gankit.catalogue import Catalogue
from gankit.config.amend import amend, current_form, of_this_form
from gankit.config.file import read_file
from gankit.config.request import RESUMED, RunRequest, by_home
from gankit.config.resolve import resolve
from gankit.config.schema import RunConfig
from gankit.data.source import Data
from gankit.errors import TrainingError, UserError
from gankit.runs.advice import to_resume
from gankit.runs.environment import another_machine, edited, environment, record_resume
from gankit.runs.folder import RunFolder, write_json
from gankit.runs.lock import locked
from gankit.trained.run import Run
from gankit.training import checkpoint
from gankit.training.attempts import go
from gankit.training.interrupts import Interrupts
from gankit.training.resume import branch, go_back, standing
from gankit.training.start import (
    assemble,
    chosen,
    describe_data,
    displaced,
    few,
    open_data,
    quiet_random,
    refuse_inside,
    refuse_unwritable,
)
from gankit.training.state import Training
from gankit.training.watcher import Watcher
from gankit.training.workers import ProcessGone, team

MODEL = "began"  # trained where neither the call, a file nor a plugin of --plugin names one


def run(
    model: str | None = None,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    config_file: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    nproc: int = 1,
    **options: Any,
) -> Run:
    """Train `model` on `data` into a new run folder and return it. The options are those of `gankit run`.

    `model`: by default that of `config_file` (TOML, or a run's config.json), of `plugins`, or else BEGAN. `options`:
    settings of the model (`gamma=0.7`), and those of docs/settings.md by name: `set`: also `COMPONENT.FIELD`, e.g.
    {"balance.floor": 0.1}; losses: {name: weight}; controllers, diagnostics, views, artifacts: names; time: seconds or
    "2h". `nproc`: number of processes (docs/scale.md).
    A terminal and a notebook show the progress, unless there is another `watcher`; `gankit.Watcher()` is quiet.
    Raises `UserError` for an invalid request, before it writes anything, and `TrainingError` if the training fails.
    `Run.result` says how the training ended.
    """
    with _shown(watcher) as watcher:
        return _run(model, data, out, config_file, plugins, watcher, command, nproc, options)


def compare(
    models: Sequence[str], data: str | Path | None = None, *, watcher: Watcher | None = None, **options: Any
) -> dict[str, Any]:
    """Train several models on the same pictures, several seeds each: `gankit.compare(["began", "ebgan"], "demo")`.

    `options`: seeds (3), seed (0), images or budget ("10m") in place of steps, networks, coverage, samples (2000), fid,
    jobs, ray, out, plugins, and those of `run`. Returns the content of comparison.json (docs/compare.md) and "folder".
    Raises `UserError` before it writes anything. A run that collapses or fails is a result.
    """
    from gankit.comparison.compare import compare

    with _shown(watcher) as watcher:
        return compare(models, data, watcher=watcher, **options)


def sweep(
    model: str,
    data: str | Path | None = None,
    *,
    vary: Sequence[str] | Mapping[str, Any],
    watcher: Watcher | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train `model` with many combinations of settings: `gankit.sweep("began", "demo", vary={"gamma": [0.3, 0.7]})`.

    `vary`: choices, or a range "uniform:0.3,0.9", "loguniform:1e-5,4e-4", "int:8,64", by setting; or texts as of
    `--vary`. `options`: trials, search ("grid", "random", "optuna"), goal ("score"), stop_early, seeds (1), seed (0),
    jobs, ray, out, plugins, and those of `run`. Returns the content of sweep.json (docs/sweep.md), and its "folder".
    Raises `UserError` before it writes anything. A trial that collapses or fails is a result.
    """
    from gankit.sweeps.sweep import sweep

    with _shown(watcher) as watcher:
        return sweep(model, data, vary=vary, watcher=watcher, **options)


@contextmanager
def _shown(watcher: Watcher | None) -> Iterator[Watcher]:
    """The watcher, or else the progress where somebody looks."""
    if watcher is not None:
        yield watcher
        return
    from gankit.cli.progress import somebody_looks

    with somebody_looks() as progress:
        yield progress


def _run(
    model: str | None,
    data: str | Path | None,
    out: str | Path | None,
    config_file: str | Path | None,
    plugins: Sequence[str],
    watcher: Watcher,
    command: str | None,
    nproc: int,
    options: Mapping[str, Any],
) -> Run:
    if out is not None:
        RunFolder.refuse_existing(Path(os.path.expanduser(out)))
    model, request, catalogue = _requested(model, data, config_file, plugins, options)
    resolved = resolve(model, request, catalogue)
    resolved = resolved.model_copy(update={"gankit": version("gankit"), "plugins": list(plugins)})
    refuse_inside(out, resolved.data)
    opened = open_data(resolved, catalogue, watcher)
    with suppress(ProcessGone), quiet_random(resolved.device):
        training, batches = assemble(resolved, opened, catalogue)
        resolved = training.config
        watcher.notice(chosen(resolved, request, opened, training))
        for line in (*displaced(training), few(resolved, opened)):
            if line:
                watcher.notice(line)
        with Interrupts() as interrupts, team(nproc, resolved.device) as others:
            if others:
                others.enlist(resolved, opened)

            def fill(folder: Path) -> None:
                write_json(folder / "config.json", resolved.model_dump(mode="json"))
                write_json(folder / "environment.json", environment(resolved, catalogue, command))
                write_json(folder / "data.json", describe_data(opened))

            new_run = Run(RunFolder.create(out, model, fill))
            watcher.notice(f"run folder: {new_run.folder}")
            with locked(new_run):
                go(new_run, training, batches, catalogue, watcher, interrupts, team=others)
                return new_run
    return _going_on(new_run, plugins, watcher, command, nproc, 0.0)


RESTARTS = 3  # of a training whose other processes end under it


def _going_on(
    run: Run, plugins: Sequence[str], watcher: Watcher, command: str | None, nproc: int, before: float
) -> Run:
    """Continue from the last checkpoint with new processes. Raises `TrainingError` if they end again and again.

    `before`: the seconds of training with which this start began, for a run that a time limit ends.
    """
    limit = run.config.get("time")
    for _ in range(RESTARTS):
        watcher.notice("another process of the training has ended: it goes on from the last checkpoint with new ones")
        left = {} if limit is None else {"time": f"{max(limit - run.trained() + before, 0.001):.3f}"}
        with suppress(ProcessGone), locked(run):
            return _resumed(run, left, None, None, plugins, watcher, command, nproc)
    raise TrainingError(
        f"the other processes of {run.folder} ended {RESTARTS + 1} times, perhaps for want of memory: go on with "
        f"fewer, or with one: {to_resume(run.folder, plugins)}"
    )


def prepare(
    model: str | None,
    data: str | Path | None = None,
    *,
    config_file: str | Path | None = None,
    plugins: Sequence[str] = (),
    **options: Any,
) -> tuple[RunConfig, Data, Training]:
    """The configuration, the data and the training of `run` with the same arguments, before the first step."""
    model, request, catalogue = _requested(model, data, config_file, plugins, options)
    resolved = resolve(model, request, catalogue)
    opened = open_data(resolved, catalogue, Watcher())
    with quiet_random(resolved.device):
        training, _ = assemble(resolved, opened, catalogue)
    return training.config, opened, training


def _requested(
    model: str | None,
    data: str | Path | None,
    config_file: str | Path | None,
    plugins: Sequence[str],
    options: Mapping[str, Any],
) -> tuple[str, RunRequest, Catalogue]:
    """The model and the request of the arguments of `run`, and the catalogue with its plugins."""
    catalogue = Catalogue(plugins)

    def default() -> str:  # asked for only where neither the call nor the file names a model
        return catalogue.added_model() or MODEL

    from_file = read_file(config_file, plugins, catalogue, model, default) if config_file is not None else RunRequest()
    model = model or from_file.model.get("name") or default()
    given = by_home(options, catalogue.get("models", model).Settings.model_fields)
    return model, RunRequest(data=str(data) if data is not None else None, **given).over(from_file), catalogue


def resume(
    run: str | Path | RunFolder,
    *,
    from_step: int | Literal["best"] | None = None,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    nproc: int = 1,
    **options: Any,
) -> Run:
    """Continue a run from its last checkpoint, that of `from_step`, or the "best" by its score.

    The options are those of `gankit resume`.

    `options`: steps (the total length), time, set, losses, on_alarm, device, precision and settings of the model, as
    for `run`.
    On the same machine and thread count the result is bit-identical to an unbroken training. Changed settings go into
    `history` in config.json; `out` branches off into a new folder. Shows the progress and raises as `run` does.
    """
    run_folder = run if isinstance(run, Run) else Run(run.folder if isinstance(run, RunFolder) else run)
    run_folder.refuse_links()
    if out is None:
        refuse_unwritable("the run", run_folder.folder)
    lock = locked(run_folder) if out is None else nullcontext()
    before = run_folder.trained(from_step) if nproc > 1 else 0.0
    with _shown(watcher) as watcher:
        with lock, suppress(ProcessGone):  # the lock first, because another resume could change the files
            return _resumed(run_folder, options, from_step, out, plugins, watcher, command, nproc)
        trained = run_folder if out is None else Run(os.path.expanduser(out))
        return _going_on(trained, plugins, watcher, command, nproc, before)


def _changes(stored: Mapping[str, Any], options: Mapping[str, Any], catalogue: Catalogue) -> RunRequest:
    """The request of the options of a resume. Raises `UserError` for one that a resume cannot change."""
    given = by_home(options, catalogue.get("models", stored["model"]["name"]).Settings.model_fields)
    request = RunRequest(**given)
    fixed = sorted(given.keys() - RESUMED)
    if fixed:
        raise UserError(f"{fixed[0]} cannot be changed at a resume; what can: {', '.join(sorted(RESUMED))}")
    return request


def _refuse_vain(run: Run, step: int, resolved: RunConfig, differing: Set[str]) -> None:
    """Raise for other settings of a run that is at its last step: nothing would be trained with them."""
    done = resolved.steps is not None and step >= resolved.steps
    if done and differing - {"steps", "time", "on_alarm"}:
        raise UserError(
            f"{run.folder} is at its last step, {step:,}: with other settings it would train nothing. Give a larger "
            f"--steps, e.g. --steps {2 * max(step, 1)}, or an earlier --from"
        )


def _opened_again(run: Run, resolved: RunConfig, catalogue: Catalogue, watcher: Watcher) -> Data:
    """The run's data, with a warning where they have changed."""
    data = open_data(resolved, catalogue, watcher)
    if data.digest != run.data.get("digest"):
        watcher.notice(
            f"warning: the pictures of {resolved.data} have changed since the run began; "
            "it goes on with those there are now"
        )
    before = run.data.get("labels")
    if isinstance(before, list) and list(data.classes) != before:
        were, are = (", ".join(map(str, names[:8])) or "none" for names in (before, data.classes))
        watcher.notice(
            f"warning: the classes of {resolved.data} were {were} when the run began, and are {are}: a model that uses "
            "classes goes on with the new ones under the old numbers"
        )
    return data


def _resumed(
    run: Run,
    options: Mapping[str, Any],
    from_step: int | Literal["best"] | None,
    out: str | Path | None,
    plugins: Sequence[str],
    watcher: Watcher,
    command: str | None,
    nproc: int,
) -> Run:
    stored = of_this_form(run.config)
    if out is None:  # then this process holds the lock
        run.clear_unfinished()
    catalogue = Catalogue(plugins, made_with=stored.get("plugins", ()))
    request = _changes(stored, options, catalogue)
    anew = out is None and from_step in (None, 0) and not run.begun()
    step = 0 if anew else checkpoint.choose(run, from_step)
    old, dropped = current_form(stored | {"plugins": list(plugins)}, catalogue)
    resolved, differing = amend(old, request, catalogue, step, dropped=dropped)
    _refuse_vain(run, step, resolved, differing)
    if dropped:
        constants = ", ".join(f"{key.partition('.')[2]} is {value:g}" for key, value in dropped.items())
        watcher.notice(f"warning: former settings of this run are constants now: {constants}")
    data = _opened_again(run, resolved, catalogue, watcher)
    with quiet_random(resolved.device):
        training, batches = assemble(resolved, data, catalogue)
        if training.config.batch_size < resolved.batch_size:
            raise UserError(
                f"{resolved.data} has {len(data.train)} pictures to train on now, fewer than a batch of this run, "
                f"{resolved.batch_size}: bring back what is missing, or begin a new run"
            )
        resolved = training.config
        with Interrupts() as interrupts, team(nproc, resolved.device) as others, ExitStack() as held:
            if others:
                others.enlist(resolved, data)
            if out is not None:
                refuse_inside(out, resolved.data)
                checkpoint.load(run, step, training)  # raises a misfit before `branch` makes a folder
                also = {training.healthy} | ({training.best[0]} if training.best else set())
                run = Run(branch(run, step, out, also, resolved).folder)
                held.enter_context(locked(run))
            if not anew:
                checkpoint.load(run, step, training)
            # With other settings the training goes on first: they may help.
            trains_alike = differing <= {"steps", "time", "on_alarm"}
            alarms = standing(run, training) if "on_alarm" in differing and trains_alike else []
            for name, count in run.damaged_lines().items():
                watcher.notice(f"warning: {count:,} damaged line{'s' * (count > 1)} of {name}: kept in {name}.damaged")
            if not anew:
                go_back(run, training, step, differing - {"steps", "time"})
            for line in (another_machine(run, resolved), *edited(run, resolved, catalogue)):
                if line:
                    watcher.notice(line)
            write_json(run.folder / "config.json", resolved.model_dump(mode="json"))
            write_json(run.folder / "data.json", describe_data(data))
            record_resume(run, resolved, catalogue, command)
            if resolved.steps is not None and training.number >= resolved.steps:
                watcher.notice(f"{run.folder} is at step {training.number:,} already: give a larger --steps to go on")
            go(run, training, batches, catalogue, watcher, interrupts, alarms, others)
            return run
