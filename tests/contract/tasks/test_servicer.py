"""The generic servicer over gRPC, behind the real interceptors: all verbs, as a client of the converter sees them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2
from lathe.type.v1.error_reason_pb2 import ERROR_REASON_NOT_FOUND
from lathe.type.v1.view_pb2 import VIEW_FULL

from tests.contract.tasks.calls import Served, create, refused


def as_user(name: str) -> tuple[tuple[str, str], ...]:
    return (("x-lathe-user", name),)


async def test_create_get_and_errors(served: Served) -> None:
    _, stub = served
    task = await stub.CreateConversionTask(create(), metadata=as_user("ada"))
    assert task.owner == "ada"
    assert task.name == f"conversionTasks/{task.uid}"
    assert (await stub.GetConversionTask(pb.GetConversionTaskRequest(name=task.name))).spec == task.spec
    for name in ("conversionTasks/none", f"conversionTasks/{uuid.uuid4()}"):
        error = await refused(stub.GetConversionTask(pb.GetConversionTaskRequest(name=name)))
        assert error.code == grpc.StatusCode.NOT_FOUND
    error = await refused(stub.CreateConversionTask(create("invalid")))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "spec.template"


async def test_a_request_id_makes_a_repeat_return_the_first(served: Served) -> None:
    _, stub = served
    request = create(request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(stub.CreateConversionTask(request), stub.CreateConversionTask(request))
    assert first.name == second.name
    other = create(seed=1, request_id=request.request_id)
    error = await refused(stub.CreateConversionTask(other))
    assert error.reason == "REQUEST_ID_REUSED"
    foreign = await stub.CreateConversionTask(other, metadata=as_user("eve"))
    assert foreign.name != first.name


async def test_a_repeat_is_answered_whatever_became_of_what_it_needs(served: Served) -> None:
    site, stub = served
    request = create(request_id=str(uuid.uuid4()))
    first = await stub.CreateConversionTask(request)
    site.kind.away = True
    assert (await stub.CreateConversionTask(request)).name == first.name
    assert (await refused(stub.CreateConversionTask(create()))).code == grpc.StatusCode.UNAVAILABLE
    site.kind.away = False
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=first.name))
    await stub.DeleteConversionTask(pb.DeleteConversionTaskRequest(name=first.name))
    assert (await refused(stub.CreateConversionTask(request))).reason == "ALREADY_DELETED"
    other = create(seed=1, request_id=request.request_id)
    assert (await refused(stub.CreateConversionTask(other))).reason == "REQUEST_ID_REUSED"


async def test_work_that_no_message_can_hold_is_refused(served: Served) -> None:
    site, stub = served
    site.kind.ballast = "x" * site.bus.max_bytes
    error = await refused(stub.CreateConversionTask(create()))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "WORK_TOO_LARGE")
    assert "max_payload" in error.message


async def test_update_guards_by_etag_and_mask(served: Served) -> None:
    _, stub = served
    task = await stub.CreateConversionTask(create(labels={"a": "1"}))
    task.display_name, task.labels["b"] = "renamed", "2"
    mask = FieldMask(paths=["display_name", "labels"])
    renamed = await stub.UpdateConversionTask(pb.UpdateConversionTaskRequest(task=task, update_mask=mask))
    assert renamed.display_name == "renamed"
    assert dict(renamed.labels) == {"a": "1", "b": "2"}
    assert renamed.etag != task.etag
    error = await refused(stub.UpdateConversionTask(pb.UpdateConversionTaskRequest(task=task, update_mask=mask)))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    task.etag = ""
    task.display_name = "x" * 201
    long = pb.UpdateConversionTaskRequest(task=task, update_mask=FieldMask(paths=["display_name"]))
    assert (await refused(stub.UpdateConversionTask(long))).fields[0][0] == "task.display_name"
    task.display_name = ""
    for path in ("display_name", "*"):
        nameless = pb.UpdateConversionTaskRequest(task=task, update_mask=FieldMask(paths=[path]))
        error = await refused(stub.UpdateConversionTask(nameless))
        assert (error.fields[0][0], "Give one" in error.message) == ("task.display_name", True)
    wrong = pb.UpdateConversionTaskRequest(task=task, update_mask=FieldMask(paths=["spec"]))
    assert (await refused(stub.UpdateConversionTask(wrong))).fields[0][0] == "update_mask"


async def test_list_filters_pages_and_searches(served: Served) -> None:
    site, stub = served
    for number in range(5):
        await stub.CreateConversionTask(create(seed=number, display_name=f"net {number}"), metadata=as_user("ada"))
    cancelled = await stub.CreateConversionTask(create(seed=9, display_name="other", labels={"team": "x"}))
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=cancelled.name))

    async def names(**fields: Any) -> list[str]:
        found = await stub.ListConversionTasks(pb.ListConversionTasksRequest(**fields), metadata=as_user("ada"))
        return [task.display_name for task in found.tasks]

    assert await names(mine_only=True, order_by="display_name") == [f"net {number}" for number in range(5)]
    assert await names(filter="state = CANCELLED") == ["other"]
    assert await names(filter="labels.team = x") == ["other"]
    assert await names(search="NET-3") == ["net 3"]
    assert await names(search=cancelled.uid[:13]) != []
    assert await names(filter="device = nvidia-t4") == []
    assert await names(filter="uses:templates/ok", search="NET-3") == ["net 3"]
    assert len(await names(filter="uses:models/m/versions/1", page_size=2)) == 2
    assert await names(filter="uses:models/m/versions") == []
    assert await names(filter="uses:models/m/versions/1 AND state = (CANCELLED OR CANCELLING)") == ["other"]
    first = await stub.ListConversionTasks(pb.ListConversionTasksRequest(page_size=4))
    rest = await stub.ListConversionTasks(pb.ListConversionTasksRequest(page_size=4, page_token=first.next_page_token))
    assert len({task.name for task in [*first.tasks, *rest.tasks]}) == 6
    assert rest.next_page_token == ""
    for request, field in (
        (pb.ListConversionTasksRequest(page_token="wrong"), "page_token"),
        (pb.ListConversionTasksRequest(filter="uses:a\0b"), "filter"),
    ):
        error = await refused(stub.ListConversionTasks(request))
        assert error.fields[0][0] == field
    assert site.kind.name == "conversion"


async def test_delete_only_what_has_ended(served: Served) -> None:
    _, stub = served
    waiting = await stub.CreateConversionTask(create())
    error = await refused(stub.DeleteConversionTask(pb.DeleteConversionTaskRequest(name=waiting.name)))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_NOT_ENDED")
    ended = await stub.CreateConversionTask(create(seed=1))
    stale = ended.etag
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=ended.name))
    error = await refused(stub.DeleteConversionTask(pb.DeleteConversionTaskRequest(name=ended.name, etag=stale)))
    assert error.reason == "ETAG_MISMATCH"
    names = [waiting.name, ended.name, f"conversionTasks/{uuid.uuid4()}"]
    answer = await stub.BatchDeleteConversionTasks(pb.BatchDeleteConversionTasksRequest(names=names))
    assert list(answer.deleted) == [ended.name]
    assert [(each.name, each.code) for each in answer.errors] == [
        (names[0], "FAILED_PRECONDITION"),
        (names[2], "NOT_FOUND"),
    ]


async def test_what_is_gone_may_be_deleted_again(served: Served) -> None:
    _, stub = served
    name = f"conversionTasks/{uuid.uuid4()}"
    await stub.DeleteConversionTask(pb.DeleteConversionTaskRequest(name=name, allow_missing=True))
    request = pb.BatchDeleteConversionTasksRequest(names=[name, name], allow_missing=True)
    assert list((await stub.BatchDeleteConversionTasks(request)).deleted) == [name]
    waiting = await stub.CreateConversionTask(create())
    kept = pb.DeleteConversionTaskRequest(name=waiting.name, allow_missing=True)
    assert (await refused(stub.DeleteConversionTask(kept))).reason == "TASK_NOT_ENDED"


async def test_many_are_read_in_their_order(served: Served) -> None:
    _, stub = served
    made = [await stub.CreateConversionTask(create(seed=seed)) for seed in range(3)]
    names = [made[2].name, made[0].name, made[2].name]
    basic = await stub.BatchGetConversionTasks(pb.BatchGetConversionTasksRequest(names=names))
    assert [task.name for task in basic.tasks] == names
    assert not basic.tasks[0].HasField("spec")
    full = await stub.BatchGetConversionTasks(pb.BatchGetConversionTasksRequest(names=names, view=VIEW_FULL))
    assert [task.spec.seed for task in full.tasks] == [2, 0, 2]
    missing = f"conversionTasks/{uuid.uuid4()}"
    for name in (missing, "conversionTasks/none"):
        request = pb.BatchGetConversionTasksRequest(names=[made[0].name, name])
        error = await refused(stub.BatchGetConversionTasks(request))
        assert (error.code, error.resource) == (grpc.StatusCode.NOT_FOUND, ("task", name))


async def test_many_are_cancelled_whatever_becomes_of_the_others(served: Served) -> None:
    _, stub = served
    waiting = [(await stub.CreateConversionTask(create(seed=seed))).name for seed in range(6)]
    missing = f"conversionTasks/{uuid.uuid4()}"
    request = pb.BatchCancelConversionTasksRequest(names=[*waiting, missing, waiting[0]])
    answer = await stub.BatchCancelConversionTasks(request)
    assert list(answer.cancelled) == waiting
    assert [(each.name, each.code, each.reason) for each in answer.errors] == [
        (missing, "NOT_FOUND", ERROR_REASON_NOT_FOUND)
    ]
    found = await stub.BatchGetConversionTasks(pb.BatchGetConversionTasksRequest(names=waiting))
    assert {task.status.state for task in found.tasks} == {task_pb2.TASK_STATE_CANCELLED}


async def test_a_request_that_is_only_checked_creates_nothing(served: Served) -> None:
    _, stub = served
    request = create(seed=41, labels={"only": "checked"})
    request.validate_only, request.request_id = True, str(uuid.uuid4())
    checked = await stub.CreateConversionTask(request)
    assert (checked.name, checked.uid, checked.HasField("create_time"), checked.etag) == ("", "", False, "")
    assert (checked.spec.seed, checked.device) == (41, (await stub.CreateConversionTask(create(seed=42))).device)
    found = await stub.ListConversionTasks(pb.ListConversionTasksRequest(filter="labels.only = checked"))
    assert not found.tasks
    wrong = create("invalid")
    wrong.validate_only = True
    assert (await refused(stub.CreateConversionTask(wrong))).fields[0][0] == "spec.template"
    # The same request id still stands for the first request that creates something.
    request.validate_only = False
    assert (await stub.CreateConversionTask(request)).name


async def test_retry_and_resubmit_are_linked(served: Served) -> None:
    _, stub = served
    first = await stub.CreateConversionTask(create(display_name="mine"))
    error = await refused(stub.RetryConversionTask(pb.RetryConversionTaskRequest(name=first.name)))
    assert error.reason == "TASK_NOT_RETRYABLE"
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=first.name))
    retried = await stub.RetryConversionTask(pb.RetryConversionTaskRequest(name=first.name))
    assert retried.origin.retry_of == first.name
    assert retried.display_name == "mine"
    edited = pb.ConversionSpec()
    edited.CopyFrom(first.spec)
    edited.seed = 42
    again = await stub.ResubmitConversionTask(
        pb.ResubmitConversionTaskRequest(name=first.name, spec=edited, display_name="edited")
    )
    assert again.origin.resubmission_of == first.name
    assert again.spec.seed == 42


async def test_watch_and_logs_over_the_wire(served: Served) -> None:
    site, stub = served
    task = await stub.CreateConversionTask(create("lines"))
    watch = stub.WatchConversionTask(pb.WatchConversionTaskRequest(name=task.name))
    logs = stub.StreamConversionTaskLogs(pb.StreamConversionTaskLogsRequest(name=task.name, follow=True))
    news = aiter(watch)
    async with asyncio.timeout(60):
        states = [(await anext(news)).status.state]
        await site.start_worker()
        states += [each.status.state async for each in news]
        lines = [line.text async for batch in logs for line in batch.lines]
    assert states[0] == task_pb2.TASK_STATE_PENDING
    assert states[-1] == task_pb2.TASK_STATE_SUCCEEDED
    assert lines == [f"line {number}" for number in range(1, 7)]


async def test_repeated_creations_of_equal_work_follow(served: Served) -> None:
    _, stub = served
    tasks = await asyncio.gather(*(stub.CreateConversionTask(create()) for _ in range(8)))
    leaders = [task for task in tasks if "same work" not in task.status.pending_reason]
    assert len(leaders) == 1
