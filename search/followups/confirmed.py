"""What `confirm` has found of a run. Commands wait for Ray's import only if there is something."""

from analysis.results.confirmation import accuracies_on_test_split
from analysis.runs import Run
from spaces.intervals import Interval

CONFIRM_FOLDER = "confirm"


def confirmed_accuracies(run: Run) -> dict[int, Interval]:
    """Trial of the front -> accuracy on the test split, of those that were trained again.

    Raises UserError if a table of `confirm` is damaged.
    """
    if not (run.path / CONFIRM_FOLDER).is_dir():
        return {}
    from search.followups.confirm import recall_confirmation

    return accuracies_on_test_split(recall_confirmation(run))
