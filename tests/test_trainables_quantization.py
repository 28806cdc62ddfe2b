import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torchao.quantization.pt2e import disable_fake_quant

from spaces.recipe import recipe_from
from trainables.cost import int8_layers, measure_cost
from trainables.costing.macs import count_macs
from trainables.learning.quantization import (
    begin_evaluation,
    begin_training,
    capture,
    capture_prepared,
    convert,
    layers,
    prepare_qat,
)
from trainables.models.building import build_model, build_on_meta

CNN: dict[str, Any] = {"input_size": 48, "width": 0.25, "batch_norm": True}
FAMILIES = (
    CNN,
    {"model": "mobilenet_v3_small", "input_size": 32},
    {"model": "resnet18", "input_size": 32},
    {"model": "vit_b_32", "input_size": 32},  # attention multiplies weights of other modules
    {"model": "convnext_tiny", "input_size": 32},  # linear layers on (N, H, W, C)
)
SWIN: dict[str, Any] = {"model": "swin_t", "input_size": 32}  # both


def images(size: int, count: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def used_model(family: dict[str, Any]) -> nn.Module:
    """A model whose batch norm, if it has any, has seen something."""
    model = build_model(recipe_from(family), 5).train()
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model.eval()
    with torch.no_grad():
        for seed in range(20):
            model(images(family["input_size"], seed=seed))
    return model.eval()


def bits_of_inputs(node: torch.fx.Node) -> set[str]:
    return {str(argument.target).split(".")[-2] for argument in node.args[:2]}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "family",
    [*FAMILIES, pytest.param(SWIN, marks=pytest.mark.slow)],
    ids=lambda family: family.get("model", "baseline"),
)
def test_the_layers_that_become_int8_are_those_that_are_counted_so(family: dict[str, Any]):
    model = used_model(family)
    size = family["input_size"]
    int8 = convert(prepare_qat(model, [images(size)]))
    operators = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    quantised = [
        node
        for node in int8.graph.nodes
        if node.target in operators
        and all("dequantize" in str(argument.target) for argument in node.args[:2])
    ]
    on_meta = build_on_meta(recipe_from(family), 5)
    counted = int8_layers(on_meta) & count_macs(on_meta, size).by_layer.keys()
    assert len(quantised) == len(list(layers(capture(model, images(size))))) == len(counted)
    cost = measure_cost(on_meta, size, int8=True)
    assert set(cost.float_layers) == count_macs(on_meta, size).by_layer.keys() - counted


@pytest.mark.parametrize("family", FAMILIES[:3], ids=lambda family: family.get("model", "baseline"))
def test_folding_batch_norm_changes_nothing_but_rounding(family: dict[str, Any]):
    model = used_model(family)
    graph = capture(model, images(family["input_size"]))
    assert not any("batch_norm" in str(node.target) for node in graph.graph.nodes)
    for count in (1, 3, 8):  # any number of images at a time
        batch = images(family["input_size"], count)
        torch.testing.assert_close(graph(batch), model(batch), rtol=1e-3, atol=1e-4)


def test_a_prepared_model_without_fake_quantisation_is_the_float_model_but_for_its_biases():
    model = used_model(CNN)
    batch = images(48)
    prepared = prepare_qat(model, [batch])
    float_bias = dict(capture(model, batch).named_parameters())["head.bias"]
    prepared.apply(disable_fake_quant)
    moved = dict(prepared.named_parameters())["head.bias"] - float_bias
    assert moved.abs().max() > 0
    with torch.no_grad():
        difference = prepared(batch) - model(batch)
    assert difference.abs().max() < 1


def test_biases_make_up_for_what_rounding_takes_from_the_mean():
    model = used_model(CNN)
    batch = images(48, 32)
    prepared = prepare_qat(model, [batch])
    with torch.no_grad():
        missing = (model(batch) - prepared(batch)).mean(dim=0)
    assert missing.abs().max() < 0.02


def test_the_int8_model_does_what_the_fake_quantised_one_does():
    prepared = prepare_qat(used_model(CNN), [images(48)])
    batch = images(48, 16, seed=9)
    int8 = convert(prepared)
    with torch.no_grad():
        faked, real = prepared(batch), int8(batch)
    assert (faked - real).abs().max() < 0.1 * faked.abs().max()
    assert {weight.dtype for name, weight in int8.named_buffers() if "frozen" in name} == {
        torch.int8
    }


@pytest.mark.parametrize("family", [CNN, FAMILIES[2]], ids=["baseline", "resnet18"])
def test_what_is_pooled_by_its_maximum_keeps_its_range_in_training(family: dict[str, Any]):
    size = family["input_size"]
    prepared = prepare_qat(used_model(family), [images(size)])
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.1)
    for seed in range(3):
        prepared(images(size, seed=seed)).square().mean().backward()
        optimizer.step()
    int8 = convert(prepared)
    pools = [n for n in int8.graph.nodes if n.target is torch.ops.aten.max_pool2d.default]
    assert len(pools) == (4 if family is CNN else 1)
    for pool in pools:
        (quantise,) = pool.users
        assert quantise.target is torch.ops.quantized_decomposed.quantize_per_tensor.default
        assert quantise.args[1:] == pool.args[0].args[1:]  # scale, zero point, limits, type


def test_training_moves_the_weights_and_the_int8_model_with_them():
    prepared = prepare_qat(used_model(CNN), [images(48)])
    before = convert(prepared)(images(48, 4))
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.1)
    begin_training(prepared, follow_activations=True)
    for seed in range(3):
        loss = nn.functional.cross_entropy(prepared(images(48, seed=seed)), torch.arange(8) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(convert(prepared)(images(48, 4)), before)


def test_a_saved_state_makes_the_same_model_again():
    model = used_model(CNN)
    prepared = prepare_qat(model, [images(48), images(48, seed=1)])
    again = capture_prepared(model, images(48))
    again.load_state_dict(prepared.state_dict())
    batch = images(48, 4, seed=5)
    assert torch.equal(convert(again)(batch), convert(prepared)(batch))


def test_dropout_drops_in_training_only():
    prepared = prepare_qat(
        used_model({"model": "mobilenet_v3_small", "input_size": 32}), [images(32)]
    )
    batch = images(32)
    begin_training(prepared, follow_activations=False)
    assert not torch.equal(prepared(batch), prepared(batch))
    begin_evaluation(prepared)
    assert torch.equal(prepared(batch), prepared(batch))


@pytest.mark.parametrize("family", [CNN, {"model": "mobilenet_v3_small", "input_size": 64}])
def test_in_evaluation_a_prepared_model_computes_what_its_int8_model_does(family: dict[str, Any]):
    size = family["input_size"]
    prepared = prepare_qat(used_model(family), [images(size), images(size, seed=1)])
    begin_training(prepared, follow_activations=True)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.01)
    for seed in range(3):
        prepared(images(size, seed=seed)).square().mean().backward()
        optimizer.step()
    begin_evaluation(prepared)
    batch = images(size, 16, seed=7)
    with torch.no_grad():
        simulated, int8 = prepared(batch), convert(prepared)(batch)
    # A value between two steps may round either way, so the layers after it may differ a little.
    assert float((simulated - int8).norm() / int8.norm()) < 0.03
    state = {name: value.clone() for name, value in prepared.state_dict().items()}
    prepared(5 * batch)  # would widen the ranges
    assert all(torch.equal(value, state[name]) for name, value in prepared.state_dict().items())


def test_no_model_stays_in_memory_once_it_is_dropped():
    prepared = prepare_qat(used_model(CNN), [images(48)])
    models = [weakref.ref(prepared), weakref.ref(convert(prepared))]
    del prepared
    gc.collect()
    assert [model() for model in models] == [None, None]
