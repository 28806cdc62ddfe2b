"""GPU-hours and core-hours of trials, and what they cost at the prices in the study file.

Only seconds in epochs count. A machine's start and idle time do not, nor do epochs that were lost
with a machine and trained again.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from analysis.columns import MOVED, plain_row, write_number
from analysis.runs import STUDY, Run
from spaces.errors import UserError
from spaces.recipe import describe_mistakes

Unit = Literal["gpu", "cpu"]
_HOURS: dict[Unit, str] = {"gpu": "GPU-hours", "cpu": "core-hours"}
_NOT_RECORDED = "a device that was not recorded"


@validated(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
)
class Prices:
    """What devices cost an hour: one whole GPU, or one core."""

    currency: Annotated[str, Field(min_length=1)]
    per_hour: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    """By the device's name in the brackets of `ran_on`; gpu and cpu: all devices not named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpending:
    """What one trial took."""

    trial: int
    unit: Unit
    hours: float
    """GPU-hours; core-hours of a trial without GPUs."""
    money: float | None
    """None without prices, or where one is missing."""
    unpriced: tuple[str, ...]
    """Devices it ran on that have no price, where the study has prices."""
    moved: bool
    """Whether it moved to a device with another price. All of it counts at the highest price."""

    def hours_of(self, unit: Unit) -> float:
        return self.hours if self.unit == unit else 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What the trials of a run took together."""

    trials: tuple[TrialSpending, ...]
    """Trials that trained."""
    currency: str | None
    """None: the study names no prices."""

    @property
    def priced(self) -> list[float]:
        return [trial.money for trial in self.trials if trial.money is not None]

    @property
    def moved(self) -> list[int]:
        return [trial.trial for trial in self.trials if trial.moved]

    def hours_of(self, unit: Unit) -> float:
        return sum(trial.hours_of(unit) for trial in self.trials)

    def unpriced(self) -> dict[tuple[str, Unit], float]:
        """Hours that no sum includes, since their devices have no price; by device and unit."""
        hours: dict[tuple[str, Unit], float] = defaultdict(float)
        for trial in self.trials:
            if trial.unpriced:
                hours[", ".join(trial.unpriced), trial.unit] += trial.hours
        return dict(hours)


def run_spending(run: Run) -> Spending:
    """Add up what a run took so far. Raises UserError where its prices are not valid."""
    prices = _read_prices(run)
    columns = ["trial", "seconds", "ran_on", "cpus", "gpus"]
    rows = (plain_row(row) for _, row in run.trials[columns].iterrows())
    return Spending(
        trials=tuple(_spent(row, run.study, prices) for row in rows if row["seconds"]),
        currency=prices.currency if prices else None,
    )


def spending_record(spending: Spending) -> dict[str, Any]:
    """`Spending` as plain data."""
    record: dict[str, Any] = {
        "gpu_hours": spending.hours_of("gpu"),
        "core_hours": spending.hours_of("cpu"),
        "money": None,
    }
    if spending.currency is not None:
        record["money"] = {
            "currency": spending.currency,
            "amount": sum(spending.priced),
            "trials": len(spending.priced),
            "unpriced": [
                {"ran_on": name, f"{'gpu' if unit == 'gpu' else 'core'}_hours": hours}
                for (name, unit), hours in spending.unpriced().items()
            ],
            "at_dearest_price": spending.moved,
        }
    return record


def write_hours(spending: Spending) -> str:
    """For instance: 1.25 GPU-hours."""
    hours = {words: spending.hours_of(unit) for unit, words in _HOURS.items()}
    return ", ".join(f"{write_number(number)} {words}" for words, number in hours.items() if number)


def write_money(spending: Spending) -> str:
    """For instance: 12.40 USD, 0.31 per trial; nothing where no trial has a price."""
    priced = spending.priced
    if not priced:
        return ""
    each = sum(priced) / len(priced)
    return f"{_amount(sum(priced))} {spending.currency}, {_amount(each)} per trial"


def spending_notes(spending: Spending) -> list[str]:
    """What the sum of money leaves out, and where it may be too high; a line each."""
    notes = [
        f"no price for {name}: {write_number(hours)} {_HOURS[unit]} are not in the cost; add it to"
        " prices.per_hour"
        for (name, unit), hours in spending.unpriced().items()
    ]
    if spending.moved:
        trials = ", ".join(map(str, spending.moved))
        notes.append(f"moved between devices, counted at the highest price: trial {trials}")
    return notes


def _read_prices(run: Run) -> Prices | None:
    if run.study.get("prices") is None:
        return None
    # Validated through JSON, as study files are.
    written = json.dumps({"prices": run.study["prices"]}, default=str)
    try:
        return TypeAdapter(dict[str, Prices]).validate_json(written)["prices"]
    except ValidationError as error:
        lines = describe_mistakes(error, tuple(Prices.__dataclass_fields__))
        raise UserError("\n".join(f"{run.path / STUDY}: {line}" for line in lines)) from None


def _spent(
    row: Mapping[str, Any], study: Mapping[str, Any], prices: Prices | None
) -> TrialSpending:
    # The oldest runs have this in their study, not in each trial.
    resources = study.get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    gpus = resources.get("gpus", 0) if row["gpus"] is None else row["gpus"]
    cpus = resources.get("cpus", 1) if row["cpus"] is None else row["cpus"]
    unit: Unit = "gpu" if gpus else "cpu"
    hours = row["seconds"] * (gpus or cpus) / 3600
    found: dict[str, float | None] = {}
    if prices is not None:
        found = {
            name: prices.per_hour.get(name, prices.per_hour.get(unit))
            for name in _devices(row["ran_on"])
        }
    known = [price for price in found.values() if price is not None]
    all_known = bool(found) and len(known) == len(found)
    return TrialSpending(
        trial=row["trial"],
        unit=unit,
        hours=hours,
        money=hours * max(known) if all_known else None,
        unpriced=tuple(name for name, price in found.items() if price is None),
        moved=all_known and len(set(known)) > 1,
    )


def _devices(ran_on: str | None) -> list[str]:
    """Names of devices in: 10.0.0.5 (NVIDIA A10G), then 10.0.0.6 (NVIDIA T4)."""
    machines = ran_on.split(MOVED) if ran_on else []
    names = [machine.partition(" (")[2].removesuffix(")") for machine in machines]
    return list(dict.fromkeys(names)) or [_NOT_RECORDED]


def _amount(money: float) -> str:
    return f"{money:,.2f}" if money >= 1 else write_number(money)
