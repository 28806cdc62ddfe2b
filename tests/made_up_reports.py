"""A run with everything that a report can show, made up, for the tests of pages and pictures."""

from pathlib import Path

import numpy as np
import yaml
from analysis_runs import many_trials, write_run

from analysis.results.ablation import Ablation, AblationRun
from analysis.results.class_accuracy import Labels, SplitPredictions
from analysis.results.confirmation import Confirmation, ConfirmedTrial, choose_candidates
from analysis.results.image_samples import ClassSamples, Mistake, Samples
from analysis.results.report_data import ReportData, find
from analysis.runs import Run, read_run
from spaces.recipe import Recipe

CLASSES = ("ape", "a bear & <b>cub</b>", "cat $x", "</script><script>alert(1)</script>")


def labels_and_answers() -> tuple[Labels, SplitPredictions]:
    rng = np.random.default_rng(0)
    labels = rng.integers(len(CLASSES), size=80)
    predicted = np.where(rng.random(80) < 0.8, labels, 0)
    return (
        Labels(classes=CLASSES, labels=labels),
        SplitPredictions(trial=1, classes=CLASSES, labels=labels, predicted=predicted),
    )


def images_of_classes() -> tuple[Samples, tuple[Mistake, ...]]:
    """Noise: five images of each class, and a mistake of each."""
    images = np.random.default_rng(2).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    classes = [ClassSamples(name=name, num_images=20, images=images) for name in CLASSES]
    mistakes = [
        Mistake(
            image=images[0], label=name, predicted=CLASSES[0], confidence=0.9, source=f"{name}/1"
        )
        for name in CLASSES[1:]
    ]
    return Samples(classes=tuple(classes)), tuple(mistakes)


def expected_of(trial: int, accuracy: float) -> dict[str, float]:
    """What a search might have expected; every fifth accuracy is not within."""
    width = 0.05 + 0.4 / (1 + trial / 8)
    median = accuracy + width * (1.2 if trial % 5 == 0 else 0.6 * (-1) ** trial)
    low, median, high = np.clip([median - width, median, median + width], 0.01, 0.99).tolist()
    return {
        "expected_low": low,
        "expected_accuracy": median,
        "expected_high": high,
        "expected_gain": 0.01,
        "expected_seconds": 10.0,
    }


def timed_run(folder: Path, count: int = 60) -> Run:
    """A run as a search leaves it: with times, its space, int8 models, a trial stopped early."""
    rows = [
        row
        | {"search_seconds": 10.0 * index, "qat": index % 3 == 0, "size_mb": 1 + index % 7}
        | expected_of(index, row["accuracy"])
        for index, row in enumerate(many_trials(count))
    ]
    path = write_run(folder / "animals", rows)
    study = yaml.safe_load((path / "study.yaml").read_text())
    study["space"] = {
        "model": sorted({row["model"] for row in rows}),
        "input_size": [96, 128, 160, 224],
        "batch_size": [16, 32, 64],
        "learning_rate": {"log": [1.0e-4, 1.0e-1]},
    }
    study["provenance"] = {
        "data_name": "animals <25>",
        "num_classes": 4,
        "num_images": {"train": 2100, "validation": 450, "test": 450},
        "machine": "x86_64, 2 cores",
        "versions": {"torch": "2.14.1"},
    }
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    return read_run(path)


def confirmed(run: Run) -> Confirmation:
    """The front with accuracies on 400 test images: what was promised, less up to 6 points."""
    rng = np.random.default_rng(1)
    candidates = []
    for row in choose_candidates(run):
        shares = row["accuracy"] - rng.uniform(0, 0.06, 3)
        correct = rng.random((3, 400)) < shares[:, None]
        candidates.append(
            ConfirmedTrial(row=row, seeds=(7, 8, 9), validation=shares, correct=correct)
        )
    return Confirmation(run=run, candidates=tuple(candidates), failed=(), num_seeds=3)


def ablated(run: Run) -> Ablation:
    """Two differences, worth 20 points and none."""
    rows = [
        ("start", None, (False, False), 0.40),
        ("step", 0, (True, False), 0.60),
        ("step", 1, (True, True), 0.60),
        ("without", 0, (False, True), 0.40),
        ("without", 1, (True, False), 0.60),
    ]
    trained = [
        AblationRun(
            role=role, difference=index, on=on, accuracies=mean + np.array([-0.01, 0.0, 0.01])
        )
        for role, index, on, mean in rows
    ]
    return Ablation(
        trial=3, run=run.name, against="default", start=Recipe(),
        full=Recipe(batch_norm=True, batch_size=64), differences=(("batch_norm",), ("batch_size",)),
        num_seeds=3, num_images=450, cumulative=tuple(trained[:3]),
        leave_one_out=tuple(trained[3:]),
    )  # fmt: skip


def full_report_data(run: Run) -> ReportData:
    """A report's data of which no part is missing."""
    labels, predictions = labels_and_answers()
    samples, mistakes = images_of_classes()
    return find(
        run,
        predictions=predictions,
        labels=labels,
        samples=samples,
        mistakes=mistakes,
        confirmation=confirmed(run),
        ablations=(ablated(run),),
    )
