"""How much each searched field decides an objective."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from analysis.runs import Run, run_recipe
from spaces.columns import COSTS, Direction
from spaces.space import SearchSpace
from spaces.space_file import parse_space

FEWEST_TRIALS = 20
"""Importances of fewer trials would be noise."""
_BEST_SHARE, _FEWEST_BEST = 0.1, 10


def parameter_importances(run: Run) -> dict[str, dict[str, float]]:
    """For each objective: field -> importance, 0 to 1, the largest first; they sum to 1.

    A cost follows from the recipe alone. So only fields that change it in this run's trials have a
    share in it (`spaces.columns.Column.decided_by`), and all others have exactly 0.

    Optuna's PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255): how much the values
    of a field in the best tenth of the trials (at least ten) differ from its values in all trials.
    Trials that were stopped early count with their last accuracy, since a tenth of the finished
    trials would often be one trial. A field that only some recipes draw counts for those alone.
    Empty where there are fewer than FEWEST_TRIALS trials, or the study does not name its space.
    """
    space, rows = _space(run), _with_results(run)
    if space is None or len(rows) < FEWEST_TRIALS:
        return {}
    drawn = [space.params_and_distributions(run_recipe(row)) for row in rows.to_dict("records")]
    searched = {field for params, _ in drawn for field in params}
    found: dict[str, dict[str, float]] = {}
    for objective, direction in run.objectives.items():
        decisive = _decisive_fields(rows, objective) & searched if objective in COSTS else searched
        shares = _importances(
            [tuple(_only(one, decisive) for one in pair) for pair in drawn],
            rows[objective].tolist(),
            direction,
        )
        without = dict.fromkeys(sorted(searched - shares.keys()), 0.0)
        found[objective] = shares | without if shares else {}
    return found


def by_importance(importances: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Fields by the sum of their importances for all objectives, the largest first."""
    sums: dict[str, float] = {}
    for shares in importances.values():
        for field, share in shares.items():
            sums[field] = sums.get(field, 0.0) + share
    return sorted(sums, key=lambda field: -sums[field])


def _decisive_fields(rows: pd.DataFrame, cost: str) -> set[str]:
    """The fields that can change a cost, without those that are seen not to change it in a run.

    Seen: trials differ in that field alone, of those that can, and have the same cost all the same.
    """
    fields = list(COSTS[cost].decided_by)
    decisive = set()
    for field in fields:
        others = [name for name in fields if name != field]
        numbers = rows.groupby(others, dropna=False)[[field, cost]].nunique(dropna=False)
        tried = numbers.loc[numbers[field] > 1]
        if tried.empty or (tried[cost] > 1).any():
            decisive.add(field)
    return decisive


def _only(values: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in fields}


def _importances(drawn: list, values: list[float], direction: Direction) -> dict[str, float]:
    if min(values) == max(values) or not any(params for params, _ in drawn):
        return {}  # PED-ANOVA needs values that differ, and fields
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it logs every new study
    study = optuna.create_study(direction="maximize" if direction == "max" else "minimize")
    study.add_trials(
        [
            create_trial(params=params, distributions=distributions, value=value)
            for (params, distributions), value in zip(drawn, values, strict=True)
        ]
    )
    best = max(_BEST_SHARE, _FEWEST_BEST / len(values))
    with warnings.catch_warnings():
        # It warns of fields that too few trials draw; they count as 0.
        warnings.simplefilter("ignore", UserWarning)
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=best)
        )


def _with_results(run: Run) -> pd.DataFrame:
    rows = pd.concat([run.finished, run.stopped], ignore_index=True)
    finite = np.isfinite(rows[list(run.objectives)].to_numpy(dtype=float)).all(axis=1)
    return rows.loc[finite]


def _space(run: Run) -> SearchSpace | None:
    written = run.study.get("space")
    if not isinstance(written, dict):
        return None
    seed = run.study.get("seed") or 0
    source = f"{run.path / 'study.yaml'}: space"
    return parse_space(written, name=run.name, source=source, folder=run.path, seed=seed)
