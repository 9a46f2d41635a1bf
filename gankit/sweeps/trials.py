"""A sweep under way: its trials, their runs as processes, and the files that record them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gankit.comparison import paired
from gankit.comparison.arms import flags, options_of, together
from gankit.comparison.results import ending, no_row
from gankit.comparison.results import row as row_of
from gankit.errors import nearest
from gankit.files import finite, replacing
from gankit.report.words import duration
from gankit.runs.folder import RunFolder
from gankit.runs.processes import OVER, Here, Row, Work, outcome_of
from gankit.runs.score import SCORE
from gankit.sweeps import results
from gankit.sweeps.search import Study
from gankit.sweeps.space import Values
from gankit.training.watcher import Watcher

LOOK = 1.0  # seconds between two looks at the metrics of a run, for an early end
Trial = dict[str, Any]  # an entry of "trials" in sweep.json


class Sweep(Work):
    """A sweep under way. `propose` gives the values of the next trial after some, or None where there is none."""

    what = command = "sweep"

    def __init__(
        self,
        folder: Path,
        plan: dict[str, Any],
        shared: Mapping[str, Any],
        propose: Callable[[Sequence[Trial]], Values | None],
        plugins: Sequence[str],
        watcher: Watcher,
        engine: Here,
    ) -> None:
        super().__init__(folder, plan, plugins, watcher, engine)
        self.shared, self.propose = shared, propose
        self.study: Study | None = None
        self.seconds = plan["config"]["time"]
        self.taken: set[str] = set()  # folders of runs that this start has begun
        self.behind: set[int] = set()  # numbers of trials that fall behind, and are to end
        self.before = sum(trial["state"] != "waiting" for trial in plan["trials"])  # done by earlier starts
        self.began = time.monotonic()
        self.hopeless = ""  # why no trial can be measured
        self.looked: dict[int, float] = {}  # number of a trial -> when to look at its metrics again

    def begin(self) -> None:
        """With Optuna, make the study anew, with the trials of earlier starts."""
        asked = self.plan["asked"]
        if asked["search"] != "optuna" and not asked["stop_early"]:
            return
        space = results.space_of(self.plan)
        self.study = study = Study(self.folder, space, self.plan["goal"]["maximise"], self.plan["steps"])
        for trial in self.plan["trials"]:
            study.begin(trial["number"], trial["values"])
            behind = self._report(trial)
            if trial["state"] != "waiting":
                study.end(trial["number"], trial["state"], trial["value"])
            elif behind:
                self.behind.add(trial["number"])

    # Its runs.

    def next_row(self) -> Row | None:
        asked, trials = self.plan["asked"], self.plan["trials"]
        for trial in trials:
            for row in trial["runs"] if trial["state"] == "waiting" else ():
                if row["folder"] not in self.taken:
                    self.taken.add(row["folder"])
                    return row
        more = len(trials) < asked["trials"] and not self.hopeless
        values = self.propose(trials) if more else None
        if values is None:
            return None
        number = len(trials) + 1
        seeds = range(asked["seed"], asked["seed"] + asked["seeds"])
        runs = [{"seed": seed, "folder": f"runs/trial-{number:03d}-seed-{seed}"} for seed in seeds]
        trials.append(
            {"number": number, "values": values, "state": "waiting", "value": None, "spread": None, "runs": runs}
        )
        self.write_plan()
        if self.study:
            self.study.begin(number, values)
        return self.next_row()

    def request(self, row: Row) -> list[str]:
        options = together(self.shared, options_of(self.trial(row)["values"])) | {"seed": row["seed"]}
        return ["run", self.plan["model"], *flags(options)]

    def trial(self, row: Row) -> Trial:
        """The trial of a run."""
        return next(trial for trial in self.plan["trials"] if any(one is row for one in trial["runs"]))

    def name(self, row: Row) -> str:
        trial = self.trial(row)
        seed = f", seed {row['seed']}" if self.plan["asked"]["seeds"] > 1 else ""
        return f"trial {trial['number']} of {self.plan['asked']['trials']}{seed} ({results.settings(trial['values'])})"

    def tell(self, row: Row) -> bool:
        trial = self.trial(row)
        number = trial["number"]
        progress = self.progress(row)
        if progress:
            self.watcher.notice(f"trial {number}: {progress}; {self._whole()}")
        early = self.study is not None and self.plan["asked"]["stop_early"] and row is trial["runs"][0]
        if early and number not in self.behind and time.monotonic() > self.looked.get(number, 0):
            began = time.monotonic()
            if self._report(trial):
                self.behind.add(number)
                self.watcher.notice(f"trial {number} falls behind the others: it ends")
            ended = time.monotonic()
            self.looked[number] = ended + max(LOOK, 20 * (ended - began))
        return trial["state"] != "waiting" or number in self.behind

    def _report(self, trial: Trial) -> bool:
        """Tell the study the goal at the steps so far of a trial's first run; whether it should end."""
        path = self.path(trial["runs"][0])
        if self.study is None or not (path / "config.json").exists():
            return False
        ends = [
            self.study.measured(trial["number"], line["step"], value)
            for line in RunFolder(path).each_line()
            if (value := finite(line.get(self.plan["goal"]["name"]))) is not None
        ]
        return any(ends)

    def _whole(self) -> str:
        """How far the whole sweep is, and how long it takes by the pace of this start."""
        count, trials = self.plan["asked"]["trials"], self.plan["trials"]
        over = sum(trial["state"] != "waiting" for trial in trials)
        here = over - self.before
        left = (count - over) * (time.monotonic() - self.began) / here if here else 0.0
        return f"{over} of {count} trials are done" + (f", about {duration(left)} left" if left else "")

    # What came of them.

    def finish(self, row: Row, code: int | None = None) -> None:
        path, trial = self.path(row), self.trial(row)
        outcome, behind = outcome_of(path), trial["number"] in self.behind
        if outcome not in OVER and not (behind and outcome == "interrupted"):
            row |= no_row(f"its process ended with code {code}; {self.last_words(row)}")
        else:
            row |= row_of(RunFolder(path), 0)
            del row["images"]  # as many as the batch says
            if row["outcome"] in ("finished", "stopped") and row["reason"] != "alarm" and row.get("value") is None:
                self._measure(row, RunFolder(path))
        state = self._state(trial, row)
        if trial["state"] == "waiting" and state != "waiting":
            self._end(trial, state)
            self.watcher.notice(f"trial {trial['number']}: {results.ending(trial, self.plan['goal'])}; {self._whole()}")
        elif trial["state"] == "waiting":
            self.watcher.notice(f"trial {trial['number']}, seed {row['seed']}: {ending(row)}")
        self.write()

    def _state(self, trial: Trial, row: Row) -> str:
        """The state of a trial after the end of one of its runs."""
        if row["reason"] == "alarm":
            return "collapsed"
        if trial["number"] in self.behind and (row["outcome"] == "interrupted" or row["reason"] == "process"):
            return "ended early"  # "process": the signal came before the training could save
        if row["outcome"] == "failed" or row.get("unmeasured"):
            return "failed"
        return "complete" if all(one.get("value") is not None for one in trial["runs"]) else "waiting"

    def _end(self, trial: Trial, state: str) -> None:
        values = [row.get("value") for row in trial["runs"]]
        trial["state"] = state
        if state == "complete":
            trial |= {"value": paired.mean(values), "spread": paired.spread(values)}
        if state == "ended early":
            trial["last"] = results.last(RunFolder(self.path(trial["runs"][0])), self.plan["goal"]["name"])
        if self.study:
            self._report(trial)
            self.study.end(trial["number"], state, trial["value"])

    def _measure(self, row: Row, run: RunFolder) -> None:
        """The goal at the end of a run: the last that the training logged, or the score of its last checkpoint."""
        goal = self.plan["goal"]["name"]
        row["value"] = results.last(run, goal, at_end=goal == SCORE)
        if row["value"] is None and goal == SCORE:
            from gankit.trained.real_and_generated import score_of

            try:
                row["value"] = score_of(run, self.plugins)
            except Exception as error:  # points, no memory: the other trials go on
                row["unmeasured"] = str(error) or type(error).__name__
        elif row["value"] is None:
            there = sorted({key for line in run.each_line() for key in line})
            row["unmeasured"] = f"no line of its metrics has {goal}{nearest(goal, there)}"
        if row["value"] is None:
            row.setdefault("unmeasured", "it has no score")
            if not any(trial["state"] in ("complete", "ended early") for trial in self.plan["trials"]):
                self.hopeless = f"{run.folder}: {row['unmeasured']}; the sweep ends, since no other run would have it"

    def write(self) -> None:
        importance = self.study.importance() if self.study else {}
        self.plan |= results.told(self.plan, importance, self.shared)
        self.write_plan()
        with replacing(self.folder / "sweep.csv") as beside:
            beside.write_text(results.as_csv(self.plan), encoding="utf-8")
        self.draw()

    def write_page(self) -> None:
        from gankit.report.sweep_page import write_sweep

        write_sweep(self.folder)
