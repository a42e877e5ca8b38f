"""`lathe approve` and `approvals`: who says that a version may be promoted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Limit, Mine, Page, pages, quoted
from services.cli.names import channel_name, model_name, model_of, version_name
from services.cli.output import TABLE, Column, Output, note, plain, show_message, show_messages
from services.cli.releases import ChannelOption, ModelArgument, Note, VersionArgument
from services.cli.views import short, when

COLUMNS: list[Column[Any]] = [
    Column("version", lambda approval: short(approval.model_version), whole=True),
    Column("who", lambda approval: plain(approval.owner)),
    Column("when", lambda approval: when(approval.create_time), whole=True),
    Column("why", lambda approval: plain(approval.note)),
]


def approve(
    version: VersionArgument,
    channel: ChannelOption,
    why: Note = "",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take your approval back.")] = False,
    output: Output = TABLE,
) -> None:
    """Approve a version for a channel whose rules ask for approvals. Who promotes it must be somebody else."""
    from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest
    from lathe.registry.v1.release_service_pb2 import (
        ApproveModelVersionRequest,
        ListApprovalsRequest,
        RevokeApprovalRequest,
    )

    name = version_name(version)
    place = channel_name(f"{model_of(name)}/{channel}")
    with connect() as connection:
        if not revoke:
            request = ApproveModelVersionRequest(name=place, model_version=name, note=why)
            show_message(connection.releases.ApproveModelVersion(request), COLUMNS, output)
            return
        name = connection.models.GetModelVersion(GetModelVersionRequest(name=name)).name
        own = ListApprovalsRequest(parent=place, mine_only=True, filter=f"model_version = {quoted(name)}")
        found = connection.releases.ListApprovals(own).approvals
        if not found:
            raise CliError(f"You have not approved {short(name)} for {channel}.", ExitCode.NOT_FOUND)
        connection.releases.RevokeApproval(RevokeApprovalRequest(name=found[0].name))
    note(f"took back the approval of {version}")


def approvals(
    model: ModelArgument,
    channel: ChannelOption,
    mine: Mine = False,
    filter_: Filter = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """Show the approvals of a channel, the newest first."""
    from lathe.registry.v1.release_service_pb2 import ListApprovalsRequest

    request = ListApprovalsRequest(
        parent=channel_name(f"{model_name(model)}/{channel}"), mine_only=mine, filter=filter_
    )
    with connect() as connection:
        found = pages(connection.releases.ListApprovals, request, "approvals", limit, page)
        show_messages(found, COLUMNS, output, empty="Nobody has approved a version for this channel.")
