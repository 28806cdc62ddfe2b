"""Runs an exported model with ONNX Runtime alone, as on a device without torch.

The file itself says how to prepare images, and what its outputs mean.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated
from scipy.special import softmax

from spaces.errors import UserError
from spaces.files import check_file
from spaces.recipe import describe_mistakes
from spaces.yaml_files import cut
from trainables.data.image_files import Fit, Reading, resize_square
from trainables.data.image_table import UInt8Array
from trainables.system.cores import num_cores

METADATA_KEY = "flopwise"
# Protocol buffers hold no more.
_MOST_BYTES = 2**31
_Positive = Annotated[float, Field(gt=0)]
# 2: says how images became squares, where they were not cropped.
_FORMAT = 2


@validated(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
)
class About:
    """What an exported file says about itself, as JSON in the file's metadata."""

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    """In the order of the outputs."""
    input_size: Annotated[int, Field(ge=8, le=2048)]
    """Height and width of the model's input, in pixels."""
    prepared_size: Annotated[int, Field(ge=8, le=2048)]
    """The size of the prepared data. Images were resized to it first, then to input_size."""
    mean: tuple[float, float, float]
    """Subtracted from RGB values from 0 to 1, before the division by std."""
    std: tuple[_Positive, _Positive, _Positive]
    accuracy: float
    """The trial's accuracy on the validation split, a fraction of 1."""
    recipe: dict[str, Any]
    versions: dict[str, str]
    fit: Fit = "crop"
    """How images became squares of prepared_size; see `Reading`."""
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    """Of white, in images of more than 8 bits; see `Reading`."""

    @property
    def reading(self) -> Reading:
        """How image files are read."""
        return Reading(size=self.prepared_size, fit=self.fit, bits=self.bits)

    def to_json(self) -> str:
        values = asdict(self)
        if self.fit == "crop" and self.bits is None:  # older versions read these files too
            del values["fit"], values["bits"]
            return json.dumps({"format": 1, **values})
        return json.dumps({"format": _FORMAT, **values})


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
        try:
            logits_NK = run_session(self.session, images_NCHW)
        except Exception as error:  # its errors have no other common base
            raise UserError(f"{self.path}: damaged: can't be run: {_first_line(error)}") from None
        if logits_NK.shape != (len(pixels_NHWC), len(self.about.classes)):
            raise UserError(
                f"{self.path}: damaged: gives {logits_NK.shape} numbers for {len(pixels_NHWC)}"
                f" images of {len(self.about.classes)} classes"
            )
        if not np.isfinite(logits_NK).all():
            raise UserError(f"{self.path}: damaged: its outputs are not all finite numbers")
        return logits_NK

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
    try:
        check_file(path, most_bytes=_MOST_BYTES)
    except UserError as error:
        raise UserError(f"{error}; an exported model is an .onnx file (flopwise export)") from None
    if path.suffix in (".yaml", ".yml"):
        raise UserError(
            f"{path}: is a recipe, not a model; export the trial with --format onnx, and name that"
            " file"
        )
    try:
        session = open_session(path, threads=threads or num_cores())
    except Exception as error:  # its errors have no other common base
        raise UserError(f"{path}: damaged, or not an ONNX file: {_first_line(error)}") from None
    try:
        written = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError:
        raise UserError(f"{path}: damaged: its metadata is not UTF-8 text") from None
    if written is None:
        raise UserError(
            f"{path}: was not exported by flopwise, since it names neither classes nor how to"
            " prepare images"
        )
    about = _read_about(path, written)
    _check_fits(path, about, session)
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


def _check_fits(path: Path, about: About, session: onnxruntime.InferenceSession) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(
            f"{path}: damaged: it has {len(inputs)} inputs and {len(outputs)} outputs, not one each"
        )
    if inputs[0].type != "tensor(float)" or outputs[0].type != "tensor(float)":
        raise UserError(f"{path}: damaged: its input or output is no tensor of floats")
    # A free dimension has a name, or none.
    _, *wanted = (None, 3, about.input_size, about.input_size)
    found = inputs[0].shape[1:]
    fits = len(found) == 3 and all(
        one == other or not isinstance(one, int) for one, other in zip(found, wanted, strict=True)
    )
    if not fits:
        raise UserError(
            f"{path}: damaged: it names an input of {about.input_size} px but takes"
            f" {tuple(inputs[0].shape)}"
        )
    num_outputs = outputs[0].shape[-1] if outputs[0].shape else None
    if num_outputs != len(about.classes):
        raise UserError(
            f"{path}: damaged: it names {len(about.classes)} classes but has {num_outputs} outputs"
        )


def _read_about(path: Path, written: str) -> About:
    try:
        values = json.loads(written)
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise UserError(f"{path}: damaged: its metadata can't be read")
        if values.pop("format") > _FORMAT:
            raise UserError(f"{path}: was exported by a newer flopwise; update this one")
        return TypeAdapter(About).validate_json(json.dumps(values))
    except ValidationError as error:
        first = describe_mistakes(error)[0]
        raise UserError(f"{path}: damaged: its metadata can't be used: {first}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged: its metadata can't be read") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return cut(lines[0] if lines else type(error).__name__, 300)
