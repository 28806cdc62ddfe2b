from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spaces.intervals import Interval, wilson_interval
from spaces.recipe import Recipe
from trainables.export.model_card import model_card
from trainables.inference.onnx_model import About

ABOUT = About(
    classes=("cat", "dog"),
    input_size=48,
    prepared_size=64,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    accuracy=0.8,
    recipe=Recipe().to_dict(),
    versions={"torch": "2"},
)


def card_of(
    folder: Path,
    about: About = ABOUT,
    *,
    metric: str = "accuracy",
    reached: str = "80.0 % accuracy",
    tested: Interval | None = None,
) -> str:
    file = folder / "model.pt2"
    file.write_bytes(b"0")
    return model_card(
        file,
        about,
        numbers={},
        validation=wilson_interval(0.8, 400),
        metric=metric,
        reached=reached,
        tested=tested,
        latency=None,
        checked="Checked.",
        form="pt2",
    )


@pytest.mark.parametrize(
    ("tested", "words"),
    [
        (Interval(mean=0.78, low=0.74, high=0.82), "78.0 (74.0 to 82.0) %"),
        (None, "not measured: flopwise confirm"),
    ],
)
def test_the_card_has_accuracies_with_their_intervals(
    tmp_path: Path, tested: Interval | None, words: str
):
    card = card_of(tmp_path, tested=tested)
    assert "| validation accuracy (95 % interval) | 80.0 (75.8 to 83.6) % |" in card
    assert f"fresh seeds (95 % interval) | {words} |" in card


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("crop", "An RGB image: its largest centre square, resized to 64 px and then to 48 px"),
        ("pad", "with black beside it so that it is square, resized to 64 px and then to 48 px"),
        ("stretch", "An RGB image: all of it, stretched to 64 px and then to 48 px"),
    ],
)
def test_the_card_says_how_images_become_squares_and_has_names_as_written(
    tmp_path: Path, fit: Any, words: str
):
    names = ("cat [old]", "<b>x", "a, b")
    card = card_of(tmp_path, replace(ABOUT, fit=fit, classes=names))
    assert words in card
    assert "\n    cat [old]\n    <b>x\n    a, b\n" in card


def test_the_card_says_what_the_search_maximised(tmp_path: Path):
    card = card_of(tmp_path, metric="recall of a|b", reached="71.0 % recall of a|b")
    assert r"| what the search maximised (validation) | 71.0 % recall of a\|b |" in card
    assert r"| test recall of a\|b of this recipe with fresh seeds" in card
    assert "| validation accuracy (95 % interval) | 80.0 (75.8 to 83.6) % |" in card
