"""What a model's frozen blocks make of the images: computed once, shared by a machine's trials.

A file holds the output of a model's first `cut` blocks for all images that are trained or validated
on. Its name is a digest of everything that this output depends on: equal prefixes find it, others
never. Only without augmentation, with which every epoch has other images.
"""

import errno
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
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
from trainables.system.shared_cache import BoundedFolder, WritePart, bounded_folder

_log = logging.getLogger("flopwise")
_FORMAT = 3
_LIMIT_VARIABLE = "FLOPWISE_FEATURES_GB"
_MOST_BYTES = 20 * 10**9
_MOST_OF_THE_DISK = 0.2
# Of the bound, what one file may take, and one that is stored for the sake of later cuts: others
# have to find room beside them.
_LARGEST_SHARE = 0.5
_LARGEST_SHARE_AHEAD = 0.25
# In rows: a multiple of every batch of images that is evaluated at a time.
_SMALLEST_PART = 256
_MOST_PARTS = 256
# Where the disk is full, features up to this size are held in the trial's own memory.
_MOST_BYTES_IN_MEMORY = 512 * 2**20


def has_shared_features(recipe: Recipe) -> bool:
    """Whether what a recipe's frozen blocks return is the same in every epoch and every trial."""
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

    Mapped from the cache, after this process has put it there if no other had, going on from the
    deepest shallower cut that was there. Trials that want it at the same time compute it together.
    deepest_unfrozen: the largest `unfrozen` that trials of this model will have: that cut is stored
    on the way, so that none has to begin with the images again. open_images: called only if they
    are needed. int8_prefix: makes the frozen blocks int8, by nothing but their weights and the
    training images, for the features of these; called only if they are not in the cache.

    None where nothing is frozen, with augmentation, with FLOPWISE_FEATURES_GB=0, and where neither
    the cache nor 512 MB of memory have room.
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
        shallowest = cut  # blocks are calibrated together: no cut goes on from another
    try:
        return prefix.features(cut, max(1, shallowest))
    except OSError as error:
        _log.warning("frozen features are not kept on disk: %s", error.strerror or error)
    return prefix.features_in_memory(cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """The frozen blocks of a model, and the files for what each cut of them returns."""

    model: nn.Module
    device: torch.device
    input_size: int
    normalization: Normalization
    num_rows: int
    open_images: Callable[[], Inputs]
    names: list[str]
    """By cut; 0, the images themselves, is no file."""
    folder: BoundedFolder
    int8_prefix: Callable[[], nn.Module] | None

    def features(self, cut: int, shallowest: int) -> torch.Tensor:
        """Find the features of a cut or make them, if need be by way of a shallower cut.

        Raises OSError where they can't be kept.
        """
        found = self._find(cut)
        if found is not None:
            return found
        layouts = self._layouts(cut)
        if layouts[cut].num_bytes > _LARGEST_SHARE * self.folder.limit_bytes:
            raise OSError(errno.EFBIG, f"{layouts[cut].num_bytes:,} bytes are too many")
        most_ahead = _LARGEST_SHARE_AHEAD * self.folder.limit_bytes
        ahead = next((k for k in range(shallowest, cut) if layouts[k].num_bytes <= most_ahead), cut)
        if ahead < cut and self._deepest_cached(cut)[0] < ahead:
            with suppress(OSError):  # this cut may still find room
                self.features(ahead, ahead)
        # What calibrating takes is not shared out, so the rest is not either.
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
        """Compute the features of a cut for this process alone; None where they are too large."""
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
        except OSError:  # thrown out in this moment, or not ours to read
            return None
        except ValueError:  # damaged
            path.unlink(missing_ok=True)
            return None

    def _deepest_cached(self, before: int) -> tuple[int, torch.Tensor | None]:
        """The deepest shallower cut that is in the cache, with its features; 0: none is."""
        for cut in range(before - 1, 0, -1):
            found = self._find(cut)
            if found is not None:
                return cut, found
        return 0, None

    def _computer(self, cut: int) -> Callable[[int, int], Iterator[torch.Tensor]]:
        """What yields the output of the first `cut` blocks, in batches of rows in their order.

        It takes the first of these rows, and the one after the last.
        """
        if self.int8_prefix is None:
            start, stored = self._deepest_cached(cut)
            blocks = model_between(self.model, start, cut).eval()
            context = partial(autocast, self.device)
        else:
            stored, blocks, context = None, self.int8_prefix(), nullcontext
        source = self.open_images() if stored is None else StoredInputs(stored, self.device)

        def compute(first: int, end: int) -> Iterator[torch.Tensor]:
            for batch in source.batches(torch.arange(first, end), source.evaluation_batch):
                # Around the blocks alone: a mode that is on at a yield reaches whoever reads.
                with torch.inference_mode(), context():
                    if stored is None:
                        batch = normalize(batch, self.normalization)
                    features = blocks(batch)
                yield features

        return compute

    @torch.inference_mode()
    def _layouts(self, cut: int) -> list[Layout]:
        """By cut from 0 on: found by sending one black image through."""
        size = self.input_size
        output = torch.zeros(1, 3, size, size, device=self.device)
        layouts = [layout_of(output, self.num_rows)]
        with autocast(self.device):
            for k in range(cut):
                output = model_between(self.model, k, k + 1).eval()(output)
                layouts.append(layout_of(output, self.num_rows))
        return layouts


def _rows_of_a_part(num_rows: int) -> int:
    """How many rows a process computes before it looks which are left.

    Whole batches of images, so that it makes no difference to rounding who computes what.
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

    The values of their weights stand for the weights file, and for the seed of random ones.
    """
    threads = torch.get_num_threads()
    setting = {
        "format": _FORMAT,
        "torch": torch.__version__,
        "packages": {name: version(name) for name in family_of(recipe.model).packages},
        "model": [recipe.model, recipe.width, recipe.residual, recipe.input_size],
        "normalization": asdict(normalization_of(recipe)),
        "data": [data.digest, hashlib.sha256(rows_in_order(data).tobytes()).hexdigest()],
        # With another number of threads, sums are rounded otherwise.
        "computed": [
            *(device.type, precision(device), device.type == "cpu" and threads),
            f"int8 by torchao {version('torchao')}" if int8 else "float",
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
