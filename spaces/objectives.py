"""What a study optimises: columns and their directions, and bounds on them.

Only this module knows how numbers become losses, which of them are costs, and which are compared by
magnitude. A loss is always minimised: the negative of an accuracy, or a cost as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import StudyDirection

from spaces.columns import (
    ACCURACY,
    COSTS,
    Direction,
    FloatArray,
    is_metric,
    is_recall,
    number_columns,
)
from spaces.constraints import Constraint, check_column, read_study_constraint
from spaces.errors import UserError

DEFAULT_OBJECTIVES: dict[str, Direction] = {ACCURACY: "max", "effective_gflops": "min"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objectives(Mapping[str, Direction]):
    """Maps each column to max or min, in the study's order, and holds the bounds."""

    directions: Mapping[str, Direction]
    constraints: tuple[Constraint, ...] = ()
    """Bounds on costs decide which trials begin, bounds on metrics which finished ones count."""

    def __post_init__(self) -> None:
        """Raise UserError for a metric that is to be small, and for a second metric."""
        metrics = [name for name in self.directions if is_metric(name)]
        for name in metrics:
            if self.directions[name] != "max":
                way = self.directions[name]
                raise UserError(f"objectives.{name}: {way}: more is better; write {name}: max")
        if len(metrics) > 1:
            first, second = metrics[:2]
            raise UserError(
                f"objectives: {first} and {second}: a search maximises one metric; keep one, and"
                " give the other a bound under constraints"
            )

    def __getitem__(self, name: str) -> Direction:
        return self.directions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.directions)

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def signs(self) -> FloatArray:
        """(objectives,): -1 where more is better, else 1; numbers times signs are losses."""
        return np.array([-1.0 if way == "max" else 1.0 for way in self.values()])

    @property
    def metric(self) -> str | None:
        """The objective that validation measures each epoch; None if the study has only costs."""
        return next((name for name in self if is_metric(name)), None)

    @property
    def shown_metric(self) -> str:
        """The metric that results show: the objective, or accuracy if the study has only costs."""
        return self.metric or ACCURACY

    @property
    def recalls(self) -> tuple[str, ...]:
        """The classes' recalls that the objectives and the bounds name, as columns.

        Trials record these and no others: data may have thousands of classes.
        """
        named = (*self, *(bound.column for bound in self.constraints))
        return tuple(dict.fromkeys(name for name in named if is_recall(name)))

    @property
    def known_numbers(self) -> tuple[str, ...]:
        """Every number that a trial of this study has: metrics, recalls, then costs."""
        known = number_columns()
        metrics = tuple(name for name in known if is_metric(name))
        return (*metrics, *self.recalls, *known[len(metrics) :])

    @property
    def log_columns(self) -> tuple[int, ...]:
        """Positions of the costs. Fronts compare costs by magnitude."""
        return tuple(index for index, name in enumerate(self) if name in COSTS)

    @property
    def costs(self) -> tuple[str, ...]:
        """Objectives that are minimised; the default one where the study minimises none."""
        costs = tuple(name for name, direction in self.items() if direction == "min")
        return costs or tuple(name for name, way in DEFAULT_OBJECTIVES.items() if way == "min")

    @property
    def cost_columns(self) -> set[str]:
        """Costs that are objectives or have a bound."""
        bounded = {bound.column for bound in self.constraints if not bound.is_of_a_metric}
        return {name for name in self if name in COSTS} | bounded

    @property
    def needed_columns(self) -> set[str]:
        """Numbers without which a finished trial can't be compared, or may break a bound."""
        return {*self, *(bound.column for bound in self.constraints)}

    @property
    def optuna_directions(self) -> list[StudyDirection]:
        """The directions in Optuna's words."""
        return [
            StudyDirection.MAXIMIZE if way == "max" else StudyDirection.MINIMIZE
            for way in self.values()
        ]

    def values_of(self, numbers: Mapping[str, Any]) -> list[float]:
        """A trial's objectives, from its numbers by column."""
        return [float(numbers[name]) for name in self]

    def losses_of(self, numbers: Mapping[str, Any]) -> list[float]:
        """A trial's losses, from its numbers by column."""
        return [
            -value if way == "max" else value
            for value, way in zip(self.values_of(numbers), self.values(), strict=True)
        ]

    @property
    def metric_constraints(self) -> tuple[Constraint, ...]:
        """The bounds that only finished trials can keep or break."""
        return tuple(bound for bound in self.constraints if bound.is_of_a_metric)

    @property
    def least_of_metric(self) -> tuple[Constraint, ...]:
        """The lower bounds on the metric that is maximised."""
        return tuple(
            bound
            for bound in self.metric_constraints
            if bound.column == self.metric and bound.sign.startswith(">")
        )

    def violations(self, numbers: Mapping[str, Any]) -> dict[str, float]:
        """Column -> how far it exceeds its bound, as in `Constraint.excess`.

        A metric that is not known yet is left out.
        """
        return {
            bound.column: bound.violation(numbers.get(bound.column))
            for bound in self.constraints
            if not (bound.is_of_a_metric and numbers.get(bound.column) is None)
        }

    def are_feasible(self, numbers: Mapping[str, Any]) -> bool:
        """Whether a finished trial keeps the bounds on metrics. Those on costs let it begin."""
        return all(
            bound.violation(numbers.get(bound.column)) <= 0 for bound in self.metric_constraints
        )


def dominates(losses: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the first losses are smaller in some objective and larger in none."""
    return losses != others and all(a <= b for a, b in zip(losses, others, strict=True))


def read_objectives(written: Any, constraints: Any = None) -> Objectives:
    """Read `{accuracy: max, gflops: min}`; if nothing is written, return the default.

    constraints: as a study file has them, such as `{accuracy: ">= 0.5"}`. Raises UserError.
    """
    if not isinstance(constraints or {}, Mapping):
        raise UserError("constraints: expected a mapping such as {accuracy: '>= 0.5'}")
    bounds = tuple(
        read_study_constraint(str(name), str(bound)) for name, bound in (constraints or {}).items()
    )
    if not written:
        return Objectives(directions=dict(DEFAULT_OBJECTIVES), constraints=bounds)
    if not isinstance(written, Mapping):
        raise UserError("objectives: expected `column: max` or `column: min`")
    for name, direction in written.items():
        try:
            check_column(str(name))
        except UserError as error:
            raise UserError(f"objectives: {error}") from None
        if direction not in ("max", "min"):
            raise UserError(f"objectives.{name}: {direction}: write max or min")
    return Objectives(directions=dict(written), constraints=bounds)
