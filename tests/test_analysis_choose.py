import numpy as np
import pytest
from analysis_runs import four_trials, trial_row, write_run

from analysis.choose import choose
from analysis.runs import read_run
from spaces.errors import UserError


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "animals", four_trials()))


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("knee", 1),
        ("most-accurate", 2),
        ("cheapest", 0),
        ("accuracy>=0.9", 1),
        ("accuracy >= 90%", 1),
        ("accuracy>0.9", 2),
        ("gflops<=0.3", 1),
        ("gflops<0.1", 0),
        ("params>=1", 2),
        ("accuracy>=0.9, size_mb<=20", 1),
        ("accuracy>=0.5 and size_mb<=20", 0),
        ("effective_gflops<=1,size_mb<=20", 1),
        ("2", 2),
        (" 3 ", 3),
    ],
)
def test_a_rule_picks_the_trial_that_its_words_say(run, rule, trial):
    choice = choose(run, rule)
    assert choice.trial == choice.row["trial"] == trial


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("knee", "Trial 1 (90.0 % accuracy at 0.100 effective GFLOPs): the knee of the front"),
        ("cheapest", "the lowest cost in effective GFLOPs"),
        ("accuracy>=0.9", "the cheapest of the 2 finished trials with accuracy>=0.9"),
        ("gflops<=0.3", "the most accurate of the 3 finished trials with gflops<=0.3"),
        ("accuracy>0.94", "the only finished trial with accuracy>0.94"),
        ("1", "it is on the front"),
        ("3", "others dominate it"),
    ],
)
def test_the_reason_is_one_sentence(run, rule, words):
    reason = choose(run, rule).reason
    assert words in reason
    assert reason.startswith("Trial ")
    assert reason.endswith(".")
    assert "\n" not in reason


def test_a_choice_carries_its_recipe(run):
    recipe = choose(run, "knee").recipe
    assert (recipe.model, recipe.unfrozen) == ("mobilenet_v2", 2)


def test_among_equals_the_most_accurate_is_the_cheaper_and_then_the_first(tmp_path):
    rows = [trial_row(0, 0.9, 0.5), trial_row(1, 0.9, 0.2), trial_row(2, 0.9, 0.2)]
    run = read_run(write_run(tmp_path / "run", rows))
    assert choose(run, "most-accurate").trial == 1
    assert choose(run, "cheapest").trial == 1


def test_a_front_of_one_trial_has_itself_as_its_knee(tmp_path):
    choice = choose(read_run(write_run(tmp_path / "run", [trial_row(4, 0.9, 0.5)])), "knee")
    assert choice.trial == 4
    assert "too few points for a knee; took trial 4" in choice.reason


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("accuracy>=0.99", "trial 2 comes nearest with 95.0 % accuracy"),
        ("accuracy>=0.9, gflops<=0.09", "trial 1 comes nearest with 90.0 % accuracy, 0.100 GFLOPs"),
        ("acuracy>=0.9", "did you mean accuracy"),
        ("batch_size>=3", "batch_size is not a number of a trial"),
        ("knie", "did you mean knee"),
        ("accuracy>=90", "fraction from 0 to 1; write 0.9"),
        ("accuracy>=high", "high is not a number"),
        ("accuracy>=nan", "not a finite number"),
        ("accuracy=0.9", "use >= or <="),
        ("accuracy>=", "not a rule"),
        ("accuracy>=0.9,", "not a rule"),
        ("", "not a rule"),
        ("latency_ms<=3", "has no latency_ms measured"),
        ("77", "trial 77: not in .*; its trials are 0 to 6"),
        ("4", "trial 4 has no result: it was stopped early"),
        ("drop<1", "drop<1: write a drop as drop<=1% or drop<=0.01$"),
        ("5", "trial 5 has no result: it failed: loss is NaN$"),
        (
            "6",
            "trial 6 has no result: it is unfinished; its search still runs, or goes on",
        ),
    ],
)
def test_a_rule_without_an_answer_says_why_in_one_line(run, rule, message):
    with pytest.raises(UserError, match=message) as caught:
        choose(run, rule)
    assert "\n" not in str(caught.value)


def test_a_paused_trial_can_not_be_chosen_yet(tmp_path):
    rows = [trial_row(0, 0.9, 0.5), trial_row(1, np.nan, 0.2, state="PAUSED")]
    with pytest.raises(UserError, match="trial 1 has no result: it is paused; its search"):
        choose(read_run(write_run(tmp_path / "run", rows)), "1")


def test_trials_without_the_constrained_number_are_passed_over(tmp_path):
    rows = [trial_row(0, 0.9, 0.5), trial_row(1, 0.8, 0.2, latency_ms=2.0)]
    run = read_run(write_run(tmp_path / "run", rows))
    assert choose(run, "latency_ms<=3").trial == 1


def test_nothing_can_be_chosen_before_a_trial_is_finished(tmp_path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, np.nan, 0.5, state="RUNNING")]))
    with pytest.raises(UserError, match="no finished trial yet"):
        choose(run, "knee")


def test_the_knee_weighs_costs_by_magnitude(tmp_path):
    accuracies, costs = (0.5, 0.8, 0.9, 1.0), (0.01, 0.1, 1.0, 10.0)
    rows = [trial_row(i, *pair) for i, pair in enumerate(zip(accuracies, costs, strict=True))]
    assert choose(read_run(write_run(tmp_path / "run", rows)), "knee").trial == 1
