"""One HTML file about a run: its figures, with the tables and the words around them.

The page needs no network: Plotly's script is in it. `analysis.plots.figures` lists the figures.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis.choose import RULES, Selection, choose
from analysis.columns import describe_recipe, heading, write_percent
from analysis.plots.figures import FIGURES, Figure
from analysis.report.facts import run_facts
from analysis.results.ablation import Ablation
from analysis.results.ablation_table import ablation_cells, ablation_note, ablation_title
from analysis.results.all_trials import trial_list
from analysis.results.class_accuracy import SplitPredictions, confusions
from analysis.results.confirmation import Confirmation, accuracies_on_test_split
from analysis.results.confirmation_table import (
    confirmation_columns,
    confirmation_note,
    confirmation_sentences,
    describe_candidate,
)
from analysis.results.front_steps import describe_step, front_steps
from analysis.results.front_table import front_columns, front_records, recipe_settings
from analysis.results.next_steps import next_steps
from analysis.results.report_data import ReportData
from analysis.results.stop_reasons import stop_reasons
from analysis.results.time_spent import time_cells
from spaces.files import replace_file

_PAGE = Path(__file__).parent / "page"
_MOST_CONFUSIONS = 12
_MOST_FRONT_ROWS = 200
_MOST_STEPS = 20
_RULES = (*RULES, "drop<=1%", "drop<=3%", "drop<=5%")


def write_report(
    data: ReportData, path: Path, *, chosen: Selection, figures: Sequence[Figure] = FIGURES
) -> Path:
    """Write a run's report as one HTML file, and return path.

    chosen: the trial whose recipe the page shows. Raises UserError where the file can't be written.
    """
    page = _environment().get_template("report.html").render(_content(data, chosen, figures))
    replace_file(path, page.encode())
    return path


def _content(data: ReportData, chosen: Selection, figures: Sequence[Figure]) -> dict[str, Any]:
    run = data.run
    sections = _sections(data, figures)
    records = front_records(run, accuracies_on_test_split(data.confirmation))
    columns = front_columns(run, records)
    picks = _picks(data)
    steps = front_steps(run, data.confirmation)
    return {
        "run": run,
        "facts": run_facts(run),
        "sections": sections,
        "chosen": chosen,
        "settings": recipe_settings(chosen),
        "picks": picks,
        "picked": {choice.trial for _, choice in picks},
        "steps": [
            (step.trial, step.next_trial, describe_step(step)) for step in steps[:_MOST_STEPS]
        ],
        "num_more_steps": max(0, len(steps) - _MOST_STEPS),
        "latency": data.latency,
        "next_steps": next_steps(
            run, chosen, data.history, place=data.place, confirmed=data.confirmation is not None
        ),
        "outcomes": data.spent.outcomes,
        "time_rows": time_cells(data.spent),
        "num_trials": len(run.trials),
        "columns": columns,
        "rows": [
            (record["trial"], [cells[index] for cells in columns.values()], describe_recipe(record))
            for index, record in enumerate(records[:_MOST_FRONT_ROWS])
        ],
        "num_left_out": max(0, len(records) - _MOST_FRONT_ROWS),
        "stop_reasons": stop_reasons(run),
        "confirmed": data.confirmation and _confirmed(data.confirmation),
        "ablated": [_ablated(ablation) for ablation in data.ablations],
        "confusions": (
            confusions(data.predictions).head(_MOST_CONFUSIONS).to_dict("records")
            if isinstance(data.predictions, SplitPredictions)
            else []
        ),
        "plots": _script_data(
            {
                "plots": {
                    name: json.loads(str(plot.to_json()))
                    for section in sections
                    for name, plot in section["plots"].items()
                },
                "trials": trial_list(run),
            }
        ),
        "plotly": Markup(get_plotlyjs()),  # noqa: S704 a script of Plotly's own package
        "percent": write_percent,
    }


def _sections(data: ReportData, figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """What the page shows of each figure; a figure without data or words is left out."""
    sections: list[dict[str, Any]] = []
    above = ""
    for figure in figures:
        plots = figure.draw_html(data) if figure.draw_html else {}
        strips = figure.draw_strips(data) if figure.draw_strips else []
        drawn = figure.draw_html or figure.draw_strips
        pictures = {} if drawn else _embedded(figure, data)
        text = figure.text if plots or strips or pictures else figure.missing
        if not (plots or strips or pictures or text):
            continue
        sections.append(
            {
                "name": figure.name,
                "title": None if figure.title == above else figure.title,
                "text": text(data) if callable(text) else text,
                "plots": plots,
                "strips": strips,
                "pictures": pictures,
            }
        )
        above = figure.title
    return sections


def _picks(data: ReportData) -> list[tuple[str, Selection]]:
    """What each rule picks; rules that pick the same trial share a line."""
    rules: dict[int, list[str]] = {}
    found: dict[int, Selection] = {}
    for rule in _RULES:
        choice = choose(data.run, rule)
        rules.setdefault(choice.trial, []).append(rule)
        # Of a front that is too short for a knee, another rule's reason says more.
        if choice.trial not in found or len(data.run.front()) < 3:
            found[choice.trial] = choice
    return [(", ".join(names), found[trial]) for trial, names in rules.items()]


def _embedded(figure: Figure, data: ReportData) -> dict[str, str]:
    """A figure's PNG files as data URLs, by their stems."""
    with TemporaryDirectory() as folder:
        return {
            path.stem: f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
            for path in figure.draw_png(data, Path(folder))
        }


def _confirmed(confirmation: Confirmation) -> dict[str, Any]:
    columns = confirmation_columns(confirmation)
    return {
        "columns": list(columns),
        "rows": [
            (one.trial, [cells[index] for cells in columns.values()], describe_candidate(one))
            for index, one in enumerate(confirmation.candidates)
        ],
        "note": confirmation_note(confirmation),
        "sentences": confirmation_sentences(confirmation),
    }


def _ablated(ablation: Ablation) -> dict[str, Any]:
    return {
        "title": ablation_title(ablation),
        "metric": heading(ablation.metric),
        "differences": [ablation.label(index) for index in range(len(ablation.differences))],
        "rows": [ablation_cells(ablation, row) for row in ablation.rows],
        "note": ablation_note(ablation),
    }


def _script_data(content: Any) -> Markup:
    """JSON for a script element, which no class name can end."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup(escaped)  # noqa: S704 no < is left that could end the element


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
