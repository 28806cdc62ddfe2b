import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseGASampler, NSGAIIISampler, NSGAIISampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.decisions.best_trials import BestTrials
from search.decisions.sampler_view import study_with_view
from search.decisions.samplers import SAMPLERS, build_sampler
from search.decisions.trial_views import earlier_trial, shortfall
from search.storage.optuna_storage import create_study, open_study
from spaces.objectives import Objectives

# gain asks the ledger, which has the curves of running trials too.
THAT_READ_THE_STUDY = [name for name in SAMPLERS if name != "gain"]

LEARNING = ("tpe", "nsga2", "nsga3", "gp")
OBJECTIVES = Objectives(directions={"accuracy": "max", "gflops": "min"})
GENETIC: dict[str, type[BaseGASampler]] = {"nsga2": NSGAIISampler, "nsga3": NSGAIIISampler}
SPACE: dict[str, Any] = {name: FloatDistribution(0.0, 1.0) for name in "wxyz"}
WAYS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
EPOCHS = 9
Params = dict[str, float]
# Where a trial ends: how many epochs it ran, and how far its cost is above the bound.
Fate = tuple[int, float]
COMPLETE, EARLY, LATE, REFUSED = (EPOCHS, -0.5), (1, -0.5), (6, -0.5), (0, 0.1)


class Search:
    """A study of four numbers whose trials end as a test wants."""

    def __init__(
        self, sampler: str, *, warm: Sequence[FrozenTrial] = (), folder: Path | None = None
    ) -> None:
        self.sampler = sampler
        self._warm = warm
        self._folder = folder
        self._open(
            create_study(folder, "test", WAYS) if folder else optuna.create_study(directions=WAYS)
        )

    def _open(self, stored: optuna.Study) -> None:
        """stored: what everyone but the sampler sees."""
        self.stored = stored
        self.study = study_with_view(stored, SAMPLERS[self.sampler].view(OBJECTIVES), self._warm)

    def reopen(self) -> None:
        assert self._folder
        self._open(open_study(self._folder, "test"))

    def ask(self, params: Params | None = None) -> optuna.Trial:
        """params: enqueued; None: the sampler draws."""
        if params is not None:
            self.study.enqueue_trial(params)
        number = len(self.stored.get_trials(deepcopy=False))
        sampler = build_sampler(self.sampler, seed=0, trial_number=number)
        self.study.sampler = sampler
        trial = self.study.ask()
        if params is not None and isinstance(sampler, BaseGASampler):
            sampler.get_trial_generation(self.study, self.stored.trials[trial.number])
        for name, distribution in SPACE.items():
            trial.suggest_float(name, distribution.low, distribution.high)
        return trial

    def tell(self, trial: optuna.Trial, fate: Fate, values: Sequence[float] = (0.5, 0.5)) -> None:
        num_epochs, violation = fate
        state = TrialState.COMPLETE if num_epochs == EPOCHS else TrialState.PRUNED
        trial.set_user_attr("recipe", {"epochs": EPOCHS})
        trial.set_user_attr("cost", {"gflops": values[1]})
        trial.set_constraint("gflops", violation)
        trial.set_user_attr("outcome", {"reused": None, "epochs": [{}] * num_epochs})
        self.study.tell(trial, list(values) if state == TrialState.COMPLETE else None, state=state)

    def fill(self, num: int, fate_of: Callable[[Params], Fate]) -> None:
        """Trials all over the space; those with a larger x are cheaper."""
        generator = random.Random(0)
        for index in range(num):
            params = {name: generator.random() for name in SPACE} | {"x": (index + 0.5) / num}
            self.tell(self.ask(params), fate_of(params), (0.5 + 0.1 * params["w"], 1 - params["x"]))

    def propose(self, num: int) -> list[Params]:
        """What the sampler draws, none of it taken into account by the next proposal."""
        drawn = []
        for _ in range(num):
            trial = self.ask()
            drawn.append(trial.params)
            self.study.tell(trial, state=TrialState.FAIL)
        return drawn


def share(drawn: Sequence[Params], low: float, high: float) -> float:
    """Of proposals, with x from low to high."""
    return sum(low <= params["x"] < high for params in drawn) / len(drawn)


def worse_right(fate: Fate) -> Callable[[Params], Fate]:
    return lambda params: COMPLETE if params["x"] < 0.5 else fate


@pytest.mark.parametrize("fate", [EARLY, LATE, REFUSED], ids=["early", "late", "refused"])
@pytest.mark.parametrize("sampler", LEARNING)
def test_a_stopped_trial_is_worse_than_those_that_went_on(sampler: str, fate: Fate):
    num = 6 if sampler == "gp" else 40
    stopped, finished = Search(sampler), Search(sampler)
    stopped.fill(40, worse_right(fate))
    finished.fill(40, worse_right(COMPLETE))  # there the right half is the better one
    avoided, sought = stopped.propose(num), finished.propose(num)
    assert share(avoided, 0, 0.5) > 0.7
    assert share(avoided, 0, 0.5) > share(sought, 0, 0.5) + 0.2


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_stopped_trial_is_nothing_to_samplers_that_do_not_learn(sampler: str):
    stopped, finished = Search(sampler), Search(sampler)
    stopped.fill(10, worse_right(EARLY))
    finished.fill(10, worse_right(COMPLETE))
    assert stopped.propose(20) == finished.propose(20)


def test_tpe_prefers_where_trials_were_stopped_later():
    search = Search("tpe")
    search.fill(40, lambda params: REFUSED if params["x"] < 0.5 else EARLY)
    assert share(search.propose(30), 0.5, 1) > 0.8
    search.fill(40, lambda params: EARLY if params["x"] < 0.75 else LATE)
    for index in range(20):  # running trials are kept away from, and are neither good nor bad
        search.ask({"w": 0.5, "x": index / 20, "y": 0.5, "z": 0.5})
    assert share(search.propose(30), 0.75, 1) > 0.5  # a quarter of the space


def test_a_taken_over_result_counts_as_the_trial_that_it_is_from():
    search = Search("tpe")
    search.tell(search.ask(), LATE)
    follower = search.ask()
    search.tell(follower, (0, -0.5))
    trials = search.stored.get_trials()
    trials[1].user_attrs["outcome"]["reused"] = 0
    assert shortfall(trials[1], trials) == shortfall(trials[0], trials) == pytest.approx(1.4)


@pytest.mark.parametrize("sampler", GENETIC)
def test_generations_go_on_when_most_trials_are_stopped_and_none_of_these_is_a_parent(sampler: str):
    search = Search(sampler)
    generator = random.Random(1)
    for _ in range(320):
        trial = search.ask()
        fate = COMPLETE if generator.random() < 0.2 else EARLY
        search.tell(trial, fate, (trial.params["w"], trial.params["x"]))
    trials = search.stored.trials
    key = GENETIC[sampler]._get_generation_key()
    assert max(trial.system_attrs[key] for trial in trials) >= 3
    attributes = search.stored._storage.get_study_system_attrs(search.stored._study_id)
    for generation in (1, 2, 3):
        parents = attributes[f"{GENETIC[sampler]._get_parent_cache_key_prefix()}{generation}"]
        assert len(parents) == 16
        assert {trials[number].state for number in parents} == {TrialState.COMPLETE}


def test_gp_proposes_when_nothing_is_complete_and_when_one_is():
    search = Search("gp")
    search.fill(12, lambda _: EARLY)
    assert search.study.get_trials(states=[TrialState.COMPLETE]) == []
    assert len(search.propose(1)) == 1
    trial = search.ask()
    search.tell(trial, COMPLETE)
    shown = search.study.get_trials(states=[TrialState.COMPLETE])
    assert len(shown) == 13
    assert {t.values[0] for t in shown} == {0.5}
    assert len(search.propose(1)) == 1


@pytest.mark.parametrize("sampler", THAT_READ_THE_STUDY)
def test_everyone_but_the_sampler_sees_what_is_stored(sampler: str):
    search = Search(sampler, warm=warm_trials())
    search.fill(6, worse_right(EARLY))
    search.propose(1)
    stored = search.stored._storage.get_all_trials(search.stored._study_id)
    assert search.stored.trials == stored
    assert [trial.number for trial in stored] == list(range(7))
    assert {tuple(trial.constraints) for trial in stored[:6]} == {("gflops",)}
    assert [trial.values for trial in stored if trial.state == TrialState.PRUNED] == [None] * 3


def warm_trials() -> list[FrozenTrial]:
    """The nearer x is to 0.2, the better in both objectives."""
    generator = random.Random(2)
    warm = []
    for index in range(48):
        params = {name: generator.random() for name in SPACE} | {"x": index / 48}
        distance = abs(params["x"] - 0.2)
        warm.append(
            earlier_trial(
                index,
                params=params,
                distributions=SPACE,
                values=[1 - distance, 0.1 + distance],
                user_attrs={"cost": {"gflops": 0.1 + distance}},
                constraints={"gflops": -0.5},
            )
        )
    return warm


@pytest.mark.parametrize("sampler", LEARNING)
def test_what_earlier_runs_found_is_where_the_first_proposals_are(sampler: str):
    drawn = Search(sampler, warm=warm_trials()).propose(3 if sampler == "gp" else 30)
    assert share(drawn, 0, 0.4) > 0.7


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_earlier_runs_are_nothing_to_samplers_that_do_not_learn(sampler: str):
    assert Search(sampler, warm=warm_trials()).propose(10) == Search(sampler).propose(10)


@pytest.mark.parametrize("sampler", THAT_READ_THE_STUDY)
def test_a_study_that_is_opened_again_proposes_the_same(sampler: str, tmp_path: Path):
    num = 6 if sampler == "gp" else 50
    proposed = []
    for name, reopen_every in (("whole", num), ("reopened", 3 if sampler == "gp" else 9)):
        (tmp_path / name).mkdir()
        search = Search(sampler, warm=warm_trials(), folder=tmp_path / name)
        running: list[optuna.Trial] = []
        for number in range(num):
            if number % reopen_every == reopen_every - 1:
                search.reopen()
            running.append(search.ask())
            if number % 5:  # some finish long after those that began later
                trial = optuna.Trial(search.study, running.pop(-(number % 2))._trial_id)
                values = (trial.params["w"], trial.params["x"])
                search.tell(trial, COMPLETE if number % 3 else EARLY, values)
        proposed.append([trial.params for trial in search.stored.trials])
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize("sampler", THAT_READ_THE_STUDY)
def test_a_small_study_without_stopped_trials_proposes_as_optuna_does(sampler: str):
    num = 14 if sampler == "gp" else 100
    proposed = []
    for study in (None, optuna.create_study(directions=WAYS)):
        search = Search(sampler)
        if study is not None:
            search.study = search.stored = study
        for number in range(num):
            trial = search.ask()
            if number % 9:
                search.tell(trial, COMPLETE, (trial.params["w"], trial.params["x"]))
        proposed.append([trial.params for trial in search.stored.trials])
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_proposal_is_made_from_a_bounded_number_of_trials_the_front_among_them(sampler: str):
    search = Search(sampler)
    drawn = Search("random").propose(400)
    for number, params in enumerate(drawn):
        # Only the first trial has a v: without it, no sampler would know that there is one.
        trial = search.study.ask(SPACE if number else {**SPACE, "v": SPACE["w"]})
        fate = COMPLETE if number % 3 == 1 else EARLY
        if number < 300 or number % 2:
            search.tell(trial, fate, (params["w"], params["x"]))
    search.study.ask()
    view = search.study.get_trials(deepcopy=False)
    numbers = [trial.number for trial in view]
    assert len(view) < 170
    assert numbers[0] == 0
    assert numbers[-1] == 398  # the latest that runs
    front = {trial.number for trial in search.stored.best_trials}
    assert front <= set(numbers)


def test_the_best_are_those_of_the_first_fronts_in_whatever_order_they_came():
    losses = np.random.default_rng(0).random((300, 2)).round(2)
    ranks = moocore.pareto_rank(losses)
    tops = []
    for seed in range(3):
        best = BestTrials(20)
        for number in np.random.default_rng(seed).permutation(300).tolist():
            best.add(number, losses[number])
        assert len(best._numbers) < 200
        tops.append(sorted(best.top()))
    assert tops[0] == tops[1] == tops[2]
    assert sorted(ranks[tops[0]]) == sorted(ranks)[:20]
