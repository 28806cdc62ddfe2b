"""How a search space differs from an earlier one: whether it only became wider.

A space is wider if every recipe of the earlier one lies in it. This is decided field by field, and
where that is too hard to tell, the answer is no.
"""

from collections.abc import Collection
from dataclasses import dataclass

from spaces.dimensions import (
    Choice,
    Dimension,
    Fixed,
    FloatRange,
    IntRange,
    Value,
    is_step,
    same_value,
)
from spaces.recipe import RECIPE_FIELDS
from spaces.space import Rule, SearchSpace
from spaces.space_file import ENQUEUE, reachable


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceChanges:
    """The fields, or `enqueue`, in which a space differs from an earlier one."""

    wider: tuple[str, ...]
    """Every recipe of before still has its value."""
    other: tuple[str, ...]


def space_changes(before: SearchSpace, now: SearchSpace) -> SpaceChanges:
    """Compare a space with an earlier one."""
    wider, other = [], []
    for field in RECIPE_FIELDS:
        old, new = _rule(before, field), _rule(now, field)
        if old != new:
            (wider if _covers(field, old, new, before) else other).append(field)
    if set(before.enqueue) != set(now.enqueue):
        (wider if set(before.enqueue) <= set(now.enqueue) else other).append(ENQUEUE)
    return SpaceChanges(wider=tuple(wider), other=tuple(other))


def _rule(space: SearchSpace, field: str) -> Rule:
    """A field's rule; where there is none, every recipe has the default."""
    default = Fixed(value=getattr(space.base, field))
    return space.rules.get(field, Rule(dimension=default, when={}))


def _covers(field: str, old: Rule, new: Rule, before: SearchSpace) -> bool:
    """Whether every value that recipes of the earlier space have in a field is still drawn."""
    default = Fixed(value=getattr(before.base, field))
    new_has_default = _contains(new.dimension, default)
    if _contains(default, old.dimension):
        return new_has_default or _never_holds(new, before)
    if not _contains(new.dimension, old.dimension) or not _implies(old, new, before):
        return False
    return new_has_default or _implies(new, old, before)


def _implies(one: Rule, other: Rule, space: SearchSpace) -> bool:
    """Whether in a space's recipes, one rule holds only where the other one does."""
    return all(
        (values := _values_where(one, field, space)) is not None
        and all(_is_among(value, allowed) for value in values)
        for field, allowed in other.when.items()
    )


def _never_holds(rule: Rule, space: SearchSpace) -> bool:
    """Whether a rule holds in none of a space's recipes."""
    return any(_values_where(rule, field, space) == [] for field in rule.when)


def _values_where(rule: Rule, field: str, space: SearchSpace) -> list[Value] | None:
    """A field's values in the space's recipes where a rule holds; None: too many to list."""
    default = getattr(space.base, field)
    if field in rule.when:
        own = space.rules.get(field)
        return [value for value in rule.when[field] if reachable(own, default, value)]
    dimension = _rule(space, field).dimension
    if isinstance(dimension, Fixed | Choice):
        return list(space.values_of(field))
    return None


def _is_among(value: Value, values: Collection[Value]) -> bool:
    return any(same_value(value, other) for other in values)


def _contains(one: Dimension, other: Dimension) -> bool:
    """Whether a dimension has all values of another; a range of another scale is another one."""
    if isinstance(other, Fixed | Choice):
        return all(one.contains(value) for value in other.extremes)
    if isinstance(one, IntRange) and isinstance(other, IntRange):
        steps = is_step(other.low - one.low, one.step) and is_step(other.step, one.step)
    elif isinstance(one, FloatRange) and isinstance(other, FloatRange):
        steps = one.step is None or (
            other.step is not None
            and is_step(other.low - one.low, one.step)
            and is_step(other.step, one.step)
        )
    else:
        return False
    return steps and one.log == other.log and one.low <= other.low and other.high <= one.high
