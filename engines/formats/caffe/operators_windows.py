"""The ONNX operators of layers that move a window over an image: convolution, pooling, LRN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.failures import invalid
from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe import parameters
from engines.formats.caffe.net import Step
from engines.formats.caffe.writer import Writer
from engines.tensors import Array


def convolution(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append a convolution, or a deconvolution."""
    window = parameters.convolution(step, len(graph.low[step.bottoms[0]]))
    found = graph.add(
        "ConvTranspose" if step.kind == "Deconvolution" else "Conv",
        [step.bottoms[0], *map(graph.constant, w)],
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=(*window.pad, *window.pad),
        dilations=window.dilation,
        group=step.layer.convolution_param.group,
    )
    return [found]


def pooling(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append pooling, with the padding behind the image that makes ONNX's windows those of Caffe.

    Caffe rounds the number of windows up, so that the last may reach beyond the padding. An average counts the padding
    that it covers, but nothing beyond it.
    """
    said, bottom = step.layer.pooling_param, step.bottoms[0]
    window, highest = parameters.pooling(step, graph.low[bottom]), said.pool == messages.PoolingParameter.MAX
    if said.global_pooling:
        return [graph.add("GlobalMaxPool" if highest else "GlobalAveragePool", [bottom])]
    extents = graph.low[bottom][2:]
    if extents != graph.high[bottom][2:]:
        return [_of_any_size(graph, step, window, highest=highest)]
    out = parameters.pooled(step, window, extents)
    behind = [
        max(0, (count - 1) * stride + kernel - pad - size)
        for size, count, kernel, stride, pad in zip(extents, out, window.kernel, window.stride, window.pad, strict=True)
    ]
    shape: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride}
    if highest:
        return [graph.add("MaxPool", [bottom], pads=(*window.pad, *behind), **shape)]
    if all(more <= pad for more, pad in zip(behind, window.pad, strict=True)):
        return [graph.add("AveragePool", [bottom], pads=(*window.pad, *behind), count_include_pad=1, **shape)]
    if any(window.pad):
        both = [0, 0, *window.pad, 0, 0, *map(min, behind, window.pad)]
        bottom = graph.add("Pad", [bottom, graph.whole(both)])
        behind = [max(0, more - pad) for more, pad in zip(behind, window.pad, strict=True)]
    return [graph.add("AveragePool", [bottom], pads=(0, 0, *behind), count_include_pad=0, **shape)]


def _of_any_size(graph: Writer, step: Step, window: parameters.Window, *, highest: bool) -> str:
    """Append pooling of images of any size: its windows are ONNX's if none can begin behind the image.

    Raises:
        EngineFailure: INVALID_SPEC for padding, or a stride over the kernel: how such windows end depends on the size.
    """
    if any(window.pad) or any(stride > kernel for stride, kernel in zip(window.stride, window.kernel, strict=True)):
        raise invalid(
            f"The {step.where}, of the type Pooling, rounds its windows by the size of the image, as it has padding or "
            "leaves gaps, so that one graph is for one size.",
            "Convert once for each size.",
        )
    floor = step.layer.pooling_param.round_mode == messages.PoolingParameter.FLOOR
    shape: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride, "ceil_mode": int(not floor)}
    if highest:
        return graph.add("MaxPool", [step.bottoms[0]], **shape)
    return graph.add("AveragePool", [step.bottoms[0]], count_include_pad=0, **shape)


def lrn(graph: Writer, step: Step, w: Sequence[Array]) -> list[str]:
    """Append local response normalization, over channels or over places of one channel."""
    said, bottom = step.layer.lrn_param, step.bottoms[0]
    if said.norm_region == messages.LRNParameter.ACROSS_CHANNELS:
        return [graph.add("LRN", [bottom], size=said.local_size, alpha=said.alpha, beta=said.beta, bias=said.k)]
    side = said.local_size // 2
    size = (said.local_size, said.local_size)
    mean = graph.add(
        "AveragePool",
        [graph.add("Mul", [bottom, bottom])],
        kernel_shape=size,
        pads=(side,) * 4,
        strides=(1, 1),
        count_include_pad=1,
    )
    total = graph.add("Add", [graph.add("Mul", [mean, graph.constant(said.alpha)]), graph.constant(1.0)])
    return [graph.add("Mul", [bottom, graph.add("Pow", [total, graph.constant(-said.beta)])])]
