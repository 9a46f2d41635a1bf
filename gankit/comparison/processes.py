"""A comparison under way: its runs as processes, their results, and the files that record them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gankit.comparison import results
from gankit.comparison.arms import Arm, flags, steps_of, together
from gankit.files import finite, replacing
from gankit.report.words import duration as words
from gankit.runs.folder import RunFolder
from gankit.runs.processes import OVER, Here, Row, Work, outcome_of
from gankit.training.watcher import Watcher

PACE = 100  # steps of a run after which its pace is known


class Comparison(Work):
    """A comparison under way: the runs still to do, and the results so far."""

    what, command = "comparison", "compare"

    def __init__(
        self,
        folder: Path,
        plan: dict[str, Any],
        arms: Sequence[Arm],
        shared: Mapping[str, Any],
        plugins: Sequence[str],
        watcher: Watcher,
        engine: Here,
    ) -> None:
        super().__init__(folder, plan, plugins, watcher, engine)
        self.arms = {arm.name: arm for arm in arms}
        self.shared = shared
        self.seconds = plan["budget"]
        self.waiting: list[Row] = list(plan["runs"])
        self.estimated = False  # whether the time of the whole was told
        self.measuring = 0.0  # seconds that the last run's measuring took; 0 before the first
        self.looked = 0.0  # when it was last tried

    def next_row(self) -> Row | None:
        while self.waiting and self.recorded(self.waiting[0]):
            self.waiting.pop(0)
        return self.waiting.pop(0) if self.waiting else None

    def recorded(self, row: Row) -> bool:
        """Whether an earlier start has recorded the end of a run as its folder has it, and its measures."""
        path = self.path(row)
        if row.get("outcome") not in OVER or not (path / "config.json").exists():
            return False
        run = RunFolder(path)
        found = results.row(run, self.arms[row["arm"]].pictures_a_step)
        return row.items() >= found.items() and self.to_measure(row, run) is None

    def to_measure(self, row: Row, run: RunFolder) -> int | None:
        """The checkpoint at which the end of a run is still to be measured, or None."""
        last = max(run.checkpoints(), default=None)
        return None if row["outcome"] == "failed" or row.get("measured_step") == last else last

    def request(self, row: Row) -> list[str]:
        arm = self.arms[row["arm"]]
        length = None if self.plan["images"] is None else steps_of(arm, self.plan["images"])
        options = together(self.shared, arm.options)
        options |= {"seed": row["seed"]} | ({"steps": length} if length is not None else {})
        return ["run", arm.model, *flags(options)]

    def name(self, row: Row) -> str:
        number = self.plan["runs"].index(row) + 1
        return f"{row['arm']}, seed {row['seed']} ({number} of {len(self.plan['runs'])})"

    def tell(self, row: Row) -> bool:
        now = time.monotonic()
        if not self.estimated and now - self.looked > 1:
            self.looked = now
            left = self.left()
            if left is not None:
                self.estimated = True
                without = "" if self.measuring else ", without the measuring"
                self.watcher.notice(f"the whole comparison takes about {words(left)} more{without}")
        progress = self.progress(row)
        if progress:
            self.watcher.notice(f"{row['arm']}, seed {row['seed']}: {progress}; {self._whole()}")
        return False

    def _whole(self) -> str:
        """How far the whole comparison is."""
        runs, left = self.plan["runs"], self.left()
        over = sum(bool(row.get("outcome")) for row in runs)
        return f"{over} of {len(runs)} runs are done" + (f", about {words(left)} left" if left else "")

    def left(self) -> float | None:
        """Seconds until all runs are done, by the pace so far; None before a run has made PACE steps.

        The measuring counts once a run is measured. A run whose model has no pace yet counts by the mean of the
        others', for as many pictures.
        """
        budget, done = self.plan["budget"], {row["folder"]: self._done(row) for row in self.plan["runs"]}
        paces: dict[str, list[float]] = {}  # seconds a picture, by model
        for row in self.plan["runs"]:
            steps, seconds = done[row["folder"]]
            if steps >= PACE or (row.get("outcome") and steps):
                paces.setdefault(row["arm"], []).append(seconds / steps / self.arms[row["arm"]].pictures_a_step)
        if not paces and budget is None:
            return None
        means = {arm: sum(some) / len(some) for arm, some in paces.items()}
        left = 0.0
        for row in (row for row in self.plan["runs"] if not row.get("outcome")):
            (steps, seconds), arm = done[row["folder"]], self.arms[row["arm"]]
            if budget is not None:
                left += max(budget - seconds, 0.0)
            else:
                goal = steps_of(arm, self.plan["images"])
                pace = means.get(arm.name, sum(means.values()) / len(means))
                left += max(goal - steps, 0) * arm.pictures_a_step * pace
        unmeasured = sum(
            row.get("outcome") != "failed" and "measures" not in row and "unmeasured" not in row
            for row in self.plan["runs"]
        )
        return left / self.jobs + unmeasured * self.measuring

    def _done(self, row: Row) -> tuple[int, float]:
        """The steps that a run has made, and their seconds."""
        if row.get("outcome"):
            return int(row["steps"]), float(row.get("seconds") or 0.0)
        path = self.path(row)
        line = RunFolder(path).last_line() if (path / "config.json").exists() else None
        seconds = finite(line.get("seconds")) if line else None
        return (line["step"], seconds) if line and seconds is not None else (0, 0.0)

    def finish(self, row: Row, code: int | None = None) -> None:
        """Record how a run ended, and measure its pictures unless that is done."""
        path = self.path(row)
        if outcome_of(path) not in OVER:
            row |= results.no_row(f"its process ended with code {code}; {self.last_words(row)}")
        else:
            run = RunFolder(path)
            row |= results.row(run, self.arms[row["arm"]].pictures_a_step)
            step = self.to_measure(row, run)
            if step is not None:
                self.measure(row, run, step)
        how = results.ending(row)
        self.watcher.notice(f"{row['arm']}, seed {row['seed']}: {how}; {self._whole()}")
        self.write()

    def measure(self, row: Row, run: RunFolder, step: int) -> None:
        """Measure a run's samples against the held-out pictures, at its last checkpoint."""
        from gankit.trained.evaluation import evaluate

        request = self.plan["asked"]
        row.pop("unmeasured", None)
        began = time.monotonic()
        try:
            evaluation = evaluate(run, step=step, n=request["samples"], fid=request["fid"], plugins=self.plugins)
        except Exception as error:  # points, non-finite numbers, no memory: the other runs go on
            row["unmeasured"] = str(error) or type(error).__name__
            return
        row["measures"] = {name: one.value for name, one in evaluation.measures.items()}
        row["measured_step"] = step
        self.measuring = time.monotonic() - began
        self.plan["about"] = {
            name: {"better": one.better, "space": one.space, "against": one.against, "ceiling": one.ceiling}
            for name, one in evaluation.measures.items()
        }
        notes = [note for note in evaluation.notes if note not in evaluation.own]
        self.plan["notes"] = list(dict.fromkeys([*self.plan["notes"], *notes]))

    def begin(self) -> None:
        self.forget_other_measures()

    def forget_other_measures(self) -> None:
        """Drop measures by other features than the current: an older gankit, or another set of extras, made them."""
        from gankit.builtin.mode_collapse import LEAST
        from gankit.trained import evaluation

        measured = [row["measures"] for row in self.plan["runs"] if row.get("measures")]
        channels = self.plan["data"]["shape"][0]
        space = evaluation.deep(channels).name if measured else ""  # type: ignore[attr-defined]  # as `evaluate` does
        wanted = {f"kid-{space}", "copies", "clipped-density"} | ({"fid"} if self.plan["asked"]["fid"] else set())
        # With fewer pictures there may be no score.
        wanted |= {"score"} if self.plan["data"]["train"] >= 3 * LEAST else set()
        missing = {name for measures in measured for name in wanted - measures.keys()}
        if not missing:
            return
        self.watcher.notice(f"pictures are now compared by {', '.join(sorted(missing))}: all runs are measured again")
        for row in self.plan["runs"]:
            if row.pop("measures", None) and not RunFolder(self.path(row)).checkpoints():
                row["unmeasured"] = "it was measured by other features, and its checkpoints are gone"
            row.pop("measured_step", None)
        self.plan |= {"about": {}, "notes": []}

    def write(self) -> None:
        """Write comparison.json, comparison.csv and, at the end or where it is time, report.html."""
        plan, ended = self.plan, [row for row in self.plan["runs"] if row.get("outcome")]
        curves = {row["folder"]: results.coverage_curve(RunFolder(self.path(row))) for row in ended if row["steps"]}
        whole = [curves.get(row["folder"], []) for row in ended if row["outcome"] != "failed"]
        level = plan["asked"]["coverage"] or results.common_level(whole)
        for row in ended:
            row["seconds_to_coverage"] = results.seconds_to(curves.get(row["folder"], []), level)
        plan["coverage"] = level
        plan["measures"] = results.table(list(self.arms), ended, plan["about"])
        plan["summary"] = results.summary(plan)
        self.write_plan()
        with replacing(self.folder / "comparison.csv") as beside:
            beside.write_text(results.as_csv(plan), encoding="utf-8")
        if plan["state"] != "running" or time.monotonic() > self.redraw_at:
            self.draw()

    def write_page(self) -> None:
        from gankit.report.comparison_page import write_comparison

        write_comparison(self.folder)
