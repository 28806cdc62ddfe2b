import json
from dataclasses import replace

import numpy as np
import pytest
from analysis_runs import four_trials, many_trials, trial_row, write_run
from PIL import Image
from rich.console import Console
from scipy import stats

from analysis.columns import plain_row
from analysis.pareto.front import Box
from analysis.pareto.intervals import accuracy_interval
from analysis.pareto.uncertain_front import draw_accuracies
from analysis.plots.confirmation_picture import confirmation_picture
from analysis.results.confirmation import (
    Confirmation,
    ConfirmedTrial,
    JudgedImages,
    choose_candidates,
    confirmation_records,
    verdict,
)
from analysis.results.confirmation_table import confirmation_sentences, confirmation_table
from analysis.runs import read_run
from spaces.errors import UserError

IMAGES = 200


def right_on(*shares, images=IMAGES):
    """(seeds, images): a seed is right on the first of the images."""
    return np.stack([np.arange(images) < round(share * images) for share in shares])


def candidate(row, validation, correct, failures=()):
    return ConfirmedTrial(
        row=plain_row(row),
        seeds=tuple(range(10, 10 + len(validation))),
        validation=np.array(validation),
        correct=correct,
        failures=failures,
    )


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "animals", four_trials()))


@pytest.fixture
def confirmation(run):
    """Trials 0, 1 and 2 promised 60, 90 and 95 %; the last is no better than the second."""
    front = [row for _, row in run.front().iterrows()]
    return Confirmation(
        run=run,
        candidates=(
            candidate(front[0], [0.58, 0.60, 0.59], right_on(0.5, 0.5, 0.53)),
            candidate(front[1], [0.88, 0.89, 0.90], right_on(0.88, 0.88, 0.88)),
            candidate(front[2], [0.88, 0.86, 0.87], right_on(0.80, 0.80, 0.80)),
        ),
        failed=(),
        num_seeds=3,
    )


def printed(table):
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def of_another_metric(tmp_path):
    """One candidate's models, right on 60 to 70 % of 200 images of four equal classes."""
    rows = [row | {"balanced_accuracy": row["accuracy"]} for row in four_trials()[:1]]
    directions = {"balanced_accuracy": "max", "effective_gflops": "min"}
    run = read_run(write_run(tmp_path / "balanced", rows, directions))
    labels = np.arange(IMAGES) % 4
    correct = right_on(0.60, 0.66, 0.70)
    judged = JudgedImages(
        labels=labels, predicted=np.where(correct, labels, (labels + 1) % 4), num_classes=4
    )
    [row] = run.front().to_dict("records")
    one = ConfirmedTrial(
        row=row,
        metric="balanced_accuracy",
        seeds=(1, 2, 3),
        validation=np.array([0.6, 0.61, 0.62]),
        correct=correct,
        answers=judged,
    )
    return Confirmation(run=run, candidates=(one,), failed=(), num_seeds=3)


def test_a_metric_that_is_no_share_of_images_has_an_interval_too(tmp_path):
    """Where classes are of one size, balanced accuracy is accuracy: the intervals agree."""
    found = of_another_metric(tmp_path)
    [candidate], [interval] = found.candidates, found.accuracies
    assert candidate.test == pytest.approx([0.60, 0.66, 0.70])
    as_share = accuracy_interval(candidate.correct)
    assert interval.mean == pytest.approx(as_share.mean)
    assert (interval.low, interval.high) == pytest.approx((as_share.low, as_share.high), abs=0.015)
    as_shares = draw_accuracies([candidate.correct])
    assert found.drawn.mean() == pytest.approx(as_shares.mean(), abs=0.01)
    assert found.drawn.std() == pytest.approx(as_shares.std(), rel=0.25)
    assert found.num_images == IMAGES
    assert found.optimism.mean == pytest.approx(0.60 - interval.mean)


def test_a_confirmation_says_the_metric_of_the_study(tmp_path):
    found = of_another_metric(tmp_path)
    text = " ".join(printed(confirmation_table(found)).split())
    assert "balanced accuracy in %; test: on 200 images" in text
    assert "validation balanced accuracy minus" in " ".join(confirmation_sentences(found))
    [record] = confirmation_records(found)["candidates"]
    assert record["test_balanced_accuracy"]["mean"] == pytest.approx(0.653, abs=0.001)
    assert confirmation_picture(found, tmp_path / "confirmed.png").stat().st_size > 5_000


def test_candidates_are_the_front_from_the_cheapest_on(run):
    assert [row["trial"] for row in choose_candidates(run)] == [0, 1, 2]
    assert [row["trial"] for row in choose_candidates(run, 7)] == [0, 1, 2]


def test_the_top_candidates_are_those_that_add_most_hypervolume(tmp_path):
    run = read_run(write_run(tmp_path / "run", many_trials(300)))
    front = run.front()
    box = Box.around(run.losses(), [1])
    losses = front[["accuracy", "effective_gflops"]].to_numpy() * [-1, 1]
    lost = [
        box.normalized_hypervolume(losses)
        - box.normalized_hypervolume(np.delete(losses, i, axis=0))
        for i in range(len(front))
    ]
    for count in (1, 2, 4):
        expected = set(front["trial"].to_numpy()[np.argsort(lost)[::-1][:count]])
        assert {row["trial"] for row in choose_candidates(run, count)} == expected
    chosen = [row["effective_gflops"] for row in choose_candidates(run, 4)]
    assert chosen == sorted(chosen)


def test_trials_that_differ_in_their_seed_alone_are_one_candidate(tmp_path):
    rows = [trial_row(number, 0.9, 0.5, seed=number) for number in range(3)]
    run = read_run(write_run(tmp_path / "run", [*rows, trial_row(3, 0.9, 0.5, augment="light")]))
    assert len(run.front()) == 4
    assert [row["trial"] for row in choose_candidates(run)] == [0, 3]


def test_without_a_finished_trial_there_is_no_candidate(tmp_path):
    run = read_run(write_run(tmp_path / "run", four_trials()[4:]))
    with pytest.raises(UserError, match="no finished trial yet"):
        choose_candidates(run, 2)


def test_luck_is_what_the_search_saw_above_fresh_seeds(confirmation):
    found = confirmation.seed_bias
    assert found.mean == pytest.approx((0.01 + 0.01 + 0.08) / 3)
    half = stats.t.ppf(0.975, 6) * np.sqrt(3 * 0.01**2 / 3) / 3
    assert found.high - found.mean == pytest.approx(half)


def test_what_was_promised_too_much_is_what_lies_above_the_test_split(confirmation):
    found = confirmation.optimism
    assert found.mean == pytest.approx((0.60 - 0.51 + 0.90 - 0.88 + 0.95 - 0.80) / 3)
    # Only the first has a spread over seeds: 0, 0 and 3 points.
    seeds = stats.t.ppf(0.975, 2) * np.std([0.5, 0.5, 0.53], ddof=1) / np.sqrt(3) / 3
    shares = sum(one.correct.mean(axis=0) for one in confirmation.candidates) / 3
    images = 1.96 * np.std(shares, ddof=1) / np.sqrt(IMAGES)
    assert found.high - found.mean == pytest.approx(np.hypot(seeds, images), rel=1e-3)


def test_a_candidate_that_only_was_lucky_is_not_on_the_front(confirmation):
    first, second, third = confirmation.front_shares
    assert first == 1  # nothing is cheaper
    assert second == 1
    assert third == 0
    message = confirmation_sentences(confirmation)[0]
    assert message == "truly non-dominated: yes: 0, 1; no, others beat it: 2"


def test_verdicts_are_sure_from_95_percent_on():
    words = [verdict(share) for share in (1, 0.95, 0.94, 0.5, 0.06, 0.05, 0)]
    assert words == ["yes", "yes", "open", "open", "open", "no", "no"]


def test_accuracy_that_is_no_objective_moves_no_front(tmp_path):
    rows = [trial_row(0, 0.5, 0.1, size_mb=3.0), trial_row(1, 0.9, 1.0, size_mb=2.0)]
    objectives = {"gflops": "min", "size_mb": "min"}
    run = read_run(write_run(tmp_path / "run", rows, objectives))
    candidates = tuple(
        candidate(row, [0.5, 0.6], right_on(0.5, 0.6)) for _, row in run.front().iterrows()
    )
    found = Confirmation(run=run, candidates=candidates, failed=(), num_seeds=2)
    assert found.front_shares.tolist() == [1, 1]


def test_the_table_has_every_candidate_with_its_interval(confirmation):
    text = printed(confirmation_table(confirmation))
    for message in ("60.0", "59.0", "51.0 (", "yes (100%)", "no (0%)", "mobilenet_v2", "GFLOPs"):
        assert message in text
    assert max(map(len, text.splitlines())) <= 120


def test_failures_are_told_and_who_has_too_few_seeds_is_left_out(confirmation):
    lost = replace(confirmation.candidates[2], seeds=(1,), failures=("loss is NaN", "loss is NaN"))
    found = replace(confirmation, candidates=confirmation.candidates[:2], failed=(lost,))
    message = confirmation_sentences(found)[-1]
    assert message.startswith("trial 2: 2 seeds failed: loss is NaN; too few for an interval")
    assert "trial 2" not in printed(confirmation_table(found))


def test_records_are_plain_and_hold_every_seed(confirmation):
    records = json.loads(json.dumps(confirmation_records(confirmation), allow_nan=False))
    first = records["candidates"][0]
    assert first["trial"] == 0
    assert first["search_accuracy"] == 0.6
    assert [seed["test_accuracy"] for seed in first["seeds"]] == [0.5, 0.5, 0.53]
    assert first["test_accuracy"]["low"] < 0.51 < first["test_accuracy"]["high"]
    assert records["test_images"] == IMAGES
    bias = records["bias"]["promised_too_much"]
    assert bias["low"] < bias["mean"] < bias["high"]


@pytest.mark.parametrize("count", [1, 3])
def test_confirmed_candidates_become_a_picture(confirmation, tmp_path, count):
    found = replace(confirmation, candidates=confirmation.candidates[:count])
    path = confirmation_picture(found, tmp_path / "confirmed.png")
    with Image.open(path) as image:
        assert min(image.size) > 600
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colours is not None
    assert len(colours) > 20


def test_candidates_of_one_cost_become_a_picture(confirmation, tmp_path):
    row = confirmation.candidates[0].row
    equal = tuple(replace(one, row=row) for one in confirmation.candidates)
    path = confirmation_picture(replace(confirmation, candidates=equal), tmp_path / "one.png")
    assert path.stat().st_size > 5_000
