"""What mattered: how much each searched field decides an objective."""

from collections.abc import Mapping

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from analysis.columns import Direction
from analysis.runs import Run, run_recipe
from spaces.drawing import params_and_distributions
from spaces.space import SearchSpace
from spaces.space_file import parse_space

FEWEST_TRIALS = 10
"""With fewer finished trials than this, importances would be noise."""


def parameter_importances(run: Run) -> dict[str, dict[str, float]]:
    """For each objective the searched fields and their importance, the largest first, sum 1.

    Optuna's PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255) with its defaults:
    how much the values of a field among the best tenth of the finished trials differ from those
    among all of them. Fields that only some recipes draw count where they are drawn. Empty where
    fewer than FEWEST_TRIALS are finished, or the run does not say what it searched.
    """
    finished, space = run.finished, _space(run)
    if space is None or len(finished) < FEWEST_TRIALS:
        return {}
    drawn = [
        params_and_distributions(space, run_recipe(row)) for row in finished.to_dict("records")
    ]
    return {
        objective: _importances(drawn, finished[objective].tolist(), direction)
        for objective, direction in run.objectives.items()
    }


def by_importance(importances: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Fields by the sum of what they matter to each objective, the largest first."""
    sums: dict[str, float] = {}
    for shares in importances.values():
        for field, share in shares.items():
            sums[field] = sums.get(field, 0.0) + share
    return sorted(sums, key=lambda field: -sums[field])


def _importances(drawn: list, values: list[float], direction: Direction) -> dict[str, float]:
    if min(values) == max(values):
        return {}  # nothing can matter to what is the same everywhere
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it tells of every study made
    study = optuna.create_study(direction="maximize" if direction == "max" else "minimize")
    study.add_trials(
        [
            create_trial(params=params, distributions=distributions, value=value)
            for (params, distributions), value in zip(drawn, values, strict=True)
        ]
    )
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _space(run: Run) -> SearchSpace | None:
    written = run.study.get("space")
    if not isinstance(written, dict):
        return None
    seed = run.study.get("seed") or 0
    source = f"{run.path / 'study.yaml'}: space"
    return parse_space(written, name=run.name, source=source, folder=run.path, seed=seed)
