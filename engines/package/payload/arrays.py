"""Inputs and outputs of a component: checks, random values and files. Used by `infer.py`, in the same folder."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

OPEN = 2**31 - 1
"""Largest extent of an axis that has no known upper bound."""


class InputError(ValueError):
    """An input that the package does not take; the message names it, and says why and what to give."""


def checked(entry: dict[str, Any], array: Any, batch_axis: int | None) -> Any:
    """Return an array in the element type of an input of the manifest; its batch may have any size.

    Raises:
        InputError: its element type, shape or values do not fit.
    """
    name, dtype = entry["name"], _dtype(entry)
    if not np.can_cast(array.dtype, dtype, "same_kind") or (array.dtype.kind == "U") != (dtype.kind == "U"):
        raise InputError(f"input {name!r} takes {entry['dtype']}, not {array.dtype}")
    shape = entry.get("shape")
    if shape is not None:
        low, high = shape["min"], shape["max"]
        fits = len(array.shape) == len(low) and all(
            a <= extent and (extent <= b or axis == batch_axis)
            for axis, (a, extent, b) in enumerate(zip(low, array.shape, high, strict=True))
        )
        if not fits:
            ends = zip(low, high, strict=True)
            wanted = " * ".join(str(a) if a == b else f"{a}..{b}" if b != OPEN else "any" for a, b in ends) or "scalar"
            given = " * ".join(map(str, array.shape)) or "scalar"
            raise InputError(f"input {name!r} takes the shape {wanted}, not {given}")
    made = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(made, array):
        raise InputError(f"input {name!r} takes {dtype}, which cannot hold all of the given values")
    return np.ascontiguousarray(made) if made.ndim else made


def _dtype(entry: dict[str, Any]) -> Any:
    return np.dtype(np.str_ if entry["dtype"] == "string" else entry["dtype"])


def rows(array: Any, batch_axis: int | None, start: int, stop: int) -> Any:
    """Return some samples of an array; all of it if it has no batch axis."""
    return array if batch_axis is None else array[(*[slice(None)] * batch_axis, slice(start, stop))]


def random(rng: Any, entry: dict[str, Any], batch: int, batch_axis: int | None) -> Any:
    """Return random values for an input of the manifest; the stated values if it has any."""
    shape = list(entry.get("shape", {"opt": []})["opt"])
    (low, high), dtype = entry.get("range", [0.0, 1.0]), _dtype(entry)
    if batch_axis is not None:
        shape[batch_axis] = 1 if "value" in entry else batch
    if "value" in entry:
        values = entry["value"]
        one = (np.full(shape, values[0]) if len(values) == 1 else np.reshape(values, shape)).astype(dtype)
        return one if batch_axis is None else np.repeat(one, batch, batch_axis)
    if dtype.kind == "U":
        return np.full(shape, "")
    if dtype.kind == "f":
        return rng.uniform(low, high, shape).astype(dtype)
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


def load(path: str) -> Any:
    """Return the array of an .npy file, or the arrays of an .npz by name."""
    loaded = np.load(path, allow_pickle=False)
    return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded


def write_npz(file: Any, arrays: dict[str, Any]) -> None:
    """Write arrays under any names; numpy.savez takes none of its own parameters, such as `file`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def save(path: str, outputs: dict[str, Any]) -> None:
    """Write outputs to an .npz, or one output to an .npy."""
    if path.endswith(".npy"):
        if len(outputs) != 1:
            raise InputError(f"an .npy holds one output, and there are {len(outputs)}: write an .npz")
        np.save(path, next(iter(outputs.values())))
    else:
        write_npz(path if path.endswith(".npz") else f"{path}.npz", outputs)
