"""Files to and from the store: by presigned URL, in parts, resumed where they were broken off, with progress bars."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.failures import CliError
from services.cli.packing import files_of

if TYPE_CHECKING:
    import httpx
    from lathe.registry.v1.artifact_service_pb2 import Upload, UploadPart
    from lathe.type.v1.digest_pb2 import Digest, File

    from services.cli.client import Connection

PARALLEL_PARTS = 4
ATTEMPTS = 4
"""Rounds of sending what has not arrived, before the upload is given up; it can be resumed later."""
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0

OnBytes = Callable[[int], None]
"""Told of bytes that went on; negative for bytes that must be sent again."""


@contextmanager
def byte_progress(description: str, total: int) -> Iterator[OnBytes]:
    """Show a progress bar on stderr while bytes go on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.update(task, advance=count)


def digest_of(path: Path) -> Digest:
    """Return the digest of a file.

    Raises:
        CliError: The file cannot be read.
    """
    from lathe.type.v1.digest_pb2 import Digest

    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    return Digest(sha256=sha256, size_bytes=path.stat().st_size)


def upload_file(connection: Connection, path: Path, on_bytes: OnBytes) -> Digest:
    """Store a file and return its digest; one that is stored already is not sent again.

    The upload is named by content and caller, so that the same command, run again after an interruption, goes on
    where the first one stopped.

    Raises:
        CliError: Parts did not arrive after several attempts.
        grpc.RpcError: The registry refuses.
    """
    import grpc
    import httpx
    from lathe.registry.v1.artifact_service_pb2 import FinalizeUploadRequest, GetArtifactRequest, GetUploadRequest

    digest = digest_of(path)
    try:
        connection.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{digest.sha256}"))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
    else:
        on_bytes(digest.size_bytes)
        return digest
    upload = _open_upload(connection, path, digest)
    on_bytes(sum(part.size_bytes for part in upload.parts if part.received))
    with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        for _ in range(ATTEMPTS):
            missing = [part for part in upload.parts if not part.received]
            with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
                sent = list(pool.map(lambda part: _send_part(client, path, part, on_bytes), missing))
            if all(sent):
                break
            upload = connection.artifacts.GetUpload(GetUploadRequest(name=upload.name))
        else:
            raise CliError(f"{path}: not every part arrived; run the same command again to send the rest.")
    # Hashing a large file again takes the registry its time.
    request = FinalizeUploadRequest(name=upload.name, digest=digest)
    connection.artifacts.FinalizeUpload(request, timeout=TIMEOUT_SECONDS + digest.size_bytes / 50e6)
    return digest


def download_file(connection: Connection, digest: Digest, path: Path, on_bytes: OnBytes) -> None:
    """Fetch a blob into a file, which appears only once its digest is right.

    Raises:
        CliError: The bytes do not arrive, or are not those of the digest.
        grpc.RpcError: The registry refuses.
    """
    import httpx
    from lathe.registry.v1.artifact_service_pb2 import GetDownloadRequest

    request = GetDownloadRequest(name=f"artifacts/{digest.sha256}", file_name=path.name)
    url = connection.artifacts.GetDownload(request).url
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    sha256 = hashlib.sha256()
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
        partial.open("wb") as file,
        # Hashing leaves the interpreter to others, so that the next bytes arrive meanwhile.
        ThreadPoolExecutor(1) as hasher,
    ):
        hashed: Future[None] | None = None
        for _ in range(ATTEMPTS):
            try:
                for chunk in _read_from(client, url, file.tell()):
                    if hashed is not None:
                        hashed.result()
                    hashed = hasher.submit(sha256.update, chunk)
                    file.write(chunk)
                    on_bytes(len(chunk))
                break
            except httpx.TransportError:
                continue  # the next attempt asks for the rest
    if sha256.hexdigest() != digest.sha256:
        partial.unlink()
        raise CliError(f"{path.name}: what arrived is not what was stored under {digest.sha256}; try again.")
    partial.replace(path)


def download_url(url: str, path: Path) -> None:
    """Fetch what a presigned URL gives into a file, which appears only once it is whole.

    Raises:
        CliError: The store refuses, or does not answer.
    """
    import httpx

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client, partial.open("wb") as file:
            for chunk in _read_from(client, url, 0):
                file.write(chunk)
    except httpx.TransportError as error:
        raise CliError(f"The store did not answer to a download: {error}; try again.") from error
    partial.replace(path)


def upload_files(connection: Connection, paths: Sequence[Path]) -> list[File]:
    """Store files, each under its own name, and those of folders under their paths there, with one progress bar.

    Raises:
        CliError: A path is not there, two files would have one name, or a folder holds no file.
    """
    from lathe.type.v1.digest_pb2 import File

    found = list(files_of(paths))
    if len({name for name, _ in found}) != len(found) or not found:
        wrong = "two files have the same name; give one folder that holds all" if found else "there are no files"
        raise CliError(f"{', '.join(map(str, paths))}: {wrong}.")
    with byte_progress("uploading", sum(path.stat().st_size for _, path in found)) as on_bytes:
        return [File(path=name, digest=upload_file(connection, path, on_bytes)) for name, path in found]


def download_files(connection: Connection, files: Sequence[File], folder: Path) -> None:
    """Fetch files into a folder, with one progress bar."""
    with byte_progress("downloading", sum(file.digest.size_bytes for file in files)) as on_bytes:
        for file in files:
            download_file(connection, file.digest, folder / file.path, on_bytes)


def _open_upload(connection: Connection, path: Path, digest: Digest) -> Upload:
    from lathe.registry.v1.artifact_service_pb2 import OPEN, CreateUploadRequest

    request = CreateUploadRequest(display_name=path.name, size_bytes=digest.size_bytes)
    request.request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{digest.sha256}/{path.name}"))
    upload = connection.artifacts.CreateUpload(request)
    if upload.state != OPEN:  # an earlier one that ended: start afresh
        request.request_id = ""
        upload = connection.artifacts.CreateUpload(request)
    return upload


def _send_part(client: httpx.Client, path: Path, part: UploadPart, on_bytes: OnBytes) -> bool:
    """Send one part; False where it did not arrive."""
    import httpx

    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        with path.open("rb") as file:
            file.seek(part.offset)
            while sent < part.size_bytes and (chunk := file.read(min(CHUNK_BYTES, part.size_bytes - sent))):
                sent += len(chunk)
                on_bytes(len(chunk))
                yield chunk

    try:
        answer = client.put(part.url, content=chunks(), headers={"Content-Length": str(part.size_bytes)})
    except httpx.TransportError:
        answer = None
    if answer is None or not answer.is_success:
        on_bytes(-sent)
        return False
    return True


def _read_from(client: httpx.Client, url: str, offset: int) -> Iterator[bytes]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with client.stream("GET", url, headers=headers) as answer:
        if not answer.is_success:
            raise CliError(f"The store answered {answer.status_code} to a download; try again.")
        yield from answer.iter_bytes(CHUNK_BYTES)
