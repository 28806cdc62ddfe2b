import pytest

from spaces.columns import METRICS
from spaces.errors import UserError
from spaces.objectives import Objectives, read_objectives


@pytest.mark.parametrize("metric", [*METRICS, "recall:great dane", "recall:[a], b: c"])
def test_every_metric_can_be_maximised(metric: str):
    objectives = read_objectives({metric: "max", "gflops": "min"}, {metric: ">= 0.5"})
    assert objectives.metric == objectives.shown_metric == metric
    assert objectives.losses_of({metric: 0.75, "gflops": 2.0}) == [-0.75, 2.0]
    assert objectives.least_of_metric == objectives.metric_constraints
    assert metric in objectives.known_numbers
    with pytest.raises(UserError, match="more is better"):
        read_objectives({metric: "min", "gflops": "min"})


def test_a_search_maximises_one_metric():
    with pytest.raises(UserError, match="maximises one metric; keep one, and give the other a bou"):
        read_objectives({"accuracy": "max", "macro_f1": "max", "gflops": "min"})


def test_only_the_recalls_that_a_study_names_are_its_columns():
    bounds = {"recall:cat": ">= 0.5", "accuracy": ">= 0.2"}
    objectives = read_objectives({"recall:dog": "max", "gflops": "min"}, bounds)
    assert objectives.recalls == ("recall:dog", "recall:cat")
    assert objectives.least_of_metric == ()
    assert Objectives(directions={"accuracy": "max"}).recalls == ()
