"""Seeds for training a recipe again."""

import random
from collections.abc import Collection

from spaces.errors import UserError
from spaces.recipe import Recipe

FEWEST_SEEDS = 2
"""One seed has no spread."""


def check_num_seeds(count: int) -> None:
    """Raise UserError where results of so many seeds would have no spread."""
    if count < FEWEST_SEEDS:
        raise UserError(f"--seeds: {count} tells nothing of the spread; use {FEWEST_SEEDS} or more")


def fresh_seeds(recipe: Recipe, count: int, *, used: Collection[int] = ()) -> tuple[int, ...]:
    """The first `count` seeds of a recipe's own sequence that are not among those used.

    The sequence follows from all fields but the seed: it is the same on every machine, fewer seeds
    are the beginning of more, and other recipes have other ones.
    """
    draw = random.Random(recipe.replace(seed=0).key)
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seed = draw.randrange(2**32)
        if seed not in used:
            seeds[seed] = None
    return tuple(seeds)
