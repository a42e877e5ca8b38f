"""Directories in the form of another platform: what is pushed from one, and a package that is written as one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.output import note
from services.cli.views import when

if TYPE_CHECKING:
    from lathe.registry.v1.model_service_pb2 import ModelVersion
    from lathe_client.connection import Connection


class Layout(StrEnum):
    """A form of directories."""

    MODELARTS = "modelarts"


def taken_from(layout: Layout, format_name: str, paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """Return the format and the files of the model in a directory, and tell what else is there, and what it is for.

    Raises:
        CliError: The paths are no single directory, it breaks the layout's rules, or it holds another format.
    """
    from engines.failures import EngineFailure
    from engines.formats.modelarts import read_input

    if len(paths) != 1:
        raise CliError(f"--layout {layout} takes one directory, not {len(paths)} paths.", ExitCode.USAGE)
    try:
        found = read_input(paths[0])
    except EngineFailure as failure:
        raise CliError(f"{failure.message} {failure.suggested_fix}", ExitCode.USAGE) from failure
    if format_name.upper() not in {"", found.format}:
        raise CliError(f"{paths[0]} holds {found.format}, not {format_name.upper()}.", ExitCode.USAGE)
    if found.aipp:
        note(f'{found.aipp} stays here: convert with --runtime-option insert_op_conf="$(cat {found.aipp})".')
    if found.calibration:
        note(
            f"{found.calibration} stays here: join its arrays to one, save it as {found.calibration}/INPUT.npy, named "
            f"like the model's input, remove the others, and quantize with --calibration {found.calibration}."
        )
    if found.plugin:
        note(f"{found.plugin} stays here: Lathe compiles no operators of your own.")
    return found.format, list(found.model)


def download_in(layout: Layout, connection: Connection, version: ModelVersion, directory: Path) -> None:
    """Write a package and the log of its task into a directory, as the platform of a layout does.

    Raises:
        CliError: The version is no package.
    """
    from engines.failures import EngineFailure
    from engines.package.modelarts import write_output
    from services.cli.transfers import download_files

    if not version.HasField("package"):
        raise CliError(
            f"{version.name} is no package of Lathe, and --layout {layout} writes what a task made: convert it first.",
            ExitCode.USAGE,
        )
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lathe-", dir=directory) as folder:
        download_files(connection, version.files, Path(folder))
        try:
            written = write_output(Path(folder), directory)
        except EngineFailure as failure:
            raise CliError(failure.message) from failure
    written += _write_log(connection, version.lineage.task, directory)
    note(f"{', '.join(written)} in {directory}")


def _write_log(connection: Connection, task: str, directory: Path) -> list[str]:
    """Write the log of the task that made a version, and return the file's name; nothing if the log is gone."""
    import grpc
    from lathe_client.tasks import kind_of, read_log

    from engines.package.modelarts import LOG_NAME

    if not task:
        note(f"There is no {LOG_NAME}: the package was uploaded, and no task made it here.")
        return []
    try:
        lines = [f"{when(line.time)} {line.text}\n" for line in read_log(connection, kind_of(task), task)]
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        note(f"There is no {LOG_NAME}: {task} was deleted, and its log with it.")
        return []
    (directory / LOG_NAME).write_text("".join(lines), encoding="utf-8")
    return [LOG_NAME]
