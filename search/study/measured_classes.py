"""Checks what a study says of classes against its data. Without torch, so it is told at once."""

from search.study.study import Study
from spaces.columns import RECALL, is_recall
from spaces.errors import UserError
from spaces.metrics import TOP, TOP_ACCURACY
from spaces.yaml_files import cut, did_you_mean
from trainables.data.dataset import ImageData

# From this ratio of the largest class to the smallest on, classes are of different sizes.
_UNEVEN = 1.2
_FOR_UNEVEN = {"class_weighting": "none", "oversampling": "false"}


def check_classes(study: Study, data: ImageData) -> None:
    """Raise UserError for a recall that the data can't give, and for a metric that is always 1."""
    counts = dict(zip(data.classes, data.class_counts("validation"), strict=True))
    for column in study.objectives.recalls:
        name = column.removeprefix(RECALL)
        if name not in counts:
            near = did_you_mean(name, data.classes)
            raise UserError(f"{cut(column)}: {data.path} has no class of this name{near}")
        if not counts[name]:
            raise UserError(f"{cut(column)}: the class has no validation image in {data.path}")
    if study.objectives.metric == TOP_ACCURACY and len(data.classes) <= TOP:
        raise UserError(
            f"objectives.{TOP_ACCURACY}: is always 1 with {len(data.classes)} classes; use accuracy"
        )


def notes_on_classes(study: Study, data: ImageData) -> list[str]:
    """What to know about a study's metric and space with this data, a line each."""
    notes = []
    metric, bounds = study.objectives.metric, study.objectives.metric_constraints
    if metric is not None and is_recall(metric) and all(one.column == metric for one in bounds):
        notes.append(
            f"a model that always answers {metric.removeprefix(RECALL)} has {metric} of 1; bound"
            " another metric too, such as constraints: {balanced_accuracy: '>= 0.5'}"
        )
    counts = data.class_counts("train")
    searched = [name for name in _FOR_UNEVEN if len(study.space.values_of(name)) > 1]
    if searched and max(counts) < _UNEVEN * min(counts):
        fixes = " ".join(f"--fix {name}={_FOR_UNEVEN[name]}" for name in searched)
        notes.append(
            f"all classes are about as large, so {' and '.join(searched)} change little; search"
            f" less with {fixes}"
        )
    return notes
