"""Where the time went: bars of each model's time, by what became of its trials."""

from pathlib import Path

import plotly.graph_objects as go

from analysis.plot_style import GREY, OKABE_ITO, picture_title, save_picture, tidy, titled_figure
from analysis.plots.html_style import page_figure
from analysis.results.report_data import ReportData
from analysis.results.time_spent import (
    ASIDE,
    FAILED,
    NOT_BEGUN,
    OFF_FRONT,
    ON_FRONT,
    STOPPED,
    UNFINISHED,
    TimeSpent,
)

_COLOURS = {
    ON_FRONT: OKABE_ITO[0],
    OFF_FRONT: OKABE_ITO[5],
    STOPPED: OKABE_ITO[4],
    NOT_BEGUN: "#cccccc",
    FAILED: OKABE_ITO[1],
    UNFINISHED: GREY,
    ASIDE: OKABE_ITO[2],
}


def describe_time(data: ReportData) -> str:
    """How much of the time went into trials of the front, for the page."""
    spent = data.spent
    parts = 100 * spent.seconds.sum(axis=0) / spent.seconds.sum()
    first, *others = [
        (f"{part:.0f} %", f"into {_WENT_INTO[outcome]}")
        for outcome, part in zip(spent.outcomes, parts, strict=True)
        if part > 0
    ]
    shares = [f"{first[0]} of the training time went {first[1]}", *map(" ".join, others)]
    return f"{', '.join(shares)}. The table has the number of trials in brackets."


_WENT_INTO = {
    ON_FRONT: "trials on the front",
    OFF_FRONT: "finished trials off the front",
    NOT_BEGUN: "trials that never began",
    STOPPED: "trials that were stopped early",
    FAILED: "trials that failed",
    UNFINISHED: "unfinished trials",
    ASIDE: "paused trials",
}


def draw_time_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a bar for each model; nothing where no time was recorded."""
    spent = data.spent
    if not spent.seconds.any():
        return []
    size, unit = _unit(spent)
    figure = titled_figure(9, 1.8 + 0.34 * len(spent.models), picture_title(data.run))
    axes = figure.add_subplot()
    rows, left = range(len(spent.models)), 0 * spent.seconds[:, 0]
    for index, outcome in enumerate(spent.outcomes):
        widths = spent.seconds[:, index] / size
        if widths.any():
            axes.barh(rows, widths, left=left, color=_COLOURS[outcome], label=outcome, height=0.6)
        left = left + widths
    axes.set_yticks(rows, spent.models)
    axes.set_ylim(len(spent.models) - 0.4, -0.6)
    axes.set_xlabel(f"{unit} of training")
    tidy(axes, grid="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return [save_picture(figure, folder / "time.png")]


def draw_time_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw a bar for each model; nothing where no time was recorded."""
    spent = data.spent
    if not spent.seconds.any():
        return {}
    size, unit = _unit(spent)
    figure = page_figure(height=120 + 34 * len(spent.models))
    for index, outcome in enumerate(spent.outcomes):
        if spent.seconds[:, index].any():
            figure.add_trace(
                go.Bar(
                    y=spent.models, x=spent.seconds[:, index] / size, orientation="h",
                    name=outcome, marker={"color": _COLOURS[outcome]},
                    customdata=spent.trials[:, index],
                    hovertemplate=f"%{{y}}, {outcome}: %{{x:.3g}} {unit}"
                    " (%{customdata} trials)<extra></extra>",
                )
            )  # fmt: skip
    figure.update_xaxes(title=f"{unit} of training", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    return {"time": figure}


def _unit(spent: TimeSpent) -> tuple[float, str]:
    longest = float(spent.seconds.sum(axis=1).max())
    if longest < 120:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest < 7200 else (3600.0, "hours")
