"""Imports a dataset: files → items → class mapping → an index, and every image and tensor file by its digest.

The annotations are read twice: first alone, to see whether they fit the class mapping, then with the images. So a
mapping that does not fit is told before a single image is decoded, and no list of all items is ever in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engines.datasets.boxes import Orientation, fit_boxes
from engines.datasets.contents import CONTENT, Checked, Content, ContentFolder, checked_images, checked_tensors
from engines.datasets.files import gather
from engines.datasets.formats import FORMATS, Opened, open_dataset
from engines.datasets.found import Found, Notes, invalid
from engines.datasets.index import INDEX, write_index
from engines.datasets.items import Item
from engines.datasets.mapping import Entry, Mapper, parse_mapping
from engines.datasets.summary import IndexSummary
from engines.datasets.tensors import CLASS
from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Reporter

TYPES = ("CLASSIFICATION", "DETECTION", "CLASSIFICATION_AND_DETECTION", "TENSORS", "UNANNOTATED")

Report = Callable[[float, str], None]

_UNPACKED, _SURVEYED = 0.25, 0.35
_ANY = 2**31 - 1


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Import the upload under `workdir / request["folder"]` into `workdir/out`: the entry for a sandboxed child.

    Args:
        request: `folder`, and where wanted `format`, `type`, `mapping` (a `ClassMapping` whose classes are resolved)
            and `accept_mismatches`.
        workdir: Holds the upload; `out/index.parquet` and `out/content/{sha256}` are written in it.
        report: Told how far the import is.

    Returns:
        `state` (READY or AWAITING_CONFIRMATION), `format`, `type`, `report` (an `ImportReport`), and what the index
        holds: `item_count`, `size_bytes`, `classes`, `attributes`. While AWAITING_CONFIRMATION nothing is written.

    Raises:
        EngineFailure: INVALID_DATA where the files cannot be used, INVALID_SPEC where the request cannot be met.
    """
    options = Options(
        format=request.get("format") or "",
        type=request.get("type") or "",
        mapping=parse_mapping((request.get("mapping") or {}).get("entries") or ()),
        accept_mismatches=bool(request.get("accept_mismatches")),
    )
    return import_files(workdir / str(request["folder"]), workdir / "out", options, report.progress)


@dataclass(frozen=True)
class Options:
    """What is asked of an import: see `run`."""

    format: str = ""
    type: str = ""
    mapping: Sequence[Entry] = ()
    accept_mismatches: bool = True

    def __post_init__(self) -> None:
        """Refuse names that are not known."""
        for value, known, kind in ((self.format, FORMATS, "format"), (self.type, TYPES, "type")):
            if value and value not in known:
                message = f"The {kind} '{value}' is not known; it is one of {', '.join(known)}."
                raise EngineFailure(FailureReason.INVALID_SPEC, message)

    @property
    def classes(self) -> bool:
        """True where images are expected to have classes, so that even a single folder is one."""
        return self.type.startswith("CLASSIFICATION") or any(entry.key == CLASS for entry in self.mapping)


def import_files(
    source: Path, out: Path, options: Options | None = None, report: Report = lambda share, message: None
) -> dict[str, Any]:
    """Import a file, or the files of a folder, into `out`; see `run`."""
    options = options or Options()
    scratch = out / "unpacked"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        files = gather(source, scratch, lambda share: report(_UNPACKED * share, "Unpacking the files"))
        report(_UNPACKED, "Reading the annotations")
        opened = open_dataset(files, options.format, scratch, classes=options.classes)
        return _import(opened, out, options, report)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _import(opened: Opened, out: Path, options: Options, report: Report) -> dict[str, Any]:
    survey, notes = Mapper(options.mapping), Notes()
    total = 0
    for found in opened.reader.items(notes):
        survey.map(found)
        total += 1
        report(_UNPACKED, "Reading the annotations")
    opened.warn(notes, total)
    _require_annotations(options, survey, notes, left=bool(survey.annotated))
    if survey.mismatches() and not options.accept_mismatches:
        survey.warn(notes)
        return _result("AWAITING_CONFIRMATION", opened, survey, notes, IndexSummary(survey.items, 0, 0, [], []))
    mapper, notes, orientation = Mapper(options.mapping), Notes(), Orientation()
    checked = _checked(opened, ContentFolder(out / CONTENT), notes)
    mapped = _mapped(checked, mapper, notes, lambda done: report(_share(done, total), f"Item {done:,} of {total:,}"))
    summary = write_index(out / INDEX, (_item(found, content, orientation, notes) for found, content in mapped))
    opened.warn(notes, total)
    orientation.warn(notes)
    mapper.warn(notes)
    if not summary.count:
        _fail("The files hold no item that can be used.", notes, options)
    _require_annotations(options, survey, notes, left=bool(summary.classes))
    result = _result("READY", opened, mapper, notes, summary)
    _require_type(options.type, result["type"], tensors=opened.reader.tensors)
    if options.type:
        result["type"] = options.type
    return result


def _require_annotations(options: Options, survey: Mapper, notes: Notes, *, left: bool) -> None:
    """Refuse files that have annotations of which nothing is left: no user means the bare images by them."""
    if not left and (survey.annotated or notes.dropped_annotations) and options.type != "UNANNOTATED":
        _fail("The files have annotations, and none of them can be used.", notes, options)


def _fail(what: str, notes: Notes, options: Options) -> NoReturn:
    first = next(iter(notes.warnings), "Nothing in them can be used.")
    invalid(
        f"{what} {first}",
        evidence="\n".join(notes.warnings[:20]),
        fix="Fix or replace what is named"
        + (", or map classes that the files have." if options.mapping else ", and upload the files again."),
    )


def _share(done: int, total: int) -> float:
    return _SURVEYED + (0.99 - _SURVEYED) * done / max(1, total)


def _checked(opened: Opened, folder: ContentFolder, notes: Notes) -> Iterator[Checked]:
    found = opened.reader.items(notes)
    return (
        checked_tensors(found, opened.contents, folder, opened.reader.rows, opened.budget)
        if opened.reader.tensors
        else checked_images(found, opened.contents, folder)
    )


def _mapped(
    checked: Iterator[Checked], mapper: Mapper, notes: Notes, advance: Callable[[int], None]
) -> Iterator[tuple[Found, Content]]:
    for done, (found, content) in enumerate(checked, 1):
        advance(done)
        if isinstance(content, EngineFailure):
            notes.drop_failed(content, "the item", found.path)
            continue
        mapped = mapper.map(found)
        if mapped is not None:
            yield mapped, content


def _item(found: Found, content: Content, orientation: Orientation, notes: Notes) -> Item:
    width, height, _ = content.image
    boxes = orientation.boxes(found, content.image, notes)
    return Item(
        path=found.path,
        sha256=content.sha256,
        size_bytes=content.size_bytes,
        width=width,
        height=height,
        classifications=found.classifications,
        # Rows of tensors have no size that boxes could lie outside of.
        boxes=fit_boxes(boxes, width or _ANY, height or _ANY, found.path, notes),
        attributes=found.attributes,
        row=found.row,
    )


def _result(state: str, opened: Opened, mapper: Mapper, notes: Notes, summary: IndexSummary) -> dict[str, Any]:
    boxes = summary.boxes if state == "READY" else mapper.boxes
    return {
        "state": state,
        "format": opened.format,
        "type": "TENSORS" if opened.reader.tensors else _type(boxes=bool(boxes), classes=bool(mapper.classified)),
        "report": {
            "format": opened.format,
            "items": summary.count,
            "boxes": boxes,
            "dropped_items": notes.dropped,
            "dropped_annotations": notes.dropped_annotations,
            "turned_images": notes.turned,
            "dropped_values": mapper.dropped_values,
            "missing_classes": mapper.missing_classes,
            "warnings": notes.warnings,
            "more_warnings": notes.more,
            "shared_images": 0,
        },
        **summary.to_dict(),
    }


def _type(*, boxes: bool, classes: bool) -> str:
    if boxes:
        return "CLASSIFICATION_AND_DETECTION" if classes else "DETECTION"
    return "CLASSIFICATION" if classes else "UNANNOTATED"


def _require_type(asked: str, found: str, *, tensors: bool) -> None:
    """Refuse a dataset that has not what its type promises: INVALID_DATA with what was found."""
    holds = {"CLASSIFICATION_AND_DETECTION": {"CLASSIFICATION", "DETECTION"}}.get(found, set()) | {found}
    if not asked or asked in holds or (asked == "UNANNOTATED" and not tensors):
        return
    invalid(
        f"The dataset should have the type {asked}, but its files make it {found}.",
        fix="Leave the type out, or upload the annotations that are missing.",
    )
