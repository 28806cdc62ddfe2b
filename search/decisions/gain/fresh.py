"""Recipes that a search could try next: drawn from its space, or near one that is good already."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

from search.decisions.gain.first_design import pretrained_heads
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from spaces.suggesters import RandomTrial


class FreshRecipes:
    """Draws recipes of a space, the same for the same seed."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def first(self, seed: int) -> list[Recipe]:
        """Recipes to try before any others; see `pretrained_heads`."""
        return pretrained_heads(self._space, seed)

    def draw(self, seed: int, count: int) -> list[Recipe]:
        """Recipes from all over the space."""
        trial = RandomTrial(seed)
        return list(self._valid(trial for _ in range(count)))

    def near(self, recipes: Iterable[Recipe], seed: int, count: int) -> list[Recipe]:
        """Recipes that differ from one of these in one field, and in those that follow from it."""
        recipes = list(recipes)
        if not recipes:
            return []
        choose = random.Random(seed)
        fields = list(self._space.rules)
        changes = (
            _OneChange(choose.getrandbits(32), choose.choice(recipes), choose.choice(fields))
            for _ in range(count)
        )
        return list(self._valid(changes))

    def _valid(self, trials: Iterable[RandomTrial]) -> Iterator[Recipe]:
        for trial in trials:
            try:
                yield self._space.suggest(trial)
            except UserError:  # drawn fields that do not fit each other
                continue


class _OneChange(RandomTrial):
    """Draws one field anew, and those that the recipe has no fitting value for."""

    def __init__(self, seed: int, recipe: Recipe, changed: str) -> None:
        super().__init__(seed)
        self._values = recipe.to_dict()
        self._changed = changed

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if name != self._changed and self._values[name] in choices:
            return self._values[name]
        return super().suggest_categorical(name, choices)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if name != self._changed and self._is_number(name, low, high):
            return self._values[name]
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name != self._changed and self._is_number(name, low, high):
            return self._values[name]
        return super().suggest_float(name, low, high, step=step, log=log)

    def _is_number(self, name: str, low: float, high: float) -> bool:
        value = self._values[name]
        return isinstance(value, int | float) and low <= value <= high
