"""Aliases in requests become versions, in every field that names a version, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from google.protobuf.message import Message
from lathe.converter.v1.conversion_service_pb2 import CreateConversionTaskRequest
from lathe.optimizer.v1.optimization_service_pb2 import CreateOptimizationTaskGroupRequest
from lathe.registry.v1.model_service_pb2 import CreateModelVersionRequest, GetModelVersionRequest, ListModelsRequest
from lathe.registry.v1.release_service_pb2 import PromoteModelVersionRequest

from services.platform.interceptors.aliases import aliases_in, request_as_sent, resolve
from services.platform.words import from_values
from tests.unit.platform.test_names import fields_of_requests, pattern_of

BEST, FIRST = "models/a/aliases/best", "models/a/versions/1"
VERSION, OR_ALIAS = "^models/[^/]+/versions/[^/]+$", "^models/[^/]+/(versions|aliases)/[^/]+$"
ONLY_NUMBERS = {"DeleteModelVersionRequest.name", "BatchDeleteModelVersionsRequest.names"}


async def _known(aliases: Collection[str]) -> Mapping[str, str]:
    assert len(set(aliases)) == len(aliases)
    return {alias: FIRST for alias in aliases if alias == BEST}


def _resolved(request: Message) -> bytes:
    """Resolve the aliases of a request in place; return the request that counts for repeats."""

    async def run() -> bytes:
        if found := aliases_in(request, request.SerializeToString()):
            await resolve(request, found, _known)
        return request_as_sent()

    return asyncio.run(run())


def test_every_field_that_names_a_version_takes_an_alias_but_those_that_change_one() -> None:
    named = {field for field in fields_of_requests() if pattern_of(field) in {VERSION, OR_ALIAS}}
    numbers = {each.full_name.split(".", 3)[3] for each in named if pattern_of(each) == VERSION}
    assert numbers == ONLY_NUMBERS
    assert len(named) > len(ONLY_NUMBERS) + 10


def test_an_alias_becomes_its_version_wherever_it_is() -> None:
    group = {"group": {"model_versions": [BEST, "models/a/versions/2", FIRST], "spec": {"model_version": BEST}}}
    version = {"model_version": {"lineage": {"sources": [BEST], "task": BEST}, "display_name": BEST}}
    cases: list[tuple[Message, Mapping[str, object]]] = [
        (GetModelVersionRequest(), {"name": BEST}),
        (CreateConversionTaskRequest(), {"task": {"spec": {"model_version": BEST}}}),
        (PromoteModelVersionRequest(), {"name": "models/a/channels/b", "model_version": BEST}),
        (CreateOptimizationTaskGroupRequest(), group),
        (CreateModelVersionRequest(), version),
    ]
    for request, values in cases:
        from_values(dict(values), request)
        sent = request.SerializeToString(deterministic=True)
        assert _resolved(request) == sent
    assert cases[0][0] == GetModelVersionRequest(name=FIRST)
    made = cases[3][0]
    assert isinstance(made, CreateOptimizationTaskGroupRequest)
    assert list(made.group.model_versions) == [FIRST, "models/a/versions/2"]  # each once, as the field asks
    assert made.group.spec.model_version == FIRST
    of_version = cases[4][0]
    assert isinstance(of_version, CreateModelVersionRequest)
    assert list(of_version.model_version.lineage.sources) == [FIRST]
    assert (of_version.model_version.lineage.task, of_version.model_version.display_name) == (BEST, BEST)


def test_other_requests_stay_as_they_are() -> None:
    for request in (
        ListModelsRequest(search=BEST),
        GetModelVersionRequest(name=FIRST),
        GetModelVersionRequest(name="models/a/aliases/gone"),
    ):
        before = request.SerializeToString(deterministic=True)
        sent = _resolved(request)
        assert request.SerializeToString(deterministic=True) == before
        assert sent in {b"", before}
