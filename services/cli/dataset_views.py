"""Display of datasets, their items and their import reports."""

from __future__ import annotations

from typing import Any

from services.cli.output import Column, note, plain, print_rows
from services.cli.views import colored, enum_name, labels, size, when

WARNINGS = 20
"""Most warnings in the report of an import; `lathe datasets warnings` shows all."""
VALUES = 50
"""Most classes and attribute values in a table."""


def short(name: str) -> str:
    """Return a short name for the command line: `digits`, `digits/7`."""
    return plain(name.removeprefix("datasets/").replace("/items/", "/"))


def words(values: Any) -> str:
    """Return a map as `key=value` words."""
    return plain(" ".join(f"{key}={value}" for key, value in sorted(values.items())))


def boxes(item: Any) -> str:
    """Return the number of an item's boxes by class."""
    counts: dict[str, int] = {}
    for box in item.boxes:
        counts[box.label] = counts.get(box.label, 0) + 1
    return plain(", ".join(f"{count} {label}" for label, count in counts.items()))


def came_from(dataset: Any) -> str:
    """Return the sources of a dataset."""
    if dataset.derivation.sources:
        return ", ".join(short(name) for name in dataset.derivation.sources)
    return enum_name(dataset, "format")


DATASETS: list[Column[Any]] = [
    Column("dataset", lambda each: short(each.name), whole=True),
    Column("name", lambda each: plain(each.display_name)),
    Column("state", lambda each: colored(enum_name(each, "state")), whole=True),
    Column("type", lambda each: enum_name(each, "type")),
    Column("items", lambda each: f"{each.item_count:,}", numeric=True),
    Column("size", lambda each: size(each.size_bytes), numeric=True),
    Column("from", came_from, detail=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda each: plain(each.owner), detail=True),
    Column("created", lambda each: when(each.create_time), whole=True, detail=True),
]

ONE_DATASET: list[Column[Any]] = [
    *DATASETS,
    Column("description", lambda each: plain(each.description)),
    Column("failure", lambda each: plain(failure(each))),
]

ITEMS: list[Column[Any]] = [
    Column("item", lambda each: short(each.name), whole=True),
    Column("path", lambda each: plain(each.path)),
    Column("size", lambda each: f"{each.width} × {each.height}" if each.width else f"row {each.row}", whole=True),
    Column("classes", lambda each: words(each.classifications)),
    Column("boxes", boxes),
    Column("attributes", lambda each: words(each.attributes), detail=True),
]

VALUE_COUNTS: list[Column[Any]] = [
    Column("key", lambda each: plain(each.key)),
    Column("value", lambda each: plain(each.value)),
    Column("count", lambda each: f"{each.count:,}", numeric=True),
]


WARNING_ROWS: list[Column[tuple[int, str]]] = [
    Column("number", lambda each: f"{each[0]:,}", numeric=True, whole=True),
    Column("warning", lambda each: plain(each[1])),
]


def failure(dataset: Any) -> str:
    """Return why an import failed, in one line; empty if it did not."""
    told = dataset.failure
    return f"{enum_name(told, 'reason')}: {told.message}" if dataset.HasField("failure") else ""


def show_values(dataset: Any) -> None:
    """Print the classes and attributes of a dataset."""
    for title, values in (("Classes", dataset.classes), ("Attributes", dataset.attributes)):
        if values:
            print_rows(values[:VALUES], VALUE_COUNTS, title=_title(title, len(values)))


def show_report(report: Any, dataset: str) -> None:
    """Print the results of an import, and what it left out."""
    found = f"{report.items:,} items"
    found += f", {report.boxes:,} boxes" if report.boxes else ""
    found += f"; {report.dropped_items:,} items left out" if report.dropped_items else ""
    found += f"; {report.dropped_annotations:,} annotations left out" if report.dropped_annotations else ""
    found += f"; the boxes of {report.turned_images:,} images turned by EXIF data" if report.turned_images else ""
    found += f"; {report.shared_images:,} images already stored" if report.shared_images else ""
    note(found)
    for title, values in (
        ("Values without a class in the mapping", report.dropped_values),
        ("Classes that do not occur", report.missing_classes),
    ):
        if values:
            print_rows(values[:VALUES], VALUE_COUNTS, title=_title(title, len(values)))
    for warning in report.warnings[:WARNINGS]:
        note(f"warning: {warning}", style="yellow")
    more = len(report.warnings[WARNINGS:]) + report.more_warnings
    if more:
        note(f"… and {more:,} more warnings: lathe datasets warnings {short(dataset)}", style="yellow")


def _title(title: str, count: int) -> str:
    return title if count <= VALUES else f"{title} (the first {VALUES} of {count:,})"
