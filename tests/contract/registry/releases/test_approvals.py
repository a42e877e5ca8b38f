"""Others than who promotes a version approve it, and a promotion may depend on what its caller has seen."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.release_service_pb2 import (
    Approval,
    ApprovalRule,
    ApproveModelVersionRequest,
    Channel,
    DeleteChannelRequest,
    GetApprovalRequest,
    ListApprovalsRequest,
    PromoteModelVersionRequest,
    PromotionRules,
    Release,
    RevokeApprovalRequest,
    RollBackRequest,
    UpdateChannelRequest,
)

from services.registry.releases.gate import Gate
from tests.contract.registry.releases.desk import Desk


async def approve(desk: Desk, channel: str, version: str, user: str, **more: str) -> Approval:
    request = ApproveModelVersionRequest(name=channel, model_version=version, **more)
    return await desk.releases.ApproveModelVersion(request, metadata=_as(user))


async def promote(desk: Desk, channel: str, version: str, user: str) -> Release:
    request = PromoteModelVersionRequest(name=channel, model_version=version)
    return await desk.releases.PromoteModelVersion(request, metadata=_as(user))


async def revoke(desk: Desk, approval: Approval, user: str) -> None:
    await desk.releases.RevokeApproval(RevokeApprovalRequest(name=approval.name), metadata=_as(user))


def _as(user: str) -> tuple[tuple[str, str]]:
    return (("x-lathe-user", user),)


async def ruled(desk: Desk, count: int, *approvers: str) -> tuple[str, str]:
    model = await desk.model()
    rules = PromotionRules(approval=ApprovalRule(count=count, approvers=approvers))
    return await desk.channel(model, rules), await desk.package(model)


async def test_a_promotion_waits_for_the_approval_of_others(desk: Desk) -> None:
    channel, version = await ruled(desk, 2)
    await approve(desk, channel, version, "ann")
    await approve(desk, channel, version, "bob")
    refused = await desk.refused(promote(desk, channel, version, "ann"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMOTION_REFUSED")
    ((rule, subject, sentence),) = refused.preconditions
    assert (rule, subject, "1 of 2 approvals" in sentence) == ("APPROVAL", version, True)
    await approve(desk, channel, version, "cid")
    made = await promote(desk, channel, version, "ann")
    assert list(made.approvers) == ["bob", "cid"]
    assert "bob, cid" in made.checks[0]
    # An approval is of one version.
    other = await desk.package(channel.partition("/channels/")[0])
    assert (await desk.refused(promote(desk, channel, other, "ann"))).reason == "PROMOTION_REFUSED"


async def test_named_approvers_count_and_others_do_not(desk: Desk) -> None:
    channel, version = await ruled(desk, 1, "lea", "max")
    await approve(desk, channel, version, "bob")
    assert (await desk.refused(promote(desk, channel, version, "ann"))).reason == "PROMOTION_REFUSED"
    await approve(desk, channel, version, "lea")
    assert list((await promote(desk, channel, version, "ann")).approvers) == ["lea"]


async def test_who_gave_an_approval_alone_takes_it_back(desk: Desk) -> None:
    channel, version = await ruled(desk, 1)
    request_id = str(uuid.uuid4())
    given = await approve(desk, channel, version, "bob", note="looks right", request_id=request_id)
    assert (given.owner, given.note, given.model_version) == ("bob", "looks right", version)
    assert await approve(desk, channel, version, "bob", note="looks right", request_id=request_id) == given
    assert await approve(desk, channel, version, "bob") == given
    assert await desk.releases.GetApproval(GetApprovalRequest(name=given.name)) == given
    other = await approve(desk, channel, version, "cid")
    listed = await desk.releases.ListApprovals(ListApprovalsRequest(parent=channel, page_size=1))
    assert list(listed.approvals) == [other]
    rest = ListApprovalsRequest(parent=channel, page_size=1, page_token=listed.next_page_token)
    assert list((await desk.releases.ListApprovals(rest)).approvals) == [given]
    own = ListApprovalsRequest(parent=channel, mine_only=True)
    assert list((await desk.releases.ListApprovals(own, metadata=_as("bob"))).approvals) == [given]
    assert (await desk.refused(revoke(desk, given, "ann"))).code is grpc.StatusCode.PERMISSION_DENIED
    await revoke(desk, given, "bob")
    assert (await desk.refused(revoke(desk, given, "bob"))).code is grpc.StatusCode.NOT_FOUND
    await desk.releases.RevokeApproval(RevokeApprovalRequest(name=given.name, allow_missing=True), metadata=_as("bob"))
    repeated = await desk.refused(approve(desk, channel, version, "bob", note="looks right", request_id=request_id))
    assert repeated.reason == "ALREADY_DELETED"
    await revoke(desk, other, "cid")
    assert (await desk.refused(promote(desk, channel, version, "ann"))).reason == "PROMOTION_REFUSED"


async def test_an_approval_that_is_taken_back_meanwhile_does_not_count(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, version = await ruled(desk, 1)
    given = await approve(desk, channel, version, "bob")
    checked = Gate.check

    async def check(*arguments: Any) -> list[str]:
        kept = await checked(*arguments)
        await revoke(desk, given, "bob")
        return kept

    monkeypatch.setattr(Gate, "check", check)
    refused = await desk.refused(promote(desk, channel, version, "ann"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "CHANNEL_CHANGED")
    assert (await desk.get(channel)).current_release == ""


async def test_approvals_are_of_versions_and_channels_that_exist(desk: Desk) -> None:
    channel, version = await ruled(desk, 1)
    strange = await desk.package(await desk.model())
    wrong = await desk.refused(approve(desk, channel, strange, "bob"))
    assert (wrong.code, wrong.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "model_version")
    model = channel.partition("/channels/")[0]
    for place, what in ((channel, f"{model}/versions/99"), (f"{model}/channels/none", version)):
        assert (await desk.refused(approve(desk, place, what, "bob"))).code is grpc.StatusCode.NOT_FOUND
    given = await approve(desk, channel, version, "bob")
    await desk.releases.DeleteChannel(DeleteChannelRequest(name=channel))
    gone = await desk.refused(desk.releases.GetApproval(GetApprovalRequest(name=given.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND


async def test_a_promotion_and_a_roll_back_may_depend_on_what_was_seen(desk: Desk) -> None:
    channel, (first, second) = await desk.released(2)
    seen = await desk.get(channel)
    mask = FieldMask(paths=["description"])
    changed = Channel(name=channel, description="changed since")
    await desk.releases.UpdateChannel(UpdateChannelRequest(channel=changed, update_mask=mask))
    for call in (
        desk.promote(channel, first, etag=seen.etag),
        desk.releases.RollBack(RollBackRequest(name=channel, etag=seen.etag)),
    ):
        stale = await desk.refused(call)
        assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    seen = await desk.get(channel)
    calls = [desk.refused_or(desk.promote(channel, each, etag=seen.etag)) for each in (first, second)]
    ended = await asyncio.gather(*calls)
    assert sorted(type(each).__name__ for each in ended) == ["LatheError", "Release"]
    again = str(uuid.uuid4())
    seen = await desk.get(channel)
    back = await desk.roll_back(channel, etag=seen.etag, request_id=again)
    # A repeat gets the first result, although the channel has moved by it.
    assert await desk.roll_back(channel, etag=seen.etag, request_id=again) == back


async def test_what_is_no_version_of_the_model_is_neither_approved_nor_promoted(desk: Desk) -> None:
    channel, version = await ruled(desk, 1)
    missing = f"{version.partition('/versions/')[0]}/aliases/none"
    other = await desk.package(await desk.model())
    for call in (approve, promote):
        gone = await desk.refused(call(desk, channel, missing, "ann"))
        assert (gone.code, gone.message) == (grpc.StatusCode.NOT_FOUND, f"There is no alias named '{missing}'.")
        foreign = await desk.refused(call(desk, channel, other, "ann"))
        assert (foreign.code, foreign.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "model_version")
        assert "to which the channel belongs" in foreign.message
