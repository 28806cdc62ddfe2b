"""Search spaces: the distributions that recipes are drawn from.

A dimension with conditions is drawn only where they hold. Elsewhere, and for fields without a
dimension, the recipe keeps its default. `space_file` reads them from YAML.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

from spaces.dimensions import Dimension, Fixed, Suggester, Value, same_value
from spaces.recipe import Recipe
from spaces.suggesters import Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A dimension, and the values that other fields need before it is drawn."""

    dimension: Dimension
    when: Mapping[str, tuple[Value, ...]]

    def holds(self, drawn: Mapping[str, Value]) -> bool:
        """Whether every condition is met by the fields drawn so far."""
        return all(
            any(same_value(drawn[field], value) for value in allowed)
            for field, allowed in self.when.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """A rule for each searched field. A rule comes after the fields in its conditions."""

    name: str
    rules: Mapping[str, Rule]
    written: Mapping[str, Any]
    """What the rules were read from, as plain data with absolute paths."""
    enqueue: tuple[Recipe, ...] = ()
    """Recipes to try before any that are drawn."""
    base: Recipe = field(default_factory=Recipe)
    """Has the values of fields without a rule that holds."""

    def suggest(self, trial: Suggester) -> Recipe:
        """Draw one recipe. Raises UserError where the drawn fields do not fit each other."""
        return self.base.replace(**self.draw(trial))

    def draw(self, trial: Suggester) -> dict[str, Value]:
        """Draw the values of one recipe, which may not fit each other."""
        drawn: dict[str, Value] = self.base.to_dict()
        for name, rule in self.rules.items():
            if rule.holds(drawn):
                drawn[name] = rule.dimension.suggest(trial, name)
        return drawn

    def params_of(self, recipe: Recipe) -> dict[str, Value]:
        """Optuna's parameters of a recipe: the drawn fields whose values lie inside the space."""
        values = recipe.to_dict()
        return {
            field: values[field]
            for field, rule in self.rules.items()
            if not isinstance(rule.dimension, Fixed)
            and rule.holds(values)
            and rule.dimension.contains(values[field])
        }

    def params_and_distributions(
        self, recipe: Recipe
    ) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
        """`params_of` a recipe, with their distributions, as Optuna stores them."""
        params = self.params_of(recipe)
        return params, self.distributions_of(params)

    def distributions_of(self, fields: Iterable[str]) -> dict[str, BaseDistribution]:
        """Optuna's distributions of those fields that are searched."""
        draw = Draw(lambda *_: None)
        for name in fields:
            if name in self.rules:
                self.rules[name].dimension.suggest(draw, name)
        return draw.distributions

    def fields_outside(self, recipe: Recipe) -> list[str]:
        """The fields whose values this space never gives to a recipe with the same others.

        Empty for a recipe of this space.
        """
        values = recipe.to_dict()
        outside = []
        for name, value in values.items():
            rule = self.rules.get(name)
            if rule is not None and rule.holds(values):
                fits = rule.dimension.contains(value)
            else:
                fits = same_value(value, getattr(self.base, name))
            if not fits:
                outside.append(name)
        return outside

    def values_of(self, field: str) -> tuple[Any, ...]:
        """A field's choices or extremes, its enqueued values, and its default where it can hold."""
        rule = self.rules.get(field)
        values = [getattr(recipe, field) for recipe in self.enqueue]
        values += rule.dimension.extremes if rule else ()
        if rule is None or rule.when:
            values.append(getattr(self.base, field))
        return tuple(dict.fromkeys(values))

    def largest(self, field: str, recipe: Recipe) -> int | None:
        """The largest whole number of a field, for recipes with this one's other values."""
        rule = self.rules.get(field)
        values = [getattr(other, field) for other in self.enqueue if other.model == recipe.model]
        if rule is not None and rule.holds(recipe.to_dict()):
            values += rule.dimension.extremes
        return max((value for value in values if type(value) is int), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain data that `space_file.parse_space` reads back."""
        if not self.enqueue:
            return dict(self.written)
        return {**self.written, "enqueue": [recipe.to_dict() for recipe in self.enqueue]}

    @property
    def digest(self) -> str:
        """16 hexadecimal digits. Spaces with equal dimensions have equal digests."""
        content = json.dumps(dict(self.written), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
