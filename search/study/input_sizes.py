"""Checks the input sizes of a study. Without torch, so that a mistake is told at once."""

from search.study.study import Study
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.suggesters import RandomTrial
from trainables.data.dataset import ImageData
from trainables.models.input_sizes import check_input_size

_NUM_DRAWS = 256


def checked_recipes(study: Study, data: ImageData) -> list[Recipe]:
    """Recipes of a study's space, the enqueued ones first, whose input sizes fit.

    Raises UserError if the data has smaller images, or if a model that we know can't take a size.
    """
    trial = RandomTrial(seed=0)
    drawn = [*study.space.enqueue, *(study.space.suggest(trial) for _ in range(_NUM_DRAWS))]
    rule = study.space.rules.get("input_size")
    extremes = rule.dimension.extremes if rule else ()
    sizes = [size for size in extremes if isinstance(size, int)]
    largest = max(*sizes, *(recipe.input_size for recipe in drawn))
    if largest > data.size:
        raise UserError(
            f"input_size: the space goes up to {largest} px, but {data.path} holds images of"
            f" {data.size} px; prepare them with --size {largest}, or use smaller input sizes"
        )
    for model, input_size in sorted({(recipe.model, recipe.input_size) for recipe in drawn}):
        check_input_size(model, input_size)
    return drawn
