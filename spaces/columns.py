"""The numbers of a trial, declared once: tables, axes, sentences and run folders follow from here.

To add a cost, add a line to `COSTS` here, and the function that measures it to `MEASURES` in
trainables/cost.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Direction = Literal["max", "min"]
# The recipe fields on which the cost of running a model can depend; no other one changes a cost.
ARCHITECTURE_FIELDS: tuple[str, ...] = (
    *("model", "input_size", "width", "batch_norm", "residual", "qat"),
)
_MULTIPLY_ADDS = ("model", "input_size", "width")  # batch norm folds away, residuals only add


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One number of a trial."""

    label: str
    """Heads a table column or an axis; includes the unit."""
    unit: str
    """Follows the number in a sentence."""
    meaning: str = ""
    """Explains the number in `flopwise cost`, in a few words."""
    decimals: int = 3
    """Decimals in `flopwise cost`."""
    whole: bool = False
    """Whether values are whole numbers."""
    per_image: bool = False
    """Whether values count the forward pass of one image."""
    decided_by: tuple[str, ...] = ARCHITECTURE_FIELDS
    """For a cost: the recipe fields that can change it."""


ACCURACY, LATENCY = "accuracy", "latency_ms"
# Measured by validation after each epoch, from 0 to 1. `trainables.learning.metrics` computes them.
METRICS: dict[str, Column] = {
    ACCURACY: Column(label="accuracy (%)", unit="% accuracy"),
    "balanced_accuracy": Column(label="balanced accuracy (%)", unit="% balanced accuracy"),
    "macro_f1": Column(label="macro F1 (%)", unit="% macro F1"),
    "worst_class_recall": Column(
        label="worst class's recall (%)", unit="% recall of the worst class"
    ),
    "top5_accuracy": Column(label="top-5 accuracy (%)", unit="% top-5 accuracy"),
}
# A class's recall is a metric too: `recall:CLASS`, with the class's name as the data has it.
RECALL = "recall:"
# What it takes to run a model.
COSTS: dict[str, Column] = {
    "gmacs": Column(
        label="GMACs",
        unit="GMACs",
        meaning="billion multiply-adds per image",
        decimals=9,
        per_image=True,
        decided_by=_MULTIPLY_ADDS,
    ),
    "gflops": Column(
        label="GFLOPs",
        unit="GFLOPs",
        meaning="2 x gmacs",
        decimals=9,
        per_image=True,
        decided_by=_MULTIPLY_ADDS,
    ),
    "effective_gflops": Column(
        label="effective GFLOPs",
        unit="effective GFLOPs",
        meaning="by bit operations; int8 counts 1/16",
        decimals=9,
        per_image=True,
        decided_by=(*_MULTIPLY_ADDS, "qat"),
    ),
    "gbops": Column(
        label="GBOPs",
        unit="GBOPs",
        meaning="billion bit operations",
        decimals=6,
        per_image=True,
        decided_by=(*_MULTIPLY_ADDS, "qat"),
    ),
    "params": Column(
        label="parameters",
        unit="parameters",
        meaning="parameters",
        whole=True,
        decided_by=("model", "input_size", "width", "batch_norm"),
    ),
    "size_mb": Column(
        label="size (MB)",
        unit="MB",
        meaning="MB of parameters and buffers, as stored",
        decided_by=("model", "input_size", "width", "batch_norm", "qat"),
    ),
    LATENCY: Column(
        label="latency (ms)", unit="ms", meaning="ms per image, one thread; measured by --latency"
    ),
}


def number_columns() -> tuple[str, ...]:
    """Every number that all trials have: metrics, then costs."""
    return (*METRICS, *COSTS)


def is_recall(column: str) -> bool:
    """Whether a column is the recall of one class."""
    return column.startswith(RECALL) and column != RECALL


def is_metric(column: str) -> bool:
    """Whether a column is measured by validation: one of METRICS, or the recall of a class."""
    return column in METRICS or is_recall(column)


def declared_column(name: str) -> Column | None:
    """What is declared of a number of a trial; None for other columns."""
    if is_recall(name):
        of = name.removeprefix(RECALL)
        return Column(label=f"recall of {of} (%)", unit=f"% recall of {of}")
    return METRICS.get(name) or COSTS.get(name)


def numbers_in_words() -> str:
    """The numbers of a trial, for messages."""
    return ", ".join((*METRICS, f"{RECALL}CLASS", *COSTS))
