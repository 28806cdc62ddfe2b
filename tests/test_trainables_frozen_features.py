from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.recipe import Recipe, recipe_from
from trainables.augmentation import normalize, to_batch
from trainables.images import ImageData
from trainables.models import build_model
from trainables.training import Training

# Plain gradients: Adam makes steps of rounding errors where the true gradient is 0.
QUICK: dict[str, Any] = {
    **{"input_size": 48, "epochs": 2, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.01}
}
FAMILIES = [
    {"model": "mobilenet_v2", "width": 0.25},
    {"model": "mobilenet_v3_small"},
    {"model": "efficientnet_b0", "batch_size": 32},
    {"model": "resnet18"},
    {"model": "baseline_cnn", "width": 0.125, "batch_norm": True},
]


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
            model = build_model(recipe, num_classes=len(demo_data.classes)).train()
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            pixels = demo_data.at_size(recipe.input_size).take(demo_data.rows("train"))
            with torch.no_grad():
                for _ in range(2):
                    model(normalize(to_batch(pixels, torch.device("cpu"))))
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
        assert mine.val_loss == pytest.approx(theirs.val_loss, rel=1e-4)
    states = (one.model.state_dict(), other.model.state_dict())
    torch.testing.assert_close(*states, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("unfrozen", [0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family["model"])
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
