"""Costs with a measured latency, for studies that need it. Each architecture is timed once."""

import statistics
from collections.abc import Callable, Iterable
from functools import partial

from search.decisions.trial_record import TrialRecord
from spaces.columns import LATENCY
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from trainables.cost import recipe_cost
from trainables.costing.figures import Cost
from trainables.models.building import architecture_of

# Before any model is measured. Only differences between models count.
_MS_A_GFLOP = 20.0


class LatencyMeter:
    """Measures the cost of a recipe's model, including latency.

    It measures one model at a time, in the driver's process, before the trial begins. The engine
    leaves a core free for it. known: earlier trials; their architectures keep the same latency.
    """

    def __init__(self, num_classes: int, known: Iterable[TrialRecord] = ()) -> None:
        self._num_classes = num_classes
        self._latency_ms: dict[Recipe, float] = {}
        for record in known:
            if record.recipe and record.cost and record.cost.latency_ms is not None:
                self._latency_ms[architecture_of(record.recipe)] = record.cost.latency_ms

    def __call__(self, recipe: Recipe) -> Cost:
        # This imports the ONNX packages. Other searches should not wait for them.
        from trainables.export.untrained_latency import measure_untrained_latency

        cost = recipe_cost(recipe, self._num_classes)
        architecture = architecture_of(recipe)
        if architecture not in self._latency_ms:
            latency = measure_untrained_latency(recipe, self._num_classes)
            self._latency_ms[architecture] = latency.median_ms
        return cost.with_latency(self._latency_ms[architecture])

    def foretell(self, recipe: Recipe) -> Cost:
        """The cost with a latency as of the models that were measured, in proportion to GFLOPs."""
        cost = recipe_cost(recipe, self._num_classes)
        architecture = architecture_of(recipe)
        if architecture in self._latency_ms:
            return cost.with_latency(self._latency_ms[architecture])
        ratios = [
            latency / recipe_cost(other, self._num_classes).effective_gflops
            for other, latency in self._latency_ms.items()
        ]
        a_gflop = statistics.median(ratios) if ratios else _MS_A_GFLOP
        return cost.with_latency(a_gflop * cost.effective_gflops)


def foretold_cost(measure: Callable[[Recipe], Cost], num_classes: int) -> Callable[[Recipe], Cost]:
    """A function that finds a recipe's cost without measuring anything. measure: a `cost_meter`."""
    if isinstance(measure, LatencyMeter):
        return measure.foretell
    return partial(recipe_cost, num_classes=num_classes)


def cost_meter(
    objectives: Objectives, num_classes: int, *, known: Callable[[], Iterable[TrialRecord]]
) -> Callable[[Recipe], Cost]:
    """A function that finds the cost of a recipe, with a latency only if objectives need one.

    known: reads the trials of this search and of earlier runs, whose latencies are not measured
    again. It is called only if latencies are needed.
    """
    if LATENCY in objectives.cost_columns:
        return LatencyMeter(num_classes, known())
    return partial(recipe_cost, num_classes=num_classes)
