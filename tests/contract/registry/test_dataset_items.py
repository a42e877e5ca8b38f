"""What datasets hold: pages, previews, archives, selections, derivations, and the mapping of classes."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from typing import Any

import grpc
import numpy as np
import pytest
from lathe.internal.v1.registry_service_pb2 import SelectDatasetItemsRequest
from lathe.internal.v1.selection_pb2 import FileList
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_AWAITING_CONFIRMATION,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    DATASET_TYPE_TENSORS,
    CancelDatasetExportRequest,
    ConfirmDatasetImportRequest,
    CreateDatasetExportRequest,
    Dataset,
    DatasetExport,
    DeleteDatasetExportRequest,
    DeleteDatasetRequest,
    DeriveDatasetRequest,
    GetDatasetExportRequest,
    ListDatasetExportsRequest,
    ListDatasetItemsRequest,
    PreviewDatasetItemRequest,
    WatchDatasetExportRequest,
)
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX
from lathe.template.v1.template_service_pb2 import ClassTaxonomy, Component, CreateTemplateRequest, Template
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.failure_pb2 import FAILURE_REASON_INPUT_UNAVAILABLE
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_CANCELLED,
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
)

from engines.failures import EngineFailure, FailureReason
from services.operations import runner
from services.operations.runner import Standing
from services.platform.settings import Settings
from services.registry.datasets.archive import Archives
from services.storage import S3ContentStore
from tests.contract.registry.conftest import Registry, unique
from tests.contract.registry.dataset_desk import Desk, archive, image_folder, scenes


@pytest.fixture
def desk(registry: Registry) -> Desk:
    return Desk(registry)


@pytest.fixture(scope="session")
async def street(registry: Registry) -> Dataset:
    return await Desk(registry).ready(scenes(6, first=30_000))


async def test_items_come_in_pages(desk: Desk, street: Dataset) -> None:
    items = await desk.items(street)
    assert [item.name for item in items] == [f"{street.name}/items/{number}" for number in range(6)]
    assert [item.path for item in items] == [f"images/{number}.png" for number in range(6)]
    first = items[0]
    assert (first.width, first.height, dict(first.classifications)) == (12, 8, {"kind": "even"})
    assert (first.boxes[0].label, first.boxes[0].x, first.boxes[0].height) == ("truck", 1, 4)
    assert dict(first.attributes) == {"scene": "night"}


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ("classifications.kind = even", [0, 2, 4]),
        ("label:truck", [0, 3]),
        ("classifications.kind = even AND attributes.scene = night", [0]),
        ("classifications.kind:even label:car attributes.scene:day", [2, 4]),
        ("NOT classifications.kind = even OR label:tr*", [0, 1, 3, 5]),
        ("classifications.nothing = so", []),
        ("attributes:scene AND path > images/2.png", [3, 4, 5]),
        ('path = "images/*.png" AND width >= 12 AND height < 9 AND -row:* AND path:*', [0, 1, 2, 3, 4, 5]),
        ("width > 9223372036854775806", []),
    ],
)
async def test_items_are_found_by_what_they_are(desk: Desk, street: Dataset, wanted: str, numbers: list[int]) -> None:
    assert [int(item.name.rsplit("/", 1)[1]) for item in await desk.items(street, wanted)] == numbers


async def test_a_filter_names_what_is_wrong_with_it(desk: Desk, street: Dataset) -> None:
    for wrong in ("colour = red", "width = wide", "label = truck", "(path"):
        refused = await desk.registry.refused(
            desk.datasets.ListDatasetItems(ListDatasetItemsRequest(parent=street.name, filter=wrong))
        )
        assert (refused.code, refused.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "filter")


async def test_a_token_is_of_one_dataset_and_one_filter(desk: Desk, street: Dataset) -> None:
    call = desk.datasets.ListDatasetItems
    answer = await call(ListDatasetItemsRequest(parent=street.name, page_size=2))
    assert answer.total_size == 6
    other = await desk.ready(scenes(4))
    for wrong in (
        ListDatasetItemsRequest(parent=street.name, page_token=answer.next_page_token, filter="label:car"),
        ListDatasetItemsRequest(parent=other.name, page_token=answer.next_page_token),
        ListDatasetItemsRequest(parent=street.name, page_token="invented"),
    ):
        refused = await desk.registry.refused(call(wrong))
        assert (refused.code, refused.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")
    negative = await desk.registry.refused(call(ListDatasetItemsRequest(parent=street.name, page_size=-1)))
    assert negative.fields[0][0] == "page_size"
    assert len((await call(ListDatasetItemsRequest(parent=street.name, page_size=2_000_000))).items) == 6
    absent = await desk.registry.refused(call(ListDatasetItemsRequest(parent="datasets/absent")))
    assert absent.code is grpc.StatusCode.NOT_FOUND


async def test_an_item_can_be_looked_at(desk: Desk, street: Dataset) -> None:
    request = PreviewDatasetItemRequest(name=f"{street.name}/items/1")
    preview = await desk.datasets.PreviewDatasetItem(request)
    assert preview.item.path == "images/1.png"
    assert json.loads(preview.json)["boxes"][0]["label"] == "car"
    image, drawn = [(await desk.registry.http.get(url)).content for url in (preview.image_url, preview.annotated_url)]
    assert drawn.startswith(b"\x89PNG")
    assert drawn != image
    again = await desk.datasets.PreviewDatasetItem(request)
    assert again.annotated_url.partition("?")[0] == preview.annotated_url.partition("?")[0]
    request.name = f"{street.name}/items/6"
    beyond = await desk.registry.refused(desk.datasets.PreviewDatasetItem(request))
    assert beyond.code is grpc.StatusCode.NOT_FOUND


async def test_an_archive_can_be_imported_again(desk: Desk, street: Dataset) -> None:
    export = await desk.exported(street)
    assert (export.state, export.progress, export.name.rpartition("/")[0]) == (
        OPERATION_STATE_SUCCEEDED,
        1.0,
        f"{street.name}/exports",
    )
    packed = export.archive
    data = (await desk.registry.http.get(packed.url)).content
    assert len(data) == packed.digest.size_bytes
    again = await desk.datasets.CreateDatasetExport(CreateDatasetExportRequest(parent=street.name))
    assert (again.state, again.archive.digest) == (OPERATION_STATE_SUCCEEDED, packed.digest)
    assert again.archive.url
    listed = await desk.datasets.ListDatasetExports(
        ListDatasetExportsRequest(parent=street.name, filter="state = SUCCEEDED")
    )
    assert [each.name for each in listed.dataset_exports] == [again.name, export.name]
    assert not any(each.archive.url for each in listed.dataset_exports)
    imported = await desk.ready(data)
    assert imported.report.shared_images == 6
    before, after = await desk.items(street), await desk.items(imported)
    for item in [*before, *after]:
        item.ClearField("name")
    assert before == after
    assert imported.index == street.index


async def test_an_export_can_be_watched_cancelled_and_deleted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_BEAT_SECONDS", 0.02)
    opened = asyncio.Event()

    async def pack(_: Archives, _dataset: Dataset, standing: Standing) -> Digest:
        standing.progress = 0.25
        await opened.wait()
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, "An image is gone.", suggested_fix="Import it again.")

    monkeypatch.setattr(Archives, "pack", pack)
    made = await desk.ready(scenes(2, first=33_000))
    request = CreateDatasetExportRequest(parent=made.name, dataset_export=DatasetExport(display_name="Long"))
    begun, other, third = [await desk.datasets.CreateDatasetExport(request) for _ in range(3)]
    assert (begun.state, begun.display_name, begun.HasField("archive")) == (OPERATION_STATE_RUNNING, "Long", False)
    states = []
    async for each in desk.datasets.WatchDatasetExport(WatchDatasetExportRequest(name=begun.name)):
        states.append(each.state)
        if each.progress == 0.25 and each.state == OPERATION_STATE_RUNNING:
            await desk.datasets.CancelDatasetExport(CancelDatasetExportRequest(name=begun.name))
    assert states[-1] == OPERATION_STATE_CANCELLED
    for _ in range(2):
        await desk.datasets.DeleteDatasetExport(DeleteDatasetExportRequest(name=other.name, allow_missing=True))
    get = desk.datasets.GetDatasetExport
    gone = await desk.registry.refused(get(GetDatasetExportRequest(name=other.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    opened.set()
    *_, failed = [each async for each in desk.datasets.WatchDatasetExport(WatchDatasetExportRequest(name=third.name))]
    assert (failed.state, failed.failure.reason) == (OPERATION_STATE_FAILED, FAILURE_REASON_INPUT_UNAVAILABLE)
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=made.name))
    gone = await desk.registry.refused(get(GetDatasetExportRequest(name=third.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    listed = desk.datasets.ListDatasetExports(ListDatasetExportsRequest(parent=made.name))
    assert (await desk.registry.refused(listed)).code is grpc.StatusCode.NOT_FOUND


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


async def test_tensors_are_items_too(desk: Desk) -> None:
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    made = await desk.ready(archive({"data.npz": npz(x=x, label=np.array([0, 1, 2, 0, 1, 2]))}))
    assert (made.type, made.item_count) == (DATASET_TYPE_TENSORS, 6)
    items = await desk.items(made)
    assert [item.row for item in items] == list(range(6))
    preview = await desk.datasets.PreviewDatasetItem(PreviewDatasetItemRequest(name=items[3].name))
    assert (preview.image_url, preview.annotated_url) == ("", "")
    assert json.loads(preview.json)["row"] == 3
    part = await desk.derived([made], {"sample": {"count": 2, "seed": 1}})
    packed = (await desk.exported(part)).archive
    again = await desk.ready((await desk.registry.http.get(packed.url)).content)
    assert [item.row for item in await desk.items(again)] == [item.row for item in await desk.items(part)]


async def test_a_choice_is_the_same_every_time(desk: Desk, street: Dataset, shared_settings: Settings) -> None:
    select = desk.registry.internal.SelectDatasetItems
    chosen = await select(SelectDatasetItemsRequest(name=street.name, count=3, seed=7))
    assert chosen.items == 3
    assert await select(SelectDatasetItemsRequest(name=street.name, count=3, seed=7)) == chosen
    assert (await select(SelectDatasetItemsRequest(name=street.name, count=3, seed=8))).index != chosen.index
    everything = await select(SelectDatasetItemsRequest(name=street.name))
    assert (everything.items, everything.index) == (6, street.index)
    assert await select(SelectDatasetItemsRequest(name=street.name, count=100)) == everything
    listed = FileList.FromString(await S3ContentStore(shared_settings).read(everything.files))
    contents = {item.content.sha256: item.content.size_bytes for item in await desk.items(street)}
    assert [(file.path, file.digest) for file in listed.files] == [
        (f"content/{sha256}", Digest(sha256=sha256, size_bytes=size)) for sha256, size in sorted(contents.items())
    ]
    negative = await desk.registry.refused(select(SelectDatasetItemsRequest(name=street.name, count=-1)))
    assert negative.fields[0][0] == "count"


async def test_datasets_are_derived_without_their_sources(desk: Desk, street: Dataset) -> None:
    source = await desk.ready(scenes(3, first=31_000))
    merged = await desk.derived(
        [street, source],
        {"merge_classes": {"key": "label", "classes": ["car", "truck"], "into": "vehicle"}},
        {"filter": {"key": "scene", "values": ["night"]}},
    )
    assert merged.state == DATASET_STATE_READY, merged.failure
    assert list(merged.derivation.sources) == [street.name, source.name]
    items = await desk.items(merged)
    assert len({item.path for item in items}) == 4
    assert [item.path.endswith(f"images/{number % 2}.png") for number, item in enumerate(items)] == [True] * 4
    assert {box.label for item in items for box in item.boxes} == {"vehicle"}
    await desk.datasets.DeleteDataset(DeleteDatasetRequest(name=source.name))
    packed = (await desk.exported(merged)).archive
    with zipfile.ZipFile(io.BytesIO((await desk.registry.http.get(packed.url)).content)) as files:
        assert len(files.namelist()) == len(set(files.namelist())) == 5


async def test_a_derivation_that_cannot_be_says_why(desk: Desk, street: Dataset) -> None:
    nothing = await desk.derived([street], {"filter": {"key": "scene", "values": ["moon"]}})
    assert nothing.state == DATASET_STATE_IMPORT_FAILED
    assert nothing.failure.message
    derived = Dataset(display_name=unique("Data"))
    call = desk.datasets.DeriveDataset
    without = await desk.registry.refused(call(DeriveDatasetRequest(dataset=derived)))
    assert without.fields[0][0] == "dataset.derivation"
    derived.derivation.sources.append("datasets/absent")
    absent = await desk.registry.refused(call(DeriveDatasetRequest(dataset=derived)))
    assert (absent.code, absent.reason) == (grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND")


async def _template(registry: Registry) -> str:
    taxonomies = [
        ClassTaxonomy(task="animal", classes=["cat", "dog", "horse"]),
        ClassTaxonomy(task="size", classes="sl"),
    ]
    template = Template(
        display_name=unique("Animals"),
        repo="r",
        version="1",
        method="classification",
        source_format=MODEL_FORMAT_ONNX,
        device="cpu-x86-64",
        runtime="onnxruntime",
        taxonomies=taxonomies,
        components=[Component(name="net")],
    )
    made = await registry.templates.CreateTemplate(CreateTemplateRequest(template=template))
    return str(made.name)


async def test_classes_come_from_the_template(desk: Desk) -> None:
    template = await _template(desk.registry)
    mapping = {"template": template, "entries": [{"task": "animal", "key": "class", "values": {"hound": "dog"}}]}
    made = await desk.ready(image_folder(("cat", "hound", "horse"), first=32_000), mapping=mapping)
    assert list(made.mapping.entries[0].classes) == ["cat", "dog", "horse"]
    assert {dict(item.classifications)["animal"] for item in await desk.items(made)} == {"cat", "dog", "horse"}
    mapping["entries"][0]["task"] = "colour"  # type: ignore[index]
    wrong = await desk.registry.refused(desk.begin(image_folder(), mapping=mapping))
    assert wrong.fields[0][0] == "dataset.mapping.entries[0].task"
    assert "it has: animal, size" in wrong.message


async def test_a_mapping_that_does_not_fit_waits_for_somebody(desk: Desk) -> None:
    mapping = {"entries": [{"task": "animal", "key": "class", "classes": ["cat", "dog", "horse"]}]}
    data = image_folder(("cat", "dog", "unicorn"), first=33_000)
    waiting = await desk.create(data, mapping=mapping)
    assert waiting.state == DATASET_STATE_AWAITING_CONFIRMATION
    dropped, missing = waiting.report.dropped_values, waiting.report.missing_classes
    assert [(each.key, each.value, each.count) for each in dropped] == [("class", "unicorn", 2)]
    assert [each.value for each in missing] == ["horse"]
    early = await desk.registry.refused(desk.datasets.ListDatasetItems(ListDatasetItemsRequest(parent=waiting.name)))
    assert (early.reason, "ConfirmDatasetImport" in early.message) == ("DATASET_NOT_READY", True)
    request = ConfirmDatasetImportRequest(name=waiting.name)
    confirmed = await desk.datasets.ConfirmDatasetImport(request)
    assert confirmed.state == DATASET_STATE_IMPORTING
    made = await desk.settled(confirmed)
    assert (made.state, made.item_count) == (DATASET_STATE_READY, 4)
    assert made.report.dropped_values[0].value == "unicorn"
    late = await desk.registry.refused(desk.datasets.ConfirmDatasetImport(request))
    assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_AWAITING_CONFIRMATION")
    at_once = await desk.ready(data, mapping=mapping, accept_mismatches=True)
    assert at_once.item_count == 4
