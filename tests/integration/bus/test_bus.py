"""The bus against a real NATS: topology, publishing, pulling and mirroring, also across restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from services.bus.connection import Bus, BusUnavailableError, MessageTooLargeError, SubjectTakenError
from services.bus.mirror import Mirror
from services.bus.pull import Puller
from services.bus.topology import (
    MOST_WAITING,
    TASK_CONTROL,
    TASKS,
    Timing,
    control_subject,
    ensure_topology,
    task_subject,
)
from services.local.nats import NatsServer
from tests.eventually import PATIENCE_SECONDS, eventually


@pytest.fixture
async def bus(fresh_nats_url: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect(fresh_nats_url, "test")
    await ensure_topology(bus, ["k"], ["d"])
    yield bus
    await bus.close()


async def test_topology_is_made_once_however_often_it_is_asked_for(bus: Bus) -> None:
    await bus.publish(task_subject("k", "d", "1"), b"kept")
    await asyncio.gather(*(ensure_topology(bus, ["k", "l"], ["d", "e"]) for _ in range(3)))
    names = {info.name for info in await bus.js.consumers_info(TASKS)}
    assert names == {"k-d", "k-e", "l-d", "l-e"}
    assert (await bus.js.stream_info(TASKS)).state.messages == 1


async def test_a_queue_of_an_older_release_goes_on_with_its_limit_of_idle_workers(bus: Bus) -> None:
    assert (await bus.js.consumer_info(TASKS, "k-d")).config.max_waiting == MOST_WAITING
    older = ConsumerConfig(durable_name="k-old", filter_subject="task.k.old.*", ack_policy=AckPolicy.EXPLICIT)
    await bus.js.add_consumer(TASKS, older)
    await ensure_topology(bus, ["k"], ["d", "old"], Timing(ack_wait=7))
    config = (await bus.js.consumer_info(TASKS, "k-old")).config
    assert (config.max_waiting, config.ack_wait) == (512, 7)


async def test_publishing_says_what_became_of_a_message(bus: Bus) -> None:
    subject = task_subject("k", "d", "1")
    await bus.publish(subject, b"x", msg_id="1")
    await bus.publish(subject, b"x", msg_id="1")
    with pytest.raises(SubjectTakenError):
        await bus.publish(subject, b"y", msg_id="2")
    with pytest.raises(BusUnavailableError):
        await bus.publish("nobody.takes.this", b"x")
    with pytest.raises(MessageTooLargeError):
        await bus.publish(task_subject("k", "d", "2"), bytes(bus.max_bytes + 1))
    await bus.publish(task_subject("k", "d", "3"), bytes(bus.max_bytes), msg_id="x" * 500)


async def test_a_puller_holds_no_more_than_it_may(bus: Bus) -> None:
    for number in range(5):
        await bus.publish(task_subject("k", "d", str(number)), b"x")
    async with Puller(bus, TASKS, "k-d", 2) as puller:
        taken = await puller.take(10)
        while len(taken) < 2:
            taken += await puller.take(10)
        assert (await bus.js.consumer_info(TASKS, "k-d")).num_ack_pending == 2
        await taken[0].ack_sync()
        await puller.release()
        taken += await puller.take(10)
        assert len(taken) == 3
        assert (await bus.js.consumer_info(TASKS, "k-d")).num_ack_pending == 2


async def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", durable=False)
    server.start()
    bus, other = await Bus.connect(server.url, "test"), await Bus.connect(server.url, "other")
    await ensure_topology(bus, ["k"], ["d"])
    mirror = Mirror(bus, TASK_CONTROL, "k.>", 3600.0, refresh=3600.0)
    mirroring = asyncio.create_task(mirror.run())
    async with Puller(bus, TASKS, "k-d", 1) as puller:
        taking = asyncio.create_task(puller.take(1))
        await mirror.wait()
        server.stop()
        await eventually(lambda: not bus.connected and not other.connected)
        with pytest.raises(BusUnavailableError):
            await bus.publish(task_subject("k", "d", "1"), b"lost to nobody")
        server = NatsServer(tmp_path / "nats", server.port, durable=False)
        server.start()
        await eventually(lambda: other.connected)
        await other.publish(control_subject("k", "1"), b"cancel")
        await other.publish(task_subject("k", "d", "1"), b"work")
        await eventually(lambda: "k.1" in mirror)
        assert [message.data for message in await taking] == [b"work"]
    mirroring.cancel()
    await asyncio.gather(bus.close(), other.close())
    server.stop()


async def test_a_wanted_end_is_no_warning(fresh_nats_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    bus = await Bus.connect(fresh_nats_url, "test")
    await bus.close()
    assert "bus.disconnected" not in capsys.readouterr().out


async def test_a_wrong_password_is_told_and_not_repeated_for_ever(fresh_nats_url: str) -> None:
    scheme, _, address = fresh_nats_url.rpartition("@")
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await Bus.connect(f"{scheme}x@{address}", "test")
