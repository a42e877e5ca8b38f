"""The configuration of AIPP, the unit of Ascend chips that prepares images, from the preprocessing of a package.

AIPP takes bytes and gives the network float16. It swaps channels, crops, converts colours, subtracts and multiplies,
and pads, in this order. `aipp_arithmetic.py` computes it in NumPy, `aipp_rules.py` has every field and its rule.
Source: the manual's chapter on AIPP and `insert_op.proto`, both in the repository of CANN's graph engine.

    package's input               network's input          input_format   conversion
    NV12 (N, 3H/2, W)             (N, 3, H, W)             YUV420SP_U8    matrix
    RGB or BGR, uint8             the same, 3 channels     RGB888_U8      swap, if the orders differ
    grey, uint8                   the same, 1 channel      YUV400_U8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engines.failures import InvalidField
from engines.runtimes.ascend.aipp_rules import (
    CHANNELS,
    GREY,
    HEIGHTS,
    MOST_MEAN,
    NV12,
    RGB,
    WIDTHS,
    AippOp,
    image_axes,
    read_aipp,
    related,
    violations,
)
from engines.spec.template import Component
from engines.tensors.inputs import active_steps, batched_network_inputs, package_inputs
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.shapes import Shape, format_shape
from engines.tensors.signature import TensorSpec

BY_CHIP = "chip"
"""Value of the option `aipp` by which AIPP has to prepare the images."""
_LEAST_FACTOR = float(np.finfo(np.float16).tiny)
_MOST_FACTOR = 65504.0
"""Ends of what float16 holds with all its digits."""


def aipp_ops(
    package: Sequence[TensorSpec],
    network: Sequence[TensorSpec],
    preprocessing: Mapping[str, Preprocessing],
    layout: str = "NCHW",
) -> tuple[AippOp, ...]:
    """Return AIPP's configuration for each input that has preprocessing.

    Args:
        package: Inputs of the package, in order.
        network: Inputs of the network, in the same order.
        preprocessing: Preprocessing by input.
        layout: Format of the network's images for ATC, `NCHW` or `NHWC`.

    Raises:
        InvalidField: The field of the input, `inputs.image.preprocessing.mean_values`, that AIPP cannot carry out.
    """
    ops = []
    for rank, (outer, inner) in enumerate(zip(package, network, strict=True)):
        steps = preprocessing.get(inner.name)
        if steps is not None and steps.active:
            try:
                ops.append(_op(rank, outer, inner, steps, layout))
            except InvalidField as failure:
                raise failure.under(f"inputs.{inner.name}") from None
    return tuple(ops)


def aipp_text(ops: Sequence[AippOp]) -> str:
    """Return the content of the file that ATC's `--insert_op_conf` names."""
    return "".join(f"aipp_op {{\n{_lines(op)}}}\n" for op in ops)


def taken(text: str, network: Sequence[TensorSpec]) -> dict[int, tuple[TensorSpec, str]]:
    """Return what a form with a user's own file takes, by the place of the input: images in bytes, and how they lie.

    They lie as `nv12`, or with their channels last. Inputs without a static operation are not in it: who feeds dynamic
    ones says in each call what they are.

    Args:
        text: The file, without violations of the rules.
        network: The network's inputs, in order.
    """
    found = {}
    for op in read_aipp(text):
        spec, kind = related(op, network), str(op.get("input_format", ""))
        axes = image_axes(spec.opt) if spec else None
        if op.get("aipp_mode") == "static" and spec and axes:
            low, tuned, high = (_image(op, kind, shape, axes) for shape in (spec.min, spec.opt, spec.max))
            images = TensorSpec(spec.name, "uint8", low, tuned, high, batch_axis=spec.batch_axis)
            found[network.index(spec)] = (images, "nv12" if kind == NV12 else "")
    return found


def _image(op: AippOp, kind: str, shape: Shape, axes: tuple[int, int, int]) -> Shape:
    """Return the shape of the images that an operation takes for a shape of the network: channels stand last."""
    height = int(op.get("src_image_size_h", 0)) or shape[axes[1]]
    width = int(op.get("src_image_size_w", 0)) or shape[axes[2]]
    return (shape[0], height * 3 // 2, width) if kind == NV12 else (shape[0], height, width, CHANNELS[kind])


def own_file_unfit(text: str, component: Component) -> str:
    """Return what is wrong with a user's own file for a component, as far as its inputs are declared."""
    if not component.inputs:
        return "; ".join(violations(text, None))
    if steps := active_steps(component.inputs):
        return f"{', '.join(steps)} has preprocessing, which AIPP is given already; leave out one of them"
    specs = batched_network_inputs(component.inputs, component.largest_batch)
    network = [spec if spec.opt else TensorSpec.unknown(spec.name, spec.dtype) for spec in specs]
    return "; ".join(violations(text, network))


def preparing_unfit(by: str, component: Component) -> str:
    """Return why AIPP cannot prepare the declared inputs of a component, if it is told to."""
    steps = active_steps(component.inputs)
    network = batched_network_inputs(component.inputs, component.largest_batch)
    first = next((image_axes(spec.opt) for spec in network if spec.name in steps), None)
    if by != BY_CHIP or not all(spec.opt for spec in network if spec.name in steps):
        return ""
    try:
        aipp_ops(
            package_inputs(component.inputs, component.largest_batch),
            network,
            steps,
            "NHWC" if first and first[0] == 3 else "NCHW",
        )
    except InvalidField as failure:
        return f"{failure.field}: {failure.objection}"
    return ""


def _lines(op: AippOp) -> str:
    return "".join(
        f"    {name}: {str(value).lower() if isinstance(value, bool) else value}\n" for name, value in op.items()
    )


def _op(rank: int, package: TensorSpec, network: TensorSpec, steps: Preprocessing, layout: str) -> AippOp:
    axes = image_axes(network.opt)
    if axes is None or layout != ("NCHW" if axes[0] == 1 else "NHWC"):
        raise InvalidField(
            "shape",
            f"AIPP prepares images of 1 or 3 channels in {layout}, and input '{network.name}' has the shape "
            f"{format_shape(network.opt)}",
            "Let the graph carry out the preprocessing: aipp=graph in the template's runtime_options.",
        )
    channels, height, width = axes
    if package.dtype != "uint8":
        raise InvalidField(
            "dtype",
            f"AIPP takes bytes, and input '{network.name}' is declared as {package.dtype}",
            "Declare it as uint8, or let the graph carry out the preprocessing: aipp=graph in runtime_options.",
        )
    count = network.opt[channels]
    op: AippOp = {
        "aipp_mode": "static",
        "related_input_rank": rank,
        "input_format": NV12 if steps.takes_nv12 else RGB if count == 3 else GREY,
    }
    op |= _sizes(network, height, width)
    op |= _colors(steps)
    for channel in range(count):
        op |= _normalization(
            channel, of_channel(steps.mean_values, channel, 0.0), of_channel(steps.scale_values, channel, 1.0)
        )
    return op


def _sizes(network: TensorSpec, height: int, width: int) -> AippOp:
    """Return the size of the images; 0, the network's own, if it varies."""
    for name, axis, (least, most) in (("height", height, HEIGHTS), ("width", width, WIDTHS)):
        if not least <= network.min[axis] <= network.max[axis] <= most:
            raise InvalidField(
                "shape",
                f"AIPP takes images of {name} {least} to {most}, and input '{network.name}' has "
                f"{network.min[axis]} to {network.max[axis]}",
                "Let the graph carry out the preprocessing: aipp=graph in the template's runtime_options.",
            )
    if {height, width} & set(network.dynamic_axes):
        return {"src_image_size_w": 0, "src_image_size_h": 0}
    return {"src_image_size_w": network.opt[width], "src_image_size_h": network.opt[height]}


def _colors(steps: Preprocessing) -> AippOp:
    if (nv12 := steps.nv12) is None:
        return {"csc_switch": False, "rbuv_swap_switch": steps.swaps_channels}
    matrix = np.rint(256 * nv12.rows(steps.model_color)).astype(int)
    op: AippOp = {"csc_switch": True, "rbuv_swap_switch": False}
    op |= {f"matrix_r{row}c{column}": int(matrix[row, column]) for row in range(3) for column in range(3)}
    return op | {f"input_bias_{number}": int(value) for number, value in enumerate(nv12.bias)}


def of_channel(values: Sequence[float], channel: int, default: float) -> float:
    """Return the mean or scale value of a channel."""
    return values[channel if len(values) > 1 else 0] if values else default


def _normalization(channel: int, mean: float, scale: float) -> AippOp:
    """Return the fields of a channel: the whole part of the mean is an integer, the rest and the factor float16."""
    if not 0 <= mean <= MOST_MEAN:
        raise InvalidField(
            "preprocessing.mean_values",
            f"AIPP subtracts 0 to {MOST_MEAN}, and channel {channel} has the mean {mean:g}",
            "Give means of pixels from 0 to 255, or let the graph carry them out: aipp=graph in runtime_options.",
        )
    if not _LEAST_FACTOR <= abs(1 / scale) <= _MOST_FACTOR:
        raise InvalidField(
            "preprocessing.scale_values",
            f"AIPP multiplies by 1/scale in float16, which cannot hold 1/{scale:g} of channel {channel}",
            f"Give scales of {1 / _MOST_FACTOR:.2g} to {1 / _LEAST_FACTOR:g}, or let the graph divide: aipp=graph in "
            "runtime_options.",
        )
    whole = int(mean)
    return {
        f"mean_chn_{channel}": whole,
        f"min_chn_{channel}": float(np.float16(mean - whole)),
        f"var_reci_chn_{channel}": float(np.float16(1 / scale)),
    }
