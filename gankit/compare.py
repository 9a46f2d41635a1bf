"""`gankit compare`: each arm with each seed as a run of its own, in a process of its own, and what came of them.

COMPARISON/comparison.json   what was asked, the arms, their differences, a row for each run, the table, the summary
COMPARISON/comparison.csv    a row for each run
COMPARISON/report.html       all of it in one page
COMPARISON/runs/ARM-SEED/    ordinary run folders, with what each printed in ARM-SEED.log beside it

Started again it goes on: what is done is kept, what was interrupted is resumed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

from filelock import FileLock, Timeout

import gankit
from gankit import api, config
from gankit.comparison import results
from gankit.comparison.arms import (
    BACKBONE,
    Arm,
    assembled,
    differences,
    flags,
    folder_names,
    parse,
    resolve,
    steps_of,
    together,
)
from gankit.errors import UserError
from gankit.files import replacing
from gankit.interrupts import Interrupts
from gankit.pictures import FEWEST
from gankit.plugins import Catalogue
from gankit.recorder import Watcher
from gankit.runs import Run, write_json

EVERY = 30.0  # seconds between two words on a run
Row = dict[str, Any]


def compare(
    models: Sequence[str],
    data: str | Path | None = None,
    *,
    seeds: int = 3,
    seed: int = 0,
    images: int | None = None,
    budget: float | str | None = None,
    networks: str = BACKBONE,
    coverage: float | None = None,
    samples: int = 2000,
    jobs: int = 1,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
    watcher: Watcher | None = None,
    command: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train every one of `models` (MODEL or MODEL:KEY=VALUE,…) with `seeds` seeds from `seed` on, and compare them.

    All see as many pictures: `images`, or what `steps` steps of the smallest batch among them show; or all train for
    `budget` ("10m"). `networks` is the pair that all are built on, or "own". `samples` pictures of each run are
    measured; `coverage` is the share to which the time is told. The other options are those of `gankit.run`.
    Returns what stands in comparison.json, and its "folder". Raises UserError for a request that cannot be met, before
    anything is written; a run that collapses or fails is a result.
    """
    watcher = watcher or Watcher()
    if sum(given is not None for given in (options.get("steps"), images, budget)) > 1 or "time" in options:
        raise UserError("one length for all, please: --steps, --images or --budget")
    plugins = [os.path.abspath(name) if os.path.exists(name) else name for name in plugins]
    if options.get("config_file"):
        options["config_file"] = os.path.abspath(options["config_file"])
    options = {"on_alarm": "warn", **{key: value for key, value in options.items() if value not in (None, (), {})}}
    seconds = config.duration(budget, "--budget") if isinstance(budget, str) else budget
    catalogue = Catalogue(plugins)
    arms = parse(models)
    shared = options | {"data": str(data) if data is not None else None, "time": seconds, "plugins": plugins}
    arms = resolve(arms, shared, networks, catalogue)
    first = arms[0].resolved
    assert first is not None
    asked = {
        "models": [arm.name for arm in arms],
        "data": first.data,
        "networks": networks,
        "images": images,
        "budget": seconds,
        "samples": samples,
        "coverage": coverage,
        "seed": seed,
        "seeds": seeds,
        **options,
    }
    folder = Path(os.path.expanduser(out)) if out is not None else None
    before = _earlier(folder, asked)
    opened = api.open_data(first, catalogue, watcher)
    if before and before["data"]["digest"] != opened.digest:
        raise UserError(
            f"{folder} compares other pictures: those of {first.data} have changed since; choose another --out"
        )
    if len(opened.held_out) < FEWEST:
        raise UserError(
            f"{first.data}: {len(opened.held_out)} pictures would be held out, and a comparison is made on them with "
            f"{FEWEST} at least: add pictures, or hold out more with --holdout"
        )
    arms = assembled(arms, opened, catalogue)
    if seconds is None and images is None:
        assert first.steps is not None
        images = first.steps * min(arm.pictures_a_step for arm in arms)
    plan: dict[str, Any] = {
        "schema": results.SCHEMA,
        "gankit": gankit.__version__,
        "command": command or "gankit.compare.compare(...)",
        "state": "running",
        "asked": asked,
        "data": api.describe_data(opened),
        "images": images,
        "budget": seconds,
        "arms": [_told(arm, images) for arm in arms],
        "differences": differences(arms),
        "runs": _rows(arms, range(seed, seed + seeds)),
        "about": {},
        "notes": [],
        "coverage": None,
        "measures": [],
        "summary": [],
    }
    if before:
        old, new = ({arm["name"]: arm["config"] for arm in one["arms"]} for one in (before, plan))
        changed = config.changes(old, new)
        if changed:
            raise UserError(f"{folder} was begun with another {next(iter(changed))}: choose another --out")
        assert folder is not None
        there = (row for row in before["runs"] if (folder / row["folder"] / "config.json").is_file())
        done = {row["folder"]: row for row in there}  # one whose folder was deleted is made again
        plan["runs"] = [done.get(row["folder"], row) for row in plan["runs"]]
        plan |= {key: before[key] for key in ("command", "about", "notes")}
    else:
        api.refuse_inside(out, first.data)
        folder = Run.create(out, "compare")
    assert folder is not None
    watcher.notice(f"comparison folder: {folder}")
    with _locked(folder), Interrupts() as interrupts:
        work = Comparison(folder, plan, arms, shared, plugins, watcher)
        work.write()
        work.train(jobs, interrupts)
        plan["state"] = "interrupted" if interrupts.signal else "finished"
        plan["reason"] = interrupts.signal
        work.write()
    return {**plan, "folder": str(folder)}


class Comparison:
    """A comparison under way: which runs are to do, and what is known of those that are done."""

    def __init__(
        self,
        folder: Path,
        plan: dict[str, Any],
        arms: Sequence[Arm],
        shared: Mapping[str, Any],
        plugins: Sequence[str],
        watcher: Watcher,
    ) -> None:
        self.folder, self.plan, self.plugins, self.watcher = folder, plan, plugins, watcher
        self.arms = {arm.name: arm for arm in arms}
        self.shared = shared
        self.told: dict[str, float] = {}  # folder of a run -> when something was last said of it

    def train(self, jobs: int, interrupts: Interrupts) -> None:
        """Bring every run to its end, `jobs` at a time, or to a checkpoint where a signal says so."""
        waiting: list[Row] = list(self.plan["runs"])
        busy: list[tuple[Row, Popen[bytes]]] = []
        sent: set[int] = set()  # processes that the signal has been passed on to
        while busy or (waiting and not interrupts.signal):
            while waiting and len(busy) < jobs and not interrupts.signal:
                row = waiting.pop(0)
                if self.over(row, interrupts):
                    self.finish(row)
                elif not interrupts.signal:
                    busy.append((row, self.start(row, jobs)))
            for row, process in list(busy):
                if interrupts.signal and process.pid not in sent:
                    process.send_signal(getattr(signal, interrupts.signal))
                    sent.add(process.pid)
                if process.poll() is not None:
                    busy.remove((row, process))
                    if not interrupts.signal or self.over(row):
                        self.finish(row, process.returncode)
                else:
                    self.tell(row)
            time.sleep(0.1)

    def path(self, row: Row) -> Path:
        return self.folder / row["folder"]

    def over(self, row: Row, interrupts: Interrupts | None = None) -> bool:
        """Whether a run has come to its end, whatever it was. One that an earlier start left training is waited for,
        until a signal comes.
        """
        path = self.path(row)
        if not (path / "config.json").exists():
            return False
        said = False
        while True:
            try:
                with api.locked(Run(path)):
                    break
            except UserError:
                if not said:
                    self.watcher.notice(f"{path} is still being trained by an earlier start: waiting for it")
                said = True
                if interrupts and interrupts.signal:
                    return False
                time.sleep(0.2)
        return Run(path).result.get("outcome") in ("finished", "stopped", "failed")

    def start(self, row: Row, jobs: int) -> Popen[bytes]:
        """Begin or resume a run. What it prints goes into a file: it must outlive the reader of our own output."""
        path, number = self.path(row), self.plan["runs"].index(row) + 1
        begun = (path / "config.json").exists() and Run(path).checkpoints()
        if begun:
            arguments = ["resume", str(path), *flags({"plugins": self.plugins})]
            if self.plan["budget"] is not None:
                arguments += ["--time", f"{max(self.plan['budget'] - _trained(Run(path)), 0.001):.3f}"]
        else:
            shutil.rmtree(path, ignore_errors=True)  # ended before its first checkpoint: nothing is lost
            arm = self.arms[row["arm"]]
            length = None if self.plan["images"] is None else steps_of(arm, self.plan["images"])
            options = together(self.shared, arm.options)
            options |= {"seed": row["seed"], "out": str(path)} | ({"steps": length} if length is not None else {})
            arguments = ["run", arm.model, *flags(options)]
        self.watcher.notice(
            f"{row['arm']}, seed {row['seed']} ({number} of {len(self.plan['runs'])}): "
            f"{'goes on' if begun else 'begins'}; what it says is in {path}.log"
        )
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if jobs > 1:  # threads that wait for each other lose far more than their share
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        path.parent.mkdir(exist_ok=True)
        with open(f"{path}.log", "ab") as log:
            # In a session of its own: Ctrl-C is ours to pass on, once.
            return Popen(
                [sys.executable, "-m", "gankit", *arguments],
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=environment,
                start_new_session=True,
            )

    def tell(self, row: Row) -> None:
        """A word on a run under way, now and then."""
        now, path = time.monotonic(), self.path(row)
        if now - self.told.setdefault(row["folder"], now) < EVERY or not (path / "config.json").exists():
            return
        self.told[row["folder"]] = now
        line = next(reversed(Run(path).metrics()), None)
        if line:
            goal = Run(path).config.get("steps")
            self.watcher.notice(
                f"{row['arm']}, seed {row['seed']}: step {line['step']:,}{f' of {goal:,}' if goal else ''}, "
                f"{line['images_per_second']:,.0f} images/s"
            )

    def finish(self, row: Row, code: int | None = None) -> None:
        """Note how a run went and measure its pictures, unless that is known."""
        path = self.path(row)
        if not (path / "config.json").exists() or not Run(path).result:
            row |= results.no_row(f"its process ended with code {code}; {_last_words(path)}")
        else:
            run = Run(path)
            row |= results.row(run, self.arms[row["arm"]].pictures_a_step)
            steps = run.checkpoints()
            if row["outcome"] != "failed" and steps and row.get("measured_step") != steps[-1]:
                self.measure(row, run, steps[-1])
        how = results.ending(row)
        self.watcher.notice(f"{row['arm']}, seed {row['seed']}: {how}")
        self.write()

    def measure(self, row: Row, run: Run, step: int) -> None:
        """The measures of a run's samples against the held-out pictures, at its last checkpoint."""
        from gankit.evaluation import evaluate

        asked = self.plan["asked"]
        try:
            found = evaluate(run, step=step, n=asked["samples"], plugins=self.plugins)
        except Exception as error:  # points, numbers that are none any more, no memory: the others go on
            row["unmeasured"] = str(error) or type(error).__name__
            return
        row["measures"] = {name: one.value for name, one in found.measures.items()}
        row["measured_step"] = step
        self.plan["about"] = {
            name: {"better": one.better, "space": one.space, "against": one.against, "ceiling": one.ceiling}
            for name, one in found.measures.items()
        }
        self.plan["notes"] = list(dict.fromkeys([*self.plan["notes"], *found.notes]))

    def write(self) -> None:
        """comparison.json, comparison.csv and report.html as things stand."""
        plan, ended = self.plan, [row for row in self.plan["runs"] if row.get("outcome")]
        curves = {row["folder"]: results.coverage_curve(Run(self.path(row))) for row in ended if row["steps"]}
        level = plan["asked"]["coverage"] or results.common_level(list(curves.values()))
        for row in ended:
            row["seconds_to_coverage"] = results.seconds_to(curves.get(row["folder"], []), level)
        plan["coverage"] = level
        plan["measures"] = results.table(list(self.arms), ended, plan["about"])
        plan["summary"] = results.summary(plan)
        write_json(self.folder / "comparison.json", plan)
        with replacing(self.folder / "comparison.csv") as beside:
            beside.write_text(results.as_csv(plan), encoding="utf-8")
        from gankit.report.comparison import write_comparison

        write_comparison(self.folder)


def _told(arm: Arm, images: int | None) -> dict[str, Any]:
    assert arm.resolved is not None
    steps = arm.resolved.steps if images is None else steps_of(arm, images)
    settled = arm.resolved.model_dump(mode="json") | {"steps": steps}
    return {
        "name": arm.name,
        "model": arm.model,
        "steps": steps,
        "pictures_a_step": arm.pictures_a_step,
        "weights": arm.weights,
        "config": {key: value for key, value in settled.items() if key not in ("seed", "requested", "history")},
    }


def _rows(arms: Sequence[Arm], seeds: Sequence[int]) -> list[Row]:
    """Seed by seed, so that an unfinished comparison has as much of each."""
    names = folder_names(arm.name for arm in arms)
    return [
        {"arm": arm.name, "seed": seed, "folder": f"runs/{name}-seed-{seed}"}
        for seed in seeds
        for arm, name in zip(arms, names, strict=True)
    ]


def _earlier(folder: Path | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison.json of an earlier start in that folder, or {}. Raises UserError where it was another request."""
    if folder is None or not folder.exists():
        return {}
    if not (folder / "comparison.json").is_file():
        raise UserError(
            f"--out {folder} exists and is no comparison, and nothing is overwritten: choose another folder"
        )
    before = results.read(folder)
    old = before["asked"]
    if asked["seeds"] < old["seeds"]:
        raise UserError(f"{folder} has {old['seeds']} seeds already: give --seeds {old['seeds']} or more")
    for key in [*asked, *(key for key in old if key not in asked)]:
        now, then = (json.loads(json.dumps(one.get(key))) for one in (asked, old))
        if key != "seeds" and now != then:
            shown = [" ".join(value) if isinstance(value, list) else value for value in (then, now)]
            raise UserError(
                f"{folder} compares with another --{key.replace('_', '-')} ({shown[0]}, and now {shown[1]}): "
                "start it again as it was, or choose another --out"
            )
    return before


def _trained(run: Run) -> float:
    """Seconds of training up to the last checkpoint, which is where a resume begins."""
    step = run.checkpoints()[-1]
    return max((line["seconds"] for line in run.metrics() if line["step"] <= step), default=0.0)


def _last_words(path: Path) -> str:
    log = Path(f"{path}.log")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1].removeprefix("gankit: ") if lines else "it said nothing"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder} is being worked on by another `gankit compare`: wait for it") from None
    try:
        yield
    finally:
        lock.release()
