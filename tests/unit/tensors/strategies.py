"""Sound tensor information, drawn by Hypothesis: nested inputs of every kind, shapes of every kind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from engines.tensors.element import DTYPES, PLAIN_KEY, Shapes, Step, TensorElement
from engines.tensors.signature import NO_BATCH

extents = st.integers(1, 64)
keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=6)
tensor_names = st.from_regex(PLAIN_KEY, fullmatch=True).filter(lambda name: not name.isdecimal())


@st.composite
def shape_sets(draw: st.DrawFn) -> Shapes:
    """Return a fixed shape, a range or a set of different shapes."""
    kind = draw(st.sampled_from(("fixed", "range", "discrete")))
    first = tuple(draw(st.lists(extents, min_size=int(kind != "fixed"), max_size=4)))
    if kind == "fixed":
        return Shapes("fixed", (first,))
    if kind == "range":
        return Shapes("range", (first, tuple(extent + draw(st.integers(0, 9)) for extent in first)))
    same_rank = st.lists(st.tuples(*[extents] * len(first)), min_size=1, max_size=4, unique=True)
    return Shapes("discrete", tuple(draw(same_rank)))


@st.composite
def elements(draw: st.DrawFn) -> list[TensorElement]:
    """Return the elements of one model."""
    if draw(st.booleans()):
        arguments = [f"input_{index}" for index in range(draw(st.integers(1, 3)))]
    else:
        arguments = draw(st.lists(keys, min_size=1, max_size=3, unique=True))
    found = []
    for argument in arguments:
        ways = draw(st.recursive(st.just([()]), _containers, max_leaves=6))
        name = draw(tensor_names | st.just("")) if ways == [()] else ""
        for way in ways:
            dtype, shapes = draw(st.sampled_from([*DTYPES.values()])), draw(shape_sets())
            axes = st.sampled_from([None, NO_BATCH, *range(len(shapes.min))])
            element = TensorElement(argument, way, name, dtype, shapes, batch_axis=draw(axes))
            found.append(replace(element, values=draw(_values(element))))
    names = [element.name for element in found]
    return found if len(set(names)) == len(names) else found[:1] if found[0].steps == () else draw(st.nothing())


def _values(element: TensorElement) -> st.SearchStrategy[tuple[float, ...]]:
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    whole = math.prod(element.one_sample)
    counts = [0, 1, *([whole] if whole <= 4 else [])]
    return st.sampled_from(counts).flatmap(lambda n: st.tuples(*[numbers] * n))


def _containers(inner: Any) -> Any:
    """Return strategies for the steps into a list, tuple or dict of values of `inner`."""
    several = st.lists(inner, min_size=1, max_size=3)
    counted = st.tuples(st.sampled_from(("list", "tuple")), several).map(
        lambda drawn: [(Step(drawn[0], n), *way) for n, ways in enumerate(drawn[1]) for way in ways]
    )
    keyed = st.dictionaries(keys, inner, min_size=1, max_size=3).map(
        lambda drawn: [(Step("dict", key), *way) for key, ways in drawn.items() for way in ways]
    )
    return counted | keyed
