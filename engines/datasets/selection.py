"""A selection of items as a worker reads it: the index and the files of its items."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from engines.datasets.contents import CONTENT
from engines.datasets.dataset_import import import_files
from engines.datasets.index import INDEX, read_items
from engines.datasets.items import Item
from engines.datasets.tensors import load
from engines.failures import EngineFailure, FailureReason, count
from engines.imaging import Array, Image, decode


class Selection:
    """Selected items with their images or tensors.

    Attributes:
        folder: Contains `index.parquet` and `content/{sha256}`.
        warnings: Notes about parts of an uploaded file that were left out.
    """

    def __init__(self, folder: Path, warnings: Sequence[str] = ()) -> None:
        """Read from `folder`; nothing is opened yet."""
        self.folder = folder
        self.warnings = warnings
        self._opened: tuple[str, dict[str, Array]] = ("", {})

    @cached_property
    def items(self) -> Sequence[Item]:
        """The items, in their order.

        Raises:
            EngineFailure: INVALID_DATA if there are none.
        """
        items = read_items(self.folder / INDEX)
        if not items:
            raise EngineFailure(
                FailureReason.INVALID_DATA,
                "The selection contains no items.",
                suggested_fix="Choose a dataset with items.",
            )
        return items

    @property
    def is_tensors(self) -> bool:
        """True if the items are tensors, False if they are images."""
        first = self.items[0]
        return first.width == 0 and first.height == 0

    def image(self, item: Item) -> Image:
        """Return an item's image: bytes (rows, columns, 3) in BGR order, decoded at each call.

        Raises:
            EngineFailure: INVALID_DATA that names the item, if it is not an image or cannot be read.
        """
        try:
            return decode(self._file(item))
        except EngineFailure as failure:
            failure.message = f"{item.path}: {failure.message}"
            raise

    def tensors(self, item: Item) -> dict[str, Array]:
        """Return an item's tensors by name, without batch axis and without labels.

        The arrays of the last file stay open, so it is fastest to read items in their order.

        Raises:
            EngineFailure: INVALID_DATA that names the item, if its file cannot be read or has no such row.
        """
        if self._opened[0] != item.sha256:
            self._opened = (item.sha256, load(self._file(item), item.path))
        arrays = self._opened[1]
        if any(item.row >= len(array) for array in arrays.values()):
            raise EngineFailure(FailureReason.INVALID_DATA, f"{item.path} has no row {item.row}.")
        return {name: array[item.row] for name, array in arrays.items()}

    def _file(self, item: Item) -> Path:
        path = self.folder / CONTENT / item.sha256
        if not path.is_file():
            raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The file of {item.path} is missing.")
        return path


def unpack_selection(file: Path, folder: Path) -> Selection:
    """Return the selection in an uploaded file: an archive of images or of a dataset, one image, an NPZ or NPY.

    Args:
        file: The uploaded file; its name does not matter.
        folder: Folder for the selection.

    Raises:
        EngineFailure: INVALID_DATA if the file is unsafe, cannot be read, or contains no usable item.
    """
    report = import_files(file, folder)["report"]
    left_out = [
        count(report[f"dropped_{noun}s"], noun) for noun in ("item", "annotation") if report[f"dropped_{noun}s"]
    ]
    told = [f"Left out of the uploaded file: {' and '.join(left_out)}. {report['warnings'][0]}"] if left_out else []
    return Selection(folder, told)
