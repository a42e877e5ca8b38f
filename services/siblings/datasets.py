"""Datasets of the registry, as task services read them."""

from __future__ import annotations

from typing import Protocol

import grpc
from lathe.internal.v1.registry_service_pb2 import SelectDatasetItemsRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.internal.v1.selection_pb2 import DatasetSelection
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_IMPORT_CANCELLED,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    DATASET_TYPE_CLASSIFICATION,
    DATASET_TYPE_CLASSIFICATION_AND_DETECTION,
    DATASET_TYPE_DETECTION,
    DATASET_TYPE_TENSORS,
    Dataset,
    DatasetState,
    GetDatasetRequest,
)
from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

from engines.spec.template import DETECTORS
from services.platform.errors import LatheError, failed_precondition, invalid_argument
from services.platform.words import word

INDEX_FILE = "index.parquet"
"""Where a worker finds the index of a selection, in the selection's folder; the files of its list are beside it."""


class Calibrated(Protocol):
    """Work for which items may have been chosen to calibrate and to judge on."""

    @property
    def calibration(self) -> DatasetSelection:
        """The items to calibrate on; empty for none."""

    @property
    def evaluation(self) -> DatasetSelection:
        """The items to judge on; empty for none."""


def calibration_and_evaluation(work: Calibrated) -> list[tuple[str, DatasetSelection]]:
    """Return the selections of datasets, each with the folder that it is fetched to."""
    named = (("calibration", work.calibration), ("evaluation", work.evaluation))
    return [(folder, selection) for folder, selection in named if selection.HasField("index")]


class Datasets:
    """Looks datasets up and has items chosen."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._datasets = DatasetServiceStub(registry)
        self._registry = RegistryServiceStub(registry)

    async def ready(self, name: str) -> Dataset:
        """Return a dataset that is complete.

        Raises:
            LatheError: FAILED_PRECONDITION, reason DATASET_NOT_READY or DATASET_EMPTY; NOT_FOUND as an AioRpcError.
        """
        dataset: Dataset = await self._datasets.GetDataset(GetDatasetRequest(name=name))
        if dataset.state != DATASET_STATE_READY:
            raise failed_precondition("DATASET_NOT_READY", f"'{name}' is {_standing(dataset)}.", name)
        if not dataset.item_count:
            message = f"'{name}' has no items. Import or derive one that has."
            raise failed_precondition("DATASET_EMPTY", message, name)
        return dataset

    async def select(self, name: str, count: int, seed: int) -> DatasetSelection:
        """Have `count` items chosen by `seed`, all of them if it is 0 or there are fewer."""
        request = SelectDatasetItemsRequest(name=name, count=count, seed=seed)
        selection: DatasetSelection = await self._registry.SelectDatasetItems(request)
        return selection


def refuse_steps_on_tensors(dataset: Dataset, steps: int, field: str) -> None:
    """Raise LatheError INVALID_ARGUMENT if a request has image preprocessing for a dataset of tensors."""
    if steps and dataset.type == DATASET_TYPE_TENSORS:
        raise invalid_argument(
            field, f"'{dataset.name}' holds tensors, which go into the model as they are; leave the steps out"
        )


def can_judge(dataset: Dataset, method: str) -> bool:
    """Return whether a dataset has the annotations by which predictions of a method are judged; `raw` has none."""
    if method == "raw":
        return False
    if method in DETECTORS:
        return dataset.type in (DATASET_TYPE_DETECTION, DATASET_TYPE_CLASSIFICATION_AND_DETECTION)
    tensors = dataset.type == DATASET_TYPE_TENSORS and bool(dataset.classes)
    return tensors or dataset.type in (DATASET_TYPE_CLASSIFICATION, DATASET_TYPE_CLASSIFICATION_AND_DETECTION)


def annotations_missing(dataset: Dataset, method: str) -> LatheError:
    """Return the error for a dataset that cannot judge a method."""
    needed = "boxes" if method in DETECTORS else "classes of whole items"
    has = ", ".join(dict.fromkeys(entry.key for entry in dataset.classes)) or "none"
    return failed_precondition(
        "ANNOTATIONS_MISSING",
        f"The method {method} is judged by {needed}, which '{dataset.name}' does not have; its annotations are: "
        f"{has}. Name a dataset that has them.",
        dataset.name,
    )


def _standing(dataset: Dataset) -> str:
    if dataset.state == DATASET_STATE_IMPORTING:
        return f"being imported ({dataset.progress:.0%}); wait until it is READY"
    if dataset.state == DATASET_STATE_IMPORT_FAILED:
        return f"not imported: {dataset.failure.message} Create it again"
    if dataset.state == DATASET_STATE_IMPORT_CANCELLED:
        return "not imported, because somebody cancelled that. Create it again"
    return f"{word(DatasetState, dataset.state)}: confirm its import first"
