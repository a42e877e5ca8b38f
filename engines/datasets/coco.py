"""Reads COCO detection files: one JSON or several, and the images that they name.

Annotations are kept as columns of numbers, not as objects, and joined to images and categories at the end, because a
file may hold its parts in any order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.datasets.files import Files
from engines.datasets.found import Found, Notes, invalid, listed
from engines.datasets.items import Box
from engines.datasets.json_stream import members
from engines.datasets.values import area, flag, number, texts

_NO_ATTRIBUTES = frozenset(
    ["id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured", "attributes"]
)
_UNKNOWN = -1
_LEFT_OUT = -2


class Coco:
    """Everything that COCO files say, image by image."""

    tensors = False
    rows: ClassVar[dict[str, int]] = {}

    def __init__(self, files: Files, names: Iterable[str]) -> None:
        """Read the files at `names`; images that several of them name are merged.

        Raises:
            EngineFailure: INVALID_DATA that names file and annotation where one is not as it should be.
        """
        self._notes = Notes()
        self._images: list[Found] = []
        self._labels: dict[str, int] = {}
        self._rows = _Rows()
        places: dict[str, int] = {}
        ordered = sorted(names)
        # Files of one data set often repeat each other: instances, keypoints.
        self._repeated = len(ordered) > 1
        for name in ordered:
            _CocoFile(name, files).into(places, self._images, self._labels, self._rows, self._notes)
        image = np.frombuffer(self._rows.image, np.int64)
        self._order = np.argsort(image, kind="stable")
        self._starts = np.searchsorted(image[self._order], np.arange(len(self._images) + 1))

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the images that are there, in the order of the files."""
        notes.extend(self._notes)
        labels = list(self._labels)
        for place, image in enumerate(self._images):
            rows = self._order[self._starts[place] : self._starts[place + 1]]
            boxes = [self._rows.box(int(row), labels) for row in rows]
            kept = dict.fromkeys(boxes) if self._repeated else boxes
            yield Found(image.path, {}, tuple(kept), image.attributes, image.size)


class _Rows:
    """Annotations as columns: the image's place, the label's, and the numbers."""

    def __init__(self) -> None:
        self.image = array("q")
        self.label = array("q")
        self.numbers = array("d")
        self.crowd = array("b")

    def box(self, row: int, labels: list[str]) -> Box:
        x, y, width, height, pixels = self.numbers[row * 5 : row * 5 + 5]
        known = None if pixels != pixels else pixels  # noqa: PLR0124 - NaN stands for unknown
        return Box(labels[self.label[row]], x, y, width, height, bool(self.crowd[row]), known)


class _CocoFile:
    """One JSON file: ids are its own."""

    def __init__(self, name: str, files: Files) -> None:
        self._name = name
        self._files = files
        self._image_ids: dict[Any, int] = {}
        self._category_ids: dict[Any, int] = {}
        self._rows = _Rows()
        self._images: dict[int, Mapping[str, Any]] = {}
        self._categories: dict[int, str] = {}
        self._boxless = 0
        readers = {"images": self._image, "annotations": self._annotation, "categories": self._category}
        for key, element in members(files[name], name):
            if key in readers:
                if not isinstance(element, dict):
                    invalid(f"{name}: '{key}' holds {str(element)[:80]!r}, which is no object.")
                readers[key](element)

    def into(
        self, places: dict[str, int], images: list[Found], labels: dict[str, int], rows: _Rows, notes: Notes
    ) -> None:
        """Add what the file holds to what the files before it held."""
        where = self._placed(places, images, notes)
        classes = np.full(len(self._category_ids), _UNKNOWN, np.int64)
        for number_, name in self._categories.items():
            classes[number_] = labels.setdefault(name, len(labels))
        image = where[np.frombuffer(self._rows.image, np.int64)]
        label = classes[np.frombuffer(self._rows.label, np.int64)]
        self._warn(image, label, notes)
        keep = (image >= 0) & (label >= 0)
        rows.image.frombytes(image[keep].tobytes())
        rows.label.frombytes(label[keep].tobytes())
        rows.numbers.frombytes(np.frombuffer(self._rows.numbers).reshape(-1, 5)[keep].tobytes())
        rows.crowd.frombytes(np.frombuffer(self._rows.crowd, np.int8)[keep].tobytes())

    def _placed(self, places: dict[str, int], images: list[Found], notes: Notes) -> NDArray[np.int64]:
        """Return for each image id of this file the place of its image."""
        where = np.full(len(self._image_ids), _UNKNOWN, np.int64)
        for number_, image in self._images.items():
            name = image["file_name"]
            path = self._files.find(name, self._name)
            if path is None:
                notes.drop(f"{self._name}: the image '{name}' is not among the files, or several files have its name.")
                where[number_] = _LEFT_OUT
            elif path in places:
                where[number_] = places[path]
            else:
                where[number_] = places[path] = len(images)
                images.append(self._found(path, image))
        return where

    def _found(self, path: str, image: Mapping[str, Any]) -> Found:
        at = f"{self._name}, image {image['id']}"
        extra = {key: value for key, value in image.items() if key not in _NO_ATTRIBUTES}
        scalars = {key: value for key, value in extra.items() if isinstance(value, str | int | float)}
        attributes = texts(scalars, at, "attributes") | texts(image.get("attributes"), at, "attributes")
        sides = [image.get("width"), image.get("height")]
        size = (sides[0], sides[1]) if all(isinstance(side, int) and side > 0 for side in sides) else None
        return Found(path, attributes=attributes, size=size)  # type: ignore[arg-type]

    def _image(self, image: dict[str, Any]) -> None:
        if not isinstance(image.get("file_name"), str) or image.get("id") is None:
            invalid(f"{self._name}: an image has no 'id' or no 'file_name': {str(image)[:200]}")
        place = self._intern(self._image_ids, image["id"], "image")
        if place in self._images:
            invalid(f"{self._name}: two images have the id {image['id']}.", fix="Give every image its own id.")
        kept = {key: value for key, value in image.items() if not key.endswith("_url") and key != "license"}
        self._images[place] = kept

    def _category(self, category: dict[str, Any]) -> None:
        if category.get("id") is None or not isinstance(category.get("name"), str):
            invalid(f"{self._name}: a category has no 'id' or no 'name': {str(category)[:200]}")
        place = self._intern(self._category_ids, category["id"], "category")
        if self._categories.setdefault(place, category["name"]) != category["name"]:
            invalid(f"{self._name}: two categories have the id {category['id']}.")

    def _annotation(self, annotation: dict[str, Any]) -> None:
        at = f"{self._name}, annotation {annotation.get('id', '?')}"
        box = annotation.get("bbox")
        if box is None:
            self._boxless += 1
            return
        if not isinstance(box, list) or len(box) != 4:
            invalid(f"{at}: 'bbox' is {str(box)[:80]}; it has to be [x, y, width, height].")
        numbers = [number(value, at, f"bbox[{place}]") for place, value in enumerate(box)]
        known = area(annotation.get("area"), at)
        self._rows.image.append(self._intern(self._image_ids, annotation.get("image_id"), at))
        self._rows.label.append(self._intern(self._category_ids, annotation.get("category_id"), at))
        self._rows.numbers.extend([*numbers, float("nan") if known is None else known])
        self._rows.crowd.append(flag(annotation.get("iscrowd"), at, "iscrowd"))

    def _intern(self, ids: dict[Any, int], value: object, at: str) -> int:
        if not isinstance(value, int | str):
            invalid(f"{self._name}, {at.removeprefix(f'{self._name}, ')}: the id {value!r} is no number and no text.")
        return ids.setdefault(value, len(ids))

    def _warn(self, image: NDArray[np.int64], label: NDArray[np.int64], notes: Notes) -> None:
        if self._boxless:
            notes.warn(f"{self._name}: {self._boxless:,} annotations have no 'bbox' and were left out.")
        for values, kind, ids in ((image, "images", self._image_ids), (label, "categories", self._category_ids)):
            source = self._rows.image if kind == "images" else self._rows.label
            unknown = np.frombuffer(source, np.int64)[values == _UNKNOWN]
            if len(unknown):
                names = list(ids)
                shown = listed([str(names[place]) for place in np.unique(unknown)])
                notes.warn(
                    f"{self._name}: {len(unknown):,} annotations name {kind} that the file does not list (ids {shown}) "
                    "and were left out."
                )
