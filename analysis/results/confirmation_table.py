"""A confirmation as a table and in sentences, for terminals and pages."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analysis.columns import describe_recipe, heading, in_a_sentence, write_number, write_percent
from analysis.results.confirmation import Confirmation, ConfirmedTrial, verdict
from spaces.intervals import Interval
from spaces.recipe import RECIPE_FIELDS

TEST = "test (95 % interval)"
TOO_MUCH = "search's validation minus test (points)"
NON_DOMINATED = "non-dominated"
_SAID = {"yes": "yes", "no": "no, others beat it", "open": "open"}
_TOLD = [name for name in RECIPE_FIELDS if name != "seed"]  # each candidate has several seeds


def confirmation_table(confirmation: Confirmation) -> Table:
    """A row for each candidate, the cheapest first."""
    run = confirmation.run
    table = Table(
        title=f"{run.name}: {_counted(confirmation)}, trained again with"
        f" {confirmation.num_seeds} fresh seeds each",
        title_style="bold", title_justify="left", box=SIMPLE_HEAD,
        caption=Text(confirmation_note(confirmation), style="table.caption"),
        caption_justify="left",
    )  # fmt: skip
    columns = confirmation_columns(confirmation)
    del columns[TOO_MUCH]  # no room for it; a sentence has its mean
    cost = heading(run.costs[0])
    widths = {cost: max(map(len, cost.split())) + 1, TEST: 20, NON_DOMINATED: 13}
    table.add_column("trial", justify="right")
    for name in columns:
        justify = "left" if name == NON_DOMINATED else "right"
        table.add_column(name, justify=justify, width=widths.get(name, 11))
    table.add_column("recipe", overflow="fold")
    for row, candidate in enumerate(confirmation.candidates):
        cells = [column[row] for column in columns.values()]
        table.add_row(str(candidate.trial), *cells, describe_candidate(candidate))
    return table


def confirmation_columns(confirmation: Confirmation) -> dict[str, list[str]]:
    """Cells by heading, the cheapest candidate first; without its trial and its recipe."""
    run, candidates = confirmation.run, confirmation.candidates
    cost = run.costs[0]
    return {
        heading(cost): [write_number(candidate.row[cost]) for candidate in candidates],
        "search's validation": [write_percent(candidate.promised) for candidate in candidates],
        "fresh seeds' validation": [write_percent(one.validation.mean()) for one in candidates],
        TEST: [accuracy.write_percent() for accuracy in confirmation.accuracies],
        TOO_MUCH: [f"{100 * candidate.optimism:+.1f}" for candidate in candidates],
        NON_DOMINATED: [f"{verdict(share)} ({share:.0%})" for share in confirmation.front_shares],
    }


def describe_candidate(candidate: ConfirmedTrial) -> str:
    """A candidate's recipe in few words."""
    return describe_recipe(candidate.row, _TOLD)


def confirmation_note(confirmation: Confirmation) -> str:
    """How to read the columns."""
    metric = in_a_sentence(confirmation.run.metric)
    return (
        f"{metric} in %; test: on {confirmation.num_images:,} images that no choice used, with"
        " the 95 % interval over seeds and images; non-dominated: the share of"
        f" {confirmation.draws:,} draws of seeds and images in which no other dominates it"
    )


def confirmation_sentences(confirmation: Confirmation) -> list[str]:
    """What follows from the table: the front, the biases, and which seeds failed."""
    metric = in_a_sentence(confirmation.run.metric)
    by_verdict: dict[str, list[str]] = {word: [] for word in _SAID}
    for candidate, share in zip(confirmation.candidates, confirmation.front_shares, strict=True):
        by_verdict[verdict(share)].append(str(candidate.trial))
    message = [
        f"{_SAID[word]}: {', '.join(trials)}" for word, trials in by_verdict.items() if trials
    ]
    return [
        f"truly non-dominated: {'; '.join(message)}",
        f"optimism (total overestimate: the search's validation {metric} minus the test {metric}):"
        f" {_write_bias(confirmation.optimism)}",
        f"seed bias (the part that was seed luck: the search's validation {metric} minus that of"
        f" fresh seeds): {_write_bias(confirmation.seed_bias)}",
        *(_missing(candidate) for candidate in confirmation.candidates if candidate.failures),
        *(_missing(candidate) for candidate in confirmation.failed),
    ]


def _counted(confirmation: Confirmation) -> str:
    count = len(confirmation.candidates)
    return "1 candidate" if count == 1 else f"{count} candidates"


def _write_bias(bias: Interval) -> str:
    low, high = f"{100 * bias.low:+.1f}", f"{100 * bias.high:+.1f}"
    return f"{100 * bias.mean:+.1f} points (95 %: {low} to {high})"


def _missing(candidate: ConfirmedTrial) -> str:
    failures = candidate.failures
    rest = "" if len(candidate.seeds) > 1 else "; too few for an interval, so it is left out"
    return f"trial {candidate.trial}: {len(failures)} seeds failed: {failures[0]}{rest}"
