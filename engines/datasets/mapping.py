"""Class mapping: maps the keys and values of a dataset to a model's tasks and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engines.datasets.found import Found, Notes
from engines.datasets.items import LABEL, Box
from engines.datasets.summary import value_counts
from engines.failures import EngineFailure, FailureReason, count


@dataclass(frozen=True)
class Entry:
    """One task of a model and the dataset's key for its classes.

    Attributes:
        task: Name of the task, which replaces the key.
        key: Key in the dataset; `label` for boxes.
        classes: Classes of the task; any if empty.
        values: Class of the task by value of the dataset, for values with another name.
    """

    task: str
    key: str
    classes: frozenset[str]
    values: Mapping[str, str]

    def class_of(self, value: str) -> str | None:
        """Return the class of a value; None if it belongs to no class."""
        mapped = self.values.get(value, value)
        return mapped if not self.classes or mapped in self.classes else None


def parse_mapping(entries: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return the entries of a mapping with its classes resolved.

    Raises:
        EngineFailure: INVALID_SPEC if a task or key is used twice, or a value is mapped to an unknown class.
    """
    found: list[Entry] = []
    for values in entries:
        entry = Entry(
            values["task"], values["key"], frozenset(values.get("classes") or ()), dict(values.get("values") or {})
        )
        if any(entry.key == other.key or entry.task == other.task for other in found):
            raise _bad(f"The class mapping uses the task '{entry.task}' or the key '{entry.key}' twice.")
        strange = sorted(name for name in entry.values.values() if entry.classes and name not in entry.classes)
        if strange:
            known = ", ".join(sorted(entry.classes)[:20])
            raise _bad(
                f"The class mapping of the task '{entry.task}' names the class '{strange[0]}', which the task does not "
                f"have. Its classes are: {known}."
            )
        found.append(entry)
    return found


class Mapper:
    """Maps items one by one, and counts the results.

    Attributes:
        items: Number of items that were kept.
        boxes: Number of their boxes.
        classified: Number of kept items with a classification.
        annotated: Number of items with a class or a box before the mapping.
        emptied: Number of items without boxes that lost all their classes; they are left out.
        background: Number of items that lost all their boxes; they stay, because a detector should find nothing there.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Map by `entries`; other keys stay as they are."""
        self._entries = {entry.key: entry for entry in entries}
        self._tasks = {entry.task for entry in self._entries.values() if entry.key != LABEL}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._mapped: Counter[tuple[str, str]] = Counter()
        self.items = self.boxes = self.classified = self.annotated = self.emptied = self.background = 0

    def map(self, found: Found) -> Found | None:
        """Return the item with its classes mapped; None if it had classes and no boxes, and no class is left."""
        if self._entries:
            mapped = replace(found, classifications=self._classifications(found), boxes=self._boxes(found))
        else:
            mapped = found
            self._seen.update(found.classifications.items())
            self._seen.update((LABEL, box.label) for box in found.boxes)
        self.annotated += found.annotated
        if found.annotated and not mapped.annotated and not found.boxes:
            self.emptied += 1
            return None
        self.items += 1
        self.background += bool(found.boxes) and not mapped.boxes
        self.boxes += len(mapped.boxes)
        self.classified += bool(mapped.classifications)
        return mapped

    def _classifications(self, found: Found) -> dict[str, str]:
        kept: dict[str, str] = {}
        for key, value in found.classifications.items():
            self._seen[key, value] += 1
            entry = self._entries.get(key)
            if entry is None:
                # If a task has this name, its classes come from another key.
                if key not in self._tasks:
                    kept[key] = value
            elif (name := self._class(entry, value)) is not None:
                kept[entry.task] = name
        return kept

    def _boxes(self, found: Found) -> tuple[Box, ...]:
        self._seen.update((LABEL, box.label) for box in found.boxes)
        entry = self._entries.get(LABEL)
        if entry is None:
            return found.boxes
        named = ((box, self._class(entry, box.label)) for box in found.boxes)
        return tuple(replace(box, label=name) for box, name in named if name is not None)

    def _class(self, entry: Entry, value: str) -> str | None:
        name = entry.class_of(value)
        if name is None:
            self._dropped[entry.key, value] += 1
        else:
            self._mapped[entry.key, name] += 1
        return name

    @property
    def dropped_values(self) -> list[dict[str, Any]]:
        """Values that belong to no class, as `ValueCount`s, most frequent first."""
        return value_counts(self._dropped)

    @property
    def missing_classes(self) -> list[dict[str, Any]]:
        """Classes of the mapping that did not occur, as `ValueCount`s."""
        return [
            {"key": entry.key, "value": name, "count": 0}
            for entry in self._entries.values()
            for name in sorted(entry.classes)
            if not self._mapped[entry.key, name]
        ]

    def mismatches(self) -> list[str]:
        """Return a sentence for each mismatch of mapping and data."""
        keys = {key for key, _ in self._seen}
        sentences = []
        for entry in self._entries.values():
            if entry.key not in keys:
                there = ", ".join(sorted(keys)) or "none"
                sentences.append(
                    f"The class mapping of the task '{entry.task}' names the key '{entry.key}', which the data does "
                    f"not have; its keys: {there}."
                )
                continue
            absent = sorted(value for value in entry.values if not self._seen[entry.key, value])
            sentences += [
                f"The class mapping of the task '{entry.task}' names the value '{value}' of the key '{entry.key}', "
                "which does not occur."
                for value in absent
            ]
            sentences += self._sums(entry)
        return sentences

    def _sums(self, entry: Entry) -> list[str]:
        dropped = [number for (key, _), number in self._dropped.items() if key == entry.key]
        missing = sum(not self._mapped[entry.key, name] for name in entry.classes)
        sentences = []
        if dropped:
            values = f"value of the key '{entry.key}' belongs", f"values of the key '{entry.key}' belong"
            sentences.append(
                f"{count(len(dropped), *values)} to no class of the task '{entry.task}': "
                f"{count(sum(dropped), 'annotation is', 'annotations are')} dropped."
            )
        if missing:
            sentences.append(f"{missing:,} of {len(entry.classes):,} classes of the task '{entry.task}' do not occur.")
        return sentences

    def warn(self, notes: Notes) -> None:
        """Note the effects of the mapping on the data."""
        for sentence in self.mismatches():
            notes.warn(sentence)
        for key in sorted({key for key, _ in self._seen} - self._entries.keys()):
            if key in self._tasks:
                notes.warn(f"The key '{key}' is dropped, because the task '{key}' takes its classes from another key.")
        if self.emptied:
            notes.dropped += self.emptied
            emptied = count(self.emptied, "item has", "items have")
            notes.warn(f"{emptied} no annotation left after the class mapping and left out.")
        if self.background:
            background = count(self.background, "image has", "images have")
            notes.warn(f"{background} no box left after the class mapping; kept as background.")


def _bad(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
