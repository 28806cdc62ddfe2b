"""The data of a report, computed once for its page and its PNG files."""

from dataclasses import dataclass

from analysis.results.ablation import Ablation
from analysis.results.calibration import Calibration, calibration
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.results.confirmation import Confirmation
from analysis.results.curves import Curve, front_curves
from analysis.results.hypervolume_range import HypervolumeRange
from analysis.results.hypervolume_trace import HypervolumeTrace, hypervolume_trace
from analysis.results.image_samples import Mistake, Samples
from analysis.results.importances import parameter_importances
from analysis.results.parallel import Scale, parallel_scales
from analysis.results.time_spent import TimeSpent, time_spent
from analysis.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The data of one report, made by `find`."""

    run: Run
    history: HypervolumeTrace
    calibration: Calibration | None
    """None where nothing was expected of any complete trial."""
    curves: list[Curve]
    importances: dict[str, dict[str, float]]
    scales: list[Scale]
    spent: TimeSpent
    predictions: SplitPredictions | str
    """The chosen model's predictions on the validation split, or why there are none."""
    labels: Labels | str
    """The classes of all images, or why they are not known."""
    samples: Samples | str
    """Some images of each class, or why there are none."""
    mistakes: tuple[Mistake, ...]
    """The validation images that the chosen model is most sure and wrong about."""
    confirmation: Confirmation | None
    """None where no trial of the front was trained again."""
    ablations: tuple[Ablation, ...]
    latency: str
    """How the front's latencies were measured, or why not; empty where nobody tried."""
    place: str
    """The run's folder or address, for commands."""


def find(
    run: Run,
    *,
    predictions: SplitPredictions | str = "The chosen model made no predictions.",
    labels: Labels | str = "The images were not read.",
    samples: Samples | str = "The images were not read.",
    mistakes: tuple[Mistake, ...] = (),
    confirmation: Confirmation | None = None,
    ablations: tuple[Ablation, ...] = (),
    hypervolume_range: HypervolumeRange | None = None,
    latency: str = "",
    place: str | None = None,
) -> ReportData:
    """Compute what a report shows of a run.

    The caller passes in what needs torch (predictions, latency) or the prepared images (labels,
    samples, mistakes), what other commands found (confirmation, ablations), and the run's address
    where this is a copy (place). hypervolume_range: what the hypervolume is measured against.
    Raises UserError where no trial is finished.
    """
    return ReportData(
        run=run,
        history=hypervolume_trace(run, hypervolume_range),
        calibration=calibration(run),
        curves=front_curves(run),
        importances=parameter_importances(run),
        scales=parallel_scales(run),
        spent=time_spent(run),
        predictions=predictions,
        labels=labels,
        samples=samples,
        mistakes=mistakes,
        confirmation=confirmation,
        ablations=ablations,
        latency=latency,
        place=place or str(run.path),
    )
