"""Rewrites an ONNX model from opset 18, which torch's exporter writes, to the older opset 17.

onnx.version_converter can't do it: it refuses Pad and Split, and leaves attributes in reductions
that opset 17 does not know. Of the operators that opset 18 changed, these are the ones that the
exporter uses; whatever else it changed keeps a model at 18.
"""

import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

_OPSET = 17


def lower_opset(model: ModelProto) -> None:
    """Rewrite a model of opset 18 to 17, if all of its operators can be had there.

    The results stay the same. Otherwise the model stays as it was.
    """
    graph = model.graph
    lowered = [_in_opset_17(node, graph) for node in graph.node]
    if model.functions or None in lowered:
        return
    graph.ClearField("node")
    graph.node.extend(node for node in lowered if node is not None)
    read = {name for node in graph.node for name in node.input}
    for constant in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(constant)  # axes that are attributes now
    (imported,) = [one for one in model.opset_import if not one.domain]
    imported.version = _OPSET


def _in_opset_17(node: NodeProto, graph: GraphProto) -> NodeProto | None:
    """A copy of a node that means the same in opset 17; None if there is none."""
    lowered, attributes = NodeProto(), {one.name: one for one in node.attribute}
    lowered.CopyFrom(node)
    if any(one.HasField("g") or one.graphs for one in node.attribute):
        return None
    if node.domain or onnx.defs.get_schema(node.op_type, 18).since_version < 18:
        return lowered
    if node.op_type.startswith("Reduce"):
        axes = _constant(node.input[1], graph) if len(node.input) > 1 else None
        if not axes:
            return None
        del lowered.input[1:]
        _remove(lowered, "noop_with_empty_axes")
        lowered.attribute.append(onnx.helper.make_attribute("axes", axes))
        return lowered
    if node.op_type == "Pad":
        return None if len(node.input) > 3 and node.input[3] else lowered
    if node.op_type == "Split":
        # Opset 18 tells the number of parts, and its last part may be smaller.
        if "num_outputs" in attributes:
            axis = attributes["axis"].i if "axis" in attributes else 0
            lengths = {_length(name, axis, graph) for name in node.output}
            if len(lengths) > 1 or None in lengths:
                return None
            _remove(lowered, "num_outputs")
        return lowered
    if node.op_type in ("ScatterElements", "ScatterND"):
        reduction = attributes["reduction"].s if "reduction" in attributes else b"none"
        return None if reduction in (b"max", b"min") else lowered
    return None


def _remove(node: NodeProto, attribute: str) -> None:
    kept = [one for one in node.attribute if one.name != attribute]
    node.ClearField("attribute")
    node.attribute.extend(kept)


def _constant(name: str, graph: GraphProto) -> list[int] | None:
    for one in graph.initializer:
        if one.name == name:
            return numpy_helper.to_array(one).tolist()
    return None


def _length(name: str, axis: int, graph: GraphProto) -> int | None:
    """The length of a value along an axis; None if it is not known."""
    for one in graph.value_info:
        if one.name == name and one.type.tensor_type.shape.dim:
            dimension = one.type.tensor_type.shape.dim[axis]
            return dimension.dim_value if dimension.HasField("dim_value") else None
    return None
