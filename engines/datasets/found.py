"""What a reader of files finds: items before their images are looked at, and what is worth a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from engines.datasets.items import Box
from engines.failures import EngineFailure, FailureReason

MAX_WARNINGS = 10_000
"""Most sentences that a report holds: an answer has to stay under gRPC's 4 MiB."""


@dataclass(frozen=True, slots=True)
class Found:
    """An item as the files name it.

    Attributes:
        path: Path of its image or tensor file, a key of `Files`.
        classifications: Class by key.
        boxes: Objects, as annotated: they may lie outside the image.
        attributes: Attributes.
        size: Width and height that the annotations claim; None where they say nothing.
        row: Row in the file of tensors.
    """

    path: str
    classifications: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    row: int = 0

    @property
    def annotated(self) -> bool:
        """True where it has a class or a box."""
        return bool(self.classifications or self.boxes)


class Notes:
    """What a user should know about an import: warnings, and how many items and annotations were left out.

    Attributes:
        warnings: At most `MAX_WARNINGS` sentences.
        more: Warnings beyond those.
        dropped: Items left out.
        dropped_annotations: Boxes and other annotations left out of items that stay.
        turned: Images whose boxes were of the stored pixels and were turned with them.
    """

    def __init__(self) -> None:
        """Start with nothing to say."""
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
        """Note that `what`, the item or the file at `path`, is left out because of a failure."""
        evidence = f" ({failure.evidence})" if failure.evidence else ""
        self.drop(f"{path and f'{path}: '}{failure.message.rstrip('.')}{evidence}; {what} is left out.")

    def drop_annotation(self, sentence: str, count: int = 1) -> None:
        """Note that annotations are left out, and why."""
        self.dropped_annotations += count
        self.warn(sentence)

    def extend(self, other: Notes) -> None:
        """Take over everything that `other` noted."""
        for sentence in other.warnings:
            self.warn(sentence)
        self.more += other.more
        self.dropped += other.dropped
        self.dropped_annotations += other.dropped_annotations
        self.turned += other.turned


class Reader(Protocol):
    """Reads one format. `items` can be called again, and says the same again."""

    @property
    def tensors(self) -> bool:
        """True where the items are rows of tensors."""
        ...

    @property
    def rows(self) -> Mapping[str, int]:
        """Number of rows of the files that were looked into, by path."""
        ...

    def items(self, notes: Notes) -> Iterator[Found]:
        """Yield what the files name, in order, and note what is wrong with it."""
        ...


def invalid(message: str, *, evidence: str = "", fix: str = "") -> NoReturn:
    """Raise INVALID_DATA."""
    raise EngineFailure(FailureReason.INVALID_DATA, message, evidence=evidence, suggested_fix=fix)


def listed(names: list[str], most: int = 5) -> str:
    """Return names for a sentence: the first few, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
