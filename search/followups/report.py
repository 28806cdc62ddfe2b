"""Makes a run's report and pictures. Adds what needs the data and the model to the analysis."""

from dataclasses import dataclass
from pathlib import Path

from analysis.choose import Selection, choose
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.runs import Run, read_run
from search.followups.ablate import recall_ablations
from search.followups.confirm import recall_confirmation
from search.followups.export import checkpoint_of
from search.followups.source_run import data_of, resources_of
from spaces.errors import UserError
from trainables.data.dataset import ImageData


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The files of a report."""

    page: Path
    pictures: tuple[Path, ...]
    chosen: Selection
    notes: tuple[str, ...]
    """What the report leaves out, and why."""


def make_report(run: Path, rule: str = "knee", out: Path | None = None) -> Report:
    """Write RUN/report.html and, below RUN/export/pictures, its pictures as PNG files.

    rule: picks the trial that the page recommends; see `analysis.choose.choose`. out: another path
    for the page. The trial's model predicts the validation split again, to show which classes it
    confuses. If the data or the checkpoint is gone, the page says so instead. Results of `confirm`
    and `ablate` are shown too. Raises UserError if no trial is finished, the rule picks nothing,
    a file is damaged, or a file can't be written.
    """
    read = read_run(run)
    chosen = choose(read, rule)
    try:
        data: ImageData | str = data_of(read)
    except UserError as error:
        data = f"No results by class: {error}."
    predictions = data if isinstance(data, str) else _predictions(read, chosen, data)
    from analysis.plots.figures import write_pictures
    from analysis.report.html_report import write_report
    from analysis.results.report_data import find

    labels = data if isinstance(data, str) else Labels(classes=data.classes, labels=data.labels)
    report_data = find(
        read,
        predictions=predictions,
        labels=labels,
        confirmation=recall_confirmation(read),
        ablations=recall_ablations(read),
    )
    page = write_report(report_data, out or read.path / "report.html", chosen=chosen)
    pictures = write_pictures(report_data, read.path / "export" / "pictures")
    return Report(
        page=page,
        pictures=tuple(pictures),
        chosen=chosen,
        notes=tuple(dict.fromkeys(part for part in (predictions, labels) if isinstance(part, str))),
    )


def _predictions(read: Run, chosen: Selection, data: ImageData) -> SplitPredictions | str:
    try:
        checkpoint = checkpoint_of(read, chosen)
    except UserError as error:
        return f"No predictions of the chosen model: {error}."
    # Imported late, so that other errors come without waiting for torch.
    from trainables.export.predictions_on_split import predictions_on_split

    threads = resources_of(read).cpus
    return SplitPredictions(
        trial=chosen.trial,
        classes=data.classes,
        labels=data.labels[data.rows("validation")],
        predicted=predictions_on_split(
            chosen.recipe, data, checkpoint, "validation", threads=threads
        ),
    )
