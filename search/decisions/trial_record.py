"""One trial as far as it has come, and how Optuna's storage holds it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from analysis.columns import MOVED
from spaces.columns import ACCURACY
from spaces.recipe import Recipe, recipe_from
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

# Keys of Optuna's user attributes, in the order in which they are written.
ENQUEUED, RECIPE, COST, RUNGS, OUTCOME = "enqueued", "recipe", "cost", "rungs", "outcome"


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """One trial as far as it has come."""

    number: int
    recipe: Recipe | None = None
    """None only for a trial that failed before its recipe was drawn."""
    cost: Cost | None = None
    state: TrialState = TrialState.RUNNING
    epochs: list[EpochMetrics] = field(default_factory=list)
    accuracy: float | None = None
    """Of the last epoch on the validation split; None until the trial is complete."""
    error: str | None = None
    """Why it failed, or never began."""
    stop_reason: str | None = None
    """Why it ended before its last epoch, or never began."""
    checkpoint: str | None = None
    """Of the last epoch saved: a path, relative to the run folder where it lies in it."""
    reused: int | None = None
    """The trial of the same recipe whose result this one took over; below 0: an earlier run's."""
    search_seconds: float | None = None
    """Wall time of the search, over all of its sessions, when it was told."""
    ran_on: str | None = None
    """The machines whose time its seconds are, with what trained there."""
    cpus: int | None = None
    """Cores that it has while it runs; None: it did not begin, or the storage is an old one."""
    gpus: float | None = None
    rungs: dict[int, float] = field(default_factory=dict)
    """Accuracy at the rungs past which it went on: kept in the storage while it runs."""

    @property
    def seconds(self) -> float:
        return sum(metrics.seconds for metrics in self.epochs)

    @property
    def refused(self) -> bool:
        """Whether it was never allowed to begin."""
        return self.state == TrialState.PRUNED and self.reused is None and not self.epochs

    def numbers(self, accuracy: float | None = None) -> dict[str, Any]:
        """Its metric and costs, by column; accuracy: in place of its own."""
        figures = self.cost.figures if self.cost else {}
        return {**figures, ACCURACY: self.accuracy if accuracy is None else accuracy}

    @property
    def key(self) -> str:
        """The recipe's key."""
        assert self.recipe is not None, f"trial {self.number} has no recipe"
        return self.recipe.key

    @property
    def schedule(self) -> str:
        """How its learning rate goes; trials with the same one compare after as many epochs."""
        assert self.recipe is not None, f"trial {self.number} has no recipe"
        return self.recipe.scheduler

    def add_epochs(self, epochs: Iterable[EpochMetrics]) -> None:
        """Take up epochs, of which a resumed trial may repeat some."""
        known = {metrics.epoch: metrics for metrics in self.epochs}
        known.update({metrics.epoch: metrics for metrics in epochs})
        self.epochs = [known[epoch] for epoch in sorted(known)]

    def add_machine(self, ran_on: str | None) -> None:
        """Take up where the trial runs now; one that moved has been on several."""
        known = self.ran_on.split(MOVED) if self.ran_on else []
        if ran_on and ran_on not in known:
            self.ran_on = MOVED.join([*known, ran_on])

    def outcome(self, state: TrialState) -> dict[str, Any]:
        """What is stored before the trial is told as having come to this state."""
        return {
            "state": state.name,
            "accuracy": self.accuracy,
            "error": self.error,
            "stop_reason": self.stop_reason,
            "checkpoint": self.checkpoint,
            "reused": self.reused,
            "search_seconds": self.search_seconds,
            "ran_on": self.ran_on,
            "cpus": self.cpus,
            "gpus": self.gpus,
            "epochs": [asdict(metrics) for metrics in self.epochs],
        }


def read_record(frozen: optuna.trial.FrozenTrial) -> tuple[TrialRecord, TrialState | None]:
    """Read a trial back, and the state that its stored outcome says, None without an outcome.

    A trial whose outcome is stored and whose state is still RUNNING was about to be told.
    """
    attributes = frozen.user_attrs
    record = TrialRecord(number=frozen.number, state=frozen.state)
    written = attributes.get(RECIPE, attributes.get(ENQUEUED))
    if written is not None:
        record.recipe = recipe_from(written)
    if COST in attributes:
        record.cost = Cost.from_dict(attributes[COST])
    outcome = attributes.get(OUTCOME)
    record.rungs = {int(rung): value for rung, value in attributes.get(RUNGS, {}).items()}
    if outcome is None:
        return record, None
    record.accuracy = outcome["accuracy"]
    record.error = outcome["error"]
    record.checkpoint = outcome["checkpoint"]
    record.reused = outcome["reused"]
    # Older storages lack some of these.
    record.stop_reason = outcome.get("stop_reason")
    record.search_seconds = outcome.get("search_seconds")
    record.ran_on = outcome.get("ran_on")
    record.cpus, record.gpus = outcome.get("cpus"), outcome.get("gpus")
    record.add_epochs(EpochMetrics(**metrics) for metrics in outcome["epochs"])
    return record, TrialState[outcome["state"]]
