"""`lathe status`: the state of the stack."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from services.cli.exit_codes import ExitCode
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import TABLE, Column, Output, OutputFormat, note, print_json, print_rows

if TYPE_CHECKING:
    import psutil

    from services.local.endpoints import Endpoint

_COLORS = {"healthy": "green", "unhealthy": "yellow", "down": "red"}


@dataclass(frozen=True)
class PartStatus:
    """The state of one part of the stack; `pid` and `since` are None if the process is not ours or is gone."""

    name: str
    role: str
    address: str
    health: str
    pid: int | None
    memory_bytes: int
    since: str | None


def status(data_dir: DataDir = None, output: Output = TABLE) -> None:
    """Show every part of the stack: address, health, process, memory and start time.

    The exit code is 0 if everything is healthy, 3 if a part is not, and 4 if nothing runs.
    """
    from services.local.endpoints import read_endpoints

    folder = chosen_data_dir(data_dir)
    endpoints = read_endpoints(folder)
    parts = [measure(part) for part in endpoints.parts] if endpoints else []
    if output is OutputFormat.JSON:
        print_json([asdict(part) for part in parts])
    else:
        print_rows(parts, _COLUMNS, empty=f"Nothing runs on {folder.resolve()}; `lathe up` starts the suite.")
        if parts:
            note(f"{sum(part.memory_bytes for part in parts) / 2**20:.0f} MiB in all")
    raise typer.Exit(overall(parts))


def overall(parts: list[PartStatus]) -> ExitCode:
    """Return the exit code for the state of all parts."""
    healthy = sum(part.health == "healthy" for part in parts)
    if parts and healthy == len(parts):
        return ExitCode.OK
    ours_alive = any(part.pid is not None for part in parts)
    return ExitCode.NOT_FOUND if ours_alive else ExitCode.UNAVAILABLE


def measure(part: Endpoint) -> PartStatus:
    """Return the state of one part, from its health check and its processes."""
    process = _living(part.pid)
    health = _health(part, process is not None)
    if process is None:
        return PartStatus(part.name, part.role, part.address, health, None, 0, None)
    since = datetime.datetime.fromtimestamp(process.create_time()).astimezone().isoformat("T", "seconds")
    memory = sum(_memory(member) for member in [process, *process.children(recursive=True)])
    return PartStatus(part.name, part.role, part.address, health, process.pid, memory, since)


def _living(pid: int) -> psutil.Process | None:
    """Return the process of this id; None if it is gone or unknown (0)."""
    import psutil

    try:
        process = psutil.Process(pid) if pid else None
        return process if process and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _memory(process: psutil.Process) -> int:
    """Return the memory of a process, with shared pages counted proportionally if the system tells."""
    import psutil

    # A process that is ending may fail either call.
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_info().rss)
    return 0


def _health(part: Endpoint, runs: bool) -> str:
    from services.local.health import port_answers, service_health

    if part.role == "service":
        return service_health(part.address)
    if part.role == "server":
        return "healthy" if port_answers(part.address) else "down"
    return "healthy" if runs else "down"


_COLUMNS: list[Column[PartStatus]] = [
    Column("name", lambda part: part.name),
    Column("address", lambda part: part.address or "–", whole=True),
    Column("health", lambda part: f"[{_COLORS[part.health]}]{part.health}[/]"),
    Column("pid", lambda part: str(part.pid or "–"), numeric=True),
    Column("memory", lambda part: f"{part.memory_bytes / 2**20:.0f} MiB" if part.pid else "–", numeric=True),
    Column("since", lambda part: part.since or "–", whole=True, detail=True),
]
