"""A study whose sampler sees a view of the trials, while the storage has all of them.

Samplers read trials from their study's storage. So the view is a storage too: it lists the trials,
and passes everything else to the real one. `optuna.storages.BaseStorage` is public, so no code of
Optuna is replaced.
"""

import copy
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.decisions.trial_views import TrialView


def study_with_view(
    study: optuna.Study, view: TrialView, earlier: Sequence[FrozenTrial] = ()
) -> optuna.Study:
    """The same study with a view. Use it to ask and tell, and read by the given study.

    earlier: trials of earlier runs, from `trial_views.earlier_trial`.
    """
    if view.learns:
        for trial in earlier:
            view.add(trial, ())
    # Private, but a study has no other way to its storage.
    storage = ViewStorage(study._storage, study._study_id, view)
    return optuna.load_study(study_name=study.study_name, storage=storage)


class ViewStorage(BaseStorage):
    """The storage of one study, which lists the trials of a view.

    Only this process may write to the study.
    """

    def __init__(self, storage: BaseStorage, study_id: int, view: TrialView) -> None:
        self._storage = storage
        self._study_id = study_id
        self._view = view
        # The study's unfinished trials at the last look, and the number of all trials then.
        self._unfinished: list[FrozenTrial] = []
        self._num_seen = 0
        self._shown: list[FrozenTrial] | None = None

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """What the sampler is shown. For WAITING alone, the trials that `ask` may begin."""
        # Each `ask` begins like this, so make one view for each.
        begins_to_ask = states == (TrialState.WAITING,)
        if begins_to_ask or self._shown is None:
            self._look()
            self._shown = self._make_view()
        trials = self._unfinished if begins_to_ask else self._shown
        shown = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown

    def _look(self) -> None:
        """Add trials that finished since the last look. Finished trials never change."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        numbers = [trial.number for trial in self._unfinished]
        self._unfinished = []
        for trial in [*(trials[number] for number in numbers), *trials[self._num_seen :]]:
            if trial.state.is_finished():
                self._view.add(trial, trials)
            else:
                self._unfinished.append(trial)
        self._num_seen = len(trials)

    def _make_view(self) -> list[FrozenTrial]:
        return self._view.trials(
            self._unfinished, lambda: self._storage.get_study_system_attrs(self._study_id)
        )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state.is_finished():
            self._shown = None
        return self._storage.set_trial_state_values(trial_id, state, values)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._storage.create_new_trial(study_id, template_trial)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._storage.get_trial(trial_id)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._storage.delete_study(study_id)

    def get_all_studies(self) -> list[Any]:
        return self._storage.get_all_studies()

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._storage.set_study_user_attr(study_id, key, value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(study_id)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._storage.set_study_system_attr(study_id, key, value)
