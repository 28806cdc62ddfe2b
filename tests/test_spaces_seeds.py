from spaces.recipe import Recipe
from spaces.seeds import fresh_seeds


def test_fewer_seeds_are_the_beginning_of_more():
    assert fresh_seeds(Recipe(), 5)[:3] == fresh_seeds(Recipe(), 3)


def test_seeds_follow_from_everything_but_the_seed():
    seeds = fresh_seeds(Recipe(), 3)
    assert fresh_seeds(Recipe(seed=7), 3) == seeds
    assert not set(fresh_seeds(Recipe(batch_size=64), 3)).intersection(seeds)
    assert all(Recipe(seed=seed).seed == seed for seed in seeds)


def test_seeds_that_were_used_are_passed_over():
    seeds = fresh_seeds(Recipe(), 4)
    assert fresh_seeds(Recipe(), 3, used={seeds[1]}) == (seeds[0], seeds[2], seeds[3])
