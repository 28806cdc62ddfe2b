"""Stopping rules by the names that study files use.

To add a rule, write a subclass of `stopping.StoppingRule`, and add it to `STOPPING_RULES`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from search.decisions.gain.rule import GainRule
from search.decisions.rungs import RungRule, num_ahead_on_fronts, num_better
from search.decisions.stopping import StoppingRule
from spaces.objectives import Objectives
from spaces.yaml_files import one_of


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
)
class EarlyStoppingSettings:
    """Which rule stops trials before their last epoch."""

    name: Annotated[str, AfterValidator(lambda name: one_of(name, STOPPING_RULES))] = "gain"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    """The first rung."""
    max_epochs: Annotated[int, Field(ge=1)] | None = None
    """No rung after this epoch; None: rungs up to each trial's last epoch."""
    reduction: Annotated[float, Field(gt=1)] = 1.5
    """One in this many trials goes on past a rung. Each rung is this times the one before."""
    outlook: bool = True
    """For pareto: also stop a trial that can't reach the front even at the best rate seen of trials
    like it, and one that stays at chance."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_epochs is not None and self.max_epochs < self.min_epochs:
            raise ValueError(
                f"max_epochs {self.max_epochs} is below min_epochs {self.min_epochs}, so"
                " nothing would be stopped; use {name: none} for that"
            )
        for field in dataclasses.fields(self):
            if (
                field.name in _IGNORED.get(self.name, ())
                and getattr(self, field.name) != field.default
            ):
                others = [name for name in STOPPING_RULES if has_setting(name, field.name)]
                raise ValueError(
                    f"{field.name}: {self.name} has no such setting; leave it out, or write"
                    f" name: {' or '.join(others)}"
                )
        return self


def has_setting(name: str, setting: str) -> bool:
    """Whether a stopping rule uses this setting."""
    return setting not in _IGNORED.get(name, ())


def build_stopping_rule(settings: EarlyStoppingSettings, objectives: Objectives) -> StoppingRule:
    """The rule that a study file names.

    If all objectives are known before training, nothing is stopped.
    """
    if objectives.metric is None:
        return StoppingRule()
    return STOPPING_RULES[settings.name](settings, objectives)


def _pareto(settings: EarlyStoppingSettings, objectives: Objectives) -> StoppingRule:
    return RungRule(
        min_epochs=settings.min_epochs,
        max_epochs=settings.max_epochs,
        reduction=settings.reduction,
        num_ahead=partial(num_ahead_on_fronts, log_columns=objectives.log_columns),
        metric=objectives.shown_metric,
        extrapolate=settings.outlook,
    )


def _asha(settings: EarlyStoppingSettings, objectives: Objectives) -> StoppingRule:
    assert objectives.metric is not None
    return RungRule(
        min_epochs=settings.min_epochs,
        max_epochs=settings.max_epochs,
        reduction=settings.reduction,
        num_ahead=partial(num_better, column=list(objectives).index(objectives.metric)),
        metric=objectives.metric,
    )


# Settings that are of no use to a rule. A study that sets one means another rule.
_IGNORED: dict[str, tuple[str, ...]] = {
    "asha": ("outlook",),
    "gain": ("min_epochs", "max_epochs", "reduction", "outlook"),
    "none": ("min_epochs", "max_epochs", "reduction", "outlook"),
}
STOPPING_RULES: dict[str, Callable[[EarlyStoppingSettings, Objectives], StoppingRule]] = {
    "gain": lambda _settings, _objectives: GainRule(),
    "pareto": _pareto,
    "asha": _asha,
    "none": lambda _settings, _objectives: StoppingRule(),
}
