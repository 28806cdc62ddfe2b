import copy
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo
from trainables.inputs import frozen_features as frozen_features_module
from trainables.inputs.augmentation import normalize, to_batch
from trainables.inputs.feature_files import Layout
from trainables.learning import precision_stages
from trainables.models.building import build_model
from trainables.models.families import normalization_of
from trainables.system import gpus
from trainables.training import Training

# Plain gradients: Adam makes steps of rounding errors where the true gradient is 0.
QUICK: dict[str, Any] = {
    **{"input_size": 48, "epochs": 2, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.01}
}
FAMILIES = [
    {"model": "mobilenet_v2", "width": 0.25},
    {"model": "mobilenet_v3_small"},
    {"model": "baseline_cnn", "width": 0.125, "batch_norm": True},
]
LARGER = [{"model": "efficientnet_b0", "batch_size": 32}, {"model": "resnet18"}]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Training]:
    """Trains whole models from images, without a cache of features."""

    def train(*arguments: Any, epochs: int | None = None) -> Training:
        with monkeypatch.context() as patch:
            patch.setenv("FLOPWISE_FEATURES_GB", "0")
            return trained(*arguments, epochs=epochs)

    return train


def quick(**changes: Any) -> Recipe:
    return recipe_from({**QUICK, **changes})


@pytest.fixture(scope="module")
def settled(demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Weights whose batch norm has statistics of the images, as trained ones have.

    Frozen random weights without them let the signal fade, until rounding decides what trains.
    """
    folder = tmp_path_factory.mktemp("weights")

    def weights_for(family: dict[str, Any]) -> Path:
        recipe = quick(**family)
        file = folder / f"{recipe.key}.pt"
        if not file.exists():
            torch.manual_seed(0)
            model = build_model(recipe, num_classes=len(demo_data.classes)).train()
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            pixels = demo_data.at_size(recipe.input_size).take(demo_data.rows("train"))
            with torch.no_grad():
                for _ in range(2):
                    batch = to_batch(pixels, torch.device("cpu"))
                    model(normalize(batch, normalization_of(recipe)))
            torch.save(model.state_dict(), file)
        return file

    return weights_for


def trained(
    recipe: Recipe,
    data: ImageData,
    *,
    epochs: int | None = None,
    deepest_unfrozen: int | None = None,
) -> Training:
    training = Training(recipe, data, device=torch.device("cpu"), deepest_unfrozen=deepest_unfrozen)
    for _ in range(epochs or recipe.epochs):
        training.run_epoch()
    return training


def features_in(cache: Path) -> list[Path]:
    return sorted((cache / "features").glob("*.npy"))


def assert_same(one: Training, other: Training) -> None:
    """Epoch by epoch and weight by weight, within rounding."""
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine.train_accuracy == pytest.approx(theirs.train_accuracy, abs=1e-9)
        assert mine.accuracy == pytest.approx(theirs.accuracy, abs=1e-9)
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
        # Random weights make some outputs enormous in evaluation, and their rounding with them.
        assert mine.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)
    states = (one.model.state_dict(), other.model.state_dict())
    torch.testing.assert_close(*states, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("unfrozen", [0, 1, 3])
@pytest.mark.parametrize(
    "family",
    [*FAMILIES, *(pytest.param(family, marks=pytest.mark.slow) for family in LARGER)],
    ids=lambda family: family["model"],
)
def test_training_on_cached_features_equals_training_the_whole_model(
    demo_data: ImageData,
    cache: Path,
    whole: Callable[..., Training],
    settled: Callable[..., Path],
    family: dict[str, Any],
    unfrozen: int,
):
    recipe = quick(**family, unfrozen=unfrozen, weights=str(settled(family)))
    on_features = trained(recipe, demo_data)
    assert len(features_in(cache)) == 1
    assert_same(on_features, whole(recipe, demo_data))
    assert len(features_in(cache)) == 1


def test_augmented_and_wholly_trained_recipes_train_from_images(demo_data: ImageData, cache: Path):
    for changes in ({"unfrozen": 1, "augment": "light"}, {"unfrozen": None}, {"unfrozen": 4}):
        trained(quick(**FAMILIES[-1], **changes), demo_data, epochs=1)
    assert features_in(cache) == []


def test_adam_takes_the_same_way_on_features_and_from_images(
    demo_data: ImageData, whole: Callable[..., Training], settled: Callable[..., Path]
):
    family = FAMILIES[-1]
    options = {"optimizer": "adam", "scheduler": "onecycle", "class_weighting": "balanced"}
    recipe = quick(**family, **options, unfrozen=2, epochs=3, weights=str(settled(family)))
    on_features, from_images = trained(recipe, demo_data), whole(recipe, demo_data)
    for mine, theirs in zip(on_features.history, from_images.history, strict=True):
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
        assert mine.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)


@pytest.mark.parametrize("first", ["features", "images"])
def test_a_checkpoint_of_one_path_goes_on_on_the_other(
    demo_data: ImageData,
    whole: Callable[..., Training],
    settled: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    first: str,
):
    family = FAMILIES[-1]
    recipe = quick(**family, unfrozen=2, epochs=3, weights=str(settled(family)))
    uninterrupted = whole(recipe, demo_data)
    begun = (trained if first == "features" else whole)(recipe, demo_data, epochs=1)
    assert begun.state_dict()["model"].keys() == uninterrupted.state_dict()["model"].keys()
    if first == "features":
        monkeypatch.setenv("FLOPWISE_FEATURES_GB", "0")
    resumed = Training(recipe, demo_data, device=torch.device("cpu"))
    resumed.load_state_dict(begun.state_dict())
    while not resumed.done:
        resumed.run_epoch()
    assert_same(resumed, uninterrupted)


def test_a_state_with_other_frozen_weights_is_trained_on_its_own_features(
    demo_data: ImageData, whole: Callable[..., Training], settled: Callable[..., Path]
):
    family = FAMILIES[-1]
    recipe = quick(**family, unfrozen=1, weights=str(settled(family)))
    begun = trained(recipe, demo_data, epochs=1)
    state = copy.deepcopy(begun.state_dict())
    with torch.no_grad():
        state["model"] = {key: value * 1.1 for key, value in state["model"].items()}
    begun.load_state_dict(copy.deepcopy(state))
    begun.run_epoch()
    from_images = whole(recipe, demo_data, epochs=1)
    from_images.load_state_dict(copy.deepcopy(state))
    from_images.run_epoch()
    assert_same(begun, from_images)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """From which cut to which features are computed; 0: from images."""
    seen: list[tuple[int, int]] = []
    between = frozen_features_module.model_between

    def watched(model: torch.nn.Module, start: int, stop: int | None) -> torch.nn.Sequential:
        seen.append((start, stop or -1))
        return between(model, start, stop)

    monkeypatch.setattr(frozen_features_module, "model_between", watched)
    layouts = frozen_features_module._Prefix._layouts

    def unseen(prefix: Any, cut: int) -> Any:
        before = list(seen)
        try:
            return layouts(prefix, cut)
        finally:
            seen[:] = before

    monkeypatch.setattr(frozen_features_module._Prefix, "_layouts", unseen)
    return seen


def test_a_deeper_cut_goes_on_from_the_deepest_shallower_one(
    demo_data: ImageData, cache: Path, computed: list[tuple[int, int]]
):
    for unfrozen in (6, 4, 1, 3, 8):
        trained(quick(**FAMILIES[0], unfrozen=unfrozen), demo_data, epochs=1)
    assert computed == [(0, 13), (13, 15), (15, 18), (15, 16), (0, 11)]
    assert len(features_in(cache)) == 5
    trained(quick(**FAMILIES[0], unfrozen=4, learning_rate=1e-3), demo_data, epochs=1)
    assert len(computed) == 5


def test_where_others_will_need_a_shallower_cut_images_are_read_for_that_one_alone(
    demo_data: ImageData,
    cache: Path,
    whole: Callable[..., Training],
    settled: Callable[..., Path],
    computed: list[tuple[int, int]],
):
    weights = str(settled(FAMILIES[0]))
    for unfrozen in (1, 8, 5):
        recipe = quick(**FAMILIES[0], unfrozen=unfrozen, weights=weights, epochs=1)
        ahead = trained(recipe, demo_data, deepest_unfrozen=8)
        assert_same(ahead, whole(recipe, demo_data))
    assert computed == [(0, 11), (11, 18), (11, 14)]


def test_a_shallower_cut_for_others_is_not_stored_where_it_takes_more_than_a_quarter_of_the_bound(
    demo_data: ImageData, monkeypatch: pytest.MonkeyPatch, computed: list[tuple[int, int]]
):
    # With all but the first block unfrozen: 8 channels of 24 x 24, 18 kB an image, then less.
    num_rows = len(demo_data.rows("train")) + len(demo_data.rows("validation"))
    monkeypatch.setenv("FLOPWISE_FEATURES_GB", str(num_rows * 18_000 * 4 / 1e9))
    trained(quick(**FAMILIES[0], unfrozen=1), demo_data, epochs=1, deepest_unfrozen=18)
    (start, ahead), *rest = computed
    assert start == 0
    assert 1 < ahead < 18
    assert rest == [(ahead, 18)]


def test_other_weights_data_and_sizes_have_features_of_their_own(
    demo_data: ImageData, cache: Path, tmp_path: Path
):
    base = {**FAMILIES[-1], "unfrozen": 1}
    other_data = make_demo(tmp_path / "other", classes=3, size=64, seed=1)
    trained(quick(**base), demo_data, epochs=1)
    for recipe, data in (
        (quick(**base, seed=1), demo_data),
        (quick(**{**base, "input_size": 64}), demo_data),
        (quick(**{**base, "residual": True}), demo_data),
        (quick(**base), other_data),
    ):
        before = len(features_in(cache))
        trained(recipe, data, epochs=1)
        assert len(features_in(cache)) == before + 1
    trained(quick(**base, batch_size=8, optimizer="adam"), demo_data, epochs=1)
    assert len(features_in(cache)) == 5


def test_the_name_of_a_weights_file_does_not_matter_but_its_content(
    demo_data: ImageData, cache: Path, settled: Callable[..., Path], tmp_path: Path
):
    family, file = FAMILIES[-1], tmp_path / "copy.pt"
    state = torch.load(settled(family), weights_only=True)
    torch.save(state, file)
    for weights in (settled(family), file):
        trained(quick(**family, unfrozen=1, weights=str(weights)), demo_data, epochs=1)
    assert len(features_in(cache)) == 1
    torch.save({key: value * 2 for key, value in state.items()}, file)
    trained(quick(**family, unfrozen=1, weights=str(file)), demo_data, epochs=1)
    assert len(features_in(cache)) == 2


def train_and_note_what_is_computed(
    recipe: Recipe, data: ImageData, folder: Path, name: str
) -> float:
    write = frozen_features_module.write_features

    def noting(*arguments: Any, first_row: int) -> None:
        with (folder / name).open("a") as file:
            file.write(f"{first_row}\n")
        while len(list(folder.iterdir())) == 1:  # for the other one to come to the same
            pass
        write(*arguments, first_row=first_row)

    frozen_features_module.write_features = noting
    frozen_features_module._SMALLEST_PART = 32
    torch.set_num_threads(1)
    return trained(recipe, data).history[-1].val_loss


def test_two_trials_at_the_same_time_compute_the_same_features_together(
    demo_data: ImageData, cache: Path, tmp_path: Path
):
    noted = tmp_path / "noted"
    noted.mkdir()
    recipe = quick(**FAMILIES[-1], unfrozen=1)
    arguments = [(recipe, demo_data, noted, name) for name in ("one", "other")]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        losses = pool.starmap(train_and_note_what_is_computed, arguments, chunksize=1)
    assert losses[0] == losses[1]
    num_rows = len(demo_data.rows("train")) + len(demo_data.rows("validation"))
    files = [file.read_text().split() for file in noted.iterdir()]
    assert len(files) == 2
    assert sorted(int(row) for rows in files for row in rows) == list(range(0, num_rows, 32))
    assert len(features_in(cache)) == 1


def test_features_computed_in_parts_are_those_computed_alone(
    demo_data: ImageData, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = quick(**FAMILIES[0], unfrozen=2)
    trained(recipe, demo_data, epochs=1)
    (file,) = features_in(cache)
    at_once = file.read_bytes()
    file.unlink()
    monkeypatch.setattr(frozen_features_module, "_SMALLEST_PART", 32)
    trained(recipe, demo_data, epochs=1)
    assert file.read_bytes() == at_once


def train_until_killed(recipe: Recipe, data: ImageData) -> None:
    def write_half(file: Any, layout: Layout, batches: Any, *, first_row: int) -> None:
        file.write(next(iter(batches)).numpy().tobytes())
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    frozen_features_module.write_features = write_half
    torch.set_num_threads(1)
    trained(recipe, data)


def test_a_trial_that_is_killed_while_it_computes_leaves_the_next_one_unharmed(
    demo_data: ImageData, cache: Path, whole: Callable[..., Training]
):
    recipe = quick(**FAMILIES[-1], unfrozen=1)
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=train_until_killed, args=(recipe, demo_data))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert features_in(cache) == []
    assert_same(trained(recipe, demo_data), whole(recipe, demo_data))
    (made,) = features_in(cache)
    assert {path for path in made.parent.iterdir() if path.suffix != ".lock"} == {made}


@contextmanager
def no_room() -> Iterator[None]:
    """Files of this process can't grow beyond 20 kB; what pytest prints may go to one of them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fits_in_memory", [True, False])
def test_without_room_on_the_disk_a_trial_ends_the_same_with_one_line_in_the_log(
    demo_data: ImageData,
    cache: Path,
    whole: Callable[..., Training],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fits_in_memory: bool,
):
    if not fits_in_memory:
        monkeypatch.setattr(frozen_features_module, "_MOST_BYTES_IN_MEMORY", 0)
    recipe = quick(**{**FAMILIES[-1], "input_size": 64}, unfrozen=1)
    with no_room():
        without = trained(recipe, demo_data)
    assert_same(without, whole(recipe, demo_data))
    assert features_in(cache) == []
    (line,) = caplog.messages
    assert line.startswith("frozen features are not kept on disk: ")


def test_a_cache_that_can_not_be_written_is_done_without(
    demo_data: ImageData, cache: Path, whole: Callable[..., Training]
):
    cache.touch()  # a file, where a folder should be
    recipe = quick(**{**FAMILIES[-1], "input_size": 64}, unfrozen=1)
    assert_same(trained(recipe, demo_data), whole(recipe, demo_data))


def test_features_that_are_too_large_for_the_bound_are_held_in_memory(
    demo_data: ImageData, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLOPWISE_FEATURES_GB", "0.0001")
    trained(quick(**FAMILIES[-1], unfrozen=1), demo_data, epochs=1)
    assert features_in(cache) == []


@pytest.mark.parametrize("kept", [0, 40, 0.5])
def test_a_damaged_file_of_features_is_made_anew(
    demo_data: ImageData, cache: Path, whole: Callable[..., Training], kept: float
):
    recipe = quick(**FAMILIES[-1], unfrozen=1)
    trained(recipe, demo_data, epochs=1)
    (file,) = features_in(cache)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    assert_same(trained(recipe, demo_data), whole(recipe, demo_data))
    assert features_in(cache) == [file]
    assert file.read_bytes() == content


def test_a_training_goes_on_when_its_features_are_thrown_out(demo_data: ImageData, cache: Path):
    recipe = quick(**FAMILIES[-1], unfrozen=1)
    training = trained(recipe, demo_data, epochs=1)
    for file in features_in(cache):
        file.unlink()
    training.run_epoch()
    assert training.history[-1].val_loss == trained(recipe, demo_data).history[-1].val_loss


def test_a_bound_that_is_no_number_is_told(demo_data: ImageData, monkeypatch: pytest.MonkeyPatch):
    for written in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("FLOPWISE_FEATURES_GB", written)
        with pytest.raises(UserError, match=f"FLOPWISE_FEATURES_GB: .*not {written}"):
            trained(quick(**FAMILIES[-1], unfrozen=1), demo_data, epochs=1)


def test_features_in_half_precision_equal_the_whole_model_in_half_precision(
    demo_data: ImageData,
    cache: Path,
    whole: Callable[..., Training],
    settled: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
):
    """As on a GPU; CPUs can do it too, slowly."""
    monkeypatch.setattr(gpus, "precision", lambda _: "bf16")
    for family in (FAMILIES[-1], FAMILIES[0]):
        recipe = quick(**family, unfrozen=1, learning_rate=1e-3, weights=str(settled(family)))
        on_features, from_images = trained(recipe, demo_data), whole(recipe, demo_data)
        for mine, theirs in zip(on_features.history, from_images.history, strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=0.02)
            assert mine.val_loss == pytest.approx(theirs.val_loss, rel=0.02)
    dtypes = {np.load(file, mmap_mode="r").dtype for file in features_in(cache)}
    assert dtypes == {np.dtype(np.uint16)}


def test_int8_blocks_have_features_in_float32_where_models_compute_in_half_precision(
    demo_data: ImageData, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (gpus, precision_stages):
        monkeypatch.setattr(module, "precision", lambda _: "bf16")
    recipe = quick(**FAMILIES[-1], unfrozen=1, qat=True, float_epochs=1)
    assert len(trained(recipe, demo_data, epochs=2).history) == 2
    dtypes = {np.load(file, mmap_mode="r").dtype for file in features_in(cache)}
    assert dtypes == {np.dtype(np.uint16), np.dtype(np.float32)}
