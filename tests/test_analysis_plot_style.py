import numpy as np
import plotext
import pytest
from analysis_runs import four_trials, many_trials, trial_row, write_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from analysis.plot_style import accuracy_range
from analysis.plots.front_picture import draw_front, front_picture, label_front
from analysis.plots.terminal import front_text
from analysis.results.distribution import (
    distribution_numbers,
    distribution_picture,
    distribution_table,
    distribution_text,
)
from analysis.runs import read_run
from spaces.errors import UserError

THREE = {"accuracy": "max", "size_mb": "min", "gflops": "min"}
RUNS = {
    "four": (four_trials(), None),
    "one": (four_trials()[:1], None),
    "equal": ([trial_row(0, 0.9, 0.5), trial_row(1, 0.9, 0.5)], None),
    "thousand": (many_trials(1000), None),
    "three objectives": (many_trials(30), THREE),
    "accuracy alone": (many_trials(30), {"accuracy": "max"}),
    "zero cost": ([trial_row(0, 0.0, 0.0), trial_row(1, 1.0, 5.0)], None),
}


def run_of(tmp_path, name):
    rows, objectives = RUNS[name]
    return read_run(write_run(tmp_path / "run", rows, objectives))


def labels_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes), [f"class {i}" for i in range(len(sizes))]


@pytest.mark.parametrize("name", RUNS)
def test_the_front_of_any_run_becomes_a_picture(tmp_path, name):
    path = front_picture(run_of(tmp_path, name), tmp_path / "front.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 600
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None
    assert len(colours) > 20


@pytest.mark.parametrize("name", ["four", "thousand", "three objectives"])
def test_no_label_of_the_front_covers_another_or_leaves_the_axes(tmp_path, name):
    run = run_of(tmp_path, name)
    figure = Figure(figsize=(9, 5.6), dpi=150)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_front(axes, run, run.front())
    canvas.draw()
    label_front(axes, run.front(), run.costs[0], run.metric)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    assert boxes
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1


@pytest.mark.parametrize(("costs", "scale"), [((0.1, 0.3), "linear"), ((0.1, 0.6), "log")])
def test_costs_far_apart_are_drawn_by_magnitude(tmp_path, costs, scale):
    rows = [trial_row(i, 0.5 + i / 10, cost) for i, cost in enumerate(costs)]
    run = read_run(write_run(tmp_path / "run", rows))
    axes = Figure().add_subplot()
    draw_front(axes, run, run.front())
    assert axes.get_xscale() == scale


@pytest.mark.parametrize("name", RUNS)
def test_the_front_of_any_run_becomes_text_of_the_size_asked_for(tmp_path, name):
    text = front_text(run_of(tmp_path, name), width=90, height=24, colour=False)
    lines = text.splitlines()
    assert len(lines) == 24
    assert max(map(len, lines)) <= 90
    assert "\x1b" not in text
    assert "accuracy (%) over" in lines[1]


def test_the_text_names_every_model_of_the_front_by_a_letter(tmp_path):
    text = front_text(run_of(tmp_path, "four"), colour=False)
    legend = text.splitlines()[-1]
    assert legend == "A baseline_cnn   B mobilenet_v2   C resnet18   · dominated   × stopped early"
    plot = [line.split("│", 1)[1] for line in text.splitlines() if line.count("│") > 1]
    plot += [line.split("┤", 1)[1] for line in text.splitlines() if "┤" in line]
    assert [sum(line.count(mark) for line in plot) for mark in "ABC·×"] == [1, 1, 1, 1, 1]


def test_colour_changes_no_character_of_the_text(tmp_path):
    run = run_of(tmp_path, "four")
    coloured = front_text(run)
    assert "\x1b[38;2;" in coloured
    assert plotext.uncolorize(coloured) == front_text(run, colour=False)


def test_one_text_leaves_nothing_behind_in_the_next(tmp_path):
    four = read_run(write_run(tmp_path / "four", four_trials()))
    one = read_run(write_run(tmp_path / "one", four_trials()[:1]))
    alone = front_text(one)
    front_text(four, width=100, height=30)
    assert front_text(one) == alone


def test_a_run_without_a_finished_trial_has_no_picture(tmp_path):
    run = read_run(write_run(tmp_path / "run", four_trials()[4:]))
    with pytest.raises(UserError, match="no finished trial"):
        front_picture(run, tmp_path / "front.png")
    with pytest.raises(UserError, match="no finished trial"):
        front_text(run)
    assert not (tmp_path / "front.png").exists()


def test_the_distribution_is_counted_by_class():
    labels, classes = labels_of([1, 2, 3, 6, 0])
    assert distribution_numbers(labels, classes) == {
        "images": 12,
        "classes": 5,
        "min": 0,
        "max": 6,
        "mean": 2.4,
        "std": pytest.approx(np.std([1, 2, 3, 6, 0])),
        "median": 2.0,
    }


def test_the_table_of_the_distribution_names_the_smallest_and_the_largest_class():
    labels, classes = labels_of([1, 2, 3, 6, 1, 1, 1])
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(distribution_table(labels, classes))
    text = capture.get()
    assert "class 0, class 4 and 2 more" in text
    assert "class 3" in text
    assert "standard deviation" in text


@pytest.mark.parametrize("count", [1, 2, 25, 151, 1000])
def test_any_number_of_classes_becomes_a_picture_and_text(tmp_path, count):
    sizes = np.random.default_rng(0).integers(26, 61, count)
    labels, classes = labels_of(sizes)
    path = distribution_picture(labels, classes, tmp_path / "classes.png", title="animals")
    with Image.open(path) as image:
        assert image.size == (1350, 720)
    lines = distribution_text(labels, classes, width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) <= 31


def test_many_classes_are_counted_by_their_size_without_losing_one():
    labels, classes = labels_of([5] * 20 + [7] * 15 + [400])
    lines = distribution_text(labels, classes).splitlines()[1:]
    assert sum(int(line.split()[1]) for line in lines) == 36


def test_an_axis_of_accuracies_shows_the_front_and_leaves_far_trials_out():
    front = np.array([0.90, 0.94])
    assert accuracy_range(front, np.array([0.90, 0.94, 0.02])) == pytest.approx((88.0, 94.8))
    # Nothing lies far below: no empty room is shown.
    assert accuracy_range(front, front) == pytest.approx((89.2, 94.8))
    assert accuracy_range(np.array([0.02, 1.0]), front) == pytest.approx((-2.0, 102.0))
