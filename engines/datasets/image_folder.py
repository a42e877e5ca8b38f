"""Reads one folder of images per class: the class is the folder that an image lies in, under the key `class`."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import ClassVar

from engines.datasets.found import Found, Notes
from engines.datasets.tensors import CLASS

FOLDER = "folder"
"""Attribute that tells what lies above the class folders apart, as `train` and `val`."""


class ImageFolder:
    """Reads images in the order of their paths."""

    tensors = False
    rows: ClassVar[dict[str, int]] = {}

    def __init__(self, paths: Iterable[str], *, classes: bool) -> None:
        """Read the images at `paths`.

        Args:
            paths: Paths of images.
            classes: True where folders are classes even if there is only one; otherwise the images of a single folder
                have no class, as a folder of images for calibration has none.
        """
        self._paths = sorted(paths)
        folders = {posixpath.dirname(path) for path in self._paths}
        self._classes = classes or len(folders) > 1
        above = {posixpath.dirname(folder) for folder in folders if folder}
        self._common = posixpath.commonpath(above) if above else ""
        self._split = len(above) > 1

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the images."""
        for path in self._paths:
            folder = posixpath.dirname(path)
            if not (self._classes and folder):
                yield Found(path)
                continue
            above = posixpath.relpath(posixpath.dirname(folder) or ".", self._common or ".")
            attributes = {FOLDER: above} if self._split and above != "." else {}
            yield Found(path, {CLASS: posixpath.basename(folder)}, attributes=attributes)
