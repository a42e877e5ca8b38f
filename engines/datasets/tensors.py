"""NPZ and NPY files: arrays named like a model's inputs, items along their first axis, classes in arrays `label`.

The array `label` has the classes of the key `class`, `label.digit` those of `digit`. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from engines.datasets.archives import Budget, open_member
from engines.datasets.found import invalid, listed
from engines.failures import first_line
from engines.imaging import Array

CLASS = "class"
"""Classification key of a plain `label` array, and of an image folder."""

_CHUNK = 16 * 2**20
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class TensorFile:
    """The contents of a tensor file.

    Attributes:
        rows: Number of items.
        arrays: Element type and shape of one item, by name, without labels.
        labels: Class of every item, by key.
        bad: Reason why a row cannot be used, by row.
    """

    rows: int
    arrays: dict[str, str]
    labels: dict[str, list[str]]
    bad: dict[int, str]


def inspect(path: Path, name: str, budget: Budget) -> TensorFile:
    """Return the contents of a tensor file after checking every value: a row with NaN or infinity is bad.

    Args:
        path: The file.
        name: Its name for messages; the array of an NPY is named like its file.
        budget: Limits the size of its arrays.

    Raises:
        EngineFailure: INVALID_DATA if it is damaged, contains objects, or its arrays have different numbers of items.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    arrays: dict[str, str] = {}
    bad: dict[int, str] = {}
    with _damaged(name):
        for array, file, size in _members(path, name):
            budget.take(size)
            header = _Header.read(file, f"{name}, array '{array}'", size)
            shapes[array] = header.shape
            if not is_label(array):
                why = f"array '{array}' contains NaN or infinity"
                bad |= dict.fromkeys(header.rows_not_finite(file), why)
                arrays[array] = f"{header.dtype} {'*'.join(map(str, header.shape[1:])) or 'scalar'}"
    extents = {shape[0] for shape in shapes.values()}
    if len(extents) > 1:
        found = listed([f"{array} {shape[0]:,}" for array, shape in shapes.items()], 20)
        invalid(f"{name}: the arrays differ in their first axis, so the number of items is unclear: {found}.")
    if not arrays:
        invalid(f"{name} contains only labels.", fix="Add arrays named like the model's inputs.")
    rows = extents.pop()
    if rows == 0:
        invalid(f"{name} contains no items: its arrays have 0 rows.")
    labels = {_key(array): _classes(_read(path, name, array), name, array, bad) for array in shapes if is_label(array)}
    return TensorFile(rows, arrays, labels, bad)


def load(path: Path, name: str) -> dict[str, Array]:
    """Return the arrays of a file by name, without labels; the array of an NPY is memory-mapped.

    Raises:
        EngineFailure: INVALID_DATA if it cannot be read.
    """
    with _damaged(name):
        if not _is_zip(path):
            return {_stem(name): np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as arrays:
            return {array: arrays[array] for array in arrays.files if not is_label(array)}


def is_label(array: str) -> bool:
    """Return whether an array of this name contains classes."""
    return array == "label" or array.startswith("label.")


@dataclass(frozen=True)
class _Header:
    where: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @classmethod
    def read(cls, file: IO[bytes], where: str, size: int) -> _Header:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            invalid(f"{where} has a version of the NPY format that is only used for structured arrays.")
        shape, fortran, dtype = readers[version](file)
        if dtype.hasobject:
            invalid(
                f"{where} contains Python objects, which are never loaded because they can contain code.",
                fix="Save numeric arrays: numpy.savez(…, x=numpy.stack(rows)) of rows with one shape.",
            )
        if dtype.kind not in "biufUS":
            invalid(f"{where} has the type {dtype}; it must contain numbers, booleans or text.")
        if not shape:
            invalid(f"{where} is a single value; the first axis must be that of the items.")
        count = math.prod(shape)
        if min(shape) < 0 or (shape[0] and not count * dtype.itemsize):
            # A header can claim any number of rows if a row has no bytes.
            invalid(f"{where} has the shape {'*'.join(map(str, shape))} and the type {dtype}: it contains no values.")
        # A header can claim any shape, so the bytes must be there before memory is allocated.
        if count * dtype.itemsize > size - file.tell():
            invalid(f"{where} should contain {count:,} values, but its file ends before.")
        return cls(where, shape, fortran, dtype)

    def rows_not_finite(self, file: IO[bytes]) -> list[int]:
        """Read all values in pieces, and return the rows with a value that is not finite."""
        step = max(1, _CHUNK // max(1, self.dtype.itemsize))
        left, first = math.prod(self.shape), 0
        found: set[int] = set()
        while left:
            data = file.read(min(step, left) * self.dtype.itemsize)
            if len(data) < min(step, left) * self.dtype.itemsize:
                invalid(f"{self.where} is truncated: {left:,} values are missing at its end.")
            if self.dtype.kind == "f":
                bad = np.flatnonzero(~np.isfinite(np.frombuffer(data, self.dtype))) + first
                rows = np.unravel_index(bad, self.shape, order="F" if self.fortran else "C")[0]
                found.update(np.unique(rows).tolist())
            first += min(step, left)
            left -= min(step, left)
        return sorted(found)


def _members(path: Path, name: str) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield name, stream and size in bytes of each array."""
    if not _is_zip(path):
        with path.open("rb") as file:
            yield _stem(name), file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        seen: set[str] = set()
        for member in archive.infolist():
            if member.filename in seen:
                invalid(f"{name} contains two arrays named '{member.filename.removesuffix('.npy')}'.")
            seen.add(member.filename)
            if not member.filename.endswith(".npy"):
                invalid(f"{name} contains '{member.filename}', which is not an array.", fix="Save it with numpy.savez.")
            with open_member(archive, member, f"{name}, array '{member.filename.removesuffix('.npy')}'") as opened:
                yield member.filename.removesuffix(".npy"), opened, member.file_size


def _read(path: Path, name: str, array: str) -> Array:
    with _damaged(name):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            values: Array = loaded[array]
            return values


def _classes(values: Array, name: str, array: str, bad: dict[int, str]) -> list[str]:
    """Return the class of each row; a row whose number is not a class is added to the bad ones."""
    if values.ndim != 1:
        shape = "*".join(map(str, values.shape))
        invalid(f"{name}, array '{array}' has the shape {shape}; labels must be one class per item.")
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values))
        for row in np.flatnonzero(~whole).tolist():
            bad[row] = f"array '{array}' contains {values[row]}, which is not a class"
        values = np.where(whole, values, 0).astype(np.int64)
    if values.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _key(array: str) -> str:
    return array.partition(".")[2] or CLASS


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _ZIP


# Errors of reading damaged files; the last three come from headers that are not a Python literal.
_ERRORS = (
    *(ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError),
    *(SyntaxError, RecursionError, tokenize.TokenError),
)


@contextmanager
def _damaged(name: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        invalid(
            f"{name} is not a valid NPZ or NPY file of plain arrays.",
            evidence=first_line(error),
            fix="Save it with numpy.savez or numpy.save, and upload it again.",
        )
