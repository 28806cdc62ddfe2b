"""What a stopping rule is. After every epoch of a trial, it decides whether the trial goes on.

The ledger asks the rule, acts on the decision, and records the reason. A rule owns all that it
decides by: rungs, curves, anything that it learns from trials.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from search.decisions.chance import Chance
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.trial_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The trial goes on."""

    rungs: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> accuracy. The ledger stores it, since others will be compared with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The trial frees its worker, keeps its checkpoint, and may go on later."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The trial ends here."""

    reason: str
    """For people, in one clause of the form `what decided: how`."""


Decision = Go | Pause | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingContext:
    """What a rule knows besides the trial itself."""

    pareto_tracker: ParetoTracker
    """The front so far. It also turns a trial's numbers into losses."""
    trials: Mapping[int, TrialRecord]
    """All trials of the search, by number."""
    chance: Chance | None = None
    """What guessing gets on the validation split; None: not known."""


class StoppingRule(Protocol):
    """Decides which trials go on.

    The same trials in the same order must lead to the same decisions, even if the search was
    interrupted in between. After a resume, `observe` is called once for each earlier trial.
    """

    def observe(self, trial: TrialRecord, context: StoppingContext) -> None:
        """Add what is known of a trial of an earlier session or run."""
        ...

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        """Decide whether a running trial goes on, after the last of `trial.epochs`.

        Also called after the trial's own last epoch: a Stop changes nothing then.
        """
        ...

    def learn(self, trial: TrialRecord) -> None:
        """Add a complete trial, of this session or of an earlier one."""
        ...

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which a trial of this many may be stopped. Used for estimates."""
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
