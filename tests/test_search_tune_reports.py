from collections.abc import Iterable
from pathlib import Path

import pytest
from searches import SPACE, write_study

from analysis.runs import read_run
from search.decisions.ledger import Ledger
from search.decisions.stopping import Decision
from search.engine import run_search
from search.study.study import load_study
from trainables.data.dataset import ImageData
from trainables.learning.metrics import EpochMetrics


def test_every_epoch_reaches_the_ledger_once(
    two_workers: None, demo_data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ray Tune shows most results twice: to the scheduler and to the callback."""
    reported: list[tuple[int, int]] = []
    report = Ledger.report

    def spy(
        self: Ledger, number: int, epochs: Iterable[EpochMetrics], *, ran_on: str | None = None
    ) -> Decision:
        epochs = list(epochs)
        reported.extend((number, metrics.epoch) for metrics in epochs)
        return report(self, number, epochs, ran_on=ran_on)

    monkeypatch.setattr(Ledger, "report", spy)
    # A trial that was paused reports its earlier epochs again when it goes on.
    path = write_study(
        tmp_path,
        demo_data,
        space={**SPACE, "epochs": 3},
        early_stopping={"name": "pareto"},
        budget={"trials": 4},
    )
    run = read_run(run_search(load_study(path)).folder)
    trained = run.epochs[["trial", "epoch"]].to_numpy(dtype=int).tolist()
    assert sorted(map(list, reported)) == sorted(trained)
    assert len(trained) > 4
