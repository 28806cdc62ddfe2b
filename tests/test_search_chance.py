from pathlib import Path

import pytest
from noise_images import noise_images

from search.decisions.chance import chance_of
from spaces.recipe import Recipe
from trainables.training import train

SMALL = Recipe(input_size=48, width=0.125, batch_norm=True, epochs=3, learning_rate=0.003)


@pytest.mark.parametrize(
    ("metric", "value", "margin"),
    [
        ("accuracy", 0.8, 0.0283),  # 2 x sqrt(0.8 x 0.2 / 800)
        ("top5_accuracy", 0.96, None),
        ("balanced_accuracy", 0.1, None),
        ("macro_f1", 0.1, None),
        ("worst_class_recall", 0.1, None),
        ("recall:cat", 0.1, None),
    ],
)
def test_chance_follows_the_metric(metric: str, value: float, margin: float | None):
    chance = chance_of(metric, [640, 40, 40, 24, 24, 8, 8, 8, 4, 4])
    assert chance.value == pytest.approx(value, abs=0.01)
    assert chance.explains(value)
    assert not chance.explains(0.999)
    if margin is not None:
        assert chance.explains(0.8 + 0.9 * margin)
        assert not chance.explains(0.8 + 1.1 * margin)


def test_small_classes_widen_what_guessing_explains_of_a_mean_over_classes():
    even, uneven = ([100] * 4, [382, 6, 6, 6])
    found = [chance_of("balanced_accuracy", counts) for counts in (even, uneven)]
    assert [one.value for one in found] == [0.25, 0.25]
    assert not found[0].explains(0.33)
    assert found[1].explains(0.33)


def test_where_good_models_too_have_0_nothing_is_told_to_be_at_chance():
    counts = [200] * 4
    told = {
        metric: chance_of(metric, counts).can_be_told
        for metric in ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall")
    }
    assert told == {
        "accuracy": True, "balanced_accuracy": True, "macro_f1": True, "worst_class_recall": False,
    }  # fmt: skip
    assert not chance_of("recall:cat", counts).can_be_told


@pytest.mark.parametrize("change", [{}, {"class_weighting": "balanced"}, {"oversampling": True}])
def test_a_model_that_always_answers_the_same_is_not_above_chance_by_balanced_accuracy(
    tmp_path: Path, change: dict[str, str | bool]
):
    data = noise_images(tmp_path / "noise", [380, 20])
    chance = chance_of("balanced_accuracy", data.class_counts("validation"))
    assert chance.value == 0.5
    same = [
        epoch
        for seed in range(3)
        for epoch in train(SMALL.replace(seed=seed, **change), data, lambda _: None).history
        if epoch.accuracy in (0.05, 0.95)
    ]
    for epoch in same:
        assert epoch["balanced_accuracy"] == chance.value
        assert epoch["worst_class_recall"] == 0
        assert epoch["macro_f1"] < chance_of("macro_f1", data.class_counts("validation")).value
        assert chance.explains(epoch["balanced_accuracy"])
    assert same or change  # without weights, there are such models
