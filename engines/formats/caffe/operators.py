"""The ONNX operators of each layer of Caffe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.net import Step
from engines.formats.caffe.operators_detection import detections, normalize, prior_box
from engines.formats.caffe.operators_windows import convolution, lrn, pooling
from engines.formats.caffe.parameters import axis_of, crop_offsets, permutation, split_sizes
from engines.formats.caffe.writer import Writer
from engines.tensors import Array

Operators = Callable[[Writer, Step, Sequence[Array]], list[str]]
_SUM, _REDUCE = messages.EltwiseParameter, messages.ReductionParameter


def _unary(operator: str, **attributes: Any) -> Operators:
    return lambda graph, step, w: [graph.add(operator, step.bottoms, **attributes)]


def _inner_product(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said, bottom = step.layer.inner_product_param, step.bottoms[0]
    axis = axis_of(step, said.axis, len(graph.low[bottom]))
    rows = graph.add("Flatten", [bottom], axis=axis)
    found = graph.add("Gemm", [rows, *map(graph.constant, w)], transB=int(not said.transpose))
    if axis == 1:
        return [found]
    return [graph.reshape(found, graph.extents(step.tops[0]), [])]


def _embed(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    import onnx

    places = graph.add("Cast", step.bottoms, to=onnx.TensorProto.INT64)
    found = graph.add("Gather", [graph.constant(w[0]), places], axis=0)
    return [graph.add("Add", [found, graph.constant(w[1])]) if len(w) > 1 else found]


def _batch_norm(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    bottom = step.bottoms[0]
    factor = np.float32(0 if w[2].item() == 0 else 1 / w[2].item())
    mean, variance, eps = w[0] * factor, w[1] * factor, step.layer.batch_norm_param.eps
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    if len(graph.low[bottom]) > 1:
        inputs = [bottom, *map(graph.constant, (ones, zeros, mean, variance))]
        return [graph.add("BatchNormalization", inputs, epsilon=eps)]
    centered = graph.add("Sub", [bottom, graph.constant(mean)])
    return [graph.add("Div", [centered, graph.constant(np.sqrt(variance + np.float32(eps)))])]


def _scale(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    axis, weights = step.layer.scale_param.axis, list(w)
    factor = _under(graph, step, weights.pop(0) if len(step.bottoms) == 1 else step.bottoms[1], axis)
    found = graph.add("Mul", [step.bottoms[0], factor])
    return [graph.add("Add", [found, _under(graph, step, weights[0], axis)]) if weights else found]


def _bias(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    value = w[0] if w else step.bottoms[1]
    return [graph.add("Add", [step.bottoms[0], _under(graph, step, value, step.layer.bias_param.axis)])]


def _under(graph: Writer, step: Step, value: Array | str, axis: int) -> str:
    """Return a value whose first axis lies under an axis of the layer's input."""
    rank = len(graph.low[step.bottoms[0]])
    own = len(graph.low[value]) if isinstance(value, str) else value.ndim
    behind = rank - own - axis_of(step, axis, rank) if own else 0
    if not isinstance(value, str):
        return graph.constant(value.reshape(*value.shape, *[1] * behind))
    return graph.add("Unsqueeze", [value, graph.whole(range(own, own + behind))]) if behind else value


def _relu(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    slope = step.layer.relu_param.negative_slope
    return [graph.add("LeakyRelu", step.bottoms, alpha=slope) if slope else graph.add("Relu", step.bottoms)]


def _prelu(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    rank = len(graph.low[step.bottoms[0]])
    slope = w[0].reshape(-1, *[1] * (rank - 2)) if rank > 1 else w[0]
    return [graph.add("PRelu", [step.bottoms[0], graph.constant(slope)])]


def _clip(least: float, most: float, graph: Writer, step: Step) -> list[str]:
    return [graph.add("Clip", [step.bottoms[0], graph.constant(float(least)), graph.constant(float(most))])]


def _linear(graph: Writer, value: str, scale: float, shift: float) -> str:
    if scale != 1:
        value = graph.add("Mul", [value, graph.constant(float(scale))])
    return graph.add("Add", [value, graph.constant(float(shift))]) if shift else value


def _power(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said = step.layer.power_param
    value = _linear(graph, step.bottoms[0], said.scale, said.shift)
    if said.power != 1:
        return [graph.add("Pow", [value, graph.constant(float(said.power))])]
    return [value if value != step.bottoms[0] else graph.add("Identity", [value])]


def _exp(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said = step.layer.exp_param
    base = 1.0 if said.base == -1 else math.log(said.base)
    return [graph.add("Exp", [_linear(graph, step.bottoms[0], base * said.scale, base * said.shift)])]


def _log(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said = step.layer.log_param
    found = graph.add("Log", [_linear(graph, step.bottoms[0], said.scale, said.shift)])
    return [found if said.base == -1 else graph.add("Div", [found, graph.constant(math.log(said.base))])]


def _swish(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    gate = graph.add("Sigmoid", [_linear(graph, step.bottoms[0], step.layer.swish_param.beta, 0)])
    return [graph.add("Mul", [step.bottoms[0], gate])]


def _eltwise(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said, inputs = step.layer.eltwise_param, list(step.bottoms)
    if said.operation == _SUM.SUM:
        by = list(said.coeff) or [1.0] * len(inputs)
        inputs = [
            graph.add("Mul", [name, graph.constant(float(one))]) if one != 1 else name
            for name, one in zip(inputs, by, strict=True)
        ]
    operator = {_SUM.SUM: "Add", _SUM.PROD: "Mul", _SUM.MAX: "Max"}[said.operation]
    found = inputs[0]
    for name in inputs[1:]:
        found = graph.add(operator, [found, name])
    return [found]


def _concat(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said = step.layer.concat_param
    axis = axis_of(step, said.concat_dim if said.HasField("concat_dim") else said.axis, len(graph.low[step.bottoms[0]]))
    return [graph.add("Concat", step.bottoms, axis=axis)]


def _slice(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said, bottom = step.layer.slice_param, step.bottoms[0]
    axis = axis_of(step, said.slice_dim if said.HasField("slice_dim") else said.axis, len(graph.low[bottom]))
    sizes = split_sizes(step, graph.fixed(bottom, axis), axis)
    graph.add("Split", [bottom, graph.whole(sizes)], step.tops, axis=axis)
    return list(step.tops)


def _crop(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    bottom, like = step.bottoms[:2]
    wanted = {axis: graph.fixed(like, axis) for axis in crop_offsets(step, graph.low[bottom], graph.low[like])}
    starts = crop_offsets(step, graph.low[bottom], graph.low[like])
    ends = [start + wanted[axis] for axis, start in starts.items()]
    return [graph.add("Slice", [bottom, *map(graph.whole, (list(starts.values()), ends, list(starts)))])]


def _to_shape(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    return [graph.reshape(step.bottoms[0], graph.extents(step.tops[0]), graph.extents(step.bottoms[0]))]


def _arg_max(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    import onnx

    said, bottom = step.layer.argmax_param, step.bottoms[0]
    along = said.HasField("axis")
    axis = axis_of(step, said.axis, len(graph.low[bottom])) if along else 1
    value = bottom if along else graph.add("Flatten", [bottom], axis=1)
    outputs = [f"{step.tops[0]}/values", f"{step.tops[0]}/places"]
    graph.add("TopK", [value, graph.whole([said.top_k])], outputs, axis=axis)
    values, places = outputs[0], graph.add("Cast", outputs[1:], to=onnx.TensorProto.FLOAT)
    if along:
        return [values if said.out_max_val else places]
    found = graph.add("Concat", [places, values], axis=1) if said.out_max_val else places
    return [graph.reshape(found, graph.extents(step.tops[0]), [])]


def _reduction(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said, bottom = step.layer.reduction_param, step.bottoms[0]
    rank = len(graph.low[bottom])
    axes = graph.whole(range(axis_of(step, said.axis, rank), rank))
    operators = {_REDUCE.SUM: "ReduceSum", _REDUCE.ASUM: "ReduceL1", _REDUCE.SUMSQ: "ReduceSumSquare"}
    found = graph.add(operators.get(said.operation, "ReduceMean"), [bottom, axes], keepdims=0)
    return [_linear(graph, found, said.coeff, 0)]


def _tile(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    said, rank = step.layer.tile_param, len(graph.low[step.bottoms[0]])
    repeats = [1] * rank
    repeats[axis_of(step, said.axis, rank)] = said.tiles
    return [graph.add("Tile", [step.bottoms[0], graph.whole(repeats)])]


OPERATORS: dict[str, Operators] = {
    **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution"), convolution),
    "AbsVal": _unary("Abs"),
    "ArgMax": _arg_max,
    "BNLL": _unary("Softplus"),
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Clip": lambda graph, step, w: _clip(step.layer.clip_param.min, step.layer.clip_param.max, graph, step),
    "Concat": _concat,
    "Crop": _crop,
    "DetectionOutput": detections,
    "ELU": lambda graph, step, w: [graph.add("Elu", step.bottoms, alpha=step.layer.elu_param.alpha)],
    "Eltwise": _eltwise,
    "Embed": _embed,
    "Exp": _exp,
    "Flatten": _to_shape,
    "InnerProduct": _inner_product,
    "LRN": lrn,
    "Log": _log,
    "Normalize": normalize,
    "PReLU": _prelu,
    "Permute": lambda graph, step, w: [
        graph.add("Transpose", step.bottoms, perm=permutation(step, len(graph.low[step.bottoms[0]])))
    ],
    "Pooling": pooling,
    "Power": _power,
    "PriorBox": prior_box,
    "ReLU": _relu,
    "ReLU6": lambda graph, step, w: _clip(0, 6, graph, step),
    "Reduction": _reduction,
    "Reshape": _to_shape,
    "Scale": _scale,
    "Sigmoid": _unary("Sigmoid"),
    "Slice": _slice,
    "Softmax": lambda graph, step, w: [
        graph.add(
            "Softmax", step.bottoms, axis=axis_of(step, step.layer.softmax_param.axis, len(graph.low[step.bottoms[0]]))
        )
    ],
    "Swish": _swish,
    "TanH": _unary("Tanh"),
    "Tile": _tile,
}
"""What writes each type of layer: appends nodes, and returns the names of the values that are its outputs."""
