"""What always answering the largest class would get: the line to hold every metric against."""

from collections.abc import Sequence

from analysis.columns import amount
from analysis.runs import Run
from spaces.columns import ACCURACY
from spaces.metrics import naming_the_largest

_TOLD = (ACCURACY, "balanced_accuracy", "macro_f1")


def describe_guess(run: Run) -> str:
    """In the run's metric, for instance: always answering cat would get 38.0 % accuracy.

    Empty where the run did not record its classes.
    """
    counts = run.class_counts
    if not counts:
        return ""
    reached = naming_the_largest(run.metric, counts, largest_class=run.largest_class)
    if reached is None:
        return ""
    return f"always answering {run.largest_class or 'the largest class'} would get " + amount(
        run.metric, reached
    )


def describe_guess_on(classes: Sequence[str], counts: Sequence[int]) -> str:
    """Of data: what always answering the largest class would get on the validation split.

    counts: validation images of each class, in the order of the classes. Empty where there are
    none.
    """
    if not sum(counts):
        return ""
    most = max(range(len(counts)), key=counts.__getitem__)
    reached = [amount(metric, naming_the_largest(metric, counts)) for metric in _TOLD]
    return (
        f"always answering {classes[most]} ({counts[most]:,} of {sum(counts):,} validation images)"
        f" would get {', '.join(reached)}"
    )
