"""Reads datasets of tensors: NPZ files, and folders of NPY files with one array each."""

from __future__ import annotations

import posixpath
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from engines.datasets.archives import BombError
from engines.datasets.files import Files
from engines.datasets.found import Found, Notes, invalid
from engines.datasets.tensors import TensorFile, inspect
from engines.failures import EngineFailure

MAX_ROWS = 10_000_000
"""Most rows of all files: every row becomes an item, and small rows compress to almost nothing."""


class TensorReader:
    """Reads tensor files in the order of their paths; each row is an item."""

    tensors = True

    def __init__(self, files: dict[str, TensorFile], notes: Notes) -> None:
        """Read from inspected files, by path; `notes` tell which could not be read."""
        self._files = files
        self._notes = notes
        self.rows = {path: file.rows for path, file in files.items()}

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the usable rows."""
        notes.extend(self._notes)
        for path, file in self._files.items():
            for row in range(file.rows):
                if row in file.bad:
                    notes.drop(f"{path}, row {row}: {file.bad[row]}; the row is left out.")
                    continue
                yield Found(path, {key: values[row] for key, values in file.labels.items()}, row=row)


def tensor_reader(files: Files, paths: Iterable[str], scratch: Path) -> tuple[TensorReader, dict[str, Path]]:
    """Return a reader of tensor files, and the file of each of its paths.

    NPY files in one folder are arrays of the same items and are stored as one NPZ.

    Raises:
        EngineFailure: INVALID_DATA if two files hold different arrays.
    """
    stored = _joined(files, paths, scratch)
    found: dict[str, TensorFile] = {}
    notes = Notes()
    for path, file in stored.items():
        try:
            found[path] = inspect(file, path, files.budget)
        except BombError:
            raise
        except EngineFailure as failure:
            notes.drop_failed(failure, "the file")
            continue
        first = next(iter(found))
        if found[path].arrays != found[first].arrays:
            invalid(
                f"{path} and {first} contain different arrays: {_written(found[path])}, and {_written(found[first])}.",
                fix="Use the same arrays in every file: one per input of the model, with one type and shape per item.",
            )
    rows = sum(file.rows for file in found.values())
    if rows > MAX_ROWS:
        invalid(
            f"The files contain {rows:,} items; at most {MAX_ROWS:,} are allowed.",
            fix="Split the data into several datasets. Every row along the first axis of an array is an item.",
        )
    return TensorReader(found, notes), stored


def _joined(files: Files, paths: Iterable[str], scratch: Path) -> dict[str, Path]:
    folders: defaultdict[str, list[str]] = defaultdict(list)
    stored: dict[str, Path] = {}
    for path in sorted(paths):
        if path.lower().endswith(".npy"):
            folders[posixpath.dirname(path)].append(path)
        else:
            stored[path] = files[path]
    for number, (folder, arrays) in enumerate(folders.items()):
        if len(arrays) == 1:
            stored[arrays[0]] = files[arrays[0]]
            continue
        joined = scratch / "joined" / f"{number}.npz"
        joined.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(joined, "w", zipfile.ZIP_STORED) as archive:
            for path in arrays:
                # With a fixed time, equal arrays give equal bytes.
                member = zipfile.ZipInfo(posixpath.basename(path), (1980, 1, 1, 0, 0, 0))
                with files[path].open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                    while chunk := source.read(2**20):
                        target.write(chunk)
        stored[posixpath.join(folder, "tensors.npz")] = joined
    return dict(sorted(stored.items()))


def _written(file: TensorFile) -> str:
    return ", ".join(f"{name} ({array})" for name, array in sorted(file.arrays.items()))
