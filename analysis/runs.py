"""Reads a run folder: its study, its trials, its epochs, and its front."""

import dataclasses
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analysis.columns import (
    COMPLETE,
    FAIL,
    PAUSED,
    PRUNED,
    RUNNING,
    STATES,
    amount,
    is_missing,
    plain,
)
from analysis.pareto.front import front_order
from spaces.columns import (
    ACCURACY,
    COSTS,
    METRICS,
    RECALL,
    FloatArray,
    declared_column,
    is_recall,
)
from spaces.constraints import Constraint
from spaces.errors import UserError
from spaces.files import read_file
from spaces.intervals import Interval, wilson_interval
from spaces.metrics import TOP_ACCURACY, best_guess
from spaces.objectives import Objectives, read_objectives
from spaces.recipe import RECIPE_FIELDS, Recipe, recipe_from
from spaces.yaml_files import MOST_BYTES_OF_A_RUN, cut, read_yaml_mapping, shorten

STUDY, TRIALS, EPOCHS = "study.yaml", "trials.parquet", "epochs.parquet"
# Ray Tune's folder, which holds the trials' checkpoints.
TUNE = "tune"
EPOCH_COLUMNS: tuple[str, ...] = (
    *("trial", "epoch", "train_loss", "train_accuracy", "val_loss"),
    *METRICS,
    *("learning_rate", "seconds"),
)
# What a search expected of a trial when it began: 10, 50 and 90 % quantiles of its last accuracy
# (of the study's metric, whatever it is), the hypervolume that it would add, and its seconds in
# epochs.
EXPECTED_COLUMNS: tuple[str, ...] = (
    *("expected_low", "expected_accuracy", "expected_high"),
    *("expected_gain", "expected_seconds"),
)
# A table without these columns is refused.
_ALWAYS = ("trial", "state", "model", "accuracy", "epoch")
_WRITE_ANEW = "`flopwise search --resume` writes it anew"
# Whole numbers, or None.
_OPTIONAL_FIELDS = ("unfrozen", "float_epochs")
_INTEGER_FIELDS = {
    field.name
    for field in dataclasses.fields(Recipe)
    if isinstance(field.default, int) and not isinstance(field.default, bool)
}.union(_OPTIONAL_FIELDS)


def trial_columns(recalls: Sequence[str] = ()) -> dict[str, type]:
    """Columns of trials.parquet, with the Python type of their cells; any cell may be missing.

    recalls: those that the study names, such as `recall:cat`.
    """
    recipe = Recipe()
    return {
        "trial": int,
        "state": str,
        # A default of None has no type to read off: these are whole numbers.
        **{
            name: int if name in _OPTIONAL_FIELDS else type(getattr(recipe, name))
            for name in RECIPE_FIELDS
        },
        **dict.fromkeys((*METRICS, *recalls), float),
        **{name: int if column.whole else float for name, column in COSTS.items()},
        "epochs_trained": int,
        "seconds": float,
        "search_seconds": float,
        "error": str,
        "checkpoint": str,
        "ran_on": str,
        "cpus": int,
        "gpus": float,
        "stop_reason": str,
        **dict.fromkeys(EXPECTED_COLUMNS, float),
    }


def epoch_columns(recalls: Sequence[str] = ()) -> dict[str, type]:
    """Columns of epochs.parquet, with the Python type of their cells; any cell may be missing.

    recalls: as in `trial_columns`.
    """
    names = (*EPOCH_COLUMNS, *recalls)
    return {name: int if name in ("trial", "epoch") else float for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The results of a search so far. Read one with `read_run`."""

    name: str
    path: Path
    study: dict[str, Any]
    """study.yaml as plain data."""
    objectives: Objectives
    trials: pd.DataFrame
    """A row a trial in any state, `trial_columns`, ordered by trial."""
    epochs: pd.DataFrame
    """A row an epoch, `epoch_columns`."""

    @property
    def metric(self) -> str:
        """The metric that its results show: the objective, or accuracy if it has only costs."""
        return self.objectives.shown_metric

    @property
    def costs(self) -> tuple[str, ...]:
        """Objectives that are minimised; effective_gflops where the study minimises none."""
        return self.objectives.costs

    @property
    def finished(self) -> pd.DataFrame:
        """Rows that are COMPLETE and have a finite number for every objective."""
        finite = np.isfinite(self.trials[list(self.objectives)].to_numpy(dtype=float)).all(axis=1)
        wanted = (self.trials["state"] == COMPLETE).to_numpy() & finite
        return self.trials.loc[wanted].reset_index(drop=True)

    @property
    def feasible(self) -> pd.DataFrame:
        """The finished rows that keep the study's bounds on metrics; all, if it has none."""
        finished = self.finished
        excess = worst_excess(finished, self.objectives.metric_constraints)
        return finished.loc[excess <= 0].reset_index(drop=True)

    @property
    def stopped(self) -> pd.DataFrame:
        """Rows that were PRUNED after an epoch or more, with their last metrics.

        They trained fewer epochs than finished trials: don't compare their metrics with those.
        """
        metrics = [*METRICS, *self.objectives.recalls]
        pruned = self.trials.loc[self.trials["state"] == PRUNED].drop(columns=metrics)
        return pruned.merge(self.last_epochs[["trial", *metrics]], on="trial", how="inner")

    @property
    def last_epochs(self) -> pd.DataFrame:
        """Of each trial, the row of the last epoch that it trained."""
        return self.epochs.sort_values("epoch").drop_duplicates("trial", keep="last")

    def counts(self) -> dict[str, int]:
        """Number of trials in each of STATES, in that order."""
        found = Counter(self.trials["state"])
        return {state: found[state] for state in STATES}

    @property
    def not_begun(self) -> npt.NDArray[np.bool_]:
        """(trials,): whether each was never allowed to begin; its reason is an error too."""
        pruned = (self.trials["state"] == PRUNED).to_numpy()
        refused = self.trials["error"].notna().to_numpy()
        return pruned & refused & (self.trials["epochs_trained"] == 0).to_numpy()

    @property
    def num_not_begun(self) -> int:
        return int(self.not_begun.sum())

    def counts_in_words(self, *, running: str = "unfinished") -> str:
        """For instance `12 complete, 28 stopped early`; empty for a run without trials.

        running: the word for trials in this state.
        """
        counts, not_begun = self.counts(), self.num_not_begun
        words = (
            (counts[COMPLETE], "complete"),
            (counts[PRUNED] - not_begun, "stopped early"),
            (not_begun, "not begun"),
            (counts[FAIL], "failed"),
            (counts[RUNNING], running),
            (counts[PAUSED], "paused"),
        )
        return ", ".join(f"{number:,} {word}" for number, word in words if number)

    def losses(self) -> FloatArray:
        """(feasible trials, objectives), all minimised."""
        return self.losses_of(self.feasible)

    def losses_of(self, rows: pd.DataFrame) -> FloatArray:
        """(rows, objectives), all minimised. rows: some of its trials."""
        return rows[list(self.objectives)].to_numpy(dtype=float) * self.objectives.signs

    def front(self) -> pd.DataFrame:
        """Rows of the feasible trials that no other dominates, the cheapest first.

        A trial that took over the result of an equal recipe is left out. Raises UserError where no
        trial is feasible.
        """
        feasible = self.require_feasible()
        names = list(self.objectives)
        by = names.index(self.costs[0]) if self.costs[0] in names else 0
        front = feasible.iloc[front_order(self.losses(), by=by)]
        return front.drop_duplicates(subset=[*RECIPE_FIELDS, *names]).reset_index(drop=True)

    def require_finished(self) -> pd.DataFrame:
        """`finished`. Where it is empty, raises UserError that says how far the run is."""
        finished = self.finished
        if not finished.empty:
            return finished
        how_far = self.counts_in_words() or "no trial has begun"
        reasons = self.trials.loc[self.trials["state"] == FAIL, "error"].dropna()
        first = f"; the first failed with: {_first_line(reasons.iloc[0])}" if len(reasons) else ""
        raise UserError(f"{self.path}: no finished trial yet ({how_far}{first})")

    def require_feasible(self) -> pd.DataFrame:
        """`feasible`. Where it is empty, raises UserError that says why."""
        self.require_finished()
        feasible = self.feasible
        if feasible.empty:
            raise UserError(f"{self.path}: {self.broken_constraints()}")
        return feasible

    def broken_constraints(self) -> str | None:
        """How many finished trials break the study's bounds on metrics; None if none does.

        For instance `4 of 12 finished trials break accuracy>=0.5`.
        """
        finished = self.finished
        excess = worst_excess(finished, self.objectives.metric_constraints)
        num_broken = int((excess > 0).sum())
        if not num_broken:
            return None
        bounds = self.objectives.metric_constraints
        if num_broken < len(finished):
            return f"{num_broken:,} of {len(finished):,} finished trials break {in_words(bounds)}"
        return (
            f"none of {len(finished):,} finished trials keeps {in_words(bounds)};"
            f" {describe_nearest(finished, bounds)}"
        )

    @property
    def num_classes(self) -> int | None:
        """None where an old run did not record it."""
        return self._provenance.get("num_classes")

    @property
    def num_train_images(self) -> int | None:
        return (self._provenance.get("num_images") or {}).get("train")

    @property
    def num_validation_images(self) -> int | None:
        return (self._provenance.get("num_images") or {}).get("validation")

    @property
    def class_counts(self) -> tuple[int, ...] | None:
        """Validation images of each class, in the order of the classes; None: not known.

        An old run recorded the share of the largest class, or not even that. Then the other
        classes, or all, are taken as equal.
        """
        recorded = self._provenance.get("class_counts")
        if recorded:
            return tuple(recorded.values())
        number, images = self.num_classes, self.num_validation_images
        if not number or not images:
            return None
        largest = round(self._provenance.get("majority_share", 1 / number) * images)
        rest = np.full(number - 1, (images - largest) // max(1, number - 1))
        rest[: (images - largest) - rest.sum()] += 1
        return (largest, *rest.tolist())

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the data; empty where an old run did not record them."""
        return tuple(self._provenance.get("class_counts") or ())

    @property
    def largest_class(self) -> str | None:
        """The name of the class with most validation images; None where it was not recorded."""
        counts = self._provenance.get("class_counts") or {}
        return max(counts, key=counts.__getitem__, default=None)

    @property
    def guessing(self) -> float | None:
        """What the best model that looks at no image gets in the run's metric; None: not known."""
        if self.class_counts:
            return best_guess(self.metric, self.class_counts)
        if self.metric != ACCURACY or not self.num_classes:
            return None
        return self._provenance.get("majority_share", 1 / self.num_classes)

    def interval(self, value: float | None) -> Interval | None:
        """The 95 % interval of a trial's metric, over other validation images.

        None where an old run did not record how many there are, and for metrics that are no share
        of images: their intervals take more than their value.
        """
        count = self.num_measured_images
        return None if count is None or value is None else wilson_interval(value, count)

    @property
    def num_measured_images(self) -> int | None:
        """The images of which the run's metric is a share; None where it is not one, or unknown."""
        if is_recall(self.metric):
            of = self.metric.removeprefix(RECALL)
            return (self._provenance.get("class_counts") or {}).get(of)
        return self.num_validation_images if self.metric in (ACCURACY, TOP_ACCURACY) else None

    @property
    def _provenance(self) -> dict[str, Any]:
        provenance = self.study.get("provenance")
        return provenance if isinstance(provenance, dict) else {}


def worst_excess(rows: pd.DataFrame, constraints: Sequence[Constraint]) -> FloatArray:
    """(rows,): how far each breaks the constraints; at most 0 where it keeps all."""
    excess = [one.excess(rows[one.column].to_numpy(dtype=float)) for one in constraints]
    return np.max([np.full(len(rows), -np.inf), *excess], axis=0)


def in_words(constraints: Sequence[Constraint]) -> str:
    """For instance `accuracy>=0.5 and size_mb<=20`."""
    return " and ".join(map(str, constraints))


def describe_nearest(rows: pd.DataFrame, constraints: Sequence[Constraint]) -> str:
    """For instance `trial 3 comes nearest with 48.0 % accuracy`. rows: one or more."""
    near = rows.iloc[int(worst_excess(rows, constraints).argmin())]
    has = ", ".join(amount(one.column, near[one.column]) for one in constraints)
    return f"trial {near['trial']} comes nearest with {has}"


def read_run(path: Path) -> Run:
    """Read a run folder, finished or not.

    A run that has recorded nothing yet has empty tables. Raises UserError where the folder is not
    a run's, or a file in it is damaged.
    """
    path = Path(path)
    # A folder that has only a user's study.yaml is not a run.
    if not (path / STUDY).is_file() or not ((path / TUNE).exists() or (path / TRIALS).exists()):
        raise UserError(_not_a_run(path))
    study = _read_study(path / STUDY)
    try:
        objectives = read_objectives(study.get("objectives"), study.get("constraints"))
    except UserError as error:
        raise UserError(f"{path / STUDY}: {error}") from None
    trials = _read_table(path / TRIALS, trial_columns(objectives.recalls))
    trials = trials.sort_values("trial", kind="stable", ignore_index=True)
    return Run(
        name=str(study.get("name") or path.name),
        path=path,
        study=study,
        objectives=objectives,
        trials=trials,
        epochs=_read_table(path / EPOCHS, epoch_columns(objectives.recalls)),
    )


def run_recipe(row: pd.Series | Mapping[str, Any]) -> Recipe:
    """Turn a row of trials back into its recipe.

    A table with missing integers holds NaN for them and floats for the others; both are undone.
    Raises UserError where the row is not a valid recipe.
    """
    values: dict[str, Any] = {}
    for field in RECIPE_FIELDS:
        value = plain(row.get(field))
        # A missing cell leaves the field to its default, which is None for unfrozen.
        if value is not None:
            values[field] = int(value) if field in _INTEGER_FIELDS else value
    return recipe_from(values)


def _read_study(path: Path) -> dict[str, Any]:
    """Read study.yaml. What other modules look into is a mapping, or missing."""
    study = read_yaml_mapping(path, most_bytes=MOST_BYTES_OF_A_RUN)
    for name in ("data", "provenance", "resources", "budget", "prices"):
        value = study.get(name)
        if value is None:
            study.pop(name, None)
        elif not isinstance(value, Mapping) and (name, value) != ("resources", "auto"):
            raise UserError(f"{path}: {name}: {shorten(value)} should be a mapping; restore it")
    for name in ("num_images", "class_counts"):
        images = study.get("provenance", {}).get(name, {})
        if not isinstance(images, Mapping) or not all(isinstance(n, int) for n in images.values()):
            raise UserError(f"{path}: provenance.{name}: should hold whole numbers; restore it")
    return study


def _read_table(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """Read a table with these columns. One that an older run lacks is missing in every row."""
    if not path.exists() and not path.is_symlink():
        # Floats, so that objectives are numbers in an empty table too.
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns})
    table = read_parquet(path, way_out=_WRITE_ANEW)
    lost = [name for name in _ALWAYS if name in columns and name not in table]
    if lost:
        raise UserError(f"{path}: lacks the columns {', '.join(lost)}")
    defaults = Recipe().to_dict()
    for name, kind in columns.items():
        if name not in table:
            # Trials from before a field existed were trained as its default says.
            table[name] = defaults.get(name, None if kind is str else np.nan)
        table[name] = _checked(path, table[name], kind)  # pyright: ignore[reportArgumentType]
    if "state" in columns and not set(table["state"].dropna()) <= set(STATES):
        other = next(state for state in table["state"].dropna() if state not in STATES)
        raise _damaged(path, f"{shorten(other)} is no state")
    if bool(table["trial"].isna().any()):
        raise _damaged(path, "a trial has no number")
    for name in _OPTIONAL_FIELDS:
        if name in columns:
            table[name] = table[name].astype("Int64")
    for name in columns:
        if declared_column(name) is not None:
            table[name] = table[name].astype(float)
    return table


def read_parquet(path: Path, *, way_out: str) -> pd.DataFrame:
    """A table of a file. Raises UserError, with the way out, if the file is damaged."""
    # In one go: a search replaces the file, and pyarrow opens a path more than once.
    content = read_file(path, what="table")
    try:
        return pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise UserError(f"{path}: damaged ({_first_line(error)}); {way_out}") from None


def _checked(path: Path, column: pd.Series, kind: type) -> pd.Series:
    """A column whose cells are all of a type, or missing. Raises UserError."""
    missing = column.isna().to_numpy()
    if kind in (str, bool):
        types = str if kind is str else (bool, np.bool_)
        fits = missing | np.array([isinstance(cell, types) for cell in column], dtype=bool)
    elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
        fits = missing | (numbers % 1 == 0 if kind is int else True)
    else:
        fits = missing
        if fits.all():
            column = pd.Series(np.nan, index=column.index, name=column.name)
    if not fits.all():
        cell = next(cell for cell, fit in zip(column, fits, strict=True) if not fit)
        kinds = {str: "text", bool: "true or false", int: "whole numbers", float: "numbers"}
        raise _damaged(path, f"{column.name} should hold {kinds[kind]}, not {shorten(cell)}")
    return column


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: damaged ({reason}); {_WRITE_ANEW}")


def _not_a_run(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such run folder; a search makes it once its Ray has started"
    if not path.is_dir():
        return f"{path}: a run is a folder, this is a file"
    runs = sorted(child.parent.name for child in path.glob(f"*/{STUDY}"))
    if runs:
        return f"{path}: holds runs, name one: {', '.join(str(path / name) for name in runs)}"
    return f"{path}: not a run folder (it has no {STUDY})"


def _first_line(error: object) -> str:
    text = "unknown" if is_missing(error) else str(error).strip()
    return cut(text.splitlines()[0], 300) if text else "unknown"
