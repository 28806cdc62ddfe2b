"""What a stopping rule is: asked after every epoch of a trial, it answers with a decision.

The ledger asks, does as it is told, and writes the reason down. A rule owns whatever it decides by:
rungs, curves, anything that it learns from trials.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The trial goes on."""

    rungs: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> accuracy that others will be compared with: what has to survive this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The trial gives its worker back, keeps its checkpoint, and may go on later."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The trial ends here."""

    reason: str
    """For people, in a clause; of the form `what decided: how`."""


Decision = Go | Pause | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingContext:
    """What is known beside the trial itself."""

    pareto_tracker: ParetoTracker
    """The front so far, and how losses are told from numbers."""
    trials: Mapping[int, TrialRecord]
    """All trials of the search, by number."""


class StoppingRule(Protocol):
    """Decides which trials go on.

    The same trials, reported in the same order, have to lead to the same decisions, also where a
    search was interrupted in between: `observe` is then called once for each trial of before.
    """

    def observe(self, trial: TrialRecord, context: StoppingContext) -> None:
        """Take up what is known of a trial of an earlier session or run."""
        ...

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        """Whether a running trial goes on after the last of `trial.epochs`.

        Also asked after the trial's own last epoch, for its rungs: a Stop then changes nothing.
        """
        ...

    def learn(self, trial: TrialRecord) -> None:
        """Take up a trial that has run to its end, of this session or of an earlier one."""
        ...

    def rungs(self, epochs: int) -> list[int]:
        """Epochs at which a trial of so many may be stopped, for estimates."""
        ...


class RunToTheEnd:
    """Stops nothing."""

    def observe(self, trial: TrialRecord, context: StoppingContext) -> None:
        pass

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        return Go()

    def learn(self, trial: TrialRecord) -> None:
        pass

    def rungs(self, epochs: int) -> list[int]:
        return []
