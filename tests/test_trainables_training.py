from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_images import noise_images
from sklearn import metrics as scikit_learn

from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData, open_data
from trainables.data.writing import DataWriter, new_folder
from trainables.export.trained_model import logits_of
from trainables.inputs.augmentation import build_augmentation, normalize, to_batch
from trainables.learning import precision_stages as phases
from trainables.learning.optimization import (
    INT8_RATE,
    Schedule,
    balanced_class_weights,
    build_optimizer,
    weighted_cross_entropy,
)
from trainables.models.family import IMAGENET_NORMALIZATION
from trainables.system import gpus
from trainables.training import EpochMetrics, Training, TrainingFailedError, train

QUICK: dict[str, Any] = {"input_size": 48, "width": 0.125, "batch_norm": True, "epochs": 2}


def quick(**changes: Any) -> Recipe:
    return recipe_from({**QUICK, **changes})


def without_seconds(history: list[EpochMetrics]) -> list[dict[str, float]]:
    return [
        {name: getattr(metrics, name) for name in EpochMetrics.__slots__ if name != "seconds"}
        for metrics in history
    ]


def test_training_reports_every_epoch_to_whoever_listens(demo_data: ImageData):
    heard: list[EpochMetrics] = []
    trained = train(quick(epochs=3), demo_data, heard.append)
    assert [metrics.epoch for metrics in heard] == [1, 2, 3]
    assert heard == trained.history
    assert all(0 <= metrics.accuracy <= 1 for metrics in heard)
    assert all(metrics.seconds > 0 for metrics in heard)


def test_a_small_cnn_learns_the_synthetic_images(demo_data: ImageData):
    trained = train(quick(epochs=8, input_size=64, width=0.25), demo_data, lambda _: None)
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert trained.history[-1].accuracy > 0.6  # chance is a third


def test_the_same_recipe_gives_the_same_numbers_again(demo_data: ImageData):
    first = train(quick(augment="light"), demo_data, lambda _: None)
    torch.manual_seed(99)  # whatever else draws in this process changes nothing
    again = train(quick(augment="light"), demo_data, lambda _: None)
    assert without_seconds(first.history) == without_seconds(again.history)


def test_another_seed_gives_other_numbers(demo_data: ImageData):
    first = train(quick(), demo_data, lambda _: None)
    other = train(quick(seed=1), demo_data, lambda _: None)
    assert first.history[-1].train_loss != other.history[-1].train_loss


def test_training_leaves_the_global_random_state_alone(demo_data: ImageData):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(quick(epochs=1), demo_data, lambda _: None)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("scheduler", ["constant", "step", "plateau", "cosine", "onecycle"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_that_goes_on_from_a_state_ends_as_one_that_never_stopped(
    demo_data: ImageData, scheduler: str, optimizer: str
):
    recipe = quick(epochs=3, scheduler=scheduler, optimizer=optimizer, augment="light")
    whole = train(recipe, demo_data, lambda _: None)
    begun = Training(recipe, demo_data)
    begun.run_epoch()
    state = begun.state_dict()
    resumed = Training(recipe, demo_data)
    resumed.load_state_dict(state)
    while not resumed.done:
        resumed.run_epoch()
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_trains_with_the_rate_and_decay_of_the_recipe(optimizer: str):
    recipe = quick(optimizer=optimizer, learning_rate=0.01, weight_decay=0.05)
    built = build_optimizer(recipe, [torch.nn.Parameter(torch.ones(2))])
    group = built.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.05)


def rates(scheduler: str, *, epochs: int, steps: int, losses: list[float]) -> list[float]:
    """The learning rate at the first step of every epoch."""
    recipe = quick(scheduler=scheduler, epochs=epochs, learning_rate=1.0, optimizer="sgd")
    optimizer = build_optimizer(recipe, [torch.nn.Parameter(torch.ones(1))])
    schedule = Schedule(recipe.scheduler, optimizer, epochs=epochs, steps_per_epoch=steps)
    seen = []
    for epoch in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        for _ in range(steps):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(losses[epoch])
    return seen


def test_schedules_follow_their_closed_forms():
    falling = [1.0 / (epoch + 1) for epoch in range(6)]
    assert rates("constant", epochs=6, steps=2, losses=falling) == [1.0] * 6
    expected = [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    assert rates("step", epochs=6, steps=2, losses=falling) == pytest.approx(expected)
    cosine = [(1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]
    assert rates("cosine", epochs=6, steps=2, losses=falling) == pytest.approx(cosine)
    assert rates("plateau", epochs=6, steps=2, losses=falling) == [1.0] * 6
    stuck = rates("plateau", epochs=6, steps=2, losses=[1.0] * 6)
    assert stuck == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.1, 0.1])
    onecycle = rates("onecycle", epochs=6, steps=10, losses=falling)
    assert onecycle[0] == pytest.approx(1 / 25)
    assert max(onecycle) > 0.9
    assert onecycle[-1] < 0.2


def test_a_loss_that_is_no_number_fails_with_the_epoch_and_a_way_out(demo_data: ImageData):
    # Every step multiplies the weights by about -1,000.
    recipe = quick(optimizer="sgd", learning_rate=100.0, weight_decay=10.0, batch_size=2)
    with pytest.raises(TrainingFailedError, match=r"epoch 1; a learning rate below 1e\+02"):
        train(recipe, demo_data, lambda _: None)


def test_frozen_blocks_do_not_move_and_the_others_do(demo_data: ImageData):
    training = Training(quick(unfrozen=1), demo_data)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.run_epoch()
    after = training.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("blocks.0", "blocks.1", "blocks.2"))}
    assert frozen
    assert not moved & frozen
    assert any(name.startswith("blocks.3") for name in moved)
    assert any(name.startswith("head") for name in moved)


def test_balanced_weights_make_every_class_count_the_same():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_class_weights(labels, 3)
    assert (weights * torch.tensor([3.0, 1.0, 2.0])).tolist() == pytest.approx([2.0, 2.0, 2.0])
    assert float(weights[labels].mean()) == pytest.approx(1.0)


def test_balanced_weighting_weighs_each_image_by_its_own_class_with_smoothing_too():
    """The reference is the formula, image by image: see pytorch#104776."""
    generator = torch.Generator().manual_seed(0)
    logits_NK = torch.randn(12, 3, generator=generator)
    labels_N = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    weights_K = balanced_class_weights(labels_N.numpy(), 3)
    smoothing = 0.1
    targets_NK = (1 - smoothing) * torch.eye(3)[labels_N] + smoothing / 3
    losses_N = -(targets_NK * logits_NK.log_softmax(1)).sum(1)
    weights_N = weights_K[labels_N]
    expected = (weights_N * losses_N).sum() / weights_N.sum()
    found = weighted_cross_entropy(logits_NK, labels_N, weights_K, smoothing)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    plain = weighted_cross_entropy(logits_NK, labels_N, weights_K, 0.0)
    reference = torch.nn.functional.cross_entropy(logits_NK, labels_N, weight=weights_K)
    assert float(plain) == pytest.approx(float(reference), rel=1e-6)


def test_a_rare_class_does_not_take_over_with_balanced_weights_and_smoothing(tmp_path: Path):
    rng = np.random.default_rng(0)
    colours = {0: (200, 60, 60), 1: (60, 60, 200)}
    with new_folder(tmp_path / "uneven") as folder, DataWriter(folder, 48) as writer:
        for label, count in ((0, 196), (1, 8)):
            for number in range(count):
                noise = rng.integers(-30, 30, (48, 48, 3))
                image = (np.array(colours[label]) + noise).clip(0, 255).astype(np.uint8)
                writer.append(image, label, f"{label}/{number}")
        writer.finish(
            **{"name": "uneven", "classes": ["common", "rare"], "synthetic": True, "notes": []},
            **{"validation": 0.25, "test": 0.25, "seed": 0},
        )
    recipe = quick(
        **{"width": 0.125, "batch_norm": True, "batch_size": 32, "epochs": 8, "input_size": 48},
        **{"optimizer": "adam", "learning_rate": 0.003},
        **{"label_smoothing": 0.1, "class_weighting": "balanced"},
    )
    trained = train(recipe, open_data(tmp_path / "uneven"), lambda _: None)
    assert trained.history[-1].accuracy == 1.0


def test_the_metrics_of_an_epoch_are_those_of_scikit_learn(tmp_path: Path):
    data = noise_images(tmp_path / "noise", [40, 24, 12, 8, 8, 8, 4])
    recalls = ["recall:class 0", "recall:class 6", "recall:no such class"]
    training = Training(quick(epochs=1, learning_rate=0.01), data, recalls=recalls)
    found = training.run_epoch()
    rows = data.rows("validation")
    model = training.model.eval()
    logits = logits_of(model, IMAGENET_NORMALIZATION)(data.at_size(48).take(rows))
    labels, predicted = data.labels[rows], logits.argmax(axis=1)
    f1 = scikit_learn.f1_score(labels, predicted, average="macro")
    counted = scikit_learn.confusion_matrix(labels, predicted)
    recall = counted.diagonal() / counted.sum(axis=1)
    assert found.metrics == pytest.approx(
        {
            "accuracy": scikit_learn.accuracy_score(labels, predicted),
            "balanced_accuracy": scikit_learn.balanced_accuracy_score(labels, predicted),
            "macro_f1": f1,
            "worst_class_recall": recall.min(),
            "top5_accuracy": scikit_learn.top_k_accuracy_score(
                labels, logits, k=5, labels=range(7)
            ),
            "recall:class 0": recall[0],
            "recall:class 6": recall[6],
        }
    )
    assert EpochMetrics.from_dict(found.to_dict()) == found


def test_a_state_from_before_there_were_metrics_but_accuracy_goes_on(demo_data: ImageData):
    training = Training(quick(), demo_data)
    training.run_epoch()
    state = deepcopy(training.state_dict())
    for name in ("balanced_accuracy", "macro_f1", "worst_class_recall", "top5_accuracy"):
        del state["history"][0][name]
    resumed = Training(quick(), demo_data)
    resumed.load_state_dict(state)
    assert list(resumed.history[0].metrics) == ["accuracy"]
    assert np.isnan(resumed.history[0]["macro_f1"])
    assert len(resumed.run_epoch().metrics) == 5


def test_oversampling_draws_every_class_as_often(tmp_path: Path):
    data = noise_images(tmp_path / "noise", [380, 20])
    num_train = len(data.rows("train"))
    plain, even = (Training(quick(oversampling=one), data) for one in (False, True))
    torch.manual_seed(0)
    assert sorted(plain._order().tolist()) == list(range(num_train))
    drawn = data.labels[data.rows("train")][even._order().numpy()]
    assert len(drawn) == num_train
    assert abs((drawn == 1).mean() - 0.5) < 0.1
    assert even.run_epoch().train_loss != plain.run_epoch().train_loss


def test_balanced_weighting_and_label_smoothing_change_the_loss(demo_data: ImageData):
    plain = train(quick(epochs=1), demo_data, lambda _: None)
    for change in ({"class_weighting": "balanced"}, {"label_smoothing": 0.1}):
        changed = train(quick(epochs=1, **change), demo_data, lambda _: None)
        assert changed.history[0].train_loss != plain.history[0].train_loss


def test_a_last_batch_of_one_image_is_left_out_for_batch_norm(demo_data: ImageData):
    num_train = len(demo_data.rows("train"))
    batch_size = next(size for size in range(2, num_train) if num_train % size == 1)
    training = Training(quick(batch_size=batch_size, epochs=1), demo_data)
    assert 0 <= training.run_epoch().train_accuracy <= 1


def test_pixels_are_normalised_as_torchvisions_weights_expect():
    from torchvision.transforms import v2

    pixels_NHWC = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    reference = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    batch = to_batch(pixels_NHWC, torch.device("cpu"))
    ours = normalize(batch, IMAGENET_NORMALIZATION)
    torch.testing.assert_close(ours, reference(batch), atol=1e-5, rtol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", ["light", "trivialaugment"])
def test_augmented_batches_keep_their_shape_and_differ_image_by_image(augment: str):
    built = build_augmentation(quick(augment=augment))
    assert built is not None
    one = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = built(to_batch(np.repeat(one, 8, axis=0), torch.device("cpu")))
    assert images.shape == (8, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) > 4


def test_light_augmentation_only_mirrors_and_shifts():
    built = build_augmentation(quick(augment="light"))
    assert built is not None
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    padded = np.pad(image[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {
        window.tobytes()
        for synced_run in (padded, padded[:, ::-1])
        for top in range(5)
        for left in range(5)
        for window in [np.ascontiguousarray(synced_run[top : top + 16, left : left + 16])]
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images_NCHW = built(to_batch(np.repeat(image, 64, axis=0), torch.device("cpu")))
    seen = {image.tobytes() for image in images_NCHW.permute(0, 2, 3, 1).contiguous().numpy()}
    assert seen <= windows
    assert len(seen) > 20


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_optimizers_step_as_torch_documents_them(optimizer: str):
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2)]
    recipe = quick(optimizer=optimizer, learning_rate=0.01, weight_decay=0.05)
    fused = build_optimizer(recipe, weights[:1])
    name = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
    options = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    plain = getattr(torch.optim, name.get(optimizer, "Adagrad"))(
        weights[1:], lr=0.01, weight_decay=0.05, **options
    )
    for _ in range(5):
        for built, weight in zip((fused, plain), weights, strict=True):
            built.zero_grad()
            (weight**2).sum().backward()
            built.step()
    torch.testing.assert_close(*weights)


QAT: dict[str, Any] = {"qat": True, "epochs": 4, "float_epochs": 2, "input_size": 64}


def test_where_bf16_trains_the_accuracy_that_counts_is_that_of_the_float32_model(
    demo_data: ImageData, monkeypatch: pytest.MonkeyPatch
):
    for module in (gpus, phases):
        monkeypatch.setattr(module, "precision", lambda _: "bf16")
    training = train(quick(unfrozen=2), demo_data, lambda _: None)
    rows = demo_data.rows("validation")
    pixels_NHWC = demo_data.at_size(48).take(rows)
    logits = logits_of(training.model.eval(), IMAGENET_NORMALIZATION)
    logits_NK = torch.from_numpy(logits(pixels_NHWC))
    labels_N = torch.from_numpy(demo_data.labels[rows])
    loss = float(torch.nn.functional.cross_entropy(logits_NK, labels_N))
    assert training.history[-1].val_loss == pytest.approx(loss, rel=1e-5)
    num_correct = int((logits_NK.argmax(1) == labels_N).sum())
    assert training.history[-1].accuracy == num_correct / len(rows)


def test_with_qat_the_last_epochs_train_an_int8_model(demo_data: ImageData):
    recipe = quick(**QAT, scheduler="cosine", learning_rate=3e-3)
    trained = train(recipe, demo_data, lambda _: None)
    in_float = train(
        quick(
            **{**QAT, "qat": False, "float_epochs": None}, scheduler="cosine", learning_rate=3e-3
        ),
        demo_data,
        lambda _: None,
    )
    same, other = without_seconds(trained.history), without_seconds(in_float.history)
    assert same[:2] == other[:2]
    assert same[2:] != other[2:]
    # The two epochs in int8 have a schedule of their own: a cosine from a part of the rate to 0.
    assert [epoch["learning_rate"] for epoch in same[2:]] == pytest.approx(
        [INT8_RATE * 3e-3, INT8_RATE * 3e-3 / 2]
    )
    assert trained.history[3].train_loss < trained.history[2].train_loss


@pytest.fixture(scope="module", params=[None, 2], ids=["whole", "two blocks"])
def begun_qat(
    request: pytest.FixtureRequest, demo_data: ImageData
) -> tuple[Recipe, list[dict[str, Any]], list[dict[str, float]]]:
    """A recipe, the state after each of its epochs, and what it comes to without a stop."""
    recipe = quick(**QAT, unfrozen=request.param, scheduler="onecycle")
    begun, states = Training(recipe, demo_data), []
    for _ in range(QAT["epochs"] - 1):
        begun.run_epoch()
        states.append(deepcopy(begun.state_dict()))
    whole = train(recipe, demo_data, lambda _: None)
    return recipe, states, without_seconds(whole.history)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_qat_that_goes_on_from_a_state_ends_as_one_that_never_stopped(
    demo_data: ImageData,
    begun_qat: tuple[Recipe, list[dict[str, Any]], list[dict[str, float]]],
    after: int,
):
    recipe, states, whole = begun_qat
    resumed = Training(recipe, demo_data)
    resumed.load_state_dict(states[after - 1])
    while not resumed.done:
        resumed.run_epoch()
    assert without_seconds(resumed.history) == whole


def scales(training: Training) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of activations, one a tensor, and of weights, one a channel."""
    prepared = training.state_dict()["int8"]["prepared"]
    found = [value.clone() for name, value in prepared.items() if name.endswith(".scale")]
    return (
        [scale for scale in found if len(scale) == 1],
        [scale for scale in found if len(scale) > 1],
    )


@pytest.mark.parametrize("float_epochs", [1, 2])
def test_ranges_of_activations_stay_in_the_last_third_of_the_int8_epochs(
    demo_data: ImageData, float_epochs: int
):
    training = Training(quick(**{**QAT, "float_epochs": float_epochs}), demo_data)
    seen = []
    while not training.done:
        training.run_epoch()
        if len(training.history) > float_epochs:
            seen.append(scales(training))
    stayed = [
        (
            all(map(torch.equal, activations, later_activations)),
            any(map(torch.equal, weights, later_weights)),
        )
        for (activations, weights), (later_activations, later_weights) in pairwise(seen)
    ]
    assert stayed == [(False, False)] * (2 - float_epochs) + [(True, False)]


def test_qat_from_cached_features_is_qat_with_the_prefix_in_every_step(
    demo_data: ImageData, monkeypatch: pytest.MonkeyPatch
):
    recipe = quick(**QAT, unfrozen=1)
    cached = train(recipe, demo_data, lambda _: None)
    monkeypatch.setenv("FLOPWISE_FEATURES_GB", "0")
    plain = train(recipe, demo_data, lambda _: None)
    for one, other in zip(cached.history, plain.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert one.accuracy == pytest.approx(other.accuracy, abs=0.1)


@pytest.mark.parametrize(("epochs", "in_float"), [(1, 0), (2, 1), (3, 2), (10, 7)])
def test_by_default_a_third_of_the_epochs_are_quantisation_aware(epochs: int, in_float: int):
    assert quick(qat=True, epochs=epochs).num_float_epochs == in_float
    assert quick(epochs=epochs).num_float_epochs == epochs
