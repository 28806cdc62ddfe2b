from search.cluster.node_health import MAX_DEATHS_IN_A_ROW, NodeHealth

BOTH = ["good", "bad"]


def test_a_node_where_trial_after_trial_dies_is_left_out_while_others_work():
    health = NodeHealth()
    health.worked("good")
    message = [health.died("bad", trial) for trial in range(MAX_DEATHS_IN_A_ROW)]
    assert message == [[]] * (MAX_DEATHS_IN_A_ROW - 1) + [["bad"]]
    assert health.left_out == {"bad"}
    assert health.died("bad", 99) == []  # told once
    assert health.avoided_by(7, BOTH) == {"bad"}


def test_a_node_is_left_out_once_others_are_seen_to_work():
    health = NodeHealth()
    for trial in range(MAX_DEATHS_IN_A_ROW):
        assert health.died("bad", trial) == []
    assert health.left_out == frozenset()
    assert health.worked("good") == ["bad"]
    assert health.worked("good") == []
    assert health.avoided_by(7, BOTH) == {"bad"}


def test_one_recipe_that_dies_over_and_over_says_nothing_of_the_node():
    health = NodeHealth()
    health.worked("good")
    assert not any(health.died("bad", 0) for _ in range(10))
    assert health.left_out == frozenset()


def test_an_epoch_in_between_clears_a_node():
    health = NodeHealth()
    health.worked("good")
    for trial in range(10):
        assert not health.died("bad", trial)
        health.worked("bad")
    assert health.left_out == frozenset()


def test_where_everything_dies_everywhere_no_node_is_to_blame():
    health = NodeHealth()
    for trial in range(10):
        health.died("one", trial)
        health.died("two", trial)
    assert health.left_out == frozenset()


def test_the_last_node_that_works_is_never_left_out():
    health = NodeHealth()
    health.worked("good")
    health.worked("bad")
    for trial in range(3):
        health.died("bad", trial)
    assert health.left_out == {"bad"}
    for trial in range(3, 9):
        health.died("good", trial)
    assert health.left_out == {"bad"}


def test_a_trial_that_died_twice_goes_on_elsewhere_as_long_as_there_is_a_place():
    health = NodeHealth()
    assert not health.any_died
    health.died("bad", 0)
    assert health.any_died
    assert health.avoided_by(0, BOTH) == frozenset()
    health.died("bad", 0)
    assert health.avoided_by(0, BOTH) == {"bad"}
    assert health.avoided_by(1, BOTH) == frozenset()
    for _ in range(2):
        health.died("good", 0)
    assert health.avoided_by(0, BOTH) == frozenset()
    assert health.avoided_by(0, [*BOTH, "new"]) == set(BOTH)


def test_nodes_that_are_gone_are_not_spoken_of():
    health = NodeHealth()
    for _ in range(2):
        health.died("bad", 0)
    assert health.avoided_by(0, ["good"]) == frozenset()
