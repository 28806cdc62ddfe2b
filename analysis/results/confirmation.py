"""The results of a confirmation: the candidates' accuracies, the front, the bias."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from analysis.columns import plain_row
from analysis.pareto.front import BoolArray, Box, FloatArray
from analysis.pareto.intervals import accuracy_interval, images_margin, mean_over_groups
from analysis.pareto.uncertain_front import (
    DRAWS,
    attainment,
    draw_accuracies,
    front_shares,
    most_contributing,
)
from analysis.runs import Run
from spaces.columns import ACCURACY, COSTS
from spaces.intervals import Interval
from spaces.recipe import RECIPE_FIELDS

# A candidate is non-dominated from this share of the draws on, dominated up to 1 - SURE, else open.
SURE = 0.95
# The percentage of draws that reach each surface: 95 % lie between the outer two.
_BAND = (2.5, 50.0, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedTrial:
    """A trial of the front, trained again with fresh seeds."""

    row: dict[str, Any]
    """Its row of the search's trials as plain values."""
    seeds: tuple[int, ...]
    """Seeds that finished."""
    validation: FloatArray
    """(seeds,): accuracies on the validation split."""
    correct: BoolArray
    """(seeds, images): whether each image of the test split was classified right."""
    failures: tuple[str, ...] = ()
    """Why other seeds failed."""

    @property
    def trial(self) -> int:
        return self.row["trial"]

    @property
    def promised(self) -> float:
        """The accuracy that the search saw, on the validation split."""
        return self.row[ACCURACY]

    @property
    def optimism(self) -> float:
        """How far `promised` lies above the accuracy on the test split."""
        return self.promised - float(self.correct.mean())


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Confirmed candidates, and what follows for the front."""

    run: Run
    candidates: tuple[ConfirmedTrial, ...]
    """Candidates of which two seeds or more finished, the cheapest first."""
    failed: tuple[ConfirmedTrial, ...]
    """The other candidates: only their failures are reported."""
    num_seeds: int
    """Seeds of each candidate that the user asked for."""
    draws: int = DRAWS
    seed: int = 0
    """Seed of the draws."""

    @cached_property
    def costs(self) -> FloatArray:
        """(candidates,): the run's first cost of each."""
        cost = self.run.costs[0]
        return np.array([candidate.row[cost] for candidate in self.candidates], dtype=float)

    @cached_property
    def accuracies(self) -> tuple[Interval, ...]:
        """For each candidate, the test accuracy with its interval over seeds and images."""
        return tuple(accuracy_interval(candidate.correct) for candidate in self.candidates)

    @cached_property
    def drawn(self) -> FloatArray:
        """(draws, candidates): see `analysis.pareto.uncertain_front.draw_accuracies`."""
        correct = [candidate.correct for candidate in self.candidates]
        return draw_accuracies(correct, draws=self.draws, seed=self.seed)

    @cached_property
    def band(self) -> tuple[FloatArray, FloatArray]:
        """Where the drawn fronts lie: (costs,), rising, and accuracies (3, costs) from each on.

        2.5 % of the draws reach the first row, half of them the second, 97.5 % the last.
        """
        order = np.argsort(self.costs, kind="stable")
        costs, firsts = np.unique(self.costs[order], return_index=True)
        # Of candidates with the same cost, a front has the best.
        best = np.maximum.reduceat(self.drawn[:, order], firsts, axis=1)
        return costs, attainment(costs, best, _BAND)

    @cached_property
    def front_shares(self) -> FloatArray:
        """(candidates,): the share of draws in which no other candidate dominates it."""
        names = list(self.run.objectives)
        values = [[candidate.row[name] for name in names] for candidate in self.candidates]
        drawn = np.repeat(np.array([values]) * self.run.objectives.signs, self.draws, axis=0)
        if ACCURACY in self.run.objectives:
            column = names.index(ACCURACY)
            drawn[:, :, column] = self.drawn * self.run.objectives.signs[column]
        return front_shares(drawn)

    @cached_property
    def seed_bias(self) -> Interval:
        """How far the search's validation accuracy lies above that of fresh seeds.

        The mean over these candidates. The interval covers other seeds.
        """
        return mean_over_groups([c.promised - c.validation for c in self.candidates])

    @cached_property
    def optimism(self) -> Interval:
        """How far the search's validation accuracy lies above that on the test split.

        The mean over these candidates. The interval covers other seeds and other test images. It
        does not cover other validation images: their accuracy is what was promised.
        """
        gaps = [c.promised - c.correct.mean(axis=1) for c in self.candidates]
        shares = np.mean([c.correct.mean(axis=0) for c in self.candidates], axis=0)
        return mean_over_groups(gaps, other_margin=images_margin(shares))

    @property
    def num_images(self) -> int:
        """Images of the test split."""
        return self.candidates[0].correct.shape[1]


def choose_candidates(run: Run, top: int | None = None) -> list[dict[str, Any]]:
    """The front's trials as plain rows, the cheapest first.

    Of trials that differ in their seed alone, only the first is a candidate. top: only this many,
    those that add most to the hypervolume (see `most_contributing`) in the box of all finished
    trials, costs by magnitude. Raises UserError where no trial is finished.
    """
    front = run.front().drop_duplicates([name for name in RECIPE_FIELDS if name != "seed"])
    if top is not None and top < len(front):
        box = Box.around(run.losses(), run.objectives.log_columns)
        front = front.iloc[most_contributing(run.losses_of(front), box, top)]
    return [plain_row(row) for _, row in front.iterrows()]


def accuracies_on_test_split(confirmation: Confirmation | None) -> dict[int, Interval]:
    """Trial -> its accuracy on the test split, of a confirmation's candidates."""
    if confirmation is None:
        return {}
    trials = [candidate.trial for candidate in confirmation.candidates]
    return dict(zip(trials, confirmation.accuracies, strict=True))


def verdict(share: float) -> str:
    """Whether a candidate is truly non-dominated: yes, no or open."""
    if share >= SURE:
        return "yes"
    return "no" if share <= 1 - SURE else "open"


def confirmation_records(confirmation: Confirmation) -> dict[str, Any]:
    """A confirmation as plain data for JSON; accuracies from 0 to 1."""
    candidates = [
        {
            **_record(candidate),
            "validation_accuracy": float(candidate.validation.mean()),
            "test_accuracy": accuracy.to_dict(),
            "front_share": float(share),
            "non_dominated": verdict(share),
        }
        for candidate, accuracy, share in zip(
            confirmation.candidates, confirmation.accuracies, confirmation.front_shares, strict=True
        )
    ]
    return {
        "run": str(confirmation.run.path),
        "seeds": confirmation.num_seeds,
        "test_images": confirmation.num_images,
        "draws": confirmation.draws,
        "candidates": candidates,
        "failed": [_record(candidate) for candidate in confirmation.failed],
        "bias": {
            "luck_of_the_seed": confirmation.seed_bias.to_dict(),
            "promised_too_much": confirmation.optimism.to_dict(),
        },
    }


def _record(candidate: ConfirmedTrial) -> dict[str, Any]:
    cells = candidate.row
    return {
        "trial": cells["trial"],
        **{name: cells[name] for name in (*RECIPE_FIELDS, *COSTS)},
        "search_accuracy": candidate.promised,
        "seeds": [
            {"seed": seed, "validation_accuracy": float(valid), "test_accuracy": float(test)}
            for seed, valid, test in zip(
                candidate.seeds, candidate.validation, candidate.correct.mean(axis=1), strict=True
            )
        ],
        "failures": list(candidate.failures),
    }
