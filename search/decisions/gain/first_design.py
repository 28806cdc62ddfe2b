"""The first trials of a search: cheap in seconds, and spread along the costs.

If the space has pretrained models, these are their heads alone, for each model and input size: they
take seconds and have most of the accuracy. Anybody would try them first. Every other field has the
value that recipes have by default, or the nearest in the space.
"""

import itertools
import math
import random
from typing import Any

import numpy as np

from spaces.columns import FloatArray
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space import SearchSpace

_MOST = 8


def pretrained_heads(space: SearchSpace, seed: int) -> list[Recipe]:
    """Up to 8 recipes, all of pretrained models with their heads alone; none where none is."""
    if "unfrozen" not in space.rules:
        return []
    found: dict[str, Recipe] = {}
    pretrained = [weights for weights in space.values_of("weights") if weights != "none"]
    for model, size, weights in itertools.product(
        space.values_of("model"), space.values_of("input_size"), pretrained
    ):
        try:
            usual = _Usual({"model": model, "input_size": size, "weights": weights})
            recipe = space.suggest(usual)
        except UserError:
            continue
        is_one = recipe.model == model and recipe.weights != "none" and recipe.unfrozen is not None
        if is_one and recipe.unfrozen == _least(space):
            found.setdefault(recipe.key, recipe)
    recipes = list(found.values())
    if len(recipes) > _MOST:
        recipes = sorted(random.Random(seed).sample(recipes, _MOST), key=recipes.index)
    return recipes


def cheapest_along(costs: FloatArray, seconds: FloatArray) -> list[int]:
    """Positions of up to 8 candidates: of each eighth of the costs, the one of the fewest seconds.

    costs, seconds: (candidates,).
    """
    parts = np.array_split(np.argsort(costs, kind="stable"), _MOST)
    return [int(part[np.argmin(seconds[part])]) for part in parts if len(part)]


def _least(space: SearchSpace) -> Any:
    values = [v for v in space.rules["unfrozen"].dimension.extremes if isinstance(v, int)]
    return min(values, default=None)


class _Usual:
    """Draws the value that a recipe has by default, or the nearest; some fields are given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._usual = {**Recipe().to_dict(), "unfrozen": 0, **given}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        usual = self._usual[name]
        if usual in choices:
            return usual
        numbers = [one for one in choices if isinstance(one, int | float) and one is not True]
        if numbers and isinstance(usual, int | float):
            return min(numbers, key=lambda one: abs(one - usual))
        return choices[0]

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        usual = self._usual[name]
        near = min(max(low if usual is None else usual, low), high)
        return low + round((near - low) / step) * step

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        near = min(max(float(self._usual[name]), low), high)
        if step is None or math.isclose(near, high):
            return near
        return low + round((near - low) / step) * step
