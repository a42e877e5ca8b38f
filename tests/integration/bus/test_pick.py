"""A picker of several consumers against a real NATS: what it holds, what it hears, what is left when it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.bus import pick
from services.bus.connection import Bus
from services.bus.pick import Picker, Source
from services.bus.topology import TASKS, ensure_topology, sent_subject, task_subject, work_consumer
from services.local.nats import NatsServer
from services.platform.background import end
from tests.eventually import PATIENCE_SECONDS, eventually

KINDS = ("a", "b", "c")
SOURCES = {kind: Source(work_consumer(kind, "d"), sent_subject(kind, "d")) for kind in KINDS}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer come too late because the machine is busy, unless a test hurries."""
    monkeypatch.setattr(pick, "ANSWER_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
async def bus(fresh_nats_url: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect(fresh_nats_url, "test")
    await ensure_topology(bus, KINDS, ["d"])
    yield bus
    await bus.close()


async def send(bus: Bus, kind: str, name: str) -> None:
    await bus.publish(task_subject(kind, "d", name), kind.encode())


async def delivered(bus: Bus) -> int:
    """How many messages the server has sent to somebody and waits for."""
    return sum([(await bus.js.consumer_info(TASKS, each.consumer)).num_ack_pending for each in SOURCES.values()])


async def test_it_holds_no_more_than_it_may_and_asks_in_the_order_that_it_is_told(bus: Bus) -> None:
    for number in range(2):
        for kind in KINDS:
            await send(bus, kind, str(number))
    turns = cycle(["b", "c", "a"])

    def order() -> Sequence[str]:
        return [next(turns), *KINDS]

    taken: list[Msg] = []
    async with Picker(bus, TASKS, SOURCES, 1, order) as picker:
        for _ in range(6):
            message = await picker.take()
            assert await delivered(bus) == 1
            taken.append(message)
            await message.ack_sync()
            picker.release()
        waiting = asyncio.create_task(picker.take())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await end([waiting])
    assert [message.data.decode() for message in taken] == ["b", "c", "a"] * 2
    assert picker.left == []


async def test_a_new_message_is_told_and_one_that_comes_back_is_found(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick, "LOOK_SECONDS", 3600.0)
    for kind in ("c", "a"):
        # Long enough for a consumer that hears of it late; the first request of each picker does not wait.
        monkeypatch.setattr(pick, "MOMENT_SECONDS", PATIENCE_SECONDS)
        async with Picker(bus, TASKS, SOURCES, 1, lambda: KINDS) as picker:
            taking = asyncio.create_task(picker.take())
            await asyncio.sleep(0.1)
            await send(bus, kind, "1")
            message = await asyncio.wait_for(taking, PATIENCE_SECONDS)
            assert message.data.decode() == kind
            monkeypatch.setattr(pick, "MOMENT_SECONDS", 0.0)
            picker.release()
            monkeypatch.setattr(pick, "LOOK_SECONDS", 0.05)
            await message.nak(delay=0.2)
            again = await asyncio.wait_for(picker.take(), PATIENCE_SECONDS)
            assert again.metadata.num_delivered == 2
            await again.ack_sync()
            monkeypatch.setattr(pick, "LOOK_SECONDS", 3600.0)


async def test_a_consumer_may_hear_of_a_message_after_those_who_are_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick, "LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(pick, "MOMENT_SECONDS", PATIENCE_SECONDS)
    early = {"a": SOURCES["a"]._replace(told="rumour")}
    async with Picker(bus, TASKS, early, 1, lambda: ["a"]) as picker:
        taking = asyncio.create_task(picker.take())
        await asyncio.sleep(0.1)
        await bus.notify("rumour")
        await asyncio.sleep(0.1)
        await send(bus, "a", "1")
        assert (await asyncio.wait_for(taking, PATIENCE_SECONDS)).data == b"a"


async def test_what_is_told_of_one_consumer_does_not_keep_the_others_from_being_asked(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pick, "LOOK_SECONDS", 0.3)
    sources = {kind: SOURCES[kind]._replace(told=f"rumour.{kind}") for kind in ("a", "b")}

    async def chatter() -> None:
        while True:
            await bus.notify("rumour.a")
            await asyncio.sleep(pick.MOMENT_SECONDS / 10)

    async with Picker(bus, TASKS, sources, 1, lambda: ["a", "b"]) as picker:
        taking, talking = asyncio.create_task(picker.take()), asyncio.create_task(chatter())
        await asyncio.sleep(0.1)
        await send(bus, "b", "1")
        try:
            assert (await asyncio.wait_for(taking, PATIENCE_SECONDS)).data == b"b"
        finally:
            await end([talking])


async def test_whatever_was_sent_when_it_ends_is_taken_or_left_or_was_never_delivered(bus: Bus) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    known = 0
    for number in range(60):
        picker = Picker(bus, TASKS, SOURCES, 1, lambda: KINDS)

        async def serve(picker: Picker = picker) -> Msg:
            async with picker:
                return await picker.take()

        serving = asyncio.create_task(serve())
        sending = asyncio.create_task(send(bus, chance.choice(KINDS), str(number)))
        await asyncio.sleep(chance.uniform(0, 0.004))
        serving.cancel()
        (taken,) = await asyncio.gather(serving, return_exceptions=True)
        await sending
        known += len(picker.left) + isinstance(taken, Msg)
        assert await delivered(bus) == known, f"seed {seed}, round {number}"


async def test_a_restart_of_the_server_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick, "LOOK_SECONDS", 0.05)
    server = NatsServer(tmp_path / "nats", durable=False)
    server.start()
    bus = await Bus.connect(server.url, "test")
    try:
        await ensure_topology(bus, KINDS, ["d"])
        for number in range(4):
            await send(bus, "b", str(number))
        async with Counting(bus, TASKS, SOURCES, 1, lambda: KINDS) as picker:
            await (await picker.take()).ack_sync(PATIENCE_SECONDS)
            await asyncio.to_thread(server.stop)
            monkeypatch.setattr(pick, "ANSWER_SECONDS", 0.05)
            picker.release()
            taking = asyncio.create_task(picker.take())
            await asyncio.sleep(1.0)
            monkeypatch.setattr(pick, "ANSWER_SECONDS", 2.0)
            await asyncio.to_thread(server.start)
            assert (await asyncio.wait_for(taking, PATIENCE_SECONDS)).data == b"b"
            await asyncio.sleep(0.2)

            async def no_other() -> bool:
                return await delivered(bus) == 1

            # One that was asked for as the server went away may come as well, and goes back.
            await eventually(no_other)
            assert picker.messages <= 3, "what it asked for while the server was away has come as well"
    finally:
        await bus.close()
        server.stop()


class Counting(Picker):
    """Counts the answers to its requests, and those of them that are messages of the stream."""

    answers = messages = 0

    async def _receive(self, message: Msg) -> None:
        await super()._receive(message)
        self.answers += 1
        self.messages += bool(message.reply)


async def test_an_answer_that_comes_too_late_goes_back(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        await send(bus, "b", str(number))
    with monkeypatch.context() as hurried:
        hurried.setattr(pick, "ANSWER_SECONDS", 0.0)
        hurried.setattr(pick, "LOOK_SECONDS", 0.0)
        async with Counting(bus, TASKS, SOURCES, 1, lambda: ["b"]) as hurrying:
            taken = [await asyncio.wait_for(hurrying.take(), PATIENCE_SECONDS)]
            await eventually(lambda: hurrying.answers == hurrying._asked)
        assert hurrying.left == []
    async with Picker(bus, TASKS, SOURCES, 2, lambda: KINDS) as picker:
        taken += [await asyncio.wait_for(picker.take(), PATIENCE_SECONDS) for _ in range(2)]
    assert len({message.metadata.sequence.stream for message in taken}) == 3
