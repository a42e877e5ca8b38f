"""Rules for datasets before they are stored, and their largest sizes."""

from __future__ import annotations

from typing import Any

from lathe.internal.v1.selection_pb2 import FileList
from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_IMPORTING, Dataset

from services.platform.errors import invalid_argument
from services.registry.files import check_paths

CHANGEABLE = ("display_name", "description", "labels", "shared_with")
_OUTPUT_ONLY = (
    "name",
    "uid",
    "state",
    "progress",
    "failure",
    "report",
    "item_count",
    "size_bytes",
    "classes",
    "attributes",
    "index",
)
# An answer has to stay under gRPC's 4 MiB, with the report of the import and the classes that it found.
_MAX_ASKED_BYTES = 2_000_000
_MAX_ANSWER_BYTES = 3_900_000
_MAX_VALUES = 10_000


def new_import(asked: Dataset) -> Dataset:
    """Return the dataset to store for an import, without what callers do not decide.

    Raises:
        LatheError: INVALID_ARGUMENT.
    """
    if asked.HasField("derivation"):
        raise invalid_argument("dataset.derivation", "A dataset with a derivation is created by DeriveDataset.")
    if not asked.files:
        raise invalid_argument("dataset.files", "No files are given: name one archive, or the files of the dataset.")
    check_paths(asked.files, "dataset.files")
    return _composed(asked)


def new_derivation(asked: Dataset) -> Dataset:
    """Return the dataset to store for a derivation, without what callers do not decide.

    Raises:
        LatheError: INVALID_ARGUMENT.
    """
    if not asked.HasField("derivation"):
        raise invalid_argument("dataset.derivation", "Name the datasets that it is derived from, and the steps.")
    for field, given in (("files", bool(asked.files)), ("mapping", asked.HasField("mapping"))):
        if given:
            raise invalid_argument(f"dataset.{field}", f"A derived dataset has no {field}; leave the field empty.")
    return _composed(asked)


def require_room(dataset: Dataset) -> None:
    """Refuse a dataset whose files and classes would not fit in an answer: LatheError INVALID_ARGUMENT."""
    if dataset.ByteSize() > _MAX_ASKED_BYTES:
        files = FileList(files=dataset.files).ByteSize()
        field, advice = (
            ("dataset.files", "Pack the files into one archive.")
            if files > dataset.mapping.ByteSize()
            else ("dataset.mapping", "Map fewer classes.")
        )
        raise invalid_argument(
            field,
            f"The dataset takes {dataset.ByteSize()} bytes to describe; at most {_MAX_ASKED_BYTES} fit. {advice}",
        )


def fit(dataset: Dataset) -> None:
    """Cut what an import found to what fits in an answer: the longest list first."""
    report = dataset.report
    lists: tuple[Any, ...] = (
        report.warnings,
        report.dropped_values,
        report.missing_classes,
        dataset.classes,
        dataset.attributes,
    )
    for values in (dataset.classes, dataset.attributes):
        del values[_MAX_VALUES:]
    while dataset.ByteSize() > _MAX_ANSWER_BYTES:
        longest = max(lists, key=len)
        cut = len(longest) - len(longest) // 2
        if longest is report.warnings:
            report.more_warnings += cut
        del longest[len(longest) // 2 :]


def _composed(asked: Dataset) -> Dataset:
    dataset = Dataset()
    dataset.CopyFrom(asked)
    for field in _OUTPUT_ONLY:
        dataset.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
    dataset.state = DATASET_STATE_IMPORTING
    return dataset
