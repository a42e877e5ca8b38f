"""Arrays that a form's process and its parent hand to each other in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from engines.tensors import Array, Arrays

PART_BYTES = 64 << 20
"""Most bytes of feeds that lie in a process together, unless one feed is larger."""


def write_arrays(path: Path, sets: list[Arrays]) -> list[list[str]]:
    """Write sets of arrays to one NPZ file, by position; return the names of each set, for `read_arrays`."""
    flat = [array for arrays in sets for array in arrays.values()]
    np.savez(path, **{str(position): array for position, array in enumerate(flat)})  # type: ignore[arg-type]
    return [list(arrays) for arrays in sets]


def read_arrays(path: Path, names: list[list[str]]) -> list[Arrays]:
    """Return what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as loaded:
        positions = iter(range(sum(map(len, names))))
        return [{name: loaded[str(next(positions))] for name in group} for group in names]


def parts(feeds: Sequence[Mapping[str, Array]]) -> Iterator[list[Mapping[str, Array]]]:
    """Yield the feeds in order, in groups of at most `PART_BYTES`, or of one that is larger."""
    part: list[Mapping[str, Array]] = []
    size = 0
    for feed in feeds:
        own = sum(array.nbytes for array in feed.values())
        if part and size + own > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(feed)
        size += own
    if part:
        yield part
