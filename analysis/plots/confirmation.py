"""A confirmed front for the page; `confirmation_picture` draws it as a PNG."""

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from analysis.columns import heading, write_percent
from analysis.plot_style import GREY, OKABE_ITO, axis_title, spans_magnitudes
from analysis.plots.confirmation_picture import confirmation_picture, with_margin
from analysis.plots.html_style import fold, magnitude_ticks, page_figure
from analysis.results.confirmation import Confirmation, choose_candidates
from analysis.results.confirmation_table import describe_candidate
from analysis.results.report_data import ReportData

_FRONT, _PROMISED = OKABE_ITO[0], OKABE_ITO[1]
_BAND = "rgba(0, 114, 178, 0.25)"  # the front's colour


def describe_confirmation(data: ReportData) -> str:
    """What was trained again and judged, for the page."""
    confirmation = data.confirmation
    assert confirmation is not None
    return (
        f"{len(confirmation.candidates)} of the front's {len(choose_candidates(confirmation.run))}"
        f" trials were each trained again with {confirmation.num_seeds} fresh seeds. Every model"
        f" was judged once, on {confirmation.num_images:,} images of the test split. The band holds"
        " 95 % of the fronts that other images and other seeds might have given."
    )


def draw_confirmation_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the confirmed front; nothing where no trial was trained again."""
    if data.confirmation is None:
        return []
    return [confirmation_picture(data.confirmation, folder / "confirmed.png")]


def draw_confirmation_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the confirmed front; nothing where no trial was trained again."""
    if data.confirmation is None:
        return {}
    return {"confirmed": confirmation_figure(data.confirmation)}


def confirmation_figure(confirmation: Confirmation) -> go.Figure:
    """Draw the test metric (%), its 95 % interval and the search's promise against the first cost.

    The band holds the fronts of 95 % of the draws, the line is their median.
    """
    figure = page_figure(height=460)
    _add_band(figure, confirmation)
    costs, found = confirmation.costs, confirmation.accuracies
    means, lows, highs = 100 * np.array([[one.mean, one.low, one.high] for one in found]).T
    figure.add_trace(
        go.Scatter(
            x=costs, y=means.tolist(), name="test, 95 % interval", mode="markers", hoverinfo="text",
            text=_hover_texts(confirmation), marker={"size": 10, "color": _FRONT},
            error_y={
                "type": "data", "array": (highs - means).tolist(), "color": _FRONT,
                "arrayminus": (means - lows).tolist(), "thickness": 2, "width": 5,
            },
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=costs, y=[100 * candidate.promised for candidate in confirmation.candidates],
            name="search's validation", mode="markers", hoverinfo="text",
            text=_hover_texts(confirmation),
            # Drawn beside the test's mark, which has the same cost.
            marker={
                "symbol": "diamond-open", "size": 9, "color": _PROMISED, "line": {"width": 2},
                "angle": -90, "standoff": 11,
            },
        )
    )  # fmt: skip
    figure.update_xaxes(title=axis_title(confirmation.run.costs[0]))
    if spans_magnitudes(costs):
        figure.update_xaxes({"type": "log", **magnitude_ticks(costs)})
    figure.update_yaxes(title=escape(heading(confirmation.run.metric), quote=False))
    figure.update_layout(hovermode="closest")
    return figure


def _add_band(figure: go.Figure, confirmation: Confirmation) -> None:
    costs, surfaces = confirmation.band
    # The band goes on beyond the last cost.
    steps = np.append(costs, with_margin(costs)[1])
    best, middle, worst = 100 * np.hstack([surfaces, surfaces[:, -1:]])
    line = {"shape": "hv", "width": 0, "color": _FRONT}
    figure.add_trace(
        go.Scatter(x=steps, y=worst, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    )
    figure.add_trace(
        go.Scatter(
            x=steps, y=best, mode="lines", line=line, hoverinfo="skip", fill="tonexty",
            fillcolor=_BAND, name="front of 95 % of the draws",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=steps, y=middle, mode="lines", hoverinfo="skip", name="median front",
            line={"shape": "hv", "width": 1.5, "color": GREY},
        )
    )  # fmt: skip


def _hover_texts(confirmation: Confirmation) -> list[str]:
    """Each candidate's accuracies and its recipe."""
    texts = []
    for candidate, found in zip(confirmation.candidates, confirmation.accuracies, strict=True):
        message = [
            f"<b>trial {candidate.trial}</b>: test {found.write_percent()} %",
            f"search's validation: {write_percent(candidate.promised)} %",
        ]
        texts.append("<br>".join([*message, *fold(describe_candidate(candidate))]))
    return texts
