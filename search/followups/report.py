"""Makes a run's report and pictures. Adds what needs the data and the model to the analysis."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.choose import Selection, choose
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.results.hypervolume_range import HypervolumeRange
from analysis.results.image_samples import Mistake
from analysis.runs import Run, read_run
from search.followups.ablate import recall_ablations
from search.followups.confirm import recall_confirmation
from search.followups.export import checkpoint_of
from search.followups.front_latency import with_front_latency
from search.followups.image_samples import class_samples, mistakes_of
from search.followups.source_run import data_of, resources_of
from search.storage.fetched_run import place_of
from spaces.errors import UserError
from trainables.data.dataset import ImageData

if TYPE_CHECKING:
    from analysis.results.report_data import ReportData


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The files of a report."""

    page: Path
    pictures: tuple[Path, ...]
    chosen: Selection
    notes: tuple[str, ...]
    """What the report leaves out, and why."""
    latency: str
    """How latencies were measured, or why not; empty where they were not asked for."""


def make_report(
    run: Path,
    rule: str = "knee",
    out: Path | None = None,
    *,
    hypervolume_range: HypervolumeRange | None = None,
    latency: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write RUN/report.html and, below RUN/export/pictures, its pictures as PNG files.

    rule: picks the trial that the page recommends; see `analysis.choose.choose`. out: another path
    for the page. hypervolume_range, latency, tell: as in `collect_report_data`. Raises UserError if
    no trial is finished, the rule picks nothing, a file is damaged, or a file can't be written.
    """
    from analysis.plots.figures import write_pictures
    from analysis.report.html_report import write_report

    read = read_run(run)
    chosen = choose(read, rule)
    data = collect_report_data(
        read, chosen, hypervolume_range=hypervolume_range, latency=latency, tell=tell
    )
    tell("drawing")
    chosen = choose(data.run, rule)  # with its latency
    page = write_report(data, out or read.path / "report.html", chosen=chosen)
    pictures = write_pictures(data, read.path / "export" / "pictures")
    return Report(
        page=page,
        pictures=tuple(pictures),
        chosen=chosen,
        notes=tuple(
            dict.fromkeys(part for part in (data.predictions, data.labels) if isinstance(part, str))
        ),
        latency=data.latency,
    )


def collect_report_data(
    run: Run,
    chosen: Selection,
    *,
    hypervolume_range: HypervolumeRange | None = None,
    latency: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> "ReportData":
    """Everything that a report shows of a run, with what needs its images and its models.

    The chosen trial's model predicts the validation split again, to show which classes it confuses;
    if the data or the checkpoint is gone, a sentence says so instead. hypervolume_range: what the
    hypervolume is measured against. latency: measure the front's latencies on this machine
    (`front_latency`). tell: called with each step. Results of `confirm` and `ablate` are added.
    Raises UserError if no trial is finished or a file is damaged.
    """
    from analysis.results.report_data import find

    note = ""
    if latency:
        run, note = with_front_latency(run, tell=tell)
    tell("predicting the validation images")
    try:
        data: ImageData | str = data_of(run)
    except UserError as error:
        data = f"Per-class results are unavailable: {error}."
    predictions = data if isinstance(data, str) else _predictions(run, chosen, data)
    mistakes: tuple[Mistake, ...] = ()
    if not isinstance(data, str) and isinstance(predictions, SplitPredictions):
        mistakes = mistakes_of(data, predictions)
    return find(
        run,
        predictions=predictions,
        labels=(
            data if isinstance(data, str) else Labels(classes=data.classes, labels=data.labels)
        ),
        samples=data if isinstance(data, str) else class_samples(data),
        mistakes=mistakes,
        confirmation=recall_confirmation(run),
        ablations=recall_ablations(run),
        hypervolume_range=hypervolume_range,
        latency=note,
        place=place_of(run.path),
    )


def _predictions(read: Run, chosen: Selection, data: ImageData) -> SplitPredictions | str:
    try:
        checkpoint = checkpoint_of(read, chosen)
    except UserError as error:
        return f"Per-class results of the chosen model are unavailable: {error}."
    # Imported late, so that other errors come without waiting for torch.
    from trainables.export.predictions_on_split import predictions_on_split

    threads = resources_of(read).cpus
    answers = predictions_on_split(chosen.recipe, data, checkpoint, "validation", threads=threads)
    return SplitPredictions(
        trial=chosen.trial,
        classes=data.classes,
        labels=data.labels[data.rows("validation")],
        predicted=answers.predicted,
        confidence=answers.confidence,
    )
