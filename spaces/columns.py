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
# Measured by validation after each epoch, from 0 to 1.
METRICS: dict[str, Column] = {ACCURACY: Column(label="accuracy (%)", unit="% accuracy")}
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
    """Every number of a trial: metrics, then costs."""
    return (*METRICS, *COSTS)
