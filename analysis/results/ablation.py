"""An ablation in numbers: what each difference between a trial and a starting point is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.columns import heading, write_setting
from analysis.pareto.front import FloatArray
from analysis.pareto.intervals import difference
from spaces.columns import ACCURACY
from spaces.intervals import Interval
from spaces.recipe import Recipe, recipe_from
from spaces.recipe_diff import Fields

Role = Literal["start", "step", "without"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRun:
    """A recipe between the starting point and the full one, trained with several seeds."""

    role: Role
    difference: int | None
    """The difference that is turned on or off here; None for the starting point."""
    on: tuple[bool, ...]
    """For each difference, whether it is turned on."""
    accuracies: FloatArray
    """(seeds,), the study's metric on the validation split, of the seeds that finished."""
    failures: tuple[str, ...] = ()
    """Why the other seeds did not."""

    @property
    def mean(self) -> float | None:
        return float(self.accuracies.mean()) if len(self.accuracies) else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        return float(self.accuracies.std(ddof=1)) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The results of an ablation."""

    trial: int
    run: str
    """The run's name."""
    against: str
    start: Recipe
    full: Recipe
    differences: tuple[Fields, ...]
    num_seeds: int
    num_images: int
    """Images of the validation split."""
    metric: str = ACCURACY
    """The study's, of which are all numbers."""
    cumulative: tuple[AblationRun, ...]
    """The starting point first, the full recipe last."""
    leave_one_out: tuple[AblationRun, ...]
    """The full recipe without one difference, for each of them."""

    def change(self, row: AblationRun) -> Interval | None:
        """How far a row lies above the step before it or, without a difference, the full recipe.

        None for the starting point, and where fewer than two seeds of either finished.
        """
        if row.difference is None:
            return None
        other = self.cumulative[-1] if row.role == "without" else self.cumulative[row.difference]
        if row.spread is None or other.spread is None:
            return None
        return difference(row.accuracies, other.accuracies)

    def names(self, index: int) -> str:
        """A difference's name: its fields."""
        return ", ".join(heading(field) for field in self.differences[index])

    def label(self, index: int) -> str:
        """A difference in words: batch size 16 → 64."""
        before, after = (
            ", ".join(
                write_setting(field, getattr(recipe, field)) for field in self.differences[index]
            )
            for recipe in (self.start, self.full)
        )
        return f"{self.names(index)} {before} → {after}"

    def row_label(self, row: AblationRun) -> str:
        """A row in words: its starting point, + batch size, without batch size."""
        if row.difference is None:
            return f"starting point ({self.against})"
        sign = "without" if row.role == "without" else "+"
        whole = f" = trial {self.trial}" if row.role == "step" and all(row.on) else ""
        return f"{sign} {self.names(row.difference)}{whole}"

    @property
    def rows(self) -> tuple[AblationRun, ...]:
        """All rows of the table. Without its only difference, a recipe is the start: no row."""
        return self.cumulative + (self.leave_one_out if len(self.differences) > 1 else ())


def ablation_records(ablation: Ablation) -> dict[str, Any]:
    """An ablation as plain data for JSON; accuracies, of its metric, from 0 to 1."""
    return {
        "run": ablation.run,
        "trial": ablation.trial,
        "against": ablation.against,
        "seeds": ablation.num_seeds,
        "epochs": ablation.full.epochs,
        "validation_images": ablation.num_images,
        "metric": ablation.metric,
        "differences": [list(fields) for fields in ablation.differences],
        "start": ablation.start.to_dict(),
        "full": ablation.full.to_dict(),
        "climb": [_record(ablation, row) for row in ablation.cumulative],
        "without_one": [_record(ablation, row) for row in ablation.leave_one_out],
    }


def ablation_from(records: Mapping[str, Any]) -> Ablation:
    """The ablation from which `ablation_records` made these records."""
    starting, *steps = records["climb"]
    return Ablation(
        trial=records["trial"],
        run=records["run"],
        against=records["against"],
        start=recipe_from(records["start"]),
        full=recipe_from(records["full"]),
        differences=tuple(tuple(fields) for fields in records["differences"]),
        num_seeds=records["seeds"],
        num_images=records["validation_images"],
        metric=records.get("metric", ACCURACY),  # older files have none
        cumulative=(
            _trained(starting, "start", None),
            *(_trained(record, "step", index) for index, record in enumerate(steps)),
        ),
        leave_one_out=tuple(
            _trained(record, "without", index)
            for index, record in enumerate(records["without_one"])
        ),
    )


def _record(ablation: Ablation, row: AblationRun) -> dict[str, Any]:
    change = ablation.change(row)
    return {
        "label": ablation.row_label(row),
        "on": list(row.on),
        "accuracies": [float(accuracy) for accuracy in row.accuracies],
        "mean": row.mean,
        "spread": row.spread,
        "change": change and {**change.to_dict(), "within_the_spread": change.holds_zero},
        "failures": list(row.failures),
    }


def _trained(record: Mapping[str, Any], role: Role, difference: int | None) -> AblationRun:
    return AblationRun(
        role=role,
        difference=difference,
        on=tuple(record["on"]),
        accuracies=np.array(record["accuracies"], dtype=float),
        failures=tuple(record["failures"]),
    )
