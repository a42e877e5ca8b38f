"""What AIPP computes, in NumPy, as the manual describes it; and how far that can be from the package's preprocessing.

Nobody has run it on a chip: it says what the configuration means, not what a chip does. Colours are converted in
integers, `>> 8` rounds down, and results are cut to a byte. The rest is computed in float16, rounded after each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.imaging.nv12 import planes
from engines.runtimes.ascend.aipp import of_channel
from engines.runtimes.ascend.aipp_rules import NV12, AippOp, image_axes, read_aipp
from engines.tensors import Array
from engines.tensors.preprocessing import Preprocessing, preprocess
from engines.tensors.samples import SampleRange, generated
from engines.tensors.signature import TensorSpec

_SIDE = 64
"""Height and width of the images that are compared: every pixel is computed alike."""
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


def verdicts(text: str, package: Sequence[TensorSpec], preprocessing: Mapping[str, Preprocessing]) -> Iterator[str]:
    """Yield a sentence for each configuration in a file: whether its arithmetic agrees with the preprocessing.

    Args:
        text: The file that was made of the preprocessing.
        package: Inputs of the package, in order.
        preprocessing: Preprocessing by input.
    """
    for op in read_aipp(text):
        spec = package[int(op.get("related_input_rank", 0))]
        steps = preprocessing[spec.name]
        drawn = TensorSpec.fixed(spec.name, spec.dtype, _small(spec.opt, steps))
        values = SampleRange(pixels=True, nv12=steps.nv12)
        feeds = generated([drawn], {spec.name: values}, seed=0).feeds[-2:]  # noise and, if it is large enough, pictures
        found = max((agreement(op, steps, feed[spec.name]) for feed in feeds), key=lambda each: each.largest)
        yield (
            f"AIPP, a unit of the chip, prepares '{spec.name}' in fixed point and float16. By the manual's arithmetic, "
            f"in NumPy, it {'agrees' if found.holds else 'DISAGREES'} with the package's preprocessing: {found}. No "
            "chip has confirmed that."
        )


def _small(shape: tuple[int, ...], steps: Preprocessing) -> tuple[int, ...]:
    if steps.takes_nv12:
        return 1, _SIDE * 3 // 2, _SIDE
    axis = (image_axes(shape) or (1,))[0]
    return tuple(1 if place == 0 else extent if place == axis else _SIDE for place, extent in enumerate(shape))


@dataclass(frozen=True)
class Agreement:
    """How far AIPP's arithmetic is from the preprocessing that it stands for.

    Attributes:
        largest: Largest difference on generated images, in the network's values.
        bound: What it can be at most, by the rounding of each step.
    """

    largest: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the bound."""
        return self.largest <= self.bound

    def __str__(self) -> str:
        """Return it in words."""
        return f"they differ by {self.largest:.2g} on generated images, and rounding allows {self.bound:.2g}"


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
    ordered = found if first else np.moveaxis(found, 1, 3)
    return Agreement(float(np.abs(ordered - expected).max()), bound(steps, found.shape[1]))


def bound(steps: Preprocessing, channels: int) -> float:
    """Return how far AIPP's arithmetic can be from preprocessing that it was made of, by the rounding of each step."""
    worst = 0.0
    for number in range(channels):
        mean, factor = of_channel(steps.mean_values, number, 0.0), 1 / of_channel(steps.scale_values, number, 1.0)
        level = _color_error(steps, number)
        level += abs(mean % 1 - float(np.float16(mean % 1)))
        reach = max(mean, 255 - mean) + level
        level += _HALF * reach
        worst = max(worst, (level * (1 + 3 * _HALF) + 2 * _HALF * (1 + _HALF) * reach) * abs(factor))
    return worst * (1 + 1e-9)


def _color_error(steps: Preprocessing, channel: int) -> float:
    """Return how far a converted colour can be off: rounding down, and the coefficients in parts of 256."""
    if (nv12 := steps.nv12) is None:
        return 0.0
    exact = 256 * nv12.rows(steps.model_color)[channel]
    return 1 + float(np.abs(exact - np.rint(exact)) @ [255, 128, 128]) / 256
