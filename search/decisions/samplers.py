"""Optuna's samplers by the names that study files use, made anew for every trial.

A sampler whose seed follows from the study's seed and the trial's number proposes the same after a
resume as without one: nothing about it has to be saved. What a sampler remembers beyond that
(NSGA's generations, QMC's place in its sequence) Optuna keeps in the study's storage. What it gets
to know of the trials is in search.decisions.sampler_view.
"""

import warnings
from collections.abc import Callable

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

# The first generation is random: with Optuna's 50, most of a search of 64 trials would be.
_POPULATION = 16


def build_sampler(name: str, *, seed: int, trial_number: int) -> BaseSampler:
    """The sampler that proposes one trial.

    seed: the study's. trial_number: of the trial to be asked for.
    """
    derived = int(np.random.SeedSequence([seed, trial_number]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Multivariate and grouped TPE, GP and QMC are marked experimental; that is our choice.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _BUILDERS[name](seed, derived)


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


_BUILDERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _build_tpe,
    "nsga2": lambda _, derived: NSGAIISampler(seed=derived, population_size=_POPULATION),
    "nsga3": lambda _, derived: NSGAIIISampler(seed=derived, population_size=_POPULATION),
    "gp": _build_gp,
    "random": lambda _, derived: RandomSampler(seed=derived),
    "qmc": _build_qmc,
}
