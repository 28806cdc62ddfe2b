from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.export.predictions_on_split import predictions_on_split
from trainables.learning.checkpoint import CHECKPOINT_FILE
from trainables.training import train

RECIPE = Recipe(input_size=48, width=0.1, batch_norm=True, epochs=2, learning_rate=3e-3)


@pytest.fixture(scope="module")
def trained(demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A checkpoint, and the accuracy that its trial had."""
    training = train(RECIPE, demo_data, lambda _: None)
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save(training.state_dict(), folder / CHECKPOINT_FILE)
    return folder, training.history[-1].accuracy


def test_a_model_is_right_as_often_as_when_its_accuracy_was_measured(
    trained: tuple[Path, float], demo_data: ImageData
):
    folder, accuracy = trained
    answers = predictions_on_split(RECIPE, demo_data, folder, "validation", threads=1)
    labels = demo_data.labels[demo_data.rows("validation")]
    assert (answers.predicted == labels).mean() == accuracy
    assert answers.in_top5.all()  # of three classes
    assert ((answers.confidence >= 1 / 3) & (answers.confidence <= 1)).all()


def test_every_image_of_the_test_split_has_one_answer(
    trained: tuple[Path, float], demo_data: ImageData
):
    seen: list[int] = []
    predictions = predictions_on_split(
        RECIPE, demo_data, trained[0], "test", progress=lambda done, _: seen.append(done)
    )
    assert len(predictions.predicted) == len(demo_data.rows("test")) == seen[-1]
    assert set(np.unique(predictions.predicted)) <= {0, 1, 2}


def test_a_checkpoint_of_another_recipe_is_refused(
    trained: tuple[Path, float], demo_data: ImageData
):
    with pytest.raises(UserError, match="holds another recipe"):
        predictions_on_split(RECIPE.replace(seed=1), demo_data, trained[0], "test")
