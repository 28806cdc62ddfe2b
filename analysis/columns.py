"""The columns of a run's trials: their names and units, and how their numbers are written."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from spaces.columns import declared_column, is_metric
from spaces.recipe import RECIPE_FIELDS, Recipe

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"
# A paused trial has no worker, and may go on later from its checkpoint.
PAUSED = "PAUSED"
STATES = (COMPLETE, PRUNED, FAIL, RUNNING, PAUSED)
# Separates the machines of a trial in `ran_on`.
MOVED = ", then "


def is_missing(value: Any) -> bool:
    """Whether a cell has no value: None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def plain(value: Any) -> Any:
    """Turn a cell into None, a bool, an int, a float or a str, as JSON and recipes need it."""
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def plain_row(row: pd.Series) -> dict[str, Any]:
    """Turn a row of a table into plain values by column."""
    return {str(column): plain(value) for column, value in row.items()}


def write_number(value: Any) -> str:
    """Write a number with three significant digits: 0.711, 0.0012, 857k, 3.50M; missing is –."""
    if is_missing(value):
        return "–"
    number = float(value)
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    # Rounded first, so that 999,999 becomes 1.00M and not 1000k.
    number = float(f"{number:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{_three_digits(number / size)}{letter}"
    return _three_digits(number) if abs(number) >= 1e-4 else f"{number:.2e}"


def write_percent(fraction: Any) -> str:
    """Write a fraction of 0 to 1 in percent with one decimal; missing is –."""
    return "–" if is_missing(fraction) else f"{100 * float(fraction):.1f}"


def write_setting(field: str, value: Any) -> str:
    """Write the value of a recipe's field for a table: yes, all (unfrozen), 0.0012."""
    value = plain(value)
    if value is None:
        return "all" if field == "unfrozen" else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    # The path of a weights file is long; its name is enough.
    return Path(value).stem if field == "weights" else str(value)


def describe_recipe(values: Mapping[str, Any], fields: Collection[str] = RECIPE_FIELDS) -> str:
    """Write the model and the fields that differ from their defaults, in few words.

    values: a row of trials or a recipe's dict. For instance: mobilenet_v2, 160 px, unfrozen 4,
    batch 64, adam, rate 0.0012.
    """
    words = [str(values["model"])]
    for field in RECIPE_FIELDS:
        value = plain(values[field])
        if field in fields and field != "model" and field in _PHRASES:
            always = field in ("input_size", "batch_size", "optimizer", "learning_rate", "epochs")
            if always or value != getattr(_DEFAULT, field):
                words.append(_PHRASES[field].format(write_setting(field, value)))
    return ", ".join(words)


_DEFAULT = Recipe()
_PHRASES: dict[str, str] = {
    "weights": "weights {}",
    "input_size": "{} px",
    "width": "width {}",
    "batch_norm": "batch norm",
    "residual": "residual",
    "unfrozen": "unfrozen {}",
    "augment": "{}",
    "qat": "QAT",
    "float_epochs": "after {} float epochs",
    "batch_size": "batch {}",
    "optimizer": "{}",
    "learning_rate": "rate {}",
    "weight_decay": "decay {}",
    "label_smoothing": "smoothing {}",
    "class_weighting": "{} classes",
    "oversampling": "oversampling",
    "scheduler": "{}",
    "epochs": "{} epochs",
    "seed": "seed {}",
}


def heading(column: str) -> str:
    """A column's heading: the label of a number, else the field's name."""
    declared = declared_column(column)
    return declared.label if declared else column.replace("_", " ")


def in_a_sentence(column: str) -> str:
    """A number's name without its unit: balanced accuracy, recall of cat, size."""
    return heading(column).rpartition(" (")[0] or heading(column)


def amount(column: str, value: Any) -> str:
    """Write a value with its unit, for a sentence: 92.3 % accuracy, 0.301 GFLOPs, 1.2 MB size."""
    declared = declared_column(column)
    written = write_percent(value) if is_metric(column) else write_number(value)
    return f"{written} {declared.unit if declared else column}"


def _three_digits(number: float) -> str:
    decimals = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{decimals}f}"
    # Small numbers keep no padding: 0.0012 rather than 0.00120.
    return text.rstrip("0").rstrip(".") if abs(number) < 0.01 else text
