"""`gankit.run` and `gankit.resume`: what the commands do, in the same words."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from filelock import FileLock, Timeout

from gankit import files
from gankit.catalogue import Catalogue
from gankit.components import Alarm
from gankit.config import resolve as config
from gankit.config.resolve import RunConfig
from gankit.data.batches import Batches
from gankit.data.source import Data, Request
from gankit.device import crowded, describe, peak_memory
from gankit.errors import TrainingError, UserError, told
from gankit.files import replacing
from gankit.runs.environment import environment, record_resume, warn_of_another_machine
from gankit.runs.folder import LINES, OBJECTS, FolderGone, RunFolder, to_resume, write_json
from gankit.trained.run import Run
from gankit.training import checkpoint
from gankit.training.build import build
from gankit.training.dry_run import refuse_misfits
from gankit.training.interrupts import Interrupts
from gankit.training.loop import scheduled, train
from gankit.training.record import Recorder, Watcher
from gankit.training.rescue import Plan
from gankit.training.state import Training

BRIEFLY = 0.5  # seconds to wait for a lock: who only looks whether a training goes on holds it for a moment


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
                return go(made, training, batches, catalogue, watcher, interrupts)


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
            made = branch(made, step, out, training.healthy)
        with Interrupts() as interrupts, nullcontext() if out is None else locked(made):
            checkpoint.load(made, step, training)
            # With other settings it is to be tried first whether they help.
            trains_alike = differing <= {"steps", "time", "on_alarm"}
            alarms = standing(made, training) if "on_alarm" in differing and trains_alike else []
            go_back(made, training, step, differing - {"steps", "time"})
            warn_of_another_machine(made, resolved, watcher)
            write_json(made.folder / "config.json", resolved.model_dump(mode="json"))
            write_json(made.folder / "data.json", describe_data(opened))
            record_resume(made, resolved, catalogue, command)
            if resolved.steps is not None and training.number >= resolved.steps:
                watcher.notice(f"{made.folder} is at step {training.number:,} already: give a larger --steps to go on")
            return go(made, training, batches, catalogue, watcher, interrupts, alarms)


def open_data(resolved: RunConfig, catalogue: Catalogue, watcher: Watcher) -> Data:
    """Open a folder, or the data source NAME[:ARGUMENT]."""
    asked = Request(resolved.image_size, resolved.fit, resolved.background_rgb, resolved.holdout, watcher.decoding)
    data = config.open_source(resolved.data, asked, catalogue, resolved.datasets)
    if data.skipped:
        first = data.skipped[0]
        watcher.notice(
            f"skipped {len(data.skipped)} file{'s' * (len(data.skipped) > 1)} of {resolved.data}, "
            f"first {first['file']}: {first['reason']} (all in data.json)"
        )
    if data.warned:
        first = data.warned[0]
        watcher.notice(
            f"warning: {len(data.warned)} picture{'s' * (len(data.warned) > 1)}, "
            f"first {first['file']}: {first['reason']} (all in data.json)"
        )
    if len(data.train) < resolved.batch_size:
        raise UserError(
            f"{resolved.data} has {len(data.train)} pictures to train on, fewer than a batch of {resolved.batch_size}: "
            "add pictures, or use a smaller --batch-size" + (" or --holdout 0" if resolved.holdout else "")
        )
    return data


def assemble(resolved: RunConfig, data: Data, catalogue: Catalogue) -> tuple[Training, Batches]:
    """The training and its batches; what does not fit is refused here, before anything is written.

    Raises `UserError` for that, and `TrainingError` where the code of a model or component failed.
    """
    try:
        training = build(resolved, data.shape, catalogue, data.classes)
        updates = len(training.model.updates)
        batches = Batches(data, resolved.batch_size, resolved.seed, training.device, resolved.mirror, updates)
        refuse_misfits(training, batches)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if catalogue.strict:
            raise
        raise TrainingError(
            f"model {resolved.model['name']!r} failed before its first step, and nothing was written: {told(error)}; "
            "GANKIT_STRICT=1 shows the traceback"
        ) from error
    return training, batches


def go(
    made: Run,
    training: Training,
    batches: Batches,
    catalogue: Catalogue,
    watcher: Watcher,
    interrupts: Interrupts,
    alarms: Sequence[tuple[str, Alarm]] = (),
) -> Run:
    """Train, write result.json, draw, tell; and say in result.json how it ended, whatever happens.

    `alarms`: those of diagnostics that are to be acted on at once.
    """
    recorder = Recorder(made, training, batches, catalogue, watcher)
    slow = crowded(training.config.device)
    if slow:
        watcher.notice(slow)
    result: dict[str, Any] = {}
    failure: BaseException | None = None
    gone = ""
    before = made.result
    (made.folder / "result.json").unlink(missing_ok=True)
    for line in catalogue.notify("gankit_run_started", run=made):
        watcher.notice(line)
    first = training.number
    reserve = ExitStack()  # room for result.json on a disk that fills up
    with suppress(OSError):
        reserve.enter_context(tempfile.TemporaryFile(dir=made.folder, buffering=0)).write(bytes(1 << 16))  # noqa: SIM115
    try:
        if not made.checkpoints():
            checkpoint.save(made, training)
        if not made.sample_path(training.number).exists():
            recorder.sample()
        watcher.begin(training)
        for name, alarm in alarms:
            recorder.alarm(name, replace(alarm, advice=recorder.snapshot({}).advice(alarm.kind)))
        deadline = perf_counter() + (training.config.time or math.inf)
        result = train(made, training, batches, recorder, interrupts, deadline)
        recorder.came_of_rescue()
        while recorder.plan:
            watcher.end()
            try:
                training, batches = rescued(made, recorder.plan, batches.data, catalogue)
            except (UserError, TrainingError, torch.OutOfMemoryError) as error:
                if recorder.does_not_fit(recorder.plan, error):
                    continue
                result |= {"outcome": "stopped", "reason": "alarm"}
                break
            recorder.close()  # only now: what does not fit is told in its lines
            recorder = Recorder(made, training, batches, catalogue, watcher, recorder.refused)
            watcher.begin(training)
            result = train(made, training, batches, recorder, interrupts, deadline)
            recorder.came_of_rescue()
        if result["reason"] == "alarm":
            result["healthy"] = training.healthy
            if recorder.keep_best and training.healthy in made.checkpoints():
                made.abandon_after(training.healthy)  # so that what is last in the folder is what is good
        if training.number == first and before.get("images_per_second"):
            result["images_per_second"] = before["images_per_second"]
    except FolderGone:
        gone = f"run folder {made.folder} was deleted under its training, which ends at step {training.number:,}"
    except BaseException as error:
        failure = error
        result = {
            "outcome": "failed",
            "reason": type(error).__name__,
            "steps": training.number,
            "seconds": round(training.seconds, 3),
            "images_per_second": None,
            "message": " ".join(str(error).split()),
        }
        with suppress(UserError), replacing(made.folder / "traceback.txt") as beside:
            beside.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        watcher.end()
        recorder.close()
        if not gone:
            recorder.follow()
            reserve.close()
            result |= {"output": f"lost: {watcher.lost}"} if watcher.lost else {}
            result["peak_memory"] = peak_memory(training.config.device)
            write_json(made.folder / "result.json", result)
    if gone:
        raise TrainingError(f"{gone}: nothing of it is left to go on from, and nothing is made in its place")
    recorder.draw()
    for line in catalogue.notify("gankit_run_finished", run=made, result=result):
        watcher.notice(line)
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    if failure is not None:
        command = to_resume(made.folder, training.config.plugins)
        go_on = f"; go on from the last checkpoint with `{command}`" if made.checkpoints() else ""
        raise TrainingError(
            f"the training failed after step {training.number}: {type(failure).__name__}: {result['message']} "
            f"(traceback in {made.folder / 'traceback.txt'}{go_on})"
        ) from failure
    return made


def rescued(made: RunFolder, plan: Plan, data: Data, catalogue: Catalogue) -> tuple[Training, Batches]:
    """The training that a rescue goes on with; what is abandoned is kept aside."""
    training, batches = assemble(plan.config, data, catalogue)
    checkpoint.load(made, plan.step, training)
    training.healthy = plan.step  # what it says itself may be an older one, which is gone
    training.attempt, training.since = made.abandon_after(plan.step), plan.step
    write_json(made.folder / "config.json", plan.config.model_dump(mode="json"))
    return training, batches


def standing(made: RunFolder, training: Training) -> list[tuple[str, Alarm]]:
    """The critical alarms since the last healthy step, with their diagnostics, of those that have not seen all well."""
    found: dict[str, Alarm] = {}
    for line in made.alarms():
        name = line.get("diagnostic")
        if line.get("severity") != "critical" or line.get("attempt", 1) != training.attempt:
            continue
        if training.healthy < line["step"] <= training.number and isinstance(name, str):
            readings = line.get("readings")
            found[name] = Alarm(
                str(line.get("kind")),
                "critical",
                str(line.get("message")),
                readings=readings if isinstance(readings, Mapping) else {},
                before=line.get("before"),
            )
    return [(name, alarm) for name, alarm in found.items() if not training.verdicts.get(name, True)]


def go_back(made: RunFolder, training: Training, step: int, differing: set[str]) -> None:
    """Make room for the steps after `step`.

    Where the same training goes on from its last checkpoint, it is about to write the same lines again; where
    settings changed or it returns to an earlier step, what was there is kept: lines in place, pictures set aside.
    """
    if made.attempt > training.attempt:  # killed before this attempt's first checkpoint
        training.since = step
    training.attempt = made.attempt
    lines = [line["step"] for line in made.metrics() if line.get("attempt", 1) == training.attempt]
    beyond = any(number > step for number in (*lines, *(number for number, _ in made.samples())))
    if training.healthy not in made.checkpoints():  # rotated away since: better the one chosen than none
        training.healthy = step
    if step != made.checkpoints()[-1] or (differing and beyond):
        training.attempt, training.since = made.abandon_after(step), step
        return
    arrived = training.config.steps is not None and step >= training.config.steps  # and keeps its last line
    made.drop_lines(
        lambda number: number > step or (number == step and not arrived and not scheduled(training, number)),
        training.attempt,
    )


def branch(made: RunFolder, step: int, out: str | Path, healthy: int) -> Run:
    """A new run folder with what belongs to the steps up to `step`, and the last healthy checkpoint."""
    folder = RunFolder.create(out, made.config["model"]["name"])
    names = [name for name in (*OBJECTS, *LINES) if name != "result.json" and (made.folder / name).exists()]
    paths = [made.folder / name for name in names]
    for number in {step, healthy} & set(made.checkpoints()):
        paths += checkpoint.files(made, number)
    paths += [path for number, path in made.samples() if number <= step]
    for path in paths:
        target = folder / path.relative_to(made.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(files.opened(made.folder, path), "rb") as old, open(target, "xb") as new:
            shutil.copyfileobj(old, new)
    branched = Run(folder)
    branched.drop_lines(lambda number: number > step)
    return branched


def chosen(resolved: RunConfig, asked: Mapping[str, Any], data: Data, training: Training) -> str:
    """One line: what will be trained, and why so."""
    free = [
        key
        for key in ("image_size", "batch_size", "precision", "steps")
        if asked.get(key) is None and not (key == "steps" and resolved.time)
    ]
    size = "×".join(map(str, data.shape[1:])) if len(data.shape) == 3 else f"points of {data.shape[0]} numbers"
    filters = f", {resolved.model['filters']} filters" if "filters" in resolved.model else ""
    length = f"{resolved.steps:,} steps" if resolved.steps is not None else f"{resolved.time:.0f} s"
    why = "a GPU is there, so the paper's sizes"
    if resolved.device == "cpu":
        why = "no GPU here, so small sizes"
    because = f" ({why}; change with --{', --'.join(key.replace('_', '-') for key in free)})" if free else ""
    return (
        f"{resolved.model['name']} on {len(data.train):,} items of {resolved.data} ({len(data.held_out):,} held out): "
        f"{size}{filters}, batch {resolved.batch_size}, {length}, "
        f"{resolved.precision} on {describe(resolved.device)}{because}"
    )


def describe_data(data: Data) -> dict[str, Any]:
    """data.json."""
    return {
        "name": data.name,
        "train": len(data.train),
        "held_out": len(data.held_out),
        "shape": list(data.shape),
        "digest": data.digest,
        "labels": list(data.classes),
        "skipped": data.skipped,
        "warned": data.warned,
    }


@contextmanager
def locked(made: RunFolder) -> Any:
    """No second process trains in the same folder."""
    # A link, whose end a lock would empty, is refused.
    os.close(files.opened(made.folder, made.lock_path, os.O_RDWR | os.O_CREAT))
    lock = FileLock(made.lock_path, timeout=BRIEFLY)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"run {made.folder} is being trained by another process: wait for it, or branch off with --out"
        ) from None
    made.hold()
    try:
        yield
    finally:
        with suppress(OSError, FolderGone):  # ours alone: another folder may have the name by now
            made.follow()
            os.unlink(made.lock_path)
        lock.release()
        made.let_go()


@contextmanager
def quiet_random(device: str) -> Any:
    """A training seeds torch's own random stream at every update; the caller's is put back."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        yield


def refuse_inside(out: str | Path | None, data: str | Path) -> None:
    pictures = os.path.realpath(os.path.expanduser(data))
    folder = Path(os.path.realpath(os.path.expanduser(out or "runs")))
    if os.path.isdir(pictures) and folder.is_relative_to(pictures):
        where = f"--out {out}" if out else "the new run's folder under runs/"
        raise UserError(
            f"{where} would lie inside the pictures of {data}, and its samples would join them: "
            "choose an --out elsewhere"
        )
