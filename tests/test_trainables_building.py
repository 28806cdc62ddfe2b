from bisect import bisect_left

import pytest
import torch
import torchvision

from spaces.errors import UserError
from spaces.recipe import WIDTH_FAMILIES, Recipe
from trainables.describe import describe_model, list_models
from trainables.models.blocks import list_blocks
from trainables.models.building import build_model, build_on_meta, check_input_size, model_names
from trainables.models.forward_steps import find_head

# One of each family that is small enough to run, at a size that it takes.
FAMILIES = {
    "alexnet": 63,
    "baseline_cnn": 48,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_large": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 64,
}
# With those that are built otherwise, and shapes alone can be had of.
EVERY_FAMILY = (
    *FAMILIES,
    *("efficientnet_v2_s", "maxvit_t", "regnet_x_400mf", "resnext50_32x4d", "squeezenet1_0"),
    *("swin_v2_t", "vgg11", "vit_b_16", "wide_resnet50_2"),
)


def test_every_torchvision_classifier_and_the_baseline_have_names():
    names = model_names()
    assert names[0] == "baseline_cnn"
    assert set(names[1:]) == set(torchvision.models.list_models(module=torchvision.models))


def test_no_family_of_torchvision_is_missing_from_the_contract_below():
    def family(name: str) -> str:
        return torchvision.models.get_model_builder(name).__module__

    expected = {family(name) for name in model_names()[1:]}
    assert {family(name) for name in EVERY_FAMILY if name != "baseline_cnn"} == expected


@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_every_parameter_is_in_one_block_or_in_the_head_for_the_classes(name: str):
    model = build_on_meta(Recipe(model=name, input_size=224), 151)
    blocks = list_blocks(model)
    _, head = find_head(model)
    held = [p for block in blocks for p in block.parameters()] + list(head.parameters())
    assert len(held) == len(set(map(id, held)))
    assert set(map(id, held)) == set(map(id, model.parameters()))
    assert head.weight.shape[0] == 151
    assert all(next(block.parameters(), None) is not None for block in blocks)
    assert len({block.name for block in blocks}) == len(blocks)


@pytest.mark.parametrize("name", FAMILIES)
def test_models_return_a_score_a_class_in_training_and_evaluation(name: str):
    size = FAMILIES[name]
    model = build_on_meta(Recipe(model=name, input_size=size), 7)
    images = torch.empty(2, 3, size, size, device="meta")
    assert model.train()(images).shape == (2, 7)
    assert model.eval()(images).shape == (2, 7)


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES if name not in ("baseline_cnn", "vit_b_32")]
)
def test_sizes_are_taken_from_the_smallest_that_is_told(name: str):
    model = build_on_meta(Recipe(model=name, input_size=224), 3).eval()

    def works(size: int) -> bool:
        try:
            return model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 3)
        except (RuntimeError, ValueError):
            return False

    smallest = bisect_left(range(224), True, lo=8, key=works)
    check_input_size(name, smallest)
    if smallest > 8:  # recipes go no lower
        with pytest.raises(UserError, match=f"at least {smallest}$"):
            check_input_size(name, smallest - 1)


@pytest.mark.parametrize(
    ("name", "size", "multiple", "nearest"),
    [("vit_b_16", 100, 16, 96), ("vit_h_14", 224 + 8, 14, 238), ("maxvit_t", 112, 224, 224)],
)
def test_sizes_that_do_not_fit_patches_are_told_with_the_nearest(
    name: str, size: int, multiple: int, nearest: int
):
    with pytest.raises(UserError, match=f"multiples of {multiple} px, not {size}; use {nearest}$"):
        build_on_meta(Recipe(model=name, input_size=size), 3)
    build_on_meta(Recipe(model=name, input_size=nearest), 3)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UserError, match="did you mean resnet18"):
        build_model(Recipe(model="resnet_18"), 3)


def test_width_multiplies_channels():
    for name in WIDTH_FAMILIES:
        channels = [
            next(build_on_meta(Recipe(model=name, width=width), 3).parameters()).shape[0]
            for width in (0.5, 1.0, 2.0)
        ]
        assert channels == [channels[1] // 2, channels[1], channels[1] * 2]


def test_random_weights_are_a_function_of_the_seed_and_of_nothing_else():
    recipe = Recipe(model="mobilenet_v3_small", input_size=32, seed=3)
    first = build_model(recipe, 5).state_dict()
    torch.rand(3)
    second = build_model(recipe, 5).state_dict()
    other = build_model(recipe.replace(seed=4), 5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["classifier.3.weight"], other["classifier.3.weight"])


def test_building_leaves_global_random_state_as_it_was():
    before = torch.get_rng_state()
    build_model(Recipe(width=0.1), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_list_of_models_has_a_line_for_each():
    lines = list_models()
    assert [line.name for line in lines] == list(model_names())
    resnet = next(line for line in lines if line.name == "resnet18")
    assert (resnet.input_size, resnet.params, resnet.gmacs) == (224, 11_689_512, 1.814)


@pytest.mark.parametrize("name", ["baseline_cnn", "mobilenet_v3_small", "vit_b_32", "densenet121"])
def test_a_description_adds_up_to_the_cost(name: str):
    description = describe_model(name, 96, 151)
    assert sum(row.params for row in description.rows) == description.cost.params
    assert sum(row.gmacs for row in description.rows) == pytest.approx(description.cost.gmacs)
    assert [row.unfrozen for row in description.rows] == list(
        reversed(range(len(description.rows)))
    )
