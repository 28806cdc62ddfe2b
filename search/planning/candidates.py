"""Recipes that a search may try, with their costs, and a choice of them to probe."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.study.study import Study
from spaces.columns import LATENCY
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.suggesters import RandomTrial
from trainables.cost import recipe_cost
from trainables.costing.figures import Cost
from trainables.costing.training_cost import trained_share

_NUM_DRAWS = 256
_COSTING_SECONDS = 10.0
_MIN_COSTED = 16
# Probe at these quantiles of the recipes, ranked by FLOPs. Within this reach of a quantile, prefer
# a model that is not probed yet to the nearest recipe.
_PLACES = (0.05, 0.5, 0.95)
_REACH = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A recipe that the search may try, with what is known of it before training."""

    recipe: Recipe
    cost: Cost
    trained_share: float
    """The share of its multiply-adds in blocks that train."""
    tried_first: bool

    @property
    def training_gflop(self) -> float:
        """GFLOP to train with one image. A layer that trains takes twice as much backward."""
        return self.cost.gflops * (1 + 2 * self.trained_share)


def draw_candidates(
    study: Study, *, num_classes: int, seconds: float = _COSTING_SECONDS
) -> list[Candidate]:
    """Draw recipes that the search may begin with, enqueued ones first.

    seconds: about how long costing may take. If costing all would take longer, returns fewer.
    Raises UserError if none keeps the study's constraints.
    """
    trial = RandomTrial(seed=study.seed)
    first = study.space.enqueue
    drawn = itertools.chain(first, (study.space.suggest(trial) for _ in range(_NUM_DRAWS)))
    # Latency is only measured when a trial is about to begin, a metric only by training.
    bounds = [
        bound
        for bound in study.objectives.constraints
        if bound.column != LATENCY and not bound.is_of_a_metric
    ]
    found: list[Candidate] = []
    last = time.monotonic() + seconds
    for number, recipe in enumerate(drawn):
        if len(found) >= _MIN_COSTED and time.monotonic() > last:
            break
        cost = recipe_cost(recipe, num_classes)
        if any(bound.violation(cost[bound.column]) > 0 for bound in bounds):
            continue
        share = trained_share(recipe, num_classes)
        found.append(
            Candidate(
                recipe=recipe, cost=cost, trained_share=share, tried_first=number < len(first)
            )
        )
    if not found:
        told = ", ".join(map(str, bounds))
        raise UserError(f"constraints: none of {_NUM_DRAWS} recipes drawn keeps {told}")
    return found


def choose_probes(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Up to three: a cheap, a medium and an expensive one, of different models if possible."""
    ranked = sorted(candidates, key=lambda candidate: candidate.training_gflop)
    chosen: dict[tuple[Any, ...], Candidate] = {}
    for index in _PLACES:
        centre, reach = index * (len(ranked) - 1), _REACH * len(ranked)
        ranks = sorted(range(len(ranked)), key=lambda rank: abs(rank - centre))
        near = [ranked[rank] for rank in ranks if abs(rank - centre) <= reach] or [ranked[ranks[0]]]
        models = {candidate.recipe.model for candidate in chosen.values()}
        best = next((c for c in near if c.recipe.model not in models), near[0])
        chosen.setdefault((best.cost.gflops, best.recipe.unfrozen, best.recipe.batch_size), best)
    return list(chosen.values())
