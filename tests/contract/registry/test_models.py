"""Models: names, etags, masks, pages, search."""

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.internal.v1.registry_service_pb2 import HoldModelVersionRequest
from lathe.registry.v1.architecture_service_pb2 import CreateArchitectureRequest, ListArchitecturesRequest
from lathe.registry.v1.artifact_service_pb2 import CreateUploadRequest
from lathe.registry.v1.model_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DescribeModelVersionRequest,
    GetModelRequest,
    ListModelsRequest,
    ListModelVersionsRequest,
    Model,
    UpdateModelRequest,
)

from tests.contract.registry.conftest import Registry, new_architecture, unique


async def test_a_model_is_created_read_changed_and_deleted(registry: Registry) -> None:
    model_id = unique("resnet")
    made = await registry.models.CreateModel(
        CreateModelRequest(model=Model(display_name="ResNet", labels={"team": "vision"}), model_id=model_id),
        metadata=[("x-lathe-user", "ada")],
    )
    assert made.name == f"models/{model_id}"
    assert (made.owner, dict(made.labels), made.version_count, made.latest_version) == (
        "ada",
        {"team": "vision"},
        0,
        "",
    )
    assert await registry.models.GetModel(GetModelRequest(name=made.name)) == made

    change = UpdateModelRequest(
        model=Model(name=made.name, display_name="ResNet 50", description="kept out", etag=made.etag),
        update_mask=FieldMask(paths=["display_name"]),
    )
    changed = await registry.models.UpdateModel(change)
    assert (changed.display_name, changed.description, changed.uid) == ("ResNet 50", "", made.uid)
    assert changed.etag != made.etag
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()

    stale = await registry.refused(registry.models.UpdateModel(change))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    stale = await registry.refused(registry.models.DeleteModel(DeleteModelRequest(name=made.name, etag=made.etag)))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")

    await registry.models.DeleteModel(DeleteModelRequest(name=made.name, etag=changed.etag))
    gone = await registry.refused(registry.models.GetModel(GetModelRequest(name=made.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    assert made.name in gone.message


async def test_an_id_is_made_from_the_display_name(registry: Registry) -> None:
    name = unique("Mobile Net")
    first, second = [
        await registry.models.CreateModel(CreateModelRequest(model=Model(display_name=name))) for _ in range(2)
    ]
    assert first.name == f"models/{name.lower().replace(' ', '-')}"
    assert second.name == f"{first.name}-2"


async def test_a_taken_id_is_refused(registry: Registry) -> None:
    request = CreateModelRequest(model=Model(display_name="m"), model_id=unique())
    await registry.models.CreateModel(request)
    taken = await registry.refused(registry.models.CreateModel(request))
    assert taken.code is grpc.StatusCode.ALREADY_EXISTS


async def test_the_same_request_id_creates_once(registry: Registry) -> None:
    request = CreateModelRequest(model=Model(display_name=unique()), request_id=str(uuid.uuid4()))
    results = await asyncio.gather(*(registry.models.CreateModel(request) for _ in range(4)))
    assert all(result == results[0] for result in results)
    request.model.display_name = "another"
    reused = await registry.refused(registry.models.CreateModel(request))
    assert (reused.code, reused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (Model(), "model.display_name"),
        (Model(display_name="n" * 101), "model.display_name"),
        (Model(display_name="n", description="d" * 1001), "model.description"),
        (Model(display_name="n", labels={"Upper": "x"}), 'model.labels["Upper"]'),
    ],
)
async def test_rules_of_the_proto_hold(registry: Registry, model: Model, field: str) -> None:
    wrong = await registry.refused(registry.models.CreateModel(CreateModelRequest(model=model)))
    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.fields[0][0] == field


async def test_a_change_obeys_mask_and_rules(registry: Registry) -> None:
    made = await registry.models.CreateModel(CreateModelRequest(model=Model(display_name="m")))
    for paths, field in ((["uid"], "update_mask"), (["x"], "update_mask"), (["display_name"], "model.display_name")):
        request = UpdateModelRequest(model=Model(name=made.name), update_mask=FieldMask(paths=paths))
        wrong = await registry.refused(registry.models.UpdateModel(request))
        assert (wrong.code, wrong.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    unknown = await registry.refused(
        registry.models.UpdateModel(
            UpdateModelRequest(model=Model(name="models/nothing"), update_mask=FieldMask(paths=["description"]))
        )
    )
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_pages_are_complete_and_searchable(registry: Registry) -> None:
    key = unique("k")
    label, labelled = {key: "v"}, f"labels.{key} = v"
    made = [
        await registry.models.CreateModel(
            CreateModelRequest(
                model=Model(display_name=f"Page {number}", labels=label), model_id=unique(f"page{number}")
            ),
            metadata=[("x-lathe-user", "grace" if number % 2 else "ada")],
        )
        for number in range(7)
    ]
    query = ListModelsRequest(page_size=3, filter=labelled, order_by="create_time desc")
    found: list[str] = []
    while True:
        page = await registry.models.ListModels(query)
        found += [model.name for model in page.models]
        if not page.next_page_token:
            break
        query.page_token = page.next_page_token
    assert found == [model.name for model in reversed(made)]

    mine = await registry.models.ListModels(
        ListModelsRequest(filter=labelled, mine_only=True), metadata=[("x-lathe-user", "grace")]
    )
    assert len(mine.models) == 3
    by_id = made[4].name.removeprefix("models/")
    for search in (by_id.upper(), by_id.replace("-", " "), by_id[:-3] + "x" + by_id[-3:]):
        searched = await registry.models.ListModels(ListModelsRequest(search=search))
        assert [model.name for model in searched.models] == [made[4].name]


async def test_wrong_pages_are_refused(registry: Registry) -> None:
    key = unique("k")
    labelled = f"labels:{key}"
    for _ in range(2):
        await registry.models.CreateModel(CreateModelRequest(model=Model(display_name="m", labels={key: "v"})))
    token = (await registry.models.ListModels(ListModelsRequest(filter=labelled, page_size=1))).next_page_token
    for request, field in (
        (ListModelsRequest(page_size=-1), "page_size"),
        (ListModelsRequest(page_token="invented"), "page_token"),
        (ListModelsRequest(page_token=token), "page_token"),
        (ListModelsRequest(page_token=token, filter=labelled, order_by="display_name"), "page_token"),
        (ListModelsRequest(order_by="colour"), "order_by"),
        (ListModelsRequest(filter="colour = red"), "filter"),
    ):
        wrong = await registry.refused(registry.models.ListModels(request))
        assert (wrong.code, wrong.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    await registry.models.ListModels(ListModelsRequest(page_size=100_000))


async def test_a_page_token_of_another_list_is_refused(registry: Registry) -> None:
    for _ in range(2):
        await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
        await registry.model()
    models = await registry.models.ListModels(ListModelsRequest(page_size=1))
    architectures = await registry.architectures.ListArchitectures(ListArchitecturesRequest(page_size=1))
    for call in (
        registry.architectures.ListArchitectures(ListArchitecturesRequest(page_token=models.next_page_token)),
        registry.models.ListModels(ListModelsRequest(page_token=architectures.next_page_token)),
    ):
        error = await registry.refused(call)
        assert (error.code, error.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


async def test_the_name_of_a_deleted_model_is_not_given_again(registry: Registry) -> None:
    name = await registry.model()
    await registry.models.DeleteModel(DeleteModelRequest(name=name))
    again = CreateModelRequest(model=Model(display_name="Another"), model_id=name.removeprefix("models/"))
    error = await registry.refused(registry.models.CreateModel(again))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NAME_RETIRED")


async def test_no_text_is_our_fault(registry: Registry) -> None:
    name = "models/a\0b/versions/1"
    for call in (
        registry.models.CreateModel(CreateModelRequest(model=Model(display_name="a\0b"))),
        registry.models.CreateModel(CreateModelRequest(model=Model(display_name="a", labels={"k": "\0"}))),
        registry.artifacts.CreateUpload(CreateUploadRequest(display_name="a\0b")),
        registry.internal.HoldModelVersion(HoldModelVersionRequest(name=name, holder="h")),
        registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=name)),
        registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=name)),
        registry.models.ListModelVersions(ListModelVersionsRequest(parent="models/a\0b")),
    ):
        refused = await registry.refused(call)
        assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
