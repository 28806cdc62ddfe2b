"""What confirming a front came to, as a table and in sentences."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from analysis.columns import describe_recipe, heading, write_number, write_percent
from analysis.confirmation import Candidate, Confirmation, verdict
from analysis.intervals import Interval
from spaces.recipe import RECIPE_FIELDS

_SAID = {"yes": "yes", "no": "no, others beat it", "open": "open"}
_TOLD = [name for name in RECIPE_FIELDS if name != "seed"]  # the search's: these had others


def confirmation_table(confirmation: Confirmation) -> Table:
    """A row for each candidate, from the cheapest on."""
    run, cost = confirmation.run, confirmation.run.costs[0]
    table = Table(
        title=f"{run.name}: {_counted(confirmation)}, trained again with"
        f" {confirmation.num_seeds} fresh seeds each",
        title_style="bold", title_justify="left", box=SIMPLE_HEAD,
        caption=f"accuracies in %; test: of {confirmation.num_images:,} images that no choice was"
        " made by, with the 95 % interval over seeds and images; non-dominated: in so many of"
        f" {confirmation.draws:,} draws of these",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("trial", justify="right")
    table.add_column(heading(cost), justify="right", width=max(map(len, heading(cost).split())) + 1)
    for name in ("search's validation", "fresh seeds' validation", "test (95 % interval)"):
        table.add_column(name, justify="right", width=20 if name.startswith("test") else 11)
    table.add_column("non-dominated", width=13)
    table.add_column("recipe", overflow="fold")
    rows = zip(
        confirmation.candidates, confirmation.accuracies, confirmation.front_shares, strict=True
    )
    for candidate, accuracy, share in rows:
        table.add_row(
            str(candidate.trial),
            write_number(candidate.row[cost]),
            write_percent(candidate.promised),
            write_percent(candidate.validation.mean()),
            _write_accuracy(accuracy),
            f"{verdict(share)} ({share:.0%})",
            describe_recipe(candidate.row, _TOLD),
        )
    return table


def confirmation_sentences(confirmation: Confirmation) -> list[str]:
    """What the table comes to: the front, the bias, and who is missing."""
    by_verdict: dict[str, list[str]] = {word: [] for word in _SAID}
    for candidate, share in zip(confirmation.candidates, confirmation.front_shares, strict=True):
        by_verdict[verdict(share)].append(str(candidate.trial))
    told = [f"{_SAID[word]}: {', '.join(trials)}" for word, trials in by_verdict.items() if trials]
    return [
        f"truly non-dominated: {'; '.join(told)}",
        "selection bias, the search's validation accuracy minus that of fresh seeds, which is luck"
        f" of the seed: {_write_bias(confirmation.luck)}; minus that on the test split, which is"
        f" all that it promised too much: {_write_bias(confirmation.promised_too_much)}",
        *(_missing(candidate) for candidate in confirmation.candidates if candidate.failures),
        *(_missing(candidate) for candidate in confirmation.failed),
    ]


def _counted(confirmation: Confirmation) -> str:
    count = len(confirmation.candidates)
    return "1 candidate" if count == 1 else f"{count} candidates"


def _write_accuracy(accuracy: Interval) -> str:
    low, high = write_percent(accuracy.low), write_percent(accuracy.high)
    return f"{write_percent(accuracy.mean)} ({low} to {high})"


def _write_bias(bias: Interval) -> str:
    low, high = f"{100 * bias.low:+.1f}", f"{100 * bias.high:+.1f}"
    return f"{100 * bias.mean:+.1f} points (95 %: {low} to {high})"


def _missing(candidate: Candidate) -> str:
    failures = candidate.failures
    rest = "" if len(candidate.seeds) > 1 else "; too few for an interval, so it is left out"
    return f"trial {candidate.trial}: {len(failures)} seeds failed: {failures[0]}{rest}"
