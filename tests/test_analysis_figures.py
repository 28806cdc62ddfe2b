from dataclasses import replace
from pathlib import Path

import pytest
from browser import open_page
from made_up_reports import full_report_data, timed_run
from PIL import Image

import analysis
from analysis.choose import choose
from analysis.plot_style import new_figure, save_picture
from analysis.plots.figures import FIGURES, Figure, write_pictures
from analysis.report.html_report import write_report
from analysis.results.report_data import ReportData, find
from analysis.runs import read_run

EXAMPLE = Path(analysis.__file__).parent / "example"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return full_report_data(timed_run(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def example() -> ReportData:
    return find(read_run(EXAMPLE))


def elements(figure: Figure, data: ReportData) -> list[str]:
    return list(figure.draw_html(data)) if figure.draw_html else []


def draw_seconds(data: ReportData, folder: Path) -> list[Path]:
    figure = new_figure(6, 4)
    figure.add_subplot().hist(data.run.finished["seconds"])
    return [save_picture(figure, folder / "seconds.png")]


SECONDS = Figure(
    name="seconds",
    title="How long trials took",
    text="Seconds of every finished trial.",
    draw_png=draw_seconds,
)


def test_a_figure_from_outside_is_on_the_page_and_a_png_file(full: ReportData, tmp_path: Path):
    figures = (*FIGURES, SECONDS)
    pictures = write_pictures(full, tmp_path / "pictures", figures=figures)
    assert pictures[-1] == tmp_path / "pictures" / "seconds.png"
    with Image.open(pictures[-1]) as image:
        assert image.format == "PNG"
        width = image.width
    chosen = choose(full.run, "knee")
    page = write_report(full, tmp_path / "report.html", chosen=chosen, figures=figures)
    with open_page(page) as browser:
        picture = browser.locator("img#seconds")
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("one => one.naturalWidth") == width
        section = browser.locator("section").last.inner_text().splitlines()
        assert [line for line in section if line] == [SECONDS.title, SECONDS.text]


def test_a_page_of_one_figure_opens(full: ReportData, tmp_path: Path):
    chosen = choose(full.run, "knee")
    page = write_report(full, tmp_path / "report.html", chosen=chosen, figures=[SECONDS])
    with open_page(page) as browser:
        assert browser.locator("h2").all_inner_texts() == [SECONDS.title]


@pytest.mark.parametrize("missing", [None, "No trial says how long it took."])
def test_a_figure_without_data_says_why_or_is_left_out(
    example: ReportData, tmp_path: Path, missing: str | None
):
    unknown = replace(SECONDS, draw_png=lambda *_: [], missing=missing)
    chosen = choose(example.run, "knee")
    page = write_report(example, tmp_path / "report.html", chosen=chosen, figures=[unknown])
    assert (SECONDS.title in page.read_text()) == (missing is not None)
    assert (f'<p class="note">{missing}</p>' in page.read_text()) == (missing is not None)
    assert write_pictures(example, tmp_path, figures=[unknown]) == []


def test_names_of_figures_are_unique():
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
@pytest.mark.parametrize("of", ["full", "example"])
def test_a_figure_draws_the_same_data_for_the_page_and_as_png(
    figure: Figure, of: str, tmp_path: Path, request: pytest.FixtureRequest
):
    data = request.getfixturevalue(of)
    pictures = figure.draw_png(data, tmp_path)
    assert sorted(pictures) == sorted(tmp_path.iterdir())
    if figure.draw_html:
        assert bool(elements(figure, data)) == bool(pictures)
    for name in [*elements(figure, data), *(path.stem for path in pictures)]:
        assert name == figure.name or name.startswith(f"{figure.name}-")
    for path in pictures:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_draws_where_no_data_is_missing(
    figure: Figure, full: ReportData, tmp_path: Path
):
    assert figure.draw_png(full, tmp_path)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_the_shipped_run_has_each_figure_or_says_why_not(
    figure: Figure, example: ReportData, tmp_path: Path
):
    page = write_report(
        example, tmp_path / "report.html", chosen=choose(example.run, "knee"), figures=[figure]
    )
    text = page.read_text()
    drawn = [path.stem for path in figure.draw_png(example, tmp_path)]
    for name in elements(figure, example) if figure.draw_html else drawn:
        assert f'id="{name}"' in text
    if not drawn:
        why = figure.missing(example) if callable(figure.missing) else figure.missing
        assert f'<p class="note">{why}</p>' in text if why else figure.title not in text
