"""Quotas: administrators of the installation set them on a project, and every service keeps to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import grpc
import pytest
from lathe.internal.v1.registry_service_pb2 import QuotaTable
from lathe.registry.v1.project_service_pb2 import Quotas

from services.platform import quotas, rates
from services.platform.errors import LatheError, from_rpc_error
from services.platform.quotas import Limits
from services.process.quotas import table_of
from tests.contract.requests import PACKAGE, request_of
from tests.contract.suite import Suite

USUALLY_KEPT = quotas.KEPT_SECONDS
SOON = 0.2


@pytest.fixture(scope="module", autouse=True)
def since() -> Iterator[float]:
    """Since when the services keep what they know of quotas for a shorter time than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "KEPT_SECONDS", SOON)
        yield monotonic()


async def all_know(since: float) -> None:
    """Wait until nobody goes by quotas of some time ago."""
    await asyncio.sleep(max(2 * SOON, since + USUALLY_KEPT - monotonic()))


async def call(suite: Suite, method: str, request: dict[str, Any]) -> dict[str, Any]:
    return await suite.call(method, request_of(method, request))


async def refused(suite: Suite, method: str, request: dict[str, Any]) -> LatheError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(suite, method, request)
    return from_rpc_error(caught.value)


async def test_a_quota_of_a_project_holds_for_its_tasks(suite: Suite) -> None:
    project = {"display_name": "Limited", "quotas": {"waiting_tasks": 1}}
    made = await call(suite, "CreateProject", {"project": project, "project_id": "limited"})
    assert made["quotas"] == {"waiting_tasks": "1"}
    model = await call(suite, "CreateModel", {"model": {"display_name": "Limited", "project": made["name"]}})
    version = {"parent": model["name"], "model_version": {"format": "MODEL_FORMAT_PTH", "files": [suite.made["file"]]}}
    source = await call(suite, "CreateModelVersion", version)
    # The services have read the quotas of the suite's own tasks some seconds ago, before there was this project.
    spec = {"model_version": source["name"], "template": "templates/fuzz"}
    error = None
    for seed in range(1, 100):
        await asyncio.sleep(0.1)
        try:
            await call(suite, "CreateConversionTask", {"task": {"spec": spec | {"seed": seed}}})
        except grpc.aio.AioRpcError as refusal:
            error = from_rpc_error(refusal)
            break
    assert error is not None
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert (error.metadata["quota"], error.metadata["limit"]) == ("waiting_tasks", "1")
    filter_ = {"filter": f"project = {made['name']} AND code = RESOURCE_EXHAUSTED"}
    (entry,) = (await call(suite, "ListAuditEntries", filter_))["audit_entries"]
    assert entry["reason"] == "ERROR_REASON_QUOTA_EXCEEDED"


async def test_no_more_uploads_are_open_than_may(suite: Suite, since: float) -> None:
    project = {"display_name": "Few", "quotas": {"open_uploads": 2}}
    made = await call(suite, "CreateProject", {"project": project, "project_id": "few-uploads"})
    upload = {"size_bytes": 3, "project": made["name"]}
    await all_know(since)
    opened = await asyncio.gather(*(call(suite, "CreateUpload", upload) for _ in range(8)), return_exceptions=True)
    uploads = [each for each in opened if isinstance(each, dict)]
    refusals = [from_rpc_error(each) for each in opened if isinstance(each, grpc.aio.AioRpcError)]
    assert (len(uploads), len(refusals)) == (2, 6)
    assert {each.metadata["quota"] for each in refusals} == {"open_uploads"}
    await call(suite, "CancelUpload", {"name": uploads[0]["name"]})
    await call(suite, "CreateUpload", upload)


async def test_no_more_bytes_are_uploaded_than_may_be_stored(suite: Suite, since: float) -> None:
    project = {"display_name": "Small", "quotas": {"stored_bytes": 10}}
    made = await call(suite, "CreateProject", {"project": project, "project_id": "small"})
    await all_know(since)
    await call(suite, "CreateUpload", {"size_bytes": 7, "project": made["name"]})
    error = await refused(suite, "CreateUpload", {"size_bytes": 4, "project": made["name"]})
    assert error.metadata | {"project": ""} == {"project": "", "quota": "stored_bytes", "limit": "10", "used": "7"}
    assert "without the 4 of this upload" in error.message
    await call(suite, "CreateUpload", {"size_bytes": 3, "project": made["name"]})


async def test_bytes_that_are_stored_count(suite: Suite, since: float) -> None:
    size = int(suite.made["file"]["digest"]["size_bytes"])
    default = {"project": {"name": "projects/default", "quotas": {"stored_bytes": size}}, "update_mask": "quotas"}
    await call(suite, "UpdateProject", default)
    try:
        await all_know(since)
        error = await refused(suite, "CreateUpload", {"size_bytes": 1})
        # The suite has stored its file, and more.
        assert int(error.metadata["used"]) > size
    finally:
        await call(suite, "UpdateProject", {"project": {"name": "projects/default"}, "update_mask": "quotas"})
        await all_know(since)


async def test_each_process_takes_no_more_calls_about_a_project_than_may_be(
    suite: Suite, since: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = {"display_name": "Quiet", "quotas": {"calls_per_second": 2}}
    made = await call(suite, "CreateProject", {"project": project, "project_id": "quiet"})
    model = await call(suite, "CreateModel", {"model": {"display_name": "Quiet", "project": made["name"]}})
    version = {"parent": model["name"], "model_version": {"format": "MODEL_FORMAT_PTH", "files": [suite.made["file"]]}}
    made_version = await call(suite, "CreateModelVersion", version)
    await all_know(since)
    now = [monotonic()]
    monkeypatch.setattr(rates, "monotonic", lambda: now[0])
    async with asyncio.timeout(60):
        with suppress(grpc.aio.AioRpcError):
            while True:  # what was known before answers the first of them, while the quota is asked for
                await call(suite, "GetModel", {"name": model["name"]})
    ways: list[tuple[str, dict[str, Any]]] = [
        ("GetModel", {"name": model["name"]}),
        ("BatchGetModelVersions", {"names": [made_version["name"]]}),
        ("ListModels", {"filter": f'project = "{made["name"]}"'}),
    ]
    for method, request in ways:
        now[0] += 1
        answers = await asyncio.gather(*(call(suite, method, request) for _ in range(8)), return_exceptions=True)
        refusals = [from_rpc_error(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert len(refusals) == 6, method
        told = {"quota": "calls_per_second", "limit": "2", "project": made["name"]}
        assert all(each.metadata == told for each in refusals)
    # Lists of all projects, and another service that was not called, are not refused.
    await call(suite, "ListModels", {})
    await call(suite, "ListConversionTasks", {"filter": f'project = "{made["name"]}"'})


async def test_a_watch_goes_on_while_too_many_call(suite: Suite, since: float) -> None:
    project = {"display_name": "Loud", "quotas": {"calls_per_second": 2}}
    made = (await call(suite, "CreateProject", {"project": project, "project_id": "loud"}))["name"]
    model = await call(suite, "CreateModel", {"model": {"display_name": "Loud", "project": made}})
    await all_know(since)

    too_many = asyncio.Event()

    async def ask_on() -> None:
        while True:
            try:
                await call(suite, "GetModel", {"name": model["name"]})
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                too_many.set()

    watch = suite.stream("WatchTasks", request_of("WatchTasks", {}), "ann")
    await watch.read()
    asking = asyncio.create_task(ask_on())
    try:
        async with asyncio.timeout(60):
            await too_many.wait()
        spec = {"model_version": PACKAGE, "device": "cpu-x86-64", "batch_sizes": [7]}
        task = await call(suite, "CreateProfileTask", {"task": {"spec": spec, "project": made}})
        async with asyncio.timeout(60):
            while not any(change.name == task["name"] for change in (await watch.read()).changes):
                pass
    finally:
        asking.cancel()
        watch.cancel()


async def test_what_a_project_does_not_state_is_as_for_the_others(suite: Suite) -> None:
    told = QuotaTable(
        projects={"projects/a": Quotas(waiting_tasks=0), "projects/b": Quotas(running_tasks=2)},
        defaults=Quotas(waiting_tasks=7, running_tasks=0),
    )
    table = table_of(told)
    assert table.of("projects/a") == Limits()
    assert table.of("projects/b") == Limits(waiting_tasks=7, running_tasks=2)
    assert table.of("projects/c") == Limits(waiting_tasks=7)
    assert table.any_running
    wrong = {"project": {"display_name": "x", "quotas": {"running_tasks": -1}}}
    assert (await refused(suite, "CreateProject", wrong)).code is grpc.StatusCode.INVALID_ARGUMENT
