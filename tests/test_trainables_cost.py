import json
from typing import Any

import pytest
import torch
import torchvision
from test_trainables_families import ONE_OF_EACH_TORCHVISION
from torch import nn

from spaces.columns import COSTS, LATENCY
from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS, Recipe
from trainables.cost import MEASURES, Cost, measure_cost, recipe_cost
from trainables.costing.macs import count_macs
from trainables.models.building import build_on_meta


def closed_form_macs(*, size: int, width: float, classes: int) -> int:
    """Multiply-adds of the baseline CNN: every weight of a convolution meets each output pixel."""
    macs, channels = 0, 3
    for base, kernel in ((64, 5), (128, 3), (128, 3), (128, 3)):
        out = round(base * width)
        size = size - kernel + 1
        macs += channels * kernel * kernel * out * size * size
        size, channels = size // 2, out
    return macs + channels * size * size * classes


def test_the_baseline_costs_what_the_seed_report_says():
    cost = recipe_cost(Recipe(model="baseline_cnn", input_size=112), 151)
    assert (cost.gflops, cost.params) == (0.711022336, 857_239)
    with_norm = recipe_cost(Recipe(model="baseline_cnn", input_size=112, batch_norm=True), 151)
    assert (with_norm.gflops, with_norm.params) == (0.711022336, 858_135)


def test_mobilenet_v3_large_costs_what_the_seed_report_says():
    cost = recipe_cost(Recipe(model="mobilenet_v3_large", input_size=224), 151)
    assert cost.gflops == 0.431006080


@pytest.mark.parametrize("size", [48, 96, 112, 225])
@pytest.mark.parametrize("width", [0.25, 1.0, 1.5])
@pytest.mark.parametrize(("batch_norm", "residual"), [(False, False), (True, False), (False, True)])
def test_the_baseline_follows_the_closed_form(
    size: int, width: float, batch_norm: bool, residual: bool
):
    recipe = Recipe(input_size=size, width=width, batch_norm=batch_norm, residual=residual)
    cost = recipe_cost(recipe, 151)
    macs = closed_form_macs(size=size, width=width, classes=151)
    assert cost.gmacs == macs / 1e9
    assert cost.gflops == cost.effective_gflops == 2 * macs / 1e9
    assert cost.gbops == macs * 32 * 32 / 1e9
    assert cost.uncounted == ()


@pytest.mark.parametrize("name", ONE_OF_EACH_TORCHVISION)
def test_every_kind_of_torchvision_model_costs_what_torchvision_publishes(name: str):
    weights = next(iter(torchvision.models.get_model_weights(name)))
    size = weights.transforms().crop_size[0]
    cost = recipe_cost(Recipe(model=name, input_size=size), 1000)
    # Published with three decimals, some of them cut off in place of rounded.
    assert cost.gmacs == pytest.approx(weights.meta["_ops"], abs=0.001)
    assert cost.uncounted == ()
    auxiliary = 3_326_696 if name == "inception_v3" else 0  # heads that we build without
    assert cost.params == weights.meta["num_params"] - auxiliary


class Products(nn.Module):
    """One of each kind of product that no convolution or linear layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.up = nn.ConvTranspose2d(3, 5, 2, stride=2, groups=1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x = x_NCHW[:, :1, :4, :6] * self.scale  # (1, 1, 4, 6)
        y = x.transpose(2, 3)
        matmul = x @ y  # 4 * 6 * 4
        einsum = torch.einsum("ncij,ncjk->ncik", x, y)  # 4 * 6 * 4
        baddbmm = torch.baddbmm(matmul[0], x[0], y[0])  # 4 * 6 * 4
        attention = nn.functional.scaled_dot_product_attention(x, x, x)  # 2 * 4 * 6 * 4
        return self.up(x_NCHW).sum() + einsum.sum() + baddbmm.sum() + attention.sum()


def test_products_of_every_kind_are_counted_where_they_are_done():
    macs = count_macs(Products(), 8)
    assert macs.by_layer == {"": 5 * 4 * 6 * 4, "up": 8 * 8 * 3 * 5 * 2 * 2}
    assert macs.uncounted == ()


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(self.linear(x)[..., :2, :2])


def test_operators_that_nobody_knows_are_listed_and_not_taken_for_nothing():
    cost = measure_cost(Sorting(), 8)
    assert "aten::linalg_inv_ex" in cost.uncounted
    assert cost.gmacs == 3 * 8 * 8 * 2 / 1e9


def test_size_is_that_of_parameters_and_buffers_in_bytes():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    # 16 + 8 parameters and 8 statistics of 4 bytes, a counter of 8.
    assert measure_cost(model, 8).size_mb == (32 * 4 + 8) / 1e6


def test_measuring_leaves_a_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measure_cost(model, 8)
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model)
    assert model(torch.rand(2, 3, 8, 8)).device.type == "cpu"


def test_cost_depends_on_the_architecture_alone():
    recipe = Recipe(model="mobilenet_v3_small", input_size=96)
    other = recipe.replace(weights="nowhere.pt", batch_size=7, seed=5, unfrozen=0, epochs=1)
    assert recipe_cost(other, 12) is recipe_cost(recipe, 12)
    assert recipe_cost(recipe.replace(width=0.5), 12).gmacs < recipe_cost(recipe, 12).gmacs


def test_int8_does_the_same_multiply_adds_with_a_sixteenth_of_the_bit_operations():
    recipe = Recipe(model="mobilenet_v3_large", input_size=224)
    as_float, int8 = recipe_cost(recipe, 151), recipe_cost(recipe.replace(qat=True), 151)
    assert (int8.gmacs, int8.gflops, int8.params) == (
        as_float.gmacs,
        as_float.gflops,
        as_float.params,
    )
    assert int8.effective_gflops == pytest.approx(as_float.effective_gflops / 16)
    assert int8.gbops == pytest.approx(as_float.gbops / 16)
    assert as_float.size_mb / 4 < int8.size_mb < as_float.size_mb / 3
    assert int8.float_layers == as_float.float_layers == ()


def test_layers_that_stay_float_are_named_and_counted_as_float():
    recipe = Recipe(model="vit_b_32", input_size=224, qat=True)
    cost = recipe_cost(recipe, 10)
    attention = [name for name in cost.float_layers if name.endswith("self_attention")]
    assert attention == list(cost.float_layers)
    assert len(attention) == 12
    macs = count_macs(build_on_meta(recipe, 10), 224).by_layer
    stays = sum(macs[name] for name in attention)
    expected = (stays * 32**2 + (sum(macs.values()) - stays) * 8**2) / 1e9
    assert cost.gbops == pytest.approx(expected)


def test_counting_draws_no_random_numbers():
    before = torch.get_rng_state()
    recipe_cost(Recipe(model="resnet18", input_size=97), 12)
    assert torch.equal(torch.get_rng_state(), before)


def test_cost_columns_are_the_numbers_of_a_cost():
    assert (
        *("gmacs", "gflops", "effective_gflops", "gbops", "params", "size_mb", "latency_ms"),
    ) == (*MEASURES, LATENCY)
    cost = recipe_cost(Recipe(), 10)
    assert tuple(cost.to_dict()) == (*MEASURES, LATENCY, "uncounted", "float_layers")
    assert Cost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_a_size_that_the_model_can_not_take_is_told():
    with pytest.raises(UserError, match="at least 75"):
        recipe_cost(Recipe(model="inception_v3", input_size=64), 3)


_OTHER_VALUES: dict[str, Any] = {
    "model": ["mobilenet_v3_small"],
    "weights": ["imagenet"],
    "input_size": [64, 128],
    "width": [0.5],
    "batch_norm": [True],
    "residual": [True],
    "unfrozen": [0, 2],
    "augment": ["light"],
    "qat": [True],
    "float_epochs": [1],
    "batch_size": [64],
    "optimizer": ["sgd"],
    "learning_rate": [0.1],
    "weight_decay": [0.1],
    "label_smoothing": [0.1],
    "class_weighting": ["balanced"],
    "oversampling": [True],
    "scheduler": ["cosine"],
    "epochs": [20],
    "seed": [1],
}


@pytest.mark.parametrize("field", RECIPE_FIELDS)
def test_a_cost_is_changed_by_the_fields_that_its_column_names_and_by_no_other(field: str):
    recipes = [Recipe(), Recipe(qat=True), Recipe(model="mobilenet_v2")]
    changed: set[str] = set()
    for recipe in recipes:
        for value in _OTHER_VALUES[field]:
            try:
                other = recipe.replace(**{field: value})
            except UserError:
                continue  # an option that this model has not
            one, two = recipe_cost(recipe, 10), recipe_cost(other, 10)
            changed |= {name for name in MEASURES if one[name] != two[name]}
    assert changed == {name for name in MEASURES if field in COSTS[name].decided_by}
