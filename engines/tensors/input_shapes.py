"""Reads `input_shapes` of `optimize()`: lists of shapes, one item per input, as elements of tensor information.

    ['1*3*224*224']                                  one input, one shape
    [['1*3*224*224'], ['1*3*512*512']]               one input, two shapes; each inner list holds one of every input
    [{'seperate': ['1*3*224*224', '1*3*512*512']}]   the same (`separate` works as well)
    [{'range': ['1*3*224*224', '8*3*224*224'], 'dtype': 'half'}]
    {'image': '1*3*224*224', 'scale': {'range': ['1', '8']}}        the same by name

A dictionary in the list stands for one input; `dtype` is `float`, `int` (any integers) or `half`;
without it, the model's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.tensors.element import Shapes, TensorElement
from engines.tensors.shapes import Shape, check_shape

DTYPES = {"float": "float32", "int": "int", "half": "float16"}
"""Values of the `dtype` key, to dtypes of a `TensorElement`."""

_SETS = ("seperate", "separate")
_SHAPE = re.compile(r"\s*[0-9]{1,9}\s*(\*\s*[0-9]{1,9}\s*){0,15}")


def parse(value: Any) -> list[TensorElement]:
    """Return one element per input, `input_0`, `input_1`…; of a dictionary, by its keys.

    Raises:
        EngineFailure: INVALID_SPEC saying which item is wrong, what was expected and what was found.
    """
    if isinstance(value, dict) and value:
        pairs = [_input(item, f"input_shapes[{name!r}]") for name, item in value.items()]
        return [TensorElement(str(name), (), "", *pair) for name, pair in zip(value, pairs, strict=True)]
    items = _list(value, "input_shapes", "a list with one item per input")
    groups = [isinstance(item, list | tuple) for item in items]
    if any(groups):
        if not all(groups):
            index = groups.index(False)
            _fail(f"input_shapes[{index}]", "a list of shapes, as the other items are", items[index])
        pairs = [("", shapes) for shapes in _transposed(items)]
    else:
        pairs = [_input(item, f"input_shapes[{index}]") for index, item in enumerate(items)]
    return [TensorElement(f"input_{index}", (), "", dtype, shapes) for index, (dtype, shapes) in enumerate(pairs)]


def _transposed(groups: Sequence[Any]) -> list[Shapes]:
    """Return the shapes of each input from groups that hold one shape of every input."""
    read = [
        [
            _shape(shape, f"input_shapes[{index}][{place}]")
            for place, shape in enumerate(_list(group, f"input_shapes[{index}]", "a list with one shape per input"))
        ]
        for index, group in enumerate(groups)
    ]
    for index, group in enumerate(read):
        if len(group) != len(read[0]):
            _fail(f"input_shapes[{index}]", f"{len(read[0])} shapes, as input_shapes[0] has", groups[index])
    return [_set(members, f"shape {place} of the lists") for place, members in enumerate(zip(*read, strict=True))]


def _input(item: Any, where: str) -> tuple[str, Shapes]:
    if isinstance(item, str):
        return "", Shapes("fixed", (_shape(item, where),))
    if not isinstance(item, dict):
        _fail(where, "a shape such as '1*3*224*224', a list of shapes or a dictionary", item)
    kinds = [key for key in item if key != "dtype"]
    if len(kinds) != 1 or kinds[0] not in (*_SETS, "range"):
        _fail(where, "one of the keys 'seperate' and 'range', and perhaps 'dtype'", list(item))
    (kind,) = kinds
    dtype = item.get("dtype", "")
    if dtype not in ("", *DTYPES):
        _fail(f"{where}['dtype']", f"one of {', '.join(DTYPES)}", dtype)
    inner = f"{where}['{kind}']"
    members = [_shape(shape, f"{inner}[{n}]") for n, shape in enumerate(_list(item[kind], inner, "a list of shapes"))]
    shapes = _range(members, inner) if kind == "range" else _set(members, inner)
    return DTYPES.get(dtype, ""), shapes


def _range(ends: Sequence[Shape], where: str) -> Shapes:
    if len(ends) != 2:
        _fail(where, "two shapes, the smallest and the largest", [_text(end) for end in ends])
    low, high = ends
    if len(low) != len(high):
        _fail(f"{where}[1]", f"{len(low)} axes, as the smallest shape has", _text(high))
    for axis, (least, most) in enumerate(zip(low, high, strict=True)):
        if least > most:
            _fail(f"{where}[1]", f"an extent of at least {least} on axis {axis}, the smallest shape's", _text(high))
    return Shapes("range", (low, high))


def _set(members: Sequence[Shape], where: str) -> Shapes:
    different = tuple(dict.fromkeys(members))
    for member in different:
        if len(member) != len(different[0]):
            _fail(where, f"{len(different[0])} axes, as the first shape has", _text(member))
    return Shapes("discrete" if len(different) > 1 else "fixed", different)


def _shape(value: Any, where: str) -> Shape:
    if not isinstance(value, str) or not _SHAPE.fullmatch(value) or not value.isascii():
        _fail(where, "a shape such as '1*3*224*224'", value)
    try:
        return check_shape(int(extent) for extent in value.split("*"))
    except EngineFailure as failure:
        _fail(where, "a shape that a tensor can have", value, failure.message)


def _list(value: Any, where: str, expected: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or not value:
        _fail(where, expected, value)
    return value


def _text(shape: Shape) -> str:
    return "*".join(map(str, shape))


def _fail(where: str, expected: str, found: Any, why: str = "") -> NoReturn:
    message = f"{where}: expected {expected}; found {repr(found)[:100]}. {why}"
    raise EngineFailure(
        FailureReason.INVALID_SPEC,
        message.rstrip(),
        suggested_fix="Write ['1*3*224*224'], [['1*3*224*224'], ['1*3*512*512']], [{'seperate': [...]}] or "
        "[{'range': [smallest, largest], 'dtype': 'float'}].",
    )
