"""Which search finds a table's front soonest: samplers and stopping rules, each with several seeds.

Shares are of the hypervolume of all recorded recipes. Budgets are parts of the time in which the
workers would train every recipe once, to its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from analysis.results.hypervolume_trace import SeededTraces
from search.decisions.budget import Budget
from search.decisions.samplers import SamplerSettings
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.simulation.simulator import SimulatedSearch, SimulationSettings, traces_of
from search.simulation.tabular_benchmark import TabularBenchmark

SHARES = (0.8, 0.9, 0.95, 0.99)
BUDGETS = ("1/32", "1/16", "1/8", "1/4")
# Samplers and stopping rules by name, as far as our settings of them go: what others offer.
_PEERS = (
    ("tpe", "none"),
    ("gp", "none"),
    ("random", "none"),
    ("tpe", "asha"),
    ("random", "pareto"),
)


def default_pairs() -> list[tuple[str, str]]:
    """Pairs of sampler and stopping to compare: first the defaults of a study, then the others."""
    return list(dict.fromkeys([default_pair(), *_PEERS]))


def default_pair() -> tuple[str, str]:
    """The sampler and the stopping of a study that names neither."""
    return SamplerSettings().name, EarlyStoppingSettings().name


def settings_of(
    table: TabularBenchmark,
    sampler: str,
    early_stopping: EarlyStoppingSettings,
    *,
    workers: int,
    trials: int | None = None,
) -> SimulationSettings:
    """How to search a table. trials: the budget; None: as many as may change the front.

    That is twice the recipes: those that were stopped may be proposed again. If none is stopped for
    good, the front is complete after each recipe has begun once.
    """
    rounds = 1 if early_stopping.name in ("none", "gain") else 2
    return SimulationSettings(
        sampler=sampler,
        early_stopping=early_stopping,
        workers=workers,
        budget=Budget(trials=trials or rounds * len(table.trials)),
    )


def budget_seconds(table: TabularBenchmark, workers: int) -> dict[str, float]:
    """Simulated seconds of each of BUDGETS."""
    return {name: float(Fraction(name)) * table.seconds / workers for name in BUDGETS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One way to search a table, with several seeds."""

    settings: SimulationSettings
    """Of one of the seeds."""
    trace: SeededTraces
    budgets: dict[str, float]
    """As `budget_seconds`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with a value for each seed. None: the front never had this share."""
        seconds = {f"{share:g}": self.trace.seconds_to(share).tolist() for share in SHARES}
        reached = self.trace.at(np.array(list(self.budgets.values())))
        return {
            "sampler": self.settings.sampler,
            "early_stopping": self.settings.early_stopping.name,
            "workers": self.settings.workers,
            "seeds": len(self.trace.seconds),
            "trials": self.settings.budget.trials,
            "seconds_to": {
                share: [one if np.isfinite(one) else None for one in of_seeds]
                for share, of_seeds in seconds.items()
            },
            "never": {share: int(np.isinf(of_seeds).sum()) for share, of_seeds in seconds.items()},
            "budgets": self.budgets,
            "hypervolume_at": dict(zip(self.budgets, reached.T.tolist(), strict=True)),
        }


def comparison_row(
    table: TabularBenchmark, replays: Sequence[SimulatedSearch], *, name: str | None = None
) -> ComparisonRow:
    """The row of replays of a table that differ in their seeds."""
    settings = replace(replays[0].settings, seed=0)
    return ComparisonRow(
        settings=settings,
        trace=traces_of(name or settings.name, replays),
        budgets=budget_seconds(table, settings.workers),
    )
