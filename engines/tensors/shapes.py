"""Shapes of tensors: the extents that are allowed, and how users read them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from engines.failures import invalid

Shape = tuple[int, ...]
"""One extent per axis; empty for a scalar."""

MAX_ELEMENTS = 2**29
"""Most elements that one tensor may have: 2 GiB of float32, far more than any real input."""

OPEN_EXTENT = 2**31 - 1
"""`max` of an open axis: one without a stated upper bound."""


def check_shape(shape: Iterable[int], name: str = "") -> Shape:
    """Return the extents if each is at least 1 and their product at most `MAX_ELEMENTS`.

    Args:
        shape: One extent per axis; none for a scalar.
        name: Tensor that the message names.

    Raises:
        EngineFailure: INVALID_SPEC naming the extent that is wrong.
    """
    extents = tuple(shape)
    whose = f"The shape of '{name}', " if name else "The shape "
    for axis, extent in enumerate(extents):
        if extent < 1:
            raise invalid(
                f"{whose}{format_shape(extents)}, has the extent {extent} on axis {axis}; each is at least 1."
            )
    elements = math.prod(extents)
    if elements > MAX_ELEMENTS:
        raise invalid(f"{whose}{format_shape(extents)}, has {elements} elements; at most {MAX_ELEMENTS} are allowed.")
    return extents


def format_shape(shape: Sequence[int]) -> str:
    """Return the shape as users write it: `1*3*224*224`; `scalar` for no axes."""
    return "*".join(map(str, shape)) or "scalar"


def format_extents(low: Sequence[int], high: Sequence[int], names: Sequence[str] = ()) -> str:
    """Return a range of shapes as users read it: `1..8*3*224*any (width)`; an open axis is `any`, with its name."""
    axes = itertools.zip_longest(low, high, names[: len(low)], fillvalue="")
    return "*".join(itertools.starmap(_extent, axes)) or "scalar"


def _extent(low: int, high: int, name: str) -> str:
    if high != OPEN_EXTENT:
        return str(low) if low == high else f"{low}..{high}"
    words = "any" if low == 1 else f"at least {low}"
    return f"{words} ({name})" if name else words
