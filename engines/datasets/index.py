"""The index of a dataset: a Parquet file with one row per item and the columns of `columns.py`.

Each function reads only the row groups and columns that it needs, and builds only the items that it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.datasets.columns import ROW_GROUP, from_batch, schema, to_batch
from engines.datasets.items import Item
from engines.datasets.masks import COLUMNS, Mask
from engines.datasets.summary import IndexSummary, Tally
from engines.failures import EngineFailure, FailureReason, first_line

INDEX = "index.parquet"
"""Name of the file."""

_ENCODED = ["classifications.key_value.key", "classifications.key_value.value"]
_ENCODED += ["attributes.key_value.key", "attributes.key_value.value", "boxes.list.element.label"]
_SHA256_BYTES = 32


def write_index(path: Path, items: Iterable[Item]) -> IndexSummary:
    """Write items as an index, in their order, and return its summary. One row group is in memory at a time."""
    tally = Tally()
    with _writer(path) as writer:
        iterator = iter(items)
        while rows := list(islice(iterator, ROW_GROUP)):
            for item in rows:
                tally.add(item)
            writer.write_batch(to_batch(rows), row_group_size=ROW_GROUP)
    return tally.summary()


def count(path: Path) -> int:
    """Return the number of items."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def iterate(path: Path) -> Iterator[Item]:
    """Yield every item, in order; one row group is in memory at a time."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            for batch in file.read_row_group(group).to_batches():
                yield from from_batch(batch)


def read_items(path: Path) -> list[Item]:
    """Return every item, in order."""
    return list(iterate(path))


def item(path: Path, number: int) -> Item:
    """Return the item of a number, from 0; raises IndexError if it does not exist."""
    with _opened(path) as file:
        if not 0 <= number < file.metadata.num_rows:
            raise IndexError(f"The dataset has no item {number}; it has {file.metadata.num_rows:,} items.")
        return next(iter(_rows(file, np.array([number]))))[1]


def page(
    path: Path, start: int, limit: int, mask: Mask | None = None, columns: Sequence[str] = COLUMNS
) -> tuple[list[tuple[int, Item]], int | None]:
    """Return a page of items.

    Args:
        path: The index.
        start: Number of the first item to consider.
        limit: Most items to return.
        mask: Says of a batch which items to return (see `masks`); all without one.
        columns: The columns of `COLUMNS` that the mask looks at; no others are read for it.

    Returns:
        The items with their numbers, and the number at which the next page starts, or None after the last page.
    """
    with _opened(path) as file:
        if mask is None:
            rows = file.metadata.num_rows
            numbers = np.arange(min(start, rows), min(start + limit + 1, rows))
        else:
            numbers = _matching(file, start, limit + 1, mask, columns)
        more = int(numbers[limit]) if len(numbers) > limit else None
        return list(_rows(file, numbers[:limit])), more


def choose(path: Path, out: Path, count: int, seed: int) -> int:
    """Write an index of `count` items chosen at random, in their order.

    Args:
        path: The index to choose from.
        out: The index to write.
        count: Number of items; all if 0 or if there are fewer.
        seed: Seed of the choice.

    Returns:
        The number of items written.
    """
    with _opened(path) as file, _writer(out) as writer:
        rows = int(file.metadata.num_rows)
        if not count or count >= rows:
            numbers = np.arange(rows)
        else:
            numbers = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False, shuffle=False))
        for table in _tables(file, numbers):
            writer.write_table(table, row_group_size=ROW_GROUP)
        return len(numbers)


def contents(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (sha256, size in bytes) of every file of the items, each once, in the order of the digests.

    NumPy sorts them, with about 150 bytes each, and releases the interpreter lock meanwhile.
    """
    with _opened(path) as file:
        digests, sizes = (
            np.empty((file.metadata.num_rows, _SHA256_BYTES), np.uint8),
            np.empty(file.metadata.num_rows, np.int64),
        )
        first = 0
        for group in range(file.num_row_groups):
            for batch in file.read_row_group(group, columns=["sha256", "size_bytes"], use_threads=False).to_batches():
                rows = slice(first, first + batch.num_rows)
                digests[rows] = np.frombuffer(b"".join(batch["sha256"].to_pylist()), np.uint8).reshape(
                    -1, _SHA256_BYTES
                )
                sizes[rows] = batch["size_bytes"].to_numpy()
                first = rows.stop
    words = digests.view(">u8")
    order = np.lexsort(words.T[::-1])
    new = np.ones(len(order), np.bool_)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    for place in order[new]:
        yield digests[place].tobytes().hex(), int(sizes[place])


def _matching(file: Any, start: int, wanted: int, mask: Mask, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return the numbers of the first `wanted` items from `start` on that the mask lets through."""
    found: list[NDArray[np.int64]] = []
    missing, first = wanted, 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first + rows > start and missing > 0:
            table = file.read_row_group(group, columns=list(columns), use_threads=False)
            numbers = np.flatnonzero(mask(table.to_batches()[0])) + first
            numbers = numbers[numbers >= start][:missing]
            found.append(numbers)
            missing -= len(numbers)
        first += rows
    return np.concatenate([*found, np.array([], np.int64)])


def _rows(file: Any, numbers: NDArray[np.int64]) -> Iterator[tuple[int, Item]]:
    """Yield the items of these ascending numbers."""
    items = (item for table in _tables(file, numbers) for batch in table.to_batches() for item in from_batch(batch))
    return zip(map(int, numbers), items, strict=True)


def _tables(file: Any, numbers: NDArray[np.int64]) -> Iterator[Any]:
    """Yield the rows of these ascending numbers as tables; row groups without any of them are not read."""
    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        inside = numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, first + rows)] - first
        first += rows
        if not len(inside):
            continue
        table = file.read_row_group(group)
        # A contiguous run of rows is a view; other rows are copied.
        run = int(inside[-1] - inside[0]) + 1 == len(inside)
        yield table.slice(int(inside[0]), len(inside)) if run else table.take(inside)


def _writer(path: Path) -> Any:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    # Digests are all different, so a dictionary of them only costs. Statistics of nested columns prune nothing.
    return pq.ParquetWriter(
        path,
        schema(),
        compression="zstd",
        use_dictionary=[*_ENCODED, "size_bytes", "width", "height"],
        write_statistics=False,
    )


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _no_index(first_line(error)) from error
    if not file.schema_arrow.equals(schema()):
        raise _no_index(f"its columns are {', '.join(file.schema_arrow.names)}")
    return file


def _no_index(why: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_DATA, "The file is not the index of a dataset.", evidence=why)
