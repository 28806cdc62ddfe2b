import pickle

import pytest
import torch
from test_trainables_families import SIZES
from torch import nn

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.models.blocks import freeze, list_blocks, model_between, set_training, split_model
from trainables.models.building import build_model


def build(name: str, num_classes: int = 5) -> tuple[nn.Module, torch.Tensor]:
    """A model with batch norm statistics of its own, and two images for it."""
    size = SIZES[name]
    model = build_model(Recipe(model=name, input_size=size), num_classes)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return model, images


def trained_names(model: nn.Module) -> set[str]:
    return {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baseline_cnn", [f"blocks.{i}" for i in range(4)]),
        ("mobilenet_v2", [f"features.{i}" for i in range(19)]),
        ("mobilenet_v3_large", [*(f"features.{i}" for i in range(17)), "classifier.0"]),
        ("efficientnet_b0", [f"features.{i}" for i in range(9)]),
        ("resnet18", ["conv1", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1))]),
    ],
)
def test_blocks_are_the_units_of_the_family(name: str, expected: list[str]):
    assert [block.name for block in list_blocks(build(name)[0])] == expected


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_every_cut_of_the_main_families_is_exact_and_goes_on_from_the_one_before(name: str):
    model, images = build(name)
    model.eval()
    num_blocks = len(list_blocks(model))
    with torch.inference_mode():
        expected = model(images)
        features = images
        for cut in range(num_blocks):
            features = model_between(model, cut, cut + 1)(features)
            assert torch.equal(model_between(model, cut + 1, None)(features), expected)


def test_with_everything_frozen_the_prefix_returns_one_vector_an_image():
    for name, length in (("mobilenet_v2", 1280), ("mobilenet_v3_small", 1024), ("resnet18", 512)):
        model, images = build(name)
        prefix, _ = split_model(model.eval(), 0)
        assert prefix(images).shape == (2, length)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_a_suffix_in_training_leaves_its_input_as_it_is(name: str):
    model, images = build(name)
    prefix, suffix = split_model(model, 0)
    with torch.inference_mode():
        features = prefix.eval()(images)
        before = features.clone()
        suffix.train()(features)
    assert torch.equal(features, before)


@pytest.mark.parametrize("name", ["baseline_cnn", "mobilenet_v2", "resnet18", "densenet121"])
def test_both_parts_hold_the_models_own_parameters_and_can_be_pickled(name: str):
    model, _ = build(name)
    prefix, suffix = split_model(model, 2)
    held = [*prefix.parameters(), *suffix.parameters()]
    assert set(map(id, held)) == set(map(id, model.parameters()))
    pickle.dumps((prefix, suffix))


def test_unfrozen_counts_blocks_from_the_end_and_the_head_always_trains():
    model, _ = build("mobilenet_v3_small")
    freeze(model, 0)
    assert trained_names(model) == {"classifier.3"}
    freeze(model, 1)
    assert trained_names(model) == {"classifier.0", "classifier.3"}
    freeze(model, 2)
    last = {"features.12.0", "features.12.1"}
    assert trained_names(model) == {"classifier.0", "classifier.3"} | last
    freeze(model, len(list_blocks(model)))
    assert all(p.requires_grad for p in model.parameters())


def test_none_trains_everything_again():
    model, _ = build("resnet18")
    freeze(model, 0)
    freeze(model, None)
    assert all(p.requires_grad for p in model.parameters())


def test_more_blocks_than_there_are_is_told_with_their_number():
    model, _ = build("baseline_cnn")
    for use in (freeze, split_model):
        with pytest.raises(UserError, match="BaselineCNN has 4 blocks, not 5"):
            use(model, 5)


def test_a_family_without_known_blocks_can_be_trained_whole_and_tells_so():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.rand(1, 3, 8, 8))
    freeze(model, None)
    set_training(model)
    with pytest.raises(UserError, match="leave unfrozen out"):
        freeze(model, 1)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "densenet121", "regnet_y_400mf"])
def test_frozen_batch_norm_stays_where_it_is_in_a_training_step(name: str):
    model, images = build(name)
    freeze(model, 2)
    set_training(model)
    *first, _, _ = list_blocks(model)
    frozen = [t for block in first for m in block.modules for t in (*m.parameters(), *m.buffers())]
    trained = [t for block in list_blocks(model)[-2:] for m in block.modules for t in m.buffers()]
    frozen_before, trained_before = ([t.clone() for t in tensors] for tensors in (frozen, trained))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(images).sum().backward()
    optimizer.step()
    assert all(map(torch.equal, frozen, frozen_before))
    assert not any(map(torch.equal, trained, trained_before))


def test_dropout_before_the_head_drops_with_everything_frozen():
    model, _ = build("mobilenet_v2")
    freeze(model, 0)
    set_training(model)
    assert model.get_submodule("classifier.0").training
    assert not model.get_submodule("features").get_submodule("18.1").training
