"""Finished trials of earlier runs, by what they are to a search with this space and this data."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.decisions.gain.encoding import Encoding
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.trial_record import TrialRecord
from spaces.dimensions import Fixed
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace

_SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierTrials:
    """Complete trials of earlier runs, sorted. Their numbers are below 0."""

    results: Sequence[TrialRecord] = ()
    """Of this data, with recipes of this space. They count as results of this search."""
    guides: Sequence[TrialRecord] = ()
    """Outside this space, or of the data before it grew. Their accuracies are no results of this
    search: only the model of accuracy learns from their curves."""
    left_out: Sequence[TrialRecord] = ()
    """Nothing learns from them: they differ in fields that this space does not search."""
    left_out_fields: Sequence[str] = ()
    """Those fields."""
    first: Sequence[Recipe] = ()
    """To be proposed before any others: the front of the results, then that of the earlier data.
    All of them lie in this space."""

    @property
    def all(self) -> list[TrialRecord]:
        return [*self.results, *self.guides, *self.left_out]


def sort_earlier(
    records: Sequence[TrialRecord], space: SearchSpace, objectives: Objectives
) -> EarlierTrials:
    """Sort complete trials of earlier runs. Their recipes may have any seed."""
    encoding = Encoding(space.rules)
    results, guides, left_out = [], [], []
    inside: dict[str | None, list[TrialRecord]] = {None: []}  # by data, this search's first
    unknown: dict[str, None] = {}
    for record in records:
        assert record.recipe is not None
        fields = [name for name in space.fields_outside(record.recipe) if name != _SEED]
        hidden = [name for name in fields if not encoding.tells_apart(name, record.recipe)]
        if hidden:
            left_out.append(record)
            unknown.update(dict.fromkeys(hidden))
            continue
        if not fields:
            inside.setdefault(record.data, []).append(record)
        (guides if fields or record.data is not None else results).append(record)
    first = [
        record.recipe if record.data is None else _with_seed_of(space, record.recipe)
        for on_one_data in inside.values()
        for record in _front(on_one_data, objectives)
        if record.recipe is not None
    ]
    return EarlierTrials(
        results=results,
        guides=guides,
        left_out=left_out,
        left_out_fields=list(unknown),
        first=list({recipe.key: recipe for recipe in first}.values()),
    )


def describe_earlier(earlier: EarlierTrials, *, learns: bool) -> str:
    """One line for people. learns: whether the search has a model of accuracy."""
    of_earlier_data = [record for record in earlier.guides if record.data is not None]
    num_outside = len(earlier.guides) - len(of_earlier_data)
    parts = []
    if earlier.results:
        parts.append(f"{_trials(len(earlier.results))} as results")
    if of_earlier_data:
        use = "to foresee accuracies" if learns else "for the recipes of their front"
        parts.append(
            f"{_trials(len(of_earlier_data))} of the data before it grew, only {use}: their own"
            " accuracies are not shown"
        )
    if num_outside:
        use = "only to foresee accuracies" if learns else "not used: only gain learns from them"
        parts.append(f"{_trials(num_outside)} outside this space, {use}")
    if earlier.left_out:
        parts.append(
            f"{_trials(len(earlier.left_out))} not used, which differ in what this space does not"
            f" search ({', '.join(earlier.left_out_fields)})"
        )
    if earlier.first:
        parts.append(f"first come the recipes of the earlier front: {len(earlier.first):,}")
    return "; ".join(parts) or "no finished trial"


def _trials(count: int) -> str:
    return f"{count:,} trial{'' if count == 1 else 's'}"


def _front(records: Sequence[TrialRecord], objectives: Objectives) -> list[TrialRecord]:
    tracker = ParetoTracker(objectives)
    for record in records:
        tracker.take_in(record)
    return tracker.front()


def _with_seed_of(space: SearchSpace, recipe: Recipe) -> Recipe:
    """It has to be trained again, so as this search's own recipes are."""
    rule = space.rules.get(_SEED)
    if rule is None or not isinstance(rule.dimension, Fixed):
        return recipe
    return recipe.replace(seed=rule.dimension.value)
