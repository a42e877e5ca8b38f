"""The shapes that a form is compiled for: fixed ones, or gears of batches, image sizes or any dimensions.

An offline model with gears runs at these shapes only. The rules are ATC's: one kind of gears (E10009); 2 to 100 of them
(E10035, E10036), all different (E10039); batches in front and no other axis open (E10018); height and width alone of
inputs with four axes, in an order that the format states (E10019); as many numbers in each gear as axes vary (E10003);
no input without axes beside batches (E10012: the manual allows it, the program does not), for which dimensions serve.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.ascend.options import wrong
from engines.tensors.signature import TensorSpec

BATCH, IMAGE, DIMS = "dynamic_batch_size", "dynamic_image_size", "dynamic_dims"
LEAST, MOST = 2, 100
_MOST_AXES = 4
"""The manual's limit of the format ND."""
_PLACES = {"NCHW": (2, 3), "NHWC": (1, 2)}
"""Where height and width are."""

Gear = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """The shapes of a form.

    Attributes:
        inputs: Value of `--input_shape`.
        kind: The option of the gears; empty if every shape is fixed.
        gears: The extents of each gear.
        batches: Places in a gear that are batches, which a caller may fill up.
    """

    inputs: str
    kind: str = ""
    gears: tuple[Gear, ...] = ()
    batches: tuple[int, ...] = ()

    @property
    def value(self) -> str:
        """The gears as ATC takes them."""
        return gears_text(self.kind, self.gears)


def gears_text(kind: str, gears: Sequence[Gear]) -> str:
    """Return gears as the value of the option of that name."""
    separator = "," if kind == BATCH else ";"
    return separator.join(",".join(map(str, gear)) for gear in gears)


def shapes_of(inputs: Sequence[TensorSpec], layout: str, knobs: Mapping[str, str]) -> Shapes:
    """Return the shapes that a form is compiled for: as the user states, else by the ranges of the inputs.

    Args:
        inputs: Inputs of the form, in order.
        layout: The format that is stated for ATC, or that it assumes.
        knobs: The user's options.

    Raises:
        EngineFailure: INVALID_SPEC for a shape that is unknown or has no bound; InvalidField for gears that do not fit.
    """
    for spec in inputs:
        _check(spec)
    stated = next((name for name in (BATCH, IMAGE, DIMS) if name in knobs), "")
    open_axes = [(spec, axis) for spec in inputs for axis in spec.dynamic_axes]
    if not open_axes:
        if stated:
            raise wrong(stated, "no axis of any input varies: give the inputs a range of shapes, or a larger max_batch")
        return Shapes(_text(inputs, fixed=True))
    kind = stated or _kind(inputs, layout)
    _check_kind(kind, inputs, layout, stated)
    gears = _stated(knobs[kind], kind) if stated else _derived(kind, inputs)
    batches = {BATCH: (0,), IMAGE: ()}.get(
        kind, tuple(place for place, (spec, axis) in enumerate(open_axes) if axis == spec.batch_axis)
    )
    _check_gears(kind, gears, inputs, layout)
    return Shapes(_text(inputs, fixed=False), kind, gears, batches)


def _check(spec: TensorSpec) -> None:
    if ";" in spec.name:
        raise _impossible(spec, "has a semicolon in its name, which ATC takes for the end of it")
    if not spec.known:
        raise _impossible(spec, "has no known shape; ATC compiles for stated shapes")
    if spec.open_axes:
        raise _impossible(spec, f"has no upper bound on axis {spec.open_axes[0]}; ATC compiles for stated shapes")


def _impossible(spec: TensorSpec, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_SPEC,
        f"The input '{spec.name}' {why}.",
        suggested_fix="Give the input a `shape`, and `min_shape` and `max_shape` if it varies.",
    )


def _text(inputs: Sequence[TensorSpec], *, fixed: bool) -> str:
    def extents(spec: TensorSpec) -> str:
        varying = () if fixed else spec.dynamic_axes
        return ",".join("-1" if axis in varying else str(extent) for axis, extent in enumerate(spec.opt))

    return ";".join(f"{spec.name}:{extents(spec)}" for spec in inputs)


def _kind(inputs: Sequence[TensorSpec], layout: str) -> str:
    dynamic = [spec for spec in inputs if spec.dynamic_axes]
    if all(spec.dynamic_axes == (0,) == (spec.batch_axis,) for spec in dynamic) and all(spec.opt for spec in inputs):
        return BATCH
    image = _PLACES.get(layout)
    same = {tuple((spec.min[axis], spec.opt[axis], spec.max[axis]) for axis in spec.dynamic_axes) for spec in dynamic}
    if len(same) == 1 and all(len(spec.opt) == 4 and spec.dynamic_axes == image for spec in dynamic):
        return IMAGE
    return DIMS


def _check_kind(kind: str, inputs: Sequence[TensorSpec], layout: str, stated: str) -> None:
    dynamic = [spec for spec in inputs if spec.dynamic_axes]
    if kind == BATCH:
        other = next((spec for spec in dynamic if spec.dynamic_axes != (0,)), None)
        if other:
            axis = next(axis for axis in other.dynamic_axes if axis)
            raise wrong(stated, f"axis {axis} of the input '{other.name}' varies, too: use {DIMS}")
        scalar = next((spec for spec in inputs if not spec.opt), None)
        if scalar:
            raise wrong(stated, f"the input '{scalar.name}' has no axes, which ATC refuses beside batches: use {DIMS}")
    wide = next((spec for spec in inputs if len(spec.opt) > _MOST_AXES), None)
    if kind == DIMS and wide:
        raise wrong(
            DIMS,
            f"the input '{wide.name}' has {len(wide.opt)} axes, and ATC takes profiles for {_MOST_AXES} at most",
            "Give all inputs fixed shapes, or leave the batch alone to vary.",
        )
    if kind == IMAGE:
        if layout not in _PLACES:
            raise wrong(stated, f"it needs the input_format NCHW or NHWC, not {layout}")
        other = next((spec for spec in dynamic if len(spec.opt) != 4 or spec.dynamic_axes != _PLACES[layout]), None)
        if other:
            raise wrong(
                stated,
                f"of the input '{other.name}', other axes than height and width of {layout} vary: use {DIMS}",
            )


def _stated(value: str, kind: str) -> tuple[Gear, ...]:
    if kind == BATCH:
        return tuple((int(batch),) for batch in value.split(","))
    return tuple(tuple(map(int, gear.split(","))) for gear in value.split(";"))


def _derived(kind: str, inputs: Sequence[TensorSpec]) -> tuple[Gear, ...]:
    dynamic = [spec for spec in inputs if spec.dynamic_axes]
    if kind == BATCH:
        low, high = max(spec.min[0] for spec in dynamic), min(spec.max[0] for spec in dynamic)
        return tuple((size,) for size in _batches(low, high))
    points = _points(dynamic)
    if kind == IMAGE:
        gears = [tuple(next(iter(point.values()))[axis] for axis in dynamic[0].dynamic_axes) for point in points]
        return tuple(dict.fromkeys(gears))
    batched = [spec for spec in dynamic if spec.batch_axis in spec.dynamic_axes]
    sizes = _batches(max(s.batch_ends[0] for s in batched), min(s.batch_ends[1] for s in batched)) if batched else (1,)
    gears = [
        tuple(
            size if axis == spec.batch_axis else point[spec.name][axis]
            for spec in dynamic
            for axis in spec.dynamic_axes
        )
        for size, point in itertools.product(sizes, points)
    ]
    return tuple(dict.fromkeys(gears))


def _points(dynamic: Sequence[TensorSpec]) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes to compile for, of all inputs together: the members of their sets, else ends and best."""
    counts = {len(spec.members) for spec in dynamic if spec.members}
    if len(counts) > 1:
        raise wrong(DIMS, "the inputs allow sets of shapes of different sizes, so state the profiles here")
    if counts:
        return [
            {spec.name: spec.members[place] if spec.members else spec.opt for spec in dynamic}
            for place in range(counts.pop())
        ]
    ends = ([spec.min for spec in dynamic], [spec.opt for spec in dynamic], [spec.max for spec in dynamic])
    return [dict(zip((spec.name for spec in dynamic), shapes, strict=True)) for shapes in ends]


def _batches(low: int, high: int) -> tuple[int, ...]:
    """Return the powers of two between the ends, and the ends."""
    powers = [2**power for power in range(high.bit_length()) if low <= 2**power <= high]
    return tuple(sorted({low, high, *powers}))


def _check_gears(kind: str, gears: Sequence[Gear], inputs: Sequence[TensorSpec], layout: str) -> None:
    places = [(spec, axis) for spec in inputs for axis in spec.dynamic_axes]
    if kind == BATCH:
        columns = [places]
    elif kind == IMAGE:
        columns = [[place for place in places if place[1] == axis] for axis in _PLACES[layout]]
    else:
        columns = [[place] for place in places]
    if not LEAST <= len(gears) <= MOST:
        raise wrong(kind, f"{len(gears)} profiles; ATC takes {LEAST} to {MOST}", "State them in this option.")
    if len(set(gears)) < len(gears):
        raise wrong(kind, "two profiles are the same")
    for gear in gears:
        if len(gear) != len(columns):
            raise wrong(
                kind, f"the profile {','.join(map(str, gear))} has {len(gear)} numbers, and {len(columns)} axes vary"
            )
        for extent, column in zip(gear, columns, strict=True):
            for spec, axis in column:
                if not spec.min[axis] <= extent <= spec.max[axis]:
                    raise wrong(
                        kind,
                        f"{extent} is outside of the range of axis {axis} of the input '{spec.name}', "
                        f"{spec.min[axis]} to {spec.max[axis]}",
                    )
