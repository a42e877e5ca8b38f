"""Each method × each role: what the protos declare is what the services do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from lathe.type.v1.access_pb2 import ACCESS_AUTHENTICATED, ACCESS_OPERATOR, ACCESS_SERVICE

from services.platform.errors import LatheError
from services.platform.interceptors.access import declared
from services.platform.settings import Settings
from tests.contract.access import CALLERS, allowed_callers, answer, open_guarded
from tests.contract.registry.conftest import digest_of
from tests.contract.requests import METHODS, SPECS, request_of
from tests.contract.suite import Suite

# Of which processes the methods are held to what they declare.
PROCESSES = ("registry", "template", "converter", "quantizer", "optimizer", "evaluator")
GUARDED = [name for name, (process, path, _) in METHODS.items() if process in PROCESSES and declared(path)]
# A list of everything has nothing for who may see nothing, and so has a stream.
OF_EVERYTHING = {
    "ListModels",
    "ListArchitectures",
    "ListDatasets",
    "ListUploads",
    "ListTemplates",
    "ListProjects",
    "ListAuditEntries",
    "ListEvaluationComparisons",
    "WatchTasks",
    *(f"List{kind}{what}" for kind in SPECS for what in ("Tasks", "TaskGroups")),
}
REFUSALS = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


@pytest.fixture(scope="session")
async def guarded(apart: Callable[[], Settings], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    async with open_guarded(apart(), tmp_path_factory.mktemp("tokens")) as opened:
        yield opened


def test_every_method_declares_what_it_takes() -> None:
    assert not [path for _, path, _ in METHODS.values() if path.startswith("/lathe.") and not declared(path)]


@pytest.mark.parametrize("method", GUARDED)
async def test_a_method_answers_each_role_as_declared(guarded: Suite, method: str) -> None:
    for caller in CALLERS:
        said = await answer(guarded, method, caller)
        refusal = said.code if isinstance(said, LatheError) and _refuses(said, method) else None
        assert refusal is _expected(method, caller), f"{method} to {caller}: {said}"
        if method in OF_EVERYTHING - {"WatchTasks"} and refusal is None:
            # Of its own project, a stranger may see everything; built-in templates are everybody's.
            assert ("'projects/default'" in str(said)) is (caller != "stranger"), f"{caller}: {said}"


def _refuses(said: LatheError, method: str) -> bool:
    """Return whether an error is about who calls; that an approval is somebody else's is not."""
    return said.code in REFUSALS and (method != "RevokeApproval" or said.reason != "PERMISSION_DENIED")


def _expected(method: str, caller: str) -> grpc.StatusCode | None:
    """Return with what a method refuses a caller; None if it does not."""
    if caller == "nobody":
        return grpc.StatusCode.UNAUTHENTICATED
    if caller in allowed_callers(method):
        return None
    by_project = declared(METHODS[method][1]) not in {ACCESS_AUTHENTICATED, ACCESS_OPERATOR, ACCESS_SERVICE}
    if caller != "stranger" or not by_project:
        return grpc.StatusCode.PERMISSION_DENIED
    return None if method in OF_EVERYTHING else grpc.StatusCode.NOT_FOUND


async def test_the_members_of_a_project_read_what_their_tasks_made(guarded: Suite) -> None:
    data = b"a report"
    opened = await guarded.call(
        "CreateUpload", request_of("CreateUpload", {"size_bytes": len(data), "project": "projects/others"}), "stranger"
    )
    async with httpx.AsyncClient() as http:
        (await http.put(opened["parts"][0]["url"], content=data)).raise_for_status()
    digest = MessageToDict(digest_of(data), preserving_proto_field_name=True)
    stored = request_of("FinalizeUpload", {"name": opened["name"], "digest": digest})
    await guarded.call("FinalizeUpload", stored, "stranger")
    asked = request_of("GetDownload", {"name": f"artifacts/{digest['sha256']}"})
    with pytest.raises(grpc.aio.AioRpcError) as hidden:
        await guarded.call("GetDownload", asked, "viewer")
    assert hidden.value.code() == grpc.StatusCode.NOT_FOUND
    made = {"project": "projects/default", "resource": "evaluationTasks/x", "digests": [digest]}
    await guarded.call("UseArtifacts", request_of("UseArtifacts", made), "service")
    assert (await guarded.call("GetDownload", asked, "viewer"))["url"]
