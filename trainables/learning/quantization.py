"""Int8 models by torchao's PT2E: export, fold batch norm, train with fake quantisation, convert.

    prepare     export in evaluation mode, fold batch norm into the convolutions, put fake
                quantisation around every convolution and linear layer, find the ranges of
                activations on some images, and correct each layer's bias for the quantisation
    train       the result of `prepare` has parameters and runs like any module
    convert     make an int8 model of what was trained so far

Weights are int8, symmetric, from -63 to 63, with a scale for each output channel. Activations are
uint8, with a scale for each tensor. Batch norm is folded before QAT and not after it. torchao keeps
it in training, but overwrites the model's eps and momentum with 1e-5 and 0.1 (MobileNetV3 has 1e-3
and 0.01), and its conversion takes half a minute a model.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.ao.quantization.fx.utils
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# When torchao is imported, torch logs a warning that only torchao's authors need.
# ruff: noqa: E402
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

import torchao.utils
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

aten = torch.ops.aten

_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
_WEIGHTED = (*_CONVOLUTIONS, aten.linear.default)
# These run as one kernel with the layer before them. Its output is quantised after them.
_FUSED_AFTER = (
    aten.relu.default,
    aten.relu_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
)
# These return some of their input's values, or all of them in another shape. They round nothing.
_PICKING = (
    aten.max_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.view.default,
)
_DROPOUTS = (aten.dropout.default, aten.dropout_.default)
_ANNOTATION = "quantization_annotation"

_SMALLEST_SCALE = 2**-16
_ACTIVATION = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, eps=_SMALLEST_SCALE
    ),
)
_WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    # CPUs without VNNI add two products of uint8 and int8 in 16 bits. With weights beyond 64 this
    # overflows and ruins a model's accuracy (77 to 28 % on an AVX2 machine).
    quant_min=-63,
    quant_max=63,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver,
        eps=_SMALLEST_SCALE,
        averaging_constant=1.0,  # the range of the weights' present values
    ),
)


def prepare_qat(part: nn.Module, batches: Sequence[Tensor]) -> fx.GraphModule:
    """A copy of a model, or of some of its blocks, with fake quantisation, ready to train.

    batches: inputs, (N, ...) with N from 2 up, to find ranges and biases. The copy stays in
    evaluation mode; see `begin_training`.
    """
    graph = capture(part, batches[0])
    return _calibrate(graph, batches)


def capture_prepared(part: nn.Module, example: Tensor) -> fx.GraphModule:
    """As `prepare_qat`, but without ranges: they must be loaded from a saved state."""
    return _prepare(capture(part, example))


def capture(part: nn.Module, example: Tensor) -> fx.GraphModule:
    """Export a copy for any batch size, in evaluation mode, and fold batch norm if possible."""
    part = copy.deepcopy(part).eval().requires_grad_(True)
    # torch 2.11 exports a model on a GPU only with this bound, which it finds in a kernel.
    batch = torch.export.Dim("batch", min=1, max=65535)
    program = torch.export.export(part, (example[:2],), dynamic_shapes=({0: batch},))
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    _fold_batch_norm(graph)
    return graph


def begin_training(prepared: fx.GraphModule, *, follow_activations: bool) -> None:
    """Switch to training: with dropout, and with ranges of activations that may follow the data.

    torch's recipe for QAT also fixes the ranges of weights. Here they keep following the weights: a
    weight at the end of a fixed range would be cut off and get no gradient.
    """
    _set_dropout(prepared, True)
    for module in prepared.modules():
        if isinstance(module, FusedMovingAvgObsFakeQuantize):
            module.enable_observer(module.is_per_channel or follow_activations)


def begin_evaluation(prepared: fx.GraphModule) -> None:
    """Switch to evaluation: the module then computes in float32 what its int8 model computes.

    So no int8 model has to be made for it. Torch's would be no faster: it is made for export, and
    took 1.0 to 1.3 times as long (MobileNetV2 at 96 px, one thread).
    """
    _set_dropout(prepared, False)
    prepared.apply(disable_observer)


def convert(prepared: fx.GraphModule) -> fx.GraphModule:
    """The int8 model of a prepared one, which does not change and can train further."""
    frozen = copy.deepcopy(prepared)
    _set_dropout(frozen, False)
    converted = convert_pt2e(frozen)
    _forget_models()
    return converted


def _set_dropout(graph: fx.GraphModule, on: bool) -> None:
    """Switch dropout. An exported graph does not do this with its mode."""
    switched = [
        node for node in graph.graph.nodes if node.target in _DROPOUTS and node.args[2] != on
    ]
    for node in switched:
        node.args = (*node.args[:2], on)
    if switched:
        graph.recompile()


def _prepare(captured: fx.GraphModule) -> fx.GraphModule:
    prepared = prepare_qat_pt2e(captured, Int8Quantizer())
    _forget_models()
    return prepared


def _forget_models() -> None:
    """Empty the caches in which torch and torchao keep every model that they have seen.

    In a process that trains one trial after another, they would keep all of its models.
    """
    for package, name in (
        (torchao.utils, "_assert_and_get_unique_device"),
        (torch.ao.quantization.fx.utils, "assert_and_get_unique_device"),  # torch means to drop it
    ):
        if hasattr(package, name):
            getattr(package, name).cache_clear()


class Int8Quantizer(Quantizer):
    """Marks the inputs, weights and outputs that are quantised."""

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in layers(model):
            values, weight = node.args[:2]
            assert isinstance(values, fx.Node)
            assert isinstance(weight, fx.Node)
            node.meta[_ANNOTATION] = QuantizationAnnotation(
                input_qspec_map={values: _ACTIVATION, weight: _WEIGHT}, _annotated=True
            )
            last = end_of_kernel(node)
            if not any(_makes_outputs(user) for user in last.users):  # the logits stay float
                last.meta.setdefault(_ANNOTATION, QuantizationAnnotation(_annotated=True))
                last.meta[_ANNOTATION].output_qspec = _ACTIVATION
        for node in model.graph.nodes:
            if node.target in _PICKING and _is_quantised(values := node.args[0]):
                node.meta[_ANNOTATION] = QuantizationAnnotation(
                    output_qspec=SharedQuantizationSpec(values), _annotated=True
                )
        return model

    def validate(self, model: fx.GraphModule) -> None:
        pass


def layers(graph: fx.GraphModule) -> Iterator[fx.Node]:
    """The nodes of convolutions and linear layers that run by themselves, in order."""
    for node in graph.graph.nodes:
        # Attention holds the weights of its projections itself, or uses those of a child.
        if (
            node.target in _WEIGHTED
            and str(node.args[1].target) == f"{_running_module(node)}.weight"
        ):
            yield node


def _owner(weight: fx.Node) -> str:
    return str(weight.target).rpartition(".")[0]


def _running_module(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _is_quantised(node: fx.Node) -> bool:
    return _ANNOTATION in node.meta and node.meta[_ANNOTATION].output_qspec is not None


def _makes_outputs(node: fx.Node) -> bool:
    return node.op == "output" or node.target is aten.log_softmax.int


def end_of_kernel(node: fx.Node) -> fx.Node:
    """The last node that runs as one kernel with a layer."""
    while len(node.users) == 1 and (user := next(iter(node.users))).target in _FUSED_AFTER:
        node = user
    return node


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    """Fold batch norm into the convolution before it, if that feeds nothing else."""
    for norm in [node for node in graph.graph.nodes if node.target is aten.batch_norm.default]:
        conv = norm.args[0]
        if conv.target not in _CONVOLUTIONS or len(conv.users) > 1:
            continue
        weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
        scale, shift, mean, variance = (_value(graph, node) for node in norm.args[1:5])
        folded_weight, folded_bias = fuse_conv_bn_weights(
            _value(graph, weight),
            None if bias is None else _value(graph, bias),
            mean,
            variance,
            norm.args[7],
            scale,
            shift,
        )
        layer = graph.get_submodule(_owner(weight))
        layer.weight, layer.bias = nn.Parameter(folded_weight), nn.Parameter(folded_bias)
        if bias is None:
            with graph.graph.inserting_before(conv):
                bias = graph.graph.get_attr(f"{_owner(weight)}.bias")
            fake_mode = conv.meta["val"].fake_mode
            bias.meta["val"] = fake_mode.from_tensor(layer.bias, static_shapes=True)
        conv.args = (*conv.args[:2], bias, *conv.args[3:])
        norm.replace_all_uses_with(conv)
        graph.graph.erase_node(norm)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def _value(graph: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    return getattr(graph.get_submodule(owner), name)


@torch.no_grad()
def _calibrate(graph: fx.GraphModule, batches: Sequence[Tensor]) -> fx.GraphModule:
    """Prepare a captured graph: ranges from all batches, biases from the first."""
    wanted: dict[str, Tensor] = {}
    names = {node.name for node in layers(graph)}

    def record(node: fx.Node, output: Tensor) -> Tensor:
        wanted[node.name] = _channel_means(node, output)
        return output

    _Follow(graph, names, record).run(batches[0])
    prepared = _prepare(graph)
    prepared.apply(disable_fake_quant)
    for batch in batches:
        prepared(batch)
    prepared.apply(enable_fake_quant)
    prepared.apply(disable_observer)

    # Rounding weights shifts the mean of a layer's output, and these shifts add up over the layers.
    # After the first 14 blocks of MobileNetV2, the signal-to-noise ratio is 13 dB, and 18 dB with
    # corrected means (arXiv 1906.04721, section 4.2).
    def correct(node: fx.Node, output: Tensor) -> Tensor:
        bias = node.args[2] if len(node.args) > 2 else None
        if not isinstance(bias, fx.Node):
            return output
        missing = wanted[node.name] - _channel_means(node, output)
        _value(prepared, bias).add_(missing)
        return output + (missing[:, None, None] if node.target in _CONVOLUTIONS else missing)

    _Follow(prepared, names, correct).run(batches[0])
    prepared.apply(enable_observer)
    return prepared


class _Follow(fx.Interpreter):
    """Runs a graph, and lets a function see and replace the output of certain nodes."""

    def __init__(
        self, graph: fx.GraphModule, names: set[str], see: Callable[[fx.Node, Tensor], Tensor]
    ) -> None:
        super().__init__(graph)
        self._names = names
        self._see = see

    def run_node(self, n: fx.Node) -> object:
        output = super().run_node(n)
        return self._see(n, output) if n.name in self._names else output


def _channel_means(node: fx.Node, output: Tensor) -> Tensor:
    if node.target in _CONVOLUTIONS:
        return output.mean(dim=(0, 2, 3))
    # A linear layer's channels are last, also in (N, H, W, C), as in Swin and ConvNeXt.
    return output.flatten(0, -2).mean(dim=0)
