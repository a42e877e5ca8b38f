"""While the store works, no connection is held: what was decided on is held fast by a lease, and looked at again."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.artifact_service_pb2 import CreateUploadRequest, FinalizeUploadRequest
from lathe.registry.v1.model_service_pb2 import DeleteModelVersionRequest
from lathe.registry.v1.release_service_pb2 import Channel, PromotionRules, UpdateChannelRequest

from services.registry.releases.repository import ModelRepositories
from services.storage import Uploads
from tests.contract.connections import none_is_held
from tests.contract.registry.conftest import digest_of, random_bytes
from tests.contract.registry.releases.desk import Desk


class Gate:
    """Lets a method begin, and go on when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type[Any], method: str) -> None:
        self.begun = asyncio.Semaphore(0)
        self.opened = asyncio.Event()
        right = getattr(owner, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.begun.release()
            await self.opened.wait()
            return await right(*args, **kwargs)

        monkeypatch.setattr(owner, method, call)


async def test_promotions_hold_no_connection_while_files_are_copied(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await desk.model()
    version = await desk.package(model)
    # More than the pool has connections.
    channels = [await desk.channel(model, channel_id=f"c{number}") for number in range(12)]
    gate = Gate(monkeypatch, ModelRepositories, "copy")
    promotions = [asyncio.create_task(desk.promote(channel, version)) for channel in channels]
    for _ in channels:
        await gate.begun.acquire()
    await none_is_held(desk.shelf.database, "registry")
    assert (await desk.get(channels[0])).current_release == ""
    # What is copied cannot be deleted meanwhile, although no row is locked.
    deletion = desk.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=version))
    assert (await desk.refused(deletion)).reason == "IN_USE"
    gate.opened.set()
    releases = await asyncio.gather(*promotions)
    assert [release.name for release in releases] == [f"{channel}/releases/1" for channel in channels]


async def test_a_promotion_fails_if_the_rules_change_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, (first,) = await desk.released(1)
    second = await desk.package(channel.rsplit("/channels/", 1)[0], direct=True)
    with monkeypatch.context() as patched:
        gate = Gate(patched, ModelRepositories, "copy")
        promotion = asyncio.create_task(desk.promote(channel, second))
        await gate.begun.acquire()
        rules = Channel(name=channel, rules=PromotionRules(require_parity=True))
        await desk.releases.UpdateChannel(UpdateChannelRequest(channel=rules, update_mask=FieldMask(paths=["rules"])))
        gate.opened.set()
        refused = await desk.refused(promotion)
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "CHANNEL_CHANGED")
    assert (await desk.get(channel)).current_version == first
    assert (await desk.refused(desk.promote(channel, second))).reason == "PROMOTION_REFUSED"


async def test_finalizing_holds_no_connection_while_bytes_are_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts, data = desk.registry.artifacts, random_bytes(100)
    upload = await artifacts.CreateUpload(CreateUploadRequest(display_name="f", size_bytes=len(data)))
    await desk.registry.put(upload, data)
    gate = Gate(monkeypatch, Uploads, "verify_and_commit")
    request = FinalizeUploadRequest(name=upload.name, digest=digest_of(data))
    finalizing = [artifacts.FinalizeUpload(request) for _ in range(3)]
    await gate.begun.acquire()
    await none_is_held(desk.shelf.database, "registry")
    gate.opened.set()
    assert {artifact.digest.sha256 for artifact in await asyncio.gather(*finalizing)} == {digest_of(data).sha256}
    assert gate.begun.locked()  # the others waited, and found it done
