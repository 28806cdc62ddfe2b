"""Ablates a trial: measures what each difference between its recipe and a starting point is worth.

Trials run in the engine of a search, in run folders below RUN/ablate. The results are kept there
for the report. Everything is judged by the validation split; the test split stays closed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from analysis.choose import choose
from analysis.results.ablation import Ablation, AblationRun, Role, ablation_from, ablation_records
from analysis.runs import Run, read_run
from search.followups.recipe_runs import RecipeRun, Show, alone_in, train_recipes
from search.followups.source_run import check_ended, open_searched
from spaces.errors import UserError
from spaces.files import read_file, replace_file
from spaces.recipe import Recipe
from spaces.recipe_diff import (
    StartingPoint,
    Variant,
    find_differences,
    starting_point,
)
from spaces.seeds import check_num_seeds, fresh_seeds
from trainables.data.dataset import ImageData

ABLATE_FOLDER = "ablate"


def ablate(
    path: Path,
    trial: str,
    against: StartingPoint,
    *,
    seeds: int = 3,
    retry: bool = False,
    show: Show = lambda _: None,
) -> Ablation:
    """Train the recipes between a starting point and a trial's recipe, with several seeds.

    path: the run folder of the search. trial: its number, or a rule of `analysis.choose.choose`.
    against: see `spaces.recipe_diff.starting_point`. All recipes have the trial's epochs and the
    same seeds. The search has not tried the trial's recipe with these seeds. retry: train again
    what failed in an earlier call. show: as in `search.engine.run_search`. What an earlier call has
    trained is not trained again. Raises UserError if there is no such trial, if nothing differs, or
    if the data is not the search's; KeyboardInterrupt after a Ctrl-C, with nothing lost.
    """
    check_num_seeds(seeds)
    run = read_run(path)
    check_ended(run)
    choice = choose(run, trial)
    searched = open_searched(run)
    data, full = searched.data, choice.recipe
    start = starting_point(against, full, largest_input=data.size)
    checker = _checker(data)
    try:
        checker(start)
        differences = find_differences(start, full, lambda recipe: _works(recipe, checker))
    except UserError as error:
        raise UserError(f"trial {choice.trial} against {against}: {error}") from None
    fresh = fresh_seeds(full, seeds, used=searched.seeds_of(full))
    variants = [*differences.cumulative(), *differences.leave_one_out()]
    below = run.path / ABLATE_FOLDER
    name = ablation_name(choice.trial, against)
    with alone_in(below):
        trained = train_recipes(
            [variant.recipe.replace(seed=seed) for variant in variants for seed in fresh],
            like=searched.study,
            below=below,
            name=name,
            retry=retry,
            show=show,
        )
        ablation = Ablation(
            trial=choice.trial,
            run=run.name,
            against=against,
            start=start,
            full=full,
            differences=differences.fields,
            num_seeds=seeds,
            num_images=len(data.rows("validation")),
            metric=run.metric,
            cumulative=_rows("step", differences.cumulative(), fresh, trained),
            leave_one_out=_rows("without", differences.leave_one_out(), fresh, trained),
        )
        written = json.dumps(ablation_records(ablation), indent=1)
        replace_file(below / f"{name}.json", written.encode())
    return ablation


def ablation_name(trial: int, against: str) -> str:
    """The name of an ablation's folder and file below RUN/ablate."""
    return f"trial-{trial}-against-{against}"


def recall_ablations(run: Run) -> tuple[Ablation, ...]:
    """The results of earlier calls of `ablate`. Raises UserError if a file is damaged."""
    found = []
    for path in sorted((run.path / ABLATE_FOLDER).glob("trial-*.json")):
        try:
            found.append(ablation_from(json.loads(read_file(path))))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged ({error!r}); delete it, or ablate again") from None
    return tuple(sorted(found, key=lambda ablation: ablation.trial))


def _rows(
    role: Role,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    trained: Mapping[str, RecipeRun],
) -> tuple[AblationRun, ...]:
    """Results of variants. The first step is the starting point."""
    rows = []
    for index, variant in enumerate(variants):
        trials = [trained.get(variant.recipe.replace(seed=seed).key) for seed in seeds]
        accuracies = [trial and trial.reached for trial in trials]
        starts = role == "step" and index == 0
        rows.append(
            AblationRun(
                role="start" if starts else role,
                difference=None if starts else index - (role == "step"),
                on=variant.on,
                accuracies=np.array([value for value in accuracies if value is not None]),
                failures=tuple(
                    (trial and trial.error) or "it was not begun"
                    for trial, accuracy in zip(trials, accuracies, strict=True)
                    if accuracy is None
                ),
            )
        )
    return tuple(rows)


def _works(recipe: Recipe, check: Callable[[Recipe], None]) -> bool:
    try:
        check(recipe)
    except UserError:
        return False
    return True


def _checker(data: ImageData) -> Callable[[Recipe], None]:
    """A function that raises UserError for recipes that can't be trained on this data."""
    # Imported late, so that other errors come without waiting for torch.
    from trainables.models.blocks import freeze
    from trainables.models.building import build_model, build_on_meta

    num_classes = len(data.classes)

    @cache
    def check_weights(recipe: Recipe) -> None:
        build_model(recipe, num_classes)

    def check(recipe: Recipe) -> None:
        freeze(build_on_meta(recipe, num_classes), recipe.unfrozen)
        if recipe.weights != "none":
            # Only these fields decide whether weights fit.
            check_weights(
                Recipe(
                    model=recipe.model,
                    weights=recipe.weights,
                    width=recipe.width,
                    input_size=recipe.input_size,
                    batch_norm=recipe.batch_norm,
                )
            )

    return check
