"""JSONL: one JSON object per line, for an image or a row of a tensor file.

    {"image": "a.png", "width": 32, "height": 24, "classifications": {"digit": "7"}, "attributes": {"scene": "night"},
     "boxes": [{"label": "7", "x": 4, "y": 2, "width": 8, "height": 8, "crowd": false, "area": 31.5}]}

For tensors a line has `{"tensors": "a.npz", "row": 3, …}` instead of `image`. A malformed line or box is left out,
counted and reported; the others stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from engines.datasets.files import Files
from engines.datasets.found import Found, Notes, invalid
from engines.datasets.items import Box, Item
from engines.datasets.json_stream import holds_half_character
from engines.datasets.values import area, classifications, flag, number, size, text, texts
from engines.failures import EngineFailure

_FIELDS = frozenset({"image", "width", "height", "tensors", "row", "classifications", "boxes", "attributes"})
_BOX_FIELDS = frozenset({"label", "x", "y", "width", "height", "crowd", "area"})


def to_line(item: Item) -> str:
    """Return an item as a line, without the line break; `Jsonl` reads it back."""
    place: dict[str, Any] = {"tensors": item.path, "row": item.row}
    if item.width:
        place = {"image": item.path, "width": item.width, "height": item.height}
    if item.classifications:
        place["classifications"] = dict(item.classifications)
    if item.boxes:
        place["boxes"] = [box.to_dict() for box in item.boxes]
    if item.attributes:
        place["attributes"] = dict(item.attributes)
    return json.dumps(place, ensure_ascii=False)


class Jsonl:
    """Reads annotation lines in their order."""

    rows: ClassVar[dict[str, int]] = {}

    def __init__(self, files: Files, names: Iterable[str]) -> None:
        """Read the files at `names`."""
        self._files = files
        self._names = sorted(names)
        objects = (values for _, values in self._lines() if not isinstance(values, EngineFailure))
        self.tensors = "tensors" in next(objects, {})

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the items of the lines in their order, and note each malformed line and box."""
        seen: dict[tuple[str, int], str] = {}
        unknown: set[str] = set()
        for at, values in self._lines():
            if isinstance(values, EngineFailure):
                notes.drop(values.message)
                continue
            for field in sorted(values.keys() - _FIELDS - unknown):
                unknown.add(field)
                notes.warn(f"{at}: the field '{field}' is unknown and ignored; put attributes under 'attributes'.")
            try:
                name, row = self._place(values, at)
                path = self._files.find(name, at.rpartition(", line ")[0])
                if path is None:
                    invalid(f"{at}: '{name}' is not among the files, or several files have its name.")
                if (path, row) in seen:
                    invalid(f"{at}: '{name}' already occurs in {seen[path, row]}; this line is left out.")
                item = _found(path, row, values, at, notes)
            except EngineFailure as failure:
                notes.drop(failure.message)
                continue
            seen[path, row] = at
            yield item

    def _place(self, values: dict[str, Any], at: str) -> tuple[str, int]:
        field = "tensors" if self.tensors else "image"
        name, row = values.get(field), values.get("row", 0)
        if not isinstance(name, str) or not name:
            invalid(f"{at}: '{field}' is missing; every line must name its file.")
        if not isinstance(row, int) or isinstance(row, bool) or row < 0:
            invalid(f"{at}: 'row' is {row!r}; it must be an integer of 0 or more.")
        return name, row if self.tensors else 0

    def _lines(self) -> Iterator[tuple[str, dict[str, Any] | EngineFailure]]:
        """Yield the place of each line, and its object or the failure."""
        for name in self._names:
            with self._files[name].open("rb") as file:
                for number_, line in enumerate(file, 1):
                    stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
                    if stripped:
                        at = f"{name}, line {number_}"
                        try:
                            yield at, _object(stripped, at)
                        except EngineFailure as failure:
                            yield at, failure


def _object(line: bytes, at: str) -> dict[str, Any]:
    try:
        written = line.decode()
        values = json.loads(written)
    except UnicodeDecodeError:
        invalid(f"{at}: this is not UTF-8 text.")
    except (ValueError, RecursionError) as error:  # also raised for numbers with thousands of digits
        invalid(f"{at}: this is not valid JSON: {error}.", fix="Write one complete JSON object per line.")
    if holds_half_character(written, values):
        invalid(f"{at}: this is not valid JSON: half a character (a lone surrogate).", fix="Write the text as UTF-8.")
    if not isinstance(values, dict):
        invalid(f"{at}: this is not a JSON object.", fix="Write one complete JSON object per line.")
    return values


def _found(path: str, row: int, values: dict[str, Any], at: str, notes: Notes) -> Found:
    boxes = [] if values.get("boxes") is None else values["boxes"]
    if not isinstance(boxes, list):
        invalid(f"{at}: 'boxes' is not a list.")
    classes = classifications(values.get("classifications"), at)
    attributes = texts(values.get("attributes"), at, "attributes")
    kept = []
    for place, box in enumerate(boxes, 1):
        try:
            kept.append(_box(box, f"{at}, box {place}"))
        except EngineFailure as failure:
            notes.drop_annotation(failure.message)
    return Found(path, classes, tuple(kept), attributes, size(values) if "image" in values else None, row)


def _box(values: object, at: str) -> Box:
    if not isinstance(values, dict):
        invalid(f"{at}: this is not an object.")
    if missing := [field for field in ("label", "x", "y", "width", "height") if values.get(field) is None]:
        invalid(f"{at}: '{missing[0]}' is missing.")
    if unknown := sorted(values.keys() - _BOX_FIELDS):
        invalid(f"{at}: the field '{unknown[0]}' is unknown; a box has {', '.join(sorted(_BOX_FIELDS))}.")
    return Box(
        text(values["label"], at, "label"),
        number(values["x"], at, "x"),
        number(values["y"], at, "y"),
        number(values["width"], at, "width"),
        number(values["height"], at, "height"),
        flag(values.get("crowd"), at, "crowd"),
        area(values.get("area"), at),
        at,
    )
