"""Three NATS servers with the configuration of the overlay `complete`: a server may be lost, and no message with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import nats.errors
import nats.js.errors
import pytest

from services.bus.connection import Bus, BusUnavailableError
from services.bus.topology import CHANGES, EVENTS, TASKS, ensure_topology, task_subject
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.server import installed_binary
from tests.manifests.deployed import KUBERNETES

PASSWORD = "p0123456789"
# Servers elect a leader anew whenever the machine is too busy for one to be heard.
PATIENCE_SECONDS = 120
T = TypeVar("T")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[dict[str, tuple[str, ChildProcess]]]:
    """The URL and the process of each server, by its name."""
    text = (KUBERNETES / "overlays/complete/nats.conf").read_text(encoding="utf-8")
    users = (KUBERNETES / "overlays/complete/nats-users.conf").read_text(encoding="utf-8")
    routes = [free_port(None) for _ in range(3)]
    started = {}
    for number, route in enumerate(routes):
        client, folder = free_port(None), tmp_path / f"nats-{number}"
        folder.mkdir()
        own = text.replace("0.0.0.0:4222", f"127.0.0.1:{client}").replace("0.0.0.0:6222", f"127.0.0.1:{route}")
        own = own.replace("0.0.0.0:8222", "127.0.0.1:-1").replace('"/data"', f'"{folder}/data"')
        for other, port in enumerate(routes):
            own = own.replace(f"nats-{other}.nats-nodes:6222", f"127.0.0.1:{port}")
        assert "nats-nodes" not in own
        (folder / "nats.conf").write_text(own, encoding="utf-8")
        (folder / "nats-users.conf").write_text(users, encoding="utf-8")
        passwords = dict.fromkeys(re.findall(r"\$(NATS_PASSWORD\w*)", users), PASSWORD)
        environment = {**os.environ, "POD_NAME": f"nats-{number}", **passwords}
        command = [str(installed_binary("nats-server", "LATHE_NATS_URL")), "--config", str(folder / "nats.conf")]
        process = ChildProcess(f"nats-{number}", command, folder / "log", folder, environment)
        process.start()
        started[f"nats-{number}"] = (f"nats://lathe:{PASSWORD}@127.0.0.1:{client}", process)
    yield started
    for _, process in started.values():
        process.stop(1)


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the cluster answers; it says no while it elects a leader, and at first."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(nats.js.errors.Error, nats.errors.TimeoutError, BusUnavailableError):
                return await ask()
            await asyncio.sleep(0.1)


async def made(bus: Bus, copies: int) -> None:
    await answered(lambda: ensure_topology(bus, ["k"], ["d"], copies=copies))


async def published(bus: Bus, task: str, data: bytes) -> None:
    await answered(lambda: bus.publish(task_subject("k", "d", task), data, msg_id=task))


async def test_a_cluster_that_had_one_copy_of_each_message_gets_the_others(
    servers: dict[str, tuple[str, ChildProcess]],
) -> None:
    bus = await Bus.connect(next(iter(servers.values()))[0], "test")
    await made(bus, 1)
    await published(bus, "1", b"before")
    await made(bus, 3)
    for stream in (TASKS, EVENTS, CHANGES, "KV_WORKERS", "KV_TASK_CONTROL", "KV_TIMINGS"):
        info = await answered(partial(bus.js.stream_info, stream))
        assert info.config.num_replicas == 3
    assert await pulled(bus, 1) == {b"before"}
    await bus.close()


async def test_a_server_may_be_lost(servers: dict[str, tuple[str, ChildProcess]]) -> None:
    bus = await Bus.connect(next(iter(servers.values()))[0], "test")
    await made(bus, 3)
    await published(bus, "1", b"while all are there")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (roles := await caught_up(bus)) is None:
            await asyncio.sleep(0.1)
    leader, followers = roles
    assert {leader, *followers} == set(servers)
    await bus.close()

    servers[leader][1].stop(0)
    bus = await Bus.connect(servers[followers[0]][0], "test")
    await published(bus, "2", b"with two left")
    assert await pulled(bus, 2) == {b"while all are there", b"with two left"}
    await bus.close()


async def pulled(bus: Bus, count: int) -> set[bytes]:
    """Return what so many messages of the pool of workers hold."""
    consumer = await bus.js.pull_subscribe_bind("k-d", stream=TASKS)
    found = set[bytes]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < count:
            # 503 while the consumer has no leader, 409 when it gets another one.
            with contextlib.suppress(nats.errors.TimeoutError, nats.js.errors.APIError):
                found |= {message.data for message in await consumer.fetch(count, timeout=5)}
    return found


async def caught_up(bus: Bus) -> tuple[str, list[str]] | None:
    """Return who leads TASKS and who follows, once both followers have all of it."""
    cluster = (await answered(partial(bus.js.stream_info, TASKS))).cluster
    replicas = (cluster.replicas or []) if cluster else []
    if cluster is None or not cluster.leader or len(replicas) != 2 or not all(each.current for each in replicas):
        return None
    return cluster.leader, [str(each.name) for each in replicas]
