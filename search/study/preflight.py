"""Checks before the first trial: a study that can't work ends here, with one line."""

from search.study.input_sizes import checked_recipes
from search.study.measured_classes import check_classes
from search.study.study import Study
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.models.blocks import freeze
from trainables.models.building import build_model, build_on_meta, check_input_size
from trainables.models.families import family_of


def check_study(study: Study, data: ImageData) -> None:
    """Check classes, model names, input sizes and blocks, and load all weights once.

    Loading them here downloads them once, and not in many workers. Raises UserError.
    """
    check_classes(study, data)
    for name in study.space.values_of("model"):
        family_of(name)
    drawn = checked_recipes(study, data)
    for model, input_size in {(recipe.model, recipe.input_size) for recipe in drawn}:
        check_input_size(model, input_size)
    for recipe in (*_smallest_of_each_model(drawn), *_most_unfrozen_of_each_model(drawn)):
        freeze(build_on_meta(recipe, num_classes=len(data.classes)), recipe.unfrozen)
    for recipe in _one_for_each_file(drawn):
        build_model(recipe, num_classes=len(data.classes))


def _smallest_of_each_model(drawn: list[Recipe]) -> list[Recipe]:
    by_size = sorted(drawn, key=lambda recipe: -recipe.input_size)
    return list({recipe.model: recipe for recipe in by_size}.values())


def _most_unfrozen_of_each_model(drawn: list[Recipe]) -> list[Recipe]:
    by_unfrozen = sorted(drawn, key=lambda recipe: recipe.unfrozen or 0)
    return list({recipe.model: recipe for recipe in by_unfrozen}.values())


def _one_for_each_file(drawn: list[Recipe]) -> list[Recipe]:
    """One recipe for each file of weights, so none for `weights: none`."""
    files: dict[tuple[str, str, float], Recipe] = {}
    for recipe in drawn:
        if recipe.weights != "none":
            files.setdefault((recipe.model, recipe.weights, recipe.width), recipe)
    return list(files.values())
