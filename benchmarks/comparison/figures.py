"""Figures from searches that have ended: equal recipes compared, hypervolume over time."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from peers.task import DIMENSIONS

from analysis.pareto.front import hypervolume
from comparison.searches import Search, Trained


class Volume:
    """Hypervolume in one fixed box: accuracy from 0 up, cost to 1.1 times the largest model's."""

    def __init__(self, largest_gflops: float) -> None:
        self._largest = largest_gflops

    def of(self, trials: Sequence[Trained]) -> float:
        """Share of the box that finished trials dominate, 0 to 1."""
        losses = np.array(
            [[-(trial.accuracy or 0.0), trial.gflops / self._largest] for trial in trials],
            dtype=float,
        ).reshape(-1, 2)
        return hypervolume(losses, (0.0, 1.1)) / 1.1

    def seconds_to(self, search: Search, wanted: float) -> float:
        """When finished trials first had this hypervolume, preparing included; infinite: never."""
        ended = sorted(search.finished, key=lambda trial: trial.ended)
        for count in range(1, len(ended) + 1):
            if self.of(ended[:count]) >= wanted - 1e-12:
                return search.prepared_seconds + ended[count - 1].ended
        return math.inf


def same_recipes(peer: Search, ours: Search) -> dict[str, Any]:
    """Times and accuracies of two searches that ran the same recipes; differences: ours - theirs.

    Of wall times: the whole process, its start included, and ours with the data prepared.
    """
    theirs_by = {_identity(trial): trial for trial in peer.finished}
    ours_by = {_identity(trial): trial for trial in ours.finished}
    shared = [key for key in theirs_by if key in ours_by]
    differences = [
        (ours_by[key].accuracy or 0.0) - (theirs_by[key].accuracy or 0.0) for key in shared
    ]
    all_ours = ours.prepared_seconds + ours.seconds
    return {
        "recipes": len(shared),
        "peer_seconds": peer.seconds,
        "peer_seconds_before_first_trial": min(trial.began for trial in peer.trials),
        "flopwise_seconds": all_ours,
        "flopwise_prepare_seconds": ours.prepared_seconds,
        "flopwise_search_seconds": ours.seconds,
        "flopwise_seconds_before_first_trial": min(
            trial.ended - (trial.training_seconds or 0.0) for trial in ours.trials
        ),
        "times_faster": peer.seconds / all_ours,
        "mean_accuracy_peer": _mean([theirs_by[key].accuracy or 0.0 for key in shared]),
        "mean_accuracy_flopwise": _mean([ours_by[key].accuracy or 0.0 for key in shared]),
        "mean_difference": _mean(differences),
        "largest_difference_up": max(differences, default=0.0),
        "largest_difference_down": min(differences, default=0.0),
        "by_recipe": [
            {
                **dict(zip(DIMENSIONS, key, strict=True)),
                "peer_accuracy": theirs_by[key].accuracy,
                "flopwise_accuracy": ours_by[key].accuracy,
                "peer_seconds": theirs_by[key].ended - theirs_by[key].began,
                "flopwise_training_seconds": ours_by[key].training_seconds,
            }
            for key in shared
        ],
    }


def time_to_volume(peer: Search, ours: Sequence[Search], volume: Volume) -> dict[str, Any]:
    """When each of our searches first had the hypervolume of the peer's whole result."""
    wanted = volume.of(peer.finished)
    seconds = [volume.seconds_to(search, wanted) for search in ours]
    median = _median(seconds)
    itself = volume.seconds_to(peer, wanted)
    return {
        "hypervolume": wanted,
        "peer_best_accuracy": max((trial.accuracy or 0.0 for trial in peer.finished), default=0.0),
        "peer_seconds": peer.seconds,
        "peer_seconds_until_it_had_this": _finite(itself),
        "peer_finished": len(peer.finished),
        "flopwise_seconds": [_finite(value) for value in seconds],
        "flopwise_median_seconds": _finite(median),
        "times_less": peer.seconds / median,
        "times_less_than_when_the_peer_had_it": itself / median if median < math.inf else 0.0,
    }


def share_of_pure_steps(
    pure: Sequence[tuple[float, float]], ours: Search, workers: int
) -> dict[str, Any]:
    """Pure steps as a share of worker time; see `comparison.limit`."""
    training, validation = (sum(column) for column in zip(*pure, strict=True))
    pure_seconds = training + validation
    in_epochs = sum(trial.training_seconds or 0.0 for trial in ours.trials)
    whole = workers * (ours.prepared_seconds + ours.seconds)
    running = workers * (max(t.ended for t in ours.trials) - min(t.began for t in ours.trials))
    return {
        "pure_training_seconds": training,
        "pure_validation_seconds": validation,
        "worker_seconds_whole": whole,
        "worker_seconds_first_to_last_trial": running,
        "worker_seconds_in_epochs": in_epochs,
        "share_of_whole": pure_seconds / whole,
        "share_first_to_last_trial": pure_seconds / running,
        "share_of_epochs": pure_seconds / in_epochs,
        "share_of_whole_without_validation": training / whole,
    }


def _identity(trial: Trained) -> tuple[Any, ...]:
    return tuple(trial.recipe[name] for name in DIMENSIONS)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _median(seconds: Sequence[float]) -> float:
    """The middle one, of an even number the larger: some may be infinite."""
    return sorted(seconds)[len(seconds) // 2]


def _finite(value: float) -> float | None:
    """None in the place of infinity, which JSON has not."""
    return value if math.isfinite(value) else None
