"""Reads COCO detection files: one or several JSON files, and the images that they name.

Annotations are kept as columns of numbers, not as objects, and are joined with images and categories at the end,
because a file may contain its parts in any order. A malformed record is left out, counted and reported; the others
stay.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.datasets.files import Files
from engines.datasets.found import Found, Notes, invalid, listed
from engines.datasets.items import Box
from engines.datasets.json_stream import Unreadable, members
from engines.datasets.values import area, flag, number, size, texts
from engines.failures import EngineFailure, count

_NO_ATTRIBUTES = frozenset(
    ["id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured", "attributes"]
)
_UNKNOWN = -1
_LEFT_OUT = -2
_WHOLE = re.compile("-?(0|[1-9][0-9]{0,17})")

Id = int | str


class Coco:
    """The contents of COCO files, image by image."""

    tensors = False
    rows: ClassVar[dict[str, int]] = {}

    def __init__(self, files: Files, names: Iterable[str]) -> None:
        """Read the files at `names`; images that several of them name are merged.

        Raises:
            EngineFailure: INVALID_DATA if a file is not a JSON object.
        """
        self._notes = Notes()
        self._images: list[Found] = []
        self._labels: dict[str, int] = {}
        self._rows = _Rows()
        places: dict[str, int] = {}
        ordered = sorted(names)
        # Files of one dataset often repeat each other, for example instances and keypoints.
        self._repeated = len(ordered) > 1
        for name in ordered:
            _CocoFile(name, files, self._notes).into(places, self._images, self._labels, self._rows)
        image = np.frombuffer(self._rows.image, np.int64)
        self._order = np.argsort(image, kind="stable")
        self._starts = np.searchsorted(image[self._order], np.arange(len(self._images) + 1))

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the images that exist, in the order of the files."""
        notes.extend(self._notes)
        labels = list(self._labels)
        for place, image in enumerate(self._images):
            rows = self._order[self._starts[place] : self._starts[place + 1]]
            boxes = [self._rows.box(int(row), labels) for row in rows]
            kept = dict.fromkeys(boxes) if self._repeated else boxes
            yield Found(image.path, {}, tuple(kept), image.attributes, image.size)


class _Rows:
    """Annotations as columns: index of the image, index of the label, and the numbers."""

    def __init__(self) -> None:
        self.image = array("q")
        self.label = array("q")
        self.numbers = array("d")
        self.crowd = array("b")
        self.ids: list[object] = []

    def box(self, row: int, labels: list[str]) -> Box:
        x, y, width, height, pixels = self.numbers[row * 5 : row * 5 + 5]
        known = None if pixels != pixels else pixels  # noqa: PLR0124 - NaN stands for unknown
        origin = f"annotation {self.ids[row]}"
        return Box(labels[self.label[row]], x, y, width, height, bool(self.crowd[row]), known, origin)


class _CocoFile:
    """One JSON file; its ids are valid only within it."""

    def __init__(self, name: str, files: Files, notes: Notes) -> None:
        self._name = name
        self._files = files
        self._notes = notes
        self._image_ids: dict[Id, int] = {}
        self._category_ids: dict[Id, int] = {}
        self._rows = _Rows()
        self._images: dict[int, Mapping[str, Any]] = {}
        self._categories: dict[int, str] = {}
        self._boxless: list[object] = []
        readers: dict[str, tuple[Callable[[dict[str, Any]], None], Callable[[str], None]]] = {
            "images": (self._image, notes.drop),
            "annotations": (self._annotation, notes.drop_annotation),
            "categories": (self._category, notes.warn),
        }
        for key, element in members(files[name], name):
            if key in readers:
                read, leave_out = readers[key]
                try:
                    read(self._object(key, element))
                except EngineFailure as failure:
                    leave_out(failure.message)

    def into(self, places: dict[str, int], images: list[Found], labels: dict[str, int], rows: _Rows) -> None:
        """Add the file's contents to those of the files before it."""
        where = self._placed(places, images)
        classes = np.full(len(self._category_ids), _UNKNOWN, np.int64)
        for place, name in self._categories.items():
            classes[place] = labels.setdefault(name, len(labels))
        _match_by_value(self._category_ids, classes)
        image = where[np.frombuffer(self._rows.image, np.int64)]
        label = classes[np.frombuffer(self._rows.label, np.int64)]
        self._warn(image, label)
        keep = (image >= 0) & (label >= 0)
        rows.image.frombytes(image[keep].tobytes())
        rows.label.frombytes(label[keep].tobytes())
        rows.numbers.frombytes(np.frombuffer(self._rows.numbers).reshape(-1, 5)[keep].tobytes())
        rows.crowd.frombytes(np.frombuffer(self._rows.crowd, np.int8)[keep].tobytes())
        rows.ids += [self._rows.ids[row] for row in np.flatnonzero(keep)]

    def _placed(self, places: dict[str, int], images: list[Found]) -> NDArray[np.int64]:
        """Return the index of the image for each image id of this file."""
        where = np.full(len(self._image_ids), _UNKNOWN, np.int64)
        for number_, image in self._images.items():
            name = image["file_name"]
            path = self._files.find(name, self._name)
            if path is None:
                self._notes.drop(
                    f"{self._name}: the image '{name}' is not among the files, or several files have its name."
                )
                where[number_] = _LEFT_OUT
            elif path in places:
                where[number_] = places[path]
            else:
                try:
                    found = self._found(path, image)
                except EngineFailure as failure:
                    self._notes.drop(f"{failure.message} The image is left out.")
                    where[number_] = _LEFT_OUT
                    continue
                where[number_] = places[path] = len(images)
                images.append(found)
        _match_by_value(self._image_ids, where)
        return where

    def _found(self, path: str, image: Mapping[str, Any]) -> Found:
        at = f"{self._name}, image {image['id']}"
        extra = {key: value for key, value in image.items() if key not in _NO_ATTRIBUTES}
        scalars = {key: value for key, value in extra.items() if isinstance(value, str | int | float)}
        attributes = texts(scalars, at, "attributes") | texts(image.get("attributes"), at, "attributes")
        return Found(path, attributes=attributes, size=size(image))

    def _object(self, key: str, element: object) -> dict[str, Any]:
        if isinstance(element, Unreadable):
            invalid(
                f"{self._name}, line {element.line}: an entry of '{key}' contains half a character (a lone surrogate)."
            )
        if not isinstance(element, dict):
            invalid(f"{self._name}: '{key}' contains {str(element)[:80]!r}, which is not an object.")
        return element

    def _image(self, image: dict[str, Any]) -> None:
        if not isinstance(image.get("file_name"), str) or image.get("id") is None:
            invalid(f"{self._name}: an image has no 'id' or no 'file_name': {str(image)[:200]}")
        id_ = _id(image["id"], f"{self._name}, image '{image['file_name']}'", "id")
        place = self._image_ids.setdefault(id_, len(self._image_ids))
        if place in self._images:
            invalid(f"{self._name}: two images have the id {id_}; '{image['file_name']}' is left out.")
        self._images[place] = {key: value for key, value in image.items() if not key.endswith("_url")}

    def _category(self, category: dict[str, Any]) -> None:
        if category.get("id") is None or not isinstance(category.get("name"), str):
            invalid(f"{self._name}: a category has no 'id' or no 'name': {str(category)[:200]}")
        id_ = _id(category["id"], f"{self._name}, category '{category['name']}'", "id")
        place = self._category_ids.setdefault(id_, len(self._category_ids))
        if self._categories.setdefault(place, category["name"]) != category["name"]:
            first = self._categories[place]
            invalid(f"{self._name}: two categories have the id {id_}; '{first}' is used.")

    def _annotation(self, annotation: dict[str, Any]) -> None:
        own, of = annotation.get("id", "without id"), annotation.get("image_id")
        box = annotation.get("bbox")
        if box is None:
            self._boxless.append(own)
            return
        at = f"{self._name}, annotation {own} of image {of}"
        if not isinstance(box, list) or len(box) != 4:
            invalid(f"{at}: 'bbox' is {str(box)[:80]}; it must be [x, y, width, height].")
        numbers = [number(value, at, f"bbox[{place}]") for place, value in enumerate(box)]
        known = area(annotation.get("area"), at)
        crowd = flag(annotation.get("iscrowd"), at, "iscrowd")
        image, category = _id(of, at, "image_id"), _id(annotation.get("category_id"), at, "category_id")
        self._rows.image.append(self._image_ids.setdefault(image, len(self._image_ids)))
        self._rows.label.append(self._category_ids.setdefault(category, len(self._category_ids)))
        self._rows.numbers.extend([*numbers, float("nan") if known is None else known])
        self._rows.crowd.append(crowd)
        self._rows.ids.append(own)

    def _warn(self, image: NDArray[np.int64], label: NDArray[np.int64]) -> None:
        """Report the annotations that are left out because of what they refer to."""
        if self._boxless:
            boxless = count(len(self._boxless), "annotation has", "annotations have")
            shown = listed([str(own) for own in self._boxless])
            told = f"{self._name}: {boxless} no 'bbox'; left out: ids {shown}."
            self._notes.drop_annotation(told, len(self._boxless))
        if number := int(np.count_nonzero(image == _LEFT_OUT)):
            without = count(number, "annotation is", "annotations are")
            self._notes.drop_annotation(f"{self._name}: {without} left out with their images.", number)
        image_ids, category_ids = list(self._image_ids), list(self._category_ids)
        for row in np.flatnonzero((image == _UNKNOWN) | ((image >= 0) & (label == _UNKNOWN))):
            kind, id_ = (
                ("image", image_ids[self._rows.image[row]])
                if image[row] == _UNKNOWN
                else ("category", category_ids[self._rows.label[row]])
            )
            of = image_ids[self._rows.image[row]]
            self._notes.drop_annotation(
                f"{self._name}, annotation {self._rows.ids[row]} of image {of}: the file lists no {kind} {id_!r}."
            )


def _id(value: object, at: str, name: str) -> Id:
    """Return an id; an integer may be written as 1.0. Raises INVALID_DATA for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        invalid(f"{at}: '{name}' is {str(value)[:80]!r}; an id is an integer or a string.")
    return value


def _match_by_value(ids: Mapping[Id, int], places: NDArray[np.int64]) -> None:
    """Give an unknown id, for example 1, the index of the known id of the same value, for example "1"."""
    for id_, place in ids.items():
        if places[place] == _UNKNOWN:
            other = ids.get(str(id_) if isinstance(id_, int) else int(id_) if _WHOLE.fullmatch(id_) else id_)
            places[place] = _UNKNOWN if other is None else places[other]
