import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats

from analysis.plots.ablation_picture import ablation_picture
from analysis.results.ablation import Ablation, AblationRun, ablation_from, ablation_records
from analysis.results.ablation_table import WITHIN, ablation_table, write_change, write_mean
from spaces.recipe import RECIPE_FIELDS, Recipe

START = Recipe(batch_size=16, learning_rate=1e-3, epochs=5)
FULL = START.replace(batch_size=64, batch_norm=True, learning_rate=1e-4)
N, Y = False, True


def trained(role, difference, on, *accuracies, failures=()):
    return AblationRun(
        role=role,
        difference=difference,
        on=on,
        accuracies=np.array(accuracies),
        failures=failures,
    )


@pytest.fixture
def ablation():
    return Ablation(
        trial=7,
        run="animals",
        against="ladder",
        start=START,
        full=FULL,
        differences=(("batch_size",), ("batch_norm",), ("learning_rate",)),
        num_seeds=3,
        num_images=450,
        cumulative=(
            trained("start", None, (N, N, N), 0.37, 0.38, 0.36),
            trained("step", 0, (Y, N, N), 0.38, 0.36, 0.37),
            trained("step", 1, (Y, Y, N), 0.58, 0.57, 0.59),
            trained("step", 2, (Y, Y, Y), 0.60, 0.62, 0.61),
        ),
        leave_one_out=(
            trained("without", 0, (N, Y, Y), 0.59, 0.60, 0.61),
            trained("without", 1, (Y, N, Y), 0.41, 0.40),
            trained("without", 2, (Y, Y, N), 0.58, 0.57, 0.59),
        ),
    )


def printed(table, width=120):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_step_is_compared_with_the_one_before_it(ablation):
    changes = [ablation.change(row) for row in ablation.cumulative]
    assert changes[0] is None
    assert [change.mean for change in changes[1:]] == pytest.approx([0.0, 0.21, 0.03])
    expected = stats.ttest_ind(
        ablation.cumulative[2].accuracies, ablation.cumulative[1].accuracies, equal_var=False
    ).confidence_interval()
    assert (changes[2].low, changes[2].high) == pytest.approx(tuple(expected))


def test_what_is_turned_off_is_compared_with_the_whole(ablation):
    changes = [ablation.change(row).mean for row in ablation.leave_one_out]
    assert changes == pytest.approx([-0.01, -0.205, -0.03])


def test_a_change_that_seeds_explain_is_said_to_be_within_the_spread(ablation):
    lines = printed(ablation_table(ablation), width=140).splitlines()
    said = {line.strip().split("  ")[0]: WITHIN in line for line in lines if "±" in line}
    assert said["+ batch size"]
    assert not said["+ batch norm"]
    assert said["without batch size"]
    assert not said["without batch norm"]


def test_the_table_says_yes_and_no_to_each_difference(ablation):
    text = printed(ablation_table(ablation), width=140)
    (row,) = [line for line in text.splitlines() if "without batch norm" in line]
    assert row.split()[3:6] == ["Y", "N", "Y"]
    for message in ("16 → 64", "no → yes", "0.001 →", "37.0 ± 1.0", "= trial 7"):
        assert message in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_number_of_the_table_is_broken_or_cut_off(ablation, width):
    """Of large changes and eight differences, too."""
    many = replace(
        ablation,
        differences=(*ablation.differences, *((name,) for name in RECIPE_FIELDS[:5])),
        cumulative=tuple(replace(row, on=row.on + (N,) * 5) for row in ablation.cumulative),
        leave_one_out=(trained("without", 1, (Y, N, Y) + (Y,) * 5, 0.3, 0.5),),
    )
    for one in (ablation, many):
        lines = printed(ablation_table(one, width=width), width=width).splitlines()
        assert max(map(len, lines)) <= width
        for row in one.rows:
            on = ["Y" if on else "N" for on in row.on]
            numbers = [write_mean(row).split(), write_change(one.change(row)).split()]
            wanted = [*on, *numbers[0], *numbers[1]]
            assert any(" ".join(wanted) in " ".join(line.split()) for line in lines)


def test_differences_that_go_together_have_one_column(ablation):
    full = Recipe(model="mobilenet_v2", weights="/here/weights_file.pt", epochs=5)
    one = Ablation(
        trial=3, run="animals", against="default", start=Recipe(epochs=5), full=full,
        differences=(("model", "weights"),), num_seeds=2, num_images=450,
        cumulative=(
            trained("start", None, (N,), 0.3, 0.4),
            trained("step", 0, (Y,), 0.8, 0.81),
        ),
        leave_one_out=(trained("without", 0, (N,), 0.3, 0.4),),
    )  # fmt: skip
    assert one.label(0) == "model, weights baseline_cnn, none → mobilenet_v2, weights_file"
    # Without its only difference it is the starting point, which is there already.
    assert len(one.rows) == 2


def test_a_seed_that_failed_is_told(ablation):
    row = trained("step", 2, (Y, Y, Y), 0.6, failures=("out of memory", "out of memory"))
    lost = replace(ablation, cumulative=(*ablation.cumulative[:3], row))
    assert lost.change(row) is None
    assert "2 failed: out of memory" in printed(ablation_table(lost), width=150)
    assert ablation_records(lost)["climb"][3]["failures"] == ["out of memory"] * 2


def test_records_are_plain_and_hold_every_seed(ablation):
    records = json.loads(json.dumps(ablation_records(ablation), allow_nan=False))
    assert records["differences"] == [["batch_size"], ["batch_norm"], ["learning_rate"]]
    assert (records["start"], records["full"]) == (START.to_dict(), FULL.to_dict())
    step = records["climb"][2]
    assert step["accuracies"] == [0.58, 0.57, 0.59]
    assert not step["change"]["within_the_spread"]
    assert records["climb"][1]["change"]["within_the_spread"]


def test_records_become_the_ablation_again(ablation):
    lost = replace(ablation.cumulative[1], accuracies=np.array([0.4]), failures=("out of memory",))
    ablation = replace(
        ablation, cumulative=(ablation.cumulative[0], lost, *ablation.cumulative[2:])
    )
    again = ablation_from(json.loads(json.dumps(ablation_records(ablation))))
    assert ablation_records(again) == ablation_records(ablation)
    assert printed(ablation_table(again)) == printed(ablation_table(ablation))


def test_an_ablation_becomes_a_picture_with_a_row_for_each_recipe(ablation, tmp_path):
    path = ablation_picture(ablation, tmp_path / "ablation.png")
    with Image.open(path) as image:
        assert min(image.size) > 500
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None
    assert len(colours) > 20
