"""An ablation as a table, for terminals and pages."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from analysis.columns import heading, in_a_sentence, write_percent
from analysis.results.ablation import Ablation, AblationRun
from spaces.intervals import Interval

WITHIN = "within the spread"
CHANGE = "change (points)"
# The width of the recipe, which may wrap, plus the last column's; and the gap between columns.
_WORDS, _BETWEEN = 18 + len(WITHIN), 3


def ablation_table(ablation: Ablation, width: int = 120) -> Table:
    """A row for each recipe: which differences are on (Y) or off (N), the metric, its change.

    Where the differences' names don't fit into width characters, one column has their numbers.
    """
    rows = [ablation_cells(ablation, row) for row in ablation.rows]
    names = [ablation.names(index) for index in range(len(ablation.differences))]
    metric = heading(ablation.metric)
    names += [metric, CHANGE]
    columns = list(zip(*rows, strict=True))[1:-1]
    # Headings break at spaces.
    widths = [
        max(map(len, [*name.split(), *cells])) for name, cells in zip(names, columns, strict=True)
    ]
    if sum(widths) + _BETWEEN * (len(widths) + 2) + _WORDS > width:
        indices = [str(index + 1) for index in range(len(names) - 2)]
        names[:-2] = [_joined(indices, indices)]
        widths[:-2] = [len(names[0])]
        rows = [[row[0], _joined(row[1:-3], indices), *row[-3:]] for row in rows]
    table = Table(
        title=ablation_title(ablation), title_style="bold", title_justify="left", box=SIMPLE_HEAD,
        caption=f"{ablation_differences(ablation)}. {ablation_note(ablation)}",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("recipe", overflow="fold", min_width=12)
    for name, needed in zip(names, widths, strict=True):
        justify = "right" if name in (metric, CHANGE) else "center"
        table.add_column(escape(name), justify=justify, width=needed)
    table.add_column("", overflow="fold", min_width=6)
    for row, cells in zip(ablation.rows, rows, strict=True):
        table.add_row(*cells, end_section=row.role != "without" and all(row.on))
    return table


def ablation_cells(ablation: Ablation, row: AblationRun) -> list[str]:
    """A row's cells: recipe, Y or N for each difference, metric, change, and a remark on it.

    See `ablation_note`.
    """
    change = ablation.change(row)
    said = WITHIN if change is not None and change.holds_zero else ""
    if row.failures:
        said = f"{len(row.failures)} failed: {row.failures[0]}"
    on = ["Y" if on else "N" for on in row.on]
    return [ablation.row_label(row), *on, write_mean(row), write_change(change), said]


def ablation_title(ablation: Ablation) -> str:
    """The trial, its run and starting point, and the number of seeds and epochs."""
    return (
        f"Ablation of trial {ablation.trial} of {ablation.run} against {ablation.against}:"
        f" {ablation.num_seeds} seeds of {ablation.full.epochs} epochs each"
    )


def ablation_differences(ablation: Ablation) -> str:
    """The differences in words, numbered: 1 batch size 16 → 64; 2 batch norm no → yes."""
    indices = range(len(ablation.differences))
    return "; ".join(f"{index + 1} {ablation.label(index)}" for index in indices)


def ablation_note(ablation: Ablation) -> str:
    """How to read the columns."""
    metric = in_a_sentence(ablation.metric)
    return (
        f"{metric[0].upper()}{metric[1:]}: on {ablation.num_images:,} validation images, mean ±"
        " standard deviation over seeds. Change: from the row above, or from the full recipe if one"
        " difference is off, ± half of its 95 % interval (Welch's t)."
        f" {WITHIN.capitalize()}: that interval contains 0"
    )


def write_mean(row: AblationRun) -> str:
    """Mean and standard deviation in %: 41.5 ± 0.8."""
    if row.spread is None:
        return write_percent(row.mean)
    return f"{write_percent(row.mean)} ± {100 * row.spread:.1f}"


def write_change(change: Interval | None) -> str:
    """A change in points ± half of its 95 % interval: +4.1 ± 1.2."""
    if change is None:
        return ""
    return f"{100 * change.mean:+.1f} ± {50 * (change.high - change.low):.1f}"


def _joined(cells: Sequence[str], below: Sequence[str]) -> str:
    """Join cells, each as wide as the number above it."""
    return " ".join(cell.rjust(len(number)) for cell, number in zip(cells, below, strict=True))
