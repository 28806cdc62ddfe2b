import pytest
import torch

from trainables.system.gpus import (
    UnusableGpuError,
    as_device,
    autocast,
    check_device,
    limit_gpu_memory,
    precision,
    room_for_inputs,
)

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

    def limit(fraction: float, device: torch.device) -> None:
        assert device.index is not None  # torch's own takes no "cuda" without its number
        limits.append(fraction)

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    limit_gpu_memory(share, as_device("cuda"))
    assert limits == pytest.approx([expected])


def test_devices_have_the_numbers_that_tensors_tell():
    assert [str(as_device(name)) for name in ("cuda", "cuda:1", CPU)] == ["cuda:0", "cuda:1", "cpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_can_not_be_used():
    check_device(CPU)
    with pytest.raises(UnusableGpuError, match=r"^the GPU can't be used: "):
        check_device(as_device("cuda"))
