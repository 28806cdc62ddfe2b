"""The distance to the limit: the steps that no search over these recipes can leave out.

For each recipe: forward, backward and optimiser step of its suffix, the blocks that train, for
every batch of every epoch, and the suffix's forward pass over the validation images. In a plain
loop on random features in memory, as many processes at once as the search has workers, one thread
each, so that they share the machine's memory and caches as trials do. What a search takes beyond it
is: Ray, proposals, the frozen prefix, reading features, shuffling, checkpoints, tables, waiting.
"""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from spaces.recipe import recipe_from
from trainables.learning.optimization import build_optimizer
from trainables.models.blocks import freeze, set_training, split_model
from trainables.models.building import build_model

_EVALUATION_BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much there is of everything."""

    train: int
    validation: int
    classes: int


def pure_seconds(
    recipes: Sequence[dict[str, Any]], counts: Counts, *, workers: int
) -> list[tuple[float, float]]:
    """Seconds of training and of validation for each recipe, given by its fields."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as processes:
        return list(processes.map(partial(_run, counts=counts), recipes))


def _run(fields: dict[str, Any], counts: Counts) -> tuple[float, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = recipe_from(fields)
    assert recipe.unfrozen is not None
    model = build_model(recipe, counts.classes)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    freeze(model, recipe.unfrozen)
    prefix, suffix = split_model(model, recipe.unfrozen)
    train_features = _features(prefix, recipe.input_size, counts.train)
    validation_features = _features(prefix, recipe.input_size, counts.validation)
    labels = torch.randint(counts.classes, (counts.train,)).split(recipe.batch_size)
    batches = list(zip(train_features.split(recipe.batch_size), labels, strict=True))
    optimizer = build_optimizer(recipe, [p for p in model.parameters() if p.requires_grad])
    training = validation = 0.0
    for _ in range(recipe.epochs):
        started = time.perf_counter()
        set_training(model)
        for features, wanted in batches:
            loss = F.cross_entropy(suffix(features), wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        trained = time.perf_counter()
        model.eval()
        with torch.inference_mode():
            for features in validation_features.split(_EVALUATION_BATCH):
                suffix(features)
        training += trained - started
        validation += time.perf_counter() - trained
    return training, validation


def _features(prefix: torch.nn.Module, input_size: int, count: int) -> torch.Tensor:
    prefix.eval()
    with torch.no_grad():
        shape = prefix(torch.zeros(1, 3, input_size, input_size)).shape[1:]
    features = torch.rand(count, *shape)
    if len(shape) == 3:
        features = features.contiguous(memory_format=torch.channels_last)
    return features
