"""What mattered: bars for how much each searched field decides each objective."""

from pathlib import Path

import plotly.graph_objects as go

from analysis.columns import heading
from analysis.plot_style import OKABE_ITO, picture_title, save_picture, tidy, titled_figure
from analysis.plots.html_style import page_figure
from analysis.results.importances import by_importance
from analysis.results.report_data import ReportData


def draw_importances_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a panel for each objective, lengths in %; nothing where too few trials tell."""
    if not data.importances:
        return []
    fields = by_importance(data.importances)
    figure = titled_figure(9, 1.4 + 0.36 * len(fields), picture_title(data.run))
    panels = figure.subplots(1, len(data.importances), sharey=True, squeeze=False)[0]
    for index, (axes, (objective, shares)) in enumerate(
        zip(panels, data.importances.items(), strict=True)
    ):
        widths = [100 * shares.get(field, 0.0) for field in fields]
        axes.barh(range(len(fields)), widths, color=OKABE_ITO[index % len(OKABE_ITO)])
        axes.set_title(_name(objective), loc="left", fontsize=10)
        axes.set_yticks(range(len(fields)), [field.replace("_", " ") for field in fields])
        axes.set_xlabel("importance (%)")
        tidy(axes)
    panels[0].invert_yaxis()
    return [save_picture(figure, folder / "importances.png")]


def draw_importances_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw bars for each field, a colour for each objective; nothing where too few trials tell."""
    if not data.importances:
        return {}
    fields = by_importance(data.importances)
    figure = page_figure(height=110 + 26 * len(fields) * len(data.importances))
    for index, (objective, shares) in enumerate(data.importances.items()):
        figure.add_trace(
            go.Bar(
                y=[field.replace("_", " ") for field in fields],
                x=[100 * shares.get(field, 0.0) for field in fields],
                orientation="h", name=_name(objective),
                marker={"color": OKABE_ITO[index % len(OKABE_ITO)]},
                hovertemplate="%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="importance (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return {"importances": figure}


def _name(objective: str) -> str:
    return f"for {heading(objective).removesuffix(' (%)')}"
