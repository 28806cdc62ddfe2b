"""Bounds on the numbers of a trial: read from text such as `gflops <= 0.5`, and checked.

In a study file, a bound's column is a key of a mapping, so `recall:CLASS` needs no more than YAML's
own quotes. In a line such as `recall:"salt, fine" >= 0.9, size_mb <= 20`, a class whose name is not
just letters, digits, spaces and .-_' is written in double quotes, as in JSON.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spaces.columns import (
    RECALL,
    FloatArray,
    is_metric,
    is_recall,
    number_columns,
    numbers_in_words,
)
from spaces.errors import UserError
from spaces.yaml_files import cut, did_you_mean, shorten

_BOUND = re.compile(r"(?P<sign>>=|<=|>|<|==|=)\s*(?P<bound>[^\s<>=]+)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_PLAIN_CLASS = re.compile(r"[\w.'-]+(?: [\w.'-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A bound on one number of a trial."""

    column: str
    sign: str
    bound: float

    @property
    def is_of_a_metric(self) -> bool:
        """Whether training decides if it holds. Costs are known before."""
        return is_metric(self.column)

    def __str__(self) -> str:
        return f"{write_column(self.column)}{self.sign}{self.bound:g}"

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


def write_column(column: str) -> str:
    """A column as it is written in a line of constraints: `recall:"salt, fine"`."""
    of = column.removeprefix(RECALL)
    if not is_recall(column) or (_PLAIN_CLASS.fullmatch(of) and " and " not in of):
        return column
    return RECALL + json.dumps(of, ensure_ascii=False)


def split_constraints(line: str) -> Iterator[str]:
    """Split a line such as `accuracy>=0.9, size_mb<=20` at commas and `and`, outside of quotes."""
    parts = [""]
    for piece in re.split(rf"({_QUOTED.pattern})", line):
        first, *rest = [piece] if _QUOTED.fullmatch(piece) else re.split(r",|\s+and\s+", piece)
        parts[-1] += first
        parts += rest
    yield from (part.strip() for part in parts)


def read_constraint(text: str) -> Constraint | None:
    """Read `accuracy>=0.9`, `accuracy>=90%` or `size_mb < 20`; None if text is no comparison.

    Raises UserError where the column or the bound is wrong.
    """
    column, text = _read_column(text.strip())
    bound = _BOUND.fullmatch(text)
    if bound is None or not column:
        return None
    check_column(column)
    return _constraint(column, bound)


def read_study_constraint(column: str, text: str) -> Constraint:
    """Read a study file's bound on a column, such as `<= 0.5`. Raises UserError."""
    check_column(column)
    bound = _BOUND.fullmatch(text.strip())
    if bound is None:
        raise UserError(f"{column}: {shorten(text)} is not a bound; write one such as '<= 0.5'")
    return _constraint(column, bound)


def check_column(column: str) -> None:
    """Raise UserError unless a column is a number of a trial. Any class may be named."""
    known = number_columns()
    if column not in known and not is_recall(column):
        near = did_you_mean(column, known)
        raise UserError(f"{cut(column)} is not a number of a trial; use {numbers_in_words()}{near}")


def _read_column(text: str) -> tuple[str, str]:
    """The column that a line begins with, and the rest of the line."""
    if text.startswith(RECALL):
        quoted = _QUOTED.match(text, len(RECALL))
        if quoted:
            try:
                return RECALL + json.loads(quoted[0], strict=False), text[quoted.end() :].lstrip()
            except ValueError:
                raise UserError(f"{cut(text)}: {cut(quoted[0])} is not a text in JSON") from None
        found = re.match(r"[^<>=]*", text)
    else:
        found = re.match(r"\w*", text)
    assert found is not None
    return found[0].rstrip(), text[found.end() :].lstrip()


def _constraint(column: str, read: re.Match[str]) -> Constraint:
    sign, written = read["sign"], read["bound"]
    part = f"{write_column(column)} {read[0]}"
    if "<" not in sign and ">" not in sign:
        raise UserError(f"{cut(part)}: use >= or <=; trained numbers are hardly ever equal")
    try:
        percent = written.endswith("%") and is_metric(column)
        bound = float(written[:-1]) / 100 if percent else float(written)
    except ValueError:
        raise UserError(f"{cut(part)}: {cut(written)} is not a number") from None
    if not np.isfinite(bound):
        raise UserError(f"{cut(part)}: {cut(written)} is not a finite number")
    if is_metric(column) and bound > 1:
        raise UserError(f"{cut(part)}: {column} is a fraction from 0 to 1; write {bound / 100:g}")
    return Constraint(column=column, sign=sign, bound=bound)
