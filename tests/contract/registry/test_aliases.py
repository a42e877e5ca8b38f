"""Aliases move from version to version, and stand for one wherever a version is read."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable

from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode
from lathe.registry.v1.alias_service_pb2 import (
    Alias,
    CreateAliasRequest,
    DeleteAliasRequest,
    GetAliasRequest,
    ListAliasesRequest,
    UpdateAliasRequest,
)
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PTH,
    CreateModelVersionRequest,
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DescribeModelVersionRequest,
    DiffModelVersionsRequest,
    GetLineageRequest,
    GetModelVersionRequest,
    Lineage,
    ModelVersion,
)

from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry


async def _version(registry: Registry, model: str) -> str:
    file = await registry.file("a.pth", samples.state_dict())
    return (await registry.version(model, ModelVersion(format=MODEL_FORMAT_PTH, files=[file]))).name


def _setting(alias: str, version: str, etag: str = "", *, missing: bool = True) -> UpdateAliasRequest:
    wanted = Alias(name=alias, model_version=version, etag=etag)
    return UpdateAliasRequest(alias=wanted, update_mask=FieldMask(paths=["model_version"]), allow_missing=missing)


async def test_an_alias_stands_for_its_version_until_it_moves(registry: Registry, model: str) -> None:
    first, second = await _version(registry, model), await _version(registry, model)
    request = CreateAliasRequest(parent=model, alias_id="best", alias=Alias(model_version=first))
    made = await registry.aliases.CreateAlias(request)
    assert (made.name, made.model_version, made.display_name) == (f"{model}/aliases/best", first, "best")
    taken = await registry.refused(registry.aliases.CreateAlias(request))
    assert taken.code is StatusCode.ALREADY_EXISTS
    best = made.name
    assert (await registry.models.GetModelVersion(GetModelVersionRequest(name=best))).name == first
    moved = await registry.aliases.UpdateAlias(_setting(best, second, made.etag))
    assert (moved.model_version, moved.uid) == (second, made.uid)
    assert (await registry.models.GetModelVersion(GetModelVersionRequest(name=best))).name == second
    lost = await registry.refused(registry.aliases.UpdateAlias(_setting(best, first, made.etag)))
    assert (lost.code, lost.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")
    # What one alias stands for can be given to another.
    kept = await registry.aliases.UpdateAlias(_setting(f"{model}/aliases/old", best))
    assert kept.model_version == second
    listed = await registry.aliases.ListAliases(ListAliasesRequest(parent=model, order_by="name"))
    assert [alias.name for alias in listed.aliases] == [best, f"{model}/aliases/old"]
    await registry.aliases.DeleteAlias(DeleteAliasRequest(name=best, etag=moved.etag))
    gone = await registry.refused(registry.models.GetModelVersion(GetModelVersionRequest(name=best)))
    assert (gone.code, best in gone.message) == (StatusCode.NOT_FOUND, True)
    assert (await registry.aliases.CreateAlias(request)).uid != made.uid  # nothing that is stored names an alias


async def test_every_call_that_reads_a_version_takes_an_alias(registry: Registry, model: str) -> None:
    first, second = await _version(registry, model), await _version(registry, model)
    best = (await registry.aliases.UpdateAlias(_setting(f"{model}/aliases/best", first))).name
    described = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=best))
    assert described.model_version == first
    found = await registry.models.DiffModelVersions(DiffModelVersionsRequest(before=best, after=second))
    assert (found.before, found.after) == (first, second)
    graph = await registry.models.GetLineage(GetLineageRequest(name=best))
    assert [node.name for node in graph.nodes] == [first]
    file = await registry.file("a.pth", samples.state_dict())
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(sources=[best]))
    request = CreateModelVersionRequest(parent=model, model_version=version, request_id=str(uuid.uuid4()))
    made = await registry.models.CreateModelVersion(request)
    assert list(made.lineage.sources) == [first]
    # A repeat is the same request, whatever has become of the alias.
    await registry.aliases.UpdateAlias(_setting(best, second))
    assert await registry.models.CreateModelVersion(request) == made
    await registry.aliases.DeleteAlias(DeleteAliasRequest(name=best))
    assert await registry.models.CreateModelVersion(request) == made
    request.request_id = ""
    missing = await registry.refused(registry.models.CreateModelVersion(request))
    assert (missing.reason, best in missing.message) == ("REFERENCE_NOT_FOUND", True)


async def test_what_deletes_a_version_names_its_number(registry: Registry, model: str) -> None:
    first = await _version(registry, model)
    best = (await registry.aliases.UpdateAlias(_setting(f"{model}/aliases/best", first))).name
    by_alias = await registry.refused(registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=best)))
    assert (by_alias.code, by_alias.fields[0][0]) == (StatusCode.INVALID_ARGUMENT, "name")
    in_use = await registry.refused(registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=first)))
    assert (in_use.reason, best in in_use.message) == ("IN_USE", True)
    await registry.models.DeleteModel(DeleteModelRequest(name=model, force=True))
    gone = await registry.refused(registry.aliases.GetAlias(GetAliasRequest(name=best)))
    assert gone.code is StatusCode.NOT_FOUND


async def test_an_alias_is_of_its_own_model(registry: Registry, model: str) -> None:
    own, other = await _version(registry, model), await _version(registry, await registry.model())
    alias = f"{model}/aliases/best"
    cases: list[tuple[Awaitable[object], StatusCode, str]] = [
        (registry.aliases.UpdateAlias(_setting(alias, other)), StatusCode.INVALID_ARGUMENT, "alias.model_version"),
        (
            registry.aliases.UpdateAlias(_setting(alias, f"{model}/versions/9")),
            StatusCode.NOT_FOUND,
            "alias.model_version",
        ),
        (registry.aliases.UpdateAlias(_setting(f"{model}/aliases/3", own)), StatusCode.INVALID_ARGUMENT, "alias_id"),
        (registry.aliases.UpdateAlias(_setting(alias, "best")), StatusCode.INVALID_ARGUMENT, "alias.model_version"),
    ]
    for call, code, field in cases:
        error = await registry.refused(call)
        assert (error.code, error.fields[0][0]) == (code, field)
    for request in (_setting(alias, own, missing=False), _setting(alias, own, '"x"')):
        assert (await registry.refused(registry.aliases.UpdateAlias(request))).code is StatusCode.NOT_FOUND


async def test_an_alias_that_many_set_at_once_ends_at_one_of_their_versions(registry: Registry, model: str) -> None:
    versions = [await _version(registry, model) for _ in range(3)]
    alias = f"{model}/aliases/best"
    made = await asyncio.gather(*(registry.aliases.UpdateAlias(_setting(alias, each)) for each in versions * 3))
    assert len({each.uid for each in made}) == 1
    assert (await registry.aliases.GetAlias(GetAliasRequest(name=alias))).model_version in versions


async def test_a_repeat_returns_the_first_alias(registry: Registry, model: str) -> None:
    alias = Alias(model_version=await _version(registry, model))
    request = CreateAliasRequest(parent=model, alias_id="best", alias=alias, request_id=str(uuid.uuid4()))
    made = await registry.aliases.CreateAlias(request)
    assert await registry.aliases.CreateAlias(request) == made
