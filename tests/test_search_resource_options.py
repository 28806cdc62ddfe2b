from typing import Any

import pytest

from search.planning.resource_options import (
    Decision,
    MachineMemory,
    Needs,
    Rated,
    ResourceOption,
    choose_option,
    fits,
    list_options,
)
from search.study.study import Resources

GB = 10**9


def option(trials: int, cpus: int, gpus: float = 0.0) -> ResourceOption:
    return ResourceOption(trials=trials, resources=Resources(cpus=cpus, gpus=gpus))


def rated(trials: int, cpus: int, *rates: float, gpus: float = 0.0) -> Rated:
    return Rated(option=option(trials, cpus, gpus), images_per_second=rates)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2), (2, 1)]),
        (3, [(1, 3), (3, 1)]),
        (4, [(1, 4), (2, 2), (4, 1)]),
        (6, [(1, 6), (3, 2), (6, 1)]),
        (16, [(1, 16), (4, 4), (8, 2), (16, 1)]),
        (96, [(1, 96), (24, 4), (48, 2)]),
    ],
)
def test_cores_are_shared_out_to_trials(cores: int, expected: list[tuple[int, int]]):
    options = list_options(cores, 0)
    assert [(each.trials, each.resources.cpus) for each in options] == expected
    assert {each.resources.gpus for each in options} == {0}
    # The search finds the number of trials again from what one takes.
    assert all(cores // each.resources.cpus == each.trials for each in options)


@pytest.mark.parametrize(
    ("cores", "gpus", "expected"),
    [
        (16, 1, [(1, 16, 1.0), (2, 8, 0.5), (4, 4, 0.25), (8, 2, 0.125)]),
        (6, 1, [(1, 6, 1.0), (2, 3, 0.5), (4, 1, 0.25)]),
        (16, 4, [(4, 4, 1.0), (8, 2, 0.5), (16, 1, 0.25)]),
        (2, 4, [(2, 1, 1.0)]),
    ],
)
def test_gpus_are_shared_out_to_as_many_trials_as_have_a_core(
    cores: int, gpus: int, expected: list[Any]
):
    options = list_options(cores, gpus)
    found = [(each.trials, each.resources.cpus, each.resources.gpus) for each in options]
    assert found == expected


def test_on_gpus_the_trials_of_one_gpu_are_neighbours():
    assert [each.neighbours for each in list_options(16, 4)] == [1, 2, 4]
    assert [each.neighbours for each in list_options(4, 0)] == [1, 2, 4]


def test_the_option_that_trains_most_images_a_second_is_chosen():
    measured = [rated(1, 4, 100), rated(2, 2, 180), rated(4, 1, 150)]
    assert choose_option(measured) == option(2, 2)
    on_gpu = [rated(1, 8, 900, gpus=1.0), rated(4, 2, 2500, gpus=0.25)]
    assert choose_option(on_gpu) == option(4, 2, 0.25)


def test_fewer_trials_are_chosen_where_more_gain_no_more_than_5_percent():
    assert choose_option([rated(1, 2, 100), rated(2, 1, 104)]) == option(1, 2)
    assert choose_option([rated(1, 2, 100), rated(2, 1, 106)]) == option(2, 1)


def test_as_many_images_of_each_recipe_are_weighed():
    # 1 image of each takes 0.1 + 1 s, so 2 images take 1.1 s: the slow one decides.
    assert rated(1, 2, 10, 1).overall == pytest.approx(2 / 1.1)
    assert choose_option([rated(1, 2, 100, 10), rated(2, 1, 400, 5)]) == option(1, 2)


def test_trials_fit_where_a_fifth_of_the_memory_stays_free():
    needs = Needs(trial_bytes=2 * GB, shared_bytes=2 * GB)
    memory = MachineMemory(memory_bytes=10 * GB)
    fitting = [number for number in range(1, 9) if fits(option(number, 1), needs, memory)]
    assert fitting == [1, 2, 3]  # 3 x 2 + 2 of 8


def test_trials_fit_on_a_gpu_where_a_fifth_of_each_share_stays_free():
    needs = Needs(trial_bytes=GB, shared_bytes=GB, gpu_bytes=4 * GB)
    memory = MachineMemory(memory_bytes=100 * GB, gpu_bytes=20 * GB)
    options = list_options(16, 1)
    assert [each.trials for each in options if fits(each, needs, memory)] == [1, 2, 4]
    several = list_options(16, 4)
    assert [each.trials for each in several if fits(each, needs, memory)] == [4, 8, 16]


def message(*measured: Rated, left_out: tuple[ResourceOption, ...] = ()) -> str:
    chosen = choose_option(measured)
    return str(Decision(chosen=chosen, rated=measured, left_out=left_out))


def test_one_line_tells_what_was_chosen_and_why():
    assert message(rated(1, 2, 100), rated(2, 1, 170)) == (
        "2 trials at once, 1 core each (1.7 times the images per second of 1 trial on 2 cores)"
    )
    assert message(rated(1, 2, 100), rated(2, 1, 90)) == (
        "1 trial on 2 cores (2 trials at once, 1 core each: 0.9 times as many images per second)"
    )
    assert message(rated(1, 4, 100), rated(2, 2, 150), left_out=(option(4, 1),)) == (
        "2 trials at once, 2 cores each (1.5 times the images per second of 1 trial on 4 cores;"
        " memory is too small for 4 at once)"
    )
    assert message(rated(1, 2, 100), left_out=(option(2, 1),)) == (
        "1 trial on 2 cores (memory is too small for 2 at once)"
    )
    assert message(rated(1, 8, 9, gpus=1.0), rated(4, 2, 27, gpus=0.25)) == (
        "4 trials at once, 2 cores and 1/4 of a GPU each (3 times the images per second of 1 trial"
        " on 8 cores and a GPU)"
    )
    assert str(Decision(chosen=option(1, 1), rated=())) == (
        "1 trial on 1 core (nothing else to compare on this machine)"
    )


def test_what_is_compared_begins_with_the_fewest_trials():
    for cores, gpus in ((2, 0), (8, 0), (64, 0), (16, 2)):
        trials = [option.trials for option in list_options(cores, gpus)]
        assert trials == sorted(set(trials))
