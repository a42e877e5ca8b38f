"""`lathe promote`, `rollback`, `releases`, `check-compatibility`: releases and their compatibility."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Limit, OrderBy, Page, pages
from services.cli.names import channel_name, model_name, model_of, parse_pairs, version_name
from services.cli.output import (
    TABLE,
    Column,
    Output,
    OutputFormat,
    message_json,
    plain,
    print_json,
    show_message,
    show_messages,
)
from services.cli.views import COMPATIBILITY, enum_name, short, when

RELEASES: list[Column[Any]] = [
    Column("release", lambda release: release.name.rpartition("/")[2], numeric=True),
    Column("version", lambda release: short(release.model_version), whole=True),
    Column("by", lambda release: plain(_how(release))),
    Column("who", lambda release: plain(release.owner)),
    Column("when", lambda release: when(release.create_time), whole=True),
    Column("why", lambda release: plain(release.note)),
    Column("accepted", lambda release: plain("\n".join(_waivers(release))), detail=True),
    Column("evaluation", lambda release: plain(release.evaluation_task.partition("/")[2]), detail=True),
    Column("rules kept", lambda release: plain("\n".join(release.checks)), detail=True),
    Column("repository", lambda release: plain(release.repository_uri), detail=True),
]

ChannelOption = Annotated[str, typer.Option("--channel", "-c", help="Such as 'production'.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Such as 'digits'.")]
VersionArgument = Annotated[str, typer.Argument(metavar="MODEL/NUMBER", help="Such as 'digits/3' or 'digits@best'.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the history.")]
Etag = Annotated[str, typer.Option(help="Go on only if this is still the channel's etag: nothing has changed since.")]


def promote(
    version: VersionArgument,
    channel: ChannelOption,
    evaluation: Annotated[str, typer.Option(metavar="TASK", help="Id of the evaluation for the channel's rules.")] = "",
    waive: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPONENT=WHY", help="Accept a parity verdict other than PASS; the release records why."),
    ] = None,
    why: Note = "",
    etag: Etag = "",
    output: Output = TABLE,
) -> None:
    """Promote a package version to a channel. Fails with all rules of the channel that it breaks.

    Even without rules, a verdict other than PASS must be accepted: WARN and FAIL when the version is made, any by
    --waive, WARN by the channel's --minimum-verdict. A channel with --require-parity accepts no waiver.
    """
    from lathe.registry.v1.release_service_pb2 import PromoteModelVersionRequest

    name = version_name(version)
    request = PromoteModelVersionRequest(
        name=channel_name(f"{model_of(name)}/{channel}"),
        model_version=name,
        evaluation_task=_evaluation(evaluation),
        note=why,
        parity_waivers=parse_pairs(waive or [], "--waive"),
        etag=etag,
    )
    with connect() as connection:
        show_message(connection.releases.PromoteModelVersion(request), RELEASES, output)


def rollback(
    model: ModelArgument,
    channel: ChannelOption,
    to: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            min=0,
            help="Release to roll back to; if not given, the last one of another version that was not rolled back.",
        ),
    ] = 0,
    why: Note = "",
    etag: Etag = "",
    output: Output = TABLE,
) -> None:
    """Roll back to an earlier release of a channel, without checking rules."""
    from lathe.registry.v1.release_service_pb2 import RollBackRequest

    name = channel_name(f"{model_name(model)}/{channel}")
    request = RollBackRequest(name=name, release=f"{name}/releases/{to}" if to else "", note=why, etag=etag)
    with connect() as connection:
        show_message(connection.releases.RollBack(request), RELEASES, output)


def releases(
    model: ModelArgument,
    channel: ChannelOption,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """Show a channel's history, the newest first."""
    from lathe.registry.v1.release_service_pb2 import ListReleasesRequest

    request = ListReleasesRequest(
        parent=channel_name(f"{model_name(model)}/{channel}"), filter=filter_, order_by=order_by
    )
    with connect() as connection:
        found = pages(connection.releases.ListReleases, request, "releases", limit, page)
        show_messages(found, RELEASES, output, empty="This channel has no releases.")


def check_compatibility(
    version: VersionArgument,
    device: Annotated[str, typer.Option(help="Device of the catalog, such as 'cpu-x86-64'.")] = "",
    runtime_version: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]VERSION",
            help="Version of the package's runtime on the machine; NAME=VERSION for each if there are several.",
        ),
    ] = None,
    driver_version: Annotated[str, typer.Option(help="Version of the driver on the machine.")] = "",
    cpu_flags: Annotated[str, typer.Option(help="Processor flags, as in /proc/cpuinfo.")] = "",
    output: Output = TABLE,
) -> None:
    """Check whether a package can run on a machine. Exits with 1 if it cannot."""
    from lathe.registry.v1.release_service_pb2 import CheckCompatibilityRequest, Machine

    named = [text for text in runtime_version or [] if "=" in text]
    bare = [text for text in runtime_version or [] if "=" not in text]
    if len(bare) > 1:
        raise CliError(
            f"--runtime-version names {len(bare)} versions of one runtime; write NAME=VERSION.", ExitCode.USAGE
        )
    machine = Machine(
        device=device,
        runtime_version=bare[0] if bare else "",
        runtime_versions=parse_pairs(named, "--runtime-version"),
        driver_version=driver_version,
        cpu_flags=cpu_flags.split(),
    )
    request = CheckCompatibilityRequest(model_version=version_name(version), machine=machine)
    with connect() as connection:
        found = connection.releases.CheckCompatibility(request)
    if output is OutputFormat.JSON:
        print_json(
            {"compatible": found.compatible, **message_json(found)}
        )  # the result is also printed if it is negative
    else:
        show_message(found, COMPATIBILITY, output)
    if not found.compatible:
        raise typer.Exit(ExitCode.FAILED)


def _evaluation(text: str) -> str:
    return f"evaluationTasks/{text}" if text and "/" not in text else text


def _how(release: Any) -> str:
    """Return the cause of a release: `promotion`, `roll back to 3`."""
    if release.restored_release:
        return f"roll back to {release.restored_release.rpartition('/')[2]}"
    return enum_name(release, "kind").lower()


def _waivers(release: Any) -> list[str]:
    """Return why the verdicts of components that are not PASS were accepted."""
    return [f"{component}: {why}" for component, why in sorted(release.parity_waivers.items())]
