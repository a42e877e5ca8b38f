"""What layers say of windows and axes, with Caffe's defaults and rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.failures import refused
from engines.formats.caffe.net import Step


@dataclass(frozen=True)
class Window:
    """A window that moves over the spatial axes; one number per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]


def axis_of(step: Step, axis: int, rank: int) -> int:
    """Return an axis counted from the front.

    Raises:
        EngineFailure: INVALID_MODEL for an axis that the value does not have.
    """
    if not -rank <= axis < rank:
        raise _refused(step, f"has the axis {axis}, and its input has {rank} axes")
    return axis % rank


def convolution(step: Step, rank: int) -> Window:
    """Return the window of a convolution or deconvolution over a value of `rank` axes.

    Raises:
        EngineFailure: INVALID_MODEL for numbers that no convolution can have.
    """
    said = step.layer.convolution_param
    if said.axis != 1 or said.force_nd_im2col:
        raise _refused(step, f"works on the axis {said.axis}; Lathe reads convolutions whose channels are axis 1")
    axes = rank - 2
    if axes < 1:
        raise _refused(step, f"needs an input of at least 3 axes, and it has {rank}")
    pair = (said.kernel_h, said.kernel_w) if said.HasField("kernel_h") or said.HasField("kernel_w") else None
    strides = (said.stride_h, said.stride_w) if said.HasField("stride_h") or said.HasField("stride_w") else None
    pads = (said.pad_h, said.pad_w) if said.HasField("pad_h") or said.HasField("pad_w") else None
    window = Window(
        _per_axis(step, "kernel", pair or said.kernel_size, axes, None),
        _per_axis(step, "stride", strides or said.stride, axes, 1),
        _per_axis(step, "pad", pads or said.pad, axes, 0),
        _per_axis(step, "dilation", said.dilation, axes, 1),
    )
    if min(*window.kernel, *window.stride, *window.dilation) < 1 or said.num_output < 1 or said.group < 1:
        raise _refused(step, "has a kernel, stride, dilation, group or num_output of 0")
    return window


def pooling(step: Step, shape: Sequence[int]) -> Window:
    """Return the window of a pooling layer over an input of four axes.

    Raises:
        EngineFailure: INVALID_MODEL for numbers that no pooling can have.
    """
    said = step.layer.pooling_param
    if len(shape) != 4:
        raise _refused(step, f"needs an input of 4 axes, and it has {len(shape)}")
    if said.global_pooling:
        return Window((shape[2], shape[3]), (1, 1), (0, 0), (1, 1))
    kernel = (said.kernel_size,) * 2 if said.HasField("kernel_size") else (said.kernel_h, said.kernel_w)
    stride = (said.stride_h, said.stride_w) if said.HasField("stride_h") else (said.stride,) * 2
    pad = (said.pad_h, said.pad_w) if said.HasField("pad_h") else (said.pad,) * 2
    if min(*kernel, *stride) < 1 or any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise _refused(step, f"has a kernel of {kernel}, a stride of {stride} and padding of {pad}")
    return Window(kernel, stride, pad, (1, 1))


def pooled(step: Step, window: Window, extents: Sequence[int]) -> tuple[int, ...]:
    """Return the extents behind pooling: rounded up, but no window begins behind the image if there is padding.

    Raises:
        EngineFailure: INVALID_MODEL for a window larger than the image, or one that lies outside of it.
    """
    found = []
    floor = step.layer.pooling_param.round_mode == messages.PoolingParameter.FLOOR
    for size, kernel, stride, pad in zip(extents, window.kernel, window.stride, window.pad, strict=True):
        room = size + 2 * pad - kernel
        count = (room // stride if floor else -(-room // stride)) + 1
        if pad and (count - 1) * stride >= size + pad:
            count -= 1
        if count < 1 or room < 0 or (count - 1) * stride - pad >= size:
            raise _refused(step, f"has a window of {window.kernel} that does not fit an image of {tuple(extents)}")
        found.append(count)
    return tuple(found)


def split_sizes(step: Step, extent: int, axis: int) -> list[int]:
    """Return the extents of the parts that a Slice makes.

    Raises:
        EngineFailure: INVALID_MODEL for points that are out of order, or parts that are not equal.
    """
    points, parts = list(step.layer.slice_param.slice_point), len(step.tops)
    if points:
        ends = [0, *points, extent]
        sizes = [after - before for before, after in pairwise(ends)]
        if len(sizes) == parts and min(sizes) > 0:
            return sizes
    elif extent % parts == 0:
        return [extent // parts] * parts
    raise _refused(step, f"cannot cut axis {axis} of {extent} into {parts} parts at {points or 'equal distances'}")


def reshaped(step: Step, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that a Reshape makes.

    Raises:
        EngineFailure: INVALID_MODEL for a shape of another number of elements.
    """
    said = step.layer.reshape_param
    rank = len(shape)
    start = said.axis if said.axis >= 0 else rank + said.axis + 1
    end = rank if said.num_axes == -1 else start + said.num_axes
    if not 0 <= start <= end <= rank:
        raise _refused(step, f"reshapes the axes {start} to {end} of an input of {rank}")
    new = [
        shape[start + index] if dim == 0 and start + index < rank else dim for index, dim in enumerate(said.shape.dim)
    ]
    whole = [*shape[:start], *new, *shape[end:]]
    elements = _product(shape)
    if whole.count(-1) == 1:
        known = _product([dim for dim in whole if dim != -1])
        whole[whole.index(-1)] = elements // known if known else 0
    if min(whole, default=1) < 1 or _product(whole) != elements:
        raise _refused(step, f"cannot make {list(said.shape.dim)} of {list(shape)}")
    return tuple(whole)


def crop_offsets(step: Step, shape: Sequence[int], wanted: Sequence[int]) -> dict[int, int]:
    """Return where a Crop begins, by axis.

    Raises:
        EngineFailure: INVALID_MODEL if the wanted part is not inside.
    """
    said = step.layer.crop_param
    first = axis_of(step, said.axis, len(shape))
    axes = range(first, len(shape))
    given = list(said.offset) or [0]
    offsets = given * len(axes) if len(given) == 1 else given
    fits = len(offsets) == len(axes) and len(wanted) == len(shape)
    if not fits or any(at + wanted[axis] > shape[axis] for axis, at in zip(axes, offsets, strict=True)):
        raise _refused(step, f"cannot cut {list(wanted)} out of {list(shape)} at {given}")
    return dict(zip(axes, offsets, strict=True))


def permutation(step: Step, rank: int) -> tuple[int, ...]:
    """Return the order of axes of a Permute: those that it names, then the others.

    Raises:
        EngineFailure: INVALID_MODEL for an axis that is not there, or is named twice.
    """
    named = list(step.layer.permute_param.order)
    if len(set(named)) != len(named) or max(named, default=0) >= rank:
        raise _refused(step, f"orders the axes {named} of an input of {rank}")
    return (*named, *(axis for axis in range(rank) if axis not in named))


def _per_axis(step: Step, what: str, given: Sequence[int], axes: int, default: int | None) -> tuple[int, ...]:
    values = tuple(given) or (() if default is None else (default,))
    if len(values) == 1:
        values *= axes
    if len(values) != axes:
        raise _refused(step, f"has {len(values)} numbers for its {what}, and {axes} spatial axes")
    return values


def _product(values: Sequence[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def _refused(step: Step, what: str) -> Exception:
    return refused(
        f"The {step.where} {what}.",
        "Correct the layer in the prototxt, or declare an input shape that the net takes.",
        layer=step.name,
        kind=step.kind,
    )
