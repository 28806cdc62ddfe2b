"""One trial's state so far, and how Optuna's storage holds it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from analysis.columns import MOVED
from spaces.columns import ACCURACY
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from spaces.yaml_files import shorten
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

# Keys of Optuna's user attributes, in the order in which they are written.
ENQUEUED, RECIPE, COST, EXPECTED = "enqueued", "recipe", "cost", "expected"
RUNGS, PAUSED, OUTCOME = "rungs", "paused", "outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a search expected of a trial when it began, before its first epoch.

    Accuracies are of the study's metric, whatever its name.
    """

    low: float
    """Its last accuracy would be below this with a probability of 10 %."""
    accuracy: float
    """The median of its last accuracy."""
    high: float
    """Its last accuracy would be above this with a probability of 10 %."""
    gain: float
    """Hypervolume that it would add to the front, as a share of the whole range."""
    seconds: float
    """In epochs, on a machine of ordinary speed."""


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """One trial's state so far."""

    number: int
    recipe: Recipe | None = None
    """None only for a trial that failed before its recipe was drawn."""
    cost: Cost | None = None
    expected: Expected | None = None
    """None if it did not begin, or if neither the sampler nor the stopping rule rates by gain."""
    state: TrialState = TrialState.RUNNING
    epochs: list[EpochMetrics] = field(default_factory=list)
    """Of this session, with those of the checkpoint from which it went on."""
    earlier_epochs: list[EpochMetrics] = field(default_factory=list)
    """Of a trial that goes on: what an earlier session knew, until it reports again. No rule looks
    at them, since the trial repeats those after its checkpoint."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By column, after the last epoch, on the validation split; empty until it is complete."""
    error: str | None = None
    """Why it failed, or never began."""
    stop_reason: str | None = None
    """Why it ended before its last epoch, or never began."""
    paused: str | None = None
    """Why it is paused; None if it is not. Its state is RUNNING meanwhile."""
    pausing: str | None = None
    """Why it will be paused as soon as its state is saved; None if it will not."""
    checkpoint: str | None = None
    """The path of the newest checkpoint; relative if it is below the run folder."""
    reused: int | None = None
    """The trial with the same recipe whose result it took over. Below 0: of an earlier run."""
    search_seconds: float | None = None
    """Wall time of the search, over all sessions, when this trial ended."""
    ran_on: str | None = None
    """The machines that it ran on, and the device that trained on each."""
    cpus: int | None = None
    """Cores that it has while it runs; None if it did not begin, or if the storage is old."""
    gpus: float | None = None
    data: str | None = None
    """Of a trial of an earlier run: the digest of its data, if that has grown since. None: it is
    the data of this search."""
    rungs: dict[int, float] = field(default_factory=dict)
    """The study's metric at each rung that it passed. The storage keeps them while it runs."""

    @property
    def accuracy(self) -> float | None:
        return self.metrics.get(ACCURACY)

    @property
    def known_epochs(self) -> list[EpochMetrics]:
        """Its epochs, to show and to count: until it reports again, those of earlier sessions."""
        return max(self.epochs, self.earlier_epochs, key=len)

    @property
    def seconds(self) -> float:
        return sum(metrics.seconds for metrics in self.known_epochs)

    @property
    def has_run_all_epochs(self) -> bool:
        return self.recipe is not None and len(self.epochs) >= self.recipe.epochs

    @property
    def refused(self) -> bool:
        """Whether it was not allowed to begin."""
        return self.state == TrialState.PRUNED and self.reused is None and not self.epochs

    def numbers(self) -> dict[str, Any]:
        """Its metrics and costs, by column."""
        return {**(self.cost.figures if self.cost else {}), **self.metrics}

    @property
    def key(self) -> str:
        """The recipe's key."""
        assert self.recipe is not None, f"trial {self.number} has no recipe"
        return self.recipe.key

    @property
    def schedule(self) -> str:
        """Its learning-rate schedule. Only trials with the same one are compared at an epoch."""
        assert self.recipe is not None, f"trial {self.number} has no recipe"
        return self.recipe.scheduler

    def add_epochs(self, epochs: Iterable[EpochMetrics]) -> None:
        """Add epochs. A resumed trial may repeat some."""
        new = {metrics.epoch: metrics for metrics in epochs}
        known = {metrics.epoch: metrics for metrics in self.epochs} | new
        self.epochs = [known[epoch] for epoch in sorted(known)]
        if new:
            self.earlier_epochs = []

    def add_machine(self, ran_on: str | None) -> None:
        """Add the machine that the trial runs on now. A trial may move between machines."""
        known = self.ran_on.split(MOVED) if self.ran_on else []
        if ran_on and ran_on not in known:
            self.ran_on = MOVED.join([*known, ran_on])

    def pause(self) -> dict[str, Any]:
        """What is stored when it is to be paused, when it is paused, and when it goes on."""
        return {
            "reason": self.paused,
            "pausing": self.pausing,
            "checkpoint": self.checkpoint,
            "ran_on": self.ran_on,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "epochs": [metrics.to_dict() for metrics in self.epochs],
        }

    def outcome(self, state: TrialState) -> dict[str, Any]:
        """What is stored before the trial is told with this state."""
        return {
            "state": state.name,
            "metrics": dict(self.metrics),
            "error": self.error,
            "stop_reason": self.stop_reason,
            "checkpoint": self.checkpoint,
            "reused": self.reused,
            "search_seconds": self.search_seconds,
            "ran_on": self.ran_on,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "epochs": [metrics.to_dict() for metrics in self.known_epochs],
        }


def read_record(frozen: optuna.trial.FrozenTrial) -> tuple[TrialRecord, TrialState | None]:
    """Read a trial back, and the state of its stored outcome; None without an outcome.

    If a trial has an outcome but is still RUNNING, it was about to be told. Raises UserError if
    what is stored is damaged.
    """
    try:
        return _read(frozen)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = shorten(error)
        raise UserError(f"trial {frozen.number}: damaged in Optuna's storage ({reason})") from None


def _read(frozen: optuna.trial.FrozenTrial) -> tuple[TrialRecord, TrialState | None]:
    attributes = frozen.user_attrs
    record = TrialRecord(number=frozen.number, state=frozen.state)
    written = attributes.get(RECIPE, attributes.get(ENQUEUED))
    if written is not None:
        record.recipe = recipe_from(written)
    if COST in attributes:
        record.cost = Cost.from_dict(attributes[COST])
    if EXPECTED in attributes:
        expected = {name: float(value) for name, value in attributes[EXPECTED].items()}
        record.expected = Expected(**expected)
    outcome = attributes.get(OUTCOME)
    record.rungs = {int(rung): value for rung, value in attributes.get(RUNGS, {}).items()}
    if outcome is None:
        _read_pause(record, attributes.get(PAUSED))
        return record, None
    if "metrics" in outcome:
        record.metrics = dict(outcome["metrics"])
    elif outcome["accuracy"] is not None:  # of an older version
        record.metrics = {ACCURACY: outcome["accuracy"]}
    record.error = outcome["error"]
    record.checkpoint = outcome["checkpoint"]
    record.reused = outcome["reused"]
    # Older storages lack some of these.
    record.stop_reason = outcome.get("stop_reason")
    record.search_seconds = outcome.get("search_seconds")
    record.ran_on = outcome.get("ran_on")
    record.cpus, record.gpus = outcome.get("cpus"), outcome.get("gpus")
    record.add_epochs(EpochMetrics.from_dict(metrics) for metrics in outcome["epochs"])
    return record, TrialState[outcome["state"]]


def _read_pause(record: TrialRecord, pause: Mapping[str, Any] | None) -> None:
    if pause is not None:
        record.paused, record.checkpoint = pause["reason"], pause["checkpoint"]
        record.pausing = pause["pausing"]
        record.ran_on, record.cpus, record.gpus = pause["ran_on"], pause["cpus"], pause["gpus"]
        record.add_epochs(EpochMetrics.from_dict(metrics) for metrics in pause["epochs"])


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """The trials of a study, as its storage has them."""
    return [read_record(trial)[0] for trial in study.get_trials(deepcopy=False)]
