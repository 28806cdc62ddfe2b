from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.inputs.feature_files import hold_features, layout_of, open_features, write_features


def write(path: Path, features: torch.Tensor, batch_size: int = 3) -> Path:
    layout = layout_of(features[:1], len(features))
    with path.open("wb") as file:
        file.truncate(layout.num_bytes)  # as where room was reserved
        write_features(file, layout, features.split(batch_size))
    assert path.stat().st_size == layout.num_bytes
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 5), (7, 4, 2, 3), (7, 3, 5)])
def test_features_come_back_as_written_with_channels_last(
    tmp_path: Path, shape: tuple[int, ...], dtype: torch.dtype
):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = features.permute(0, 2, 3, 1) if features.ndim == 4 else features
    mapped = open_features(write(tmp_path / "f.npy", features))
    assert mapped.dtype == dtype
    assert mapped.is_contiguous()
    assert torch.equal(mapped, expected)
    held = hold_features(layout_of(features[:1], len(features)), features.split(2))
    assert torch.equal(held, expected)


def test_parts_can_be_written_in_any_order(tmp_path: Path):
    features = torch.randn((7, 4, 2, 3), generator=torch.Generator().manual_seed(0))
    layout = layout_of(features[:1], len(features))
    with (tmp_path / "parts.npy").open("wb") as file:
        for first, end in ((4, 7), (0, 2), (2, 4)):
            write_features(file, layout, [features[first:end]], first_row=first)
    whole = write(tmp_path / "whole.npy", features)
    assert (tmp_path / "parts.npy").read_bytes() == whole.read_bytes()


def test_numpy_reads_the_file(tmp_path: Path):
    features = torch.arange(12.0).view(4, 3)
    path = write(tmp_path / "f.npy", features)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), features.numpy())


def test_changing_what_was_mapped_changes_no_file(tmp_path: Path):
    path = write(tmp_path / "f.npy", torch.ones(4, 3))
    open_features(path).zero_()
    assert bool((open_features(path) == 1).all())


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_file_cut_anywhere_is_damaged(tmp_path: Path, kept: int):
    path = write(tmp_path / "f.npy", torch.ones(40, 30))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"."):
        open_features(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        open_features(tmp_path / "f.npy")
