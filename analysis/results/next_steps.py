"""What to run next, after a search: commands, with what to expect of each."""

import shlex
from dataclasses import dataclass

import numpy as np

from analysis.choose import Selection
from analysis.columns import PAUSED, RUNNING, amount, is_missing
from analysis.results.hypervolume_trace import HypervolumeTrace
from analysis.results.time_spent import write_duration
from analysis.runs import Run
from spaces.columns import LATENCY
from spaces.recipe import Recipe

_SEEDS = 3
"""What `confirm` and `ablate` train by default."""
# Growth is told from this number of finished trials on.
_FEWEST_FINISHED = 8
_STILL_GROWS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """A command, and what to expect of it."""

    command: str
    expected: str


def next_steps(
    run: Run, chosen: Selection, history: HypervolumeTrace, *, place: str, confirmed: bool
) -> list[NextStep]:
    """Commands for what the run lacks, the most urgent first.

    place: the run's folder or address. confirmed: whether its front was trained again already.
    """
    where, steps = shlex.quote(place), []
    counts = run.counts()
    left = [
        f"1 {word} trial" if number == 1 else f"{number:,} {word} trials"
        for number, word in ((counts[RUNNING], "unfinished"), (counts[PAUSED], "paused"))
        if number
    ]
    if left:
        steps.append(
            NextStep(
                command="flopwise search STUDY --resume",
                expected=f"Continues {' and '.join(left)}.",
            )
        )
    front = run.front()
    if not confirmed:
        seconds = _SEEDS * float(np.nansum(front["seconds"].to_numpy(dtype=float)))
        many = "the trial" if len(front) == 1 else f"the {len(front)} trials"
        steps.append(
            NextStep(
                command=f"flopwise confirm {where}",
                expected=f"Trains {many} of the front again with {_SEEDS} fresh seeds each and"
                f" evaluates them on the test split: about {write_duration(seconds)} of worker"
                " time. Expect somewhat lower accuracies, with intervals. Do this before you rely"
                " on a difference between two trials.",
            )
        )
    has = [amount(run.metric, chosen.row[run.metric])]
    has += [
        amount(name, chosen.row[name])
        for name in (LATENCY, "size_mb")
        if not is_missing(chosen.row.get(name))
    ]
    steps.append(
        NextStep(
            command=f"flopwise export {where} --pick {chosen.trial} --format onnx",
            expected=f"Writes the chosen model ({', '.join(has)}) for ONNX Runtime, and checks"
            " it on the validation split.",
        )
    )
    changed = sum(
        chosen.row[name] != value
        for name, value in Recipe().to_dict().items()
        if name not in ("epochs", "seed")
    )
    if changed > 1:
        recipes = 2 * changed
        seconds = _SEEDS * recipes * float(chosen.row["seconds"] or 0.0)
        steps.append(
            NextStep(
                command=f"flopwise ablate {where} --trial {chosen.trial} --against default",
                expected=f"Measures what each of its {changed} differences from the default"
                f" recipe is worth: up to {recipes} recipes with {_SEEDS} seeds each, about"
                f" {write_duration(seconds)} of worker time.",
            )
        )
    return [*steps, *_longer_search(run, history)]


def _longer_search(run: Run, history: HypervolumeTrace) -> list[NextStep]:
    """Whether more trials pay, by how the front grew over the last quarter of finished trials."""
    num_finished, trials = history.num_finished, len(run.trials)
    if num_finished < _FEWEST_FINISHED:
        return []
    last = num_finished // 4
    step = int(np.searchsorted(history.finished, num_finished - last, side="right")) - 1
    before = float(history.hypervolumes[step]) if step >= 0 else 0.0
    grew = float(history.hypervolumes[-1]) / before - 1 if before else np.inf
    seconds = float(np.nansum(run.trials["seconds"].to_numpy(dtype=float)))
    by = f" by {100 * grew:.1f} %" if before else ""
    message = f"The last {last} finished trials raised the front's hypervolume{by}."
    if grew > _STILL_GROWS:
        message += " More trials may still raise it."
    else:
        message += " Expect little from more of them; a wider space (other models, larger inputs)"
        message += " may bring more."
    return [
        NextStep(
            command=f"flopwise search STUDY --resume --trials {2 * trials}",
            expected=f"{message} {trials:,} more trials take about {write_duration(seconds)} of"
            " worker time.",
        )
    ]
