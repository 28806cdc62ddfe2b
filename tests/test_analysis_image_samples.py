import numpy as np
import pytest
from browser import open_page
from made_up_reports import CLASSES, full_report_data, timed_run
from PIL import Image

from analysis.choose import choose
from analysis.plots.figures import FIGURES
from analysis.plots.image_sheets import mistakes_picture, samples_picture
from analysis.report.html_report import write_report
from analysis.results.class_accuracy import SplitPredictions
from analysis.results.image_samples import (
    MOST_SAMPLES,
    ClassSamples,
    Mistake,
    Samples,
    rows_to_show,
    surest_mistakes,
)


def samples_of(num_classes: int, each: int) -> Samples:
    images = np.random.default_rng(0).integers(0, 256, (each, 128, 128, 3), dtype=np.uint8)
    return Samples(
        classes=tuple(
            ClassSamples(name=f"class {index}", num_images=1000, images=images)
            for index in range(num_classes)
        )
    )


@pytest.mark.parametrize(
    ("num_classes", "each"), [(2, 8), (25, 8), (100, 6), (151, 3), (600, 1), (1000, 1)]
)
def test_as_many_images_of_each_class_as_fit(num_classes: int, each: int):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(num_classes), 40))
    shown = rows_to_show(labels, num_classes)
    assert len(shown) == min(num_classes, MOST_SAMPLES)
    for index, rows in shown:
        assert len(set(rows.tolist())) == each
        assert set(labels[rows]) == {index}
        assert (np.diff(rows) > 0).all()


def test_a_class_with_few_images_shows_all_and_one_without_is_left_out():
    shown = dict(rows_to_show(np.array([2, 0, 2, 2]), 4))
    assert {index: rows.tolist() for index, rows in shown.items()} == {0: [1], 2: [0, 2, 3]}


def test_the_surest_mistakes_come_first():
    labels = np.array([0, 1, 2, 0, 1])
    predictions = SplitPredictions(
        trial=0,
        classes=CLASSES,
        labels=labels,
        predicted=np.array([1, 1, 0, 2, 0]),
        confidence=np.array([0.5, 1.0, 0.9, 0.7, 0.9]),
    )
    assert surest_mistakes(predictions) == [2, 4, 3, 0]
    assert surest_mistakes(predictions, 2) == [2, 4]


@pytest.mark.parametrize(("num_classes", "each"), [(2, 8), (600, 1)])
def test_a_sheet_of_noise_stays_small(tmp_path, num_classes: int, each: int):
    """Noise is what a PNG file takes most room for."""
    path = samples_picture(samples_of(num_classes, each), tmp_path / "a.png", title="noise")
    assert path.stat().st_size < 12e6
    with Image.open(path) as image:
        assert max(image.size) < 12_000


def test_one_mistake_is_a_picture_too(tmp_path):
    image = np.zeros((192, 192, 3), dtype=np.uint8)
    one = Mistake(image=image, label="$a", predicted="b" * 90, confidence=0.991, source="$a/1.jpg")
    with Image.open(mistakes_picture([one], tmp_path / "a.png", title="t " * 200)) as picture:
        assert min(picture.size) > 300


def test_the_page_has_each_image_with_its_words(tmp_path):
    data = full_report_data(timed_run(tmp_path))
    figures = [figure for figure in FIGURES if figure.name in ("mistakes", "samples")]
    page = write_report(
        data, tmp_path / "report.html", chosen=choose(data.run, "knee"), figures=figures
    )
    with open_page(page) as browser:
        assert browser.locator("#samples figcaption").all_inner_texts() == [
            f"{name}\n20 images" for name in CLASSES
        ]
        assert browser.locator("#mistakes figcaption").first.inner_text() == (
            f"{CLASSES[0]}, 90.0 % sure\nlabel: {CLASSES[1]}\n{CLASSES[1]}/1"
        )
        for image in browser.locator(".strips img").all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("one => one.decode().then(() => one.naturalWidth)") > 0
        wide = browser.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
