"""Counts the contents of an index while it is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from engines.datasets.items import LABEL, Item

MAX_VALUES = 10_000
"""Most classes, and most attribute values, that a summary lists."""


@dataclass(frozen=True)
class IndexSummary:
    """The contents of an index in numbers.

    Attributes:
        count: Number of items.
        boxes: Number of boxes.
        size_bytes: Total size of all files, each counted once.
        classes: `{"key", "value", "count"}`, most frequent first; boxes are counted under the key `label`.
        attributes: The same for attributes.
    """

    count: int
    boxes: int
    size_bytes: int
    classes: list[dict[str, Any]]
    attributes: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary with the field names of `lathe.registry.v1.Dataset`."""
        return {
            "item_count": self.count,
            "size_bytes": self.size_bytes,
            "classes": self.classes,
            "attributes": self.attributes,
        }


class Tally:
    """Counts items one by one."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.count = 0
        self.boxes = 0
        self.size_bytes = 0
        self._contents: set[bytes] = set()
        self._classes: Counter[tuple[str, str]] = Counter()
        self._attributes: Counter[tuple[str, str]] = Counter()

    def add(self, item: Item) -> None:
        """Count an item."""
        self.count += 1
        self.boxes += len(item.boxes)
        content = bytes.fromhex(item.sha256)
        if content not in self._contents:
            self._contents.add(content)
            self.size_bytes += item.size_bytes
        self._classes.update(item.classifications.items())
        for box in item.boxes:
            self._classes[LABEL, box.label] += 1
        self._attributes.update(item.attributes.items())

    def summary(self) -> IndexSummary:
        """Return the counts."""
        return IndexSummary(
            self.count, self.boxes, self.size_bytes, value_counts(self._classes), value_counts(self._attributes)
        )


def value_counts(counter: Counter[tuple[str, str]], limit: int = MAX_VALUES) -> list[dict[str, Any]]:
    """Return counts as `ValueCount`s, most frequent first, then by key and value."""
    ordered = sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"key": key, "value": value, "count": count} for (key, value), count in ordered[:limit]]
