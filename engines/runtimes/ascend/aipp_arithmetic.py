"""What AIPP computes, in NumPy, as the manual describes it; and how far that can be from the package's preprocessing.

Nobody has run it on a chip: it says what the configuration means, not what a chip does. Colours are converted in
integers, `>> 8` rounds down, and results are cut to a byte. The rest is computed in float16, rounded after each step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.imaging.nv12 import planes
from engines.runtimes.ascend.aipp import of_channel
from engines.runtimes.ascend.aipp_rules import NV12, AippOp, image_axes
from engines.tensors import Array
from engines.tensors.preprocessing import Preprocessing, preprocess

_HALF = 2.0**-11
"""Largest relative error of rounding to float16."""


def aipp(op: AippOp, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return what a static configuration makes of images.

    Args:
        op: The configuration: NV12, RGB or grey images.
        images: NV12 (N, 3H/2, W), or (N, H, W, channels).

    Returns:
        Channels (N, C, H, W), of the network's height and width.
    """
    kind = op["input_format"]
    values: NDArray[np.int32] = (planes(images) if kind == NV12 else np.moveaxis(images, 3, 1)).astype(np.int32)
    if op.get("rbuv_swap_switch"):
        values = values[:, [0, 2, 1]] if kind == NV12 else values[:, ::-1]
    values = _cropped(op, values)
    if op.get("csc_switch"):
        values = _converted(op, values)
    channels = values.shape[1]
    mean, least, factor = (
        np.reshape([op.get(f"{name}_chn_{n}", default) for n in range(channels)], (channels, 1, 1)).astype(np.float16)
        for name, default in (("mean", 0), ("min", 0.0), ("var_reci", 1.0))
    )
    found: NDArray[np.float16] = (values.astype(np.float16) - mean - least) * factor
    return _padded(op, found)


def _cropped(op: AippOp, values: NDArray[np.int32]) -> NDArray[np.int32]:
    if not op.get("crop"):
        return values
    top, left = (int(op.get(f"load_start_pos_{side}", 0)) for side in "hw")
    height, width = (int(op[f"crop_size_{side}"]) for side in "hw")
    return values[:, :, top : top + height, left : left + width]


def _converted(op: AippOp, values: NDArray[np.int32]) -> NDArray[np.int32]:
    matrix = np.array([[int(op[f"matrix_r{row}c{column}"]) for column in range(3)] for row in range(3)])
    if op["input_format"] == NV12:
        bias = np.reshape([int(op[f"input_bias_{number}"]) for number in range(3)], (3, 1, 1))
        found = np.einsum("cp,nphw->nchw", matrix, values - bias) >> 8
    else:
        bias = np.reshape([int(op[f"output_bias_{number}"]) for number in range(3)], (3, 1, 1))
        found = (np.einsum("cp,nphw->nchw", matrix, values) >> 8) + bias
    levels: NDArray[np.int32] = found.clip(0, 255).astype(np.int32)
    return levels


def _padded(op: AippOp, values: NDArray[np.float16]) -> NDArray[np.float16]:
    if not op.get("padding"):
        return values
    top, bottom, left, right = (int(op.get(f"{side}_padding_size", 0)) for side in ("top", "bottom", "left", "right"))
    value = float(op.get("padding_value", 0.0))
    return np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


@dataclass(frozen=True)
class Agreement:
    """How far AIPP's arithmetic is from the preprocessing that it stands for.

    Attributes:
        largest: Largest difference on generated images, in the network's values.
        bound: What it can be at most, by the rounding of each step.
    """

    largest: float
    bound: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.largest:.2g} at most on generated images, within the bound of its rounding, {self.bound:.2g}"


def agreement(op: AippOp, steps: Preprocessing, images: Array) -> Agreement:
    """Compare AIPP's arithmetic with the reference of a package's preprocessing.

    Args:
        op: The configuration that was made of the preprocessing.
        steps: The preprocessing.
        images: Inputs of the package.
    """
    expected = preprocess(images, steps, "float64")
    first = 1 in (image_axes(expected.shape) or ())[:1]
    fed = np.moveaxis(images, 1, 3) if first and not steps.takes_nv12 else images
    found = aipp(op, fed).astype(np.float64)
    found = found if first else np.moveaxis(found, 1, 3)
    return Agreement(float(np.abs(found - expected).max()), bound(op, steps))


def bound(op: AippOp, steps: Preprocessing) -> float:
    """Return the largest difference between AIPP's arithmetic and the preprocessing that it was made of."""
    channels = [number for number in range(3) if f"mean_chn_{number}" in op]
    worst = 0.0
    for number in channels:
        mean, factor = of_channel(steps.mean_values, number, 0.0), 1 / of_channel(steps.scale_values, number, 1.0)
        level = _color_error(op, steps, number)
        level += abs(mean - float(op[f"mean_chn_{number}"]) - float(op[f"min_chn_{number}"]))
        reach = max(mean, 255 - mean) + level
        level += _HALF * reach
        worst = max(worst, (level * (1 + 3 * _HALF) + 2 * _HALF * (1 + _HALF) * reach) * abs(factor))
    return worst * (1 + 1e-9)


def _color_error(op: AippOp, steps: Preprocessing, channel: int) -> float:
    """Return how far a converted colour can be off: rounding down, and the coefficients in parts of 256."""
    if (nv12 := steps.nv12) is None:
        return 0.0
    exact = 256 * nv12.rows(steps.model_color)[channel]
    stated = np.array([int(op[f"matrix_r{channel}c{column}"]) for column in range(3)])
    return 1 + float(np.abs(exact - stated) @ [255, 128, 128]) / 256
