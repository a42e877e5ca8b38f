"""The columns of an index, and conversion of items to and from them.

| column | type | contents |
|---|---|---|
| `path` | string | path in the import |
| `sha256` | 32 bytes | digest of the file |
| `size_bytes` | int64 | its size |
| `width`, `height` | int32 | pixels; 0 for tensors |
| `row` | int64 | row in the tensor file |
| `classifications` | map of strings | class by key |
| `attributes` | map of strings | value by name |
| `boxes` | list of structs | `label`; `x`, `y`, `width`, `height` (float64, pixels); `crowd`; `area` (null: unknown) |

Rows are in the order of the dataset: an item's number is its row. Strings are dictionary encoded, so that classes take
a few bits, and a row group is small enough that one page of items reads a single one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from engines.datasets.items import Box, Item

ROW_GROUP = 8192
"""Rows of a row group, the least that a page of items has to decode."""

BOX_FIELDS = ("label", "x", "y", "width", "height", "crowd", "area")


@cache
def schema() -> Any:
    """Return the Arrow schema of an index."""
    import pyarrow as pa

    strings = pa.map_(pa.string(), pa.string())
    box = pa.struct(
        [
            pa.field("label", pa.string(), nullable=False),
            *(pa.field(side, pa.float64(), nullable=False) for side in BOX_FIELDS[1:5]),
            pa.field("crowd", pa.bool_(), nullable=False),
            pa.field("area", pa.float64()),
        ]
    )
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("sha256", pa.binary(32), nullable=False),
            pa.field("size_bytes", pa.int64(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("classifications", strings, nullable=False),
            pa.field("attributes", strings, nullable=False),
            pa.field("boxes", pa.list_(box), nullable=False),
        ]
    )


def to_batch(items: Iterable[Item]) -> Any:
    """Return items as an Arrow record batch."""
    import pyarrow as pa

    rows = list(items)
    flat = [box for item in rows for box in item.boxes]
    types = schema()
    box_type = types.field("boxes").type.value_type
    boxes = pa.StructArray.from_arrays(
        [pa.array([getattr(box, field.name) for box in flat], field.type) for field in box_type],
        fields=list(box_type),
    )
    columns = [
        pa.array([item.path for item in rows], pa.string()),
        pa.array([bytes.fromhex(item.sha256) for item in rows], pa.binary(32)),
        *(
            pa.array([getattr(item, name) for item in rows], types.field(name).type)
            for name in ("size_bytes", "width", "height", "row")
        ),
        _maps([item.classifications for item in rows]),
        _maps([item.attributes for item in rows]),
        pa.ListArray.from_arrays(_offsets(len(item.boxes) for item in rows), boxes, type=types.field("boxes").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=types)


def from_batch(batch: Any) -> Iterator[Item]:
    """Yield the items of an Arrow record batch."""
    plain = [batch.column(name).to_pylist() for name in ("path", "sha256", "size_bytes", "width", "height", "row")]
    classifications = _dicts(batch.column("classifications"))
    attributes = _dicts(batch.column("attributes"))
    boxes = _boxes(batch.column("boxes"))
    for path, sha256, size, width, height, row in zip(*plain, strict=True):
        yield Item(path, sha256.hex(), size, width, height, next(classifications), next(boxes), next(attributes), row)


def _maps(maps: list[Mapping[str, str]]) -> Any:
    import pyarrow as pa

    keys = [key for values in maps for key in values]
    values = [value for pairs in maps for value in pairs.values()]
    return pa.MapArray.from_arrays(_offsets(map(len, maps)), pa.array(keys, pa.string()), pa.array(values, pa.string()))


def _offsets(lengths: Iterable[int]) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.concatenate([[0], np.cumsum(list(lengths), dtype=np.int64)]).astype(np.int32), pa.int32())


def _dicts(column: Any) -> Iterator[dict[str, str]]:
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    keys = column.keys.slice(first, last - first).to_pylist()
    values = column.items.slice(first, last - first).to_pylist()
    for start, end in pairwise(offsets):
        yield dict(zip(keys[start - first : end - first], values[start - first : end - first], strict=True))


def _boxes(column: Any) -> Iterator[tuple[Box, ...]]:
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    structs = column.values.slice(first, last - first)
    fields = [structs.field(name).to_pylist() for name in BOX_FIELDS]
    flat = [Box(*values) for values in zip(*fields, strict=True)]
    for start, end in pairwise(offsets):
        yield tuple(flat[start - first : end - first])
