"""What each role does at NATS works with its own user, and what it must not do is refused and told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

import nats.errors
import nats.js.errors
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from services.bus.batch import Message, publish_all
from services.bus.connection import Bus, BusUnavailableError, inbox_of
from services.bus.mirror import Mirror
from services.bus.pick import Picker, Source
from services.bus.pull import Puller
from services.bus.rights import registry_rights, service_rights, watcher_rights, worker_rights
from services.bus.streams import (
    message_at,
    projected,
    projected_kinds,
    queued_subjects,
    read_after,
    remove_message,
)
from services.bus.topology import (
    ADVISORIES,
    CHANGES,
    EVENTS,
    TASK_CONTROL,
    TASKS,
    TIMINGS,
    WORKERS,
    change_subject,
    changed_subject,
    claimed_subject,
    control_subject,
    ensure_topology,
    event_subject,
    find_queues,
    on_device,
    queues_subject,
    sent_subject,
    stored_subject,
    task_subject,
    work_consumer,
    worker_key,
)
from services.local.nats import NatsServer
from tests.eventually import PATIENCE_SECONDS

USERS = {
    "registry": registry_rights(["dataset"]),
    "carver": service_rights(["carving"], ["oak", "elm"]),
    "painter": service_rights(["painting"], ["oak"]),
    "worker-oak": worker_rights(["carving"], "oak"),
    "watcher": watcher_rights(),
}
QUEUES = ["oak", "elm", on_device("oak"), on_device("elm")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("rights"), durable=False)
    server.users = USERS
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def user(server: NatsServer) -> AsyncIterator[Callable[[str], Awaitable[Bus]]]:
    opened: list[Bus] = []

    async def connect(name: str) -> Bus:
        opened.append(await Bus.connect(server.url_of(name), name))
        return opened[-1]

    carver = await connect("carver")
    await ensure_topology(carver, ["carving"], QUEUES)
    yield connect
    for bus in opened:
        await bus.close()


async def heard(bus: Bus, subject: str, say: Callable[[], Awaitable[object]]) -> bytes:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def hear(message: Msg) -> None:
        if not got.done():
            got.set_result(message.data)

    subscription = await bus.subscribe(subject, hear)
    await bus.nc.flush()
    await say()
    async with asyncio.timeout(PATIENCE_SECONDS):
        data = await got
    await subscription.unsubscribe()
    return data


async def test_a_task_goes_its_way_with_the_rights_of_a_service_and_of_a_worker(
    user: Callable[[str], Awaitable[Bus]],
) -> None:
    carver, worker = await user("carver"), await user("worker-oak")
    with capture_logs() as logs:
        await find_queues(worker, [("carving", "oak"), ("carving", on_device("oak"))])
        sources = {
            name: Source(work_consumer("carving", name), sent_subject("carving", name))
            for name in ("oak", on_device("oak"))
        }
        async with Picker(worker, TASKS, sources, 1, lambda: list(sources)) as picker:
            for queue in sources:
                await carver.publish(task_subject("carving", queue, "t1"), b"work", "m" + queue)
                message = await picker.take()
                assert message.data == b"work"
                await message.in_progress()
                await message.ack_sync()
                picker.release()
        claimed = heard(
            carver, claimed_subject("carving", "*"), lambda: worker.notify(claimed_subject("carving", "t1"), b"c")
        )
        assert await claimed == b"c"
        await worker.publish(event_subject("carving", "t1", "succeeded"), b"made", "e1")
        async with Puller(carver, EVENTS, "carving-projector", 4) as puller:
            (event,) = await puller.take(1)
            await event.ack()
        logged = event_subject("carving", "t1", "logged")
        assert await heard(carver, logged, lambda: worker.publish(logged, b"line")) == b"line"
        assert [data for _, data in await read_after(carver, EVENTS, logged, 0)] == [b"line"]
        assert await projected(carver, "carving")
        await carver.publish(task_subject("carving", "elm", "t2"), b"more")
        assert await queued_subjects(carver, "carving") == {task_subject("carving", "elm", "t2")}
        assert await message_at(carver, 3) == b"more"
        await remove_message(carver, task_subject("carving", "elm", "t2"))
        announced = f"$KV.{WORKERS}." + worker_key("carving", "oak", "w1")
        assert await heard(carver, f"$KV.{WORKERS}.carving.>", lambda: worker.publish(announced, b"here")) == b"here"
        for bus, bucket, keys in (
            (carver, WORKERS, "carving.>"),
            (worker, TASK_CONTROL, ">"),
        ):
            await mirrored(Mirror(bus, bucket, keys, 60))
        cancelled = control_subject("carving", "t1")
        assert await heard(worker, f"$KV.{TASK_CONTROL}.>", lambda: carver.publish(cancelled, b"cancel")) == b"cancel"
        timings = await worker.js.key_value(TIMINGS)
        with pytest.raises(nats.js.errors.KeyNotFoundError):
            await timings.get("ada.oak.rt.1")
        await timings.update("ada.oak.rt.1", b"x", last=0)
        assert (await timings.get("ada.oak.rt.1")).value == b"x"
        async with Puller(carver, ADVISORIES, "carving-deadletters", 1):
            pass
        await carver.notify(changed_subject("carving", "t1"))
        await publish_all(carver, [Message(change_subject("carving", f"t{n}"), b"news", f"c{n}") for n in (1, 2)])
    assert not [line for line in logs if line["event"] == "bus.refused"]


async def mirrored(mirror: Mirror) -> None:
    running = asyncio.create_task(mirror.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await mirror.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_the_registry_and_those_who_watch_have_what_they_need(
    user: Callable[[str], Awaitable[Bus]], server: NatsServer
) -> None:
    carver, registry, watcher = await user("carver"), await user("registry"), await user("watcher")
    with capture_logs() as logs:
        await ensure_topology(registry, [], [])
        assert await projected_kinds(registry) == ["carving"]

        async def answer(message: Msg) -> None:
            await message.respond(b"none wait")

        await carver.subscribe(queues_subject("carving"), answer)
        await carver.nc.flush()
        assert (
            await registry.nc.request(queues_subject("carving"), b"", timeout=PATIENCE_SECONDS)
        ).data == b"none wait"
        news = change_subject("dataset", "d1")
        stored = stored_subject("*", "*")
        for bus in (registry, watcher):
            await heard(bus, stored, lambda: registry.publish(news, b"news"))
            assert await read_after(bus, CHANGES, news, 0)
        await registry.js.stream_info(CHANGES)
        owner = await Bus.connect(server.url, "owner")
        await (await owner.js.key_value(TIMINGS)).put("bob.oak.rt.1", b"kept")
        await owner.close()
        timings = await registry.js.key_value(TIMINGS)
        assert "bob.oak.rt.1" in await timings.keys()
        assert (await timings.get("bob.oak.rt.1")).value == b"kept"
        changes = await watcher.js.pull_subscribe("lathe.changes.dataset.*", "my-team", CHANGES)
        (first, *_) = await changes.fetch(1, timeout=PATIENCE_SECONDS)
        await first.ack_sync()
        pushed = await watcher.js.subscribe("lathe.changes.dataset.*", stream=CHANGES, durable="pushed")
        assert (await pushed.next_msg(timeout=PATIENCE_SECONDS)).data == b"news"
    assert not [line for line in logs if line["event"] == "bus.refused"]


FORBIDDEN_TO_SAY = {
    "worker-oak": [
        task_subject("carving", "oak", "t9"),
        event_subject("painting", "t9", "succeeded"),
        claimed_subject("painting", "t9"),
        control_subject("carving", "t9"),
        changed_subject("carving", "t9"),
        change_subject("carving", "t9"),
        sent_subject("carving", "oak"),
        f"$KV.{WORKERS}." + worker_key("carving", "elm", "w"),
        f"$KV.{TIMINGS}.ada.elm.rt.1",
        f"$JS.API.CONSUMER.MSG.NEXT.TASKS.{work_consumer('carving', 'elm')}",
        "$JS.ACK.TASKS.carving-elm.1.1.1.1.0",
        f"$JS.API.CONSUMER.DURABLE.CREATE.TASKS.{work_consumer('carving', 'oak')}",
        "$JS.API.CONSUMER.CREATE.TASKS",
        f"$JS.API.CONSUMER.DELETE.TASKS.{work_consumer('carving', 'oak')}",
        "$JS.API.STREAM.DELETE.TASKS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.UPDATE.TASKS",
        "$JS.API.STREAM.MSG.GET.TASKS",
        "$JS.API.STREAM.CREATE.MINE",
        f"$JS.API.DIRECT.GET.KV_{WORKERS}",
        f"$JS.API.STREAM.MSG.GET.KV_{WORKERS}",
        "$JS.API.DIRECT.GET.TASKS",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.DIRECT.GET.CHANGES",
        "$JS.API.STREAM.MSG.DELETE.TASKS",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.carving-projector",
        "$JS.ACK.EVENTS.carving-projector.1.1.1.1.0",
        "queues.carving",
    ],
    "carver": [
        task_subject("painting", "oak", "t9"),
        event_subject("carving", "t9", "succeeded"),
        control_subject("painting", "t9"),
        change_subject("painting", "t9"),
        change_subject("dataset", "d1"),
        "$JS.API.STREAM.DELETE.TASKS",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.painting-projector",
        "$JS.API.STREAM.PURGE.CHANGES",
        "$JS.API.STREAM.CREATE.MINE",
        f"$KV.{WORKERS}." + worker_key("carving", "oak", "w"),
        f"$KV.{TIMINGS}.ada.oak.rt.1",
    ],
    "registry": [
        task_subject("carving", "oak", "t9"),
        event_subject("carving", "t9", "succeeded"),
        change_subject("carving", "t9"),
        control_subject("carving", "t9"),
        "$JS.API.STREAM.PURGE.TASKS",
        "$JS.API.STREAM.DELETE.CHANGES",
        "$JS.API.STREAM.MSG.GET.TASKS",
    ],
    "watcher": [
        change_subject("dataset", "d1"),
        "$JS.API.STREAM.PURGE.CHANGES",
        "$JS.API.STREAM.INFO.TASKS",
        task_subject("carving", "oak", "t9"),
        "$JS.API.CONSUMER.CREATE.EVENTS.x",
    ],
}
FORBIDDEN_TO_HEAR = {
    "worker-oak": [
        ">",
        "task.>",
        "event.>",
        "sent.carving.elm",
        "$KV.TIMINGS.>",
        "$KV.WORKERS.>",
        "lathe.changed.>",
        "_INBOX.>",
        f"{inbox_of('carver')}.>",
        "$JS.EVENT.>",
    ],
    "carver": [">", "task.carving.>", "claimed.painting.*", "$KV.>", "_INBOX.>", f"{inbox_of('registry')}.>"],
    "registry": [">", "event.>", "task.>", "_INBOX.>"],
    "watcher": [">", "changed.>", "event.>", "lathe.changes.>", "_INBOX.>"],
}


@pytest.mark.parametrize("name", FORBIDDEN_TO_SAY)
async def test_what_a_role_must_not_do_is_refused_and_told(
    user: Callable[[str], Awaitable[Bus]], server: NatsServer, name: str
) -> None:
    bus, owner = await user(name), await Bus.connect(server.url, "owner")
    before = {each: (await owner.js.stream_info(each)).state.messages for each in (TASKS, EVENTS, CHANGES)}
    with capture_logs() as logs:
        for subject in FORBIDDEN_TO_SAY[name]:
            await bus.nc.publish(subject, b"{}")
        for subject in FORBIDDEN_TO_HEAR[name]:
            await bus.nc.subscribe(subject)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(told := refusals(logs)) < len(FORBIDDEN_TO_SAY[name]) + len(FORBIDDEN_TO_HEAR[name]):
                await bus.nc.flush()
                await asyncio.sleep(0.01)
    # The client writes what the server says in small letters.
    say, hear = ([each.lower() for each in table[name]] for table in (FORBIDDEN_TO_SAY, FORBIDDEN_TO_HEAR))
    assert told == {f"publish to '{each}'" for each in say} | {f"listen to '{each}'" for each in hear}
    assert bus.connected
    assert {each: (await owner.js.stream_info(each)).state.messages for each in before} == before
    await owner.close()


def refusals(logs: Sequence[Mapping[str, str]]) -> set[str]:
    told = (line["told"] for line in logs if line["event"] == "bus.refused")
    return {each.removeprefix("NATS does not let this process ").partition(":")[0] for each in told}


async def test_a_publisher_without_the_right_is_not_told_that_it_succeeded(
    user: Callable[[str], Awaitable[Bus]],
) -> None:
    worker = await user("worker-oak")
    worker.js._timeout = 0.2
    with pytest.raises(BusUnavailableError):
        await worker.publish(task_subject("carving", "oak", "t9"), b"forged")


async def test_nobody_connects_without_a_password(server: NatsServer) -> None:
    for url in (f"nats://127.0.0.1:{server.port}", f"nats://worker-oak:guess@127.0.0.1:{server.port}"):
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await Bus.connect(url)
