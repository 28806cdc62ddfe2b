"""Runs an exported model with ONNX Runtime alone, as on a device without torch.

The file itself says how to prepare images, and what its outputs mean.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.special import softmax

from spaces.errors import UserError
from trainables.data.image_files import resize_square
from trainables.data.image_table import UInt8Array
from trainables.system.cores import num_cores

METADATA_KEY = "flopwise"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an exported file says about itself, as JSON in the file's metadata."""

    classes: tuple[str, ...]
    """In the order of the outputs."""
    input_size: int
    """Height and width of the model's input, in pixels."""
    prepared_size: int
    """The size of the prepared data. Images were resized to it first, then to input_size."""
    mean: tuple[float, float, float]
    """Subtracted from RGB values from 0 to 1, before the division by std."""
    std: tuple[float, float, float]
    accuracy: float
    """The trial's accuracy on the validation split, a fraction of 1."""
    recipe: dict[str, Any]
    versions: dict[str, str]

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """An ONNX file that flopwise exported, opened by `open_exported`."""

    path: Path
    about: About
    session: onnxruntime.InferenceSession

    def logits(self, pixels_NHWC: UInt8Array) -> NDArray[np.float32]:
        """Outputs (N, classes) for uint8 RGB images (N, input_size, input_size, 3)."""
        mean = 255 * np.asarray(self.about.mean, dtype=np.float32)
        scale = 1 / (255 * np.asarray(self.about.std, dtype=np.float32))
        images_NHWC = (pixels_NHWC.astype(np.float32) - mean) * scale
        images_NCHW = np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2), dtype=np.float32)
        return run_session(self.session, images_NCHW)

    def probabilities(self, pixels_NHWC: UInt8Array) -> NDArray[np.float32]:
        """Probabilities (N, classes) for uint8 RGB images (N, input_size, input_size, 3)."""
        return softmax(self.logits(pixels_NHWC), axis=1)

    def fit(self, pixels: UInt8Array) -> UInt8Array:
        """Resize (prepared_size, prepared_size, 3) to the model's input, as training did."""
        size = self.about.input_size
        return pixels if len(pixels) == size else resize_square(pixels, size)


def open_exported(path: Path, *, threads: int | None = None) -> ExportedModel:
    """Open an exported ONNX file. threads: of ONNX Runtime; by default all cores.

    Raises UserError if it is missing, damaged, or not from flopwise.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}; an exported model is an .onnx file (flopwise export)")
    try:
        session = open_session(path, threads=threads or num_cores())
    except Exception as error:  # its errors have no other common base
        raise UserError(f"{path}: damaged, or not an ONNX file: {_first_line(error)}") from None
    written = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if written is None:
        raise UserError(
            f"{path}: was not exported by flopwise, since it names neither classes nor how to"
            " prepare images"
        )
    about = _read_about(path, written)
    outputs = session.get_outputs()[0].shape[-1]
    if outputs != len(about.classes):
        raise UserError(
            f"{path}: damaged: it names {len(about.classes)} classes but has {outputs} outputs"
        )
    return ExportedModel(path=path, about=about, session=session)


def open_session(file: Path | bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """Load a file, or its content, into ONNX Runtime on the CPU. Raises ONNX Runtime's errors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors are raised anyway
    source = str(file) if isinstance(file, Path) else file
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(
    session: onnxruntime.InferenceSession, images_NCHW: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits (N, classes) of normalised images (N, 3, H, W)."""
    (logits_NK,) = session.run(None, {session.get_inputs()[0].name: images_NCHW})
    return np.asarray(logits_NK)


def in_batches(rows: Sequence[int] | NDArray[np.int64], size: int = 32) -> Iterator[Any]:
    """Cut rows into batches."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _read_about(path: Path, written: str) -> About:
    try:
        values = json.loads(written)
        version = values.pop("format")
        if version > _FORMAT:
            raise UserError(f"{path}: was exported by a newer flopwise; update this one")
        return About(
            **{
                **values,
                **{name: tuple(values[name]) for name in ("classes", "mean", "std")},
            }
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged: its metadata can't be read") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
