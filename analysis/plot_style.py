"""The style of every picture: colours, marks, labels, axes and the PNG file."""

import warnings
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from analysis.columns import heading, write_number
from analysis.pareto.front import FloatArray
from analysis.runs import Run
from spaces.columns import COSTS
from spaces.errors import UserError
from spaces.files import whole_file

# Okabe and Ito, https://jfly.uni-koeln.de/color/: every kind of colour vision tells them apart.
# Their yellow is too pale for a thin mark on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*Xph<>8d"
GREY = "#8a8a8a"
# Costs that differ by more than this factor get a log axis.
LOG_FROM = 5.0


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with a canvas to draw on. width, height: in inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def titled_figure(width: float, height: float, title: str) -> Figure:
    """`new_figure` with a title above all of its panels, at the left."""
    figure = new_figure(width, height)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def tidy(axes: Axes, *, grid: Literal["both", "x"] = "both") -> None:
    """A faint grid below the marks, and no frame above and at the right."""
    axes.grid(visible=True, which="major", axis=grid, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_picture(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file and return path.

    Raises UserError where path does not end in .png or can't be written.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are PNG files; end its name in .png")
    with whole_file(path) as partial, warnings.catch_warnings():
        # The font lacks some scripts; their letters become boxes, without a warning each.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(partial, format="png")
    return path


def picture_title(run: Run) -> str:
    """Name, data, number of trials and size of the front, for a picture that stands alone."""
    source = run.study.get("provenance", {}).get("data_name")
    on = f" on {source}" if source and source != run.name else ""
    number = f"{len(run.trials):,} trial" + ("s" if len(run.trials) != 1 else "")
    return f"{run.name}{on}: {number}, {len(run.front())} on the front"


def axis_title(cost: str) -> str:
    """Words for an axis of costs, with the unit."""
    per_image = cost in COSTS and COSTS[cost].per_image
    return heading(cost) + (" per image" if per_image else "")


def metric_axis(metric: str) -> str:
    """Words for an axis of a metric on the validation split, for Matplotlib."""
    return f"validation {picture_text(heading(metric))}"


def picture_text(text: str) -> str:
    """A text for Matplotlib, which must not read a class's dollar sign as a formula's."""
    return text.replace("$", r"\$")


def mark_label(row: Any) -> str:
    """A trial's model, int8, width and input size, for a label beside its mark.

    row: of trials, as a Series or a mapping.
    """
    words = [str(row["model"])]
    if row["qat"]:
        words.append("int8")
    if row["width"] != 1:
        words.append(f"×{row['width']:g}")
    return " ".join([*words, f"{row['input_size']} px"])


def model_styles(trials: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each model, by name, so that pictures of a run agree."""
    models = sorted(set(trials["model"]))
    return {
        model: (OKABE_ITO[index % len(OKABE_ITO)], MARKERS[index % len(MARKERS)])
        for index, model in enumerate(models)
    }


def spans_magnitudes(costs: FloatArray) -> bool:
    """Tell whether costs belong on a log axis: they are above zero and differ by a factor of 5."""
    return bool(len(costs) and costs.min() > 0 and costs.max() > LOG_FROM * costs.min())


def accuracy_range(front: FloatArray, every: FloatArray) -> tuple[float, float]:
    """Ends of an accuracy axis (%) that shows the front; trials far below it are left out.

    front, every: accuracies (0 to 1) of the front's trials, and of all trials.
    """
    low, high = 100 * float(front.min()), 100 * float(max(front.max(), every.max()))
    span = max(high - low, 8.0)
    lowest = min(low, 100 * float(every.min()))
    # Accuracy ends at 0 and 100 %. The marks there need a little room.
    return max(low - 0.25 * span, lowest - 0.1 * span, -2.0), min(high + 0.1 * span, 102.0)


def set_cost_scale(axes: Axes, costs: FloatArray) -> None:
    """Fit the x axis to these costs; it is a log axis where `spans_magnitudes` holds."""
    axes.margins(x=0.08, y=0.12)
    if spans_magnitudes(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(LogLocator(subs=(3, 4, 6, 7, 8, 9)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write_tick(value)))
    axes.yaxis.set_major_locator(MaxNLocator(8))


def write_tick(value: float) -> str:
    """Write a number beside an axis: 0.05, 2, 40k."""
    return write_number(value) if abs(value) >= 10_000 else f"{value:.4g}"
