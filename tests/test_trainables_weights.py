import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.inputs.augmentation import normalize
from trainables.models.building import build_model
from trainables.models.families import normalization_of
from trainables.models.family import IMAGENET_NORMALIZATION
from trainables.models.torchvision_models import TORCHVISION
from trainables.models.weights import load_file

REAL_WEIGHTS = (
    Path(__file__).parents[2] / "shared" / "weights" / "mobilenet_v2_features_imagenet.pt"
)
SMALL = Recipe(model="squeezenet1_1", input_size=32, seed=1)


def save(content: object, folder: Path) -> str:
    path = folder / "weights.pt"
    torch.save(content, path)
    return str(path)


def state_of(recipe: Recipe, num_classes: int = 5) -> dict[str, torch.Tensor]:
    return build_model(recipe, num_classes).state_dict()


def test_a_saved_model_comes_back_with_its_head(tmp_path: Path):
    state = state_of(SMALL)
    for content in (state, {"state_dict": state, "epoch": 3}, {"model": state}):
        path = save(content, tmp_path)
        loaded = state_of(SMALL.replace(seed=2, weights=path))
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_names_of_distributed_training_are_understood(tmp_path: Path):
    state = state_of(SMALL)
    path = save({f"module.{key}": value for key, value in state.items()}, tmp_path)
    assert torch.equal(
        state_of(SMALL.replace(seed=2, weights=path))["features.0.weight"],
        state["features.0.weight"],
    )


def test_a_head_for_other_classes_stays_as_the_seed_made_it(tmp_path: Path):
    path = save(state_of(SMALL, 1000), tmp_path)
    fresh = state_of(SMALL.replace(seed=2))
    loaded = state_of(SMALL.replace(seed=2, weights=path))
    assert torch.equal(loaded["classifier.1.weight"], fresh["classifier.1.weight"])
    assert not torch.equal(loaded["features.0.weight"], fresh["features.0.weight"])


def test_a_file_of_features_alone_is_enough(tmp_path: Path):
    recipe = Recipe(model="mobilenet_v3_small", input_size=32, seed=1)
    state = state_of(recipe)
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    loaded = state_of(recipe.replace(seed=2, weights=save(features, tmp_path)))
    fresh = state_of(recipe.replace(seed=2))
    assert all(
        torch.equal(loaded[key], (features if key in features else fresh)[key]) for key in loaded
    )


def test_keys_that_do_not_fit_are_named_and_counted(tmp_path: Path):
    state = state_of(SMALL)
    del state["features.0.bias"]
    state["features.3.squeeze.weight"] = torch.zeros(2, 2)
    state |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(UserError) as error:
        state_of(SMALL.replace(weights=save(state, tmp_path)))
    message = str(error.value)
    assert message.count("\n") == 0
    assert "does not fit squeezenet1_1" in message
    assert "the model has no extra.0, extra.1, extra.2 and 2 more" in message
    assert "the file lacks features.0.bias;" in message
    assert "features.3.squeeze.weight (2, 2), not (16, 64, 1, 1)" in message


def test_weights_of_another_width_are_told(tmp_path: Path):
    path = save(state_of(Recipe(width=0.5)), tmp_path)
    with pytest.raises(UserError, match=r"other shapes: blocks\.0\.conv\.weight"):
        state_of(Recipe(width=0.25, weights=path))


def test_a_file_with_nothing_but_a_foreign_head_is_told(tmp_path: Path):
    path = save({"classifier.1.weight": torch.zeros(9, 512, 1, 1)}, tmp_path)
    with pytest.raises(UserError, match="only holds a head of another shape"):
        state_of(SMALL.replace(weights=path))


def write_text(path: Path) -> None:
    path.write_text("hello there, this is no state dict")


def write_nothing(path: Path) -> None:
    path.touch()


def write_half(path: Path) -> None:
    torch.save(nn.Linear(100, 100).state_dict(), path)
    path.write_bytes(path.read_bytes()[:20_000])


def write_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(os.getcwd))


def write_whole_model(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def write_list(path: Path) -> None:
    torch.save([torch.ones(1)], path)


def write_empty_dict(path: Path) -> None:
    torch.save({}, path)


@pytest.mark.parametrize(
    "write",
    [
        *(write_text, write_nothing, write_half, write_code, write_whole_model),
        *(write_list, write_empty_dict, Path.mkdir),
    ],
)
def test_files_without_a_state_dict_are_told_in_one_line(write, tmp_path: Path):
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(UserError) as error:
        load_file(nn.Linear(2, 2), path, TORCHVISION)
    assert str(error.value).startswith(f"weights: {path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file"):
        load_file(nn.Linear(2, 2), tmp_path / "weights.pt", TORCHVISION)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""

    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_a_hub_out_of_reach_is_told_with_the_file_and_its_place(hub: Path):
    recipe = Recipe(model="mobilenet_v3_small", weights="imagenet", input_size=32)
    with pytest.raises(UserError) as error:
        build_model(recipe, 5)
    message = str(error.value)
    file = "mobilenet_v3_small-047dcff4.pth"
    assert f"{file} could not be downloaded" in message
    assert f"download https://download.pytorch.org/models/{file}" in message
    assert f"put it at {hub / file}" in message
    assert "\n" not in message


def test_weights_in_the_hubs_cache_are_taken_and_their_head_is_not(hub: Path):
    recipe = SMALL.replace(weights="imagenet", seed=2)
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    published = state_of(SMALL, 1000)
    torch.save(published, hub / weights.url.rsplit("/", 1)[-1])
    loaded, fresh = state_of(recipe), state_of(SMALL.replace(seed=2))
    assert torch.equal(loaded["features.0.weight"], published["features.0.weight"])
    assert torch.equal(loaded["classifier.1.weight"], fresh["classifier.1.weight"])


def test_a_damaged_file_in_the_hubs_cache_is_told(hub: Path):
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    (hub / weights.url.rsplit("/", 1)[-1]).write_text("half a download")
    with pytest.raises(UserError, match="is damaged; download https"):
        build_model(SMALL.replace(weights="imagenet"), 5)


def test_googlenets_imagenet_weights_come_with_their_scaling_and_without_auxiliary_heads(hub: Path):
    recipe = Recipe(model="googlenet", input_size=32)
    state = state_of(recipe) | {"aux1.fc1.bias": torch.zeros(3), "aux2.fc1.bias": torch.zeros(3)}
    name = torchvision.models.GoogLeNet_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(state, hub / name)
    pretrained = recipe.replace(weights="imagenet")
    ours = build_model(pretrained, 1000).eval()
    # torchvision scales inside of the model, and has it take what other models do.
    theirs = torchvision.models.googlenet(weights=None, init_weights=False, transform_input=True)
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(normalize(pixels, normalization_of(pretrained))),
            theirs.eval()(normalize(pixels, IMAGENET_NORMALIZATION)),
        )
    assert normalization_of(recipe) == IMAGENET_NORMALIZATION


def test_old_names_in_densenet_files_are_understood(tmp_path: Path):
    recipe = Recipe(model="densenet121", input_size=32)
    state = state_of(recipe)
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): state[key] for key in state
    }
    loaded = state_of(recipe.replace(seed=2, weights=save(old, tmp_path)))
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_positions_of_a_vision_transformer_are_stretched_to_the_input_size(tmp_path: Path):
    small, large = (
        torchvision.models.VisionTransformer(
            size, patch_size=32, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3
        )
        for size in (64, 96)
    )
    state = small.state_dict()
    state["encoder.pos_embedding"] = torch.full((1, 2 * 2 + 1, 8), 0.5)
    load_file(large, save(state, tmp_path), TORCHVISION)
    torch.testing.assert_close(
        large.encoder.pos_embedding.detach(), torch.full((1, 3 * 3 + 1, 8), 0.5)
    )


def test_versions_of_torchvisions_modules_survive_a_plain_dict(tmp_path: Path):
    recipe = Recipe(model="mnasnet0_5", input_size=32)
    state_of(recipe.replace(weights=save(dict(state_of(recipe)), tmp_path)))


def test_imagenet_weights_need_the_models_own_width(hub: Path):
    name = torchvision.models.MobileNet_V2_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(state_of(Recipe(model="mobilenet_v2", input_size=32)), hub / name)
    with pytest.raises(UserError, match="other shapes"):
        build_model(Recipe(model="mobilenet_v2", width=0.5, weights="imagenet"), 5)


@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason="needs ../shared/weights")
def test_real_imagenet_features_load_into_mobilenet_v2():
    recipe = Recipe(model="mobilenet_v2", input_size=96, weights=str(REAL_WEIGHTS), unfrozen=0)
    model = build_model(recipe, 25)
    file = torch.load(REAL_WEIGHTS, weights_only=True)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in file.items())
    assert state["classifier.1.weight"].shape == (25, 1280)


def test_imagenet_weights_keep_the_models_head_even_for_a_thousand_classes(hub: Path):
    model = build_model(SMALL, 1000)
    head = model.get_submodule("classifier.1").weight.clone()  # pyright: ignore
    other = state_of(SMALL.replace(seed=3), 1000)
    torch.save(other, hub / torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[-1])
    assert TORCHVISION.load_imagenet is not None
    TORCHVISION.load_imagenet(model, "squeezenet1_1")
    assert torch.equal(model.state_dict()["classifier.1.weight"], head)
    assert torch.equal(model.state_dict()["features.0.weight"], other["features.0.weight"])
