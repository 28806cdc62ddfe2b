"""Contracts that other files hold on the CPU, here with a GPU: `make test-gpu`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData
from trainables.inputs import frozen_features
from trainables.learning import precision_stages
from trainables.learning.checkpoint import decode_checkpoint, encode_checkpoint
from trainables.system import gpus
from trainables.training import Training, train
from trainables.trial import FAILURE, Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

GPU = torch.device("cuda", 0)
QUICK: dict[str, Any] = {"input_size": 48, "width": 0.125, "batch_norm": True, "epochs": 2}
QAT: dict[str, Any] = {"qat": True, "epochs": 3, "float_epochs": 1, "input_size": 64}
MIB = 2**20


def quick(**changes: Any) -> Recipe:
    return recipe_from({**QUICK, **changes})


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The GPU computes as the CPU does, neither in bf16 nor in TF32."""
    for module in (gpus, precision_stages, frozen_features):
        monkeypatch.setattr(module, "precision", lambda _: "fp32")
    with gpus.exact_float32():
        yield


def trained(recipe: Recipe, data: ImageData, device: torch.device) -> Training:
    return train(recipe, data, lambda _: None, device=device)


def begin(recipe: Recipe, data: ImageData, share: float) -> Trial:
    """A trial without Ray around it."""
    trial = Trial.__new__(Trial)
    trial.setup(config(recipe, data, share))
    return trial


def config(recipe: Recipe, data: ImageData, share: float) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        "data": str(data.path),
        "copy_data": False,
        "device": "cuda",
        "threads": 1,
        "gpu_share": share,
        "deepest_unfrozen": None,
        "recalls": (),
        "resume_from": [],
        "pause_after": None,
        "avoid": [],
    }


def run_to_the_end(trial: Trial) -> str | None:
    """Run all epochs of a trial; returns why it failed, if it did."""
    result = trial.step()
    while not result["done"]:
        result = trial.step()
    return result[FAILURE]


@contextmanager
def whole_memory_again() -> Iterator[None]:
    try:
        yield
    finally:
        gpus.limit_gpu_memory(1, GPU)


@pytest.mark.parametrize("unfrozen", [None, 1], ids=["whole", "one block"])
@pytest.mark.usefixtures("float32")
def test_training_in_float32_is_that_of_the_cpu_but_for_rounding(
    demo_data: ImageData, unfrozen: int | None
):
    recipe = quick(unfrozen=unfrozen)
    here = trained(recipe, demo_data, torch.device("cpu"))
    there = trained(recipe, demo_data, GPU)
    for one, other in zip(here.history, there.history, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.02)
        assert other.val_loss == pytest.approx(one.val_loss, rel=0.1)


def test_a_first_epoch_in_the_gpus_own_precision_is_near_that_of_the_cpu(demo_data: ImageData):
    recipe = quick(epochs=1)
    here = trained(recipe, demo_data, torch.device("cpu"))
    there = trained(recipe, demo_data, GPU)
    assert there.history[0].train_loss == pytest.approx(here.history[0].train_loss, rel=0.02)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_a_run_that_goes_on_from_a_checkpoint_ends_as_one_that_never_stopped(
    demo_data: ImageData, optimizer: str
):
    check_resuming(quick(epochs=3, optimizer=optimizer, scheduler="onecycle"), demo_data)


@pytest.mark.parametrize("unfrozen", [None, 1], ids=["whole", "frozen blocks"])
def test_qat_that_goes_on_from_a_checkpoint_ends_as_one_that_never_stopped(
    demo_data: ImageData, unfrozen: int | None
):
    check_resuming(quick(**QAT, unfrozen=unfrozen), demo_data)


def check_resuming(recipe: Recipe, data: ImageData) -> None:
    """Stop before the last epoch, and compare it. GPUs don't promise equal sums."""
    whole = Training(recipe, data, device=GPU)
    while len(whole.history) < recipe.epochs - 1:
        whole.run_epoch()
    resumed = Training(recipe, data, device=GPU)
    resumed.load_state_dict(decode_checkpoint(bytes(encode_checkpoint(whole.state_dict()))))
    assert resumed.history == whole.history
    one, other = whole.run_epoch(), resumed.run_epoch()
    assert other.learning_rate == one.learning_rate
    assert other.train_loss == pytest.approx(one.train_loss, rel=1e-2)


@pytest.mark.usefixtures("float32")
def test_qat_with_frozen_blocks_is_that_of_the_cpu_but_for_rounding(demo_data: ImageData):
    recipe = quick(**QAT, unfrozen=1)
    here = trained(recipe, demo_data, torch.device("cpu"))
    there = trained(recipe, demo_data, GPU)
    for one, other in zip(here.history, there.history, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.05)


def test_qat_with_frozen_blocks_trains_in_the_gpus_own_precision(demo_data: ImageData):
    training = trained(quick(**QAT, unfrozen=1), demo_data, GPU)
    assert len(training.history) == 3


def test_a_recipe_that_does_not_fit_into_its_share_fails_alone_and_leaves_nothing(
    demo_data: ImageData,
):
    share = (300 * MIB + gpus.CONTEXT_BYTES) / torch.cuda.mem_get_info(GPU)[1]
    small = quick(epochs=1, batch_size=16)
    with whole_memory_again():
        trial = begin(small, demo_data, share)
        assert run_to_the_end(trial) is None
        trial.reset_config(config(small, demo_data, share))
        held = torch.cuda.memory_allocated(GPU)
        # Its weights, gradients and Adam's moments alone take 400 MB.
        large = recipe_from({"model": "resnet50", "input_size": 64, "epochs": 1})
        trial.reset_config(config(large, demo_data, share))
        reason = run_to_the_end(trial)
        assert reason is not None
        assert reason.startswith("out of memory: ")
        trial.reset_config(config(small, demo_data, share))
        assert torch.cuda.memory_allocated(GPU) <= held + MIB
        assert run_to_the_end(trial) is None


def test_qat_trials_leave_no_memory_behind_in_a_warm_process(demo_data: ImageData):
    recipe = quick(**QAT, width=1.0)  # 2 MB of weights, so that a kept model is seen
    trial = begin(recipe, demo_data, 1)
    held = []
    for _ in range(5):
        assert run_to_the_end(trial) is None
        trial.reset_config(config(recipe, demo_data, 1))
        held.append(torch.cuda.memory_allocated(GPU))
    assert max(held) <= held[0] + MIB
