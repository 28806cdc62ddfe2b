"""A stopping rule that pauses, and the command line with it: python tests/pausing.py search ..."""

from collections.abc import Collection, Mapping

from search import cli
from search.decisions.stopping import Decision, Go, Pause, StoppingContext, StoppingRule
from search.decisions.stopping_rules import STOPPING_RULES
from search.decisions.trial_record import TrialRecord

HALFWAY = "halfway"


class HalfwayRule(StoppingRule):
    """Pauses every trial halfway, and gives up every third one.

    Of two that wait, the better one goes on. Once no trial may begin, all that are left go on.
    """

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        assert trial.recipe is not None
        epoch = len(trial.epochs)
        return Pause(reason=f"halfway: epoch {epoch}") if 2 * epoch == trial.recipe.epochs else Go()

    def give_up(
        self, paused: Collection[TrialRecord], context: StoppingContext
    ) -> Mapping[int, str]:
        return {one.number: "third: no hope" for one in paused if one.number % 3 == 2}

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        return None if may_begin and len(paused) < 2 else max(paused, key=_rank)


def _rank(record: TrialRecord) -> tuple[float, int]:
    return record.epochs[-1].accuracy, -record.number


def register() -> None:
    STOPPING_RULES[HALFWAY] = lambda _settings, _objectives: HalfwayRule()


if __name__ == "__main__":
    register()
    cli.main()
