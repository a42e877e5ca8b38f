"""What the stream of changes says of releases."""

from __future__ import annotations

import asyncio

from lathe.watch.v1.change_pb2 import CHANGE_TYPE_CREATED, Change

from services.bus.connection import Bus
from services.bus.streams import read_after
from services.bus.topology import CHANGES, change_subject
from services.platform.settings import Settings
from tests.contract.registry.releases.desk import Desk


async def test_each_release_is_told_of_without_its_files(desk: Desk, shared_settings: Settings) -> None:
    channel, _ = await desk.released(2)
    bus = await Bus.connect(shared_settings.nats_url, "test")
    for release in await desk.history(channel):
        subject = change_subject("release", release.uid)
        async with asyncio.timeout(30):
            while not (found := await read_after(bus, CHANGES, subject, 0)):
                await asyncio.sleep(0.05)
        (told,) = [Change.FromString(data) for _, data in found]
        assert (told.name, told.uid, told.type) == (release.name, release.uid, CHANGE_TYPE_CREATED)
        assert release.files
        release.ClearField("files")
        assert told.release == release
    await bus.close()
