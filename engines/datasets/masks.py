"""Conditions on the columns of an index, a batch of rows at a time: which of its items are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOX_LABELS", "COLUMNS", "Hits", "Mask", "compared", "in_lists", "in_map", "like"]

Hits: TypeAlias = NDArray[np.bool_]
"""(rows,) or (values of the lists of all rows,): which of them are meant."""
Mask: TypeAlias = Callable[[Any], Hits]
"""Says of an Arrow record batch with `COLUMNS` which rows are meant."""

BOX_LABELS = "boxes.list.element.label"
COLUMNS = ["path", "width", "height", "row", "classifications", "attributes", BOX_LABELS]
"""The columns that a mask may look at."""

_COMPARE = {"=": "equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def compared(column: Any, how: str, value: str | int) -> Hits:
    """Return which values of an Arrow array of texts or whole numbers are `=`, `<`, `<=`, `>` or `>=` a value.

    Texts are compared by code points.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.int64() if isinstance(value, int) else pa.string()
    return _hits(pc.call_function(_COMPARE[how], [column, pa.scalar(value, kind)]))


def like(column: Any, pieces: Sequence[str]) -> Hits:
    """Return which texts are made of these pieces, in order, with anything between them."""
    import pyarrow.compute as pc

    pattern = ".*".join(re.escape(piece) for piece in pieces)
    return _hits(pc.match_substring_regex(column, f"(?s)\\A{pattern}\\z"))


def in_lists(column: Any, hits: Hits) -> Hits:
    """Return of each list, or map, of a column whether one of its values is a hit."""
    offsets = column.offsets.to_numpy()
    sums = np.concatenate([[0], np.cumsum(hits)])
    return np.asarray(sums[offsets[1:]] > sums[offsets[:-1]])


def in_map(column: Any, key: str, hits: Hits | None = None) -> Hits:
    """Return of each map of a column whether it has a key, with a value that is a hit."""
    keys = compared(column.keys, "=", key)
    return in_lists(column, keys if hits is None else keys & hits)


def _hits(found: Any) -> Hits:
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)
