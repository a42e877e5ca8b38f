"""A model's input: the default preprocessing steps for it, and the check of their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.imaging.decoding import Array
from engines.imaging.nv12 import Nv12
from engines.imaging.steps import Grey, Sized, Step, Steps, SwapColors, ToNv12, Transpose, takes_grey


def steps_for(tensor: Mapping[str, Any], color: Literal["RGB", "BGR"] = "RGB", nv12: Nv12 | None = None) -> Steps:
    """Return the steps that bring any image to the colours, size and layout of an input.

    Args:
        tensor: The input as in the manifest. Its first axis is the batch; the position of 1 or 3 channels, second or
            last, tells the layout; (N, H, W) takes grey images. If height and width are free, the optimal size is used.
        color: Order of the three channels that the network takes.
        nv12: Colours of the NV12 images that the input takes; None if it takes none.

    Raises:
        EngineFailure: INVALID_SPEC if the input does not take images.
    """
    extents = _opt(tensor)
    if nv12 is not None:
        return Steps((Sized("resize", extents[1] * 2 // 3, extents[2]), ToNv12(nv12)))
    grey = takes_grey(tensor)
    channels_first = len(extents) == 4 and extents[1] in {1, 3}
    if not (len(extents) == 3 or channels_first or (len(extents) == 4 and extents[3] in {1, 3})):
        raise _bad(
            f"The input '{tensor['name']}' takes {_written(tensor)}, which is not an image: images are N*C*H*W or "
            "N*H*W*C with 1 or 3 channels, or N*H*W",
            "Use a dataset of tensors with an array named like this input.",
        )
    height, width = extents[2:] if channels_first else extents[1:3]
    steps: list[Step] = [Grey()] if grey else []
    steps.append(Sized("resize", height, width))
    if color == "RGB" and not grey:
        steps.append(SwapColors())
    if channels_first:
        steps.append(Transpose((2, 0, 1)))
    return Steps(tuple(steps))


def as_input(array: Array, tensor: Mapping[str, Any]) -> Array:
    """Return one sample, without batch axis, in the input's element type.

    Axes of extent 1 are added or removed if the rest fits, so a grey image (1, H, W) fits an input (N, H, W).

    Raises:
        EngineFailure: INVALID_SPEC with the actual and the expected shape or type.
    """
    shape = tensor.get("shape") or {}
    low, high = one_sample(tensor, "min"), one_sample(tensor, "max")
    if shape and not _fits(array.shape, low, high):
        array = _squeezed(array, low, high, tensor)
    dtype = _dtype(tensor)
    integers = array.dtype.kind in "iu" and dtype.kind in "iuf"
    if not (integers or np.can_cast(array.dtype, dtype, "same_kind") or (dtype.kind, array.dtype.kind) == ("f", "b")):
        raise _bad(f"The sample for the input '{tensor['name']}' has the type {array.dtype}; the input takes {dtype}")
    cast = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and array.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise _bad(f"The sample for the input '{tensor['name']}' has values outside the range of {dtype}")
    return np.ascontiguousarray(cast).reshape(array.shape)


def one_sample(tensor: Mapping[str, Any], end: str) -> tuple[int, ...]:
    """Return one bound (`min`, `opt`, `max`) of an input's shape without its batch axis, if it has one."""
    shape = tuple((tensor.get("shape") or {}).get(end) or ())
    axis = tensor.get("batch_axis") or 0
    return shape if axis < 0 else (*shape[:axis], *shape[axis + 1 :])


def _squeezed(array: Array, low: Sequence[int], high: Sequence[int], tensor: Mapping[str, Any]) -> Array:
    """Return the array with axes of extent 1 if the input has them, if that makes it fit."""
    found = [extent for extent in array.shape if extent != 1]
    target = [0 if high[axis] != 1 else 1 for axis in range(len(high))]
    if target.count(0) == len(found):
        rest = iter(found)
        shape = tuple(extent or next(rest) for extent in target)
        if _fits(shape, low, high):
            return array.reshape(shape)
    found_shape = "*".join(map(str, array.shape)) or "scalar"
    raise _bad(
        f"The sample for the input '{tensor['name']}' has the shape {found_shape}; the input takes {_written(tensor)}, "
        "where N is the batch",
        "Bring images to the input's size and layout with preprocessing steps, or omit the steps. In a file of "
        "tensors, the first axis counts the samples.",
    )


def _fits(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return len(shape) == len(high) and all(a <= extent <= b for a, extent, b in zip(low, shape, high, strict=True))


def _dtype(tensor: Mapping[str, Any]) -> np.dtype[Any]:
    try:
        found = np.dtype(str(tensor["dtype"]))
    except TypeError:
        found = np.dtype("V")
    # NumPy knows bfloat16 only if some library has registered it; the result must not depend on that.
    if found.kind == "V":
        raise _bad(f"The input '{tensor['name']}' has the element type {tensor['dtype']}, which is not supported")
    return found


def _opt(tensor: Mapping[str, Any]) -> list[int]:
    return [int(extent) for extent in (tensor.get("shape") or {}).get("opt") or ()]


def _written(tensor: Mapping[str, Any]) -> str:
    """Return a shape as users write it, with the range of each free axis."""
    if not tensor.get("shape"):
        return "an unknown shape"
    pairs = zip(one_sample(tensor, "min"), one_sample(tensor, "max"), strict=True)
    extents = [str(low) if low == high else f"[{low}..{high}]" for low, high in pairs]
    axis = tensor.get("batch_axis") or 0
    if axis >= 0 and tensor["shape"]["max"]:
        extents.insert(axis, "N")
    return "*".join(extents) or "a scalar"


def _bad(message: str, fix: str = "") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, f"{message}.", suggested_fix=fix)
