"""A family from outside, from its recipe to a file that predicts: images normalised its way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_family import NORMALIZATION, TOY, ToyNet

from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from spaces.space_file import parse_space
from spaces.suggesters import RandomTrial
from trainables.cost import recipe_cost
from trainables.costing.training_cost import trained_share
from trainables.data.dataset import ImageData
from trainables.describe import list_models
from trainables.export.trained_model import load_trained
from trainables.export.verified_export import export_verified
from trainables.inference.onnx_model import open_exported
from trainables.inference.predictions import evaluate
from trainables.learning.checkpoint import CHECKPOINT_FILE
from trainables.models.building import build_model
from trainables.models.families import FAMILIES
from trainables.models.family import IMAGENET_NORMALIZATION
from trainables.training import Training

RECIPE: dict[str, Any] = {"model": "toy_narrow", "input_size": 32, "epochs": 2, "batch_size": 16}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", TOY)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def trained(recipe: Recipe, data: ImageData) -> Training:
    training = Training(recipe, data, device=CPU)
    while not training.done:
        training.run_epoch()
    return training


def losses(training: Training) -> list[tuple[float, float]]:
    return [(metrics.train_loss, metrics.val_loss) for metrics in training.history]


def features_in(cache: Path) -> list[Path]:
    return sorted((cache / "features").glob("*.npy"))


def test_spaces_draw_recipes_of_it(tmp_path: Path):
    content = {"model": ["toy_narrow", "toy_wide"], "input_size": [32, 64], "unfrozen": [0, 1]}
    space = parse_space(content, name="toys", source="toys.yaml", folder=tmp_path)
    trial = RandomTrial(seed=0)
    assert {space.suggest(trial).model for _ in range(20)} == {"toy_narrow", "toy_wide"}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"width": 0.5}, "width: toy_narrow comes in one width; use 1.0"),
        ({"batch_norm": True}, "batch_norm: only baseline_cnn has this option, toy_narrow has not"),
        ({"residual": True}, "residual: only baseline_cnn has this option, toy_narrow has not"),
    ],
)
def test_switches_that_it_does_not_have_are_refused(values: dict[str, Any], line: str):
    with pytest.raises(UserError, match=line):
        recipe_from({**RECIPE, **values})


def test_its_cost_follows_the_closed_form():
    cost = recipe_cost(recipe_from(RECIPE), 7)
    macs = 3 * 9 * 4 * 16**2, 4 * 9 * 8 * 8**2, 8 * 7
    assert cost.gmacs == sum(macs) / 1e9
    assert cost.params == (3 * 9 + 1 + 2) * 4 + (4 * 9 + 1 + 2) * 8 + (8 + 1) * 7
    assert cost.uncounted == ()
    assert trained_share(recipe_from({**RECIPE, "unfrozen": 1}), 7) == sum(macs[1:]) / sum(macs)


def test_it_is_listed_with_what_was_counted():
    line = next(line for line in list_models() if line.name == "toy_wide")
    cost = recipe_cost(Recipe(model="toy_wide"), 1000)
    assert (line.gmacs, line.params, line.imagenet_accuracy) == (cost.gmacs, cost.params, None)


def test_it_trains_on_cached_features_as_from_images(
    demo_data: ImageData, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = recipe_from({**RECIPE, "unfrozen": 1})
    on_features = trained(recipe, demo_data)
    assert len(features_in(cache)) == 1
    monkeypatch.setenv("FLOPWISE_FEATURES_GB", "0")
    from_images = trained(recipe, demo_data)
    np.testing.assert_allclose(losses(on_features), losses(from_images), rtol=1e-4)
    assert losses(from_images) != losses(trained(recipe.replace(unfrozen=None), demo_data))


@pytest.mark.parametrize("unfrozen", [None, 1])
def test_images_that_are_normalised_otherwise_make_other_features_and_another_model(
    demo_data: ImageData, cache: Path, monkeypatch: pytest.MonkeyPatch, unfrozen: int | None
):
    recipe = recipe_from({**RECIPE, "unfrozen": unfrozen})
    its_own = trained(recipe, demo_data)
    imagenets = replace(TOY, normalization=lambda _recipe: IMAGENET_NORMALIZATION)
    monkeypatch.setitem(FAMILIES, "toy", imagenets)
    assert losses(trained(recipe, demo_data)) != losses(its_own)
    assert len(features_in(cache)) == (0 if unfrozen is None else 2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"unfrozen": 1}, {"unfrozen": 1, "qat": True, "epochs": 3}],
    ids=["float", "frozen", "int8"],
)
def test_what_is_exported_predicts_as_torch_does_from_images_normalised_by_hand(
    demo_data: ImageData, tmp_path: Path, changes: dict[str, Any]
):
    recipe = recipe_from({**RECIPE, **changes})
    training = trained(recipe, demo_data)
    torch.save(training.state_dict(), tmp_path / CHECKPOINT_FILE)
    loaded = load_trained(recipe, demo_data, tmp_path, threads=1)
    about, _ = export_verified(loaded, demo_data, tmp_path / "toy.onnx", "onnx")
    assert (about.mean, about.std) == (NORMALIZATION.mean, NORMALIZATION.std)

    exported = open_exported(tmp_path / "toy.onnx")
    pixels_NHWC = demo_data.at_size(32).take(demo_data.rows("validation"))
    scaled_NHWC = (pixels_NHWC / 255 - NORMALIZATION.mean) / NORMALIZATION.std
    images_NCHW = torch.from_numpy(scaled_NHWC).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = loaded.torch_model()(images_NCHW).numpy()
    step = 0.02 if recipe.qat else 1e-4  # torch's int8 rounds in other places
    np.testing.assert_allclose(exported.logits(pixels_NHWC), expected, atol=step)
    accuracy = evaluate(exported, demo_data.path).accuracy
    assert accuracy == pytest.approx(training.history[-1].accuracy, abs=0.002)


def test_a_checkpoint_keeps_the_normalisation_of_the_weights_that_it_began_with(
    demo_data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    by_weights = replace(
        TOY,
        normalization=lambda recipe: (
            IMAGENET_NORMALIZATION if recipe.weights == "none" else NORMALIZATION
        ),
    )
    monkeypatch.setitem(FAMILIES, "toy", by_weights)
    torch.save(ToyNet(4, num_classes=9).state_dict(), tmp_path / "toy.pt")
    recipe = recipe_from({**RECIPE, "weights": str(tmp_path / "toy.pt")})
    training = trained(recipe, demo_data)
    torch.save(training.state_dict(), tmp_path / CHECKPOINT_FILE)
    (tmp_path / "toy.pt").unlink()  # the checkpoint has all of its own
    loaded = load_trained(recipe, demo_data, tmp_path, threads=1)
    rows = demo_data.rows("validation")
    answers_N = loaded.logits(demo_data.at_size(32).take(rows)).argmax(axis=1)
    accuracy = (answers_N == demo_data.labels[rows]).mean()
    assert accuracy == pytest.approx(training.history[-1].accuracy)
    about, _ = export_verified(loaded, demo_data, tmp_path / "toy.onnx", "onnx")
    assert about.mean == NORMALIZATION.mean


def test_the_pt2_file_is_checked_with_images_normalised_its_way(
    demo_data: ImageData, tmp_path: Path
):
    training = trained(recipe_from({**RECIPE, "epochs": 1}), demo_data)
    torch.save(training.state_dict(), tmp_path / CHECKPOINT_FILE)
    loaded = load_trained(training.recipe, demo_data, tmp_path, threads=1)
    _, checked = export_verified(loaded, demo_data, tmp_path / "toy.pt2", "pt2")
    assert f"the same prediction on {len(demo_data.rows('validation'))} images" in checked


def test_its_weights_come_from_a_file_and_its_head_need_not_fit(tmp_path: Path):
    torch.manual_seed(0)
    source = ToyNet(4, num_classes=9)
    torch.save(source.state_dict(), tmp_path / "toy.pt")
    model = build_model(recipe_from({**RECIPE, "weights": str(tmp_path / "toy.pt")}), 5)
    assert isinstance(model, ToyNet)
    first = "blocks.0.0.weight"
    assert torch.equal(model.state_dict()[first], source.state_dict()[first])
    assert model.head.weight.shape == (5, 8)
