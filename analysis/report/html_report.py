"""One HTML file about a run: its front, how it came about, what mattered, which model to ship.

The file needs no network: Plotly's script is in it. What only torch can tell, the answers of the
chosen model, is handed in.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis.choose import RULES, Selection, choose
from analysis.columns import describe_recipe, write_number, write_percent, write_setting
from analysis.pareto.front import FloatArray
from analysis.plot_style import mark_label
from analysis.plots import html_figures as figures
from analysis.plots.confirmation_figure import confirmation_figure
from analysis.results.ablation import Ablation
from analysis.results.ablation_table import ablation_cells, ablation_note, ablation_title
from analysis.results.class_accuracy import Labels, SplitPredictions, confusions
from analysis.results.confirmation import Confirmation, choose_candidates
from analysis.results.confirmation_table import (
    confirmation_columns,
    confirmation_note,
    confirmation_sentences,
    describe_candidate,
)
from analysis.results.distribution import distribution_numbers
from analysis.results.front_table import front_columns, front_records
from analysis.results.importances import FEWEST_TRIALS
from analysis.results.report_data import ReportData
from analysis.runs import Run
from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS

_PAGE = Path(__file__).parent / "page"
_MOST_CONFUSIONS = 12
_MOST_FRONT_ROWS = 200


def write_report(report_data: ReportData, path: Path, *, chosen: Selection) -> Path:
    """Write a run's report as one HTML file, and return path.

    chosen: the trial that the page speaks for. Raises UserError where the file can't be written.
    """
    page = _environment().get_template("report.html").render(_content(report_data, chosen))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from None
    return path


def _content(report_data: ReportData, chosen: Selection) -> dict[str, Any]:
    run, predictions, data = report_data.run, report_data.predictions, report_data.data
    front = figures.front_figure(run)
    drawn = _figures(report_data, front.figure)
    records = front_records(run)
    columns = front_columns(run, records)
    return {
        "run": run,
        "facts": _facts(run),
        "chosen": chosen,
        "chosen_label": mark_label(chosen.row),
        "chosen_recipe": describe_recipe(chosen.row),
        "settings": {
            field.replace("_", " "): write_setting(field, chosen.row[field])
            for field in RECIPE_FIELDS
        },
        "rules": {rule: choose(run, rule) for rule in RULES},
        "columns": columns,
        "rows": [
            (record["trial"], [cells[index] for cells in columns.values()], describe_recipe(record))
            for index, record in enumerate(records[:_MOST_FRONT_ROWS])
        ],
        "num_left_out": max(0, len(records) - _MOST_FRONT_ROWS),
        "confirmed": report_data.confirmation and _confirmed(report_data.confirmation),
        "ablated": [_ablated(ablation) for ablation in report_data.ablations],
        "importances": report_data.importances,
        "fewest_trials": FEWEST_TRIALS,
        "answers": predictions,
        "confusions": (
            confusions(predictions).head(_MOST_CONFUSIONS).to_dict("records")
            if isinstance(predictions, SplitPredictions)
            else []
        ),
        "data": data,
        "data_numbers": (
            distribution_numbers(data.labels, data.classes) if isinstance(data, Labels) else {}
        ),
        "costs": {name: view["label"] for name, view in front.costs.items()},
        "first_cost": front.first,
        "drawn": set(drawn),
        "figures": _script_data(
            {name: json.loads(str(figure.to_json())) for name, figure in drawn.items()}
        ),
        "views": _script_data(front.costs),
        "plotly": Markup(get_plotlyjs()),  # noqa: S704 a script of Plotly's own package
        "percent": write_percent,
        "number": write_number,
    }


def _figures(report_data: ReportData, front: go.Figure) -> dict[str, go.Figure]:
    """By the id of the element that each is drawn in; what is not known has none."""
    drawn = {
        "front": front,
        "history-trials": figures.hypervolume_figure(report_data.history, over="trials"),
        "parallel": figures.parallel_figure(report_data.scales),
    }
    if report_data.history.seconds is not None:
        drawn["history-time"] = figures.hypervolume_figure(report_data.history, over="time")
    if report_data.curves:
        drawn["curves-accuracy"] = figures.curves_figure(report_data.curves, what="accuracy")
        drawn["curves-loss"] = figures.curves_figure(report_data.curves, what="loss")
    if report_data.confirmation:
        drawn["confirmed"] = confirmation_figure(report_data.confirmation)
    if report_data.importances:
        drawn["importances"] = figures.importances_figure(report_data.importances)
    if isinstance(report_data.predictions, SplitPredictions):
        drawn["classes"] = figures.classes_figure(report_data.predictions)
    if isinstance(report_data.data, Labels):
        drawn["distribution"] = figures.distribution_figure(
            report_data.data.labels, report_data.data.classes
        )
    return drawn


def _confirmed(confirmation: Confirmation) -> dict[str, Any]:
    columns = confirmation_columns(confirmation)
    return {
        "counted": f"{len(confirmation.candidates)} of the front's"
        f" {len(choose_candidates(confirmation.run))} trials",
        "num_seeds": confirmation.num_seeds,
        "num_images": confirmation.num_images,
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
        "differences": [ablation.label(index) for index in range(len(ablation.differences))],
        "rows": [ablation_cells(ablation, row) for row in ablation.rows],
        "note": ablation_note(ablation),
    }


def _facts(run: Run) -> dict[str, str]:
    """What the page's head tells, in words."""
    provenance = run.study.get("provenance") or {}
    counts = run.counts()
    said = {"COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "open"}
    facts = {
        "trials": ", ".join(f"{n:,} {said[state]}" for state, n in counts.items() if n),
        "on the front": f"{len(run.front()):,}",
        "best accuracy": f"{write_percent(run.finished['accuracy'].max())} %",
    }
    seconds = run.trials["search_seconds"].to_numpy(dtype=float)
    if np.isfinite(seconds).any():
        facts["search"] = _duration(float(np.nanmax(seconds)))
    facts["time in epochs"] = _duration(_total(run.trials["seconds"].to_numpy(dtype=float)))
    images = provenance.get("num_images")
    if images:
        facts["images"] = ", ".join(f"{number:,} {split}" for split, number in images.items())
    if provenance.get("data_name"):
        facts["data"] = f"{provenance['data_name']}, {provenance.get('num_classes')} classes"
    if provenance.get("machine"):
        facts["machine"] = str(provenance["machine"])
    versions = provenance.get("versions") or {}
    if versions:
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return facts


def _total(seconds: FloatArray) -> float:
    return float(np.nansum(seconds))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _script_data(content: Any) -> Markup:
    """JSON that may stand inside of a script element, whatever class names are like."""
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
