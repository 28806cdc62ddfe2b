"""Seeds for training a recipe again."""

import random
from collections.abc import Collection

from spaces.errors import UserError
from spaces.recipe import Recipe

FEWEST_SEEDS = 2
"""One seed has no spread."""


MOST_SEEDS = 1000
"""More would not be trained in any time."""


def check_num_seeds(count: int) -> None:
    """Raise UserError where so few seeds can't show a spread, or so many can't be trained."""
    if count > MOST_SEEDS:
        raise UserError(f"--seeds: {count} are too many to train; use {MOST_SEEDS:,} or fewer")
    if count < FEWEST_SEEDS:
        raise UserError(f"--seeds: {count} can't show the spread; use {FEWEST_SEEDS} or more")


def fresh_seeds(recipe: Recipe, count: int, *, used: Collection[int] = ()) -> tuple[int, ...]:
    """The first `count` seeds of a recipe's own sequence that are not among those used.

    The sequence depends on all fields but the seed. It is the same on every machine, and other
    recipes have other ones. A smaller count gives the beginning of a larger one.
    """
    draw = random.Random(recipe.replace(seed=0).key)
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seed = draw.randrange(2**32)
        if seed not in used:
            seeds[seed] = None
    return tuple(seeds)
