"""Reads search spaces from YAML, and reports all mistakes at once."""

import typing
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from spaces.dimensions import (
    MOST_VALUES,
    Choice,
    Dimension,
    Fixed,
    Value,
    parse_dimension,
    same_value,
)
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
from spaces.suggesters import RandomTrial
from spaces.yaml_files import (
    cut,
    did_you_mean,
    path_from,
    read_yaml_mapping,
    shorten,
    unknown_keys,
)

SHIPPED = Path(__file__).parent
# Besides the recipe's fields, a space file may list recipes to be tried first.
ENQUEUE = "enqueue"
# Fields that take whole numbers, where `log` means a log-uniform integer.
_WHOLE_FIELDS = ("input_size", "unfrozen", "float_epochs", "batch_size", "epochs", "seed")
_HINTS = typing.get_type_hints(Recipe, include_extras=True)
_NUM_CHECKED_DRAWS = 256


def shipped_spaces() -> tuple[str, ...]:
    """Names of the spaces that come with flopwise."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_space(
    name_or_path: str, folder: Path | None = None, *, seed: int | None = None
) -> SearchSpace:
    """Read a shipped space by its name, or a space file. A relative path starts at folder.

    seed: for every recipe, where the file names none.
    Raises UserError with a line for each mistake in the file.
    """
    if name_or_path in shipped_spaces():
        path = SHIPPED / f"{name_or_path}.yaml"
    else:
        path = path_from(name_or_path, folder or Path.cwd())
        if not path.suffix and not path.exists():
            near = did_you_mean(name_or_path, shipped_spaces())
            raise UserError(
                f"space: {cut(name_or_path)} is neither shipped ({', '.join(shipped_spaces())})"
                f" nor a file{near}"
            )
    content = read_yaml_mapping(path)
    return parse_space(content, name=path.stem, source=str(path), folder=path.parent, seed=seed)


def parse_space(
    content: Mapping[str, Any], *, name: str, source: str, folder: Path, seed: int | None = None
) -> SearchSpace:
    """Build a space from a file's content. Errors name source; relative paths start at folder.

    seed: for every recipe, where the content names none.
    Raises UserError with a line for each mistake.
    """
    default = {} if seed is None else {"seed": seed}
    content = {**default, **content}
    written = {field: absolute_weights(field, line, folder) for field, line in content.items()}
    enqueue, mistakes = _read_enqueued(written.pop(ENQUEUE, []), folder, default)
    rules, rule_mistakes = _read_rules(written)
    mistakes += rule_mistakes
    if not mistakes:
        space = SearchSpace(name=name, rules=_ordered(rules), written=written, enqueue=enqueue)
        mistakes = _misfits(space)
        if not mistakes:
            return space
    raise UserError("\n".join(f"{source}: {mistake}" for mistake in mistakes))


def _read_rules(written: Mapping[str, Any]) -> tuple[dict[str, Rule], list[str]]:
    rules: dict[str, Rule] = {}
    mistakes: list[str] = []
    unknown = [field for field in written if field not in RECIPE_FIELDS]
    mistakes += unknown_keys(unknown, RECIPE_FIELDS)
    for field, line in written.items():
        if field not in RECIPE_FIELDS:
            continue
        try:
            rules[field] = read_rule(field, line)
        except ValueError as error:
            mistakes += [f"{field}: {text}" for text in str(error).splitlines()]
    mistakes += _when_mistakes(rules, broken=written.keys() - rules.keys())
    return rules, mistakes


def read_rule(field: str, line: Any) -> Rule:
    """Read one line of a space file. Raises ValueError with a line for each mistake."""
    when: Any = {}
    if isinstance(line, Mapping):
        when = line.get("when", {})
        line = {key: value for key, value in line.items() if key != "when"}
    if not isinstance(when, Mapping):
        raise ValueError(f"when takes {{field: value}}; found {shorten(when)}")  # noqa: TRY004
    dimension = parse_dimension(line, whole=field in _WHOLE_FIELDS)
    problems = [problem for value in dimension.extremes for problem in _problems(field, value)]
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    if field in FLOAT_FIELDS:
        dimension = _in_floats(dimension)
    for other, values in when.items():
        if values == []:
            raise ValueError(f"when.{cut(str(other))}: name at least one value")
        if isinstance(values, list) and len(values) > MOST_VALUES:
            raise ValueError(f"when.{cut(str(other))}: takes {MOST_VALUES:,} values at most")
    allowed = {
        str(other): tuple(values) if isinstance(values, list) else (values,)
        for other, values in when.items()
    }
    return Rule(dimension=dimension, when=allowed)


@cache
def _adapter(field: str) -> TypeAdapter[Any]:
    return TypeAdapter(_HINTS[field])


def _problems(field: str, value: Value) -> list[str]:
    """Why a recipe refuses this value of this field; empty where it accepts it."""
    try:
        _adapter(field).validate_python(value, strict=True)
    except ValidationError as error:
        return [line.removeprefix(": ") for line in describe_mistakes(error)]
    return []


def _when_mistakes(rules: Mapping[str, Rule], broken: typing.Collection[str]) -> list[str]:
    mistakes = []
    for field, rule in rules.items():
        for other, allowed in rule.when.items():
            if other not in RECIPE_FIELDS:
                near = did_you_mean(other, RECIPE_FIELDS)
                mistakes.append(f"{field}.when.{cut(other)}: unknown{near}")
            elif other not in broken:
                mistakes += [
                    f"{field}.when.{other}: {other} is never {shorten(value)}"
                    for value in allowed
                    if not reachable(rules.get(other), getattr(Recipe(), other), value)
                ]
    try:
        _ordered(rules)
    except CycleError as error:
        mistakes.append(f"when: a circle of conditions: {' -> '.join(error.args[1])}")
    return mistakes


def reachable(rule: Rule | None, default: Value, value: Value) -> bool:
    """Whether a field with this rule and default can have the value."""
    if (rule is None or rule.when) and same_value(value, default):
        return True
    return rule is not None and rule.dimension.contains(value)


def _ordered(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Sort by conditions, then by the recipe's order, so that the file's order has no effect."""
    graph = {
        field: [other for other in RECIPE_FIELDS if other in rules and other in rules[field].when]
        for field in RECIPE_FIELDS
        if field in rules
    }
    return {field: rules[field] for field in TopologicalSorter(graph).static_order()}


def _misfits(space: SearchSpace) -> list[str]:
    """Draw recipes to find fields that are valid alone and do not fit each other."""
    mistakes: dict[str, None] = {}
    trial = RandomTrial(seed=0)
    for _ in range(_NUM_CHECKED_DRAWS):
        try:
            space.suggest(trial)
        except UserError as error:
            mistakes.update(dict.fromkeys(str(error).splitlines()))
    return list(mistakes)


def _read_enqueued(
    listed: Any, folder: Path, default: Mapping[str, Any]
) -> tuple[tuple[Recipe, ...], list[str]]:
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        return (), [f"{ENQUEUE}: takes a list of recipes"]
    recipes: list[Recipe] = []
    mistakes: list[str] = []
    for number, entry in enumerate(listed):
        values = {**default, **{str(key): entry[key] for key in entry if key != NUMBERS}}
        if isinstance(values.get("weights"), str):
            values["weights"] = resolve_weights(values["weights"], folder)
        try:
            recipes.append(recipe_from(values))
        except UserError as error:
            mistakes += [f"{ENQUEUE}[{number}].{line}" for line in str(error).splitlines()]
    return tuple(recipes), mistakes


def absolute_weights(field: str, line: Any, folder: Path) -> Any:
    """Make every path of weights in a line absolute, so that the space works from any folder."""
    if isinstance(line, Mapping):
        return {
            key: {other: absolute_weights(other, values, folder) for other, values in value.items()}
            if key == "when" and isinstance(value, Mapping)
            else absolute_weights(field, value, folder)
            for key, value in line.items()
        }
    if field != "weights":
        return line
    if isinstance(line, str):
        return resolve_weights(line, folder)
    if isinstance(line, list):
        return [absolute_weights(field, value, folder) for value in line]
    return line


def _in_floats(dimension: Dimension) -> Dimension:
    def number(value: Value) -> Value:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    if isinstance(dimension, Fixed):
        return Fixed(value=number(dimension.value))
    if isinstance(dimension, Choice):
        return Choice(values=tuple(number(value) for value in dimension.values))
    return dimension
