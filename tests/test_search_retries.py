import pytest
from test_search_worker_failures import BAD_GPU, GONE, KILLED, LOW_MEMORY, MISTAKE

from search.cluster.retries import MAX_LOST_MACHINES, Retries


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def retries(*, nodes: int = 1, clock: Clock | None = None) -> Retries:
    return Retries(num_nodes=lambda: nodes, clock=clock or Clock())


@pytest.mark.parametrize("text", [KILLED, LOW_MEMORY])
def test_a_trial_begins_again_twice_the_second_time_alone(text: str):
    it = retries()
    assert it.should_continue(7, text)
    assert not it.needs_the_machine(7)
    assert it.should_continue(7, text)
    assert it.needs_the_machine(7)
    assert not it.needs_the_machine(8)
    assert not it.should_continue(7, text)


def test_an_epoch_forgives_the_deaths_before_it():
    it = retries()
    for _ in range(5):
        assert it.should_continue(7, LOW_MEMORY)
        assert it.should_continue(7, LOW_MEMORY)
        it.worked(7)
        assert it.may_begin(7)
        assert not it.needs_the_machine(7)


def test_the_last_attempt_waits_for_a_moment_if_memory_was_low():
    clock = Clock()
    it = retries(clock=clock)
    it.should_continue(7, LOW_MEMORY)
    assert it.may_begin(7)
    it.should_continue(7, LOW_MEMORY)
    assert not it.may_begin(7)
    assert it.may_begin(8)
    clock.now = 60.0
    assert it.may_begin(7)


def test_no_trial_keeps_several_nodes_to_itself():
    it = retries(nodes=3)
    it.should_continue(7, LOW_MEMORY)
    it.should_continue(7, LOW_MEMORY)
    assert not it.needs_the_machine(7)


def test_lost_machines_and_broken_gpus_are_counted_by_themselves():
    it = retries(nodes=2)
    assert [it.should_continue(7, GONE) for _ in range(MAX_LOST_MACHINES)].count(True) == 9
    assert it.should_continue(7, BAD_GPU)
    assert not retries(nodes=1).should_continue(7, BAD_GPU)
    assert not it.should_continue(7, MISTAKE)
