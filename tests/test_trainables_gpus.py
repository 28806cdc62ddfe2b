import pytest
import torch

from trainables.gpus import autocast, limit_gpu_memory, precision, room_for_inputs

CPU = torch.device("cpu")


def test_a_cpu_computes_in_fp32_and_keeps_no_inputs_of_its_own():
    assert precision(CPU) == "fp32"
    assert room_for_inputs(CPU) == 0
    with autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    limit_gpu_memory(0.5, CPU)


@pytest.mark.parametrize(("share", "expected"), [(0.25, 0.25 - 0.1), (1, 1.0), (2, 1.0)])
def test_a_trials_share_of_a_gpu_has_its_context_in_it(
    monkeypatch: pytest.MonkeyPatch, share: float, expected: float
):
    total = 10 * 600 * 2**20
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (total, total))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda fraction, _: limits.append(fraction)
    )
    limit_gpu_memory(share, torch.device("cuda"))
    assert limits == pytest.approx([expected])
