from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spaces.recipe import recipe_from
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo
from trainables.inputs import device_cache as device_tables
from trainables.inputs.device_cache import open_images
from trainables.inputs.input_sources import Inputs, MappedImages, StoredInputs
from trainables.training import Training

CPU = torch.device("cpu")
PLENTY = 10**9


@pytest.fixture(autouse=True)
def none_kept() -> Iterator[None]:
    device_tables._kept.clear()
    yield
    device_tables._kept.clear()


def taken(inputs: Inputs, order: list[int], batch_size: int = 2) -> list[torch.Tensor]:
    return list(inputs.batches(torch.tensor(order), batch_size))


def test_images_on_the_device_are_those_that_are_mapped(demo_data: ImageData):
    mapped = open_images(demo_data, 48, CPU)
    kept = open_images(demo_data, 48, CPU, room_bytes=PLENTY)
    assert isinstance(mapped, MappedImages)
    assert isinstance(kept, StoredInputs)
    num_train = len(demo_data.rows("train"))
    order = [3, 0, num_train, 1, num_train + 2]
    batches = taken(kept, order)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for ours, theirs in zip(batches, taken(mapped, order), strict=True):
        assert ours.dtype == torch.uint8
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(ours, theirs)
    rows = [demo_data.rows("train")[3], demo_data.rows("train")[0]]
    expected = torch.from_numpy(demo_data.at_size(48).take(rows))
    assert torch.equal(batches[0].permute(0, 2, 3, 1), expected)


def test_the_table_stays_for_the_next_trial_until_another_one_is_wanted(
    demo_data: ImageData, tmp_path: Path
):
    open_images(demo_data, 48, CPU, room_bytes=PLENTY)
    first = device_tables._kept[0].images
    open_images(demo_data, 48, CPU, room_bytes=0)  # there is no other to make room for
    assert device_tables._kept[0].images is first
    for data, size in ((demo_data, 32), (make_demo(tmp_path / "o", classes=3, size=32), 32)):
        before = device_tables._kept[0].images
        open_images(data, size, CPU, room_bytes=PLENTY)
        (kept,) = device_tables._kept
        assert kept.images is not before
        assert kept.images.shape[1] == size


def test_a_table_that_does_not_fit_is_mapped_and_the_last_one_goes(demo_data: ImageData):
    num_images = len(demo_data.rows("train")) + len(demo_data.rows("validation"))
    open_images(demo_data, 48, CPU, room_bytes=PLENTY)
    num_bytes = num_images * 32 * 32 * 3
    assert isinstance(open_images(demo_data, 32, CPU, room_bytes=num_bytes - 1), MappedImages)
    assert device_tables._kept == []
    assert isinstance(open_images(demo_data, 32, CPU, room_bytes=num_bytes), StoredInputs)


@pytest.mark.parametrize("augment", ["none", "light", "trivialaugment"])
def test_a_trial_on_images_of_the_device_has_the_same_numbers(demo_data: ImageData, augment: str):
    recipe = recipe_from(
        {"input_size": 48, "width": 0.125, "batch_norm": True, "epochs": 2, "augment": augment}
    )

    def numbers(room_bytes: int | None = None) -> list[tuple[float, ...]]:
        training = Training(recipe, demo_data, device=CPU, room_bytes=room_bytes)
        while not training.done:
            training.run_epoch()
        return [(epoch.train_loss, epoch.val_loss, epoch.accuracy) for epoch in training.history]

    mapped = numbers()
    assert device_tables._kept == []
    assert numbers(PLENTY) == mapped
    assert len(device_tables._kept) == 1
