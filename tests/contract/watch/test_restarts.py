"""A watch over restarts: of the registry that serves it, and of the services whose tasks it tells of."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import grpc
from lathe.type.v1 import task_pb2
from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest
from lathe.watch.v1.watch_service_pb2_grpc import WatchServiceStub

from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from tests.in_process import serve_in_process, with_free_addresses
from tests.integration.tasks.kit import open_site

TASKS = 40


async def test_no_change_is_missed_while_everything_restarts(
    shared_settings: Settings, database_url: str, fresh_nats_url: str, tmp_path: Path
) -> None:
    places = {"database_url": database_url, "nats_url": fresh_nats_url, "data_dir": tmp_path}
    settings = with_free_addresses(shared_settings.model_copy(update=places), "registry")
    address = settings.address_of("registry")
    seen: defaultdict[str, list[int]] = defaultdict(list)
    ended: set[str] = set()

    async def watch() -> None:
        token = ""
        async with grpc.aio.insecure_channel(address) as channel:
            while True:
                try:
                    async for response in WatchServiceStub(channel).WatchTasks(WatchTasksRequest(resume_token=token)):
                        token = response.resume_token
                        for change in response.changes:
                            seen[change.uid].append(change.revision)
                            if change.task.status.state == task_pb2.TASK_STATE_SUCCEEDED:
                                ended.add(change.uid)
                        begun.set()
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

    begun = asyncio.Event()
    watching = asyncio.create_task(watch())
    made: list[str] = []
    for number in range(3):
        async with (
            open_site(settings, tmp_path / str(number)) as site,
            serve_in_process("registry", build, settings, NEEDS, listen=address),
        ):
            async with asyncio.timeout(60):
                await begun.wait()
            await site.start_worker()
            made += [(await site.create("ok", seed=100 * number + each)).uid for each in range(TASKS)]
            await asyncio.sleep(0.1)
    async with (
        open_site(settings, tmp_path / "last") as site,
        serve_in_process("registry", build, settings, NEEDS, listen=address),
    ):
        await site.start_worker()
        async with asyncio.timeout(120):
            while len(ended) < len(made):
                await asyncio.sleep(0.1)
    watching.cancel()
    assert ended == set(made)
    assert {uid: revisions == list(range(1, len(revisions) + 1)) for uid, revisions in seen.items()} == dict.fromkeys(
        made, True
    )
