"""Promotions that break off: nothing is served half, and what is left is put right."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
from lathe.registry.v1.release_service_pb2 import DeleteChannelRequest

from services.registry.releases.repository import ModelRepositories
from tests.contract.registry.releases.desk import Desk

NOW = timedelta(seconds=-10)


def break_off(monkeypatch: pytest.MonkeyPatch, step: str, *, after: int = 0) -> None:
    """Let the store stop answering in a step, after this many of its calls."""
    right, done = getattr(ModelRepositories, step), 0

    async def call(self: ModelRepositories, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done > after:
            raise ConnectionError("the store is gone")
        return await right(self, *args, **kwargs)

    monkeypatch.setattr(ModelRepositories, step, call)


async def test_a_promotion_that_cannot_copy_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, (version,) = await desk.released(1)
    before = await desk.shelf.paths(channel)
    with monkeypatch.context() as broken:
        break_off(broken, "copy", after=1)
        # The first copy is the promotion's own; it is left behind by a failure after it.
        broken.setattr("services.registry.releases.rows._INSERT", "SELECT * FROM nowhere")
        await desk.refused(desk.promote(channel, version))
    assert len(await desk.history(channel)) == 1
    assert await desk.shelf.served(channel) == [1]
    assert len(await desk.shelf.paths(channel)) == len(before) + 1
    assert await desk.shelf.marked(channel)
    await desk.shelf.reconciler.heal_once(NOW)
    assert await desk.shelf.paths(channel) == before
    assert (await desk.promote(channel, version)).name == f"{channel}/releases/2"


async def test_a_release_that_is_recorded_is_switched_to_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, (version,) = await desk.released(1)
    again = {"request_id": str(uuid.uuid4())}
    with monkeypatch.context() as broken:
        break_off(broken, "switch")
        refused = await desk.refused(desk.promote(channel, version, **again))
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert f"'{channel}/releases/2' is recorded" in refused.message
    assert await desk.shelf.served(channel) == [1]
    assert (await desk.promote(channel, version, **again)).name == f"{channel}/releases/2"
    assert await desk.shelf.served(channel) == [2]
    with monkeypatch.context() as broken:
        break_off(broken, "switch")
        await desk.refused(desk.promote(channel, version))
        # One that cannot be settled is left for the next time.
        await desk.shelf.reconciler.heal_once(NOW)
    assert await desk.shelf.served(channel) == [2]
    await desk.shelf.reconciler.heal_once(timedelta(hours=1))
    assert await desk.shelf.served(channel) == [2]
    await desk.shelf.reconciler.heal_once(NOW)
    assert await desk.shelf.served(channel) == [3]
    assert not await desk.shelf.marked(channel)


async def test_the_repository_of_a_deleted_channel_is_removed_in_the_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, _ = await desk.released(1)
    with monkeypatch.context() as broken:
        break_off(broken, "sweep")
        await desk.refused(desk.releases.DeleteChannel(DeleteChannelRequest(name=channel, force=True)))
    assert (await desk.refused(desk.get(channel))).code is grpc.StatusCode.NOT_FOUND
    assert await desk.shelf.paths(channel) != []
    await desk.shelf.reconciler.heal_once(NOW)
    assert await desk.shelf.paths(channel) == []
