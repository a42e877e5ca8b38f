"""A selection of items as a worker reads it: the index, and the files that it names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from engines.datasets.contents import CONTENT
from engines.datasets.dataset_import import import_files
from engines.datasets.index import INDEX, read_items
from engines.datasets.items import Item
from engines.datasets.tensors import load
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Array, Image, decode


class Selection:
    """Chosen items, with their images or tensors.

    Attributes:
        folder: Holds `index.parquet` and `content/{sha256}`.
        warnings: What of an uploaded file was left out.
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
            EngineFailure: INVALID_DATA where there is none.
        """
        items = read_items(self.folder / INDEX)
        if not items:
            raise EngineFailure(
                FailureReason.INVALID_DATA,
                "The selection holds no items.",
                suggested_fix="Choose a dataset that holds items, or a larger count.",
            )
        return items

    @property
    def is_tensors(self) -> bool:
        """True where the items are tensors, False where they are images."""
        first = self.items[0]
        return first.width == 0 and first.height == 0

    def image(self, item: Item) -> Image:
        """Return an item's image, bytes (rows, columns, 3) in blue, green, red, decoded anew at each call.

        Raises:
            EngineFailure: INVALID_DATA that names the item where it is no image, or cannot be read.
        """
        try:
            return decode(self._file(item))
        except EngineFailure as failure:
            failure.message = f"{item.path}: {failure.message}"
            raise

    def tensors(self, item: Item) -> dict[str, Array]:
        """Return an item's tensors by name, without batch axis and without labels.

        The arrays of the file that was read last stay open, so read items in their order.

        Raises:
            EngineFailure: INVALID_DATA that names the item where its file cannot be read or has no such row.
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
            raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The file of {item.path} is not in the selection.")
        return path


def unpack_selection(file: Path, folder: Path) -> Selection:
    """Return the selection in an uploaded file: an archive of images or of a dataset, one image, an NPZ or NPY.

    Args:
        file: What was uploaded; its name does not matter.
        folder: Where the selection is laid out.

    Raises:
        EngineFailure: INVALID_DATA where the file is unsafe, cannot be read, or holds nothing to use.
    """
    report = import_files(file, folder)["report"]
    left_out = [
        f"{report[f'dropped_{what}']:,} {what}" for what in ("items", "annotations") if report[f"dropped_{what}"]
    ]
    told = [f"{' and '.join(left_out)} of the uploaded file were left out: {report['warnings'][0]}"] if left_out else []
    return Selection(folder, told)
