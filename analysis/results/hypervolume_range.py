"""What the hypervolume of fronts is measured against: a reference accuracy, and a range of costs.

A model that guesses is worth nothing, however cheap it is. So the study's metric counts from what
the best model gets that looks at no image (of accuracy: from that of naming the largest class
always), and costs from the cheapest model that does better. Otherwise one useless
point at the cheap end would stretch the range and decide which front is larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.columns import heading, in_a_sentence, write_percent
from analysis.pareto.front import Box, FloatArray
from analysis.plot_style import write_tick
from analysis.runs import Run
from spaces.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervolumeRange:
    """What a user asks for; None: as the runs suggest."""

    reference_accuracy: float | None = None
    """0 to 1, in the study's metric. Only what lies above counts. By default that of guessing."""
    cost_range: tuple[float, float] | None = None
    """Of the first cost. By default that of all models above the reference accuracy."""

    def __post_init__(self) -> None:
        if self.reference_accuracy is not None and not 0 <= self.reference_accuracy < 1:
            raise UserError(
                f"--reference-accuracy {self.reference_accuracy:g}: use a fraction from 0 up to 1"
            )
        if self.cost_range is not None and not 0 < self.cost_range[0] < self.cost_range[1]:
            low, high = self.cost_range
            raise UserError(f"--cost-range {low:g} {high:g}: use two rising numbers above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceBox:
    """A box of losses, and the words that say what it is."""

    box: Box
    reference_accuracy: float | None
    """In the study's metric; None if no metric is an objective."""
    cost_range: tuple[float, float] | None
    """Of the first cost; None if the runs minimise none."""
    notes: tuple[str, ...]
    """For an axis or below a table, for instance `accuracy above 4.0 % (guessing)`."""

    @property
    def note(self) -> str:
        return ", ".join(self.notes)

    def share(self, losses: FloatArray) -> float:
        """The share of the box that (trials, objectives) losses dominate, 0 to 1."""
        return self.box.normalized_hypervolume(losses)


def reference_box(
    runs: Sequence[Run], losses: FloatArray, wanted: HypervolumeRange | None = None
) -> ReferenceBox:
    """The box in which the hypervolumes of runs are measured.

    runs: with the same objectives and data. losses: (trials, objectives) of all of them, at least
    one row. Raises UserError for a reference accuracy that nothing exceeds, and for options that
    these objectives have no use for.
    """
    wanted = wanted or HypervolumeRange()
    objectives = runs[0].objectives
    names = list(objectives)
    reference, source = _reference(runs, wanted)
    if objectives.metric is not None:
        column = names.index(objectives.metric)
        useful = losses[losses[:, column] < -reference]
        if not len(useful) and wanted.reference_accuracy is not None:
            best = write_percent(-losses[:, column].min())
            raise UserError(
                f"--reference-accuracy {reference:g}: no trial is above it, the best has {best} %"
            )
        box = Box.around(useful if len(useful) else losses, objectives.log_columns)
        box = _moved(box, column, high=-reference)
        metric = in_a_sentence(objectives.metric)
        notes = [f"{metric} above {write_percent(reference)} % ({source})"]
    else:
        if wanted.reference_accuracy is not None:
            raise UserError("--reference-accuracy: no metric is maximised here")
        reference, notes = None, []
        box = Box.around(losses, objectives.log_columns)
    costs = [name for name in objectives.costs if name in names]
    if not costs:
        if wanted.cost_range is not None:
            raise UserError("--cost-range: no cost is minimised here")
        return ReferenceBox(
            box=box, reference_accuracy=reference, cost_range=None, notes=tuple(notes)
        )
    column = names.index(costs[0])
    if wanted.cost_range is not None:
        low, high = (box.magnitude(column, number) for number in wanted.cost_range)
        box = _moved(box, column, low=low, high=high)
    elif box.high[column] > box.low[column]:
        # With the margin, so that the range that is told gives the same share when it is chosen.
        margin = box.margins[column] * (box.high[column] - box.low[column])
        box = _moved(box, column, high=float(box.high[column] + margin))
    low, high = wanted.cost_range or (box.number(column, box.low), box.number(column, box.high))
    notes.append(f"{heading(costs[0])} from {write_tick(low)} to {write_tick(high)}")
    return ReferenceBox(
        box=box, reference_accuracy=reference, cost_range=(low, high), notes=tuple(notes)
    )


def _reference(runs: Sequence[Run], wanted: HypervolumeRange) -> tuple[float, str]:
    """The reference accuracy, and where it is from."""
    if wanted.reference_accuracy is not None:
        return wanted.reference_accuracy, "as chosen"
    guessing = [run.guessing for run in runs if run.guessing is not None]
    return (max(guessing), "guessing") if guessing else (0.0, "classes not recorded")


def _moved(box: Box, column: int, *, low: float | None = None, high: float | None = None) -> Box:
    """A box with another range in one column, and no margin behind it."""
    lows, highs, margins = box.low.copy(), box.high.copy(), box.margins.copy()
    lows[column] = box.low[column] if low is None else low
    highs[column] = box.high[column] if high is None else high
    margins[column] = 0.0
    return replace(box, low=lows, high=highs, margins=margins)
