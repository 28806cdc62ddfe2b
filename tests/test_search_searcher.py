from pathlib import Path

import pytest

from search.ledger import Ledger, TrialRecord
from search.optuna_storage import create_study
from search.searcher import MAX_FAILURES_FROM_START, gives_up
from search.study import load_study
from trainables.cost import Cost
from trainables.training import EpochMetrics

COST = Cost(gmacs=0.1, gflops=0.2, effective_gflops=0.2, gbops=102.4, params=1, size_mb=0.1)


def metrics(accuracy: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=1,
        train_loss=1.0,
        train_accuracy=accuracy,
        val_loss=1.0,
        accuracy=accuracy,
        learning_rate=0.1,
        seconds=0.5,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    path = tmp_path / "study.yaml"
    path.write_text("{name: tiny, data: {path: data}, space: quick}")
    study = load_study(path)
    return Ledger(
        create_study(tmp_path, study.name, study.directions),
        space=study.space,
        objectives=study.objectives,
        sampler="random",
        seed=0,
        measure=lambda _: COST,
    )


def ask(ledger: Ledger) -> TrialRecord:
    record = ledger.ask(may_begin=lambda: True)
    assert record is not None
    return record


def test_a_search_whose_first_trials_all_fail_is_given_up(ledger: Ledger):
    for count in range(MAX_FAILURES_FROM_START):
        assert not gives_up(ledger), count
        ledger.fail(ask(ledger).number, "out of memory")
    assert gives_up(ledger)


def test_one_trial_that_trained_or_finished_keeps_a_search_going(ledger: Ledger):
    record = ask(ledger)
    for _ in range(2 * MAX_FAILURES_FROM_START):
        ledger.fail(ask(ledger).number, "out of memory")
    assert gives_up(ledger)
    record.add_epochs([metrics(0.5)])
    assert not gives_up(ledger)
    ledger.complete(record.number)
    assert not gives_up(ledger)
