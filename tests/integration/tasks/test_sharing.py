"""Equal work is done once: the action cache, and followers of a task in flight."""

from __future__ import annotations

import json

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2

from services.platform.errors import LatheError, invalid_argument
from tests.eventually import eventually
from tests.integration.tasks.kit import DEVICE, Site


async def test_a_cache_hit_is_done_at_once(site: Site) -> None:
    await site.start_worker()
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    second = await site.create("ok", display_name="again")
    assert second.status.state == task_pb2.TASK_STATE_SUCCEEDED
    assert second.origin.cache_hit == first.name
    assert second.result == first.result
    assert second.status.end_time.seconds > 0
    assert site.jobs.runs == ["ok"]
    third = await site.create("ok")
    assert third.origin.cache_hit == first.name
    assert (await site.get(third)).result == first.result


async def test_skip_cache_runs(site: Site) -> None:
    await site.start_worker()
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    again = await site.reach(await site.create("ok", skip_cache=True), task_pb2.TASK_STATE_SUCCEEDED)
    assert again.origin.cache_hit == ""
    assert again.result != first.result
    assert site.jobs.runs == ["ok", "ok"]


async def test_a_hint_makes_no_other_work_of_it(site: Site) -> None:
    await site.start_worker()
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    site.kind.hint = "found out earlier"
    assert (await site.create("ok")).origin.cache_hit == first.name
    await site.reach(await site.create("ok", skip_cache=True), task_pb2.TASK_STATE_SUCCEEDED)
    assert site.jobs.hints == ["", ""]
    await site.reach(await site.create("files"), task_pb2.TASK_STATE_SUCCEEDED)
    assert site.jobs.hints[-1] == "found out earlier"


async def test_a_result_that_is_gone_is_a_miss(site: Site) -> None:
    await site.start_worker()
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    site.kind.gone.add(first.result.model_version)
    again = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    assert again.origin.cache_hit == ""
    assert again.result != first.result
    third = await site.create("ok")
    assert third.origin.cache_hit == again.name


async def test_another_environment_is_a_miss(site: Site) -> None:
    await site.start_worker(version="1")
    await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    await site.stop_workers()
    await site.start_worker(version="2")
    again = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    assert again.origin.cache_hit == ""


async def test_a_pool_at_zero_answers_for_the_workers_that_it_had(site: Site) -> None:
    await site.start_worker(version="1")
    await site.start_worker(version="2")
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    await site.stop_workers()
    await eventually(lambda: not site.engine.workers.serves(DEVICE))
    assert (await site.create("ok")).origin.cache_hit == first.name
    assert (await site.create("ok", seed=1)).status.state == task_pb2.TASK_STATE_PENDING


async def test_a_pool_with_two_environments_shares_the_results_of_both(site: Site) -> None:
    await site.start_worker(version="1", here=True)
    first = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    await site.start_worker(version="2", here=True)
    hit = await site.create("ok")
    assert hit.origin.cache_hit == first.name
    assert json.loads(hit.origin.environment) == {"device": DEVICE, "echo": "1"}
    assert hit.origin.environment == first.attempts[0].environment
    assert (await site.create("ok", seed=1)).origin.cache_hit == ""


async def test_a_refused_registration_does_not_repeat_the_work(site: Site) -> None:
    await site.start_worker()
    site.kind.answers = [invalid_argument("version", "The model is full.")] * 2
    failed = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_FAILED)
    assert "The model is full." in failed.status.failure.message
    await site.stop_workers()  # no worker is needed, and no environment has to be known
    retry = pb.RetryConversionTaskRequest(name=failed.name)
    with pytest.raises(LatheError, match="could not be recorded") as refused:
        await site.engine.handlers.retry(retry)
    assert refused.value.reason == "RESULT_NOT_RECORDED"
    assert "The model is full." in refused.value.message
    retried = await site.engine.handlers.retry(retry)
    assert retried.status.state == task_pb2.TASK_STATE_SUCCEEDED
    assert retried.origin.cache_hit == failed.name
    assert site.kind.completed == [retried.name]
    await site.start_worker()
    assert (await site.create("ok")).result == retried.result
    assert site.jobs.runs == ["ok"]


async def test_a_follower_is_answered_from_the_outcome_of_a_leader_that_was_refused(site: Site) -> None:
    leader, follower = await site.create("ok"), await site.create("ok")
    site.kind.answers = [invalid_argument("version", "The model is full.")]
    await site.start_worker()
    await site.reach(leader, task_pb2.TASK_STATE_FAILED)
    shared = await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
    assert shared.origin.cache_hit == leader.name
    assert site.jobs.runs == ["ok"]


async def test_a_follower_that_is_refused_fails(site: Site) -> None:
    leader, follower = await site.create("ok"), await site.create("ok")
    site.kind.answers = [invalid_argument("version", "The model is full.")] * 1000
    await site.start_worker()
    await site.reach(leader, task_pb2.TASK_STATE_FAILED)
    assert "The model is full." in (await site.reach(follower, task_pb2.TASK_STATE_FAILED)).status.failure.message


async def test_followers_share_the_result(site: Site) -> None:
    leader = await site.create("ok")
    followers = [await site.create("ok") for _ in range(3)]
    assert all(leader.name in follower.status.pending_reason for follower in followers)
    await site.start_worker()
    done = await site.reach(leader, task_pb2.TASK_STATE_SUCCEEDED)
    for follower in followers:
        shared = await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
        assert shared.result == done.result
        assert shared.origin.cache_hit == leader.name
        assert not shared.attempts
    assert site.jobs.runs == ["ok"]


async def test_followers_share_a_permanent_failure(site: Site) -> None:
    leader = await site.create("fail")
    follower = await site.create("fail")
    await site.start_worker()
    failed = await site.reach(follower, task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure == (await site.get(leader)).status.failure
    assert site.jobs.runs == ["fail"]


async def test_a_follower_is_promoted_when_its_leader_is_cancelled(site: Site) -> None:
    leader = await site.create("ok")
    first, second = await site.create("ok"), await site.create("ok")
    await site.cancel(leader)
    await site.until(second, lambda task: first.name in task.status.pending_reason)
    await site.start_worker()
    done = await site.reach(first, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.origin.cache_hit == ""
    shared = await site.reach(second, task_pb2.TASK_STATE_SUCCEEDED)
    assert shared.origin.cache_hit == first.name
    assert site.jobs.runs == ["ok"]


async def test_a_follower_is_promoted_when_its_leader_fails_for_want_of_machines(site: Site) -> None:
    leader, follower = await site.create("doomed"), await site.create("doomed")
    await site.start_worker()
    await site.reach(leader, task_pb2.TASK_STATE_FAILED)
    failed = await site.reach(follower, task_pb2.TASK_STATE_FAILED)
    assert len(failed.attempts) == 3


async def test_a_cancelled_follower_leaves_its_leader_alone(site: Site) -> None:
    leader, follower = await site.create("ok"), await site.create("ok")
    assert (await site.cancel(follower)).status.state == task_pb2.TASK_STATE_CANCELLED
    await site.start_worker()
    await site.reach(leader, task_pb2.TASK_STATE_SUCCEEDED)


async def test_followers_of_a_crashed_process_are_swept(site: Site) -> None:
    leader, follower = await site.create("ok"), await site.create("ok")
    # As if the process had died between the leader's end and the answer to its followers.
    site.engine.ledger.settle_with(_Nobody())
    await site.start_worker()
    await site.reach(leader, task_pb2.TASK_STATE_SUCCEEDED)
    shared = await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
    assert isinstance(shared, pb.ConversionTask)
    assert shared.origin.cache_hit == leader.name


class _Nobody:
    def settle(self, rows: object) -> None:
        """Forget them."""
