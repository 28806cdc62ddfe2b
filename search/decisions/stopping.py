"""What a stopping rule is. After every epoch of a trial, it decides whether the trial goes on.

The ledger asks the rule, acts on the decision, and records the reason. A rule owns all that it
decides by: rungs, curves, anything that it learns from trials.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from search.decisions.chance import Chance
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.trial_record import TrialRecord

if TYPE_CHECKING:
    from search.decisions.gain.index import GainIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The trial goes on."""

    rungs: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> the study's metric. The ledger stores it: others will be compared with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The trial frees its worker, keeps its checkpoint, and may go on later.

    `StoppingRule.resume` says when.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The trial ends here."""

    reason: str
    """For people, in one clause of the form `what decided: how`."""


Decision = Go | Pause | Stop


@dataclass(slots=True, kw_only=True)
class StoppingContext:
    """What a rule knows besides the trial itself."""

    pareto_tracker: ParetoTracker
    """The front so far. It also turns a trial's numbers into losses."""
    trials: Mapping[int, TrialRecord]
    """All trials of the search, by number."""
    running: Collection[int] = ()
    """The numbers of the trials that run, or that were interrupted and go on next."""
    paused: Collection[int] = ()
    """The numbers of the trials that are paused."""
    chance: Chance | None = None
    """What guessing gets in the study's metric on the validation split; None: not known."""
    index: "GainIndex | None" = None
    """Rates trials by their expected gain. A ledger sets it."""
    spent: Callable[[], str | None] = lambda: None
    """The limit of the budget that is reached; None: a new trial may begin. With `trials`, only a
    paused trial may take the place of one that stops; with any other, none may."""

    @property
    def metric(self) -> str:
        """The metric that the study maximises, or accuracy if it has only costs."""
        return self.pareto_tracker.objectives.shown_metric


class StoppingRule:
    """Decides which trials go on. By itself it stops nothing: rules override what they need.

    The same trials in the same order must lead to the same decisions, even if the search was
    interrupted in between. After a resume, `observe` is called once for each earlier trial.
    """

    rates_by_gain: ClassVar[bool] = False
    """Whether it asks `context.index`, so that something is expected of each trial."""

    def observe(self, trial: TrialRecord, context: StoppingContext) -> None:
        """Add what is known of a trial of an earlier session or run."""

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        """Decide whether a running trial goes on, after the last of `trial.epochs`.

        Also called after the trial's own last epoch: a Stop or a Pause changes nothing then.
        """
        return Go()

    def learn(self, trial: TrialRecord) -> None:
        """Add a complete trial, of this session or of an earlier one."""

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        """The paused trial that a free worker goes on with; None: a new trial begins there.

        paused: in the order of their numbers, at least one. may_begin: whether the budget has a new
        trial left. Without one, None gives up all paused trials once nothing runs.
        """
        return None if may_begin else next(iter(paused))

    def give_up(
        self, paused: Collection[TrialRecord], context: StoppingContext
    ) -> Mapping[int, str]:
        """Paused trials that will never go on, by number, with the reason of each.

        Called before every proposal. Their checkpoints are removed.
        """
        return {}

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which a trial of this many may be stopped. Used for estimates."""
        return []
