"""What a sampler is shown of a study's trials: a view for each way of learning from them.

- A trial that was stopped early, or never began, is worse than all that went on: the earlier it
  ended, the worse. It has no score. `BestAndLatest` shows this by a constraint that only the view
  has. `Generations` takes parents from complete trials only. `OneTrial` is for samplers that learn
  nothing.
- Views of samplers that learn include finished trials of earlier runs. The storage never does.
- Some samplers go through all trials at every proposal, so they only see the best and the latest.

A view depends only on the storage and the earlier runs, so a resume proposes the same.
"""

import copy
import datetime
import statistics
from bisect import insort
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial, TrialState

from search.decisions.best_trials import BestTrials
from search.decisions.trial_record import COST, OUTCOME, RECIPE
from spaces.columns import is_metric
from spaces.objectives import Objectives

# A constraint that only views have. No column has this name.
_ENDED_EARLY = "ended early"
# Violations are relative to the bounds. A few extreme ones must not distort a GP's kernel.
_MAX_VIOLATION = 10.0
StudyAttributes = Callable[[], Mapping[str, Any]]


class TrialView:
    """Collects trials as they finish, and decides which of them the sampler is shown."""

    learns = True
    """Whether earlier runs are shown too."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        # Finished trials that did not fail, by number, as the sampler is shown them.
        self._known: dict[int, FrozenTrial] = {}
        self._numbers: list[int] = []
        # The first trial with each set of parameters. Samplers infer the search space from them.
        self._first_of_kind: dict[frozenset[tuple[str, BaseDistribution]], int] = {}

    def add(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        """Add a finished trial. trials: the study's own, by number."""
        shown = None if trial.state == TrialState.FAIL else self.shown_as(trial, trials)
        if shown is not None:
            kind = frozenset(trial.distributions.items())
            first = self._first_of_kind.get(kind, trial.number)
            self._first_of_kind[kind] = min(trial.number, first)
            insort(self._numbers, trial.number)
            self._known[trial.number] = shown

    def shown_as(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The trial as the sampler sees it; None to hide it."""
        return trial

    def trials(
        self, unfinished: Sequence[FrozenTrial], attributes: StudyAttributes
    ) -> list[FrozenTrial]:
        """What the sampler is shown, by number.

        unfinished: the study's trials that run or wait. attributes: the study's system attributes.
        """
        raise NotImplementedError

    def _by_number(self, numbers: Collection[int]) -> list[FrozenTrial]:
        return [self._known[number] for number in sorted(numbers)]


class OneTrial(TrialView):
    """For samplers that learn nothing. QMC needs the parameters of the first finished trial."""

    learns = False

    def trials(
        self, unfinished: Sequence[FrozenTrial], attributes: StudyAttributes
    ) -> list[FrozenTrial]:
        return [self._known[number] for number in self._numbers[:1]] or list(unfinished)


class BestAndLatest(TrialView):
    """For samplers that go through all shown trials at every proposal."""

    def __init__(
        self,
        objectives: Objectives,
        *,
        best: int,
        latest: int,
        running: int,
        complete_alone: bool = False,
    ) -> None:
        """How many of each are shown.

        best: complete trials by non-domination, the front first. latest: further finished trials.
        running: the latest running trials. complete_alone: the sampler only reads complete trials,
        so stopped ones are shown as complete ones that break a constraint.
        """
        super().__init__(objectives)
        self._best = BestTrials(best)
        self._num_finished = best + latest
        self._num_running = running
        self._complete_alone = complete_alone

    def shown_as(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        constraints = trial.constraints
        violations = [value for value in constraints.values() if value > 0]
        if trial.state == TrialState.COMPLETE and not violations:
            self._best.add(trial.number, self.objectives.signs * trial.values)
        ended = shortfall(trial, trials)
        if ended <= 0 and not self._complete_alone:
            return trial
        # What a trial that did not finish would have had of a metric is not known: neutral.
        for bound in self.objectives.metric_constraints:
            constraints.setdefault(bound.column, 0.0)
        shown = copy.copy(trial)
        shown.system_attrs = {}
        # GP identifies constraints by their order.
        for name in sorted(constraints):
            shown.set_constraint(name, min(constraints[name], _MAX_VIOLATION))
        shown.set_constraint(_ENDED_EARLY, ended)
        return shown

    def trials(
        self, unfinished: Sequence[FrozenTrial], attributes: StudyAttributes
    ) -> list[FrozenTrial]:
        finished = self._finished()
        if self._complete_alone:
            finished = self._as_complete(finished)
        return finished + self._running(unfinished)

    def _finished(self) -> list[FrozenTrial]:
        chosen = set(self._best.top())
        free = self._num_finished - len(chosen)
        latest = self._numbers[-self._num_finished :]
        chosen.update([number for number in latest if number not in chosen][-free:])
        return self._by_number(chosen | set(self._first_of_kind.values()))

    def _running(self, unfinished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The latest running trials, without their system_attrs.

        There, Optuna keeps all proposed parameters and parses them at every look. They include
        parameters of models that the trial did not draw.
        """
        running = [trial for trial in unfinished if trial.state == TrialState.RUNNING]
        shown = []
        for trial in sorted(running, key=lambda trial: trial.number)[-self._num_running :]:
            trial = copy.copy(trial)
            trial.system_attrs = {}
            shown.append(trial)
        return shown

    def _as_complete(self, finished: list[FrozenTrial]) -> list[FrozenTrial]:
        """Show stopped trials as complete ones.

        They have their own costs, and the median metric of the complete trials, which is neutral.
        As long as no trial is complete, all are left out.
        """
        complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
        if len(complete) in (0, len(finished)):
            return complete
        columns = zip(*(trial.values for trial in complete), strict=True)
        medians = dict(zip(self.objectives, map(statistics.median, columns), strict=True))
        shown = []
        for trial in finished:
            if trial.state == TrialState.PRUNED:
                numbers = medians | trial.user_attrs[COST]
                trial = copy.copy(trial)
                trial.state = TrialState.COMPLETE
                trial.values = [numbers[name] for name in self.objectives]
            shown.append(trial)
        return shown


class Generations(TrialView):
    """For genetic samplers: generations that parents may come from, and the parents so far."""

    def __init__(self, objectives: Objectives, *, sampler: type[BaseGASampler]) -> None:
        super().__init__(objectives)
        # Private, but Optuna has no public way to generations and parents.
        self._key = sampler._get_generation_key()
        self._parents = sampler._get_parent_cache_key_prefix()

    def shown_as(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        if trial.state != TrialState.COMPLETE:
            return None
        if trial.number < 0:  # of an earlier run: the first own generation is bred from them
            trial = copy.copy(trial)
            trial.system_attrs = {**trial.system_attrs, self._key: 0}
        return trial

    def trials(
        self, unfinished: Sequence[FrozenTrial], attributes: StudyAttributes
    ) -> list[FrozenTrial]:
        generations = {n: t.system_attrs.get(self._key, -1) for n, t in self._known.items()}
        newest = max(generations.values(), default=0)
        cached = attributes()
        oldest = next((g for g in range(newest, 0, -1) if f"{self._parents}{g}" in cached), 0)
        parents = {
            trial_id
            for generation in range(oldest, newest + 2)
            for trial_id in cached.get(f"{self._parents}{generation}", ())
        }
        chosen = {
            number
            for number, generation in generations.items()
            if generation >= oldest or self._known[number]._trial_id in parents
        }
        return self._by_number(chosen | set(self._first_of_kind.values()))


def earlier_trial(
    index: int,
    *,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    values: Sequence[float],
    user_attrs: Mapping[str, Any],
    constraints: Mapping[str, float],
) -> FrozenTrial:
    """A finished trial of an earlier run, as views take it.

    index: from 0. A trial must have the same index whenever the study is opened, since NSGA
    remembers parents by it. values: in the order of the study's objectives. constraints: by the
    names that the study's own trials use; above 0 is violated.
    """
    long_ago = datetime.datetime.min
    trial = FrozenTrial(
        number=-1 - index,  # never the number of one of the study's own trials
        trial_id=-1 - index,
        state=TrialState.COMPLETE,
        value=None,
        values=values,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=dict(user_attrs),
        system_attrs={},
        intermediate_values={},
        datetime_start=long_ago,
        datetime_complete=long_ago,
    )
    for name, value in constraints.items():
        trial.set_constraint(name, value)
    return trial


def shortfall(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> float:
    """How early a trial ended: 2 before its first epoch, towards 1 later, -1 at its end.

    trials: the study's, to look up a result that this one took over. A trial that breaks a bound
    on a cost has 2 and also its violation, so it is worse than all others. One that ended below a
    bound on a metric only has its violation. The gap between 1 and -1 is for GP. Without it, GP
    takes the trials that were stopped last for nearly complete, and seeks them.
    """
    if any(value > 0 for name, value in trial.constraints.items() if not is_metric(name)):
        return 2.0
    if trial.state == TrialState.COMPLETE:
        return -1.0
    outcome = trial.user_attrs[OUTCOME]
    if outcome["reused"] is not None:
        return shortfall(trials[outcome["reused"]], trials)
    return 2 - len(outcome["epochs"]) / (trial.user_attrs[RECIPE]["epochs"] + 1)
