"""Going back: always possible, to any earlier release, and a release of its own."""

from __future__ import annotations

import uuid

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.release_service_pb2 import (
    RELEASE_KIND_ROLLBACK,
    Channel,
    PromotionRules,
    RollBackRequest,
    UpdateChannelRequest,
)

from tests.contract.registry.releases.desk import Desk


async def test_a_roll_back_is_a_new_release_and_asks_no_rules(desk: Desk) -> None:
    channel, (first, second) = await desk.released(2)
    await desk.promote(channel, second)
    rules = Channel(name=channel, rules=PromotionRules(require_parity=True, require_evaluation=True))
    await desk.releases.UpdateChannel(UpdateChannelRequest(channel=rules, update_mask=FieldMask(paths=["rules"])))
    again = {"request_id": str(uuid.uuid4()), "note": "It was worse at night."}
    made = await desk.roll_back(channel, **again)
    # Release 3 serves the version of release 2, so that going back means release 1.
    assert (made.kind, made.model_version, made.restored_release) == (
        RELEASE_KIND_ROLLBACK,
        first,
        f"{channel}/releases/1",
    )
    assert (made.name, made.previous_release) == (f"{channel}/releases/4", f"{channel}/releases/3")
    assert made.note == "It was worse at night."
    assert await desk.roll_back(channel, **again) == made
    assert (await desk.get(channel)).current_version == first
    assert await desk.shelf.served(channel) == [4]
    assert (await desk.shelf.config(channel)).parameters["lathe.package"].string_value == first
    # Never forth by itself: what was rolled back was bad.
    assert (await desk.refused(desk.roll_back(channel))).reason == "NO_EARLIER_RELEASE"
    assert (await desk.roll_back(channel, release=f"{channel}/releases/2")).model_version == second
    assert (await desk.roll_back(channel)).model_version == first


async def test_a_second_roll_back_goes_further_back_and_skips_releases_that_were_left(desk: Desk) -> None:
    channel, (first, _second, third) = await desk.released(3)
    fourth = await desk.package(channel.rsplit("/channels/", 1)[0])
    assert (await desk.roll_back(channel)).restored_release == f"{channel}/releases/2"
    # Promoted on top of release 2: release 3 was left, and is not what came before.
    await desk.promote(channel, fourth)
    assert (await desk.roll_back(channel)).restored_release == f"{channel}/releases/2"
    again = await desk.roll_back(channel)
    assert (again.restored_release, again.model_version) == (f"{channel}/releases/1", first)
    assert (await desk.refused(desk.roll_back(channel))).reason == "NO_EARLIER_RELEASE"
    back = await desk.roll_back(channel, release=f"{channel}/releases/3")
    assert back.model_version == third


async def test_a_roll_back_without_an_earlier_release_is_refused(desk: Desk) -> None:
    model = await desk.model()
    channel, other = await desk.channel(model), await desk.channel(model, channel_id="staging")
    nothing = await desk.refused(desk.roll_back(channel))
    assert (nothing.code, nothing.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_EARLIER_RELEASE")
    version = await desk.package(model)
    current = await desk.promote(channel, version)
    foreign = await desk.promote(other, version)
    assert (await desk.refused(desk.roll_back(channel))).reason == "NO_EARLIER_RELEASE"
    for release, code in (
        (current.name, grpc.StatusCode.INVALID_ARGUMENT),
        (foreign.name, grpc.StatusCode.INVALID_ARGUMENT),
        (f"{channel}/releases/9", grpc.StatusCode.NOT_FOUND),
        (f"{channel}/releases/x", grpc.StatusCode.NOT_FOUND),
    ):
        assert (await desk.refused(desk.roll_back(channel, release=release))).code is code
    absent = desk.releases.RollBack(RollBackRequest(name=f"{model}/channels/none"))
    assert (await desk.refused(absent)).code is grpc.StatusCode.NOT_FOUND
