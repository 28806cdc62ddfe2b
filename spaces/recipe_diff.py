"""How a recipe differs from a starting point, and the recipes in between.

Each difference is a switch. From the starting point they are turned on one after the other; from
the full recipe they are turned off one at a time. Epochs and seed never differ, so that all recipes
get the same budget.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from spaces.dimensions import same_value
from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS, Recipe
from spaces.space_file import load_space

StartingPoint = Literal["default", "ladder"]
# The order of the shipped ladder. Fields that it does not vary come where they fit.
ORDER = (
    *("batch_size", "batch_norm", "residual", "optimizer", "learning_rate", "weight_decay"),
    *(
        "label_smoothing",
        "class_weighting",
        "oversampling",
        "augment",
        "width",
        "model",
        "weights",
        "unfrozen",
    ),
    *("scheduler", "input_size", "qat", "float_epochs"),
)
_SAME = ("epochs", "seed")
assert {*ORDER, *_SAME} == set(RECIPE_FIELDS), "a field of recipes has no place in the order"

Fields = tuple[str, ...]
"""Recipe fields that are turned on and off together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A recipe between the starting point and the full recipe."""

    on: tuple[bool, ...]
    """For each difference, whether it is turned on."""
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The differences of two recipes with the same epochs and seed; see `find_differences`."""

    start: Recipe
    full: Recipe
    fields: tuple[Fields, ...]
    """The fields of each difference, in ORDER. Several fields form one difference where a recipe in
    between would not work with only some of them."""

    def cumulative(self) -> list[Variant]:
        """From the starting point to the full recipe, one more difference at a time."""
        count = len(self.fields)
        return [self._variant(range(number)) for number in range(count + 1)]

    def leave_one_out(self) -> list[Variant]:
        """The full recipe without one difference, for each of them."""
        count = len(self.fields)
        return [self._variant(set(range(count)) - {index}) for index in range(count)]

    def _variant(self, on: Collection[int]) -> Variant:
        changed = [field for index in on for field in self.fields[index]]
        return Variant(
            on=tuple(index in on for index in range(len(self.fields))),
            recipe=_mix(self.start, self.full, changed),
        )


def starting_point(name: StartingPoint, full: Recipe, *, largest_input: int) -> Recipe:
    """The recipe to compare `full` with. It has the same epochs and seed.

    default: `Recipe()`. ladder: the first recipe of the shipped space of that name. If its input
    size is above largest_input, it takes that of `full`.
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

    works: whether a valid recipe can be trained, for instance whether its model has these weights.
    Raises UserError where nothing differs.
    """
    assert all(getattr(start, field) == getattr(full, field) for field in _SAME)
    groups: list[Fields] = [
        (field,) for field in ORDER if not same_value(getattr(start, field), getattr(full, field))
    ]
    if not groups:
        raise UserError("the recipe equals its starting point: nothing differs but epochs and seed")

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
    """Two differences to merge, since a recipe in between does not work; None where all work."""
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
