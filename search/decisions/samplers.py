"""Optuna's samplers by the names that study files use, with a new one for every trial.

A sampler's seed follows from the study's seed and the trial's number. So it proposes the same after
a resume, and nothing has to be saved. Optuna's storage keeps what a sampler remembers beyond that:
NSGA's generations, and QMC's position in its sequence.

To add a sampler, add a line to `SAMPLERS`: how it is built, and which view of the trials it gets.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from functools import partial
from typing import Annotated

import numpy as np
import optuna
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass

from search.decisions.gain.index import GainIndex
from search.decisions.gain.sampler import GainSampler
from search.decisions.trial_views import BestAndLatest, Generations, OneTrial, TrialView
from spaces.objectives import Objectives
from spaces.yaml_files import one_of

# The first generation is random. With Optuna's 50, most of a search of 64 trials would be random.
_POPULATION = 16


@plain_dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEntry:
    """One sampler."""

    build: Callable[["SamplerContext"], BaseSampler]
    """Makes the sampler of one trial."""
    view: Callable[[Objectives], TrialView]
    """The trials that it is shown."""
    rates_by_gain: bool = False
    """Whether it asks the gain index, so that something is expected of each trial.

    Its first trials have an order already; those of others begin with the most frozen ones.
    """


@plain_dataclass(frozen=True, slots=True, kw_only=True)
class SamplerContext:
    """What the sampler of one trial is built from."""

    seed: int
    """The study's."""
    derived: int
    """A seed derived from it for this trial."""
    number: int
    """The trial's."""
    index: GainIndex | None
    """Rates recipes by their expected gain; None: not in a search."""


def _build_tpe(context: SamplerContext) -> BaseSampler:
    # Grouped, so that conditional dimensions are modelled too. The constant liar makes workers that
    # ask at the same time get different recipes.
    return TPESampler(multivariate=True, group=True, constant_liar=True, seed=context.derived)


def _build_gain(context: SamplerContext) -> BaseSampler:
    assert context.index is not None, "only a ledger can rate recipes"
    return GainSampler(context.index, number=context.number, seed=context.derived)


def _build_qmc(context: SamplerContext) -> BaseSampler:
    # One sequence for the whole study. Its seed never changes; the storage has its position.
    return QMCSampler(
        scramble=True,
        seed=context.seed,
        independent_sampler=RandomSampler(seed=context.derived),
        warn_independent_sampling=False,
        warn_asynchronous_seeding=False,
    )


def _build_gp(context: SamplerContext) -> BaseSampler:
    return GPSampler(
        seed=context.derived,
        independent_sampler=RandomSampler(seed=context.derived),
        warn_independent_sampling=False,  # conditional dimensions are drawn so, trial by trial
    )


SAMPLERS: dict[str, SamplerEntry] = {
    "gain": SamplerEntry(build=_build_gain, view=OneTrial, rates_by_gain=True),
    "tpe": SamplerEntry(
        build=_build_tpe, view=partial(BestAndLatest, best=32, latest=96, running=32)
    ),
    "nsga2": SamplerEntry(
        build=lambda to: NSGAIISampler(seed=to.derived, population_size=_POPULATION),
        view=partial(Generations, sampler=NSGAIISampler),
    ),
    "nsga3": SamplerEntry(
        build=lambda to: NSGAIIISampler(seed=to.derived, population_size=_POPULATION),
        view=partial(Generations, sampler=NSGAIIISampler),
    ),
    "gp": SamplerEntry(
        build=_build_gp,
        view=partial(BestAndLatest, best=32, latest=64, running=4, complete_alone=True),
    ),
    "random": SamplerEntry(build=lambda to: RandomSampler(seed=to.derived), view=OneTrial),
    "qmc": SamplerEntry(build=_build_qmc, view=OneTrial),
}


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", strict=True),
)
class SamplerSettings:
    """Which sampler proposes recipes."""

    name: Annotated[str, AfterValidator(lambda name: one_of(name, SAMPLERS))] = "gain"


def build_sampler(
    name: str, *, seed: int, trial_number: int, index: GainIndex | None = None
) -> BaseSampler:
    """The sampler that proposes one trial.

    seed: the study's. trial_number: the number of that trial. Raises KeyError for a name that
    `SAMPLERS` does not have.
    """
    derived = int(np.random.SeedSequence([seed, trial_number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Multivariate and grouped TPE, GP and QMC are marked experimental; that is our choice.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name].build(
            SamplerContext(seed=seed, derived=derived, number=trial_number, index=index)
        )
