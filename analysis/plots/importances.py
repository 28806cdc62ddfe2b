"""What mattered: bars for how much each searched field decides each objective."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis.columns import heading
from analysis.plot_style import (
    OKABE_ITO,
    picture_text,
    picture_title,
    save_picture,
    tidy,
    titled_figure,
)
from analysis.plots.html_style import page_figure
from analysis.results.importances import by_importance
from analysis.results.report_data import ReportData


def draw_importances_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a panel for each objective, lengths in %; nothing where too few trials tell."""
    if not data.importances:
        return []
    told = _told(data)
    most = max(map(len, told.values()))
    figure = titled_figure(9, 1.4 + 0.36 * most, picture_title(data.run))
    panels = figure.subplots(1, len(told), squeeze=False)[0]
    for index, (axes, (objective, shares)) in enumerate(zip(panels, told.items(), strict=True)):
        widths = [100 * share for share in shares.values()]
        axes.barh(range(len(shares)), widths, color=OKABE_ITO[index % len(OKABE_ITO)])
        axes.set_title(picture_text(_name(objective)), loc="left", fontsize=10)
        axes.set_yticks(range(len(shares)), [field.replace("_", " ") for field in shares])
        # Bars of all panels are equally thick.
        axes.set_ylim(most - 0.5, -0.5)
        axes.set_xlabel("importance (%)")
        tidy(axes)
    return [save_picture(figure, folder / "importances.png")]


def draw_importances_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw bars for each field, a colour for each objective; nothing where too few trials tell."""
    if not data.importances:
        return {}
    told = _told(data)
    order = [field.replace("_", " ") for field in by_importance(told)]
    figure = page_figure(height=110 + 26 * sum(map(len, told.values())))
    for index, (objective, shares) in enumerate(told.items()):
        figure.add_trace(
            go.Bar(
                y=[field.replace("_", " ") for field in shares],
                x=[100 * share for share in shares.values()],
                orientation="h", name=escape(_name(objective), quote=False),
                marker={"color": OKABE_ITO[index % len(OKABE_ITO)]},
                hovertemplate="%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="importance (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=order)
    return {"importances": figure}


def _told(data: ReportData) -> dict[str, dict[str, float]]:
    """The importances without fields that have none."""
    return {
        objective: {field: share for field, share in shares.items() if share}
        for objective, shares in data.importances.items()
    }


def _name(objective: str) -> str:
    return f"for {heading(objective).removesuffix(' (%)')}"
