"""What each layer of Caffe computes, in torch. Source: src/caffe/layers of BVLC/caffe, and of its SSD fork."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.detection import CENTER_SIZE, check_detections, priors
from engines.formats.caffe.failures import unsupported
from engines.formats.caffe.net import Step
from engines.formats.caffe.parameters import (
    axis_of,
    crop_offsets,
    permutation,
    reshaped,
    split_sizes,
)
from engines.formats.caffe.reference_windows import convolution, lrn, pooling

if TYPE_CHECKING:
    import torch

    Tensors = Sequence[torch.Tensor]
    Layer = Callable[[Step, Tensors, Tensors], list[torch.Tensor]]

_SUM, _REDUCE = messages.EltwiseParameter, messages.ReductionParameter


def _inner_product(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said = step.layer.inner_product_param
    flat = x[0].flatten(axis_of(step, said.axis, x[0].dim()))
    found = flat @ (w[0] if said.transpose else w[0].T)
    return [found + w[1] if len(w) > 1 else found]


def _embed(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    from torch.nn import functional

    found = functional.embedding(x[0].long(), w[0])
    return [found + w[1] if len(w) > 1 else found]


def _batch_norm(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    import torch

    said = step.layer.batch_norm_param
    if said.HasField("use_global_stats") and not said.use_global_stats:
        raise unsupported(
            f"The {step.where} normalizes each batch by its own statistics, so that a sample depends on its neighbors.",
            "Set use_global_stats: true, as nets are used.",
            layer=step.name,
            kind=step.kind,
        )
    factor = torch.where(w[2] == 0, 0.0, 1 / w[2])
    shape = (1, -1, *[1] * (x[0].dim() - 2)) if x[0].dim() > 1 else (1,)
    mean, variance = (w[0] * factor).reshape(shape), (w[1] * factor).reshape(shape)
    return [(x[0] - mean) / torch.sqrt(variance + said.eps)]


def _scale(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said = step.layer.scale_param
    factor, *rest = [*x[1:], *w]
    found = x[0] * _aligned(step, factor, x[0], said.axis)
    return [found + _aligned(step, rest[0], x[0], said.axis) if rest else found]


def _bias(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    return [x[0] + _aligned(step, [*x[1:], *w][0], x[0], step.layer.bias_param.axis)]


def _aligned(step: Step, value: torch.Tensor, to: torch.Tensor, axis: int) -> torch.Tensor:
    """Return a value whose first axis lies under an axis of another one."""
    first = axis_of(step, axis, to.dim()) if value.dim() else 0
    return value.reshape(*value.shape, *[1] * (to.dim() - first - value.dim()))


def _eltwise(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    import torch

    said = step.layer.eltwise_param
    if any(each.shape != x[0].shape for each in x):
        raise ValueError("its inputs must have one shape")
    if said.operation == _SUM.SUM:
        coefficients = list(said.coeff) or [1.0] * len(x)
        return [_added([value * by for value, by in zip(x, coefficients, strict=True)])]
    found = x[0]
    for value in x[1:]:
        found = found * value if said.operation == _SUM.PROD else torch.maximum(found, value)
    return [found]


def _added(values: Tensors) -> torch.Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _concat(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    import torch

    said = step.layer.concat_param
    return [
        torch.cat(list(x), axis_of(step, said.concat_dim if said.HasField("concat_dim") else said.axis, x[0].dim()))
    ]


def _slice(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said = step.layer.slice_param
    axis = axis_of(step, said.slice_dim if said.HasField("slice_dim") else said.axis, x[0].dim())
    import torch

    return list(torch.split(x[0], split_sizes(step, x[0].shape[axis], axis), axis))


def _crop(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    found = x[0]
    for axis, start in crop_offsets(step, x[0].shape, x[1].shape).items():
        found = found.narrow(axis, start, x[1].shape[axis])
    return [found]


def _flatten(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said, rank = step.layer.flatten_param, x[0].dim()
    return [x[0].flatten(axis_of(step, said.axis, rank), axis_of(step, said.end_axis, rank))]


def _arg_max(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    import torch

    said, value = step.layer.argmax_param, x[0]
    if said.HasField("axis"):
        axis = axis_of(step, said.axis, value.dim())
        values, places = value.topk(said.top_k, axis)
        return [values if said.out_max_val else places.float()]
    values, places = value.flatten(1).topk(said.top_k, 1)
    found = torch.stack([places.float(), values] if said.out_max_val else [places.float()], 1)
    return [found.reshape(*found.shape, *[1] * (max(value.dim(), 3) - 3))]


def _reduction(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said = step.layer.reduction_param
    rows = x[0].flatten(axis_of(step, said.axis, x[0].dim()))
    found = {
        _REDUCE.SUM: lambda: rows.sum(-1),
        _REDUCE.ASUM: lambda: rows.abs().sum(-1),
        _REDUCE.SUMSQ: lambda: (rows**2).sum(-1),
        _REDUCE.MEAN: lambda: rows.mean(-1),
    }[said.operation]()
    return [found * said.coeff]


def _tile(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    repeats = [1] * x[0].dim()
    repeats[axis_of(step, step.layer.tile_param.axis, x[0].dim())] = step.layer.tile_param.tiles
    return [x[0].repeat(repeats)]


def _normalize(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    said, value = step.layer.norm_param, x[0]
    axes = tuple(range(1, value.dim())) if said.across_spatial else (1,)
    length = ((value**2).sum(axes, keepdim=True) + said.eps) ** 0.5
    return [value / length * w[0].reshape(1, -1, *[1] * (value.dim() - 2))]


def _prior_box(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    return [_tensor(priors(step, x[0].shape, x[1].shape), x[0])]


def _detections(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    """Decode boxes; suppression is not part of the package's graph."""
    import torch

    said = step.layer.detection_output_param
    count = check_detections(step, x[0].shape, x[1].shape, x[2].shape)
    code, scores = x[0].reshape(-1, count, 4), x[1].reshape(-1, count, said.num_classes)
    corners, variance = x[2][0].reshape(2, count, 4)
    code = code if said.variance_encoded_in_target else code * variance
    if said.code_type != CENTER_SIZE:
        return [corners + code, scores]
    size = corners[:, 2:] - corners[:, :2]
    center = (corners[:, 2:] + corners[:, :2]) / 2 + code[..., :2] * size
    half = torch.exp(code[..., 2:]) * size / 2
    return [torch.cat([center - half, center + half], -1), scores]


def _tensor(values: Any, like: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(values).to(like.device)


def _unary(compute: Callable[[Any, torch.Tensor, Any], torch.Tensor]) -> Layer:
    """Return a layer that computes each value by itself; it is given the parameters, the input and torch."""

    def layer(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
        import torch

        return [compute(step.layer, x[0], torch)]

    return layer


def _prelu(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    slope = w[0].reshape(-1, *[1] * (x[0].dim() - 2))
    return [x[0].clamp(min=0) + slope * x[0].clamp(max=0)]


def _exp(layer: Any, x: torch.Tensor, torch: Any) -> Any:
    said = layer.exp_param
    return torch.exp((1.0 if said.base == -1 else math.log(said.base)) * (said.shift + said.scale * x))


def _log(layer: Any, x: torch.Tensor, torch: Any) -> Any:
    said = layer.log_param
    return torch.log(said.shift + said.scale * x) / (1.0 if said.base == -1 else math.log(said.base))


def _power(layer: Any, x: torch.Tensor, torch: Any) -> Any:
    said = layer.power_param
    return torch.pow(said.shift + said.scale * x, said.power)


LAYERS: dict[str, Layer] = {
    **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution"), convolution),
    "AbsVal": _unary(lambda layer, x, torch: torch.abs(x)),
    "ArgMax": _arg_max,
    "BNLL": _unary(lambda layer, x, torch: torch.log1p(torch.exp(-torch.abs(x))) + torch.clamp(x, min=0)),
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Clip": _unary(lambda layer, x, torch: torch.clamp(x, layer.clip_param.min, layer.clip_param.max)),
    "Concat": _concat,
    "Crop": _crop,
    "DetectionOutput": _detections,
    "ELU": _unary(lambda layer, x, torch: torch.where(x > 0, x, layer.elu_param.alpha * (torch.exp(x) - 1))),
    "Eltwise": _eltwise,
    "Embed": _embed,
    "Exp": _unary(_exp),
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": lrn,
    "Log": _unary(_log),
    "Normalize": _normalize,
    "PReLU": _prelu,
    "Permute": lambda step, x, w: [x[0].permute(permutation(step, x[0].dim()))],
    "Pooling": pooling,
    "Power": _unary(_power),
    "PriorBox": _prior_box,
    "ReLU": _unary(lambda layer, x, torch: torch.where(x > 0, x, layer.relu_param.negative_slope * x)),
    "ReLU6": _unary(lambda layer, x, torch: torch.clamp(x, 0, 6)),
    "Reduction": _reduction,
    "Reshape": lambda step, x, w: [x[0].reshape(reshaped(step, x[0].shape))],
    "Scale": _scale,
    "Sigmoid": _unary(lambda layer, x, torch: 1 / (1 + torch.exp(-x))),
    "Slice": _slice,
    "Softmax": lambda step, x, w: [x[0].softmax(axis_of(step, step.layer.softmax_param.axis, x[0].dim()))],
    "Swish": _unary(lambda layer, x, torch: x / (1 + torch.exp(-layer.swish_param.beta * x))),
    "TanH": _unary(lambda layer, x, torch: torch.tanh(x)),
    "Tile": _tile,
}
"""What computes each type of layer, from its step, its inputs and its weights."""
