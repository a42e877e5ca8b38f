"""What layers that move a window over an image compute, in torch: convolution, pooling, LRN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe import parameters
from engines.formats.caffe.failures import unsupported
from engines.formats.caffe.net import Step

if TYPE_CHECKING:
    import torch

    Tensors = Sequence[torch.Tensor]

_POOL = messages.PoolingParameter


def convolution(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    """Compute a convolution, or a deconvolution."""
    import torch

    window, transposed = parameters.convolution(step, x[0].dim()), step.kind == "Deconvolution"
    bias = w[1] if len(w) > 1 else None
    ways = (window.stride, window.pad, window.dilation, transposed, (0,) * len(window.kernel))
    return [torch.convolution(x[0], w[0], bias, *ways, step.layer.convolution_param.group)]


def pooling(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    """Compute pooling, whose last windows may reach beyond the image and its padding."""
    import torch
    from torch.nn import functional

    window, extents = parameters.pooling(step, x[0].shape), tuple(x[0].shape[2:])
    out, method = parameters.pooled(step, window, extents), step.layer.pooling_param.pool
    if method == _POOL.STOCHASTIC:
        raise unsupported(
            f"The {step.where} pools at random, which no two runs do alike.",
            "Pool by MAX or AVE.",
            layer=step.name,
            kind=step.kind,
        )
    margins: list[int] = []
    for size, count, kernel, stride, pad in reversed(
        list(zip(extents, out, window.kernel, window.stride, window.pad, strict=True))
    ):
        margins += [pad, max(0, (count - 1) * stride + kernel - pad - size)]
    if method == _POOL.MAX:
        padded = functional.pad(x[0], margins, value=-math.inf)
        found = functional.max_pool2d(padded, window.kernel, window.stride)
        return [found[:, :, : out[0], : out[1]]]
    padded = functional.pad(x[0], margins)
    sums = functional.avg_pool2d(padded, window.kernel, window.stride, divisor_override=1)[:, :, : out[0], : out[1]]
    counts = []
    for size, count, kernel, stride, pad in zip(extents, out, window.kernel, window.stride, window.pad, strict=True):
        starts = np.arange(count) * stride - pad
        counts.append(np.minimum(starts + kernel, size + pad) - starts)  # padding counts, as far as it goes
    areas = np.outer(*counts).astype(np.float32)
    return [sums / torch.from_numpy(areas).to(x[0].device)]


def lrn(step: Step, x: Tensors, w: Tensors) -> list[torch.Tensor]:
    """Compute local response normalization, over channels or over places of one channel."""
    from torch.nn import functional

    said, value = step.layer.lrn_param, x[0]
    side = said.local_size // 2
    if said.local_size % 2 == 0:
        raise ValueError("local_size must be odd")
    if said.norm_region == messages.LRNParameter.WITHIN_CHANNEL:
        area = said.local_size**2
        sums = functional.avg_pool2d(value**2, said.local_size, 1, side, divisor_override=area)
        return [value * (1 + said.alpha * sums) ** -said.beta]
    squares = functional.pad(value**2, (0, 0, 0, 0, side, side))
    total = sum(squares[:, offset : offset + value.shape[1]] for offset in range(said.local_size))
    return [value * (said.k + said.alpha / said.local_size * total) ** -said.beta]
