"""The client of a command: the addresses of the services, and the caller."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.options import current_options
from services.local.endpoints import read_endpoints
from services.local.roster import SERVICES

if TYPE_CHECKING:
    from lathe_client import Lathe


def find_addresses(flags: Mapping[str, str], environment: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """Return service → host:port: from the flags, else the environment, else the running stack, else the usual port."""
    running = read_endpoints(data_dir)
    usual = {entry.name: f"127.0.0.1:{entry.port}" for entry in SERVICES}
    named = {
        entry.name: environment[entry.address_variable] for entry in SERVICES if environment.get(entry.address_variable)
    }
    return {**usual, **(running.addresses() if running else {}), **named, **flags}


def connect() -> Lathe:
    """Return the client for the running command, from its options and the environment."""
    # What goes wrong is told by the exception; gRPC would write it to the terminal before, in words of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from lathe_client import Lathe

    options = current_options()
    return Lathe(
        find_addresses(options.addresses, os.environ, options.data_dir),
        token=os.environ.get("LATHE_TOKEN", ""),
        project=options.project,
        user=os.environ.get("USER") or getpass.getuser(),
    )
