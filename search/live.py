"""The live table of a search: what runs, what has finished, the front, and the time left."""

import time
from types import TracebackType

from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.columns import ACCURACY, describe_recipe
from search.engine import Progress
from search.ledger import TrialRecord
from spaces.recipe import RECIPE_FIELDS

_MAX_FRONT_ROWS = 12


class LiveTable:
    """Shows a search as it goes: a table in a terminal, a line a finished trial elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[int] = set()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "LiveTable":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw the table anew, or print what has finished since the last call."""
        if self._live is not None:
            self._live.update(render(progress), refresh=True)
            return
        for record in progress.ledger.records.values():
            if record.state.is_finished() and record.number not in self._told:
                self._told.add(record.number)
                self._console.print(_line(record), soft_wrap=True, highlight=False, markup=False)


def render(progress: Progress) -> Group:
    """The whole picture of a search at this moment."""
    objectives = list(progress.study.objectives)
    running = Table(title="running", title_justify="left", box=None, pad_edge=False)
    for heading in ("trial", "recipe", "epoch", "accuracy"):
        running.add_column(heading, justify="left" if heading == "recipe" else "right")
    for record in progress.ledger.in_state(TrialState.RUNNING):
        accuracy = f"{record.epochs[-1].accuracy:.1%}" if record.epochs else "-"
        epoch = f"{len(record.epochs)}/{record.recipe.epochs}"
        running.add_row(str(record.number), describe(record), epoch, accuracy)
    front = Table(title="front", title_justify="left", box=None, pad_edge=False)
    for heading in ("trial", "recipe", *objectives):
        front.add_column(heading, justify="left" if heading == "recipe" else "right")
    on_front = progress.ledger.front()
    for record in on_front[:_MAX_FRONT_ROWS]:
        values = [_value(record, name) for name in objectives]
        front.add_row(str(record.number), describe(record), *values)
    parts = [_headline(progress), running, front]
    if len(on_front) > _MAX_FRONT_ROWS:
        parts.append(Text(f"and {len(on_front) - _MAX_FRONT_ROWS} more on the front"))
    return Group(*parts)


def describe(record: TrialRecord) -> str:
    """A recipe in few words; how many epochs it has is told beside."""
    shown = [field for field in RECIPE_FIELDS if field not in ("weights", "epochs", "seed")]
    return describe_recipe(record.recipe.to_dict(), shown)


def time_left(progress: Progress) -> float | None:
    """Seconds until the budget is used up, from what trials took so far; None: too early to say."""
    budget = progress.study.budget
    by_clock = None if budget.hours is None else budget.hours * 3600 - progress.seconds
    trained = [
        record
        for record in progress.ledger.records.values()
        if record.state.is_finished() and record.epochs
    ]
    if budget.trials is None or not trained:
        return by_clock
    open_trials = budget.trials - sum(
        record.state.is_finished() for record in progress.ledger.records.values()
    )
    each = sum(record.seconds for record in trained) / len(trained)
    by_trials = open_trials * each / progress.num_workers
    return by_trials if by_clock is None else min(by_trials, by_clock)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _headline(progress: Progress) -> Text:
    records = progress.ledger.records.values()
    counts = {
        "complete": sum(record.state == TrialState.COMPLETE for record in records),
        "failed": sum(record.state == TrialState.FAIL for record in records),
        "running": sum(record.state == TrialState.RUNNING for record in records),
    }
    budget = progress.study.budget.trials
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    of = f" of {budget}" if budget else ""
    left = time_left(progress)
    line = f"{progress.study.name}: {len(records)}{of} trials ({told}), {clock(progress.seconds)}"
    if left is not None:
        line += f", about {clock(left)} left"
    return Text(line, style="bold")


def _line(record: TrialRecord) -> str:
    stamp = time.strftime("%H:%M:%S")
    head = f"{stamp} trial {record.number}: {describe(record)}"
    if record.state == TrialState.FAIL:
        return f"{head}: failed: {record.error}"
    told = f"{head}: {record.accuracy:.1%}" if record.accuracy is not None else head
    if record.cost is not None:
        told += f" at {record.cost.gflops:.3g} GFLOPs"
    if record.reused is not None:
        return f"{told}, the result of trial {record.reused}, which had the same recipe"
    return f"{told}, {record.seconds:.0f} s"


def _value(record: TrialRecord, objective: str) -> str:
    if objective == ACCURACY:
        return f"{record.accuracy:.1%}"
    return f"{getattr(record.cost, objective):.4g}"
