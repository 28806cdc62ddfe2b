import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from analysis_runs import four_trials, many_trials, trial_row, write_run
from browser import open_page

from analysis.choose import choose
from analysis.plots.png_figures import write_pictures
from analysis.report.html_report import write_report
from analysis.results.ablation import Ablation, AblationRun
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.results.confirmation import Confirmation, ConfirmedTrial, choose_candidates
from analysis.results.confirmation_table import confirmation_sentences
from analysis.results.report_data import ReportData, find
from analysis.runs import Run, read_run
from spaces.errors import UserError
from spaces.recipe import Recipe

CLASSES = ("ape", "a bear & <b>cub</b>", "cat $x", "</script><script>alert(1)</script>")
GONE = "The images of this run are not here."


def labels_and_answers() -> tuple[Labels, SplitPredictions]:
    rng = np.random.default_rng(0)
    labels = rng.integers(len(CLASSES), size=80)
    predicted = np.where(rng.random(80) < 0.8, labels, 0)
    return (
        Labels(classes=CLASSES, labels=labels),
        SplitPredictions(trial=1, classes=CLASSES, labels=labels, predicted=predicted),
    )


def timed_run(folder: Path, count: int = 60) -> Run:
    """A run as a search leaves it: with times, its space, int8 models, a trial stopped early."""
    rows = [
        row | {"search_seconds": 10.0 * index, "qat": index % 3 == 0, "size_mb": 1 + index % 7}
        for index, row in enumerate(many_trials(count))
    ]
    path = write_run(folder / "animals", rows)
    study = yaml.safe_load((path / "study.yaml").read_text())
    study["space"] = {
        "model": sorted({row["model"] for row in rows}),
        "input_size": [96, 128, 160, 224],
        "batch_size": [16, 32, 64],
        "learning_rate": {"log": [1.0e-4, 1.0e-1]},
    }
    study["provenance"] = {
        "data_name": "animals <25>",
        "num_classes": 4,
        "num_images": {"train": 2100, "validation": 450, "test": 450},
        "machine": "x86_64, 2 cores",
        "versions": {"torch": "2.14.1"},
    }
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    return read_run(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return timed_run(tmp_path_factory.mktemp("runs"))


def confirmed(run: Run) -> Confirmation:
    """The front with accuracies on 400 test images: what was promised, less up to 6 points."""
    rng = np.random.default_rng(1)
    candidates = []
    for row in choose_candidates(run):
        shares = row["accuracy"] - rng.uniform(0, 0.06, 3)
        correct = rng.random((3, 400)) < shares[:, None]
        candidates.append(
            ConfirmedTrial(row=row, seeds=(7, 8, 9), validation=shares, correct=correct)
        )
    return Confirmation(run=run, candidates=tuple(candidates), failed=(), num_seeds=3)


def ablated(run: Run) -> Ablation:
    """Two differences, worth 20 points and none."""
    rows = [
        ("start", None, (False, False), 0.40),
        ("step", 0, (True, False), 0.60),
        ("step", 1, (True, True), 0.60),
        ("without", 0, (False, True), 0.40),
        ("without", 1, (True, False), 0.60),
    ]
    trained = [
        AblationRun(
            role=role, difference=index, on=on, accuracies=mean + np.array([-0.01, 0.0, 0.01])
        )
        for role, index, on, mean in rows
    ]
    return Ablation(
        trial=3, run=run.name, against="default", start=Recipe(),
        full=Recipe(batch_norm=True, batch_size=64), differences=(("batch_norm",), ("batch_size",)),
        num_seeds=3, num_images=450, cumulative=tuple(trained[:3]),
        leave_one_out=tuple(trained[3:]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def report_data(run: Run) -> ReportData:
    labels, predictions = labels_and_answers()
    return find(
        run,
        predictions=predictions,
        data=labels,
        confirmation=confirmed(run),
        ablations=(ablated(run),),
    )


@pytest.fixture(scope="module")
def page(run: Run, report_data: ReportData) -> Path:
    return write_report(report_data, run.path / "report.html", chosen=choose(run, "knee"))


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_needs_nothing_but_itself(page: Path):
    links = Links()
    links.feed(page.read_text())
    # An icon, so that no browser asks for one, and a place of its own.
    assert links.found == ["data:,", "#believing"]
    assert "@import" not in page.read_text().split("</style>")[0]


def test_names_from_a_run_stay_text(page: Path):
    links = Links()
    links.feed(page.read_text())
    assert links.tags.count("script") == 4
    assert "b" not in links.tags
    assert "animals &lt;25&gt;" in page.read_text()


def test_the_page_renders_and_its_cost_can_be_switched(run: Run, page: Path):
    with open_page(page) as browser:
        browser.wait_for_selector("#front.js-plotly-plot .scatterlayer .point")
        before = browser.evaluate("document.getElementById('front').data.at(-1).x")
        assert before == pytest.approx(sorted(run.front()["effective_gflops"]), rel=1e-5)
        options = browser.locator("#cost option").all_inner_texts()
        assert options[:3] == ["GMACs", "GFLOPs", "effective GFLOPs"]
        browser.select_option("#cost", label="size (MB)")
        browser.wait_for_function(
            "document.getElementById('front').layout.xaxis.title.text === 'size (MB)'"
        )
        front = browser.evaluate(
            "(({x, y, text}) => ({x, y, text}))(document.getElementById('front').data.at(-1))"
        )
        numbers = run.finished[["size_mb", "accuracy"]].to_numpy(dtype=float).tolist()
        best = [(x, y) for x, y in sorted(numbers) if all(y > b for a, b in numbers if a < x)]
        best = [(x, y) for x, y in best if y == max(b for a, b in best if a == x)]
        assert front["x"] == pytest.approx([x for x, _ in best])
        assert front["y"] == pytest.approx([100 * y for _, y in best], rel=1e-5)
        assert all("trial" in text and " MB<br>" in text for text in front["text"])


def test_every_figure_is_drawn_once_it_comes_near(page: Path):
    with open_page(page) as browser:
        names = browser.eval_on_selector_all(".figure", "all => all.map(one => one.id)")
        assert set(names) == {
            *("front", "history-trials", "history-time", "curves-accuracy", "curves-loss"),
            *("importances", "parallel", "classes", "distribution", "confirmed"),
        }
        for name in names:
            browser.locator(f"#{name}").scroll_into_view_if_needed()
            browser.wait_for_selector(f"#{name}.js-plotly-plot svg")


def test_a_confirmed_front_is_drawn_and_told(run: Run, report_data: ReportData, page: Path):
    confirmation = report_data.confirmation
    assert confirmation is not None
    with open_page(page) as browser:
        section = browser.locator("#believing")
        section.scroll_into_view_if_needed()
        browser.wait_for_selector("#confirmed.js-plotly-plot .scatterlayer .point")
        message = section.inner_text()
        count = len(confirmation.candidates)
        assert f"{count} of the front's {count} trials" in message
        for sentence in confirmation_sentences(confirmation):
            assert sentence in message
        cells = section.locator("tbody tr").first.locator("td").all_inner_texts()
        first = confirmation.candidates[0]
        assert cells[0] == str(first.trial)
        found = confirmation.accuracies
        accuracy = found[0]
        assert cells[4] == (
            f"{100 * accuracy.mean:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
        )
        assert cells[5] == f"{100 * (first.promised - accuracy.mean):+.1f}"
        drawn = np.array(
            browser.evaluate(
                "(({y, error_y}) => [y, error_y.array, error_y.arrayminus])"
                "(document.getElementById('confirmed').data[3])"
            )
        )
        assert drawn[0] + drawn[1] == pytest.approx([100 * one.high for one in found])
        assert drawn[0] - drawn[2] == pytest.approx([100 * one.low for one in found])


def test_an_ablation_is_a_table(page: Path):
    with open_page(page) as browser:
        rows = browser.locator("table.ablation tr").all_inner_texts()
        assert rows[0].split("\t")[:3] == ["recipe", "batch norm no → yes", "batch size 32 → 64"]
        assert len(rows) == 6
        assert rows[2].split("\t")[1:4] == ["Y", "N", "60.0 ± 1.0"]
        assert rows[2].split("\t")[4].startswith("+20.0 ± ")
        assert rows[3].split("\t")[-1] == "within the spread"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_follows_its_colours(page: Path, scheme):
    with open_page(page, width=390, scheme=scheme) as browser:
        browser.wait_for_selector("#front.js-plotly-plot svg")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[scheme]
        browser.locator("#confirmed").scroll_into_view_if_needed()
        browser.wait_for_selector("#confirmed.js-plotly-plot svg")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        text = browser.evaluate("document.getElementById('front').layout.font.color")
        assert text == {"light": "#1f2328", "dark": "#e6edf3"}[scheme]
        browser.emulate_media(color_scheme={"light": "dark", "dark": "light"}[scheme])
        browser.wait_for_function(
            f"document.getElementById('front').layout.font.color !== '{text}'"
        )


def test_what_is_not_known_is_said_in_its_place(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", four_trials()))
    report_data = find(run, predictions=GONE, data=GONE)
    path = write_report(report_data, tmp_path / "report.html", chosen=choose(run, "2"))
    text = path.read_text()
    assert text.count(GONE) == 2
    assert "did not record when its trials ended" in text
    assert re.search(r'class="chosen"><td>2</td>', text)
    for name in ("history-time", "importances", "classes", "distribution", "confirmed"):
        assert f'id="{name}"' not in text
    assert "#believing" not in text
    assert 'class="ablation"' not in text


def test_costs_that_a_trial_lacks_can_not_be_chosen(tmp_path: Path):
    rows = [trial_row(0, 0.5, 0.1, latency_ms=3.0), trial_row(1, 0.6, 0.2)]
    run = read_run(write_run(tmp_path / "run", rows))
    report_data = find(run, predictions=GONE, data=GONE)
    path = write_report(report_data, tmp_path / "report.html", chosen=choose(run, "1"))
    assert '<option value="size_mb"' in path.read_text()
    assert '<option value="latency_ms"' not in path.read_text()


def test_pictures_are_written_for_all_that_is_known(report_data: ReportData, tmp_path: Path):
    names = [path.name for path in write_pictures(report_data, tmp_path / "a")]
    assert names == [
        *("front.png", "history.png", "parallel.png", "curves.png", "importances.png"),
        *("classes.png", "distribution.png", "confirmed.png", "ablation-3-against-default.png"),
    ]
    bare = read_run(write_run(tmp_path / "run", four_trials()))
    drawn = write_pictures(find(bare, predictions=GONE, data=GONE), tmp_path / "b")
    assert [path.name for path in drawn] == [
        "front.png",
        "history.png",
        "parallel.png",
        "curves.png",
    ]


def test_a_run_without_a_finished_trial_has_no_report(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, 0.9, 0.1, state="PRUNED")]))
    with pytest.raises(UserError, match="no finished trial yet"):
        choose(run, "knee")
    with pytest.raises(UserError, match="no finished trial yet"):
        find(run, predictions=GONE, data=GONE)
