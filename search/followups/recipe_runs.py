"""Trains exactly the recipes of a list, in the same way as the trials of a search.

A list is a study whose space holds these recipes only. It has no early stopping, its sampler draws
nothing, and dominated trials are kept. Its run folder is like any other. Lists that belong together
are in one folder, and none trains what another one has finished.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from analysis.columns import COMPLETE, PAUSED, RUNNING, plain_row
from analysis.runs import STUDY, read_run, run_recipe
from search.decisions.budget import Budget
from search.decisions.samplers import SamplerSettings
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.study.study import Study, load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space_file import ENQUEUE, parse_space

if TYPE_CHECKING:
    from search.engine import Progress

Show = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRun:
    """The result of one recipe of a list."""

    recipe: Recipe
    folder: Path
    """The run folder that it was trained in."""
    trial: int
    """Its number there."""
    reached: float | None
    """The study's metric after the last epoch, on the validation split; None if it failed."""
    error: str | None
    checkpoint: Path | None
    """The folder of its checkpoint; None if that is gone."""


def train_recipes(
    recipes: Sequence[Recipe],
    *,
    like: Study,
    below: Path,
    name: str,
    retry: bool = False,
    show: Show = lambda _: None,
) -> dict[str, RecipeRun]:
    """Train every recipe to its end; returns the results by recipe key.

    like: the study that gives the data, objectives and resources. below: the folder of lists that
    belong together. What any of them has finished is not trained again, interrupted lists continue,
    and recipes that are in no list become a new one. name: the new list's name; name-2 if that is
    taken. retry: train again what has failed. show: as in `search.engine.run_search`. Raises
    KeyboardInterrupt after a Ctrl-C, with running trials saved, and what `run_search` raises.
    """
    below = below.resolve()
    wanted = {recipe.key: recipe for recipe in recipes}
    before = finished_below(below)
    again = {key for key, trial in before.items() if retry and trial.reached is None}
    for path in sorted(below.glob(f"*/{STUDY}")):
        study = replace(load_study(path), storage=below)  # the run may have moved
        finished = _finished(path.parent)
        rest = {recipe.key for recipe in study.space.enqueue} - finished.keys()
        # If a list would also train unwanted recipes, leave it alone.
        if rest and rest <= wanted.keys() - (finished_below(below).keys() - again):
            _run(study, resume=True, show=show)
            again -= rest
    known = finished_below(below)
    missing = [recipe for key, recipe in wanted.items() if key not in known or key in again]
    if missing:
        free = next(free for free in _names(name) if not (below / free).exists())
        _run(recipes_study(missing, like=like, below=below, name=free), resume=False, show=show)
        known = finished_below(below)
    return {key: known[key] for key in wanted if key in known}


def recipes_study(recipes: Sequence[Recipe], *, like: Study, below: Path, name: str) -> Study:
    """The study that trains only these recipes, each once and in this order."""
    # A space of one recipe, with all recipes enqueued: there is nothing to draw.
    content = {**recipes[0].to_dict(), ENQUEUE: [recipe.to_dict() for recipe in recipes]}
    return replace(
        like,
        name=name,
        storage=below,
        space=parse_space(content, name=name, source=name, folder=below),
        sampler=SamplerSettings(name="random"),
        early_stopping=EarlyStoppingSettings(name="none"),
        budget=Budget(trials=len(recipes)),
        objectives=replace(like.objectives, constraints=()),
        warm_start=(),
        dominated="keep",
        overrides={},
    )


def finished_below(below: Path) -> dict[str, RecipeRun]:
    """What the lists in a folder have finished, by recipe key. A success replaces a failure."""
    found: dict[str, RecipeRun] = {}
    for path in sorted(below.glob(f"*/{STUDY}")):
        for key, trial in _finished(path.parent).items():
            if key not in found or found[key].reached is None:
                found[key] = trial
    return found


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder of lists. Raises UserError if another process has it."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: the same command is already at work on this run") from None
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _run(study: Study, *, resume: bool, show: Show) -> None:
    # Imported late: if everything is trained already, Ray and torch are not needed.
    from search.engine import run_search

    if run_search(study, resume=resume, show=show).ending == "interrupted":
        raise KeyboardInterrupt


def _finished(folder: Path) -> dict[str, RecipeRun]:
    """The trials of a run folder that are over, by recipe key."""
    found: dict[str, RecipeRun] = {}
    run = read_run(folder)
    trials = run.trials
    for _, row in trials.loc[~trials["state"].isin((RUNNING, PAUSED))].iterrows():
        cells = plain_row(row)
        recipe = run_recipe(cells)
        kept = folder / cells["checkpoint"] if cells["checkpoint"] else None
        found[recipe.key] = RecipeRun(
            recipe=recipe,
            folder=folder,
            trial=cells["trial"],
            reached=cells[run.metric] if cells["state"] == COMPLETE else None,
            error=cells["error"],
            checkpoint=kept if kept is not None and kept.is_dir() else None,
        )
    return found


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))
