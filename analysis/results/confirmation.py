"""The results of a confirmation: the candidates' metrics, the front, the bias."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from analysis.columns import plain_row
from analysis.pareto.front import BoolArray, Box, FloatArray, IntArray
from analysis.pareto.intervals import (
    accuracy_interval,
    images_margin,
    mean_over_groups,
    metric_interval,
)
from analysis.pareto.uncertain_front import (
    DRAWS,
    add_errors_of_seeds,
    attainment,
    draw_accuracies,
    draw_images,
    front_shares,
    most_contributing,
)
from analysis.runs import Run
from spaces.columns import ACCURACY, COSTS
from spaces.intervals import Interval, Z
from spaces.metrics import class_metrics
from spaces.recipe import RECIPE_FIELDS

# A candidate is non-dominated from this share of the draws on, dominated up to 1 - SURE, else open.
SURE = 0.95
# The percentage of draws that reach each surface: 95 % lie between the outer two.
_BAND = (2.5, 50.0, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedImages:
    """What models answered on the test split, for a metric that is no share of images."""

    labels: IntArray
    """(images,) true classes."""
    predicted: IntArray
    """(seeds, images) predicted classes."""
    num_classes: int

    def measure(self, metric: str, times: IntArray | None = None) -> FloatArray:
        """(seeds,): the metric. times: (images,) how often each image counts; None: once."""
        return np.array(
            [
                class_metrics(self.labels, one, num_classes=self.num_classes, times=times)[metric]
                for one in self.predicted
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedTrial:
    """A trial of the front, trained again with fresh seeds."""

    row: dict[str, Any]
    """Its row of the search's trials as plain values."""
    metric: str = ACCURACY
    """The run's metric, of which are the numbers below."""
    seeds: tuple[int, ...]
    """Seeds that finished."""
    validation: FloatArray
    """(seeds,): the metric on the validation split."""
    correct: BoolArray
    """(seeds, images): of a metric that is a share of images of the test split, whether each image
    counts: classified right, or with its class among the best five."""
    answers: JudgedImages | None = None
    """For any other metric."""
    failures: tuple[str, ...] = ()
    """Why other seeds failed."""

    @property
    def trial(self) -> int:
        return self.row["trial"]

    @property
    def promised(self) -> float:
        """The metric that the search saw, on the validation split."""
        return self.row[self.metric]

    @property
    def test(self) -> FloatArray:
        """(seeds,): the metric on the test split."""
        if self.answers is not None:
            return self.answers.measure(self.metric)
        return self.correct.mean(axis=1)

    @property
    def optimism(self) -> float:
        """How far `promised` lies above the metric on the test split."""
        return self.promised - float(self.test.mean())


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
        """For each candidate, the test metric with its interval over seeds and images."""
        if self._drawn_images is None:
            return tuple(accuracy_interval(candidate.correct) for candidate in self.candidates)
        return tuple(
            metric_interval(candidate.test, drawn)
            for candidate, drawn in zip(self.candidates, self._drawn_images.T, strict=True)
        )

    @cached_property
    def drawn(self) -> FloatArray:
        """(draws, candidates): see `analysis.pareto.uncertain_front.draw_accuracies`."""
        if self._drawn_images is not None:
            of_seeds = [candidate.test for candidate in self.candidates]
            return add_errors_of_seeds(self._drawn_images, of_seeds, seed=self.seed)
        correct = [candidate.correct for candidate in self.candidates]
        return draw_accuracies(correct, draws=self.draws, seed=self.seed)

    @cached_property
    def _drawn_images(self) -> FloatArray | None:
        """(draws, candidates), of a metric that is no share of images; None for one that is."""
        measures = [
            partial(candidate.answers.measure, candidate.metric)
            for candidate in self.candidates
            if candidate.answers is not None
        ]
        if not measures:
            return None
        return draw_images(measures, self.num_images, draws=self.draws, seed=self.seed)

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
        metric = self.run.objectives.metric
        if metric is not None:
            column = names.index(metric)
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
        gaps = [c.promised - c.test for c in self.candidates]
        if self._drawn_images is not None:
            margin = Z * float(self._drawn_images.mean(axis=1).std(ddof=1))
        else:
            shares = np.mean([c.correct.mean(axis=0) for c in self.candidates], axis=0)
            margin = images_margin(shares)
        return mean_over_groups(gaps, other_margin=margin)

    @property
    def num_images(self) -> int:
        """Images of the test split that the metric is measured on."""
        first = self.candidates[0]
        return first.correct.shape[1] if first.answers is None else len(first.answers.labels)


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
    """Trial -> its metric on the test split, of a confirmation's candidates."""
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
            f"validation_{candidate.metric}": float(candidate.validation.mean()),
            f"test_{candidate.metric}": accuracy.to_dict(),
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
        f"search_{candidate.metric}": candidate.promised,
        "seeds": [
            {
                "seed": seed,
                f"validation_{candidate.metric}": float(valid),
                f"test_{candidate.metric}": float(test),
            }
            for seed, valid, test in zip(
                candidate.seeds, candidate.validation, candidate.test, strict=True
            )
        ],
        "failures": list(candidate.failures),
    }
