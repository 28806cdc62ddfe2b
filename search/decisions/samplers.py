"""Optuna's samplers by the names that study files use, made anew for every trial.

A sampler whose seed follows from the study's seed and the trial's number proposes the same after a
resume as without one: nothing about it has to be saved. What a sampler remembers beyond that
(NSGA's generations, QMC's place in its sequence) Optuna keeps in the study's storage.

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

from search.decisions.trial_views import BestAndLatest, Generations, OneTrial, TrialView
from spaces.objectives import Objectives
from spaces.yaml_files import one_of

# The first generation is random: with Optuna's 50, most of a search of 64 trials would be.
_POPULATION = 16


@plain_dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEntry:
    """One sampler."""

    build: Callable[[int, int], BaseSampler]
    """By the study's seed and one that follows from it for this trial alone."""
    view: Callable[[Objectives], TrialView]
    """What it is shown of the trials."""


def _build_tpe(_: int, derived: int) -> BaseSampler:
    # Grouped, so that conditional dimensions are modelled where they exist; the constant liar
    # keeps workers that ask at the same time apart.
    return TPESampler(multivariate=True, group=True, constant_liar=True, seed=derived)


def _build_qmc(seed: int, derived: int) -> BaseSampler:
    # One sequence for the whole study: its seed stays, its place is in the storage.
    return QMCSampler(
        scramble=True,
        seed=seed,
        independent_sampler=RandomSampler(seed=derived),
        warn_independent_sampling=False,
        warn_asynchronous_seeding=False,
    )


def _build_gp(_: int, derived: int) -> BaseSampler:
    return GPSampler(
        seed=derived,
        independent_sampler=RandomSampler(seed=derived),
        warn_independent_sampling=False,  # conditional dimensions are drawn so, trial by trial
    )


SAMPLERS: dict[str, SamplerEntry] = {
    "tpe": SamplerEntry(
        build=_build_tpe, view=partial(BestAndLatest, best=32, latest=96, running=32)
    ),
    "nsga2": SamplerEntry(
        build=lambda _, derived: NSGAIISampler(seed=derived, population_size=_POPULATION),
        view=partial(Generations, sampler=NSGAIISampler),
    ),
    "nsga3": SamplerEntry(
        build=lambda _, derived: NSGAIIISampler(seed=derived, population_size=_POPULATION),
        view=partial(Generations, sampler=NSGAIIISampler),
    ),
    "gp": SamplerEntry(
        build=_build_gp,
        view=partial(BestAndLatest, best=32, latest=64, running=4, complete_alone=True),
    ),
    "random": SamplerEntry(build=lambda _, derived: RandomSampler(seed=derived), view=OneTrial),
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

    name: Annotated[str, AfterValidator(lambda name: one_of(name, SAMPLERS))] = "tpe"


def build_sampler(name: str, *, seed: int, trial_number: int) -> BaseSampler:
    """The sampler that proposes one trial.

    seed: the study's. trial_number: of the trial to be asked for. Raises KeyError for a name that
    `SAMPLERS` does not have.
    """
    derived = int(np.random.SeedSequence([seed, trial_number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Multivariate and grouped TPE, GP and QMC are marked experimental; that is our choice.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name].build(seed, derived)
