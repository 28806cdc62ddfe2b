"""The stages of a training: first the float model, then, with qat, its int8 form.

If the output of the frozen blocks is cached, both stages start after these blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import fx, nn

from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.inputs.augmentation import normalize
from trainables.inputs.device_cache import keep_near, open_images
from trainables.inputs.frozen_features import frozen_features
from trainables.inputs.input_sources import Inputs, StoredInputs
from trainables.models.blocks import list_blocks, set_training, split_model
from trainables.models.families import normalization_of
from trainables.system.gpus import autocast, exact_float32, precision

Forward = Callable[[torch.Tensor], torch.Tensor]

# Find the ranges of an int8 model's activations on this many images, in batches of at most this
# many pixels. Larger batches would not fit beside the other trials.
_CALIBRATION_IMAGES = 256
_CALIBRATION_PIXELS = 64 * 128**2


# Of an Int8Stage's state. Without one: the schedule of the float epochs went on in int8.
INT8_FORMAT = 2


class PrecisionStage(Protocol):
    """A series of epochs in which the same module trains on the same inputs."""

    inputs: Inputs

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that train."""
        ...

    def training(self, epoch: int) -> Forward:
        """Switch to training; returns a function from the inputs' batches to logits.

        epoch: of the whole training, from 1. Only this decides what differs between epochs.
        """
        ...

    def evaluation(self, *, final: bool) -> tuple[Forward, Inputs]:
        """Switch to evaluation; returns inputs, and a function from their batches to logits.

        final: whether this is the last epoch, whose accuracy counts.
        """
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """State that the model's own state dict does not hold."""
        ...


class FloatStage:
    """The model as it was built, in the device's precision."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: ImageData,
        device: torch.device,
        *,
        deepest_unfrozen: int | None = None,
        room_bytes: int | None = None,
    ) -> None:
        self._model = model
        self._device = device
        self._normalize = partial(normalize, normalization=normalization_of(recipe))
        self._suffix: nn.Module | None = None
        set_training(model)
        self._open_images = partial(
            open_images, data, recipe.input_size, device, room_bytes=room_bytes
        )
        features = frozen_features(
            model, recipe, data, device, self._open_images, deepest_unfrozen=deepest_unfrozen
        )
        self.inputs: Inputs = _open_inputs(features, self._open_images, device, room_bytes)
        if features is not None:
            assert recipe.unfrozen is not None
            _, self._suffix = split_model(model, recipe.unfrozen)

    def parameters(self) -> list[nn.Parameter]:
        return [weight for weight in self._model.parameters() if weight.requires_grad]

    def training(self, epoch: int) -> Forward:
        if self._suffix is not None:
            self._suffix.train()
        else:
            set_training(self._model)
        return self._forward

    def evaluation(self, *, final: bool) -> tuple[Forward, Inputs]:
        """Evaluate in the device's precision, but finally in float32, as the model ships."""
        (self._suffix or self._model).eval()
        if final and precision(self._device) != "fp32":
            self._model.eval()
            return self._forward_in_fp32, self._open_images()
        return self._forward, self.inputs

    def state_dict(self) -> None:
        return None

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        with autocast(self._device):
            if self._suffix is not None:
                return self._suffix(batch)
            return self._model(self._normalize(batch))

    def _forward_in_fp32(self, batch: torch.Tensor) -> torch.Tensor:
        with exact_float32():
            return self._model(self._normalize(batch))


class Int8Stage:
    """Frozen blocks in int8, which do not train; the others in float32 with fake quantisation.

    state: of an Int8Stage of the same model, to continue; by default it finds the ranges itself.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: ImageData,
        device: torch.device,
        state: dict[str, Any] | None = None,
        *,
        room_bytes: int | None = None,
    ) -> None:
        # torchao takes seconds to import. Only these recipes have to wait for it.
        from trainables.learning import quantization

        self._quantization = quantization
        self.onnx: bytes | None = None
        """After the last epoch: the content of the ONNX file whose accuracy was measured."""
        self._device = device
        self._normalize = partial(normalize, normalization=normalization_of(recipe))
        self._recipe = recipe
        self._num_train = len(data.rows("train"))
        self._open_images = partial(
            open_images, data, recipe.input_size, device, room_bytes=room_bytes
        )
        self._float_prefix, suffix = _cut(model, recipe)
        self._prepared_prefix: fx.GraphModule | None = None
        features = None
        if self._float_prefix is not None:
            features = frozen_features(
                model, recipe, data, device, self._open_images, int8_prefix=self._prefix
            )
        self.inputs: Inputs = _open_inputs(features, self._open_images, device, room_bytes)
        self._takes_images = features is None
        if state is None:
            batches = [self._before(batch) for batch in self._some_training_batches(self.inputs)]
            self._prepared = quantization.prepare_qat(suffix, batches)
        else:
            example = self._before(next(self.inputs.batches(torch.arange(2), 2)))
            self._prepared = quantization.capture_prepared(suffix, example)
            self._prepared.load_state_dict(state["prepared"])

    def parameters(self) -> list[nn.Parameter]:
        return list(self._prepared.parameters())

    def training(self, epoch: int) -> Forward:
        """Fix the ranges of activations in the last third of this stage's epochs.

        In a single epoch, they stay as they were found before it.
        """
        num_epochs = self._recipe.epochs - self._recipe.num_float_epochs
        late = epoch > self._recipe.epochs - max(1, round(num_epochs / 3))
        self._quantization.begin_training(self._prepared, follow_activations=not late)
        return self._forward

    def evaluation(self, *, final: bool) -> tuple[Forward, Inputs]:
        """Evaluate in torch, but after the last epoch in ONNX Runtime, as the model ships.

        The two round in different places. Over some fifty layers this adds up: their accuracies
        differ by up to a point, either way.
        """
        if not final:
            self._quantization.begin_evaluation(self._prepared)
            return self._forward, self.inputs
        # This imports the ONNX packages. Epochs in float should not wait for them.
        from trainables.inference.onnx_model import open_session, run_session
        from trainables.models.model_export import make_onnx

        with torch.inference_mode(False), torch.no_grad():  # inference tensors can't be exported
            self.onnx = make_onnx(self.finished_model().cpu(), self._recipe.input_size)
        session = open_session(self.onnx, threads=torch.get_num_threads())

        def forward(batch: torch.Tensor) -> torch.Tensor:
            images_NCHW = self._normalize(batch).cpu().contiguous().numpy()
            return torch.from_numpy(run_session(session, images_NCHW)).to(self._device)

        return forward, self._open_images()

    def state_dict(self) -> dict[str, Any]:
        made = None
        if self.onnx is not None:  # as a tensor, since torch.load reads no bytes
            made = torch.frombuffer(bytearray(self.onnx), dtype=torch.uint8)
        return {"format": INT8_FORMAT, "prepared": self._prepared.state_dict(), "onnx": made}

    def finished_model(self) -> nn.Module:
        """The whole int8 model, from normalised images to logits."""
        suffix = self._quantization.convert(self._prepared)
        if self._float_prefix is None:
            return suffix
        return nn.Sequential(self._quantization.convert(self._prefix()), suffix)

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self._prepared(self._before(batch))

    def _before(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn the inputs' batches into the input of the part that trains."""
        if not self._takes_images:
            return batch
        images_NCHW = self._normalize(batch)
        if self._float_prefix is None:
            return images_NCHW
        with torch.no_grad():
            return self._prefix()(images_NCHW)

    def _prefix(self) -> fx.GraphModule:
        """The frozen blocks, which compute as in int8.

        They depend only on their weights and the training images.
        """
        if self._prepared_prefix is None:
            assert self._float_prefix is not None
            images = [
                self._normalize(batch) for batch in self._some_training_batches(self._open_images())
            ]
            self._prepared_prefix = self._quantization.prepare_qat(self._float_prefix, images)
            self._quantization.begin_evaluation(self._prepared_prefix)
        return self._prepared_prefix

    def _some_training_batches(self, inputs: Inputs) -> list[torch.Tensor]:
        """Batches of images from all over the training split, always the same ones."""
        count = min(_CALIBRATION_IMAGES, self._num_train)
        order = torch.linspace(0, self._num_train - 1, count).long()
        size = max(2, min(count, _CALIBRATION_PIXELS // self._recipe.input_size**2))
        return [batch for batch in inputs.batches(order, size) if len(batch) > 1]


def _open_inputs(
    features: torch.Tensor | None,
    open_here: Callable[[], Inputs],
    device: torch.device,
    room_bytes: int | None,
) -> Inputs:
    """Features as inputs if there are any, otherwise images."""
    if features is None:
        return open_here()
    return StoredInputs(keep_near(features, device, room_bytes=room_bytes), device)


def _cut(model: nn.Module, recipe: Recipe) -> tuple[nn.Module | None, nn.Module]:
    """The frozen blocks (None if there are none), and the part that trains."""
    if recipe.unfrozen is None or recipe.unfrozen == len(list_blocks(model)):
        return None, model
    return split_model(model, recipe.unfrozen)
