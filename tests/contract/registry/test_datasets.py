"""Datasets: their creation, their imports, and what callers do wrong."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.internal.v1.registry_service_pb2 import (
    HoldDatasetRequest,
    RenewHoldsRequest,
    SelectDatasetItemsRequest,
    UnholdDatasetRequest,
)
from lathe.registry.v1.artifact_service_pb2 import GetArtifactRequest
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_FORMAT_IMAGE_FOLDER,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    DATASET_TYPE_CLASSIFICATION,
    CreateDatasetExportRequest,
    CreateDatasetRequest,
    Dataset,
    DeleteDatasetRequest,
    DeriveDatasetRequest,
    GetDatasetRequest,
    ListDatasetItemsRequest,
    ListDatasetsRequest,
    PreviewDatasetItemRequest,
    UpdateDatasetRequest,
)
from lathe.type.v1.digest_pb2 import Digest, File
from lathe.type.v1.failure_pb2 import FAILURE_REASON_INVALID_DATA

from services.platform.words import from_values
from tests.contract.registry.conftest import Registry, unique
from tests.contract.registry.dataset_desk import Desk, archive, image_folder, png

FILE = File(path="a.zip", digest=Digest(sha256="00" * 32, size_bytes=1))


@pytest.fixture
def desk(registry: Registry) -> Desk:
    return Desk(registry)


async def refused(registry: Registry, **fields: Any) -> Any:
    """Try to create a dataset that must be refused; return how."""
    files = fields.pop("files", [FILE])
    dataset = from_values({"display_name": unique("Data"), **fields}, Dataset(files=files))
    return await registry.refused(registry.datasets.CreateDataset(CreateDatasetRequest(dataset=dataset)))


async def test_a_folder_per_class_becomes_a_dataset(desk: Desk) -> None:
    begun = await desk.begin(image_folder(), labels={"team": "a"}, description="Cats and dogs")
    assert begun.state == DATASET_STATE_IMPORTING
    assert not begun.HasField("report")
    made = await desk.settled(begun)
    assert (made.state, made.progress, made.type, made.format) == (
        DATASET_STATE_READY,
        1.0,
        DATASET_TYPE_CLASSIFICATION,
        DATASET_FORMAT_IMAGE_FOLDER,
    )
    assert (made.item_count, made.report.items, made.report.dropped_items) == (4, 4, 0)
    assert {(each.key, each.value, each.count) for each in made.classes} == {("class", "cat", 2), ("class", "dog", 2)}
    assert made.size_bytes == sum(item.content.size_bytes for item in await desk.items(made))
    assert made.etag != begun.etag
    for digest in [made.index, *(item.content for item in await desk.items(made))]:
        await desk.registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{digest.sha256}"))


async def test_lists_leave_out_what_may_be_large(desk: Desk) -> None:
    made = await desk.ready(image_folder())
    request = ListDatasetsRequest(search=made.display_name, filter="type = CLASSIFICATION AND state = READY")
    (found,) = (await desk.datasets.ListDatasets(request)).datasets
    assert found.item_count == 4
    assert [len(field) for field in (found.files, found.classes, found.attributes)] == [0, 0, 0]
    assert not found.HasField("report")
    request.filter = "state = IMPORT_FAILED"
    assert not (await desk.datasets.ListDatasets(request)).datasets


async def test_images_that_are_stored_already_are_counted(desk: Desk) -> None:
    seed = uuid.uuid4().int % 50_000
    first = await desk.ready(image_folder(first=seed))
    second = await desk.ready(image_folder(first=seed, each=3))
    assert first.report.shared_images < second.report.shared_images == 4


async def test_a_name_is_taken_whatever_its_case(registry: Registry) -> None:
    name = unique("Street Scenes")
    data = await registry.file("a.zip", image_folder())
    request = CreateDatasetRequest(dataset=Dataset(display_name=name, files=[data]))
    first = await registry.datasets.CreateDataset(request)
    request.dataset.display_name = name.upper()
    taken = await registry.refused(registry.datasets.CreateDataset(request))
    assert (taken.code, taken.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert f"'{name.upper()}' is taken by '{first.name}'" in taken.message
    assert taken.fields[0][0] == "display_name"
    request.dataset.display_name = unique("Other")
    other = await registry.datasets.CreateDataset(request)
    change = UpdateDatasetRequest(
        dataset=Dataset(name=other.name, display_name=name.title()), update_mask=FieldMask(paths=["display_name"])
    )
    assert (await registry.refused(registry.datasets.UpdateDataset(change))).code is grpc.StatusCode.ALREADY_EXISTS


async def test_files_must_be_stored_and_lie_beside_each_other(registry: Registry) -> None:
    missing = await refused(registry)
    assert (missing.code, missing.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")
    assert "'a.zip'" in missing.message
    stored = await registry.file("a.png", png(1))
    for files in (
        [],
        [stored, stored],
        [stored, File(path="a.png/b", digest=stored.digest)],
        [File(path="x" * 300, digest=stored.digest)],
    ):
        wrong = await refused(registry, files=files)
        assert (wrong.code, wrong.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "dataset.files"), wrong.message
    outside = await refused(registry, files=[File(path="../a.png", digest=stored.digest)])
    assert outside.fields[0][0] == "dataset.files[0].path"
    many = [File(path=f"{number:0240d}/{number:0240d}", digest=stored.digest) for number in range(5000)]
    large = await refused(registry, files=many)
    assert "Pack the files into one archive" in large.message


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"display_name": ""}, "dataset.display_name"),
        ({"display_name": "x" * 101}, "dataset.display_name"),
        ({"description": "x" * 1001}, "dataset.description"),
        ({"type": 99}, "dataset.type"),
        ({"derivation": {"sources": ["datasets/x"]}}, "dataset.derivation"),
        ({"mapping": {}}, "dataset.mapping.entries"),
        ({"mapping": {"entries": [{"task": "t", "key": "k"}]}}, "dataset.mapping.entries[0].classes"),
        (
            {"mapping": {"entries": [{"task": "t", "key": "k", "classes": ["a"], "values": {"b": "c"}}]}},
            "dataset.mapping.entries[0].values",
        ),
        ({"mapping": {"entries": [{"task": "t", "key": key} for key in "ab"]}}, "dataset.mapping.entries"),
        ({"mapping": {"entries": [{"task": task, "key": "k"} for task in "ab"]}}, "dataset.mapping.entries"),
        (
            {"mapping": {"template": "templates/absent", "entries": [{"task": "t", "key": "k"}]}},
            "dataset.mapping.template",
        ),
    ],
)
async def test_what_is_wrong_is_named(registry: Registry, fields: dict[str, Any], where: str) -> None:
    wrong = await refused(registry, **fields)
    absent = where == "dataset.mapping.template"
    assert wrong.code is (grpc.StatusCode.NOT_FOUND if absent else grpc.StatusCode.INVALID_ARGUMENT)
    assert wrong.fields[0][0] == where, wrong.fields


async def test_the_same_request_is_one_dataset(registry: Registry) -> None:
    file = await registry.file("a.zip", image_folder())
    dataset = Dataset(display_name=unique("Data"), files=[file])
    request = CreateDatasetRequest(dataset=dataset, request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(*(registry.datasets.CreateDataset(request) for _ in range(2)))
    assert first.uid == second.uid


async def test_request_ids_of_creating_and_deriving_are_different_ids(desk: Desk) -> None:
    source = await desk.ready(image_folder())
    request_id = str(uuid.uuid4())
    create = CreateDatasetRequest(
        dataset=Dataset(display_name=unique("Data"), files=source.files), request_id=request_id
    )
    created = await desk.datasets.CreateDataset(create)
    same = DeriveDatasetRequest.FromString(create.SerializeToString())
    assert (await desk.registry.refused(desk.datasets.DeriveDataset(same))).fields[0][0] == "dataset.derivation"
    derived = Dataset(display_name=unique("Data"))
    derived.derivation.sources.append(source.name)
    made = await desk.datasets.DeriveDataset(DeriveDatasetRequest(dataset=derived, request_id=request_id))
    assert made.uid != created.uid
    for each in (created, made):
        await desk.settled(each)


async def test_a_repeat_returns_the_first_dataset_although_its_source_is_gone(desk: Desk) -> None:
    source = await desk.ready(image_folder())
    derived = Dataset(display_name=unique("Data"))
    derived.derivation.sources.append(source.name)
    request = DeriveDatasetRequest(dataset=derived, request_id=str(uuid.uuid4()))
    first = await desk.settled(await desk.datasets.DeriveDataset(request))
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=source.name))
    assert await desk.datasets.DeriveDataset(request) == await desk.datasets.GetDataset(
        GetDatasetRequest(name=first.name)
    )
    request.dataset.description = "Another one."
    error = await desk.registry.refused(desk.datasets.DeriveDataset(request))
    assert error.reason == "REQUEST_ID_REUSED"
    request.dataset.description = ""
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=first.name))
    error = await desk.registry.refused(desk.datasets.DeriveDataset(request))
    assert error.reason == "ALREADY_DELETED"


async def test_what_cannot_be_imported_says_why(desk: Desk) -> None:
    made = await desk.create(archive({"cat/1.png": b"this is no image"}))
    assert made.state == DATASET_STATE_IMPORT_FAILED
    assert made.failure.reason == FAILURE_REASON_INVALID_DATA
    assert made.failure.message
    assert not made.index.sha256


async def test_nothing_is_read_before_it_is_ready(desk: Desk) -> None:
    failed = await desk.create(archive({"cat/1.png": b"this is no image"}))
    name, datasets = failed.name, desk.datasets
    derived = Dataset(display_name=unique("Data"))
    derived.derivation.sources.append(name)
    for call in (
        datasets.ListDatasetItems(ListDatasetItemsRequest(parent=name)),
        datasets.PreviewDatasetItem(PreviewDatasetItemRequest(name=f"{name}/items/0")),
        datasets.CreateDatasetExport(CreateDatasetExportRequest(parent=name)),
        desk.registry.internal.SelectDatasetItems(SelectDatasetItemsRequest(name=name)),
        datasets.DeriveDataset(DeriveDatasetRequest(dataset=derived)),
    ):
        early = await desk.registry.refused(call)
        assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_NOT_READY")
        assert failed.failure.message[:40] in early.message


async def test_a_held_dataset_is_not_deleted(desk: Desk) -> None:
    made = await desk.ready(image_folder())
    datasets = desk.datasets
    for _ in range(2):
        await desk.registry.internal.HoldDataset(HoldDatasetRequest(name=made.name, holder="evaluationTasks/1"))
    kept = await desk.registry.refused(datasets.DeleteDataset(DeleteDatasetRequest(name=made.name)))
    assert (kept.code, kept.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    assert "evaluationTasks/1" in kept.message
    for _ in range(2):
        await desk.registry.internal.UnholdDataset(UnholdDatasetRequest(name=made.name, holder="evaluationTasks/1"))
    await desk.registry.internal.HoldDataset(
        HoldDatasetRequest(name=made.name, holder="evaluationTasks/2", ttl=Duration(seconds=1))
    )
    await desk.registry.internal.RenewHolds(RenewHoldsRequest(holders=["evaluationTasks/2"], ttl=Duration(seconds=600)))
    await asyncio.sleep(1.1)
    renewed = await desk.registry.refused(datasets.DeleteDataset(DeleteDatasetRequest(name=made.name)))
    assert renewed.reason == "IN_USE"
    await desk.registry.internal.HoldDataset(
        HoldDatasetRequest(name=made.name, holder="evaluationTasks/2", ttl=Duration(seconds=1))
    )
    await asyncio.sleep(1.1)
    await datasets.DeleteDataset(DeleteDatasetRequest(name=made.name))
    gone = await desk.registry.refused(datasets.GetDataset(GetDatasetRequest(name=made.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    absent = await desk.registry.refused(
        desk.registry.internal.HoldDataset(HoldDatasetRequest(name=made.name, holder="x"))
    )
    assert absent.code is grpc.StatusCode.NOT_FOUND


async def test_a_dataset_that_is_importing_can_be_deleted(desk: Desk) -> None:
    data = image_folder()
    begun = await desk.begin(data, display_name=(name := unique("Data")))
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=begun.name))
    again = await desk.ready(data, display_name=name)
    assert again.name == begun.name
    assert again.uid != begun.uid
