"""The texts are what Ray 2.60 wrote in these cases."""

import pytest

from search.cluster.worker_failures import (
    is_broken_device,
    is_lost_machine,
    is_worker_death,
    reason,
)

KILLED = """ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
	class_name: Trial
	actor_id: 2f9ef6f0477c4f1880bd88af01000000
	pid: 10508
	ip: 192.0.2.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"""
GONE = (
    "ray.exceptions.ActorUnavailableError: The actor 0c3e4c051e2cbf9ab868c06a01000000 is"
    " unavailable: The actor is temporarily unavailable: RpcError: RPC error: recvmsg:Connection"
    " reset by peer rpc_code: 14. The task may or may not have been executed on the actor."
)
DEAD_NODE = (
    "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.\n"
    "The actor died because its node has died. Node Id: 8680cee3"
)
BAD_GPU = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
# Ray's memory monitor, as `tune_actors` passes it on.
LOW_MEMORY = (
    "The actor died: OutOfMemoryError: 2 worker(s) were killed due to the node running low on"
    " memory."
    " Memory on the node (IP: 192.0.2.2, ID: 6b84) was 5.48GB used / 23.54GB limit (0.232915)\n"
    "OOM kill reason: Memory usage 5882990592B exceeded threshold of 5881740288B"
)
MISTAKE = "Traceback (most recent call last):\n  File x\nValueError: no such layer"


@pytest.mark.parametrize(
    ("text", "loss", "death", "broken"),
    [
        (KILLED, False, True, False),
        (GONE, True, False, False),
        (DEAD_NODE, True, True, False),
        (LOW_MEMORY, False, True, False),
        (BAD_GPU, False, False, True),
        (MISTAKE, False, False, False),
        ("", False, False, False),
    ],
)
def test_ways_in_which_a_process_ends_are_told_apart(
    text: str, loss: bool, death: bool, broken: bool
):
    assert (is_lost_machine(text), is_worker_death(text), is_broken_device(text)) == (
        loss,
        death,
        broken,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (KILLED, "the trial's process died: killed from outside, or by the system for its memory"),
        (GONE, "its machines were lost again and again"),
        (DEAD_NODE, "its machines were lost again and again"),
        (BAD_GPU, "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (
            LOW_MEMORY,
            "out of memory: Ray ended the trial's process again and again, when 5.48 of 23.54 GB"
            " were used",
        ),
        (MISTAKE, "ValueError: no such layer"),
        ("", "Ray gave no reason"),
    ],
)
def test_the_reason_is_one_line(text: str, message: str):
    assert reason(text) == message
