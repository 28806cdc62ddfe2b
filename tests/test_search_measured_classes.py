from pathlib import Path
from typing import Any

import pytest
from noise_images import noise_images
from searches import SPACE, write_study

from search.study.measured_classes import notes_on_classes
from search.study.study import load_study

BOTH = {
    "class_weighting": ["none", "balanced"],
    "oversampling": {"choices": [False, True], "when": {"class_weighting": "none"}},
}


def notes(folder: Path, counts: list[int], **changes: Any) -> list[str]:
    data = noise_images(folder / "data", counts)
    return notes_on_classes(load_study(write_study(folder, data, **changes)), data)


@pytest.mark.parametrize(
    ("counts", "told"), [([20, 20], True), ([20, 22], True), ([20, 40], False)]
)
def test_where_classes_are_alike_what_is_for_uneven_ones_is_named(
    tmp_path: Path, counts: list[int], told: bool
):
    found = notes(tmp_path, counts, space={**SPACE, **BOTH})
    assert len(found) == told
    if told:
        assert "class_weighting and oversampling change little" in found[0]
        assert "--fix class_weighting=none --fix oversampling=false" in found[0]


def test_a_space_without_them_needs_no_note(tmp_path: Path):
    assert notes(tmp_path, [20, 20]) == []


@pytest.mark.parametrize(
    ("constraints", "told"),
    [({}, True), ({"gflops": "<= 9"}, True), ({"accuracy": ">= 0.5"}, False)],
)
def test_the_recall_of_one_class_alone_is_won_by_who_always_answers_it(
    tmp_path: Path, constraints: dict[str, str], told: bool
):
    objectives = {"recall:class 1": "max", "effective_gflops": "min"}
    found = notes(tmp_path, [20, 40], objectives=objectives, constraints=constraints)
    assert len(found) == told
    if told:
        assert found[0].startswith("a model that always answers class 1 has recall:class 1 of 1")
