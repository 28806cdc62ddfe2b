"""Recipes as points: numbers from 0 to 1, and words, one column for each searched dimension."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spaces.columns import FloatArray
from spaces.dimensions import Choice, Fixed, Value
from spaces.space import Rule

# Of two words that differ, and of a dimension that only one of two recipes has: how alike they are
# in that dimension, from 0 to 1.
_MISMATCH = 0.3
# In a scaled dimension.
_LENGTH = 0.5


class Encoding:
    """Places recipes in the space of its searched dimensions."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._scales: dict[str, tuple[float, float, bool]] = {}
        self._codes: dict[str, dict[Value, int]] = {}
        for field, rule in rules.items():
            dimension = rule.dimension
            if isinstance(dimension, Fixed):
                continue
            values = dimension.extremes
            if all(isinstance(value, int | float) and type(value) is not bool for value in values):
                numbers = [float(value) for value in values]  # pyright: ignore[reportArgumentType]
                log = min(numbers) > 0 and (
                    isinstance(dimension, Choice) or getattr(dimension, "log", False)
                )
                self._scales[field] = (min(numbers), max(numbers), log)
            else:
                self._codes[field] = {}

    def encode(self, recipes: Sequence[Mapping[str, Any]]) -> FloatArray:
        """(recipes, dimensions): numbers first, NaN where absent; then codes of words."""
        rows = [
            [
                *(
                    _scaled(self._value(recipe, name), *scale)
                    for name, scale in self._scales.items()
                ),
                *(
                    codes.setdefault(self._value(recipe, name), len(codes))
                    for name, codes in self._codes.items()
                ),
            ]
            for recipe in recipes
        ]
        return np.array(rows, dtype=float).reshape(len(rows), -1)

    def _value(self, recipe: Mapping[str, Any], field: str) -> Any:
        """None where the space does not draw the field, whatever the recipe has there."""
        return recipe.get(field) if self._rules[field].holds(recipe) else None

    def similarity(self, ones: FloatArray, others: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(ones, others), both from 0 to 1: alike dimension by dimension, and in all at once.

        The first is the mean over the dimensions of one-dimensional kernels; the second a Matern
        kernel (5/2), where a mismatch of words counts as far as the ends of a range.
        """
        num_numbers = len(self._scales)
        squares = np.zeros((len(ones), len(others)))
        alike = np.zeros_like(squares)
        for column in range(num_numbers):
            apart = (ones[:, None, column] - others[None, :, column]) ** 2
            near = np.exp(-apart / (2 * _LENGTH**2))
            absent = np.isnan(ones[:, column]), np.isnan(others[:, column])
            if absent[0].any() or absent[1].any():
                unequal = absent[0][:, None] != absent[1][None, :]
                both = absent[0][:, None] & absent[1][None, :]
                apart = np.where(unequal, 1.0, np.where(both, 0.0, apart))
                near = np.where(unequal, _MISMATCH, np.where(both, 1.0, near))
            squares += apart
            alike += near
        for column in range(num_numbers, ones.shape[1]):
            unequal = ones[:, None, column] != others[None, :, column]
            squares += unequal
            alike += np.where(unequal, _MISMATCH, 1.0)
        distance = np.sqrt(5 * squares) / _LENGTH
        joint = (1 + distance + distance**2 / 3) * np.exp(-distance)
        return alike / max(1, ones.shape[1]), joint


def _scaled(value: Any, low: float, high: float, log: bool) -> float:
    if value is None or isinstance(value, str):
        return math.nan
    if log:
        value, low, high = math.log(max(value, 1e-300)), math.log(low), math.log(high)
    return (float(value) - low) / ((high - low) or 1.0)
