"""ReleaseService: requests and answers."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import release_service_pb2 as pb
from lathe.registry.v1.release_service_pb2_grpc import ReleaseServiceServicer

from services.registry.releases.approvals import Approvals
from services.registry.releases.channels import Channels
from services.registry.releases.history import Releases
from services.registry.releases.machines import Machines
from services.resources.batches import deleted

Context = grpc.aio.ServicerContext[object, object]


class ReleaseServicer(ReleaseServiceServicer):
    """Answers the calls of ReleaseService."""

    def __init__(self, channels: Channels, releases: Releases, approvals: Approvals, machines: Machines) -> None:
        self._channels = channels
        self._releases = releases
        self._approvals = approvals
        self._machines = machines

    async def CreateChannel(self, request: pb.CreateChannelRequest, context: Context) -> pb.Channel:
        return await self._channels.create(request)

    async def GetChannel(self, request: pb.GetChannelRequest, context: Context) -> pb.Channel:
        return await self._channels.get(request.name)

    async def ListChannels(self, request: pb.ListChannelsRequest, context: Context) -> pb.ListChannelsResponse:
        answer = pb.ListChannelsResponse()
        answer.next_page_token = await self._channels.page(request, answer.channels)
        return answer

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, context: Context) -> pb.Channel:
        return await self._channels.update(request)

    async def DeleteChannel(self, request: pb.DeleteChannelRequest, context: Context) -> Empty:
        deletion = self._channels.delete(request.name, request.etag, force=request.force)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def PromoteModelVersion(self, request: pb.PromoteModelVersionRequest, context: Context) -> pb.Release:
        return await self._releases.promote(request)

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.Release:
        return await self._releases.roll_back(request)

    async def ApproveModelVersion(self, request: pb.ApproveModelVersionRequest, context: Context) -> pb.Approval:
        return await self._approvals.approve(request)

    async def RevokeApproval(self, request: pb.RevokeApprovalRequest, context: Context) -> Empty:
        return await deleted(self._approvals.revoke(request.name), allow_missing=request.allow_missing)

    async def GetApproval(self, request: pb.GetApprovalRequest, context: Context) -> pb.Approval:
        return await self._approvals.get(request.name)

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Context) -> pb.ListApprovalsResponse:
        answer = pb.ListApprovalsResponse()
        answer.next_page_token = await self._approvals.page(request, answer.approvals)
        return answer

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.Release:
        return await self._releases.get(request.name)

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        answer = pb.ListReleasesResponse()
        answer.next_page_token = await self._releases.page(request, answer.releases)
        return answer

    async def CheckCompatibility(self, request: pb.CheckCompatibilityRequest, context: Context) -> pb.Compatibility:
        return await self._machines.check(request)
