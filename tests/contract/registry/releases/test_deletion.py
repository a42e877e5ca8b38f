"""What serves stays: versions, models and channels are not deleted from under a release."""

from __future__ import annotations

import grpc
from lathe.registry.v1.model_service_pb2 import DeleteModelRequest, DeleteModelVersionRequest, GetModelRequest
from lathe.registry.v1.release_service_pb2 import DeleteChannelRequest

from tests.contract.registry.releases.desk import Desk


async def test_a_version_stays_for_as_long_as_a_channel_can_go_back_to_it(desk: Desk) -> None:
    channel, (first, second) = await desk.released(2)
    models, model = desk.registry.models, channel.split("/channels/")[0]
    for version, number in ((first, 1), (second, 2)):
        refused = await desk.refused(models.DeleteModelVersion(DeleteModelVersionRequest(name=version)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
        assert f"{channel} (release {number}: {version})" in refused.message
    refused = await desk.refused(models.DeleteModel(DeleteModelRequest(name=model, force=True)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    assert channel in refused.message
    await desk.releases.DeleteChannel(DeleteChannelRequest(name=channel, force=True))
    await models.DeleteModelVersion(DeleteModelVersionRequest(name=first))
    await models.DeleteModel(DeleteModelRequest(name=model, force=True))


async def test_a_serving_channel_is_deleted_by_force_with_its_repository(desk: Desk) -> None:
    channel, (version,) = await desk.released(1)
    refused = await desk.refused(desk.releases.DeleteChannel(DeleteChannelRequest(name=channel)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CHANNEL_SERVES")
    assert version in refused.message
    await desk.releases.DeleteChannel(DeleteChannelRequest(name=channel, force=True))
    assert await desk.shelf.paths(channel) == []
    assert not await desk.shelf.marked(channel)
    assert (await desk.refused(desk.history(channel))).code is grpc.StatusCode.NOT_FOUND
    # Another one of that name goes on: no two releases have one name.
    for number in (2, 3):
        await desk.channel(channel.split("/channels/")[0])
        assert (await desk.promote(channel, version)).name == f"{channel}/releases/{number}"
        await desk.releases.DeleteChannel(DeleteChannelRequest(name=channel, force=True))


async def test_a_model_goes_with_channels_that_never_served(desk: Desk) -> None:
    model = await desk.model()
    channel = await desk.channel(model)
    await desk.registry.models.DeleteModel(DeleteModelRequest(name=model))
    gone = desk.registry.models.GetModel(GetModelRequest(name=model))
    assert (await desk.refused(gone)).code is grpc.StatusCode.NOT_FOUND
    assert (await desk.refused(desk.get(channel))).code is grpc.StatusCode.NOT_FOUND
