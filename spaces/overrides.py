"""Narrows a search space from the command line: `--fix field=value`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spaces.dimensions import Fixed
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from spaces.space import Rule, SearchSpace
from spaces.space_file import ENQUEUE, absolute_weights, parse_space, reachable, read_rule
from spaces.yaml_files import parse_yaml


def narrow(space: SearchSpace, changes: Mapping[str, Any]) -> SearchSpace:
    """Replace dimensions: `learning_rate: 0.001` fixes, a list or a range narrows.

    A dimension keeps its `when` unless the change has its own. Values of a `when` that can no
    longer occur are removed, and so are dimensions whose `when` can't hold any more. A fixed value
    also replaces the one in enqueued recipes; recipes that it does not fit are removed. Raises
    UserError with a line for each mistake.
    """
    if ENQUEUE in changes:
        raise UserError(f"--fix: {ENQUEUE} is not a dimension; use the study or space file for it")
    written = dict(space.written)
    for field, change in changes.items():
        old = written.get(field)
        when = old.get("when") if isinstance(old, Mapping) else None
        if when and not (isinstance(change, Mapping) and "when" in change):
            written[field] = _as_mapping(change) | {"when": when}
        else:
            written[field] = change
    written = _without_dead_conditions(written, keep=changes.keys())
    narrowed = parse_space(written, name=space.name, source="--fix", folder=Path.cwd())
    fixed = {
        field: rule
        for field, rule in narrowed.rules.items()
        if field in changes and isinstance(rule.dimension, Fixed)
    }
    recipes = (_fix(recipe, fixed) for recipe in space.enqueue)
    return replace(narrowed, enqueue=tuple(recipe for recipe in recipes if recipe is not None))


def parse_fixes(fixes: Sequence[str]) -> dict[str, Any]:
    """Read the command line's `field=value` words; the value is YAML, as in a space file.

    Raises UserError where a word has no `=`.
    """
    changes = {}
    for word in fixes:
        field, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise UserError(f"--fix {word}: write field=value, such as --fix batch_size=64")
        changes[field] = absolute_weights(field, parse_yaml(value, f"--fix {word}"), Path.cwd())
    return changes


def _without_dead_conditions(written: Mapping[str, Any], keep: Collection[str]) -> dict[str, Any]:
    """Remove the values of every `when` that can no longer occur.

    A line whose `when` has no values left is removed, unless `keep` names its field; parsing then
    reports that it never holds.
    """
    alive = dict(written)
    for field, line in written.items():
        if not isinstance(line, Mapping) or not isinstance(line.get("when"), Mapping):
            continue
        when = {other: _living(alive, other, values) for other, values in line["when"].items()}
        if all(values != [] for values in when.values()):
            alive[field] = {**line, "when": when}
        elif field not in keep:
            del alive[field]
    return alive if alive == written else _without_dead_conditions(alive, keep)


def _living(written: Mapping[str, Any], field: str, values: Any) -> Any:
    """The values of a condition that its field can have; all of them where it is malformed."""
    try:
        rule = read_rule(field, written[field]) if field in written else None
        default = getattr(Recipe(), field)
    except (ValueError, AttributeError):
        return values
    listed = values if isinstance(values, list) else [values]
    living = [value for value in listed if reachable(rule, default, value)]
    return living if len(living) < len(listed) else values


def _fix(recipe: Recipe, fixed: Mapping[str, Rule]) -> Recipe | None:
    values = recipe.to_dict()
    for field, rule in fixed.items():
        if rule.holds(values):
            values[field] = rule.dimension.extremes[0]
    try:
        return recipe_from(values)
    except UserError:
        return None


def _as_mapping(change: Any) -> dict[str, Any]:
    if isinstance(change, Mapping):
        return dict(change)
    return {"choices": change} if isinstance(change, list) else {"fixed": change}
