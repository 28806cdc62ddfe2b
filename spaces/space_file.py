"""Reads search spaces from YAML, and says every mistake at once."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from spaces.dimensions import Choice, Dimension, Fixed, Value, parse_dimension, same_value
from spaces.draws import RandomTrial
from spaces.errors import UserError
from spaces.recipe import (
    FLOAT_FIELDS,
    NUMBERS,
    RECIPE_FIELDS,
    Recipe,
    describe_mistakes,
    recipe_from,
    resolve_weights,
)
from spaces.space import Rule, SearchSpace
from spaces.yaml_files import did_you_mean, parse_yaml, path_from, read_yaml_mapping

SHIPPED = Path(__file__).parent
# Besides the recipe's fields, a space file may list recipes to be tried first.
ENQUEUE = "enqueue"
# Fields that take whole numbers, where `log` means a log-uniform integer.
_WHOLE_FIELDS = ("input_size", "unfrozen", "batch_size", "epochs", "seed")
_HINTS = typing.get_type_hints(Recipe, include_extras=True)
_NUM_CHECKED_DRAWS = 256


def shipped_spaces() -> tuple[str, ...]:
    """Names of the spaces that come with flopwise."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_space(name_or_path: str, folder: Path | None = None) -> SearchSpace:
    """Read a shipped space by its name, or a space file; a relative path starts at folder.

    Raises UserError with a line for each mistake in the file.
    """
    if name_or_path in shipped_spaces():
        path = SHIPPED / f"{name_or_path}.yaml"
    else:
        path = path_from(name_or_path, folder or Path.cwd())
        if not path.suffix and not path.exists():
            near = did_you_mean(name_or_path, shipped_spaces())
            raise UserError(
                f"space: {name_or_path} is neither shipped ({', '.join(shipped_spaces())})"
                f" nor a file{near}"
            )
    content = read_yaml_mapping(path)
    return parse_space(content, name=path.stem, source=str(path), folder=path.parent)


def parse_space(content: Mapping[str, Any], *, name: str, source: str, folder: Path) -> SearchSpace:
    """Build a space from a file's content; source names it in errors, folder starts its paths.

    Raises UserError with a line for each mistake.
    """
    written = {field: _absolute_weights(field, line, folder) for field, line in content.items()}
    enqueue, mistakes = _read_enqueued(written.pop(ENQUEUE, []), folder)
    rules, rule_mistakes = _read_rules(written)
    mistakes += rule_mistakes
    if not mistakes:
        space = SearchSpace(name=name, rules=_ordered(rules), written=written, enqueue=enqueue)
        mistakes = _misfits(space)
        if not mistakes:
            return space
    raise UserError("\n".join(f"{source}: {mistake}" for mistake in mistakes))


def narrow(space: SearchSpace, changes: Mapping[str, Any]) -> SearchSpace:
    """Replace dimensions: `learning_rate: 0.001` fixes, a list or a range narrows.

    A dimension keeps its `when` unless the change brings its own. Conditions that can't hold any
    more go, and dimensions that are left without one. A fixed value also replaces that of the
    recipes to be tried first; those that it does not fit go too. Raises UserError with a line for
    each mistake.
    """
    if ENQUEUE in changes:
        raise UserError(f"--fix: {ENQUEUE}: is no dimension; write it into the study or space file")
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
        changes[field] = _absolute_weights(field, parse_yaml(value, f"--fix {word}"), Path.cwd())
    return changes


def _read_rules(written: Mapping[str, Any]) -> tuple[dict[str, Rule], list[str]]:
    rules: dict[str, Rule] = {}
    mistakes: list[str] = []
    for field, line in written.items():
        if field not in RECIPE_FIELDS:
            mistakes.append(f"{field}: unknown{did_you_mean(field, RECIPE_FIELDS)}")
            continue
        try:
            rules[field] = _read_rule(field, line)
        except ValueError as error:
            mistakes += [f"{field}: {text}" for text in str(error).splitlines()]
    mistakes += _when_mistakes(rules, broken=written.keys() - rules.keys())
    return rules, mistakes


def _read_rule(field: str, line: Any) -> Rule:
    when: Any = {}
    if isinstance(line, Mapping):
        when = line.get("when", {})
        line = {key: value for key, value in line.items() if key != "when"}
    if not isinstance(when, Mapping):
        raise ValueError(f"when takes {{field: value}}; found {when!r}")  # noqa: TRY004
    dimension = parse_dimension(line, whole=field in _WHOLE_FIELDS)
    problems = [problem for value in dimension.extremes for problem in _problems(field, value)]
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    if field in FLOAT_FIELDS:
        dimension = _in_floats(dimension)
    for other, values in when.items():
        if values == []:
            raise ValueError(f"when.{other}: name at least one value")
    allowed = {
        str(other): tuple(values) if isinstance(values, list) else (values,)
        for other, values in when.items()
    }
    return Rule(dimension=dimension, when=allowed)


def _problems(field: str, value: Value) -> list[str]:
    """What the recipe's own rules say against this value of this field."""
    try:
        TypeAdapter(_HINTS[field]).validate_python(value, strict=True)
    except ValidationError as error:
        return [line.removeprefix(": ") for line in describe_mistakes(error)]
    return []


def _when_mistakes(rules: Mapping[str, Rule], broken: typing.Collection[str]) -> list[str]:
    mistakes = []
    for field, rule in rules.items():
        for other, allowed in rule.when.items():
            if other not in RECIPE_FIELDS:
                near = did_you_mean(other, RECIPE_FIELDS)
                mistakes.append(f"{field}.when.{other}: unknown{near}")
            elif other not in broken:
                mistakes += [
                    f"{field}.when.{other}: {other} is never {value!r}"
                    for value in allowed
                    if not _reachable(rules.get(other), getattr(Recipe(), other), value)
                ]
    try:
        _ordered(rules)
    except CycleError as error:
        mistakes.append(f"when: a circle of conditions: {' -> '.join(error.args[1])}")
    return mistakes


def _reachable(rule: Rule | None, default: Value, value: Value) -> bool:
    if (rule is None or rule.when) and same_value(value, default):
        return True
    return rule is not None and rule.dimension.contains(value)


def _ordered(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Conditions first; otherwise the recipe's order, so that a file's order changes nothing."""
    graph = {
        field: [other for other in RECIPE_FIELDS if other in rules and other in rules[field].when]
        for field in RECIPE_FIELDS
        if field in rules
    }
    return {field: rules[field] for field in TopologicalSorter(graph).static_order()}


def _misfits(space: SearchSpace) -> list[str]:
    """Fields can be right one by one and wrong together: draw recipes and see."""
    mistakes: dict[str, None] = {}
    trial = RandomTrial(seed=0)
    for _ in range(_NUM_CHECKED_DRAWS):
        try:
            space.suggest(trial)
        except UserError as error:
            mistakes.update(dict.fromkeys(str(error).splitlines()))
    return list(mistakes)


def _read_enqueued(listed: Any, folder: Path) -> tuple[tuple[Recipe, ...], list[str]]:
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        return (), [f"{ENQUEUE}: takes a list of recipes"]
    recipes: list[Recipe] = []
    mistakes: list[str] = []
    for number, entry in enumerate(listed):
        values = {str(key): value for key, value in entry.items() if key != NUMBERS}
        if isinstance(values.get("weights"), str):
            values["weights"] = resolve_weights(values["weights"], folder)
        try:
            recipes.append(recipe_from(values))
        except UserError as error:
            mistakes += [f"{ENQUEUE}[{number}].{line}" for line in str(error).splitlines()]
    return tuple(recipes), mistakes


def _without_dead_conditions(
    written: Mapping[str, Any], keep: typing.Collection[str]
) -> dict[str, Any]:
    """Take out the values of every `when` that can't come up any more.

    A line none of whose values are left goes as a whole, unless it is to be kept; that it never
    holds is then said when it is parsed.
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
    """Those of a condition's values that its field can have; all of them where it is broken."""
    try:
        rule = _read_rule(field, written[field]) if field in written else None
        default = getattr(Recipe(), field)
    except (ValueError, AttributeError):
        return values
    listed = values if isinstance(values, list) else [values]
    living = [value for value in listed if _reachable(rule, default, value)]
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


def _absolute_weights(field: str, line: Any, folder: Path) -> Any:
    """Make every path of weights in a line absolute, so that the space means the same anywhere."""
    if isinstance(line, Mapping):
        return {
            key: {
                other: _absolute_weights(other, values, folder) for other, values in value.items()
            }
            if key == "when" and isinstance(value, Mapping)
            else _absolute_weights(field, value, folder)
            for key, value in line.items()
        }
    if field != "weights":
        return line
    if isinstance(line, str):
        return resolve_weights(line, folder)
    if isinstance(line, list):
        return [_absolute_weights(field, value, folder) for value in line]
    return line


def _in_floats(dimension: Dimension) -> Dimension:
    def number(value: Value) -> Value:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    if isinstance(dimension, Fixed):
        return Fixed(value=number(dimension.value))
    if isinstance(dimension, Choice):
        return Choice(values=tuple(number(value) for value in dimension.values))
    return dimension


def _as_mapping(change: Any) -> dict[str, Any]:
    if isinstance(change, Mapping):
        return dict(change)
    return {"choices": change} if isinstance(change, list) else {"fixed": change}
