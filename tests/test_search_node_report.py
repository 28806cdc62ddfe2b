import io
from dataclasses import replace

import pytest
from rich.console import Console

from search.cluster.node_report import NodeReport, report_nodes, tell_search
from search.cluster.nodes import alive_nodes
from search.commands.cluster import nodes_table

GPU_NODE = NodeReport(
    address="10.0.0.7",
    is_head=False,
    cpus=16,
    gpus=4,
    gpu_kind="A10G",
    study="animals",
    trials=(3, 12),
    left_out=False,
    cpu_used=0.5,
    memory_used_gb=12.34,
    memory_gb=64.0,
    gpu_used=0.91,
    gpu_memory_used_gb=40.0,
    gpu_memory_gb=96.0,
)


def printed(*reports: NodeReport) -> str:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(nodes_table(list(reports)))
    return capture.get()


def test_a_node_tells_what_it_has_and_what_a_driver_said_of_it(two_workers: None):
    (node,) = alive_nodes()
    tell_search("tiny", {node.key: [1, 2]}, [])
    (report,) = report_nodes()
    assert (report.study, report.trials, report.left_out) == ("tiny", (1, 2), False)
    assert (report.is_head, report.cpus, report.gpus) == (True, 2, 0)
    assert report.cpu_used is not None
    assert 0 <= report.cpu_used <= 1
    assert report.memory_gb is not None
    assert report.memory_used_gb is not None
    assert 0.1 < report.memory_used_gb < report.memory_gb
    tell_search("tiny", {}, [node.key])
    (report,) = report_nodes()
    assert (report.trials, report.left_out) == ((), True)


def test_what_a_driver_said_that_is_gone_is_not_told(
    two_workers: None, monkeypatch: pytest.MonkeyPatch
):
    (node,) = alive_nodes()
    tell_search("tiny", {node.key: [1]}, [node.key])
    monkeypatch.setattr("search.cluster.node_report._STALE_SECONDS", -1.0)
    (report,) = report_nodes()
    assert (report.study, report.trials, report.left_out) == (None, (), False)


def test_nodes_are_shown_in_a_table():
    text = printed(GPU_NODE)
    for words in ("animals", "10.0.0.7", "4 A10G, 16 CPUs for trials", "3, 12", "50", "91"):
        assert words in text
    assert "12.3 of 64.0" in text
    assert "40.0 of 96.0" in text
    assert "left out" in printed(replace(GPU_NODE, left_out=True))


def test_a_node_that_does_not_answer_is_shown_without_figures():
    silent = replace(GPU_NODE, cpu_used=None, memory_used_gb=None, gpu_used=None, trials=())
    lines = printed(silent).splitlines()
    assert "–" in lines[-1]
    assert "None" not in lines[-1]
