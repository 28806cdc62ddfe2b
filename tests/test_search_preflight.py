from pathlib import Path
from typing import Any

import pytest
import torch

from search.study.preflight import check_study
from search.study.study import load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.yaml_files import write_yaml
from trainables.data.dataset import ImageData
from trainables.models.building import build_model


def check(folder: Path, data: ImageData, space: Any, **changes: Any) -> None:
    content = {"name": "tiny", "data": {"path": str(data.path)}, "space": space, **changes}
    path = folder / "study.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    check_study(load_study(path), data)


def mistake_in(folder: Path, data: ImageData, space: Any, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(folder, data, space, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_that_fits_its_data_passes(tmp_path: Path, demo_data: ImageData):
    check(tmp_path, demo_data, "quick")


@pytest.mark.parametrize("sizes", [[48, 96], {"int": [32, 96]}, 96])
def test_images_that_are_too_small_are_found_with_the_size_to_prepare(
    sizes: Any, tmp_path: Path, demo_data: ImageData
):
    line = mistake_in(tmp_path, demo_data, {"input_size": sizes})
    assert "goes up to 96 px" in line
    assert "holds images of 64 px; prepare them with --size 96, or use smaller" in line


def test_recipes_to_be_tried_first_are_checked_too(tmp_path: Path, demo_data: ImageData):
    space = {"input_size": 64, "enqueue": [{"input_size": 80}]}
    assert "80 px" in mistake_in(tmp_path, demo_data, space)


def test_a_model_that_is_not_there_is_found(tmp_path: Path, demo_data: ImageData):
    space = {"model": ["baseline_cnn", "mobilnet_v2"], "input_size": 64}
    line = mistake_in(tmp_path, demo_data, space)
    assert "there is no mobilnet_v2; did you mean mobilenet_v2?" in line


def test_a_model_is_checked_at_its_smallest_input(tmp_path: Path, demo_data: ImageData):
    space = {"model": ["baseline_cnn", "squeezenet1_1"], "input_size": [8, 64]}
    assert mistake_in(tmp_path, demo_data, space).startswith("input_size: ")


def test_weights_are_loaded_once_before_the_search(tmp_path: Path, demo_data: ImageData):
    space = {"model": "squeezenet1_1", "input_size": 64, "weights": "net.pt", "epochs": [1, 2]}
    assert "net.pt: there is no such file" in mistake_in(tmp_path, demo_data, space)
    (tmp_path / "net.pt").write_bytes(b"not weights")
    assert "net.pt: is damaged" in mistake_in(tmp_path, demo_data, space)
    model = build_model(Recipe(model="squeezenet1_1", input_size=64), num_classes=3)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    check(tmp_path, demo_data, space)


def test_weights_of_a_recipe_to_be_tried_first_are_loaded_too(tmp_path: Path, demo_data: ImageData):
    first = {"model": "squeezenet1_1", "input_size": 64, "weights": "net.pt"}
    space = {"input_size": 64, "enqueue": [first]}
    assert "net.pt: there is no such file" in mistake_in(tmp_path, demo_data, space)
