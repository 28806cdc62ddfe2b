"""Why trials were stopped early: their reasons, counted by kind."""

import re
from dataclasses import dataclass

import pandas as pd

from analysis.columns import PRUNED
from analysis.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReason:
    """A kind of reason, with the trials that were stopped for it."""

    kind: str
    num_trials: int
    trial: int
    """The first of them."""
    reason: str
    """That trial's reason in full."""


def stop_reasons(run: Run) -> list[StopReason]:
    """Count the trials that were stopped early by `reason_kind`, the most frequent first.

    Trials without a reason are left out. Older runs have no reasons.
    """
    reasons = run.trials.get("stop_reason")
    if reasons is None:
        return []
    told = (run.trials["state"] == PRUNED) & reasons.notna()
    rows = pd.DataFrame({"trial": run.trials["trial"], "reason": reasons}).loc[told]
    groups = [
        StopReason(
            kind=str(kind),
            num_trials=len(group),
            trial=int(group["trial"].iloc[0]),
            reason=str(group["reason"].iloc[0]),
        )
        for kind, group in rows.groupby(rows["reason"].map(reason_kind), sort=False)
    ]
    return sorted(groups, key=lambda one: -one.num_trials)


def reason_kind(reason: str) -> str:
    """The part of a reason that all reasons of its kind share.

    This is the part before the first colon or, without a colon, that before the first number:
    "rung of 2 epochs: 3 of 5 trials are ahead" is of the kind "rung of 2 epochs", "it would end at
    41.2 %" of the kind "it would end at …". A reason that begins with a number is its own kind.
    """
    kind, colon, _ = reason.partition(":")
    if colon:
        return kind.strip()
    phrase = re.split(r"\d", reason, maxsplit=1)[0].strip()
    return reason if phrase in ("", reason) else f"{phrase} …"
