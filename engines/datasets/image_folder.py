"""Reads images in one folder per class: an image's class is the name of its folder, under the key `class`."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import ClassVar

from engines.datasets.found import Found, Notes
from engines.datasets.tensors import CLASS

FOLDER = "folder"
"""Attribute that holds the path above the class folder if there are several, for example `train` and `val`."""


class ImageFolder:
    """Reads images in the order of their paths."""

    tensors = False
    rows: ClassVar[dict[str, int]] = {}

    def __init__(self, paths: Iterable[str], *, classes: bool) -> None:
        """Read the images at `paths`.

        Args:
            paths: Paths of images.
            classes: True if a folder is a class even if it is the only one; otherwise images in a single folder have
                no class, for example images for calibration.
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
