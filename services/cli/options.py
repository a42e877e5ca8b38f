"""Options that stand before the command: `lathe --address registry=host:port models list`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import project_name
from services.local.roster import SERVICES

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask

DEFAULT_DATA_DIR = ".lathe"


@dataclass(frozen=True)
class GlobalOptions:
    """The location of the suite according to the command line."""

    data_dir: Path = Path(DEFAULT_DATA_DIR)
    addresses: dict[str, str] = field(default_factory=dict)
    project: str = ""


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the stack's state; else $LATHE_DATA_DIR, or .lathe."),
]


NewLabels = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Label of the new resource.")]
"""Type of the `--label` option of commands that create something."""


def mask_of(given: Mapping[str, object]) -> FieldMask:
    """Return the mask of the fields of an update that are not None.

    Raises:
        CliError: There are none.
    """
    from google.protobuf.field_mask_pb2 import FieldMask

    paths = [field for field, value in given.items() if value is not None]
    if not paths:
        raise CliError("Nothing to change; give an option from `--help`.", ExitCode.USAGE)
    return FieldMask(paths=paths)


_current: ContextVar[GlobalOptions | None] = ContextVar("options", default=None)


def current_options() -> GlobalOptions:
    """Return the options that stand before the running command."""
    return _current.get() or GlobalOptions(_environment_data_dir(), project=_environment_project())


def set_options(data_dir: Path | None, addresses: Sequence[str], project: str = "") -> None:
    """Keep the global options for the command.

    Raises:
        CliError: An address is not of the form service=host:port, or of an unknown service.
    """
    given = dict(_address(text) for text in addresses)
    place = project_name(project) if project else _environment_project()
    _current.set(GlobalOptions(data_dir or _environment_data_dir(), given, place))


def chosen_data_dir(flag: Path | None) -> Path:
    """Return the data directory from the command's option, the global option or the environment."""
    return flag or current_options().data_dir


def _environment_data_dir() -> Path:
    return Path(os.environ.get("LATHE_DATA_DIR") or DEFAULT_DATA_DIR)


def _environment_project() -> str:
    named = os.environ.get("LATHE_PROJECT", "")
    return project_name(named) if named else ""


def _address(text: str) -> tuple[str, str]:
    service, equals, address = text.partition("=")
    port = address.rpartition(":")[2]
    if not equals or not service or not port.isdigit():
        raise CliError(
            f"--address {text!r} must be service=host:port, such as registry=127.0.0.1:50051.", ExitCode.USAGE
        )
    if service not in (names := [entry.name for entry in SERVICES]):
        raise CliError(f"--address names '{service}', which is none of {', '.join(names)}.", ExitCode.USAGE)
    return service, address
