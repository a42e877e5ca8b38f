"""Files to and from the store, with progress bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.failures import CliError
from services.cli.packing import files_of

if TYPE_CHECKING:
    from lathe.type.v1.digest_pb2 import File
    from lathe_client.connection import Connection
    from lathe_client.transfers import OnBytes


@contextmanager
def byte_progress(description: str, total: int) -> Iterator[OnBytes]:
    """Show a progress bar on stderr while bytes are sent or received."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.update(task, advance=count)


def upload_files(connection: Connection, paths: Sequence[Path]) -> list[File]:
    """Store files, each under its own name, and those of folders under their paths there, with one progress bar.

    Raises:
        CliError: A path does not exist, two files have the same name, or there is no file.
    """
    from lathe.type.v1.digest_pb2 import File
    from lathe_client.transfers import upload_file

    found = list(files_of(paths))
    if len({name for name, _ in found}) != len(found) or not found:
        wrong = "two files have the same name; give one folder that holds all" if found else "there are no files"
        raise CliError(f"{', '.join(map(str, paths))}: {wrong}.")
    with byte_progress("uploading", sum(path.stat().st_size for _, path in found)) as on_bytes:
        return [File(path=name, digest=upload_file(connection, path, on_bytes)) for name, path in found]


def download_files(connection: Connection, files: Sequence[File], folder: Path) -> None:
    """Fetch files into a folder, with one progress bar."""
    from lathe_client.transfers import download_file

    with byte_progress("downloading", sum(file.digest.size_bytes for file in files)) as on_bytes:
        for file in files:
            download_file(connection, file.digest, folder / file.path, on_bytes)
