from spaces.recipe import Recipe
from trainables.costing.effort import Effort, SharedWork
from trainables.costing.training_cost import training_effort

INT8 = Effort(
    epoch=2.0,
    shared=(
        SharedWork(name="float", seconds=100.0),
        SharedWork(name="int8", seconds=1000.0, after=3),
    ),
    float_epochs=3,
    int8_start=10.0,
    int8_end=20.0,
)


def test_what_is_left_of_an_int8_trial_follows_its_stages():
    assert INT8.left(5) == 5 * 2 + 100 + 1000 + 10 + 20
    assert INT8.left(5, done=3) == 2 * 2 + 1000 + 10 + 20  # int8 begins with the fourth epoch
    assert INT8.left(5, done=4) == 2 + 20
    assert INT8.left(5, done=5) == 0
    assert INT8.alone(5) == 5 * 2 + 10 + 20


def test_shared_work_is_left_to_the_first_trial_that_comes_so_far():
    assert INT8.begun(0) == INT8.begun(3) == ["float"]
    assert INT8.begun(4) == ["float", "int8"]
    assert INT8.left(5, paid=INT8.begun(4)) == INT8.alone(5)


def effort_of(**fields: object) -> Effort:
    recipe = Recipe(model="mobilenet_v2", weights="imagenet", epochs=3, **fields)  # pyright: ignore[reportArgumentType]
    return training_effort(recipe, num_classes=10, num_train=100, num_validation=20)


def test_trials_share_what_is_frozen_alike():
    one, other = effort_of(unfrozen=1), effort_of(unfrozen=2)
    assert [work.name for work in one.shared] == [work.name for work in other.shared]
    int8 = effort_of(unfrozen=1, qat=True).shared
    assert int8[0] == one.shared[0]
    assert int8[1].after == 2
    assert int8[1].name != effort_of(unfrozen=2, qat=True).shared[1].name
    assert effort_of(unfrozen=None).shared == ()
    assert effort_of(unfrozen=1, input_size=64).shared[0].name != one.shared[0].name
