"""Typed interfaces of graphs: names, element types and the shapes that tensors may take.

A shape is a profile of three tuples, `min`, `opt` and `max`, with one extent per axis, as in
`lathe.type.v1.ShapeProfile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from engines.failures import invalid
from engines.tensors.shapes import OPEN_EXTENT, Shape, check_shape

NO_BATCH = -1
"""`batch_axis` of a tensor without an axis that counts the samples of a batch."""

MAX_AXIS_NAME = 100
"""Longest name of an axis that is kept, in characters."""

DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "string",
)
"""Element types, as NumPy writes them, and `bfloat16`."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: Name of the tensor in the graph.
        dtype: One of `DTYPES`.
        min: Smallest extent of each axis.
        opt: Extent of each axis that a form is tuned for.
        max: Largest extent of each axis; `OPEN_EXTENT` if it has no known bound.
        known: False if the graph does not state even the number of axes; the profile is empty then.
        members: The only allowed shapes, if not all between `min` and `max` are allowed. Not compared, and not part of
            the JSON form.
        axis_names: Name of each axis as the graph gives it, empty for an axis without one; no entries if no axis has a
            name. Not compared.
        batch_axis: Axis that counts the samples of a batch; `NO_BATCH` if none does. Meaningless without axes.

    Raises:
        EngineFailure: INVALID_SPEC for an unknown dtype or a profile that is not in order.
    """

    name: str
    dtype: str
    min: Shape
    opt: Shape
    max: Shape
    known: bool = True
    members: tuple[Shape, ...] = field(default=(), compare=False)
    axis_names: tuple[str, ...] = field(default=(), compare=False)
    batch_axis: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise invalid(f"Tensor '{self.name}' has the element type '{self.dtype}'; known are {', '.join(DTYPES)}.")
        if not len(self.min) == len(self.opt) == len(self.max):
            raise invalid(f"Tensor '{self.name}': min, opt and max differ in their number of axes.")
        for axis, (least, best, most) in enumerate(zip(self.min, self.opt, self.max, strict=True)):
            if not 1 <= least <= best <= most:
                raise invalid(
                    f"Tensor '{self.name}', axis {axis}: min {least}, opt {best}, max {most} must rise from 1."
                )
        if self.max and not NO_BATCH <= self.batch_axis < len(self.max):
            raise invalid(f"Tensor '{self.name}' has {len(self.max)} axes; axis {self.batch_axis} cannot be its batch.")

    @classmethod
    def fixed(cls, name: str, dtype: str, shape: Iterable[int]) -> Self:
        """Return a spec of one shape, checked by `check_shape`."""
        extents = check_shape(shape, name)
        return cls(name, dtype, extents, extents, extents)

    @classmethod
    def unknown(cls, name: str, dtype: str) -> Self:
        """Return a spec whose shape the graph does not state."""
        return cls(name, dtype, (), (), (), known=False)

    @property
    def dynamic_axes(self) -> tuple[int, ...]:
        """Axes whose extent may vary."""
        return tuple(axis for axis, (low, high) in enumerate(zip(self.min, self.max, strict=True)) if low != high)

    @property
    def has_batch(self) -> bool:
        """Whether one of the axes counts the samples of a batch."""
        return bool(self.max) and self.batch_axis != NO_BATCH

    @property
    def batch_ends(self) -> tuple[int, int]:
        """Smallest and largest extent of the batch axis; 1 and 1 if there is none."""
        return (self.min[self.batch_axis], self.max[self.batch_axis]) if self.has_batch else (1, 1)

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes without an upper bound."""
        return tuple(axis for axis, high in enumerate(self.max) if high == OPEN_EXTENT)

    def at_batch(self, shape: Shape, size: int) -> Shape:
        """Return a shape of the tensor with another extent of the batch axis; as it is if there is none."""
        if not self.has_batch:
            return shape
        return (*shape[: self.batch_axis], size, *shape[self.batch_axis + 1 :])

    @property
    def points(self) -> tuple[Shape, ...]:
        """Shapes at which a form is tried: every member, else `opt` and both ends; `opt` alone of a fixed shape."""
        if self.members:
            return self.members
        return (self.opt, self.min, self.max) if self.dynamic_axes else (self.opt,)

    def single(self) -> Self:
        """Return the spec of one sample: the batch axis is 1."""
        low, tuned, high = (self.at_batch(shape, 1) for shape in (self.min, self.opt, self.max))
        return replace(self, min=low, opt=tuned, max=high)

    def batched(self, max_batch: int) -> Self:
        """Return the spec with the batch axis dynamic from 1 to `max_batch`; its `opt` stays, at most `max_batch`.

        Raises:
            EngineFailure: INVALID_SPEC if there is no batch axis, or the largest batch has too many elements.
        """
        if max_batch < 1:
            raise invalid(f"The largest batch is {max_batch}; it is at least 1.")
        if not self.has_batch:
            raise invalid(
                f"Tensor '{self.name}' has no batch axis: its shape is empty or unknown, or it declares none."
            )
        most = check_shape(self.at_batch(self.max, max_batch), self.name)
        tuned = self.at_batch(self.opt, min(self.opt[self.batch_axis], max_batch))
        return replace(self, min=self.at_batch(self.min, 1), opt=tuned, max=most)

    def including(self, shape: Shape) -> TensorSpec:
        """Return the spec widened to include an observed shape; `unknown` if the number of axes differs."""
        if not self.known or len(shape) != len(self.max) or 0 in shape:
            return TensorSpec.unknown(self.name, self.dtype)
        low, high = (tuple(map(pick, extents, shape)) for pick, extents in ((min, self.min), (max, self.max)))
        return replace(self, min=low, max=high)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as the JSON form of `lathe.type.v1.TensorSpec`."""
        values: dict[str, Any] = {"name": self.name, "dtype": self.dtype}
        if self.known:
            values["shape"] = {"min": list(self.min), "opt": list(self.opt), "max": list(self.max)}
        if any(self.axis_names):
            values["axis_names"] = list(self.axis_names)
        if self.max and self.batch_axis:
            values["batch_axis"] = self.batch_axis
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec of a JSON form; extents may be numbers or, as protobuf writes 64-bit integers, strings."""
        shape = values.get("shape")
        if shape is None:
            return cls.unknown(values["name"], values["dtype"])
        low, tuned, high = (tuple(int(extent) for extent in shape.get(part, ())) for part in ("min", "opt", "max"))
        names, batch_axis = tuple(values.get("axis_names", ())), int(values.get("batch_axis", 0))
        return cls(values["name"], values["dtype"], low, tuned, high, axis_names=names, batch_axis=batch_axis)


@dataclass(frozen=True)
class Signature:
    """The typed interface of a graph: inputs and outputs, in the order of the graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the signature as the JSON form of `lathe.type.v1.TensorSignature`."""
        return {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the signature of a JSON form."""
        inputs, outputs = (tuple(map(TensorSpec.from_dict, values.get(part, ()))) for part in ("inputs", "outputs"))
        return cls(inputs, outputs)


def shape_points(specs: Sequence[TensorSpec]) -> tuple[tuple[Shape, ...], ...]:
    """Return the points at which inputs are tried together, one shape per input: `opt` of all first, then the ends.

    Points of the inputs go together by their order: all are small at one point and large at another.
    """
    columns = [spec.points for spec in specs]
    longest = max(map(len, columns), default=1)
    rows = (tuple(column[min(row, len(column) - 1)] for column in columns) for row in range(longest))
    return tuple(dict.fromkeys(rows))
