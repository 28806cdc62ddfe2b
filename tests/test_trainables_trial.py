from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.errors import UserError
from spaces.recipe import recipe_from
from trainables.data.dataset import ImageData
from trainables.training import EpochMetrics, Training, TrainingFailedError, train
from trainables.trial import CHECKPOINT_FILE, EPOCHS, FAILURE, Trial, describe_failure

RECIPE = {"input_size": 48, "width": 0.125, "batch_norm": True, "epochs": 3}


def config(data: ImageData, resume_from: list[Path] | None = None, **recipe: Any) -> dict[str, Any]:
    return {
        "recipe": recipe_from({**RECIPE, **recipe}).to_dict(),
        "data": str(data.path),
        "copy_data": False,
        "device": "cpu",
        "threads": 1,
        "gpu_share": 0,
        "deepest_unfrozen": None,
        "recalls": (),
        "resume_from": [str(path) for path in resume_from or []],
        "pause_after": None,
        "avoid": [],
    }


def begin(settings: dict[str, Any]) -> Trial:
    """A trial without Ray around it."""
    trial = Trial.__new__(Trial)
    trial.setup(settings)
    return trial


def run_to_the_end(trial: Trial) -> list[dict[str, Any]]:
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return results


def accuracies(results: list[dict[str, Any]]) -> list[float]:
    return [epoch["accuracy"] for result in results for epoch in result[EPOCHS]]


def test_a_step_is_an_epoch_and_the_last_one_is_kept(demo_data: ImageData):
    results = run_to_the_end(begin(config(demo_data)))
    assert [len(result[EPOCHS]) for result in results] == [1, 1, 1]
    assert [result["should_checkpoint"] for result in results] == [False, False, True]
    trained = train(recipe_from(RECIPE), demo_data, lambda _: None)
    assert accuracies(results) == [metrics.accuracy for metrics in trained.history]


def test_a_trial_goes_on_from_its_newest_whole_checkpoint(demo_data: ImageData, tmp_path: Path):
    whole = run_to_the_end(begin(config(demo_data)))
    first = begin(config(demo_data))
    first.step()
    (tmp_path / "good").mkdir()
    first.save_checkpoint(str(tmp_path / "good"))
    (tmp_path / "torn").mkdir()
    content = (tmp_path / "good" / CHECKPOINT_FILE).read_bytes()
    (tmp_path / "torn" / CHECKPOINT_FILE).write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").mkdir()
    order = [tmp_path / name for name in ("empty", "torn", "good")]
    results = run_to_the_end(begin(config(demo_data, order)))
    assert [len(result[EPOCHS]) for result in results] == [2, 1]
    assert accuracies(results) == accuracies(whole)


def test_a_trial_whose_last_epoch_was_kept_only_reports(demo_data: ImageData, tmp_path: Path):
    trial = begin(config(demo_data))
    run_to_the_end(trial)
    trial.save_checkpoint(str(tmp_path))
    results = run_to_the_end(begin(config(demo_data, [tmp_path])))
    assert [len(result[EPOCHS]) for result in results] == [3]


def test_a_trial_that_was_to_be_paused_there_trains_no_epoch_after_it(
    demo_data: ImageData, tmp_path: Path
):
    first = begin(config(demo_data))
    first.step()
    first.step()
    first.save_checkpoint(str(tmp_path))
    settings = config(demo_data, [tmp_path])
    result = begin({**settings, "pause_after": 2}).step()
    assert (len(result[EPOCHS]), result["done"]) == (2, False)
    # An older checkpoint lacks epochs, and they are trained first.
    assert len(begin({**settings, "pause_after": 4}).step()[EPOCHS]) == 3


def test_an_actor_trains_one_recipe_after_the_other(demo_data: ImageData):
    trial = begin(config(demo_data, epochs=1))
    first = run_to_the_end(trial)
    assert trial.reset_config(config(demo_data, epochs=1, seed=1))
    second = run_to_the_end(trial)
    assert trial.reset_config(config(demo_data, epochs=1))
    assert accuracies(run_to_the_end(trial)) == accuracies(first)
    assert first[0][EPOCHS][0]["train_loss"] != second[0][EPOCHS][0]["train_loss"]


def test_a_recipe_that_fails_ends_its_trial_with_the_reason_and_the_next_one_runs(
    demo_data: ImageData,
):
    trial = begin(config(demo_data, unfrozen=9))
    result = trial.step()
    assert result["done"]
    assert result[EPOCHS] == []
    assert "baseline_cnn" in result[FAILURE] or "4" in result[FAILURE]
    trial.reset_config(config(demo_data, epochs=1))
    assert run_to_the_end(trial)[-1][FAILURE] is None


def test_a_trial_whose_inputs_leave_no_room_on_a_gpu_begins_again_without_them_there(
    demo_data: ImageData, monkeypatch: pytest.MonkeyPatch
):
    rooms: list[int | None] = []
    run_epoch = Training.run_epoch

    def fail_once(training: Training) -> EpochMetrics:
        rooms.append(training._room_bytes)
        if len(rooms) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", fail_once)
    results = run_to_the_end(begin(config(demo_data)))
    assert [result[FAILURE] for result in results] == [None, None, None]
    assert rooms == [None, 0, 0, 0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("weights: gone"), "weights: gone"),
        (TrainingFailedError("the loss was nan"), "the loss was nan"),
        (MemoryError(), "out of memory: no message"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1"), "out of memory: Default"),
        # A process that meets a full GPU, and what its libraries say.
        (torch.AcceleratorError("CUDA error: out of memory"), "out of memory: CUDA error"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out of memory: "),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of memory: cuDNN"),
        (
            RuntimeError("GET was unable to find an engine to execute this computation"),
            "out of memory: GET",
        ),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "AcceleratorError: "),
        (KeyError("x\ny"), "KeyError: 'x\\ny'"),
    ],
)
def test_reasons_are_one_line(error: Exception, message: str):
    reason = describe_failure(error)
    assert reason.startswith(message)
    assert "\n" not in reason


def test_a_reason_that_nobody_expected_says_where():
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nowhere/at/all").read_text()
    reason = describe_failure(caught.value)
    assert reason.startswith("FileNotFoundError: ")
    assert "(pathlib.py:" in reason


def test_a_trial_leaves_features_for_the_most_unfrozen_of_its_search(
    demo_data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = config(demo_data, unfrozen=0, epochs=1)
    for deepest, files in ((None, 1), (2, 2)):
        monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / str(deepest)))
        trial = begin({**settings, "deepest_unfrozen": deepest})
        assert run_to_the_end(trial)[-1][FAILURE] is None
        assert len(list(tmp_path.glob(f"{deepest}/features/*.npy"))) == files


def test_data_that_changed_since_the_search_began_is_told(demo_data: ImageData):
    (result,) = run_to_the_end(begin({**config(demo_data), "data_digest": "0" * 32}))
    assert result[FAILURE] == f"{demo_data.path}: was changed since the search began"
