"""One element of tensor information: the place of a tensor among a model's inputs, its type and its shapes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from engines.tensors.shapes import Shape
from engines.tensors.signature import NO_BATCH

DTYPES = {
    "float": "float32",
    "half": "float16",
    "double": "float64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "bool": "bool",
    "array.char": "string",
}
"""Element types: as users write them, to as NumPy does."""

PLAIN_ARGUMENT = re.compile(r"[^\s\x00-\x1f\x7f-\x9f:\[\]()*,'\"]+")
"""A name of level 1 that needs no quotes."""
PLAIN_KEY = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\[\]'\"]+")
"""Text that needs no quotes in brackets: a tensor's name, or a key that is not digits alone."""

ESCAPES = {"\\": "\\\\", "'": "\\'"}
"""Characters of a quoted key that are escaped, and how they are written; the backslash first."""

_POSITION = re.compile(r"input_(0|[1-9][0-9]{0,3})")
_STEP_OF_TWO = 64


@dataclass(frozen=True)
class Step:
    """One step into a nested input: `[0]` of a list, `(0)` of a tuple, `[key]` of a dict."""

    kind: Literal["list", "tuple", "dict"]
    key: int | str

    def __str__(self) -> str:
        if self.kind == "tuple":
            return f"({self.key})"
        return f"[{self.key if isinstance(self.key, int) or _is_plain(self.key) else in_quotes(self.key)}]"


@dataclass(frozen=True)
class Shapes:
    """The shapes that a tensor may take: one, a range from the first to the second, or the members of a set.

    All have the same number of axes. In a range, no extent of the first is over that of the second.
    """

    kind: Literal["fixed", "range", "discrete"]
    shapes: tuple[Shape, ...]

    @property
    def min(self) -> Shape:
        """Smallest extent of each axis."""
        return tuple(map(min, zip(*self.shapes, strict=True)))

    @property
    def max(self) -> Shape:
        """Largest extent of each axis."""
        return tuple(map(max, zip(*self.shapes, strict=True)))

    @property
    def opt(self) -> Shape:
        """Shape that a form is tuned for: the first member of a set, the middle of a range."""
        if self.kind != "range":
            return self.shapes[0]
        return tuple(_middle(low, high) for low, high in zip(*self.shapes, strict=True))

    def __str__(self) -> str:
        text = ",".join("*".join(map(str, shape)) for shape in self.shapes)
        return f"[{text}]" if self.kind == "discrete" else text


@dataclass(frozen=True)
class TensorElement:
    """One tensor.

    Attributes:
        argument: Level 1: `input_0`, `input_1`… of a list or tuple, else a key of a dict.
        steps: Path from there into nested lists, tuples and dicts.
        tensor_name: Name of the tensor in the model, for an argument that is not nested; empty if not stated.
        dtype: As NumPy writes it; in `input_shapes` also `int`, any integers, or empty if not stated.
        shapes: The shapes.
        batch_axis: Axis that counts the samples of a batch, `NO_BATCH` if none does; None if not stated.
        values: Value in generated samples: one for all elements, or one for each; empty if not stated.
        line: Line of the text, from 1; 0 if the element comes from no text.
    """

    argument: str
    steps: tuple[Step, ...]
    tensor_name: str
    dtype: str
    shapes: Shapes
    line: int = field(default=0, compare=False)
    batch_axis: int | None = None
    values: tuple[float, ...] = ()

    @property
    def position(self) -> int | None:
        """Position stated by the argument's name; None for any other name than `input_0`, `input_1`…"""
        found = _POSITION.fullmatch(self.argument)
        return int(found[1]) if found else None

    @property
    def place(self) -> str:
        """Place of the tensor, as users write it: `input_0[key](1)`."""
        argument = self.argument if PLAIN_ARGUMENT.fullmatch(self.argument) else in_quotes(self.argument)
        if len(self.steps) == 1 and isinstance(self.steps[0].key, str):
            return f"{argument}[{in_quotes(self.steps[0].key)}]"  # without quotes it would be read as the tensor's name
        return argument + "".join(map(str, self.steps))

    @property
    def name(self) -> str:
        """Name as an input of a graph: the tensor's own, else that of its place, joined by underscores."""
        return self.tensor_name or "_".join([self.argument, *(str(step.key) for step in self.steps)])

    @property
    def counted_axis(self) -> int | None:
        """The batch axis: the stated one, else the first; None if no axis counts samples."""
        axis = self.batch_axis or 0
        return axis if self.shapes.min and axis != NO_BATCH else None

    @property
    def one_sample(self) -> Shape:
        """The tuned shape of one sample."""
        return tuple(1 if axis == self.counted_axis else extent for axis, extent in enumerate(self.shapes.opt))

    def __str__(self) -> str:
        named = f"[{self.tensor_name}]" if self.tensor_name else ""
        written = {dtype: word for word, dtype in DTYPES.items()}.get(self.dtype, self.dtype)
        text = f"{self.place}{named}:{written}({self.shapes})"
        if self.batch_axis is not None:
            text += f" batch={'none' if self.batch_axis == NO_BATCH else self.batch_axis}"
        if self.values:
            numbers = ",".join(map(_number, self.values))
            text += f" value={numbers if len(self.values) == 1 else f'[{numbers}]'}"
        return text


def in_quotes(key: str) -> str:
    """Return a key in single quotes, as the grammar writes it: backslash and quote escaped."""
    for character, escape in ESCAPES.items():
        key = key.replace(character, escape)
    return f"'{key}'"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _is_plain(key: str) -> bool:
    return PLAIN_KEY.fullmatch(key) is not None and not key.isdecimal()


def _middle(low: int, high: int) -> int:
    """Return the middle, rounded down so that powers of two up to 64 that divide both ends divide it too."""
    step = math.gcd(low, high, _STEP_OF_TWO)
    return low + (high - low) // 2 // step * step
