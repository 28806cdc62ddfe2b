import json
from pathlib import Path

import pytest

from search.cluster.capacity import Capacity, open_capacity, workers_at_most
from search.cluster.nodes import Node, planned_trials, trials_that_fit
from search.study.study import Resources
from spaces.errors import UserError


def node(key: str = "a", *, is_head: bool = False, **resources: float) -> Node:
    return Node(key=key, address=f"10.0.0.{key}", resources=resources, is_head=is_head)


HEAD = node("head", is_head=True, CPU=0)


@pytest.mark.parametrize(
    ("wanted", "available", "trials"),
    [
        (Resources(cpus=1), {"CPU": 8}, 8),
        (Resources(cpus=3), {"CPU": 8}, 2),
        (Resources(cpus=9), {"CPU": 8}, 0),
        (Resources(cpus=1), {}, 0),
        (Resources(cpus=1, gpus=1), {"CPU": 8, "GPU": 2}, 2),
        (Resources(cpus=1, gpus=0.25), {"CPU": 16, "GPU": 2}, 8),
        # A part of a GPU is a part of one: 0.4 fits twice into each, not five times into two.
        (Resources(cpus=1, gpus=0.4), {"CPU": 16, "GPU": 2}, 4),
        (Resources(cpus=4, gpus=0.25), {"CPU": 8, "GPU": 2}, 2),
        (Resources(cpus=1, gpus=2), {"CPU": 8, "GPU": 3}, 1),
        (Resources(cpus=1, gpus=1), {"CPU": 8}, 0),
    ],
)
def test_trials_that_fit_on_a_node(wanted: Resources, available: dict[str, float], trials: int):
    assert trials_that_fit(wanted, available) == trials


def test_a_core_is_kept_for_measuring_where_there_is_more_than_one_trials():
    assert trials_that_fit(Resources(cpus=2), {"CPU": 8}, keep_a_core=True) == 3
    assert trials_that_fit(Resources(cpus=2), {"CPU": 2}, keep_a_core=True) == 1


def test_cores_are_counted_node_by_node_and_only_the_head_keeps_one():
    three = [HEAD, node("1", CPU=3), node("2", CPU=3)]
    assert Capacity(Resources(cpus=2), nodes=lambda: three).workers == 2  # not 3 of 6 cores
    alone = [node("1", is_head=True, CPU=4)]
    assert Capacity(Resources(cpus=1), nodes=lambda: alone, keep_a_core=True).workers == 3
    assert Capacity(Resources(cpus=1), nodes=lambda: three, keep_a_core=True).workers == 6


def test_no_trial_waits_on_one_machine():
    capacity = Capacity(Resources(cpus=1), nodes=lambda: [node(CPU=2)])
    assert (capacity.workers, capacity.most) == (2, 2)


@pytest.mark.parametrize(
    ("workers", "planned", "most"),
    [(0, 32, 1), (4, 32, 8), (8, 32, 16), (20, 32, 32), (32, 32, 32), (33, 32, 33), (0, 0, 0)],
)
def test_as_many_wait_as_run_until_every_planned_node_is_there(
    workers: int, planned: int, most: int
):
    nodes = [HEAD, *(node(str(number), CPU=1) for number in range(workers))]
    assert Capacity(Resources(cpus=1), nodes=lambda: nodes, planned=planned).most == most


def test_nodes_that_come_and_go_and_are_left_out_are_counted_again(
    monkeypatch: pytest.MonkeyPatch,
):
    nodes, left_out = [node("1", CPU=2)], set()
    capacity = Capacity(
        Resources(cpus=1), nodes=lambda: nodes, is_left_out=lambda key: key in left_out
    )
    monkeypatch.setattr("search.cluster.capacity._ASK_PERIOD_SECONDS", 0.0)
    assert capacity.workers == 2
    nodes.append(node("2", CPU=4))
    assert capacity.workers == 6
    left_out.add("1")
    assert capacity.workers == 4
    nodes.clear()
    assert capacity.workers == 0


def bootstrap(folder: Path, **config: object) -> Path:
    path = folder / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps(config))
    return path


def test_what_the_autoscaler_may_bring_is_read_from_what_ray_up_left(tmp_path: Path):
    gpu = {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4}
    big = {"resources": {"CPU": 32, "GPU": 4}, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "max_workers": 0}
    path = bootstrap(
        tmp_path,
        provider={"type": "aws"},
        max_workers=5,
        head_node_type="head",
        available_node_types={"head": head, "gpu": gpu, "big": big},
    )
    assert planned_trials(Resources(cpus=1, gpus=1), path) == 2 * 4 + 3 * 1
    assert planned_trials(Resources(cpus=2, gpus=0.5), path) == 2 * 8 + 3 * 2
    assert planned_trials(Resources(cpus=16, gpus=1), path) == 2 * 2


def test_machines_of_ones_own_count_a_trial_each_and_without_ray_up_none_comes(tmp_path: Path):
    path = bootstrap(tmp_path, provider={"type": "local", "worker_ips": ["10.0.0.1", "10.0.0.2"]})
    assert planned_trials(Resources(cpus=8), path) == 2
    assert planned_trials(Resources(), tmp_path / "none.yaml") == 0


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node(CPU=2)], "resources.gpus: a trial takes 1, but there are 0$"),
        ([HEAD, node(CPU=2)], "resources.gpus: a trial takes 1, but there are 0 on any node"),
        ([node("1", CPU=4), node("2", CPU=1, GPU=1)], "but no node has both"),
        ([], "Ray has no node left"),
    ],
)
def test_a_trial_that_fits_nowhere_is_told_with_what_it_lacks(nodes: list[Node], message: str):
    with pytest.raises(UserError, match=message):
        open_capacity(Resources(cpus=2, gpus=1), nodes=lambda: nodes)


def test_latency_beside_training_on_every_core_is_warned_of(caplog: pytest.LogCaptureFixture):
    head = node(CPU=4, is_head=True)
    open_capacity(Resources(cpus=3), keep_a_core=True, nodes=lambda: [head])
    assert not caplog.records
    open_capacity(Resources(cpus=4), keep_a_core=True, nodes=lambda: [head])
    (record,) = caplog.records
    assert record.getMessage().endswith("measured latency; resources.cpus: 3 leaves one free")


def test_one_machine_is_counted_the_same_way():
    assert workers_at_most(Resources(cpus=2), {"CPU": 5}) == 2
    with pytest.raises(UserError, match=r"resources.cpus: a trial takes 8, but there are 5"):
        workers_at_most(Resources(cpus=8), {"CPU": 5})
