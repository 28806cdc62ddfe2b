"""Optuna's storage of a search whose space became wider."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from ledger_runs import CONDITIONAL, Run, recipe_of, told_states
from optuna.trial import FrozenTrial, TrialState

from search.decisions.samplers import SAMPLERS
from search.storage.optuna_storage import fit_to_space, open_study
from spaces.errors import UserError
from spaces.recipe import Recipe

WIDER: dict[str, Any] = {
    **CONDITIONAL,
    "model": ["resnet18", "baseline_cnn", "mobilenet_v2"],
    "width": {"float": [0.125, 1.0], "when": {"model": "baseline_cnn"}},
    "unfrozen": {"int": [0, 8], "when": {"model": ["mobilenet_v2", "resnet18"]}},
    "learning_rate": {"log": [1e-5, 1e-1]},
    "batch_size": [16, 32, 64],
}


def stored_trials(run: Run) -> list[FrozenTrial]:
    return open_study(run.folder, "test").get_trials()


def finished(run: Run) -> dict[int, Any]:
    """What is stored of finished trials, besides their parameters."""
    return {
        trial.number: (
            trial.state,
            trial.values,
            trial.user_attrs,
            trial.system_attrs,
            trial.datetime_start,
            trial.datetime_complete,
        )
        for trial in stored_trials(run)
        if trial.state.is_finished()
    }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_killed_search_goes_on_in_a_wider_space_with_every_trial_once(
    sampler: str, tmp_path: Path
):
    run = Run(tmp_path, sampler=sampler)
    run.ledger.enqueue([Recipe(input_size=32, width=0.5, epochs=2)])
    run.search(12)
    waiting = Recipe(model="mobilenet_v2", input_size=64, unfrozen=3, epochs=2)
    interrupted = [run.ask(), run.ask()]
    run.ledger.enqueue([waiting])
    before = finished(run)

    run.widen(WIDER)  # nothing was closed
    assert finished(run) == before
    assert [run.ask().key for _ in interrupted] == [one.key for one in interrupted]
    for number in (one.number for one in interrupted):
        run.finish(run.ledger.records[number])
    trial = run.ask()
    assert recipe_of(trial) == waiting
    run.finish(trial)
    run.search(24)

    trials = stored_trials(run)
    assert [trial.number for trial in trials] == list(range(24)) == sorted(run.ledger.records)
    assert not any(trial.state == TrialState.RUNNING for trial in trials)
    assert {number: state for number, state in finished(run).items() if number < 12} == before
    assert all(len(states) == 1 for states in told_states(run.journal).values())
    for trial in trials:  # each as if it had always been searched like this
        recipe = run.ledger.records[trial.number].recipe
        assert recipe is not None
        params = run.space.params_and_distributions(recipe)
        assert (trial.params, trial.distributions) == params
    new = [recipe_of(run.ledger.records[number]) for number in range(15, 24)]
    assert any(recipe.batch_size != 32 for recipe in new)


def test_a_driver_that_died_before_it_drew_a_recipe_to_its_end_draws_it_again(tmp_path: Path):
    run = Run(tmp_path)
    run.search(3)
    run.ask()
    lines = run.journal.read_text().splitlines(keepends=True)
    drawn = [n for n, line in enumerate(lines) if "param_name" in json.loads(line)]
    run.journal.write_text("".join(lines[: drawn[-1]]))  # without its last parameter
    before = run.journal.read_bytes()
    run.reopen()
    assert run.journal.read_bytes().startswith(before)
    run.journal.write_bytes(before)
    run.widen(WIDER)
    record = run.ask()
    assert record.number == 3
    params = run.space.params_and_distributions(recipe_of(record))
    trial = stored_trials(run)[3]
    assert (trial.params, trial.distributions) == params


@pytest.mark.parametrize("sampler", ["gain", "nsga2", "qmc"])
def test_in_an_unchanged_space_the_journal_stays_as_it_is(sampler: str, tmp_path: Path):
    run = Run(tmp_path, sampler=sampler)
    run.ledger.enqueue([Recipe(input_size=500, epochs=2)])  # beyond the space
    run.search(20)
    run.ask()
    run.ledger.enqueue([Recipe(input_size=64, epochs=2)])
    before = run.journal.read_bytes()
    study = open_study(run.folder, "test")
    assert fit_to_space(study, run.folder, run.space) is study
    assert run.journal.read_bytes() == before


def test_a_journal_that_can_not_be_written_anew_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run(tmp_path)
    run.search(6)
    before = run.journal.read_bytes()

    def full(study: optuna.Study, trials: list[FrozenTrial]) -> None:
        study.add_trial(trials[0])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "add_trials", full)
        with pytest.raises(UserError, match="No space left on device"):
            run.widen(WIDER)
    assert run.journal.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [run.journal.name]
    run.widen(WIDER)
    run.search(12)
    assert len(stored_trials(run)) == 12
