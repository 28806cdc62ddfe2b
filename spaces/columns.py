"""The numbers of a trial, declared once: tables, axes, sentences and run folders follow from here.

To add a cost, add a line to `COSTS` here, and to `MEASURES` in trainables/cost.py the function that
finds it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Direction = Literal["max", "min"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One number of a trial."""

    label: str
    """In the head of a table and on an axis, with the unit."""
    unit: str
    """After the number, in a sentence."""
    meaning: str = ""
    """In a few words, beside the number of one model."""
    decimals: int = 3
    """Of the number of one model."""
    whole: bool = False
    """Whole numbers."""
    per_image: bool = False
    """Of the forward pass of one image."""


ACCURACY, LATENCY = "accuracy", "latency_ms"
# What validation gives each epoch, from 0 to 1.
METRICS: dict[str, Column] = {ACCURACY: Column(label="accuracy (%)", unit="% accuracy")}
# What a model takes to run.
COSTS: dict[str, Column] = {
    "gmacs": Column(
        label="GMACs",
        unit="GMACs",
        meaning="billion multiply-adds an image",
        decimals=9,
        per_image=True,
    ),
    "gflops": Column(
        label="GFLOPs", unit="GFLOPs", meaning="2 x gmacs", decimals=9, per_image=True
    ),
    "effective_gflops": Column(
        label="effective GFLOPs",
        unit="effective GFLOPs",
        meaning="by bit operations; int8 counts 1/16",
        decimals=9,
        per_image=True,
    ),
    "gbops": Column(
        label="GBOPs", unit="GBOPs", meaning="billion bit operations", decimals=6, per_image=True
    ),
    "params": Column(label="parameters", unit="parameters", meaning="parameters", whole=True),
    "size_mb": Column(
        label="size (MB)", unit="MB", meaning="MB of parameters and buffers, as stored"
    ),
    LATENCY: Column(
        label="latency (ms)", unit="ms", meaning="ms an image, one thread; see --latency"
    ),
}


def number_columns() -> tuple[str, ...]:
    """Every number of a trial: metrics, then costs."""
    return (*METRICS, *COSTS)
