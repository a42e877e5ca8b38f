"""What can go wrong between the chairs: lost messages, dead workers, repeated and late events, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1 import event_pb2
from lathe.internal.v1.conversion_pb2 import ConversionOutcome
from lathe.type.v1 import failure_pb2, task_pb2
from nats.aio.msg import Msg

from services.bus.topology import ADVISORIES, TASKS, claimed_subject, event_subject, task_subject
from services.local.nats import NatsServer
from services.platform.background import end
from services.platform.settings import Settings
from services.tasks.api.claims import Claims, Pace
from services.tasks.api.handover import Handover
from services.tasks.api.projector import Projector
from services.tasks.api.relay import Outbox
from services.tasks.state.rows import Change, timestamp
from services.tasks.worker import attempt as attempts
from tests.eventually import eventually
from tests.integration.tasks.kit import DEVICE, PROMPT, RESENDING, Site, open_site

in_haste = pytest.mark.parametrize("site", [PROMPT], indirect=True, ids=["prompt"])
resending = pytest.mark.parametrize("site", [RESENDING], indirect=True, ids=["resending"])


def event(task: pb.ConversionTask, attempt: int, worker: str = "w", **kind: Any) -> event_pb2.TaskEvent:
    return event_pb2.TaskEvent(
        kind="conversion", task_id=task.uid, attempt=attempt, worker=worker, time=timestamp(), **kind
    )


async def publish(site: Site, event: event_pb2.TaskEvent) -> None:
    kind = event.WhichOneof("event")
    assert kind is not None
    await site.bus.publish(event_subject("conversion", event.task_id, kind), event.SerializeToString())


def success() -> event_pb2.TaskSucceeded:
    done = event_pb2.TaskSucceeded(environment="e")
    done.outcome.Pack(ConversionOutcome(hardware="h"))
    return done


async def test_repeated_and_late_events_change_nothing(site: Site) -> None:
    task = await site.create("ok")
    for _ in range(3):
        await publish(site, event(task, 1, started=event_pb2.TaskStarted(device="d")))
    await publish(site, event(task, 2, started=event_pb2.TaskStarted(device="d")))
    await publish(site, event(task, 1, succeeded=success()))
    await publish(site, event(task, 2, "impostor", succeeded=success()))
    running = await site.until(task, lambda found: len(found.attempts) == 2)
    assert running.attempts[0].outcome == task_pb2.ATTEMPT_OUTCOME_LOST
    for _ in range(3):
        await publish(site, event(task, 2, succeeded=success()))
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    await publish(site, event(task, 3, failed=event_pb2.TaskFailed()))
    await publish(site, event(task, 2, started=event_pb2.TaskStarted(device="d")))
    other = await site.create("ok", seed=5)
    await publish(site, event(other, 1, succeeded=success()))
    await site.reach(other, task_pb2.TASK_STATE_SUCCEEDED)
    assert (await site.get(task)).status.revision == done.status.revision
    assert site.kind.completed.count(task.name) == 1


@resending
async def test_a_purged_queue_is_filled_again(site: Site) -> None:
    tasks = [await site.create("ok", seed=number) for number in range(3)]
    await site.on_the_way(1)
    await site.bus.js.purge_stream(TASKS)
    await site.start_worker()
    for task in tasks:
        done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        assert len(done.attempts) == 1


@in_haste
async def test_a_killed_worker_is_replaced(site: Site) -> None:
    process = await start_worker_process(site)
    task = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    site.jobs.release.set()
    await site.until(task, lambda found: found.attempts[0].outcome == task_pb2.ATTEMPT_OUTCOME_LOST)
    await site.start_worker(name="second")
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert [each.outcome for each in done.attempts] == [
        task_pb2.ATTEMPT_OUTCOME_LOST,
        task_pb2.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert [each.number for each in done.attempts] == [1, 2]
    assert done.attempts[1].worker == "second"


@in_haste
async def test_a_task_that_kills_every_worker_is_given_up(site: Site) -> None:
    task = await site.create("hang")
    consumer = "conversion-cpu-x86-64"
    subscription = await site.bus.js.pull_subscribe_bind(consumer, stream=TASKS)
    # A worker that takes the message and dies without a word, three times.
    for _ in range(3):
        await subscription.fetch(1, timeout=30)
    await site.start_worker()
    failed = await site.reach(task, task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_WORKER_LOST
    await site.on_the_way(0)  # the message goes once the task has failed


@in_haste
async def test_a_cancelled_task_of_a_dead_worker_ends(site: Site) -> None:
    process = await start_worker_process(site)
    task = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert (await site.cancel(task)).status.state == task_pb2.TASK_STATE_CANCELLING
    ended = await site.reach(task, task_pb2.TASK_STATE_CANCELLED)
    assert ended.attempts[0].outcome == task_pb2.ATTEMPT_OUTCOME_LOST


async def test_a_stopped_worker_gives_its_task_back(site: Site) -> None:
    await site.start_worker(name="first")
    task = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    await site.stop_workers()
    assert not list(site.folder.glob("work/*"))
    site.jobs.release.set()
    await site.start_worker(name="second")
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert done.attempts[-1].worker == "second"


async def test_stops_of_workers_do_not_use_up_attempts(site: Site) -> None:
    task = await site.create("hang")
    for number in range(4):
        await site.start_worker(name=f"w{number}")
        await site.reach(task, task_pb2.TASK_STATE_RUNNING)
        await site.stop_workers()
        await site.reach(task, task_pb2.TASK_STATE_PENDING)
    site.jobs.release.set()
    await site.start_worker(name="last")
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert [each.outcome for each in done.attempts] == [task_pb2.ATTEMPT_OUTCOME_RETURNED] * 4 + [
        task_pb2.ATTEMPT_OUTCOME_SUCCEEDED
    ]


async def test_an_outcome_that_the_bus_cannot_hold_is_a_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_OUTCOME_BYTES", 1 << 30)
    await site.start_worker()
    failed = await site.reach(await site.create("verbose"), task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_INTERNAL_ERROR
    assert "larger than the message bus takes" in failed.status.failure.message
    assert len(failed.attempts) == 1


async def test_a_worker_goes_on_after_a_message_that_it_cannot_read(site: Site) -> None:
    await site.start_worker(concurrency=1)
    await site.bus.publish(task_subject("conversion", DEVICE, str(uuid4())), b"not an assignment")
    await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)


async def test_an_unreadable_advisory_is_put_away(site: Site) -> None:
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{TASKS}.conversion-{DEVICE}"
    for payload in (b"not json", b"{}", b'{"consumer": "conversion-x", "stream_seq": "y", "deliveries": 1}'):
        await site.bus.publish(subject, payload)
    info = await eventually(
        lambda: site.bus.js.consumer_info(ADVISORIES, "conversion-deadletters"),
        lambda found: found.ack_floor is not None and found.ack_floor.stream_seq >= 3,
    )
    assert info.num_ack_pending == 0


async def test_messages_stay_deletable_while_postgresql_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, failures = Outbox.remove, iter([OSError("away"), ConnectionResetError("still")])

    async def flaky(self: Outbox, ids: Sequence[int]) -> None:
        for error in failures:
            raise error
        await remove(self, ids)

    monkeypatch.setattr(Outbox, "remove", flaky)
    await site.start_worker()
    task = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    await site.cancel(task)
    await everything_is_sent(site)


async def test_a_restart_of_nats_loses_nothing(database_url: str, tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", durable=False)
    server.start()
    port = server.port
    settings = Settings(database_url=database_url, nats_url=server.url, data_dir=tmp_path)
    async with open_site(settings, tmp_path) as site:
        await site.start_worker()
        running = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
        server.stop()
        meanwhile = await site.create("ok", seed=7)
        found = await site.until(meanwhile, lambda task: "bus" in task.status.pending_reason)
        assert found.status.state == task_pb2.TASK_STATE_PENDING
        site.jobs.release.set()
        server = NatsServer(tmp_path / "nats", port, durable=False)
        server.start()
        assert server.port == port
        done = await site.reach(running, task_pb2.TASK_STATE_SUCCEEDED)
        assert len(done.attempts) == 1
        await site.reach(meanwhile, task_pb2.TASK_STATE_SUCCEEDED)
        assert site.jobs.runs == ["hang", "ok"]
    server.stop()


async def test_two_replicas_share_the_work(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path / "a") as first, open_site(task_settings, tmp_path / "b") as second:
        await first.start_worker(concurrency=32)
        tasks = [await site.create("ok", seed=number) for number in range(30) for site in (first, second)]
        for task in tasks:
            await first.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        effects = first.kind.completed + second.kind.completed
        assert len(set(effects)) == 30  # two equal tasks each: the work is done once
        await everything_is_sent(first)


async def test_what_a_dead_process_left_waiting_is_sent(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False) as dead:
        task = await dead.create("ok")
        assert await dead.queue.waiting() == 1
    async with open_site(task_settings, tmp_path) as site:
        await site.start_worker()
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)


async def everything_is_sent(site: Site) -> None:
    await eventually(site.outbox.count, lambda left: left == 0)


async def start_worker_process(site: Site) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.tasks.worker_process", site.settings.nats_url, str(site.folder)
    )
    await eventually(lambda: site.engine.workers.serves(DEVICE))
    return process


async def test_a_claim_that_waits_is_written_with_what_follows_it(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False) as site:
        ledger, task = site.engine.ledger, await site.create("ok")
        claims = Claims(ledger, site.bus, Pace())
        claim = event(task, 1, started=event_pb2.TaskStarted(device="d"))
        subject = claimed_subject("conversion", task.uid)
        await claims.hear(Msg(site.bus.nc, subject=subject, data=claim.SerializeToString()))
        await publish(site, event(task, 1, succeeded=success()))
        handover = Handover(site.kind, site.engine.workers, site.bus, site.options)
        projecting = asyncio.create_task(Projector(ledger, site.bus, claims, Pace(), handover).run())
        done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        await end([projecting])
        assert done.status.revision == task.status.revision + 1
        assert (done.attempts[0].device, done.attempts[0].start_time) == ("d", claim.time)
        assert not claims.take([UUID(task.uid)])


async def test_a_completion_that_ends_while_its_row_is_written_counts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, kind, gate = site.engine.ledger, site.kind, asyncio.Event()
    commit, complete = ledger.commit, kind.complete

    async def late(task: Message, outcome: Message, work: AnyMessage) -> Message:
        await gate.wait()
        return await complete(task, outcome, work)

    async def slow(changes: Sequence[Change], *, noted: bool = False) -> set[UUID]:
        gate.set()
        await asyncio.sleep(0.1)
        return await commit(changes, noted=noted)

    task = await site.create("ok")
    await publish(site, event(task, 1, started=event_pb2.TaskStarted(device="d")))
    await site.reach(task, task_pb2.TASK_STATE_RUNNING)
    monkeypatch.setattr(kind, "complete", late)
    monkeypatch.setattr(ledger, "commit", slow)
    await publish(site, event(task, 1, succeeded=success()))
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert [attempt.outcome for attempt in done.attempts] == [task_pb2.ATTEMPT_OUTCOME_SUCCEEDED]
    assert kind.completed == [task.name]
