"""`lathe up`: the whole suite on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import TABLE, Column, Output, OutputFormat, note, plain, print_json_line, print_rows

if TYPE_CHECKING:
    from services.local.endpoints import Endpoint
    from services.local.roster import WorkerEntry
    from services.local.stack import Stack

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    data_dir: DataDir = None,
    worker: Annotated[bool, typer.Option(help="Start workers for this machine's CPU.")] = True,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help="Start workers for this device of the catalog, too; several times."),
    ] = None,
    output: Output = TABLE,
) -> None:
    """Run the whole suite on this machine until Ctrl-C: PostgreSQL, NATS, S3, every service, a worker of each kind.

    If LATHE_DATABASE_URL, LATHE_NATS_URL or LATHE_S3_ENDPOINT is set, that server is used instead of an embedded one.
    For a device that this machine is not, only conversions and quantizations have workers: they build, and do not run.
    """
    from services.local.roster import WORKERS
    from services.local.stack import Stack, Stopped

    folder = chosen_data_dir(data_dir)
    stack = Stack(folder, with_worker=worker, workers=[*WORKERS, *_workers_for(device or [])], say=note)
    _on_stop_signals(stack.request_stop)
    started = time.monotonic()
    note(f"Starting in {folder.resolve()} …")
    try:
        stack.start()
    except Stopped:
        note("Stopped while starting.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _announce(stack, output, folder, time.monotonic() - started)
    try:
        stack.run()
    finally:
        note("Stopping …")
        stack.stop()
    note("Stopped.")


def _workers_for(devices: list[str]) -> list[WorkerEntry]:
    from services.local.more_devices import workers_for
    from services.platform.settings import ConfigurationError

    try:
        return workers_for(devices)
    except ConfigurationError as error:
        raise CliError(str(error), ExitCode.USAGE) from error


def _on_stop_signals(act: Callable[[], None]) -> None:
    """Call `act` for each stop signal, from a thread, because a signal handler could interrupt the holder of a lock."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno())

    def listen(_keep_open: socket.socket) -> None:
        while reader.recv(1):
            act()

    threading.Thread(target=listen, args=[writer], name="signals", daemon=True).start()


def _announce(stack: Stack, output: OutputFormat, folder: Path, seconds: float) -> None:
    parts = stack.endpoints()
    if output is OutputFormat.JSON:
        print_json_line({part.name: {"role": part.role, "address": part.address, "pid": part.pid} for part in parts})
        return
    columns: list[Column[Endpoint]] = [
        Column("name", lambda part: part.name),
        Column("address", lambda part: part.address or "–"),
        Column("pid", lambda part: str(part.pid or "not ours"), numeric=True),
        Column("log", lambda part: plain(folder / "logs" / f"{part.name}.log") if part.pid else "–"),
    ]
    print_rows(parts, columns)
    note(f"All healthy after {seconds:.1f} s. Ctrl-C stops everything; the state stays in {folder}.")
