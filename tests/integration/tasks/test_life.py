"""The life of a task, from creation to its end, on real servers."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_pb2

from services.platform.errors import LatheError
from tests.integration.tasks.kit import Site


async def test_a_task_is_done(site: Site) -> None:
    await site.start_worker(name="w1")
    created = await site.create("files", labels={"team": "a"})
    assert created.status.state == task_pb2.TASK_STATE_PENDING
    done = await site.reach(created, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.result.model_version == f"models/echo/versions/{done.uid}"
    assert [(each.number, each.worker, each.outcome) for each in done.attempts] == [
        (1, "w1", task_pb2.ATTEMPT_OUTCOME_SUCCEEDED)
    ]
    assert done.status.progress == 1.0
    assert done.status.start_time.seconds > 0
    assert done.status.end_time.seconds > 0
    assert done.display_name == "an echo"
    assert dict(done.labels) == {"team": "a"}
    assert site.kind.completed == [done.name]
    assert not list(site.folder.glob("work/*"))


async def test_without_a_worker_it_says_why_it_waits(site: Site) -> None:
    created = await site.create("ok")
    found = await site.until(created, lambda task: bool(task.status.pending_reason))
    assert "No worker for conversion on cpu-x86-64" in found.status.pending_reason
    await site.start_worker()
    done = await site.reach(created, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.status.pending_reason == ""


async def test_a_permanent_failure_is_told(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("fail"), task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_UNSUPPORTED_OPERATOR
    assert failed.status.failure.operator == "Foo"
    assert failed.status.failure.stage == failure_pb2.TASK_STAGE_EXECUTING
    assert len(failed.attempts) == 1


async def test_a_retryable_failure_is_tried_again(site: Site) -> None:
    await site.start_worker()
    done = await site.reach(await site.create("flaky"), task_pb2.TASK_STATE_SUCCEEDED)
    outcomes = [each.outcome for each in done.attempts]
    assert outcomes == [
        task_pb2.ATTEMPT_OUTCOME_FAILED,
        task_pb2.ATTEMPT_OUTCOME_FAILED,
        task_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert [each.number for each in done.attempts] == [1, 2, 3]


async def test_attempts_end(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("doomed"), task_pb2.TASK_STATE_FAILED)
    assert len(failed.attempts) == 3
    assert failed.status.failure.retryable


async def test_a_fault_shows_no_raw_traceback(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("fault"), task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_INTERNAL_ERROR
    assert "secret detail" not in failed.status.failure.message
    stored = await site.blobs.read(failed.attempts[0].log)
    assert b"secret detail" in stored


async def test_outputs_that_are_links_are_refused(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("link"), task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_UNSAFE_MODEL
    assert "passwd" in failed.status.failure.message


async def test_cancel_pending(site: Site) -> None:
    created = await site.create("ok")
    cancelled = await site.cancel(created)
    assert cancelled.status.state == task_pb2.TASK_STATE_CANCELLED
    again = await site.cancel(created)
    assert again.status.state == task_pb2.TASK_STATE_CANCELLED
    await site.start_worker()
    other = await site.reach(await site.create("ok", seed=1), task_pb2.TASK_STATE_SUCCEEDED)
    assert site.jobs.runs == ["ok"]
    with pytest.raises(LatheError, match="nothing to cancel"):
        await site.cancel(other)


async def test_cancel_running(site: Site) -> None:
    await site.start_worker()
    task = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    assert (await site.cancel(task)).status.state == task_pb2.TASK_STATE_CANCELLING
    ended = await site.reach(task, task_pb2.TASK_STATE_CANCELLED)
    assert ended.attempts[0].outcome == task_pb2.ATTEMPT_OUTCOME_CANCELLED


async def test_completion_is_tried_until_it_answers(site: Site) -> None:
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    site.kind.answers = [LatheError(code, "AWAY", "It does not answer.") for code in codes]
    await site.start_worker()
    slow = await site.create("ok")
    other = await site.create("ok", seed=1)
    await site.reach(other, task_pb2.TASK_STATE_SUCCEEDED)
    done = await site.reach(slow, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(done.attempts) == 1
    assert site.kind.completed.count(done.name) == 1


async def test_repeats_of_a_request_at_once_prepare_one_task(site: Site) -> None:
    request_id = str(uuid.uuid4())
    created = await asyncio.gather(*(site.create("ok", request_id=request_id) for _ in range(20)))
    assert len({task.name for task in created}) == 1
    assert site.kind.prepared == 1
    assert (await site.create("ok", request_id=request_id)).name == created[0].name


async def test_a_slow_completion_delays_nobody(site: Site) -> None:
    await site.start_worker()
    slow = await site.create("sluggish")
    quick = await site.create("ok")
    await site.reach(quick, task_pb2.TASK_STATE_SUCCEEDED)
    done = await site.reach(slow, task_pb2.TASK_STATE_SUCCEEDED)
    assert site.kind.completed.count(done.name) == 1


async def test_what_cannot_be_completed_fails(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("incompletable"), task_pb2.TASK_STATE_FAILED)
    assert "cannot be registered" in failed.status.failure.message
    assert failed.status.failure.stage == failure_pb2.TASK_STAGE_REGISTERING


async def test_holds_are_released(site: Site) -> None:
    await site.start_worker()
    task = await site.create("ok", model_version="models/m/versions/held")
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    await site.until(done, lambda _: not site.kind.holding)


async def test_retry_needs_a_failed_task(site: Site) -> None:
    await site.start_worker()
    failed = await site.reach(await site.create("fail"), task_pb2.TASK_STATE_FAILED)
    again = await site.engine.handlers.retry(pb.RetryConversionTaskRequest(name=failed.name))
    assert again.origin.retry_of == failed.name
    assert again.spec == failed.spec
    await site.reach(again, task_pb2.TASK_STATE_FAILED)
    done = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    with pytest.raises(LatheError, match="only a FAILED or CANCELLED"):
        await site.engine.handlers.retry(pb.RetryConversionTaskRequest(name=done.name))
