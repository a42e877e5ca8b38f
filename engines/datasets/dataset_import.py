"""Imports a dataset: files → items → class mapping → an index, and every image and tensor file under its digest.

The annotations are read twice: first alone, to check them against the class mapping, then with the images. A mapping
that does not fit is thus reported before any image is decoded, and the list of all items is never in memory.
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
    """Import the upload in `workdir / request["folder"]` into `workdir/out`. This is the entry for a sandboxed child.

    Args:
        request: `folder`, and optionally `format`, `type`, `mapping` (a `ClassMapping` with its classes resolved)
            and `accept_mismatches`.
        workdir: Directory with the upload; `out/index.parquet` and `out/content/{sha256}` are written in it.
        report: Receives the progress.

    Returns:
        `state` (READY or AWAITING_CONFIRMATION), `format`, `type`, `report` (an `ImportReport`), and the contents of
        the index: `item_count`, `size_bytes`, `classes`, `attributes`. If AWAITING_CONFIRMATION, nothing is written.

    Raises:
        EngineFailure: INVALID_DATA if the files cannot be used, INVALID_SPEC if the request is not valid.
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
    """Options of an import; see `run`."""

    format: str = ""
    type: str = ""
    mapping: Sequence[Entry] = ()
    accept_mismatches: bool = True

    def __post_init__(self) -> None:
        """Reject unknown names."""
        for value, known, kind in ((self.format, FORMATS, "format"), (self.type, TYPES, "type")):
            if value and value not in known:
                message = f"The {kind} '{value}' is unknown; it must be one of {', '.join(known)}."
                raise EngineFailure(FailureReason.INVALID_SPEC, message)

    @property
    def classes(self) -> bool:
        """True if images are expected to have classes, so that a folder is a class even if it is the only one."""
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
        _fail("The files contain no usable item.", notes, options)
    _require_annotations(options, survey, notes, left=bool(summary.classes))
    result = _result("READY", opened, mapper, notes, summary)
    _require_type(options.type, result["type"], tensors=opened.reader.tensors)
    if options.type:
        result["type"] = options.type
    return result


def _require_annotations(options: Options, survey: Mapper, notes: Notes, *, left: bool) -> None:
    """Reject files whose annotations were all left out: the user did not mean the images alone."""
    if not left and (survey.annotated or notes.dropped_annotations) and options.type != "UNANNOTATED":
        _fail("The files have annotations, but none of them is usable.", notes, options)


def _fail(what: str, notes: Notes, options: Options) -> NoReturn:
    first = next(iter(notes.warnings), "Nothing in them is usable.")
    invalid(
        f"{what} {first}",
        evidence="\n".join(notes.warnings[:20]),
        fix="Correct the named files"
        + (", or map classes that occur in them." if options.mapping else " and upload them again."),
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
        # Tensors have no size that boxes could exceed.
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
    """Raise INVALID_DATA if a dataset lacks the annotations that its type requires."""
    holds = {"CLASSIFICATION_AND_DETECTION": {"CLASSIFICATION", "DETECTION"}}.get(found, set()) | {found}
    if not asked or asked in holds or (asked == "UNANNOTATED" and not tensors):
        return
    invalid(
        f"The requested type is {asked}, but the files are a dataset of type {found}.",
        fix="Omit the type, or upload the missing annotations.",
    )
