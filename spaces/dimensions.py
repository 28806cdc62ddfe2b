"""Where the value of one recipe field comes from: fixed, a choice, or a range."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from spaces.yaml_files import cut, shorten

Value: TypeAlias = bool | int | float | str | None


class Suggester(Protocol):
    """The part of optuna.trial.Trial that draws values."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """One value for every recipe."""

    value: Value

    def suggest(self, trial: Suggester, name: str) -> Value:
        return self.value

    def contains(self, value: Value) -> bool:
        return same_value(value, self.value)

    @property
    def extremes(self) -> tuple[Value, ...]:
        return (self.value,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the values listed, without order."""

    values: tuple[Value, ...]

    def suggest(self, trial: Suggester, name: str) -> Value:
        return trial.suggest_categorical(name, self.values)

    def contains(self, value: Value) -> bool:
        return any(same_value(value, other) for other in self.values)

    @property
    def extremes(self) -> tuple[Value, ...]:
        return self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class IntRange:
    """A whole number from low to high, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, trial: Suggester, name: str) -> Value:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    @property
    def extremes(self) -> tuple[Value, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRange:
    """A number from low to high, both included; log: uniform in its logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Suggester, name: str) -> Value:
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and is_step(value - self.low, self.step)

    @property
    def extremes(self) -> tuple[Value, ...]:
        return (self.low, self.high)


Dimension: TypeAlias = Fixed | Choice | IntRange | FloatRange

MOST_VALUES = 1_000
"""Of a choice, or of one field of a `when`."""
_KINDS = ("fixed", "choices", "int", "float", "log")


def parse_dimension(written: Any, *, whole: bool) -> Dimension:
    """Read the right-hand side of a space file's line, without its `when`.

    whole: the field takes whole numbers, so that `log` means a log-uniform integer.
    Raises ValueError that says what is wrong.
    """
    if isinstance(written, list):
        return _choice(written)
    if not isinstance(written, Mapping):
        return Fixed(value=_value(written))
    kinds = [kind for kind in _KINDS if kind in written]
    if len(kinds) != 1:
        raise ValueError(f"write one of {', '.join(_KINDS)}; found {_keys(written)}")
    kind = kinds[0]
    unknown = [str(key) for key in written if key not in (kind, "step")]
    if unknown or ("step" in written and kind not in ("int", "float")):
        raise ValueError(f"{cut(', '.join(unknown)) or 'step'}: does not go with {kind}")
    content = written[kind]
    if kind == "fixed":
        return Fixed(value=_value(content))
    if kind == "choices":
        if not isinstance(content, list):
            raise ValueError(f"choices takes a list; found {shorten(content)}")
        return _choice(content)
    return _range(kind, content, written.get("step"), whole=whole)


def _range(kind: str, bounds: Any, step: Any, *, whole: bool) -> IntRange | FloatRange:
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or not all(_is_number(bound) for bound in bounds)
    ):
        raise ValueError(f"{kind} takes [low, high]; found {shorten(bounds)}")
    low, high = bounds
    if low > high:
        raise ValueError(f"{kind}: low {low:g} is above high {high:g}")
    if kind == "log" and low <= 0:
        raise ValueError(f"log: low must be above 0; found {low:g}")
    if step is not None and (not _is_number(step) or step <= 0):
        raise ValueError(f"step must be a number above 0; found {shorten(step)}")
    if kind == "int" or whole:
        if kind == "float":
            raise ValueError("this field takes whole numbers; write int in place of float")
        if not all(isinstance(number, int) for number in (low, high, step or 1)):
            raise ValueError(f"{kind} takes whole numbers here; found {shorten(bounds)}")
        step = step or (1 if kind == "int" else None)
    # Optuna would cut the range down to whole steps, with a warning only.
    if not is_step(high - low, step):
        raise ValueError(f"step {step:g} does not lead from {low:g} to {high:g}")
    if whole:
        return IntRange(low=low, high=high, step=step or 1, log=kind == "log")
    return FloatRange(
        low=float(low), high=float(high), step=float(step) if step else None, log=kind == "log"
    )


def same_value(one: Value, other: Value) -> bool:
    """Whether two values are equal. Unlike in Python, true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def is_step(distance: float, step: float | None) -> bool:
    """Whether a distance is a whole number of steps; with None, any finite one is."""
    steps = distance / step if step else 0.0
    return math.isfinite(steps) and abs(steps - round(steps)) < 1e-9


def _choice(values: list[Any]) -> Choice:
    if not values:
        raise ValueError("a choice needs at least one value")
    if len(values) > MOST_VALUES:
        raise ValueError(f"a choice takes {MOST_VALUES:,} values at most; found {len(values):,}")
    checked = tuple(_value(value) for value in values)
    if any(same_value(one, other) for one, other in itertools.combinations(checked, 2)):
        raise ValueError(f"a value is listed twice in {shorten(values)}")
    return Choice(values=checked)


def _value(written: Any) -> Value:
    if written is None or isinstance(written, bool | int | float | str):
        return written
    raise ValueError(f"expected a word, a number, true, false or null; found {shorten(written)}")


def _is_number(value: Any) -> bool:
    """Whether a value can bound a range: a finite number that fits a float."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _keys(written: Mapping[Any, Any]) -> str:
    return cut(", ".join(str(key) for key in written)) or "nothing"
