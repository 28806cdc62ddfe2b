"""How a recipe differs from a starting point, and the recipes in between.

Each difference is a switch. From the starting point they are turned on one after the other, as a
person would climb; from the recipe they are turned off one at a time. Epochs and seed are no
differences: all recipes get the same budget.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from spaces.dimensions import same_value
from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS, Recipe
from spaces.space_file import load_space

StartingPoint = Literal["default", "ladder"]
# That of the shipped ladder, and where it says nothing, training before model before numbers.
ORDER = (
    *("batch_size", "batch_norm", "residual", "optimizer", "learning_rate", "weight_decay"),
    *("label_smoothing", "class_weighting", "augment", "width", "model", "weights", "unfrozen"),
    *("scheduler", "input_size", "qat", "float_epochs"),
)
_SAME = ("epochs", "seed")
assert {*ORDER, *_SAME} == set(RECIPE_FIELDS), "a field of recipes has no place in the order"

Fields = tuple[str, ...]
"""Recipe fields that are turned on and off together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A recipe between the starting point and the whole."""

    on: tuple[bool, ...]
    """By difference."""
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What lies between two recipes of the same epochs and seed; see `find_differences`."""

    start: Recipe
    full: Recipe
    fields: tuple[Fields, ...]
    """By difference, in ORDER. Several fields are one difference where some recipe in between would
    not work with one of them and without the other."""

    def cumulative(self) -> list[Variant]:
        """From the starting point to the whole, one difference more at a time."""
        count = len(self.fields)
        return [self._variant(range(number)) for number in range(count + 1)]

    def leave_one_out(self) -> list[Variant]:
        """The whole without each of the differences."""
        count = len(self.fields)
        return [self._variant(set(range(count)) - {index}) for index in range(count)]

    def _variant(self, on: Collection[int]) -> Variant:
        changed = [field for index in on for field in self.fields[index]]
        return Variant(
            on=tuple(index in on for index in range(len(self.fields))),
            recipe=_mix(self.start, self.full, changed),
        )


def starting_point(name: StartingPoint, full: Recipe, *, largest_input: int) -> Recipe:
    """The recipe that another one is compared with, of the same epochs and seed.

    default: `Recipe()`. ladder: the first recipe of the shipped space of that name. Where the data
    is smaller than its input size (largest_input), it takes the other recipe's.
    """
    start = Recipe() if name == "default" else load_space("ladder").enqueue[0]
    changes = {field: getattr(full, field) for field in _SAME}
    if start.input_size > largest_input:
        changes["input_size"] = full.input_size
    return start.replace(**changes)


def find_differences(
    start: Recipe, full: Recipe, works: Callable[[Recipe], bool] = lambda _: True
) -> Differences:
    """The differences of two recipes with the same epochs and seed.

    works: whether a recipe that is valid by itself can be trained at all, such as a model with
    these weights. Raises UserError where nothing differs.
    """
    assert all(getattr(start, field) == getattr(full, field) for field in _SAME)
    groups: list[Fields] = [
        (field,) for field in ORDER if not same_value(getattr(start, field), getattr(full, field))
    ]
    if not groups:
        raise UserError("it is its starting point: nothing differs but epochs and seed")

    def can_be(on: Collection[int]) -> bool:
        try:
            recipe = _mix(start, full, [field for index in on for field in groups[index]])
        except UserError:
            return False
        return works(recipe)

    while (pair := _inseparable(len(groups), can_be)) is not None:
        first, second = sorted(pair)
        groups[first] = tuple(sorted(groups[first] + groups.pop(second), key=ORDER.index))
    return Differences(start=start, full=full, fields=tuple(groups))


def _inseparable(count: int, can_be: Callable[[Collection[int]], bool]) -> tuple[int, int] | None:
    """Two differences that have to become one, for the first recipe on the way that can't be."""
    everything = set(range(count))
    for index in range(count) if count > 1 else ():
        if not can_be(everything - {index}):
            others = sorted(everything - {index}, key=lambda other: abs(other - index))
            free = [other for other in others if can_be(everything - {index, other})]
            return index, (free or others)[0]
    for number in range(1, count):
        if not can_be(range(number)):
            later = range(number, count)
            free = [other for other in later if can_be({*range(number), other})]
            return number - 1, (free or later)[0]
    return None


def _mix(start: Recipe, full: Recipe, changed: Sequence[str]) -> Recipe:
    return start.replace(**{field: getattr(full, field) for field in changed})
