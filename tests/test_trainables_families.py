"""A contract for every family in the table: a new one is held to it without a line here."""

import re
from bisect import bisect_left
from importlib.metadata import version
from itertools import chain

import pytest
import torch
import torchvision
from torch import nn
from toy_family import TOY

from spaces.errors import UserError
from spaces.recipe import MODELS_WITH, Recipe
from trainables.describe import describe_model, list_models
from trainables.models.blocks import list_blocks, split_model
from trainables.models.building import build_model, build_on_meta, check_input_size
from trainables.models.families import FAMILIES, family_of, model_names, normalization_of
from trainables.models.family import Family

TABLE = {**FAMILIES, "toy": TOY}
# One of each kind that torchvision has and that is small enough to run, at a size that it takes.
TORCHVISION_SIZES = {
    "alexnet": 63,
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
ONE_OF_EACH_TORCHVISION = (
    *TORCHVISION_SIZES,
    *("efficientnet_v2_s", "maxvit_t", "regnet_x_400mf", "resnext50_32x4d", "squeezenet1_0"),
    *("swin_v2_t", "vgg11", "vit_b_16", "wide_resnet50_2"),
)


def smallest_size(family: Family, name: str) -> int:
    """Of some common ones, in pixels."""
    for size in (32, 48, 64, 96, 128, 224):
        try:
            family.check_input_size(name, size)
        except UserError:
            continue
        return size
    raise AssertionError(f"{name} takes none of the common sizes")


FIRST_OF_EACH = {
    name: smallest_size(family, name)
    for family in TABLE.values()
    if family is not FAMILIES["torchvision"]
    for name in family.names()[:1]
}
SIZES = {**FIRST_OF_EACH, **TORCHVISION_SIZES}
ONE_OF_EACH = (*FIRST_OF_EACH, *ONE_OF_EACH_TORCHVISION)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "toy", TOY)


def test_no_name_belongs_to_two_families():
    names = [family.names() for family in FAMILIES.values()]
    assert all(names)
    assert len(set(chain(*names))) == len(model_names())
    for name in model_names():
        assert sum(family.has_name(name) for family in FAMILIES.values()) == 1
        assert name in family_of(name).names()


@pytest.mark.parametrize("name", SIZES)
def test_a_family_knows_the_models_that_it_built_and_no_other_does(name: str):
    model = build_on_meta(Recipe(model=name, input_size=SIZES[name]), 3)
    assert [family for family in FAMILIES.values() if family.built(model)] == [family_of(name)]


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("weights", ["none", "imagenet", "/w/net.pt"])
def test_every_model_says_how_its_images_are_normalised(name: str, weights: str):
    family, recipe = family_of(name), Recipe(model=name)
    if weights != "imagenet" or family.load_imagenet is not None:
        recipe = recipe.replace(weights=weights)
    normalization = normalization_of(recipe)
    assert len(normalization.mean) == len(normalization.std) == 3
    assert all(0 <= mean <= 1 for mean in normalization.mean)
    assert all(0 < std <= 1 for std in normalization.std)
    assert hash(normalization) == hash(family.normalization(recipe))  # tensors are cached by it


def test_versions_of_what_decides_a_models_outputs_can_be_told():
    assert all(version(package) for family in FAMILIES.values() for package in family.packages)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [8, 50])
def test_a_size_works_or_is_refused_with_one_that_does(name: str, size: int):
    try:
        check_input_size(name, size)
    except UserError as error:
        told = re.fullmatch(r"input_size: .*; use (?:at least )?(\d+)", str(error))
        size = int(told[1]) if told else 0
    assert size > 0
    model = build_on_meta(Recipe(model=name, input_size=size), 3).eval()
    assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("name", SIZES)
def test_steps_are_the_forward_pass_and_cut_anywhere_they_still_are(name: str):
    size = SIZES[name]
    model = build_model(Recipe(model=name, input_size=size), 5).eval()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    num_blocks = len(list_blocks(model))
    with torch.inference_mode():
        expected = model(images)
        steps = nn.Sequential(*(step.module for step in family_of(name).steps(model)))
        assert torch.equal(steps(images), expected)
        for unfrozen in {0, 1, num_blocks // 2, num_blocks}:
            prefix, suffix = split_model(model, unfrozen)
            assert torch.equal(suffix(prefix(images)), expected)


def test_imagenet_weights_are_refused_where_there_are_none():
    for name in FIRST_OF_EACH:
        if family_of(name).load_imagenet is None and name != "baseline_cnn":  # a recipe knows that
            with pytest.raises(UserError, match=f"no imagenet weights for {name}; use none$"):
                build_model(Recipe(model=name, input_size=SIZES[name], weights="imagenet"), 3)


def test_every_torchvision_classifier_and_the_baseline_have_names():
    names = model_names()
    assert names[0] == "baseline_cnn"
    assert set(FAMILIES["torchvision"].names()) == set(
        torchvision.models.list_models(module=torchvision.models)
    )


def test_no_module_of_torchvision_is_missing_from_the_contract():
    def family(name: str) -> str:
        return torchvision.models.get_model_builder(name).__module__

    expected = {family(name) for name in FAMILIES["torchvision"].names()}
    assert {family(name) for name in ONE_OF_EACH_TORCHVISION} == expected


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_parameter_is_in_one_block_or_in_the_head_for_the_classes(name: str):
    model = build_on_meta(Recipe(model=name, input_size=224), 151)
    blocks = list_blocks(model)
    head = model.get_submodule(family_of(name).head(model))
    held = [p for block in blocks for p in block.parameters()] + list(head.parameters())
    assert len(held) == len(set(map(id, held)))
    assert set(map(id, held)) == set(map(id, model.parameters()))
    assert isinstance(head, nn.Linear | nn.Conv2d)
    assert len(head.weight) == 151
    assert all(next(block.parameters(), None) is not None for block in blocks)
    assert len({block.name for block in blocks}) == len(blocks)


@pytest.mark.parametrize("name", SIZES)
def test_models_return_a_score_a_class_in_training_and_evaluation(name: str):
    size = SIZES[name]
    model = build_on_meta(Recipe(model=name, input_size=size), 7)
    images = torch.empty(2, 3, size, size, device="meta")
    assert model.train()(images).shape == (2, 7)
    assert model.eval()(images).shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in TORCHVISION_SIZES if name != "vit_b_32"])
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
    for name in MODELS_WITH["width"]:
        channels = [
            next(build_on_meta(Recipe(model=name, width=width), 3).parameters()).shape[0]
            for width in (0.5, 1.0, 2.0)
        ]
        assert channels == [channels[1] // 2, channels[1], channels[1] * 2]


@pytest.mark.parametrize("name", [*FIRST_OF_EACH, "mobilenet_v3_small"])
def test_random_weights_are_a_function_of_the_seed_and_of_nothing_else(name: str):
    recipe = Recipe(model=name, input_size=SIZES[name], seed=3)
    model = build_model(recipe, 5)
    head = f"{family_of(name).head(model)}.weight"
    first = model.state_dict()
    torch.rand(3)
    second = build_model(recipe, 5).state_dict()
    other = build_model(recipe.replace(seed=4), 5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first[head], other[head])


def test_building_leaves_global_random_state_as_it_was():
    for name, size in FIRST_OF_EACH.items():
        before = torch.get_rng_state()
        build_model(Recipe(model=name, input_size=size), 5)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_list_of_models_has_a_line_for_each():
    lines = list_models()
    assert [line.name for line in lines] == list(model_names())
    resnet = next(line for line in lines if line.name == "resnet18")
    assert (resnet.input_size, resnet.params, resnet.gmacs) == (224, 11_689_512, 1.814)


@pytest.mark.parametrize("name", [*FIRST_OF_EACH, "mobilenet_v3_small", "vit_b_32", "densenet121"])
def test_a_description_adds_up_to_the_cost(name: str):
    description = describe_model(name, 96, 151)
    assert sum(row.params for row in description.rows) == description.cost.params
    assert sum(row.gmacs for row in description.rows) == pytest.approx(description.cost.gmacs)
    assert [row.unfrozen for row in description.rows] == list(
        reversed(range(len(description.rows)))
    )
