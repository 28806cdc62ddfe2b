"""The output of a model's frozen blocks: computed once, and shared by a machine's trials.

A file holds the output of a model's first `cut` blocks for all training and validation images. Its
name is a digest of everything that this output depends on, so only equal prefixes find it. This
needs training without augmentation, which changes the images in every epoch.
"""

import errno
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import BinaryIO

import numpy as np
import torch
from torch import nn

from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.inputs.augmentation import normalize
from trainables.inputs.feature_files import (
    Layout,
    hold_features,
    layout_of,
    open_features,
    write_features,
)
from trainables.inputs.input_sources import Inputs, StoredInputs, rows_in_order
from trainables.models.blocks import list_blocks, model_between
from trainables.models.families import family_of, normalization_of
from trainables.models.family import Normalization
from trainables.system.gpus import autocast, precision
from trainables.system.phases import tell_phase
from trainables.system.shared_cache import BoundedFolder, WritePart, bounded_folder

_log = logging.getLogger("flopwise")
_FORMAT = 3
_LIMIT_VARIABLE = "FLOPWISE_FEATURES_GB"
_MOST_BYTES = 20 * 10**9
_MOST_OF_THE_DISK = 0.2
# The parts of the limit that one file may take, and that a file for later cuts may take: other
# files need space too.
_LARGEST_SHARE = 0.5
_LARGEST_SHARE_AHEAD = 0.25
# In rows: a multiple of every evaluation batch of images.
_SMALLEST_PART = 256
_MOST_PARTS = 256
# If the disk is full, features up to this size are held in the trial's own memory.
_MOST_BYTES_IN_MEMORY = 512 * 2**20


def has_shared_features(recipe: Recipe) -> bool:
    """Whether the output of a recipe's frozen blocks is the same in all epochs and trials."""
    return recipe.unfrozen is not None and recipe.augment == "none"


def frozen_features(
    model: nn.Module,
    recipe: Recipe,
    data: ImageData,
    device: torch.device,
    open_images: Callable[[], Inputs],
    *,
    deepest_unfrozen: int | None = None,
    int8_prefix: Callable[[], nn.Module] | None = None,
) -> torch.Tensor | None:
    """The output of the model's frozen blocks, as StoredInputs takes it; None: train from images.

    It is mapped from the cache. If it is missing there, this process computes it, starting from the
    deepest shallower cut in the cache. Trials that need it at the same time compute it together.
    deepest_unfrozen: the largest `unfrozen` that trials of this model will have. That cut is stored
    on the way, so that no trial has to start from the images again. open_images: called only if
    they are needed. int8_prefix: makes the frozen blocks int8, from only their weights and the
    training images; called only if their features are not in the cache.

    None if nothing is frozen, with augmentation, with FLOPWISE_FEATURES_GB=0, and if they fit
    neither into the cache nor into 512 MB of memory.
    """
    if not has_shared_features(recipe):
        return None
    assert recipe.unfrozen is not None
    num_blocks = len(list_blocks(model))
    cut = num_blocks - recipe.unfrozen
    folder = bounded_folder(
        "features", _LIMIT_VARIABLE, most=_MOST_BYTES, most_of_the_disk=_MOST_OF_THE_DISK
    )
    if cut == 0 or folder.limit_bytes == 0:
        return None
    prefix = _Prefix(
        model=model,
        device=device,
        input_size=recipe.input_size,
        normalization=normalization_of(recipe),
        num_rows=len(rows_in_order(data)),
        open_images=open_images,
        names=[
            f"{digest}.npy"
            for digest in _digests(model, cut, recipe, data, device, int8=int8_prefix is not None)
        ],
        folder=folder,
        int8_prefix=int8_prefix,
    )
    shallowest = num_blocks - max(recipe.unfrozen, deepest_unfrozen or 0)
    if int8_prefix is not None:
        shallowest = cut  # blocks are calibrated together, so no cut continues another
    try:
        return prefix.features(cut, max(1, shallowest))
    except OSError as error:
        _log.warning("frozen features are not kept on disk: %s", error.strerror or error)
    return prefix.features_in_memory(cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """The frozen blocks of a model, and the files with the output of each cut."""

    model: nn.Module
    device: torch.device
    input_size: int
    normalization: Normalization
    num_rows: int
    open_images: Callable[[], Inputs]
    names: list[str]
    """File names by cut. Cut 0 is the images themselves and has no file."""
    folder: BoundedFolder
    int8_prefix: Callable[[], nn.Module] | None

    def features(self, cut: int, shallowest: int) -> torch.Tensor:
        """Find or compute the features of a cut, if useful by way of a shallower cut.

        Raises OSError if they can't be stored.
        """
        found = self._find(cut)
        if found is not None:
            return found
        what = "the int8 stand-in" if self.int8_prefix is not None else "frozen features"
        tell_phase(f"computing {what}")
        layouts = self._layouts(cut)
        if layouts[cut].num_bytes > _LARGEST_SHARE * self.folder.limit_bytes:
            raise OSError(errno.EFBIG, f"{layouts[cut].num_bytes:,} bytes are too many")
        most_ahead = _LARGEST_SHARE_AHEAD * self.folder.limit_bytes
        ahead = next((k for k in range(shallowest, cut) if layouts[k].num_bytes <= most_ahead), cut)
        if ahead < cut and self._deepest_cached(cut)[0] < ahead:
            with suppress(OSError):  # there may still be space for this cut
                self.features(ahead, ahead)
        # Calibration can't be divided among processes, so don't divide the rest either.
        rows = self.num_rows if self.int8_prefix else _rows_of_a_part(self.num_rows)

        def begin() -> WritePart:
            compute = self._computer(cut)

            def write_part(file: BinaryIO, part: int) -> None:
                first = part * rows
                batches = compute(first, min(first + rows, self.num_rows))
                write_features(file, layouts[cut], batches, first_row=first)

            return write_part

        path = self.folder.make_once(
            self.names[cut],
            layouts[cut].num_bytes,
            begin,
            num_parts=math.ceil(self.num_rows / rows),
        )
        return open_features(path)

    def features_in_memory(self, cut: int) -> torch.Tensor | None:
        """Compute the features of a cut for this process alone; None if they are too large."""
        layout = self._layouts(cut)[cut]
        if layout.num_bytes > _MOST_BYTES_IN_MEMORY:
            return None
        return hold_features(layout, self._computer(cut)(0, self.num_rows))

    def _find(self, cut: int) -> torch.Tensor | None:
        path = self.folder.find(self.names[cut])
        if path is None:
            return None
        try:
            return open_features(path)
        except OSError:  # just removed, or not ours to read
            return None
        except ValueError:  # damaged
            path.unlink(missing_ok=True)
            return None

    def _deepest_cached(self, before: int) -> tuple[int, torch.Tensor | None]:
        """The deepest shallower cut in the cache, with its features; 0 if there is none."""
        for cut in range(before - 1, 0, -1):
            found = self._find(cut)
            if found is not None:
                return cut, found
        return 0, None

    def _computer(self, cut: int) -> Callable[[int, int], Iterator[torch.Tensor]]:
        """A function that yields the output of the first `cut` blocks, in batches of rows.

        It takes the first row, and the one after the last.
        """
        if self.int8_prefix is None:
            start, stored = self._deepest_cached(cut)
            blocks = model_between(self.model, start, cut).eval()
        else:
            stored, blocks = None, self.int8_prefix()
        source = self.open_images() if stored is None else StoredInputs(stored, self.device)

        def compute(first: int, end: int) -> Iterator[torch.Tensor]:
            for batch in source.batches(torch.arange(first, end), source.evaluation_batch):
                # Not around the yield: the reader of the generator would be in this mode too.
                with torch.inference_mode(), self._precision():
                    if stored is None:
                        batch = normalize(batch, self.normalization)
                    features = blocks(batch)
                yield features

        return compute

    @torch.inference_mode()
    def _layouts(self, cut: int) -> list[Layout]:
        """The layout of each cut from 0 on, found with one black image."""
        size = self.input_size
        output = torch.zeros(1, 3, size, size, device=self.device)
        layouts = [layout_of(output, self.num_rows)]
        with self._precision():
            for k in range(cut):
                output = model_between(self.model, k, k + 1).eval()(output)
                layouts.append(layout_of(output, self.num_rows))
        return layouts

    def _precision(self) -> AbstractContextManager[object]:
        """The precision of the blocks: the device's, but float32 around int8 blocks."""
        return autocast(self.device) if self.int8_prefix is None else nullcontext()


def _rows_of_a_part(num_rows: int) -> int:
    """How many rows a process computes before it looks which ones are left.

    These are whole batches of images, so rounding does not depend on who computes what.
    """
    return _SMALLEST_PART * math.ceil(num_rows / (_SMALLEST_PART * _MOST_PARTS))


def _digests(
    model: nn.Module,
    cut: int,
    recipe: Recipe,
    data: ImageData,
    device: torch.device,
    *,
    int8: bool,
) -> list[str]:
    """Digests of everything that the output of the first 0 to cut blocks depends on.

    The values of the weights stand for a weights file, or for the seed of random weights.
    """
    threads = torch.get_num_threads()
    setting = {
        "format": _FORMAT,
        "torch": torch.__version__,
        "packages": {name: version(name) for name in family_of(recipe.model).packages},
        "model": [recipe.model, recipe.width, recipe.residual, recipe.input_size],
        "normalization": asdict(normalization_of(recipe)),
        "data": [data.digest, hashlib.sha256(rows_in_order(data).tobytes()).hexdigest()],
        # The number of threads changes how sums are rounded.
        "computed": [
            *(device.type, precision(device), device.type == "cpu" and threads),
            f"int8 in float32 by torchao {version('torchao')}" if int8 else "float",
        ],
    }
    digest = hashlib.sha256(json.dumps(setting, sort_keys=True).encode())
    digests = [digest.hexdigest()[:32]]
    for block in list_blocks(model)[:cut]:
        for module in block.modules:
            for name, value in module.state_dict().items():
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(value.cpu()).data)
        digests.append(digest.hexdigest()[:32])
    return digests
