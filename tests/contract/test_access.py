"""Each method × each role: what the protos declare is what the services do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_READY
from lathe.type.v1.access_pb2 import ACCESS_AUTHENTICATED, ACCESS_OPERATOR, ACCESS_SERVICE

from services.platform import grants
from services.platform.errors import LatheError, from_rpc_error
from services.platform.interceptors import access as interceptor
from services.platform.interceptors.access import declared
from services.platform.settings import Settings
from tests.contract.access import CALLERS, allowed_callers, answer, open_guarded
from tests.contract.registry.conftest import digest_of
from tests.contract.registry.samples import state_dict
from tests.contract.requests import (
    ARCHITECTURE,
    CHANNEL,
    DATASET,
    METHODS,
    MODEL,
    PACKAGE,
    SPECS,
    TEMPLATE,
    VERSION,
    request_of,
)
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
OTHERS = "projects/others"
REFUSALS = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


@pytest.fixture(scope="session")
async def guarded(apart: Callable[[], Settings], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    with pytest.MonkeyPatch.context() as patch:
        # Five and three seconds, so that a removal counts after eight.
        patch.setattr(grants, "KEPT_SECONDS", 1.0)
        patch.setattr(interceptor, "RENEW_SECONDS", 0.6)
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


def call(suite: Suite, method: str, caller: str, **values: Any) -> Any:
    return suite.call(method, request_of(method, values), caller)


async def refused(answer: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return from_rpc_error(caught.value).reason


async def test_to_know_a_digest_gives_nothing(guarded: Suite) -> None:
    file = guarded.made["file"]
    artifact = f"artifacts/{file['digest']['sha256']}"
    model = await call(guarded, "CreateModel", "stranger", model={"display_name": "Mine", "project": OTHERS})
    version = {"parent": model["name"], "model_version": {"format": "PTH", "files": [file]}}
    assert await refused(call(guarded, "CreateModelVersion", "stranger", **version)) == "BLOB_NOT_FOUND"
    # Whoever announces the bytes has to send them, and is told nothing else than of bytes that nobody has.
    upload = await call(guarded, "CreateUpload", "stranger", project=OTHERS, **announced(file))
    unknown = {"path": file["path"], "digest": file["digest"] | {"sha256": "0" * 64}}
    other = await call(guarded, "CreateUpload", "stranger", project=OTHERS, **announced(unknown))
    assert shape(upload) == shape(other)
    finalize = {"name": upload["name"], "digest": file["digest"]}
    assert await refused(call(guarded, "FinalizeUpload", "stranger", **finalize)) == "UPLOAD_INCOMPLETE"
    assert await refused(call(guarded, "GetArtifact", "stranger", name=artifact)) == "NOT_FOUND"
    async with httpx.AsyncClient() as http:
        direct = upload["direct"]
        (await http.put(direct["url"], content=state_dict(), headers=direct["headers"])).raise_for_status()
    await call(guarded, "FinalizeUpload", "stranger", **finalize)
    assert (await call(guarded, "GetArtifact", "stranger", name=artifact))["name"] == artifact
    assert (await call(guarded, "CreateModelVersion", "stranger", **version))["name"].endswith("/versions/1")
    assert await refused(call(guarded, "DeleteProject", "ann", name=OTHERS)) == "PROJECT_NOT_EMPTY"


async def test_bytes_that_others_store_later_are_not_those_of_who_announced_them(guarded: Suite) -> None:
    data = b"known before anybody had stored it"
    digest = MessageToDict(digest_of(data), preserving_proto_field_name=True)
    file = {"path": "early", "digest": digest}
    early = await call(guarded, "CreateUpload", "stranger", project=OTHERS, **announced(file))
    assert early["direct"]
    upload = await call(guarded, "CreateUpload", "editor", **announced(file))
    seen = await call(guarded, "GetUpload", "viewer", name=upload["name"])
    assert "direct" not in seen
    assert not any("url" in part for part in seen["parts"])
    async with httpx.AsyncClient() as http:
        direct = upload["direct"]
        (await http.put(direct["url"], content=data, headers=direct["headers"])).raise_for_status()
        finalize = {"name": early["name"], "digest": digest}
        await call(guarded, "FinalizeUpload", "editor", name=upload["name"], digest=digest)
        assert await refused(call(guarded, "FinalizeUpload", "stranger", **finalize)) == "UPLOAD_INCOMPLETE"
        direct = (await call(guarded, "GetUpload", "stranger", name=early["name"]))["direct"]
        assert (await http.put(direct["url"], content=data, headers=direct["headers"])).status_code == 200
    await call(guarded, "FinalizeUpload", "stranger", **finalize)


async def test_who_may_read_a_dataset_reads_the_contents_of_its_items(guarded: Suite) -> None:
    item = (await call(guarded, "ListDatasetItems", "viewer", parent=DATASET, page_size=1))["items"][0]
    asked = {"name": f"artifacts/{item['content']['sha256']}", "dataset_item": item["name"]}
    download = await call(guarded, "GetDownload", "viewer", **asked)
    async with httpx.AsyncClient() as http:
        assert digest_of((await http.get(download["url"])).content).sha256 == item["content"]["sha256"]
    assert await refused(call(guarded, "GetDownload", "stranger", **asked)) == "NOT_FOUND"
    assert await refused(call(guarded, "GetDownload", "stranger", name=asked["name"])) == "NOT_FOUND"
    wrong = asked | {"name": f"artifacts/{guarded.made['file']['digest']['sha256']}"}
    assert await refused(call(guarded, "GetDownload", "viewer", **wrong)) == "INVALID_ARGUMENT"


async def test_rules_name_what_the_project_of_the_channel_may_see(guarded: Suite) -> None:
    values = {"display_name": "Elsewhere", "project": OTHERS, "files": [guarded.made["images"]]}
    dataset = (await call(guarded, "CreateDataset", "ann", dataset=values))["name"]
    async for seen in guarded.stream("WatchDataset", request_of("WatchDataset", {"name": dataset}), "ann"):
        state = seen.state
    assert state == DATASET_STATE_READY
    rules = {"channel": {"name": CHANNEL, "rules": {"dataset": dataset}}, "update_mask": "rules"}
    # An administrator of the installation may see both, the members of the channel's project may not.
    assert await refused(call(guarded, "UpdateChannel", "ann", **rules)) == "REFERENCE_NOT_FOUND"
    assert await refused(call(guarded, "UpdateChannel", "admin", **rules)) == "REFERENCE_NOT_FOUND"
    assert await refused(call(guarded, "UpdateChannel", "stranger", **rules)) == "NOT_FOUND"
    shared = {"dataset": {"name": dataset, "shared_with": ["projects/default"]}, "update_mask": "sharedWith"}
    await call(guarded, "UpdateDataset", "ann", **shared)
    await call(guarded, "UpdateChannel", "admin", **rules)
    await call(guarded, "UpdateChannel", "admin", **rules | {"channel": {"name": CHANNEL}})


async def test_what_is_shared_is_read_with_all_that_belongs_to_it(guarded: Suite) -> None:
    named = {"name": f"{PACKAGE}"}
    package = await call(guarded, "GetModelVersion", "viewer", **named)
    artifact = {"name": f"artifacts/{package['files'][0]['digest']['sha256']}"}
    update = {"model": {"name": MODEL, "shared_with": [OTHERS]}, "update_mask": "sharedWith"}
    assert await refused(call(guarded, "UpdateModel", "releaser", **update)) == "ROLE_REQUIRED"
    for noun, name in (("Model", MODEL), ("Template", TEMPLATE)):
        nobody = {noun.lower(): {"name": name, "shared_with": ["projects/nosuch"]}, "update_mask": "sharedWith"}
        assert await refused(call(guarded, f"Update{noun}", "admin", **nobody)) == "REFERENCE_NOT_FOUND"
    assert await refused(call(guarded, "GetDownload", "stranger", **artifact)) == "NOT_FOUND"
    await call(guarded, "UpdateModel", "admin", **update)
    assert (await call(guarded, "GetModelVersion", "stranger", **named))["uid"] == package["uid"]
    assert await call(guarded, "GetDownload", "stranger", **artifact)
    assert await call(guarded, "ListReleases", "stranger", parent=CHANNEL)
    nodes = {node["name"] for node in (await call(guarded, "GetLineage", "stranger", **named))["nodes"]}
    assert nodes == {PACKAGE}
    task = "conversionTasks/of-others"
    await call(guarded, "HoldModelVersion", "service", **named, holder=task, ttl="60s")
    assert [task in await told(guarded, caller) for caller in ("admin", "ann")] == [False, True]
    change = {"model_version": {**named, "description": "mine"}, "update_mask": "description"}
    assert await refused(call(guarded, "UpdateModelVersion", "stranger", **change)) == "ROLE_REQUIRED"
    await call(guarded, "UpdateModel", "admin", **update | {"model": {"name": MODEL}})
    assert await refused(call(guarded, "GetModelVersion", "stranger", **named)) == "NOT_FOUND"
    assert await refused(call(guarded, "GetDownload", "stranger", **artifact)) == "NOT_FOUND"
    assert task in await told(guarded, "admin")
    await call(guarded, "UnholdModelVersion", "service", **named, holder=task)


async def test_a_shared_version_tells_nothing_of_what_is_not_shared(guarded: Suite) -> None:
    secret = (await call(guarded, "CreateModel", "editor", model={"display_name": "Secret"}))["name"]
    plain = {"format": "PTH", "files": [guarded.made["file"]]}
    source = (await call(guarded, "CreateModelVersion", "editor", parent=secret, model_version=plain))["name"]
    task = "conversionTasks/of-the-members"
    lineage = {
        "sources": [VERSION, source],
        "architectures": {ARCHITECTURE: "0" * 64},
        "template": TEMPLATE,
        "task": task,
    }
    made = plain | {"architecture": ARCHITECTURE, "lineage": lineage}
    name = (await call(guarded, "RegisterModelVersion", "service", parent=MODEL, model_version=made))["name"]
    names = {source, task, TEMPLATE, ARCHITECTURE}

    async def seen(caller: str) -> list[set[str]]:
        """Return which of the names a caller is told, by each way to look at the version."""
        answers = [
            await call(guarded, "GetModelVersion", caller, name=name),
            await call(guarded, "BatchGetModelVersions", caller, names=[name], view="FULL"),
            await call(guarded, "ListModelVersions", caller, parent=MODEL, filter=f'name = "{name}"', view="FULL"),
            await call(guarded, "GetLineage", caller, name=name),
        ]
        assert all(name in str(answer) for answer in answers)
        return [{each for each in names if each in str(answer)} for answer in answers]

    shared: dict[str, Any] = {"model": {"name": MODEL, "shared_with": [OTHERS]}, "update_mask": "sharedWith"}
    await call(guarded, "UpdateModel", "admin", **shared)
    assert await seen("viewer") == [names] * 4
    assert await seen("stranger") == [set()] * 4
    assert VERSION in str(await call(guarded, "GetModelVersion", "stranger", name=name))
    difference = await call(guarded, "DiffModelVersions", "stranger", before=name, after=PACKAGE)
    assert ARCHITECTURE not in str(difference)
    architecture = {"architecture": {"name": ARCHITECTURE, "shared_with": [OTHERS]}, "update_mask": "sharedWith"}
    await call(guarded, "UpdateArchitecture", "admin", **architecture)
    assert await seen("stranger") == [{ARCHITECTURE}] * 4
    await call(guarded, "UpdateArchitecture", "admin", **architecture | {"architecture": {"name": ARCHITECTURE}})
    await call(guarded, "UpdateModel", "admin", **shared | {"model": {"name": MODEL}})
    await call(guarded, "DeleteModelVersion", "editor", name=name)


async def told(guarded: Suite, caller: str) -> str:
    """Return why a version that a task uses cannot be deleted."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(guarded, "DeleteModelVersion", caller, name=PACKAGE)
    assert "while it is used by" in str(error.value.details())
    return str(error.value.details())


async def test_a_removed_member_sees_nothing_some_seconds_later(guarded: Suite) -> None:
    """Nor does a watch that goes on."""
    project = {"display_name": "Short", "members": [{"member": "user:stranger", "role": "EDITOR"}]}
    made = await call(guarded, "CreateProject", "ann", project=project)
    dataset = {"display_name": "Waiting", "project": made["name"], "files": [guarded.made["images"]]}
    mapping = {"entries": [{"task": "animal", "key": "class", "classes": ["unicorn"]}]}
    waiting = await call(guarded, "CreateDataset", "ann", dataset=dataset | {"mapping": mapping})
    await asyncio.sleep(1.1)  # until the new member is known
    watch = guarded.stream("WatchDataset", request_of("WatchDataset", {"name": waiting["name"]}), "stranger")
    assert (await watch.read()).name == waiting["name"]
    await call(guarded, "UpdateProject", "ann", project={"name": made["name"]}, update_mask="members")

    async def read() -> None:
        while await watch.read() is not grpc.aio.EOF:
            pass  # the end of its import, if that was first

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(read(), 60)  # 1.6 s on an idle machine
    assert ended.value.code() is grpc.StatusCode.NOT_FOUND
    assert await refused(call(guarded, "GetDataset", "stranger", name=waiting["name"])) == "NOT_FOUND"


async def test_who_leaves_a_project_sees_no_more_of_its_tasks(guarded: Suite) -> None:
    """In one stream of the tasks of all services, that is; those of other projects go on."""
    project = {"display_name": "Watched", "members": [{"member": "user:viewer", "role": "VIEWER"}]}
    made = (await call(guarded, "CreateProject", "ann", project=project))["name"]
    await asyncio.sleep(1.7)  # until the new member is known
    told: list[str] = []
    watch = guarded.stream("WatchTasks", request_of("WatchTasks", {}), "viewer")
    assert (await watch.read()).resume_token

    async def read() -> None:
        while (response := await watch.read()) is not grpc.aio.EOF:
            told.extend(change.task.name for change in response.changes)

    async def create(*, watched: bool, seed: int) -> str:
        spec = {"model_version": PACKAGE, "device": "cpu-x86-64", "batch_sizes": [seed]}
        task = {"spec": spec, "project": made if watched else "projects/default"}
        return str((await call(guarded, "CreateProfileTask", "ann", task=task))["name"])

    async def seen(name: str) -> None:
        async with asyncio.timeout(60):
            while name not in told:
                await asyncio.sleep(0.02)

    reading = asyncio.create_task(read())
    first = await create(watched=True, seed=3)
    await seen(first)
    assert await call(guarded, "GetProfileTask", "viewer", name=first)
    await call(guarded, "UpdateProject", "ann", project={"name": made}, update_mask="members")
    await asyncio.sleep(1.1)  # until what was known is asked for again
    seeds = count(4)
    async with asyncio.timeout(60):
        while True:  # until the stream has asked again what its caller may see, which takes 1.6 s on an idle machine
            hidden = await create(watched=True, seed=next(seeds))
            await seen(await create(watched=False, seed=next(seeds)))
            if hidden not in told:
                break
            await asyncio.sleep(0.2)
    assert await refused(call(guarded, "GetProfileTask", "viewer", name=first)) == "NOT_FOUND"
    reading.cancel()
    assert await refused(call(guarded, "DeleteProject", "ann", name=made)) == "PROJECT_NOT_EMPTY"


async def test_who_may_not_share_learns_of_no_project(guarded: Suite) -> None:
    template = await call(guarded, "GetTemplate", "editor", name=TEMPLATE)
    for project in (OTHERS, "projects/nosuch"):
        shared = template | {"shared_with": [project]}
        update = {"template": shared, "update_mask": "*"}
        assert await refused(call(guarded, "UpdateTemplate", "editor", **update)) == "ROLE_REQUIRED"
        assert await refused(call(guarded, "CreateTemplate", "editor", template=shared)) == "ROLE_REQUIRED"
    assert await refused(call(guarded, "UpdateTemplate", "admin", **update)) == "REFERENCE_NOT_FOUND"
    assert await refused(call(guarded, "CreateTemplate", "admin", template=shared)) == "REFERENCE_NOT_FOUND"


def announced(file: dict[str, Any]) -> dict[str, Any]:
    digest = file["digest"]
    return {"display_name": file["path"], "size_bytes": digest["size_bytes"], "sha256": digest["sha256"]}


def shape(upload: dict[str, Any]) -> str:
    """Return what is told of an upload but its own name, digest and times, and the signatures."""
    url = urlsplit(upload["direct"]["url"])
    path = url.path.replace(upload["name"].removeprefix("uploads/"), "")
    told = [path.rpartition("/")[0], *sorted(upload), *sorted(upload["direct"]["headers"])]
    return " ".join(told)
