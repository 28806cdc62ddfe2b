"""Bounds on the numbers of a trial: read from text such as `gflops <= 0.5`, and checked."""

import re
from dataclasses import dataclass

import numpy as np

from spaces.columns import METRICS, FloatArray, number_columns
from spaces.errors import UserError
from spaces.yaml_files import cut, did_you_mean, shorten

_CONSTRAINT = re.compile(r"(?P<column>\w+)\s*(?P<sign>>=|<=|>|<|==|=)\s*(?P<bound>[^\s<>=]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A bound on one number of a trial."""

    column: str
    sign: str
    bound: float

    @property
    def is_of_a_metric(self) -> bool:
        """Whether training decides if it holds. Costs are known before."""
        return self.column in METRICS

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.bound:g}"

    def excess(self, values: FloatArray) -> FloatArray:
        """How far each value exceeds the bound, relative to the bound; at most 0 where it holds.

        Infinite where a value is missing.
        """
        over = values - self.bound if self.sign.startswith("<") else self.bound - values
        if len(self.sign) == 1:  # < and >: the bound itself does not hold
            over = np.where(over == 0, np.finfo(float).tiny, over)
        return np.where(np.isnan(over), np.inf, over / (abs(self.bound) or 1.0))

    def violation(self, value: float | None) -> float:
        """`excess` of one number; None counts as missing."""
        return float(self.excess(np.array([np.nan if value is None else value]))[0])


def read_constraint(text: str) -> Constraint | None:
    """Read `accuracy>=0.9`, `accuracy>=90%` or `size_mb < 20`; None if text is no comparison.

    Raises UserError where the column or the bound is wrong.
    """
    match = _CONSTRAINT.fullmatch(text.strip())
    if match is None:
        return None
    column, sign, bound = match.group("column", "sign", "bound")
    _check_column(column)
    if "<" not in sign and ">" not in sign:
        raise UserError(f"{cut(text)}: use >= or <=; trained numbers are hardly ever equal")
    return Constraint(column=column, sign=sign, bound=_bound(text, column, bound))


def read_study_constraint(column: str, text: str) -> Constraint:
    """Read a study file's bound on a column, such as `<= 0.5`. Raises UserError."""
    _check_column(column)  # of any characters, where read_constraint takes words only
    constraint = read_constraint(f"{column} {text}")
    if constraint is None:
        raise UserError(f"{column}: {shorten(text)} is not a bound; write one such as '<= 0.5'")
    return constraint


def _check_column(column: str) -> None:
    known = number_columns()
    if column not in known:
        near = did_you_mean(column, known)
        raise UserError(f"{cut(column)} is not a number of a trial; use {', '.join(known)}{near}")


def _bound(part: str, column: str, written: str) -> float:
    try:
        percent = written.endswith("%") and column in METRICS
        bound = float(written[:-1]) / 100 if percent else float(written)
    except ValueError:
        raise UserError(f"{cut(part)}: {cut(written)} is not a number") from None
    if not np.isfinite(bound):
        raise UserError(f"{cut(part)}: {cut(written)} is not a finite number")
    if column in METRICS and bound > 1:
        raise UserError(f"{cut(part)}: {column} is a fraction from 0 to 1; write {bound / 100:g}")
    return bound
