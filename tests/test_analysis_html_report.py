import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from analysis_runs import four_trials, trial_row, write_run
from browser import open_page
from made_up_reports import CLASSES, full_report_data, timed_run

from analysis.choose import choose
from analysis.plots.figures import write_pictures
from analysis.report.html_report import write_report
from analysis.results.confirmation_table import confirmation_sentences
from analysis.results.report_data import ReportData, find
from analysis.runs import Run, read_run
from spaces.errors import UserError

GONE = "The images of this run are not here."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return timed_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report_data(run: Run) -> ReportData:
    return full_report_data(run)


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
    # An icon, so that no browser asks for one, a place on the page, and pictures.
    assert links.found[:2] == ["data:,", "#believing"]
    kinds = {link.partition(",")[0] for link in links.found[2:]}
    assert kinds == {"data:image/png;base64", "data:image/jpeg;base64"}
    assert "@import" not in page.read_text().split("</style>")[0]


def test_names_from_a_run_stay_text(page: Path):
    links = Links()
    links.feed(page.read_text())
    assert links.tags.count("script") == 3
    assert "b" not in links.tags
    assert "animals &lt;25&gt;" in page.read_text()
    with open_page(page) as browser:
        for figure, axis in (("classes", "ytick"), ("distribution", "xtick")):
            browser.locator(f"#{figure}").scroll_into_view_if_needed()
            browser.wait_for_selector(f"#{figure} .{axis} text")
            names = browser.locator(f"#{figure} .{axis} text").all_text_contents()
            assert sorted(names) == sorted(CLASSES)


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
            *("front", "history-trials", "history-time", "calibration"),
            *("curves-metric", "curves-loss"),
            *(
                "importances",
                "parallel",
                "classes",
                "confusion",
                "distribution",
                "time",
                "confirmed",
            ),
        }
        for name in names:
            browser.locator(f"#{name}").scroll_into_view_if_needed()
            browser.wait_for_selector(f"#{name}.js-plotly-plot svg")


def test_every_figure_is_drawn_before_the_page_is_printed(page: Path):
    with open_page(page) as browser:
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        for name in browser.eval_on_selector_all(".figure", "all => all.map(one => one.id)"):
            browser.wait_for_selector(f"#{name}.js-plotly-plot", state="attached")


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


def test_an_ablation_is_drawn_beside_its_table(page: Path):
    with open_page(page) as browser:
        picture = browser.locator("img#ablation-3-against-default")
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("one => one.naturalWidth") == 1350


def test_the_page_tells_why_trials_were_stopped(run: Run, tmp_path: Path):
    stopped = run.trials["state"] == "PRUNED"
    reason = "rung of 2 epochs: 3 of 5 trials of the same schedule are ahead"
    reasons = [reason if one else None for one in stopped]
    told = replace(run, trials=run.trials.assign(stop_reason=reasons))
    path = write_report(find(told), tmp_path / "report.html", chosen=choose(told, "knee"))
    with open_page(path) as browser:
        browser.wait_for_selector("#front.js-plotly-plot svg")
        cells = browser.locator("table.stopped tbody td").all_inner_texts()
        assert cells[:2] == ["rung of 2 epochs", str(stopped.sum())]
        texts = browser.evaluate("document.getElementById('front').data[0].text")
        assert len(texts) == len(run.stopped)
        assert all(text.replace("<br>", " ").endswith(f"stopped: {reason}") for text in texts)
        assert "stopped:" not in "".join(
            browser.evaluate("document.getElementById('front').data.at(-1).text")
        )


def test_a_run_of_before_reasons_has_no_table_of_them(run: Run, tmp_path: Path):
    old = replace(run, trials=run.trials.drop(columns="stop_reason", errors="ignore"))
    path = write_report(find(old), tmp_path / "report.html", chosen=choose(old, "knee"))
    assert 'class="stopped"' not in path.read_text()
    assert "stopped:" not in path.read_text().split('id="plots"')[1]


def test_what_is_not_known_is_said_in_its_place(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", four_trials()))
    report_data = find(run, predictions=GONE, labels=GONE)
    path = write_report(report_data, tmp_path / "report.html", chosen=choose(run, "2"))
    text = path.read_text()
    assert text.count(GONE) == 2
    assert "did not record when its trials ended" in text
    assert re.search(r'class="chosen"><td>2</td>', text)
    for name in (
        "history-time",
        "calibration",
        "importances",
        "classes",
        "distribution",
        "confirmed",
    ):
        assert f'id="{name}"' not in text
    assert "#believing" not in text
    assert 'class="ablation"' not in text


def test_costs_that_a_trial_lacks_can_not_be_chosen(tmp_path: Path):
    rows = [trial_row(0, 0.5, 0.1, latency_ms=3.0), trial_row(1, 0.6, 0.2)]
    run = read_run(write_run(tmp_path / "run", rows))
    report_data = find(run, predictions=GONE, labels=GONE)
    path = write_report(report_data, tmp_path / "report.html", chosen=choose(run, "1"))
    assert '<option value="size_mb"' in path.read_text()
    assert '<option value="latency_ms"' not in path.read_text()


def test_pictures_are_written_for_all_that_is_known(report_data: ReportData, tmp_path: Path):
    names = [path.name for path in write_pictures(report_data, tmp_path / "a")]
    assert names == [
        *("front.png", "confirmed.png", "ablation-3-against-default.png", "history.png"),
        *(
            "calibration.png",
            "curves.png",
            "importances.png",
            "parallel.png",
            "classes.png",
            "confusion.png",
        ),
        *("mistakes.png", "distribution.png", "samples.png", "time.png"),
    ]
    bare = read_run(write_run(tmp_path / "run", four_trials()))
    drawn = write_pictures(find(bare, predictions=GONE, labels=GONE), tmp_path / "b")
    assert [path.name for path in drawn] == [
        "front.png",
        "history.png",
        "curves.png",
        "parallel.png",
        "time.png",
    ]


def test_a_run_without_a_finished_trial_has_no_report(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, 0.9, 0.1, state="PRUNED")]))
    with pytest.raises(UserError, match="no finished trial yet"):
        choose(run, "knee")
    with pytest.raises(UserError, match="no finished trial yet"):
        find(run, predictions=GONE, labels=GONE)


def boxes(browser, selector: str) -> list[dict[str, float]]:
    return browser.eval_on_selector_all(
        selector, "all => all.map(one => one.getBoundingClientRect().toJSON())"
    )


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    apart = 0.5  # boxes are rounded to pixels
    return (
        min(one["right"], other["right"]) - max(one["left"], other["left"]) > apart
        and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > apart
    )


def test_the_page_says_which_to_ship_and_what_to_run_next(run: Run, page: Path):
    with open_page(page) as browser:
        picks = browser.locator(".picks li").all_inner_texts()
        for rule in ("knee", "most-accurate", "cheapest", "drop<=1%", "drop<=3%", "drop<=5%"):
            reason = choose(run, rule).reason.split(":")[0]
            line = next(pick for pick in picks if rule in pick.split(":")[0].split(", "))
            assert reason in line
        steps = browser.locator(".steps li").all_inner_texts()
        assert len(steps) == len(run.front()) - 1
        assert all(" instead of " in step and "intervals" in step for step in steps)
        commands = browser.locator(".next code").all_inner_texts()
        # This front is confirmed already.
        assert [command.split()[1] for command in commands] == ["export", "ablate", "search"]
        assert browser.locator("header").inner_text().count("Recommended: Trial") == 1


def test_all_trials_can_be_sorted_and_filtered(run: Run, page: Path):
    with open_page(page) as browser:
        rows = browser.locator("#trials tbody tr")
        assert rows.count() == 50
        browser.locator("#more").click()
        assert rows.count() == len(run.trials) == 60
        assert not browser.locator("#more").is_visible()

        def column(index: int) -> list[str]:
            return browser.eval_on_selector_all(
                f"#trials tbody td:nth-child({index})", "all => all.map(one => one.textContent)"
            )

        assert column(1)[:3] == ["0", "1", "2"]
        browser.locator("#trials th button", has_text="accuracy").click()
        found = [float(text) for text in column(3)]
        assert found == sorted(found, reverse=True)
        browser.locator("#trials th button", has_text="accuracy").click()
        found = [float(text) for text in column(3)]
        assert found == sorted(found)
        assert browser.locator("#trials th[aria-sort]").get_attribute("aria-sort") == "ascending"
        browser.fill("#filter", "stopped resnet18")
        wanted = run.trials.loc[(run.trials["state"] == "PRUNED")]
        assert rows.count() == (wanted["model"] == "resnet18").sum() > 0


def test_nothing_covers_the_legend_or_the_last_step(page: Path):
    with open_page(page) as browser:
        browser.wait_for_selector("#front.js-plotly-plot .scatterlayer .point")
        browser.locator("#front").hover()
        browser.wait_for_timeout(300)
        assert browser.locator(".modebar-btn").count() == 0
        legend = boxes(browser, "#front .legend")[0]
        marks = boxes(browser, "#front .scatterlayer .trace:last-child .point")
        assert len(marks) > 1
        assert not any(overlap(legend, mark) for mark in marks)


def test_the_axis_of_accuracies_shows_the_front_and_the_rest_on_request(tmp_path: Path):
    rows = [trial_row(0, 0.90, 0.1), trial_row(1, 0.94, 0.2), trial_row(2, 0.93, 0.3)]
    rows += [trial_row(3, 0.05, 0.3), trial_row(4, 0.02, 0.3, state="PRUNED")]
    run = read_run(write_run(tmp_path / "run", rows))
    path = write_report(find(run), tmp_path / "report.html", chosen=choose(run, "knee"))
    with open_page(path) as browser:
        browser.wait_for_selector("#front.js-plotly-plot .scatterlayer .point")
        ends = "document.getElementById('front')._fullLayout.yaxis.range"
        low, high = browser.evaluate(ends)
        assert 80 < low < 90
        assert 94 < high < 97
        # The made-up last epoch of the stopped trial has 50 %.
        browser.get_by_text("also show 2 trials below 88 %").click()
        assert browser.evaluate(ends)[0] < 5
        browser.get_by_text("also show 2 trials below 88 %").click()
        assert browser.evaluate(ends) == [low, high]


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_of_parallel_coordinates_do_not_collide(tmp_path: Path, width: int):
    weights = "/work/somewhere/mobilenet_v2_features_imagenet.pt"
    rows = [
        trial_row(
            trial, 0.5 + trial / 100, 0.01 * 2**trial, learning_rate=10 ** (-4 + trial / 4),
            model=["baseline_cnn", "mobilenet_v3_large"][trial % 2], batch_norm=trial % 2 == 0,
            weights=["none", weights][trial % 2], unfrozen=[None, 2, 8][trial % 3],
            optimizer=["adam", "rmsprop", "adagrad"][trial % 3], qat=trial % 3 == 0,
            augment=["none", "trivialaugment"][trial % 2], input_size=[96, 64][trial % 2],
            scheduler=["constant", "onecycle"][trial % 2], batch_size=[16, 32][trial % 2],
        )
        for trial in range(9)
    ]  # fmt: skip
    run = read_run(write_run(tmp_path / "run", rows))
    path = write_report(find(run), tmp_path / "report.html", chosen=choose(run, "knee"))
    with open_page(path, width=width) as browser:
        browser.locator("#parallel").scroll_into_view_if_needed()
        browser.wait_for_selector("#parallel .parcoords .tick text")
        labels = boxes(browser, "#parallel .parcoords .tick text")
        assert len(labels) > 30
        pairs = [(one, other) for index, one in enumerate(labels) for other in labels[:index]]
        assert not [pair for pair in pairs if overlap(*pair)]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_recipes_stand_below_their_numbers(page: Path):
    with open_page(page, width=390) as browser:
        for table in ("table.front", "#trials"):
            row = browser.locator(f"{table} tbody tr").first
            cells = [cell.bounding_box() for cell in row.locator("td").all()]
            recipe = row.locator("td.text").first.bounding_box()
            numbers = [cell for cell in cells if cell and cell != recipe and cell["height"]]
            assert recipe is not None
            assert recipe["width"] > 300
            assert all(cell["y"] + cell["height"] <= recipe["y"] + 1 for cell in numbers[:4])
            assert all(cell["x"] + cell["width"] <= 390 for cell in numbers)
        wide = browser.locator("#parallel").evaluate(
            "one => [one.offsetWidth, one.parentElement.clientWidth]"
        )
        assert wide[0] > wide[1]


def test_a_measured_latency_is_an_axis_and_a_column(tmp_path: Path):
    rows = [trial_row(0, 0.5, 0.1, latency_ms=3.0), trial_row(1, 0.6, 0.2, latency_ms=4.0)]
    run = read_run(write_run(tmp_path / "run", [*rows, trial_row(2, 0.4, 0.2)]))
    data = find(run, latency="Latency: on one thread of a toaster.")
    path = write_report(data, tmp_path / "report.html", chosen=choose(run, "1"))
    with open_page(path) as browser:
        assert "on one thread of a toaster" in browser.locator("#ship").inner_text()
        assert "latency (ms)" in browser.locator("table.front thead").inner_text()
        browser.select_option("#cost", label="latency (ms)")
        browser.wait_for_function(
            "document.getElementById('front').layout.xaxis.title.text"
            " === 'latency (ms), of 2 trials'"
        )
        assert browser.evaluate("document.getElementById('front').data.at(-1).x") == [3, 4]
