"""An ablation as numbers and as a table: what each difference to a starting point is worth."""

from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from analysis.columns import heading, write_percent, write_setting
from analysis.front import FloatArray
from analysis.intervals import Interval, difference
from spaces.differences import Fields
from spaces.recipe import Recipe

WITHIN = "within the spread"
# The widths of the others, with what lies between columns.
_OTHER_COLUMNS = 24 + 11 + 11 + 17 + 4 * 3
Role = Literal["start", "step", "without"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A recipe between the starting point and the whole, trained with several seeds."""

    role: Role
    difference: int | None
    """The one that is turned on at this step, or off; None of the starting point."""
    on: tuple[bool, ...]
    """By difference."""
    accuracies: FloatArray
    """(seeds,), on the validation split; of the seeds that were trained to their end."""
    failures: tuple[str, ...] = ()
    """Why the others were not."""

    @property
    def mean(self) -> float | None:
        return float(self.accuracies.mean()) if len(self.accuracies) else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds; None of fewer than two."""
        return float(self.accuracies.std(ddof=1)) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What an ablation came to."""

    trial: int
    run: str
    """Its name."""
    against: str
    start: Recipe
    full: Recipe
    differences: tuple[Fields, ...]
    num_seeds: int
    num_images: int
    """Of the validation split."""
    climb: tuple[Trained, ...]
    """The starting point first, the whole last."""
    without_one: tuple[Trained, ...]
    """By difference."""

    def change(self, row: Trained) -> Interval | None:
        """By how much a row lies above the step before it, or above the whole where one is off.

        None of the starting point, and where fewer than two seeds of either were trained.
        """
        if row.difference is None:
            return None
        other = self.climb[-1] if row.role == "without" else self.climb[row.difference]
        if row.spread is None or other.spread is None:
            return None
        return difference(row.accuracies, other.accuracies)

    def names(self, place: int) -> str:
        """What a difference is called: its fields."""
        return ", ".join(heading(field) for field in self.differences[place])

    def label(self, place: int) -> str:
        """A difference in words: batch size 16 → 64."""
        before, after = (
            ", ".join(
                write_setting(field, getattr(recipe, field)) for field in self.differences[place]
            )
            for recipe in (self.start, self.full)
        )
        return f"{self.names(place)} {before} → {after}"

    def row_label(self, row: Trained) -> str:
        """A row in words: its starting point, + batch size, without batch size."""
        if row.difference is None:
            return f"starting point ({self.against})"
        sign = "without" if row.role == "without" else "+"
        whole = f" = trial {self.trial}" if row.role == "step" and all(row.on) else ""
        return f"{sign} {self.names(row.difference)}{whole}"

    @property
    def rows(self) -> tuple[Trained, ...]:
        """All of them, in the table's order; with one difference, without it is the start again."""
        return self.climb + (self.without_one if len(self.differences) > 1 else ())


def ablation_table(ablation: Ablation, width: int = 120) -> Table:
    """A row for each recipe: what is on (Y) and off (N), the accuracy, and what changed it.

    Where width columns have no room for the differences' names, they are numbered.
    """
    names = [ablation.names(place) for place in range(len(ablation.differences))]
    # Headings break at spaces.
    widths = [max(map(len, name.split())) for name in names]
    if sum(widths) + 3 * len(widths) > width - _OTHER_COLUMNS:
        names = [str(place + 1) for place in range(len(names))]
        widths = [len(name) for name in names]
    table = Table(
        title=_title(ablation), title_style="bold", title_justify="left", box=SIMPLE_HEAD,
        caption=_caption(ablation), caption_justify="left",
    )  # fmt: skip
    table.add_column("recipe", overflow="fold", min_width=18)
    for name, needed in zip(names, widths, strict=True):
        table.add_column(name, justify="center", width=needed)
    table.add_column("accuracy (%)", justify="right", width=11)
    table.add_column("change (points)", justify="right", width=11)
    table.add_column("", overflow="fold")
    for row in ablation.rows:
        change = ablation.change(row)
        cells = ["Y" if on else "N" for on in row.on]
        said = WITHIN if change is not None and change.holds_zero else ""
        if row.failures:
            said = f"{len(row.failures)} failed: {row.failures[0]}"
        table.add_row(
            ablation.row_label(row), *cells, write_mean(row), write_change(change), said,
            end_section=row.role != "without" and all(row.on),
        )  # fmt: skip
    return table


def ablation_records(ablation: Ablation) -> dict[str, Any]:
    """What the table shows, as plain data that JSON can hold; accuracies from 0 to 1."""
    fields = [field for fields in ablation.differences for field in fields]
    return {
        "run": ablation.run,
        "trial": ablation.trial,
        "against": ablation.against,
        "seeds": ablation.num_seeds,
        "epochs": ablation.full.epochs,
        "validation_images": ablation.num_images,
        "differences": [list(fields) for fields in ablation.differences],
        "start": {field: getattr(ablation.start, field) for field in fields},
        "full": {field: getattr(ablation.full, field) for field in fields},
        "climb": [_record(ablation, row) for row in ablation.climb],
        "without_one": [_record(ablation, row) for row in ablation.without_one],
    }


def write_mean(row: Trained) -> str:
    """Mean and standard deviation in %: 41.5 ± 0.8."""
    if row.spread is None:
        return write_percent(row.mean)
    return f"{write_percent(row.mean)} ± {100 * row.spread:.1f}"


def write_change(change: Interval | None) -> str:
    """A change in points, with the half of its 95 % interval: +4.1 ± 1.2."""
    if change is None:
        return ""
    return f"{100 * change.mean:+.1f} ± {50 * (change.high - change.low):.1f}"


def _record(ablation: Ablation, row: Trained) -> dict[str, Any]:
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


def _title(ablation: Ablation) -> str:
    return (
        f"Ablation of trial {ablation.trial} of {ablation.run} against {ablation.against}:"
        f" {ablation.num_seeds} seeds of {ablation.full.epochs} epochs each"
    )


def _caption(ablation: Ablation) -> str:
    places = range(len(ablation.differences))
    differences = "; ".join(f"{place + 1} {ablation.label(place)}" for place in places)
    return (
        f"{differences}. Accuracy: of {ablation.num_images:,} validation images, mean ± standard"
        " deviation over seeds. Change: against the row above, or against all of them on where one"
        f" is off, with half of its 95 % interval (Welch's t). {WITHIN.capitalize()}: that interval"
        " holds 0"
    )
