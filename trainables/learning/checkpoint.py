"""Writes and reads the content of a checkpoint: the state of a training, as bytes.

`search.storage.checkpoints` knows where checkpoints are.
"""

import io
from typing import Any

import torch

CHECKPOINT_FILE = "training.pt"
"""In the folder that Ray Tune gives a trial to save itself in."""


def encode_checkpoint(state: dict[str, Any]) -> memoryview:
    """The content of a checkpoint's file. state: `Training.state_dict()`."""
    content = io.BytesIO()
    torch.save(state, content)
    return content.getbuffer()


def decode_checkpoint(content: bytes) -> dict[str, Any]:
    """Read a state back, on the CPU. Raises ValueError if it is incomplete or unsafe to load."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damage makes torch raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"damaged: {reason}") from None
    if not isinstance(state, dict):
        raise ValueError("is not a trial's checkpoint")  # noqa: TRY004 a damaged file, to users
    return state
