"""NPZ and NPY files: arrays named like a model's inputs, items along their first axis; arrays `label` hold classes.

An array `label` holds the classes of the key `class`; `label.digit` those of `digit`. Nothing is ever unpickled.
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
"""Classification key of a plain `label` array, as of an image folder."""

_CHUNK = 16 * 2**20
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class TensorFile:
    """What a file of tensors holds.

    Attributes:
        rows: Number of items.
        arrays: Shape of one item and element type, by name; labels left out.
        labels: Class of every item, by key.
        bad: Why a row cannot be used, by row.
    """

    rows: int
    arrays: dict[str, str]
    labels: dict[str, list[str]]
    bad: dict[int, str]


def inspect(path: Path, name: str, budget: Budget) -> TensorFile:
    """Return what a file of tensors holds, after looking at every value: a row that holds NaN or infinity is bad.

    Args:
        path: The file.
        name: Its name for messages; an NPY's array is named like its file.
        budget: What its arrays count against.

    Raises:
        EngineFailure: INVALID_DATA if it is damaged, holds objects, or its arrays have different numbers of items.
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
                why = f"array '{array}' holds NaN or infinity"
                bad |= dict.fromkeys(header.rows_not_finite(file), why)
                arrays[array] = f"{header.dtype} {'*'.join(map(str, header.shape[1:])) or 'scalar'}"
    extents = {shape[0] for shape in shapes.values()}
    if len(extents) > 1:
        found = listed([f"{array} {shape[0]:,}" for array, shape in shapes.items()], 20)
        invalid(f"{name}: the first axes of the arrays differ, so it is not clear what an item is: {found}.")
    if not arrays:
        invalid(f"{name} holds only labels.", fix="Add arrays named like the model's inputs.")
    rows = extents.pop()
    if rows == 0:
        invalid(f"{name} holds no items: its arrays have 0 rows.")
    labels = {_key(array): _classes(_read(path, name, array), name, array, bad) for array in shapes if is_label(array)}
    return TensorFile(rows, arrays, labels, bad)


def load(path: Path, name: str) -> dict[str, Array]:
    """Return the arrays of a file by name, labels left out; those of an NPY are mapped from the disk.

    Raises:
        EngineFailure: INVALID_DATA where it cannot be read.
    """
    with _damaged(name):
        if not _is_zip(path):
            return {_stem(name): np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as arrays:
            return {array: arrays[array] for array in arrays.files if not is_label(array)}


def is_label(array: str) -> bool:
    """Say whether an array of this name holds classes."""
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
            invalid(f"{where} is of a version of the NPY format that only structured arrays have.")
        shape, fortran, dtype = readers[version](file)
        if dtype.hasobject:
            invalid(
                f"{where} holds Python objects, which are never loaded: they can carry code.",
                fix="Save arrays of numbers, all of one shape: numpy.savez(…, x=numpy.stack(rows)).",
            )
        if dtype.kind not in "biufUS":
            invalid(f"{where} holds {dtype}, which is neither a number, a truth value nor text.")
        if not shape:
            invalid(f"{where} holds a single value; items lie along the first axis.")
        count = math.prod(shape)
        if min(shape) < 0 or (shape[0] and not count * dtype.itemsize):
            # Rows without a byte cost nothing to claim, in any number.
            invalid(f"{where} has the shape {'*'.join(map(str, shape))} and the type {dtype}: it holds no values.")
        # A header can claim any shape: the bytes have to be there before memory is asked for.
        if count * dtype.itemsize > size - file.tell():
            invalid(f"{where} says that it holds {count:,} values, but its file ends before.")
        return cls(where, shape, fortran, dtype)

    def rows_not_finite(self, file: IO[bytes]) -> list[int]:
        """Read all values in pieces, and return the rows that hold one that is not finite."""
        step = max(1, _CHUNK // max(1, self.dtype.itemsize))
        left, first = math.prod(self.shape), 0
        found: set[int] = set()
        while left:
            data = file.read(min(step, left) * self.dtype.itemsize)
            if len(data) < min(step, left) * self.dtype.itemsize:
                invalid(f"{self.where} is cut off: {left:,} values are missing at its end.")
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
                invalid(f"{name} holds two arrays named '{member.filename.removesuffix('.npy')}'.")
            seen.add(member.filename)
            if not member.filename.endswith(".npy"):
                invalid(f"{name} holds '{member.filename}', which is not an array.", fix="Save it with numpy.savez.")
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
    """Return the class of each row; a row whose number is no class is added to the bad ones."""
    if values.ndim != 1:
        shape = "*".join(map(str, values.shape))
        invalid(f"{name}, array '{array}' has the shape {shape}; labels are one class per item.")
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values))
        for row in np.flatnonzero(~whole).tolist():
            bad[row] = f"array '{array}' holds {values[row]}, which is not a class"
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


# What reading damaged files raises; the last three come of headers that are no Python literal.
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
            f"{name} cannot be read as an NPZ or NPY file of plain arrays.",
            evidence=first_line(error),
            fix="Save it with numpy.savez or numpy.save, and upload it again.",
        )
