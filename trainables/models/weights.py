"""Weights for a model: torchvision's ImageNet weights, or a state dict in a file, safely loaded."""

import contextlib
import pickle
import re
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from spaces.errors import UserError
from trainables.models.forward_steps import find_head

_NAMED_KEYS = 3
# What torch.load raises on damaged files beside OSError: a broken pickle can end in any of these.
_DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
    *(AssertionError, struct.error, pickle.UnpicklingError),
)
# Auxiliary heads are in torchvision's files for GoogLeNet and Inception v3, and not in our models.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
# torchvision's DenseNet files are older than the rule that names hold no dots.
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def load_imagenet(model: nn.Module, name: str) -> None:
    """Load torchvision's default weights for the model of that name; the head stays as it is.

    They come from torch.hub's cache, or are downloaded into it. Raises UserError with the file and
    the folder to put it into where the hub is out of reach.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT  # pyright: ignore
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, *_DAMAGE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = "is damaged" if file.exists() else f"could not be downloaded ({reason})"
        raise UserError(
            f"weights: imagenet for {name}: {file.name} {problem};"
            f" fetch {weights.url} where there is a network and put it at {file}"
        ) from None
    head, _ = find_head(model)
    state = {key: value for key, value in state.items() if not _is_in(key, head)}
    _load(model, state, f"weights: imagenet for {name}")
    if hasattr(model, "transform_input"):
        # GoogLeNet's and Inception's weights expect inputs scaled to -1..1, which this does.
        model.transform_input = True  # pyright: ignore


def load_file(model: nn.Module, path: str | Path) -> None:
    """Load a file of torch.save that holds a state dict, plain or under `state_dict` or `model`.

    The head is loaded where it fits and stays as it is where it does not. Apart from it, whole
    children of the model may be missing from the file, and stay as they are: features without a
    classifier, say. Any other difference raises UserError that names the keys, and so does a file
    that is missing, damaged, or unsafe to load.
    """
    _load(model, _read_state(Path(path)), f"weights: {path}")


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other versions, before they fail
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"weights: {path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"weights: {path}: {error.strerror or error}") from None
    except _DAMAGE:
        raise UserError(
            f"weights: {path}: is damaged, or holds more than tensors, which is not safe to load;"
            " save model.state_dict() with torch.save"
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not (isinstance(content, Mapping) and content and _are_tensors(content)):
        raise UserError(
            f"weights: {path}: holds no state dict; save model.state_dict() with torch.save"
        )
    # DistributedDataParallel names everything module.*
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict by the rules of load_file; source begins the errors."""
    head, _ = find_head(model)
    state = _translate(model, state)
    own = model.state_dict()
    misfits = {key for key in state if key in own and state[key].shape != own[key].shape}
    state = {key: state[key] for key in state if not (key in misfits and _is_in(key, head))}
    children = {key.split(".")[0] for key in state}
    missing = [
        key
        for key in own
        if key not in state
        and key.split(".")[0] in children
        and not _is_in(key, head)
        and not key.endswith("num_batches_tracked")  # absent from files of torch before 0.4.1
    ]
    mistakes = [
        "" if state else "nothing but a head of another shape",
        _complain("the model has no", [key for key in state if key not in own]),
        _complain("the file lacks", missing),
        _complain(
            "other shapes:",
            [
                f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
                for key in state
                if key in misfits
            ],
        ),
    ]
    if any(mistakes):
        kind = type(model).__name__
        message = "; ".join(filter(None, mistakes))
        raise UserError(f"{source} does not fit {kind} (is it of another model?): {message}")
    # Filled up from the model, so that torch is told of a complete state, with its versions.
    for key, value in state.items():
        own[key] = value
    model.load_state_dict(own)


def _translate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What older files name otherwise, and what depends on the input size."""
    if isinstance(model, torchvision.models.DenseNet):
        state = {_OLD_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}
    if isinstance(model, torchvision.models.GoogLeNet | torchvision.models.Inception3):
        state = {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}
    if isinstance(model, VisionTransformer) and "encoder.pos_embedding" in state:
        with contextlib.suppress(ValueError):  # its shape is named with the others then
            state = dict(
                interpolate_embeddings(model.image_size, model.patch_size, OrderedDict(state))
            )
    return state


def _complain(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
    return f"{what} {', '.join(keys[:_NAMED_KEYS])}{more}" if keys else ""


def _is_in(key: str, module_path: str) -> bool:
    return key.startswith(f"{module_path}.")


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())
