"""Versions live: changed, held, compared, followed, and deleted only when nothing needs them."""

import asyncio

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.internal.v1.registry_service_pb2 import HoldModelVersionRequest, RenewHoldsRequest, UnholdModelVersionRequest
from lathe.registry.v1.architecture_service_pb2 import (
    CERTIFICATION_CERTIFIED,
    CERTIFICATION_UNCERTIFIED,
    Architecture,
    CreateArchitectureRequest,
    DeleteArchitectureRequest,
    GetArchitectureRequest,
    UpdateArchitectureRequest,
)
from lathe.registry.v1.model_service_pb2 import (
    LINEAGE_KIND_ARCHITECTURE,
    LINEAGE_KIND_MODEL_VERSION,
    LINEAGE_KIND_TASK,
    LINEAGE_KIND_TEMPLATE,
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PTH,
    BatchDeleteModelVersionsRequest,
    BatchGetModelVersionsRequest,
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DescribeModelVersionRequest,
    DiffModelVersionsRequest,
    GetLineageRequest,
    GetModelRequest,
    GetModelVersionRequest,
    Lineage,
    ListModelVersionsRequest,
    ModelVersion,
    UpdateModelVersionRequest,
)
from lathe.template.v1.template_service_pb2 import ListTemplatesRequest
from lathe.type.v1.view_pb2 import VIEW_FULL

from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry, new_architecture


async def _pth(registry: Registry, model: str, **fields: object) -> ModelVersion:
    file = await registry.file("a.pth", samples.state_dict())
    return await registry.version(model, ModelVersion(format=MODEL_FORMAT_PTH, files=[file], **fields))  # type: ignore[arg-type]


async def test_names_change_and_files_do_not(registry: Registry, model: str) -> None:
    made = await _pth(registry, model, display_name="first")
    request = UpdateModelVersionRequest(
        model_version=ModelVersion(name=made.name, display_name="best", labels={"stage": "prod"}, etag=made.etag),
        update_mask=FieldMask(paths=["display_name", "labels"]),
    )
    changed = await registry.models.UpdateModelVersion(request)
    assert (changed.display_name, dict(changed.labels), changed.files) == ("best", {"stage": "prod"}, made.files)
    stale = await registry.refused(registry.models.UpdateModelVersion(request))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    request.model_version.CopyFrom(ModelVersion(name=made.name))
    assert (await registry.models.UpdateModelVersion(request)).display_name == "Model 1"
    request = UpdateModelVersionRequest(
        model_version=ModelVersion(name=made.name), update_mask=FieldMask(paths=["files"])
    )
    assert (await registry.refused(registry.models.UpdateModelVersion(request))).fields[0][0] == "update_mask"


async def test_a_held_version_stays(registry: Registry, model: str) -> None:
    made = await _pth(registry, model)
    hold = HoldModelVersionRequest(name=made.name, holder="conversionTasks/7", ttl=Duration(seconds=1000))
    for _ in range(2):
        await registry.internal.HoldModelVersion(hold)
    for call in (
        registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=made.name)),
        registry.models.DeleteModel(DeleteModelRequest(name=model, force=True)),
    ):
        refused = await registry.refused(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
        assert "conversionTasks/7" in refused.message
    for _ in range(2):
        await registry.internal.UnholdModelVersion(UnholdModelVersionRequest(name=made.name, holder=hold.holder))
    await registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=made.name))
    unknown = await registry.refused(registry.internal.HoldModelVersion(hold))
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_a_hold_ends_by_itself(registry: Registry, model: str) -> None:
    made = await _pth(registry, model)
    await registry.internal.HoldModelVersion(
        HoldModelVersionRequest(name=made.name, holder="conversionTasks/8", ttl=Duration(seconds=1))
    )
    await asyncio.sleep(1.1)
    await registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=made.name))


async def test_a_hold_that_is_renewed_lasts_and_none_is_made_by_renewing(registry: Registry, model: str) -> None:
    made, other = await _pth(registry, model), await _pth(registry, model)
    hold = HoldModelVersionRequest(name=made.name, holder="conversionTasks/9", ttl=Duration(seconds=1))
    await registry.internal.HoldModelVersion(hold)
    for seconds in (1000, 1):  # it is never made shorter
        renew = RenewHoldsRequest(holders=["conversionTasks/9", "conversionTasks/10"], ttl=Duration(seconds=seconds))
        await registry.internal.RenewHolds(renew)
    await asyncio.sleep(1.1)
    kept = await registry.refused(registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=made.name)))
    assert (kept.code, kept.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    await registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=other.name))


async def test_deleting_updates_the_model_and_never_reuses_a_number(registry: Registry, model: str) -> None:
    first, second = await _pth(registry, model), await _pth(registry, model)
    stale = await registry.refused(
        registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=second.name, etag='"0"'))
    )
    assert stale.reason == "ETAG_MISMATCH"
    await registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=second.name, etag=second.etag))
    got = await registry.models.GetModel(GetModelRequest(name=model))
    assert (got.version_count, got.latest_version) == (1, first.name)
    for call in (
        registry.models.GetModelVersion(GetModelVersionRequest(name=second.name)),
        registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=second.name)),
        registry.models.GetLineage(GetLineageRequest(name=second.name)),
        registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=second.name)),
    ):
        assert (await registry.refused(call)).code is grpc.StatusCode.NOT_FOUND
    assert (await _pth(registry, model)).name == f"{model}/versions/3"


async def test_a_model_with_versions_is_deleted_by_force_alone(registry: Registry, model: str) -> None:
    source = await _pth(registry, model)
    await _pth(registry, model, lineage=Lineage(sources=[source.name]))
    refused = await registry.refused(registry.models.DeleteModel(DeleteModelRequest(name=model)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HAS_VERSIONS")

    other = await registry.model()
    derived = await _pth(registry, other, lineage=Lineage(sources=[source.name]))
    refused = await registry.refused(registry.models.DeleteModel(DeleteModelRequest(name=model, force=True)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    assert derived.name in refused.message

    await registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=derived.name))
    await registry.models.DeleteModel(DeleteModelRequest(name=model, force=True))
    gone = await registry.refused(registry.models.GetModelVersion(GetModelVersionRequest(name=source.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND


async def test_a_lineage_says_which_template_is_deleted(registry: Registry, model: str) -> None:
    there = (await registry.templates.ListTemplates(ListTemplatesRequest(page_size=1))).templates[0].name
    kept = await _pth(registry, model, lineage=Lineage(template=there))
    made = await _pth(registry, model, lineage=Lineage(sources=[kept.name], template="templates/gone"))
    graph = await registry.models.GetLineage(GetLineageRequest(name=made.name))
    assert {node.name: node.deleted for node in graph.nodes} == {
        there: False,
        "templates/gone": True,
        kept.name: False,
        made.name: False,
    }


async def test_lineage_is_followed_both_ways(registry: Registry, model: str) -> None:
    architecture = (
        await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))
    ).name
    source = await _pth(registry, model, architecture=architecture)
    lineage = Lineage(
        sources=[source.name], architectures={architecture: "ab" * 32}, template="templates/t", task="conversionTasks/1"
    )
    package = await _pth(registry, model, lineage=lineage)
    final = await _pth(registry, model, lineage=Lineage(sources=[package.name], task="quantizationTasks/2"))

    graph = await registry.models.GetLineage(GetLineageRequest(name=package.name))
    assert {(node.name, node.kind, node.distance) for node in graph.nodes} == {
        (package.name, LINEAGE_KIND_MODEL_VERSION, 0),
        (source.name, LINEAGE_KIND_MODEL_VERSION, -1),
        (architecture, LINEAGE_KIND_ARCHITECTURE, -1),
        ("templates/t", LINEAGE_KIND_TEMPLATE, -1),
        ("conversionTasks/1", LINEAGE_KIND_TASK, -1),
        (final.name, LINEAGE_KIND_MODEL_VERSION, 1),
    }
    edges = {(edge.source, edge.target) for edge in graph.edges}
    assert (source.name, package.name) in edges
    assert (architecture, source.name) in edges
    assert (package.name, final.name) in edges

    near = await registry.models.GetLineage(GetLineageRequest(name=source.name, max_depth=1))
    assert {node.name for node in near.nodes} == {source.name, architecture, package.name}
    far = await registry.models.GetLineage(GetLineageRequest(name=final.name))
    # By the shortest way: the architecture was used for the package too.
    assert {node.name: node.distance for node in far.nodes}[architecture] == -2

    for call in (
        registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=source.name)),
        registry.architectures.DeleteArchitecture(DeleteArchitectureRequest(name=architecture)),
    ):
        refused = await registry.refused(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
        assert package.name in refused.message


async def test_the_first_success_certifies_an_architecture(registry: Registry, model: str) -> None:
    made = await registry.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=new_architecture()))

    async def convert(digest: str, task: str) -> Architecture:
        lineage = Lineage(architectures={made.name: digest}, task=task)
        await _pth(registry, model, lineage=lineage)
        return await registry.architectures.GetArchitecture(GetArchitectureRequest(name=made.name))

    assert (await convert("0" * 64, "conversionTasks/old")).certification == CERTIFICATION_UNCERTIFIED
    assert (await convert(made.digest, "")).certification == CERTIFICATION_UNCERTIFIED
    certified = await convert(made.digest, "conversionTasks/1")
    assert (certified.certification, certified.certified_by) == (CERTIFICATION_CERTIFIED, "conversionTasks/1")
    assert (await convert(made.digest, "conversionTasks/2")).certified_by == "conversionTasks/1"

    request = UpdateArchitectureRequest(
        architecture=Architecture(name=made.name, config="num_classes: 3"), update_mask=FieldMask(paths=["config"])
    )
    changed = await registry.architectures.UpdateArchitecture(request)
    assert (changed.certification, changed.certified_by) == (CERTIFICATION_UNCERTIFIED, "")


async def test_differences_are_named(registry: Registry, model: str) -> None:
    before = await registry.version(
        model,
        ModelVersion(format=MODEL_FORMAT_ONNX, files=[await registry.file("m.onnx", samples.onnx_model("Relu", 3))]),
    )
    after = await registry.version(
        model,
        ModelVersion(format=MODEL_FORMAT_ONNX, files=[await registry.file("m.onnx", samples.onnx_model("Sigmoid", 4))]),
    )
    found = await registry.models.DiffModelVersions(DiffModelVersionsRequest(before=before.name, after=after.name))
    paths = {each.path: (each.before, each.after) for each in found.differences}
    assert paths["graphs[m.onnx].operators.Relu"] == ("1", "")
    assert paths["graphs[m.onnx].operators.Sigmoid"] == ("", "1")
    assert "files[m.onnx].sha256" in paths
    assert any(path.endswith("inputs[x].shape") for path in paths)
    same = await registry.models.DiffModelVersions(DiffModelVersionsRequest(before=before.name, after=before.name))
    assert not same.differences
    unknown = await registry.refused(
        registry.models.DiffModelVersions(DiffModelVersionsRequest(before=before.name, after=f"{model}/versions/99"))
    )
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_versions_are_listed_by_model_and_over_all(registry: Registry, model: str) -> None:
    made = [(await _pth(registry, model)).name for _ in range(3)]
    page = await registry.models.ListModelVersions(ListModelVersionsRequest(parent=model, page_size=2))
    assert [each.name for each in page.model_versions] == [made[2], made[1]]
    assert all(each.size_bytes and not each.files for each in page.model_versions), "lists leave files out"
    rest = ListModelVersionsRequest(parent=model, page_size=2, page_token=page.next_page_token)
    assert [each.name for each in (await registry.models.ListModelVersions(rest)).model_versions] == [made[0]]
    all_models = await registry.models.ListModelVersions(ListModelVersionsRequest(parent="models/-", page_size=3))
    assert [each.name for each in all_models.model_versions] == list(reversed(made))
    unknown = await registry.refused(registry.models.ListModelVersions(ListModelVersionsRequest(parent="models/none")))
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_deleting_a_source_and_deriving_from_it_never_both_succeed(registry: Registry, model: str) -> None:
    other = await registry.model()
    for _ in range(4):
        source = await _pth(registry, model)
        derived, deleted = await asyncio.gather(
            _pth(registry, other, lineage=Lineage(sources=[source.name])),
            registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=source.name)),
            return_exceptions=True,
        )
        assert isinstance(derived, grpc.aio.AioRpcError) != isinstance(deleted, grpc.aio.AioRpcError)
        if isinstance(derived, grpc.aio.AioRpcError):
            assert derived.code() is grpc.StatusCode.NOT_FOUND


async def test_a_batch_deletes_what_was_made_before_what_it_was_made_from(registry: Registry, model: str) -> None:
    source = await _pth(registry, model)
    made = await _pth(registry, model, lineage=Lineage(sources=[source.name]))
    asked = BatchGetModelVersionsRequest(names=[made.name, source.name], view=VIEW_FULL)
    assert list((await registry.models.BatchGetModelVersions(asked)).model_versions) == [made, source]
    basic = await registry.models.BatchGetModelVersions(BatchGetModelVersionsRequest(names=[source.name]))
    assert not basic.model_versions[0].files
    answer = await registry.models.BatchDeleteModelVersions(
        BatchDeleteModelVersionsRequest(names=[source.name, made.name])
    )
    assert (set(answer.deleted), list(answer.errors)) == ({source.name, made.name}, [])
    gone = await registry.refused(registry.models.BatchGetModelVersions(asked))
    assert (gone.code, gone.resource) == (grpc.StatusCode.NOT_FOUND, ("model version", made.name))
