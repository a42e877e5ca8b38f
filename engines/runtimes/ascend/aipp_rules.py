"""The fields of AIPP's configuration, and the rules that ATC and the manual have for them.

The file is protobuf text of `InsertNewOps` in CANN's `insert_op.proto`; here is a description of the same fields, with
which protobuf reads it. Rules that ATC reports with E10052, or with no code at all, are checked before it is started.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from engines.tensors.shapes import Shape
from engines.tensors.signature import TensorSpec

AippOp = dict[str, int | float | bool | str]
"""One configuration: values by field."""

NV12, RGB, XRGB, GREY = "YUV420SP_U8", "RGB888_U8", "XRGB8888_U8", "YUV400_U8"
CHANNELS = {NV12: 3, RGB: 3, XRGB: 4, GREY: 1}
"""Formats that the manual allows, and the channels that come out of them without a conversion of colours."""
WIDTHS, HEIGHTS = (2, 4096), (1, 4096)
MOST_MEAN = 255
_OTHER_FORMATS = (
    *("UNDEFINED", "NC1HWC0DI_FP16", "NC1HWC0DI_S8", "ARGB8888_U8", "YUYV_U8", "YUV422SP_U8", "AYUV444_U8", "RAW10"),
    *("RAW12", "RAW16", "RAW24", "RGB16", "RGB20", "RGB24", "RGB8_IR", "RGB16_IR", "RGB24_IR"),
)
_MODES = ("undefined", "static", "dynamic")

_INTEGER, _FLOAT, _SWITCH, _TEXT = "TYPE_INT32", "TYPE_FLOAT", "TYPE_BOOL", "TYPE_STRING"
_MATRIX = tuple(f"matrix_r{row}c{column}" for row in range(3) for column in range(3))
_BIASES = tuple(f"{end}_bias_{number}" for end in ("input", "output") for number in range(3))
_FACTORS = tuple(f"var_reci_chn_{number}" for number in range(4))
_MEANS = tuple(f"mean_chn_{number}" for number in range(4))
_LEAST = tuple(f"min_chn_{number}" for number in range(4))
_PADDINGS = tuple(f"{side}_padding_size" for side in ("left", "right", "top", "bottom"))
_REPEATED = frozenset({*_MATRIX, *_BIASES, *_FACTORS, "input_edge_idx"})
"""Fields that the proto repeats, and ATC takes once."""
_TYPES = {
    **dict.fromkeys(("related_input_rank", "input_edge_idx", "max_src_image_size", "raw_rgbir_to_f16_n"), _INTEGER),
    **dict.fromkeys(("src_image_size_w", "src_image_size_h", "load_start_pos_w", "load_start_pos_h"), _INTEGER),
    **dict.fromkeys(("crop_size_w", "crop_size_h", "resize_output_w", "resize_output_h"), _INTEGER),
    **dict.fromkeys((*_MATRIX, *_BIASES, *_MEANS, *_PADDINGS), _INTEGER),
    **dict.fromkeys(("cpadding_value", "padding_value", *_LEAST, *_FACTORS), _FLOAT),
    **dict.fromkeys(("csc_switch", "rbuv_swap_switch", "ax_swap_switch", "crop", "resize", "padding"), _SWITCH),
    **dict.fromkeys(("support_rotation", "single_line_mode"), _SWITCH),
    "related_input_name": _TEXT,
}
FIELDS = ("aipp_mode", "input_format", *_TYPES)
"""Names of all fields."""
_RESERVED = ("resize", "support_rotation", "single_line_mode", "cpadding_value", "raw_rgbir_to_f16_n")
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("load_start_pos_w", "load_start_pos_h"), (0, 4095)),
    **dict.fromkeys(("crop_size_w", "crop_size_h"), (0, 4096)),
    **dict.fromkeys(_PADDINGS, (0, 32)),
    **dict.fromkeys(_MATRIX, (-32677, 32676)),
    **dict.fromkeys((*_BIASES, *_MEANS), (0, 255)),
    **dict.fromkeys(_LEAST, (0, 255)),
    **dict.fromkeys((*_FACTORS, "padding_value"), (-65504, 65504)),
}
MOST_FOUND = 20
"""Most violations that are listed."""


def image_axes(shape: Shape) -> tuple[int, int, int] | None:
    """Return the axes of channels, height and width of a network's images; None if the shape is not that of images."""
    if len(shape) != 4:
        return None
    return (1, 2, 3) if shape[1] in {1, 3} else (3, 1, 2) if shape[3] in {1, 3} else None


def read_aipp(text: str) -> tuple[AippOp, ...]:
    """Return the configurations in a file, the fields that it sets alone.

    Raises:
        ValueError: The file is no protobuf text of these fields; the message names line and column.
    """
    return tuple(map(_values, _parsed(text)))


def violations(text: str, inputs: Sequence[TensorSpec] | None) -> list[str]:
    """Return each violation of a rule in a user's file, for people; nothing if ATC takes it.

    Args:
        text: The file.
        inputs: The network's inputs, in order; None if they are not known yet, and only the file itself is checked.
    """
    try:
        messages = _parsed(text)
    except ValueError as error:
        return [str(error)]
    if not messages:
        return ["it has no aipp_op"]
    found = [
        f"aipp_op {number}: {why}"
        for number, message in enumerate(messages, 1)
        for why in (*_of_repeats(message), *_of_op(_values(message), inputs))
    ]
    return [*found, *_of_all([_values(message) for message in messages])][:MOST_FOUND]


def _of_repeats(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.name in _REPEATED and len(value) > 1:
            yield f"{field.name} is given {len(value)} times; ATC takes one value"


def _of_all(ops: Sequence[AippOp]) -> Iterator[str]:
    names = [op.get("related_input_name", "") for op in ops]
    if any(names) and not all(names):
        yield "related_input_name and related_input_rank are mixed: name the input of every aipp_op, or number it"
    for field in ("related_input_name",) if all(names) else ("related_input_rank",):
        places = [op.get(field, 0) for op in ops]
        if len(set(places)) < len(places):
            yield f"{field} is the same in two aipp_op: every input has one at most"
    if len({op.get("aipp_mode") for op in ops}) > 1:
        yield "aipp_mode is static in one aipp_op and dynamic in another"


def _of_op(op: AippOp, inputs: Sequence[TensorSpec] | None) -> Iterator[str]:
    mode = op.get("aipp_mode", "undefined")
    if mode not in {"static", "dynamic"}:
        yield "aipp_mode is missing: static or dynamic"
        return
    for name, value in op.items():
        if name in _RESERVED and value:
            yield f"{name} is reserved, and no chip supports it"
        elif name in _RANGES and not _RANGES[name][0] <= float(value) <= _RANGES[name][1]:
            low, high = _RANGES[name]
            yield f"{name} is {value:g}; it is {low:g} to {high:g}"
    network = related(op, inputs or ())
    if inputs is not None and network is None:
        if named := op.get("related_input_name"):
            yield f"related_input_name is {named}; the network's inputs are {', '.join(spec.name for spec in inputs)}"
        else:
            rank = op.get("related_input_rank", 0)
            yield f"related_input_rank is {rank}; the network has {len(inputs)} inputs, counted from 0"
        return
    if mode == "dynamic":
        if int(op.get("max_src_image_size", 0)) <= 0:
            yield "max_src_image_size is missing, the bytes of the largest image, which dynamic AIPP needs"
        return
    kind = str(op.get("input_format", "UNDEFINED"))
    if kind not in CHANNELS:
        yield f"input_format is {kind}; it is {', '.join(CHANNELS)}"
        return
    yield from _of_sizes(op, kind, network if network is not None and network.known else None)


def related(op: AippOp, inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """Return the input of the network that an operation prepares; None if there is no such input."""
    if named := op.get("related_input_name"):
        return next((spec for spec in inputs if spec.name == named), None)
    rank = int(op.get("related_input_rank", 0))
    return inputs[rank] if 0 <= rank < len(inputs) else None


def _of_sizes(op: AippOp, kind: str, network: TensorSpec | None) -> Iterator[str]:
    axes = image_axes(network.opt) if network is not None else None
    if network is not None and axes is None:
        yield f"the input '{network.name}' takes no images of 1 or 3 channels: {'*'.join(map(str, network.opt))}"
        return
    for side, limits, ends, axis in (
        ("w", WIDTHS, ("left", "right"), 2),
        ("h", HEIGHTS, ("top", "bottom"), 1),
    ):
        stated = int(op.get(f"src_image_size_{side}", 0))
        wanted = network.opt[axes[axis]] if network is not None and axes is not None else None
        if not stated and (op.get("crop") or op.get("padding")):
            yield f"src_image_size_{side} is missing, which crop and padding need"
            continue
        size = stated or wanted
        if size is None:
            continue
        if not limits[0] <= size <= limits[1]:
            yield f"src_image_size_{side} is {size}; it is {limits[0]} to {limits[1]}, or 0 for the network's own"
        if kind == NV12 and size % 2:
            yield f"src_image_size_{side} is {size}; it is even for {kind}"
        start = int(op.get(f"load_start_pos_{side}", 0)) if op.get("crop") else 0
        if kind == NV12 and start % 2:
            yield f"load_start_pos_{side} is {start}; it is even for {kind}"
        added = sum(int(op.get(f"{end}_padding_size", 0)) for end in ends) if op.get("padding") else 0
        cut = int(op.get(f"crop_size_{side}", 0)) if op.get("crop") else size
        if not cut and not op.get("padding") and wanted is not None:
            cut = wanted  # as ATC takes it
        if start + cut > size:
            yield f"load_start_pos_{side} + crop_size_{side} is {start + cut}, beyond the image's {size}"
        elif wanted is not None and cut + added != wanted:
            yield f"{cut + added} pixels in {side} come out of it; the network takes {wanted}"


def _parsed(text: str) -> Sequence[Any]:
    from google.protobuf import text_format

    message = _message()()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ValueError(f"it cannot be read at line and column {error}") from None
    found: Sequence[Any] = message.aipp_op
    return found


def _values(message: Any) -> AippOp:
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    """Return a field's value: an enum by its name, the first of a repeated field."""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value[0] if field.name in _REPEATED else value


@functools.cache
def _message() -> Any:
    """Return the class of the file's message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="lathe_aipp.proto", package="aipp", syntax="proto3")
    op = file.message_type.add(name="AippOpParams")
    for name, values in (("AippMode", _MODES), ("InputFormat", ("UNDEFINED", *CHANNELS, *_OTHER_FORMATS[1:]))):
        enum = op.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for number, name in enumerate(FIELDS, 1):
        field = op.field.add(name=name, number=number)
        field.label = field.LABEL_REPEATED if name in _REPEATED else field.LABEL_OPTIONAL
        enum_name = {"aipp_mode": "AippMode", "input_format": "InputFormat"}.get(name)
        if enum_name:
            field.type, field.type_name = field.TYPE_ENUM, f".aipp.AippOpParams.{enum_name}"
        else:
            field.type = getattr(field, _TYPES[name])
    whole = file.message_type.add(name="InsertNewOps")
    ops = whole.field.add(name="aipp_op", number=1)
    ops.label, ops.type, ops.type_name = ops.LABEL_REPEATED, ops.TYPE_MESSAGE, ".aipp.AippOpParams"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aipp.InsertNewOps"))
