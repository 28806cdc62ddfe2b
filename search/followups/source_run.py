"""A finished search that a follow-up continues: the run, its study, and its data."""

from dataclasses import dataclass

from pydantic import ValidationError

from analysis.runs import STUDY, Run, run_recipe
from search.storage.run_lock import is_searched
from search.study.study import AUTO, Resources, Study, load_study
from spaces.errors import UserError
from spaces.recipe import Recipe, describe_mistakes
from trainables.data.copying import open_near_data
from trainables.data.dataset import ImageData


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What `confirm` and `ablate` begin with. Open one with `open_searched`."""

    run: Run
    study: Study
    """As it was resolved when the search began."""
    data: ImageData

    def seeds_of(self, recipe: Recipe) -> set[int]:
        """Seeds that the search tried this recipe with, whatever the result."""
        trials = self.run.trials
        same = trials.loc[(trials["model"] == recipe.model) & (trials["epochs"] == recipe.epochs)]
        tried = [run_recipe(row) for _, row in same.iterrows()]
        return {other.seed for other in tried if other.replace(seed=recipe.seed) == recipe}


def open_searched(run: Run) -> Searched:
    """Open a run. Raises UserError if its data is gone, or is not what it was searched on."""
    study = load_study(run.path.resolve() / STUDY)
    return Searched(run=run, study=study, data=data_of(run))


def check_ended(run: Run) -> None:
    """Raise UserError while the run's search is at work: its front may still change."""
    if is_searched(run.path):
        raise UserError(f"{run.path}: its search is still at work; wait until it has ended")


def data_of(run: Run) -> ImageData:
    """Open the images of a run. Raises UserError if they are gone or have changed."""
    where = run.study.get("data") or {}
    path = where.get("path")
    if not path or not isinstance(path, str):
        raise UserError(f"{run.path / STUDY}: data.path is missing, so its images are not known")
    data = open_near_data(path, copy=bool(where.get("copy")))
    if data.digest != (run.study.get("provenance") or {}).get("data_digest"):
        raise UserError(
            f"{data.path}: not the data that {run.path} was searched on (its digest differs)"
        )
    return data


def resources_of(run: Run) -> Resources:
    """What a trial of a run had. Raises UserError if its study does not say so rightly."""
    written = run.study.get("resources") or {}
    if written == AUTO:
        return Resources()
    try:
        return Resources(**written)
    except (TypeError, ValidationError) as error:
        first = describe_mistakes(error)[0] if isinstance(error, ValidationError) else error
        raise UserError(f"{run.path / STUDY}: resources: {first}; restore it") from None
