"""`lathe channels`: where a model is served from, and the rules for promotions."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import channel_name, dataset_name, model_name, parse_labels
from services.cli.options import NewLabels, mask_of
from services.cli.output import TABLE, Output, note, show_message, show_messages
from services.cli.views import CHANNELS

if TYPE_CHECKING:
    from lathe.registry.v1.release_service_pb2 import MetricBound, PromotionRules

channels = typer.Typer(help="Channels from which models are served, with their rules.", no_args_is_help=True)


class Verdict(StrEnum):
    """Verdicts that a channel may be content with."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    WARN = "WARN"


ChannelArgument = Annotated[str, typer.Argument(metavar="MODEL/CHANNEL", help="Such as 'digits/production'.")]
RequireParity = Annotated[
    bool | None,
    typer.Option("--require-parity/--no-require-parity", help="Every component must have the verdict; no waivers."),
]
MinimumVerdict = Annotated[
    Verdict | None,
    typer.Option(help="The worst parity verdict without a waiver: WARN is over the threshold, but within the limit."),
]
OnDevice = Annotated[
    bool | None,
    typer.Option("--verified-on-device/--no-verified-on-device", help="Parity was judged on the package's device."),
]
Approvals = Annotated[
    int | None, typer.Option(min=0, max=20, help="How many others must approve a version first; 0 for none.")
]
Approvers = Annotated[
    list[str] | None, typer.Option("--approver", metavar="USER", help="Whose approvals count; else everybody's.")
]
RequireEvaluation = Annotated[
    bool | None,
    typer.Option("--require-evaluation/--no-require-evaluation", help="An evaluation of the version must be named."),
]
AcceptImported = Annotated[
    bool | None,
    typer.Option("--accept-imported/--no-accept-imported", help="An imported evaluation counts, too."),
]
Dataset = Annotated[str | None, typer.Option(help="Dataset that evaluations must use.")]
Bounds = Annotated[
    list[str] | None,
    typer.Option("--bound", metavar="METRIC[@SLICE]>=VALUE", help="Such as 'top1>=0.97', 'latency_p99_ms<=20'."),
]
_BOUND = re.compile(r"(?P<metric>[^@<>=]+)(?:@(?P<slice>[^<>]+?))?\s*(?P<sign>>=|<=)\s*(?P<value>\S+)")


@channels.command("create")
def create(
    channel: ChannelArgument,
    name: Annotated[str, typer.Option(help="Display name; the id if not given.")] = "",
    description: Annotated[str, typer.Option()] = "",
    label: NewLabels = None,
    require_parity: RequireParity = None,
    minimum_verdict: MinimumVerdict = None,
    verified_on_device: OnDevice = None,
    approvals: Approvals = None,
    approver: Approvers = None,
    require_evaluation: RequireEvaluation = None,
    accept_imported: AcceptImported = None,
    dataset: Dataset = None,
    bound: Bounds = None,
    output: Output = TABLE,
) -> None:
    """Create a channel of a model."""
    from lathe.registry.v1.release_service_pb2 import Channel, CreateChannelRequest

    full = channel_name(channel)
    channel_id = full.rsplit("/", 1)[1]
    rules = _rules(require_parity, minimum_verdict, verified_on_device, require_evaluation, dataset)
    rules.bounds.extend(parse_bound(text) for text in bound or [])
    rules.accept_imported = bool(accept_imported)
    _ask_approvals(rules, approvals, approver)
    request = CreateChannelRequest(
        parent=full.rsplit("/channels/", 1)[0],
        channel_id=channel_id,
        channel=Channel(
            display_name=name or channel_id,
            description=description,
            labels=parse_labels(label or []),
            rules=rules,
        ),
    )
    with connect() as connection:
        show_message(connection.releases.CreateChannel(request), CHANNELS, output)


@channels.command("list")
def list_channels(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as 'digits'; '-' for all.")] = "-",
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List the channels of a model, or of all."""
    from lathe.registry.v1.release_service_pb2 import ListChannelsRequest

    request = ListChannelsRequest(
        parent=model_name(model), search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by
    )
    with connect() as connection:
        show_messages(pages(connection.releases.ListChannels, request, "channels", limit, page), CHANNELS, output)


@channels.command("get")
def get(channel: ChannelArgument, output: Output = TABLE) -> None:
    """Show a channel: the release in service, its rules, its model repository."""
    from lathe.registry.v1.release_service_pb2 import GetChannelRequest

    with connect() as connection:
        found = connection.releases.GetChannel(GetChannelRequest(name=channel_name(channel)))
    show_message(found, CHANNELS, output)


@channels.command("update")
def update(
    channel: ChannelArgument,
    name: Annotated[str | None, typer.Option(help="New display name.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Replaces all labels.")] = None,
    require_parity: RequireParity = None,
    minimum_verdict: MinimumVerdict = None,
    verified_on_device: OnDevice = None,
    approvals: Approvals = None,
    approver: Approvers = None,
    require_evaluation: RequireEvaluation = None,
    accept_imported: AcceptImported = None,
    dataset: Dataset = None,
    bound: Bounds = None,
    no_bounds: Annotated[bool, typer.Option("--no-bounds", help="Removes all bounds.")] = False,
    output: Output = TABLE,
) -> None:
    """Change a channel. Other rules stay; --bound replaces all bounds."""
    from lathe.registry.v1.release_service_pb2 import Channel, UpdateChannelRequest

    bounds = [] if no_bounds else bound
    given = {
        "display_name": name,
        "description": description,
        "labels": label,
        "rules.require_parity": require_parity,
        "rules.minimum_verdict": minimum_verdict,
        "rules.verified_on_device": verified_on_device,
        "rules.approval": approver if approvals is None else approvals,
        "rules.require_evaluation": require_evaluation,
        "rules.accept_imported": accept_imported,
        "rules.dataset": dataset,
        "rules.bounds": bounds,
    }
    changed = Channel(
        name=channel_name(channel),
        display_name=name or "",
        description=description or "",
        labels=parse_labels(label or []),
    )
    rules = _rules(require_parity, minimum_verdict, verified_on_device, require_evaluation, dataset)
    rules.bounds.extend(parse_bound(text) for text in bounds or [])
    rules.accept_imported = bool(accept_imported)
    _ask_approvals(rules, approvals, approver)
    changed.rules.CopyFrom(rules)
    with connect() as connection:
        request = UpdateChannelRequest(channel=changed, update_mask=mask_of(given))
        show_message(connection.releases.UpdateChannel(request), CHANNELS, output)


@channels.command("delete")
def delete(
    channel: ChannelArgument,
    force: Annotated[bool, typer.Option("--force", help="Delete it even if it serves a release.")] = False,
) -> None:
    """Delete a channel with its history and its model repository."""
    from lathe.registry.v1.release_service_pb2 import DeleteChannelRequest

    with connect() as connection:
        connection.releases.DeleteChannel(DeleteChannelRequest(name=channel_name(channel), force=force))
    note(f"deleted {channel}")


def _rules(
    parity: bool | None, verdict: Verdict | None, on_device: bool | None, evaluation: bool | None, dataset: str | None
) -> PromotionRules:
    from lathe.registry.v1.release_service_pb2 import PromotionRules
    from lathe.type.v1 import measurement_pb2

    from services.platform.words import number

    return PromotionRules(
        require_parity=bool(parity),
        minimum_verdict=number(measurement_pb2.Verdict, verdict) if verdict else measurement_pb2.VERDICT_UNSPECIFIED,
        verified_on_device=bool(on_device),
        require_evaluation=bool(evaluation),
        dataset=dataset_name(dataset) if dataset else "",
    )


def _ask_approvals(rules: PromotionRules, count: int | None, approvers: list[str] | None) -> None:
    """Add the rule, for all named approvers if no number is given; leave it out if no approval is asked for."""
    wanted = len(approvers or []) if count is None else count
    if wanted:
        rules.approval.count = wanted
        rules.approval.approvers.extend(approvers or [])


def parse_bound(text: str) -> MetricBound:
    """Return the bound of a text such as `top1>=0.97` or `top1@scene=night>=0.9`.

    Raises:
        CliError: It is not a bound.
    """
    from lathe.registry.v1.release_service_pb2 import MetricBound

    match = _BOUND.fullmatch(text.strip())
    try:
        value = float(match["value"]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise CliError(
            f"--bound {text!r} must be METRIC>=VALUE or METRIC<=VALUE, such as 'top1>=0.97' or "
            "'top1@scene=night>=0.9'.",
            ExitCode.USAGE,
        )
    ends = {"min": value} if match["sign"] == ">=" else {"max": value}
    return MetricBound(metric=match["metric"].strip(), slice=(match["slice"] or "").strip(), **ends)
