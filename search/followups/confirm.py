"""Confirms a front: trains its trials again with fresh seeds, and judges them by the test split.

Trials run in the engine of a search, in run folders below RUN/confirm. The test split is opened
after all of them are trained, once for each model. Its predictions are kept in RUN/confirm too.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.results.confirmation import (
    Confirmation,
    ConfirmedTrial,
    JudgedImages,
    choose_candidates,
)
from analysis.runs import Run, read_run, run_recipe
from search.followups.confirmed import CONFIRM_FOLDER
from search.followups.recipe_runs import RecipeRun, Show, alone_in, finished_below, train_recipes
from search.followups.source_run import check_ended, open_searched
from search.followups.test_predictions import AnswerTable
from spaces.columns import ACCURACY, RECALL, is_recall
from spaces.errors import UserError
from spaces.metrics import TOP_ACCURACY
from spaces.recipe import Recipe
from spaces.seeds import FEWEST_SEEDS, check_num_seeds, fresh_seeds
from trainables.data.dataset import ImageData


def confirm(
    path: Path,
    *,
    top: int | None = None,
    seeds: int = 3,
    retry: bool = False,
    show: Show = lambda _: None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Confirmation:
    """Train the front's trials again with fresh seeds, and judge each model by the test split once.

    path: the run folder of the search. top: only this many of its front, those that contribute most
    to the hypervolume. seeds: how many for each; never one that the search tried that recipe with.
    retry: train again what failed in an earlier call. show: as in `search.engine.run_search`.
    progress: called with the number of models judged, and of all. What an earlier call has trained
    or judged is not done again. Raises UserError if there is no front, if the data is not the
    search's, or if no candidate could be trained with two seeds; KeyboardInterrupt after a Ctrl-C,
    with nothing lost.
    """
    if top is not None and top < 1:
        raise UserError(f"--top: {top} leaves no candidate; use 1 or more")
    check_num_seeds(seeds)
    run = read_run(path)
    check_ended(run)
    chosen = choose_candidates(run, top)
    searched = open_searched(run)
    recipes: dict[int, list[Recipe]] = {}
    for row in chosen:
        recipe = run_recipe(row)
        fresh = fresh_seeds(recipe, seeds, used=searched.seeds_of(recipe))
        recipes[row["trial"]] = [recipe.replace(seed=seed) for seed in fresh]
    below = run.path / CONFIRM_FOLDER
    with alone_in(below):
        trained = train_recipes(
            [recipe for same in recipes.values() for recipe in same],
            like=searched.study,
            below=below,
            name="front" if top is None else f"top-{top}",
            retry=retry,
            show=show,
        )
        predictions = _judge(trained, searched.data, below, progress)
    candidates = [
        _candidate(run, row, recipes[row["trial"]], trained, predictions) for row in chosen
    ]
    found = _confirmation(run, candidates, seeds)
    if not found.candidates:
        raise UserError(f"{below}: no candidate trained twice: {_first_failure(found.failed)}")
    return found


def recall_confirmation(run: Run) -> Confirmation | None:
    """The results of all calls of `confirm` for the present front; None if there are none yet.

    Trains and judges nothing. Raises UserError if a table is damaged.
    """
    below = run.path / CONFIRM_FOLDER
    predictions, trained = AnswerTable(below), finished_below(below)
    tried: dict[Recipe, list[Recipe]] = defaultdict(list)
    for key, trial in trained.items():
        if trial.reached is None or key in predictions:
            tried[trial.recipe.replace(seed=0)].append(trial.recipe)
    candidates = []
    for row in choose_candidates(run):
        recipes = sorted(tried[run_recipe(row).replace(seed=0)], key=lambda recipe: recipe.seed)
        candidate = _candidate(run, row, recipes, trained, predictions)
        # With too few seeds and no failure, it waits for an interrupted call to continue.
        if len(candidate.seeds) >= FEWEST_SEEDS or candidate.failures:
            candidates.append(candidate)
    most = max((len(one.seeds) + len(one.failures) for one in candidates), default=0)
    found = _confirmation(run, candidates, most)
    return found if found.candidates else None


def _confirmation(run: Run, candidates: Sequence[ConfirmedTrial], num_seeds: int) -> Confirmation:
    return Confirmation(
        run=run,
        candidates=tuple(one for one in candidates if len(one.seeds) >= FEWEST_SEEDS),
        failed=tuple(one for one in candidates if len(one.seeds) < FEWEST_SEEDS),
        num_seeds=num_seeds,
    )


def _judge(
    trained: Mapping[str, RecipeRun],
    data: ImageData,
    below: Path,
    progress: Callable[[int, int | None], None],
) -> AnswerTable:
    """Record the predictions of every trained model on the test split, each once."""
    predictions = AnswerTable(below)
    models = [trial for trial in trained.values() if trial.reached is not None]
    images = data.rows("test")
    for done, trial in enumerate(models):
        progress(done, len(models))
        if trial.recipe.key in predictions:
            continue
        if trial.checkpoint is None:
            raise UserError(
                f"{trial.folder}: trial {trial.trial} lost its checkpoint before the test split"
                " judged it; delete the folder to train it again"
            )
        from trainables.export.predictions_on_split import predictions_on_split

        answers = predictions_on_split(trial.recipe, data, trial.checkpoint, "test")
        predictions.add(
            trial,
            images=images,
            labels=data.labels[images],
            predictions=answers.predicted,
            in_top5=answers.in_top5,
        )
    progress(len(models), len(models))
    return predictions


def _counted(
    run: Run, tested: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, JudgedImages | None]:
    """A candidate's `correct` and `answers`. tested: of each seed, from `AnswerTable.of`."""
    if not tested:
        return np.zeros((0, 0), dtype=bool), None
    labels = tested[0][0]
    predicted, in_top5 = (np.array(column) for column in list(zip(*tested, strict=True))[1:])
    if run.metric == TOP_ACCURACY:
        return in_top5, None
    correct = predicted == labels
    if run.metric == ACCURACY:
        return correct, None
    if is_recall(run.metric):
        index = run.classes.index(run.metric.removeprefix(RECALL))
        return correct[:, labels == index], None
    return correct, JudgedImages(labels=labels, predicted=predicted, num_classes=len(run.classes))


def _candidate(
    run: Run,
    row: Mapping[str, Any],
    recipes: list[Recipe],
    trained: Mapping[str, RecipeRun],
    predictions: AnswerTable,
) -> ConfirmedTrial:
    done = [r for r in recipes if r.key in trained and trained[r.key].reached is not None]
    lost = [trained.get(recipe.key) for recipe in recipes if recipe not in done]
    correct, answers = _counted(run, [predictions.of(recipe.key) for recipe in done])
    return ConfirmedTrial(
        row=dict(row),
        metric=run.metric,
        seeds=tuple(recipe.seed for recipe in done),
        validation=np.array([trained[recipe.key].reached for recipe in done], dtype=float),
        correct=correct,
        answers=answers,
        failures=tuple((trial and trial.error) or "it was not begun" for trial in lost),
    )


def _first_failure(candidates: tuple[ConfirmedTrial, ...]) -> str:
    candidate = candidates[0]
    return f"trial {candidate.trial}: {candidate.failures[0]}"
