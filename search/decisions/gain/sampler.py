"""Proposes the recipe with the highest expected gain per second, as an Optuna sampler."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from search.decisions.gain.index import GainIndex


class GainSampler(BaseSampler):
    """Proposes one trial of a search."""

    def __init__(self, index: GainIndex, *, number: int, seed: int) -> None:
        self._index = index
        self._number = number
        self._random = RandomSampler(seed=seed)
        self._values: dict[str, Any] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}  # so that every value is asked for below

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        # Asked only now: the driver may have died after it drew a part of this recipe, or all.
        if self._values is None:
            recipe = self._index.propose(self._number)
            values = {} if recipe is None else recipe.to_dict()
            fits = all(values.get(name) == value for name, value in trial.params.items())
            self._values = values if fits else {}
        if param_name in self._values:
            return self._values[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)
