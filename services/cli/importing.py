"""Waiting for the import of a dataset, and confirming its class mapping."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from services.cli.dataset_views import ONE_DATASET, show_report
from services.cli.exit_codes import ExitCode
from services.cli.output import OutputFormat, error, note, show_message
from services.cli.views import enum_name

if TYPE_CHECKING:
    from lathe_client.connection import Connection

POLL_SECONDS = 0.3


def finish(connection: Connection, dataset: Any, *, yes: bool, output: OutputFormat) -> ExitCode:
    """Wait until an import ends, print its result, and return the exit code.

    If the class mapping does not fit, the report is printed, and the import continues with `yes` or a confirmation at
    the terminal.
    """
    dataset = wait(connection, dataset)
    if enum_name(dataset, "state") == "AWAITING_CONFIRMATION" and _confirmed(dataset, yes=yes, output=output):
        from lathe.registry.v1.dataset_service_pb2 import ConfirmDatasetImportRequest

        request = ConfirmDatasetImportRequest(name=dataset.name)
        dataset = wait(connection, connection.datasets.ConfirmDatasetImport(request))
    state = enum_name(dataset, "state")
    if state == "IMPORT_FAILED":
        _tell_failure(dataset.failure)
    if output is OutputFormat.JSON or state == "READY":
        show_message(dataset, ONE_DATASET, output)
    if state == "READY" and output is OutputFormat.TABLE and dataset.HasField("report"):
        show_report(dataset.report, dataset.name)
    return {"READY": ExitCode.OK, "IMPORT_FAILED": ExitCode.TASK_FAILED}.get(state, ExitCode.CONFLICT)


def wait(connection: Connection, dataset: Any) -> Any:
    """Show the progress of an import on stderr until it ends or waits, and return the dataset."""
    from lathe.registry.v1.dataset_service_pb2 import GetDatasetRequest
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("importing", total=1.0)
        while enum_name(dataset, "state") == "IMPORTING":
            time.sleep(POLL_SECONDS)
            dataset = connection.datasets.GetDataset(GetDatasetRequest(name=dataset.name))
            progress.update(bar, completed=dataset.progress)
    return dataset


def _confirmed(dataset: Any, *, yes: bool, output: OutputFormat) -> bool:
    import typer

    note(f"{dataset.name}: the class mapping does not fit the data.", style="yellow")
    if output is OutputFormat.TABLE:
        show_report(dataset.report, dataset.name)
    if yes:
        return True
    if sys.stdin.isatty() and typer.confirm("Import it without these?", err=True):
        return True
    note(f"`lathe datasets confirm {dataset.name}` continues, `lathe datasets cancel {dataset.name}` cancels it.")
    return False


def _tell_failure(failure: Any) -> None:
    details = [
        f"{label}: {value}"
        for label, value in (("evidence", failure.evidence), ("what to do", failure.suggested_fix))
        if value
    ]
    error(f"{enum_name(failure, 'reason')}: {failure.message}", details)
