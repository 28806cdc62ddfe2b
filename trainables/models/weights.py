"""Weights for a model: reads a state dict safely from a file, and checks that it fits."""

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spaces.errors import UserError
from spaces.files import check_file
from trainables.models.family import Family, State

_NAMED_KEYS = 3
# torch.load raises these for damaged files besides OSError: a broken pickle can end in any of them.
DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
    *(AssertionError, struct.error, pickle.UnpicklingError),
)


def load_file(model: nn.Module, path: str | Path, family: Family, *, name: str = "") -> None:
    """Load a file of torch.save that holds a state dict, plain or under `state_dict` or `model`.

    family, name: the model's. The rules of load_state hold. Raises UserError if the file does not
    fit, is missing, damaged, or unsafe to load.
    """
    state = family.translate(model, _read_state(Path(path)))
    load_state(model, state, head=family.head(model), source=f"weights: {path}", name=name)


def _read_state(path: Path) -> State:
    try:
        check_file(path)
    except UserError as error:
        raise UserError(f"weights: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other versions, which fail anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"weights: {path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"weights: {path}: {error.strerror or error}") from None
    except DAMAGE:
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


def load_state(model: nn.Module, state: State, *, head: str, source: str, name: str = "") -> None:
    """Load a state dict with the model's own keys.

    name: the model's. head: its path. If the head does not fit, it keeps its own weights. Whole
    children of the model may be missing, such as the classifier, and keep theirs too. Any other
    difference raises UserError, which begins with source and names the keys.
    """
    own = model.state_dict()
    misfits = {key for key in state if key in own and state[key].shape != own[key].shape}
    state = {key: state[key] for key in state if not (key in misfits and is_in(key, head))}
    children = {key.split(".")[0] for key in state}
    missing = [
        key
        for key in own
        if key not in state
        and key.split(".")[0] in children
        and not is_in(key, head)
        and not key.endswith("num_batches_tracked")  # absent from files of torch before 0.4.1
    ]
    mistakes = [
        "" if state else "it only holds a head of another shape",
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
        message = "; ".join(filter(None, mistakes))
        raise UserError(
            f"{source} does not fit {name or 'the model'} (is it for another model?): {message}"
        )
    # Add the model's own values, so that torch gets a complete state with its versions.
    for key, value in state.items():
        own[key] = value
    model.load_state_dict(own)


def _complain(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
    return f"{what} {', '.join(keys[:_NAMED_KEYS])}{more}" if keys else ""


def is_in(key: str, module_path: str) -> bool:
    """Whether a state dict's key belongs to the module of that path."""
    return key.startswith(f"{module_path}.")


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())
