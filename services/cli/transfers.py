"""Files to and from the store, with progress bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.failures import CliError
from services.cli.packing import files_of

if TYPE_CHECKING:
    from lathe.registry.v1.artifact_service_pb2 import Upload
    from lathe.type.v1.digest_pb2 import File
    from lathe_client.connection import Connection
    from lathe_client.transfers import OnBytes, OnVerified
    from rich.progress import Progress


@contextmanager
def byte_progress(description: str, total: int) -> Iterator[OnBytes]:
    """Show a progress bar on stderr while bytes are sent or received."""
    with _bars() as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.update(task, advance=count)


@contextmanager
def _upload_progress(total: int) -> Iterator[tuple[OnBytes, OnVerified]]:
    """Show a progress bar on stderr while bytes are sent, and while the registry reads the last large file."""
    from rich.progress import TaskID

    with _bars() as progress:
        sending = progress.add_task("uploading", total=total)
        bars: dict[str, TaskID] = {}

        def verified(upload: Upload) -> None:
            if upload.name not in bars:
                bars[upload.name] = progress.add_task(f"verifying {upload.display_name}", total=upload.size_bytes)
            progress.update(bars[upload.name], completed=upload.verified_bytes)

        yield lambda count: progress.update(sending, advance=count), verified


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


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
    with _upload_progress(sum(path.stat().st_size for _, path in found)) as (on_bytes, on_verified):
        return [File(path=name, digest=upload_file(connection, path, on_bytes, on_verified)) for name, path in found]


def download_files(connection: Connection, files: Sequence[File], folder: Path) -> None:
    """Fetch files into a folder, with one progress bar."""
    from lathe_client.transfers import download_file

    with byte_progress("downloading", sum(file.digest.size_bytes for file in files)) as on_bytes:
        for file in files:
            download_file(connection, file.digest, folder / file.path, on_bytes)
