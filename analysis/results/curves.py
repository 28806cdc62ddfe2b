"""Learning curves of a run's front: accuracy and loss, epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.columns import write_percent
from analysis.pareto.front import FloatArray
from analysis.plot_style import OKABE_ITO, mark_label
from analysis.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One trial's epochs; every array is (epochs,)."""

    trial: int
    label: str
    colour: str
    epoch: FloatArray
    metric: FloatArray
    """The run's metric on the validation split, 0 to 1."""
    train_accuracy: FloatArray
    """Training measures no other metric."""
    val_loss: FloatArray
    train_loss: FloatArray


def front_curves(run: Run, most: int = 6) -> list[Curve]:
    """The curves of at most `most` trials: both ends of the front, the others evenly between.

    A trial that took over another one's result has no curve of its own and is left out.
    """
    front = run.front()
    front = front.loc[front["trial"].isin(run.epochs["trial"])].reset_index(drop=True)
    if len(front) > most:
        indices = [round(step * (len(front) - 1) / (most - 1)) for step in range(most)]
        front = front.iloc[sorted(set(indices))]
    return [
        _curve(run, row, OKABE_ITO[index % len(OKABE_ITO)])
        for index, row in enumerate(front.to_dict("records"))
    ]


def _curve(run: Run, row: Mapping[Any, Any], colour: str) -> Curve:
    epochs = run.epochs.loc[run.epochs["trial"] == row["trial"]].sort_values("epoch")
    columns = {
        name: epochs[name].to_numpy(dtype=float)
        for name in ("epoch", "train_accuracy", "val_loss", "train_loss")
    }
    label = f"{row['trial']}: {mark_label(row)}, {write_percent(row[run.metric])} %"
    metric = epochs[run.metric].to_numpy(dtype=float)
    return Curve(trial=int(row["trial"]), label=label, colour=colour, metric=metric, **columns)
