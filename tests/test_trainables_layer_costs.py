"""Costs by layer, with fvcore's count beside ours."""

import dataclasses

import pytest
import torch
from torch import nn
from toy_family import TOY, ToyNet

from spaces.recipe import Recipe, recipe_from
from trainables.cost import recipe_cost
from trainables.layer_costs import LayerCost, layer_costs
from trainables.models.families import FAMILIES

# What fvcore counts and we leave out, and what it misses, for some families.
FVCORE = {
    "baseline_cnn": (set(), {"aten::max_pool2d", "aten::log_softmax"}),
    "mobilenet_v3_small": (
        {"batch_norm", "adaptive_avg_pool2d"},
        {"aten::hardswish_", "aten::hardsigmoid", "aten::mul", "aten::add_", "aten::dropout_"},
    ),
    "resnet18": (
        {"batch_norm", "adaptive_avg_pool2d"},
        {"aten::add_", "aten::max_pool2d"},
    ),
    "vgg11": ({"adaptive_avg_pool2d"}, {"aten::max_pool2d"}),
    "convnext_tiny": (
        {"layer_norm", "adaptive_avg_pool2d"},
        {"aten::gelu", "aten::mul", "aten::add_"},
    ),
}


@pytest.mark.parametrize("name", FVCORE)
def test_layers_have_the_multiply_adds_that_fvcore_counts(name: str):
    recipe = Recipe(model=name, input_size=64)
    costs, cost = layer_costs(recipe, 10), recipe_cost(recipe, 10)
    assert costs.problem is None
    assert costs.fvcore is not None
    left_out, missed = FVCORE[name]
    assert set(costs.left_out) == left_out
    assert set(costs.fvcore.missed) == missed
    multiplying = [layer for layer in costs.layers if layer.macs]
    assert multiplying
    assert all(layer.macs == layer.fvcore for layer in multiplying)
    assert costs.fvcore.total - sum(costs.left_out.values()) == costs.macs == cost.gmacs * 1e9
    assert sum(layer.fvcore or 0 for layer in costs.layers) == costs.fvcore.total
    assert sum(layer.params for layer in costs.layers) == cost.params


def test_an_attention_that_fvcore_misses_is_named_and_is_the_whole_difference():
    costs = layer_costs(recipe_from({"model": "vit_b_32", "input_size": 64, "qat": True}), 10)
    assert costs.fvcore is not None
    assert costs.fvcore.missed["aten::scaled_dot_product_attention"] == 12
    attention = 2 * 5 * 5 * 768  # scores and sums of 5 tokens
    assert costs.macs - (costs.fvcore.total - costs.left_out["layer_norm"]) == 12 * attention
    by_name = {layer.name: layer for layer in costs.layers}
    first = by_name["encoder.layers.encoder_layer_0.self_attention"]
    assert (first.output_shape, first.bits) == ((5, 768), 32)
    assert first.fvcore is not None
    assert first.macs - first.fvcore == attention
    projection = by_name["encoder.layers.encoder_layer_0.self_attention.out_proj"]
    assert (projection.output_shape, projection.params, projection.macs, projection.bits) == (
        *(None, 768 * 768 + 768),
        *(0, None),
    )
    assert by_name["encoder.layers.encoder_layer_0.mlp.0"].bits == 8


def test_a_layer_tells_its_shape_parameters_and_bits():
    layers = layer_costs(recipe_from({"input_size": 48, "width": 0.25, "batch_norm": True}), 10)
    assert layers.layers[:2] == (
        LayerCost(
            name="blocks.0.conv",
            kind="Conv2d",
            output_shape=(16, 44, 44),
            params=16 * 3 * 25 + 16,
            macs=16 * 3 * 25 * 44 * 44,
            bits=32,
            fvcore=16 * 3 * 25 * 44 * 44,
        ),
        LayerCost(
            name="blocks.0.norm",
            kind="BatchNorm2d",
            output_shape=(16, 44, 44),
            params=32,
            macs=0,
            bits=None,
            fvcore=2 * 16 * 44 * 44,
        ),
    )


class OnMetaOnly(ToyNet):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if not images_NCHW.is_meta:
            raise LookupError("no tracing\nof this")
        return super().forward(images_NCHW)


def test_a_model_that_fvcore_can_not_trace_has_our_counts_and_the_reason(
    monkeypatch: pytest.MonkeyPatch,
):
    def build(_recipe: Recipe, num_classes: int) -> nn.Module:
        return OnMetaOnly(4, num_classes)

    monkeypatch.setitem(FAMILIES, "toy", dataclasses.replace(TOY, build=build))
    costs = layer_costs(Recipe(model="toy_narrow", input_size=32), 10)
    assert costs.problem == "LookupError: no tracing"
    assert costs.macs == 16 * 16 * 3 * 9 * 4 + 8 * 8 * 4 * 9 * 8 + 8 * 10
    assert {layer.fvcore for layer in costs.layers} == {None}


def test_counting_by_layer_draws_no_random_numbers():
    before = torch.get_rng_state()
    layer_costs(Recipe(input_size=48, width=0.25), 3)
    assert torch.equal(torch.get_rng_state(), before)
