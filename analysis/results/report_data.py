"""What a run tells, found once for all that shows it: the report's page and its pictures."""

from dataclasses import dataclass

from analysis.results.ablation import Ablation
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.results.confirmation import Confirmation
from analysis.results.curves import Curve, front_curves
from analysis.results.hypervolume_trace import HypervolumeTrace, hypervolume_trace
from analysis.results.importances import parameter_importances
from analysis.results.parallel import Scale, parallel_scales
from analysis.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """See the functions that find each of them."""

    run: Run
    history: HypervolumeTrace
    curves: list[Curve]
    importances: dict[str, dict[str, float]]
    scales: list[Scale]
    predictions: SplitPredictions | str
    """Of the chosen model to the validation split; or why they are not there."""
    data: Labels | str
    """Of all images; or why they are not there."""
    confirmation: Confirmation | None
    """None where the front was not trained again."""
    ablations: tuple[Ablation, ...]


def find(
    run: Run,
    *,
    predictions: SplitPredictions | str,
    data: Labels | str,
    confirmation: Confirmation | None = None,
    ablations: tuple[Ablation, ...] = (),
) -> ReportData:
    """Find what a run tells by itself.

    Given is what takes torch or the images, and what other commands left beside the run.

    Raises UserError where no trial is finished.
    """
    return ReportData(
        run=run,
        history=hypervolume_trace(run),
        curves=front_curves(run),
        importances=parameter_importances(run),
        scales=parallel_scales(run),
        predictions=predictions,
        data=data,
        confirmation=confirmation,
        ablations=ablations,
    )
