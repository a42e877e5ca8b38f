"""The findings of a reader: items before their images are checked, and notes for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from engines.datasets.items import Box
from engines.failures import EngineFailure, FailureReason

MAX_WARNINGS = 10_000
"""Most warnings in a report: an answer must stay below gRPC's 4 MiB."""


@dataclass(frozen=True, slots=True)
class Found:
    """An item as the files describe it.

    Attributes:
        path: Path of its image or tensor file, a key of `Files`.
        classifications: Class by key.
        boxes: Objects as annotated; they may lie outside the image.
        attributes: Attributes by name.
        size: Width and height according to the annotations; None if they do not give them.
        row: Row in the tensor file.
    """

    path: str
    classifications: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    row: int = 0

    @property
    def annotated(self) -> bool:
        """True if it has a class or a box."""
        return bool(self.classifications or self.boxes)


class Notes:
    """Notes for the user of an import: warnings, and how many items and annotations were left out.

    Attributes:
        warnings: At most `MAX_WARNINGS` sentences.
        more: Number of further warnings.
        dropped: Number of items left out.
        dropped_annotations: Number of boxes and other annotations left out of items that stay.
        turned: Number of images whose boxes referred to the stored image and were turned with it.
    """

    def __init__(self) -> None:
        """Start without notes."""
        self.warnings: list[str] = []
        self.more = 0
        self.dropped = 0
        self.dropped_annotations = 0
        self.turned = 0

    def warn(self, sentence: str) -> None:
        """Note a warning."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(sentence)
        else:
            self.more += 1

    def drop(self, sentence: str) -> None:
        """Note that an item is left out, and why."""
        self.dropped += 1
        self.warn(sentence)

    def drop_failed(self, failure: EngineFailure, what: str, path: str = "") -> None:
        """Note that `what` (the item or the file) at `path` is left out because of a failure."""
        evidence = f" ({failure.evidence})" if failure.evidence else ""
        self.drop(f"{path and f'{path}: '}{failure.message.rstrip('.')}{evidence}; {what} is left out.")

    def drop_annotation(self, sentence: str, count: int = 1) -> None:
        """Note that annotations are left out, and why."""
        self.dropped_annotations += count
        self.warn(sentence)

    def extend(self, other: Notes) -> None:
        """Add the notes of `other`."""
        for sentence in other.warnings:
            self.warn(sentence)
        self.more += other.more
        self.dropped += other.dropped
        self.dropped_annotations += other.dropped_annotations
        self.turned += other.turned


class Reader(Protocol):
    """Reads one format. Every call of `items` yields the same items."""

    @property
    def tensors(self) -> bool:
        """True if the items are rows of tensors."""
        ...

    @property
    def rows(self) -> Mapping[str, int]:
        """Number of rows of the files that were inspected, by path."""
        ...

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield the items of the files, in order, and note what is wrong with them."""
        ...


def invalid(message: str, *, evidence: str = "", fix: str = "") -> NoReturn:
    """Raise INVALID_DATA."""
    raise EngineFailure(FailureReason.INVALID_DATA, message, evidence=evidence, suggested_fix=fix)


def listed(names: list[str], most: int = 5) -> str:
    """Return names for a sentence: the first few, and the number of others."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
