"""What Optuna's samplers get to know of a study's trials: a view, while the storage has the truth.

- A trial that early stopping ended, or that never began, is worse than all that went on, and the
  worse the earlier it ended; none has a score. TPE and GP are told so by a constraint that exists
  in the view alone; NSGA-II and NSGA-III take parents from complete trials only; random and QMC
  learn nothing.
- Finished trials of earlier runs are in the view of samplers that learn, and never in the storage.
- TPE and GP go through all trials at every proposal, so they see the best and the latest of them.

A view follows from the storage and from the earlier runs alone, so that a resume proposes the same.
"""

import copy
import datetime
import statistics
from bisect import insort
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any, NamedTuple

import moocore
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, NSGAIIISampler, NSGAIISampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from analysis.columns import ACCURACY
from search.storage.trial_record import COST, OUTCOME, RECIPE

# The constraint that exists in views alone; no column has this name.
_ENDED_EARLY = "ended early"
# Violations are relative to the bounds; a GP's kernel is not to be fitted to a few extreme ones.
_MAX_VIOLATION = 10.0
_GENETIC: dict[str, type[BaseGASampler]] = {"nsga2": NSGAIISampler, "nsga3": NSGAIIISampler}


class _Bound(NamedTuple):
    """How many trials a proposal is made from."""

    best: int
    """Complete ones by non-domination, from the front on."""
    latest: int
    """Finished ones besides, by number."""
    running: int
    """The latest by number."""


_BOUNDS = {
    "tpe": _Bound(best=32, latest=96, running=32),
    "gp": _Bound(best=32, latest=64, running=4),
}


def warm_trial(
    index: int,
    *,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    values: Sequence[float],
    user_attrs: Mapping[str, Any],
    constraints: Mapping[str, float],
) -> FrozenTrial:
    """A finished trial of an earlier run, as `SamplerStudy` takes it.

    place: from 0; the same trial has to have the same place whenever the study is opened, as NSGA
    remembers parents by it. values: in the order of the study's objectives. constraints: by the
    names that the study's own trials have; above 0 is violated.
    """
    long_ago = datetime.datetime.min
    trial = FrozenTrial(
        number=-1 - index,  # before the study's own trials, and never one of theirs
        trial_id=-1 - index,
        state=TrialState.COMPLETE,
        value=None,
        values=values,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=dict(user_attrs),
        # NSGA breeds its first own generation from them.
        system_attrs={genetic._get_generation_key(): 0 for genetic in _GENETIC.values()},
        intermediate_values={},
        datetime_start=long_ago,
        datetime_complete=long_ago,
    )
    for name, value in constraints.items():
        trial.set_constraint(name, value)
    return trial


class SamplerView(optuna.Study):
    """A study whose sampler sees a view of the trials; everyone else sees what is stored.

    Samplers read trials through `Study._get_trials`, which is private and the only way to show
    them others than the stored ones: Optuna is pinned to one major version for it.
    """

    def __init__(
        self,
        study: optuna.Study,
        *,
        sampler: str,
        objectives: Sequence[str],
        warm: Sequence[FrozenTrial] = (),
    ) -> None:
        """sampler: as study files name it. objectives: columns, in the study's order."""
        super().__init__(study.study_name, study._storage)
        self._name = sampler
        self._objectives = tuple(objectives)
        ways = [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in self.directions]
        self._signs = np.array(ways)
        # Of finished trials that did not fail, by number, as the sampler is shown them.
        self._known: dict[int, FrozenTrial] = {}
        self._numbers: list[int] = []
        # The first trial with each set of parameters: search spaces are inferred from these.
        self._first_of_kind: dict[frozenset[tuple[str, BaseDistribution]], int] = {}
        self._best = _Best(_BOUNDS[sampler].best) if sampler in _BOUNDS else None
        # Own trials that were not finished when last looked at, and how many there were.
        self._unfinished: list[FrozenTrial] = []
        self._num_seen = 0
        if sampler not in ("random", "qmc"):
            for trial in warm:
                self._take_in(trial, ())

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The study's own trials, as they are stored."""
        return self._storage.get_all_trials(self._study_id, deepcopy=deepcopy, states=states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        # One view an ask, whether the sampler asked for a cached one or not: `ask` and `tell` empty
        # the cache, and nobody but this driver writes to the study.
        view = self._thread_local.cached_all_trials
        if view is None:
            self._look()
            view = self._thread_local.cached_all_trials = self._view()
        shown = view if states is None else [trial for trial in view if trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown

    def _pop_waiting_trial_id(self) -> int | None:
        # Optuna would search all trials for enqueued ones; here only the unfinished are.
        self._look()
        self._thread_local.cached_all_trials = self._view()
        if any(trial.state == TrialState.WAITING for trial in self._unfinished):
            return super()._pop_waiting_trial_id()
        return None

    def _look(self) -> None:
        """Take in what has finished since the last time; finished trials never change."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        numbers = [trial.number for trial in self._unfinished]
        self._unfinished = []
        for trial in [*(trials[number] for number in numbers), *trials[self._num_seen :]]:
            if trial.state.is_finished():
                self._take_in(trial, trials)
            else:
                self._unfinished.append(trial)
        self._num_seen = len(trials)

    def _take_in(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        if trial.state == TrialState.FAIL:
            return
        if self._name in _GENETIC and trial.state != TrialState.COMPLETE:
            return
        number = trial.number
        kind = frozenset(trial.distributions.items())
        self._first_of_kind[kind] = min(number, self._first_of_kind.get(kind, number))
        insort(self._numbers, number)
        if self._best is not None:
            violations = [value for value in trial.constraints.values() if value > 0]
            if trial.state == TrialState.COMPLETE and not violations:
                self._best.add(number, self._signs * trial.values)
            trial = self._judged(trial, _shortfall(trial, trials))
        self._known[number] = trial

    def _judged(self, trial: FrozenTrial, shortfall: float) -> FrozenTrial:
        """The trial with the constraint that says how early it ended."""
        if self._name == "tpe" and shortfall <= 0:
            return trial
        constraints = trial.constraints
        judged = copy.copy(trial)
        judged.system_attrs = {}
        # GP takes constraints by their order.
        for name in sorted(constraints):
            judged.set_constraint(name, min(constraints[name], _MAX_VIOLATION))
        judged.set_constraint(_ENDED_EARLY, shortfall)
        return judged

    def _view(self) -> list[FrozenTrial]:
        """What the sampler is shown, by number."""
        if self._name in _BOUNDS:
            bound = _BOUNDS[self._name]
            finished = self._best_and_latest(bound)
            if self._name == "gp":
                finished = self._scored(finished)
            return finished + self._latest_running(bound.running)
        if self._name in _GENETIC:
            return self._breeding(_GENETIC[self._name])
        # Random looks at nothing, and QMC only for the parameters of the first finished trial.
        return [self._known[number] for number in self._numbers[:1]] or list(self._unfinished)

    def _best_and_latest(self, bound: _Bound) -> list[FrozenTrial]:
        assert self._best is not None
        chosen = set(self._best.top())
        room = bound.best + bound.latest - len(chosen)
        latest = self._numbers[-(room + len(chosen)) :]
        chosen.update([number for number in latest if number not in chosen][-room:])
        return self._by_number(chosen | set(self._first_of_kind.values()))

    def _latest_running(self, count: int) -> list[FrozenTrial]:
        """Running trials with the parameters that they have.

        In system_attrs Optuna keeps all that was proposed, parsed at every look: for drivers that
        have not drawn yet, with parameters of models that a trial turned out not to have.
        """
        running = [trial for trial in self._unfinished if trial.state == TrialState.RUNNING]
        shown = []
        for trial in sorted(running, key=lambda trial: trial.number)[-count:]:
            trial = copy.copy(trial)
            trial.system_attrs = {}
            shown.append(trial)
        return shown

    def _scored(self, finished: list[FrozenTrial]) -> list[FrozenTrial]:
        """Pruned trials as complete ones that break a constraint: GP reads no others.

        Their costs are true, and their accuracy is the median of the complete ones: it says
        nothing. All are left out as long as none is complete.
        """
        complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
        if len(complete) in (0, len(finished)):
            return complete
        medians = dict(
            zip(
                self._objectives,
                map(statistics.median, zip(*(trial.values for trial in complete), strict=True)),
                strict=True,
            )
        )
        shown = []
        for trial in finished:
            if trial.state == TrialState.PRUNED:
                known = trial.user_attrs[COST] | {ACCURACY: medians.get(ACCURACY)}
                trial = copy.copy(trial)
                trial.state = TrialState.COMPLETE
                trial.values = [known[name] for name in self._objectives]
            shown.append(trial)
        return shown

    def _breeding(self, genetic: type[BaseGASampler]) -> list[FrozenTrial]:
        """The generations that parents can still come from, and the parents chosen so far."""
        key, prefix = genetic._get_generation_key(), genetic._get_parent_cache_key_prefix()
        generations = {n: t.system_attrs.get(key, -1) for n, t in self._known.items()}
        newest = max(generations.values(), default=0)
        attributes = self._storage.get_study_system_attrs(self._study_id)
        oldest = next((g for g in range(newest, 0, -1) if f"{prefix}{g}" in attributes), 0)
        parents = {
            trial_id
            for generation in range(oldest, newest + 2)
            for trial_id in attributes.get(f"{prefix}{generation}", ())
        }
        chosen = {
            number
            for number, generation in generations.items()
            if generation >= oldest or self._known[number]._trial_id in parents
        }
        return self._by_number(chosen | set(self._first_of_kind.values()))

    def _by_number(self, numbers: Collection[int]) -> list[FrozenTrial]:
        return [self._known[number] for number in sorted(numbers)]


class _Best:
    """The best of the complete trials, kept up to date without going through all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers = np.empty(0, dtype=np.intp)
        self._losses = np.empty((0, 0))
        self._num_better = np.empty(0, dtype=np.intp)
        self._top: list[int] = []
        self._is_current = True

    def add(self, number: int, losses: np.ndarray) -> None:
        """losses: (objectives,), all minimised."""
        before = self._losses.reshape(-1, len(losses))
        better = (before <= losses).all(axis=1) & (before < losses).any(axis=1)
        worse = (before >= losses).all(axis=1) & (before > losses).any(axis=1)
        num_better = np.append(self._num_better + worse, better.sum())
        # A trial with so many better ones is never again among the best, nor does it decide who is:
        # those that are better than it are better than all that it dominates.
        kept = num_better < self._size
        self._numbers = np.append(self._numbers, number)[kept]
        self._losses = np.vstack([before, losses])[kept]
        self._num_better = num_better[kept]
        self._is_current = False

    def top(self) -> list[int]:
        """Numbers of the best trials, front by front, and evenly along the last front."""
        if not self._is_current:
            self._top = self._numbers[self._choose()].tolist()
            self._is_current = True
        return self._top

    def _choose(self) -> np.ndarray:
        if len(self._numbers) <= self._size:
            return np.arange(len(self._numbers))
        ranks = moocore.pareto_rank(self._losses)
        last = np.sort(ranks)[self._size - 1]
        within = np.flatnonzero(ranks < last)
        # By the losses and then the number, so that it does not matter who finished first.
        order = np.lexsort((self._numbers, *self._losses.T[::-1]))
        tied = order[ranks[order] == last]
        seats = np.linspace(0, len(tied) - 1, self._size - len(within)).round().astype(np.intp)
        return np.concatenate([within, tied[seats]])


def _shortfall(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> float:
    """How early a trial ended: 2 before its first epoch, towards 1 later, -1 at its end.

    trials: where the one is whose result this one took over. A trial that breaks a constraint has
    2 and its violation besides, which is worse than all others. The gap between 1 and -1 is for GP:
    without one it takes the trials that were stopped last for all but complete, and seeks them.
    """
    if any(value > 0 for value in trial.constraints.values()):
        return 2.0
    if trial.state == TrialState.COMPLETE:
        return -1.0
    outcome = trial.user_attrs[OUTCOME]
    if outcome["reused"] is not None:
        return _shortfall(trials[outcome["reused"]], trials)
    return 2 - len(outcome["epochs"]) / (trial.user_attrs[RECIPE]["epochs"] + 1)
