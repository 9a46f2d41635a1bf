"""Optuna for a sweep: the values of the next trial, and the early end of trials that fall behind.

What is known of the trials is in sweep.json. The study for a proposal is made of it each time, and optuna.log, which
optuna-dashboard opens, is written anew at each start: so a killed sweep goes on as it would have, and nothing in the
folder is trusted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gankit.comparison.arms import as_typed
from gankit.errors import UserError
from gankit.sweeps.space import Parameter, Values, drawn, key_of, size

STATES = {"complete": "COMPLETE", "collapsed": "PRUNED", "ended early": "PRUNED", "failed": "FAIL"}  # Optuna's names
# Asynchronous successive halving (Li et al. 2020): at a ninth and a third of the steps the best third goes on.
THIRD = 3
RUNGS = 2
REPORTS = 100  # values of a trial in the study, at most some
RANDOM = 10  # trials at random before the search models anything; of few trials a third
ENOUGH = 10  # complete trials for an importance
AGAIN = 50  # proposals of values that were tried already, before a random draw


def require(flag: str) -> None:
    """Raise UserError where Optuna is not installed, or what its importance needs."""
    if find_spec("optuna") is None or find_spec("sklearn") is None:
        raise UserError(
            f"{flag} needs Optuna and scikit-learn: pip install 'gankit[sweep]', or use --search random without it"
        )


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna without its lines about each trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def proposed(
    space: Sequence[Parameter], trials: Sequence[Mapping[str, Any]], count: int, seed: int, maximise: bool
) -> Values:
    """The values of the next trial after `trials`, of `count` in all, by a tree of Parzen estimators.

    The same trials and seed give the same values. A collapsed trial counts as worse than every complete one.
    """
    before = [trial["values"] for trial in trials]
    if len(trials) < min(RANDOM, max(2, count // THIRD)):
        return drawn(space, seed, len(trials), before)
    taken = set() if size(space) is None else {key_of(values) for values in before}
    with _quiet() as optuna:
        for attempt in range(AGAIN):
            sampler = optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + len(trials) * 101 + attempt) % 2**32,
                n_startup_trials=0,
                constant_liar=True,
                multivariate=True,
            )
            study = optuna.create_study(sampler=sampler, direction=_direction(maximise))
            for trial in trials:
                state = optuna.trial.TrialState[STATES.get(trial["state"], "RUNNING")]
                study.add_trial(
                    optuna.trial.create_trial(
                        state=state,
                        value=trial["value"] if trial["state"] == "complete" else None,
                        params=_labelled(space, trial["values"]),
                        distributions=_distributions(space),
                    )
                )
            values = _read(space, study.ask(_distributions(space)).params)
            if key_of(values) not in taken:
                return values
    return drawn(space, seed, len(trials), before)


class Study:
    """The sweep's trials as a study in optuna.log, and the rule for an early end."""

    def __init__(self, folder: Path, space: Sequence[Parameter], maximise: bool, steps: int | None) -> None:
        """`steps`: the length of a run, for the rungs at a ninth and a third of it."""
        self.space, self.steps = space, steps
        self.trials: dict[int, Any] = {}
        self.reported: dict[int, int] = {}  # number of a trial -> the last step with a value
        path = folder / "optuna.log"
        for old in (path, path.with_name("optuna.log.lock")):
            old.unlink(missing_ok=True)
        with _quiet() as optuna:
            least = max(1, -(-(steps or 1) // THIRD**RUNGS))
            self.study = optuna.create_study(
                storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path))),
                pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=THIRD),
                direction=_direction(maximise),
                study_name=folder.resolve().name or "sweep",
            )

    def begin(self, number: int, values: Values) -> None:
        """A trial has its values."""
        with _quiet():
            self.study.enqueue_trial(_labelled(self.space, values))
            self.trials[number] = self.study.ask(_distributions(self.space))

    def measured(self, number: int, step: int, value: float) -> bool:
        """The goal of a trial's first run at a step; True if the trial should end there."""
        last = self.reported.get(number, -1)
        if step <= last or step < last + (self.steps or 0) // REPORTS:
            return False
        self.reported[number] = step
        with _quiet():
            self.trials[number].report(value, step)
            at_end = self.steps is not None and step >= self.steps  # a third rung can lie there
            return not at_end and bool(self.trials[number].should_prune())

    def end(self, number: int, state: str, value: float | None) -> None:
        """How a trial has ended."""
        with _quiet() as optuna:
            told = optuna.trial.TrialState[STATES[state]]
            self.trials[number].set_user_attr("ended", state)
            self.study.tell(self.trials[number], value if state == "complete" else None, state=told)

    def importance(self) -> dict[str, float]:
        """The share of each parameter in the differences of the goal, by fANOVA; {} for few complete trials.

        Hutter, Hoos, Leyton-Brown 2014: the variance that a random forest explains by the parameter alone. PED-ANOVA,
        Optuna's default, compares the best tenth with all trials, and so overlooks what nearly all trials have by then.
        """
        with _quiet() as optuna:
            complete = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
            if len(complete) < ENOUGH or len(self.space) < 2 or len({trial.value for trial in complete}) < 2:
                return {}
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            shares = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in shares.items()}


def _direction(maximise: bool) -> str:
    return "maximize" if maximise else "minimize"


def _distributions(space: Sequence[Parameter]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        parameter.name: CategoricalDistribution([as_typed(one) for one in parameter.choices])
        if parameter.kind == "choices"
        else IntDistribution(int(parameter.low), int(parameter.high))
        if parameter.kind == "int"
        else FloatDistribution(parameter.low, parameter.high, log=parameter.kind == "loguniform")
        for parameter in space
    }


def _labelled(space: Sequence[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Optuna has them: a choice is its text, which may stand for a list."""
    return {p.name: as_typed(values[p.name]) if p.kind == "choices" else values[p.name] for p in space}


def _read(space: Sequence[Parameter], params: Mapping[str, Any]) -> Values:
    return {
        p.name: next(one for one in p.choices if as_typed(one) == params[p.name])
        if p.kind == "choices"
        else p.rounded(params[p.name])
        for p in space
    }
