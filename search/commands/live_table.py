"""The live table of a search: running trials, finished trials, the front, and the time left."""

import time
from collections.abc import Sequence
from types import TracebackType

from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.columns import describe_recipe, heading, in_a_sentence, write_number, write_percent
from search.commands.time_left import time_left
from search.decisions.trial_record import TrialRecord
from search.engine import Progress
from spaces.columns import ACCURACY, is_metric
from spaces.objectives import Objectives
from spaces.recipe import RECIPE_FIELDS

_MAX_FRONT_ROWS = 12
_MAX_FINISHED_ROWS = 4
_STOPPING = "stopping; running trials are saved; Ctrl-C again ends at once"


class LiveTable:
    """Shows a running search: in a terminal a table, elsewhere a line for each finished trial."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reported: dict[int, TrialRecord] | None = None
        self._stopping = False
        self._live: Live | None = None
        if console.is_terminal:
            # Transient: the command prints the results in its place when the search ends.
            waiting = Text("checking the study, starting Ray ...")
            self._live = Live(waiting, console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveTable":
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, what: str) -> None:
        """Show a step before the search begins; only in a terminal, where the next replaces it."""
        if self._live is not None:
            self._live.update(Text(what), refresh=True)

    def announce(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def show(self, progress: Progress) -> None:
        """Redraw the table, or print the trials that finished since the last call.

        The first call comes before the search: trials that are finished by then are not printed.
        """
        finished = [r for r in progress.ledger.records.values() if r.state.is_finished()]
        if self._reported is None:
            self._reported = {record.number: record for record in finished}
            if progress.study.resource_choice:
                message = f"resources: {progress.study.resource_choice['told']}"
                self.announce(message)
        new = [record for record in finished if record.number not in self._reported]
        self._reported.update({record.number: record for record in new})
        if self._live is None:
            for line in _lines(new, progress.study.objectives):
                self.announce(line)
        if progress.stopping and not self._stopping and self._live is None:
            self._console.print(_STOPPING)
        self._stopping = progress.stopping
        if self._live is not None:
            latest = list(self._reported.values())[-_MAX_FINISHED_ROWS:]
            self._live.update(render(progress, latest), refresh=True)


def render(progress: Progress, latest: Sequence[TrialRecord]) -> Group:
    """Draw a search as it stands now. latest: the trials that finished last."""
    objectives, metric = list(progress.study.objectives), progress.study.objectives.shown_metric
    on_front = progress.ledger.front()
    running = _table("running", "epoch", in_a_sentence(metric))
    for record in progress.ledger.unfinished():
        epochs = record.known_epochs
        reached = f"{epochs[-1][metric]:.1%}" if epochs else "-"
        reached = progress.phases.get(record.number, reached)
        epoch = f"{len(epochs)}/{record.recipe.epochs if record.recipe else 0}"
        running.add_row(str(record.number), describe(record), epoch, reached)
    finished = _table("finished last", "seconds", in_a_sentence(metric))
    for record in reversed(latest):
        message = Text(record.error or describe(record))
        finished.add_row(
            str(record.number), message, f"{record.seconds:.0f}", _came_to(record, metric)
        )
    front = _table("front", *(heading(name) for name in objectives))
    points: dict[tuple[str, ...], TrialRecord] = {}
    for record in on_front:
        points.setdefault(tuple(_value(record, name) for name in objectives), record)
    for values, record in list(points.items())[-_MAX_FRONT_ROWS:]:
        front.add_row(str(record.number), describe(record), *values)
    parts = [_headline(progress), running, finished, front]
    if len(points) > _MAX_FRONT_ROWS:
        parts.append(Text(f"and {len(points) - _MAX_FRONT_ROWS} cheaper ones"))
    return Group(*parts)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, expand=True)
    table.add_column("trial", justify="right", width=5)
    table.add_column("recipe", ratio=1, no_wrap=True)
    for name in headings:
        table.add_column(Text(name), justify="right", min_width=10)
    return table


def describe(record: TrialRecord) -> str:
    """Describe a recipe in few words, without its epochs, which have a column of their own."""
    if record.recipe is None:
        return "no recipe"
    shown = [field for field in RECIPE_FIELDS if field not in ("weights", "epochs", "seed")]
    return describe_recipe(record.recipe.to_dict(), shown)


def _came_to(record: TrialRecord, metric: str) -> str:
    if record.state == TrialState.FAIL:
        return "failed"
    if record.state == TrialState.PRUNED:
        return "not begun" if record.refused else f"stopped at {len(record.epochs)}"
    return write_percent(record.metrics.get(metric)) + "%"


def clock(seconds: float) -> str:
    """Write seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _headline(progress: Progress) -> Text:
    records = progress.ledger.records.values()
    pareto_tracker = progress.ledger.pareto_tracker
    counts = {
        "complete": pareto_tracker.counts[TrialState.COMPLETE],
        "stopped early": pareto_tracker.counts[TrialState.PRUNED] - pareto_tracker.num_refused,
        "not begun": pareto_tracker.num_refused,
        "failed": pareto_tracker.counts[TrialState.FAIL],
        "running": len(progress.ledger.unfinished()),
        "paused": len(progress.ledger.paused),
    }
    budget = progress.study.budget.trials
    message = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    of = f" of {budget}" if budget else ""
    left = time_left(progress)
    line = (
        f"{progress.study.name}: {len(records)}{of} trials ({message}), {clock(progress.seconds)}"
    )
    if progress.stopping:
        line += f", {_STOPPING}"
    elif left is not None:
        line += f", about {clock(left)} left"
    return Text(line, style="bold")


def _lines(records: Sequence[TrialRecord], objectives: Objectives) -> list[str]:
    """A line for each trial, but one for all that did not begin: there may be hundreds at once."""
    refused = [record for record in records if record.refused]
    if len(refused) < 2:
        return [_line(record, objectives) for record in records]
    lines = [_line(record, objectives) for record in records if not record.refused]
    last = refused[-1]
    return [
        *lines,
        f"{time.strftime('%H:%M:%S')} {len(refused)} trials, {refused[0].number} to {last.number}:"
        f" not begun; the last: {last.error}",
    ]


def _line(record: TrialRecord, objectives: Objectives) -> str:
    stamp = time.strftime("%H:%M:%S")
    head = f"{stamp} trial {record.number}: {describe(record)}"
    if record.state == TrialState.FAIL:
        return f"{head}: failed: {record.error}"
    if record.refused:
        return f"{head}: not begun: {record.error}"
    if record.state == TrialState.PRUNED:
        if record.reused is not None:
            return f"{head}: stopped early, as trial {record.reused}, which had the same recipe"
        trained = f"{len(record.epochs)} of {record.recipe.epochs if record.recipe else 0} epochs"
        why = f" ({record.stop_reason})" if record.stop_reason else ""
        return f"{head}: stopped early after {trained}, {record.seconds:.0f} s{why}"
    reached = record.metrics.get(objectives.shown_metric)
    message = f"{head}: {reached:.1%}" if reached is not None else head
    if objectives.shown_metric != ACCURACY:
        message += f" {in_a_sentence(objectives.shown_metric)}"
    if record.cost is not None:
        shown = (f"{_value(record, cost)} {heading(cost)}" for cost in objectives.costs)
        message += f" at {', '.join(shown)}"
    if record.reused is not None:
        whose = f"trial {record.reused}" if record.reused >= 0 else "an earlier run"
        return f"{message}, the result of {whose}, which had the same recipe"
    return f"{message}, {record.seconds:.0f} s"


def _value(record: TrialRecord, objective: str) -> str:
    if is_metric(objective):
        return write_percent(record.metrics.get(objective))
    return write_number(record.cost and record.cost[objective])
