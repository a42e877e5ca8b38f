"""Files to and from the store: by signed request, resumed after an interruption."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lathe_client.calls import repeated, resumed
from lathe_client.errors import TransferError

if TYPE_CHECKING:
    import urllib3
    from lathe.registry.v1.artifact_service_pb2 import Upload, UploadPart
    from lathe.type.v1.digest_pb2 import Digest

    from lathe_client.connection import Connection

PARALLEL_PARTS = 4
ATTEMPTS = 4  # rounds of sending the parts that have not arrived
CHUNK_BYTES = 1 << 20
AT_ONCE_BYTES = 1 << 30  # larger files go in parts, because an interruption costs the whole request
TIMEOUT_SECONDS = 60.0

OnBytes = Callable[[int], None]
"""Called with a number of bytes that were sent or received; negative for bytes that must be sent again."""


OnVerified = Callable[["Upload"], None]
"""Called with an upload whose bytes the registry reads, again and again: `verified_bytes` of `size_bytes`."""


class _Piece(NamedTuple):
    """Bytes of a file."""

    path: Path
    offset: int
    size_bytes: int


def digest_of(path: Path) -> Digest:
    """Return the digest of a file.

    Raises:
        OSError: The file cannot be read.
    """
    from lathe.type.v1.digest_pb2 import Digest

    sha256 = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
    return Digest(sha256=sha256.hexdigest(), size_bytes=path.stat().st_size)


def upload_file(
    client: Connection, path: Path, on_bytes: OnBytes, on_verified: OnVerified = lambda upload: None
) -> Digest:
    """Store a file and return its digest; one that is stored already is not sent again.

    The upload is named by content and caller, so that it continues where an interrupted one stopped.

    Raises:
        TransferError: Parts did not arrive after several attempts, or they are not the bytes of the file.
        grpc.RpcError: The registry refuses.
    """
    import grpc
    from lathe.registry.v1.artifact_service_pb2 import FinalizeUploadRequest, GetArtifactRequest

    digest = digest_of(path)
    try:
        client.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{digest.sha256}"))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
    else:
        on_bytes(digest.size_bytes)
        return digest
    upload = _open_upload(client, path, digest)
    http = _http_client()
    finalize = FinalizeUploadRequest(name=upload.name, digest=digest)
    at_once = _send_at_once(http, path, upload, on_bytes)
    if not at_once:
        _send_parts(client, http, path, upload.name, on_bytes)
    try:
        upload = repeated(client.artifacts.FinalizeUpload, finalize)
    except grpc.RpcError as error:
        if not at_once or error.code() != grpc.StatusCode.FAILED_PRECONDITION:
            raise
        # The bytes were stored by others, and what let this caller see them is gone: they count once they were sent.
        _send_parts(client, http, path, upload.name, lambda count: None)
        upload = repeated(client.artifacts.FinalizeUpload, finalize)
    wait_verified(client, upload, on_verified)
    return digest


def _send_parts(client: Connection, http: urllib3.PoolManager, path: Path, upload: str, on_bytes: OnBytes) -> None:
    """Send the parts that have not arrived; TransferError if they do not after several attempts."""
    from lathe.registry.v1.artifact_service_pb2 import GetUploadRequest

    found = client.artifacts.GetUpload(GetUploadRequest(name=upload))
    on_bytes(sum(part.size_bytes for part in found.parts if part.received))
    for _ in range(ATTEMPTS):
        missing = [part for part in found.parts if not part.received]
        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            if all(list(pool.map(lambda part: _send_part(http, path, part, on_bytes), missing))):
                return
        found = client.artifacts.GetUpload(GetUploadRequest(name=upload))
    raise TransferError(f"{path}: not every part arrived; upload it again to send the rest.")


def wait_verified(client: Connection, upload: Upload, on_verified: OnVerified) -> None:
    """Wait until the registry has read a large file that came in parts; a broken stream is opened again.

    Raises:
        TransferError: It is not stored: the bytes that arrived are others, or the upload was cancelled.
        grpc.RpcError: The registry stays away.
    """
    from lathe.registry.v1 import artifact_service_pb2 as pb

    if upload.state == pb.UPLOAD_STATE_VERIFYING:
        request = pb.WatchUploadRequest(name=upload.name)
        for seen in resumed(client.artifacts.WatchUpload, request, lambda _: None):
            on_verified(seen)
            upload = seen
    if upload.state != pb.UPLOAD_STATE_FINALIZED:
        cause = upload.failure.message or "its upload was cancelled."
        raise TransferError(f"{upload.display_name} is not stored: {cause}")


def download_file(client: Connection, digest: Digest, path: Path, on_bytes: OnBytes) -> None:
    """Fetch a blob into a file, which appears only once its digest is right.

    Raises:
        TransferError: The bytes do not arrive, or are not those of the digest.
        grpc.RpcError: The registry refuses.
    """
    from lathe.registry.v1.artifact_service_pb2 import GetDownloadRequest
    from urllib3.exceptions import HTTPError

    request = GetDownloadRequest(name=f"artifacts/{digest.sha256}", file_name=path.name)
    url = client.artifacts.GetDownload(request).url
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    sha256 = hashlib.sha256()
    http = _http_client()
    # Hashing releases the interpreter's lock, so that the next bytes arrive meanwhile.
    with partial.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
        hashed: Future[None] | None = None
        for _ in range(ATTEMPTS):
            try:
                for chunk in _read_from(http, url, file.tell()):
                    if hashed is not None:
                        hashed.result()
                    hashed = hasher.submit(sha256.update, chunk)
                    file.write(chunk)
                    on_bytes(len(chunk))
                break
            except HTTPError:
                continue  # the next attempt asks for the rest
    if sha256.hexdigest() != digest.sha256:
        partial.unlink()
        raise TransferError(f"{path.name}: the download does not have the digest {digest.sha256}; try again.")
    partial.replace(path)


def download_url(url: str, path: Path) -> None:
    """Fetch a presigned URL into a file, which appears only once it is whole.

    Raises:
        TransferError: The store refuses, or does not answer.
    """
    from urllib3.exceptions import HTTPError

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb", buffering=0) as file:
            for chunk in _read_from(_http_client(), url, 0):
                file.write(chunk)
    except HTTPError as error:
        raise TransferError(f"The store did not answer to a download: {error}; try again.") from error
    partial.replace(path)


def _open_upload(client: Connection, path: Path, digest: Digest) -> Upload:
    from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_OPEN, CreateUploadRequest

    request = CreateUploadRequest(display_name=path.name, size_bytes=digest.size_bytes, sha256=digest.sha256)
    place = f"{client.project}/{digest.sha256}/{path.name}" if client.project else f"{digest.sha256}/{path.name}"
    request.request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, place))
    upload = client.artifacts.CreateUpload(request)
    if upload.state != UPLOAD_STATE_OPEN:  # an earlier one that has ended
        request.request_id = ""
        upload = client.artifacts.CreateUpload(request)
    return upload


def _send_at_once(http: urllib3.PoolManager, path: Path, upload: Upload, on_bytes: OnBytes) -> bool:
    """Send the whole file if the upload allows it and no part has arrived; False if the parts must be sent."""
    if not upload.HasField("direct") or upload.size_bytes > AT_ONCE_BYTES or any(p.received for p in upload.parts):
        return not upload.size_bytes
    url, headers = upload.direct.url, dict(upload.direct.headers)
    return _send(http, _Piece(path, 0, upload.size_bytes), url, headers, on_bytes) in {
        200,
        412,
    }  # 412: it is stored already


def _send_part(http: urllib3.PoolManager, path: Path, part: UploadPart, on_bytes: OnBytes) -> bool:
    """Send one part; False if it did not arrive."""
    headers = {"Content-Length": str(part.size_bytes)}
    return _send(http, _Piece(path, part.offset, part.size_bytes), part.url, headers, on_bytes) == 200


def _send(http: urllib3.PoolManager, piece: _Piece, url: str, headers: dict[str, str], on_bytes: OnBytes) -> int:
    """PUT a piece of a file to a URL; return the status, 0 if there was no answer."""
    from urllib3.exceptions import HTTPError

    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        with piece.path.open("rb", buffering=0) as file:
            file.seek(piece.offset)
            while sent < piece.size_bytes and (chunk := file.read(min(CHUNK_BYTES, piece.size_bytes - sent))):
                sent += len(chunk)
                on_bytes(len(chunk))
                yield chunk

    try:
        status = http.request("PUT", url, body=chunks(), headers=headers).status
    except HTTPError:
        status = 0
    on_bytes(piece.size_bytes - sent if status in {200, 412} else -sent)
    return status


def _read_from(http: urllib3.PoolManager, url: str, offset: int) -> Iterator[bytes]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with http.request("GET", url, headers=headers, preload_content=False) as answer:
        if answer.status not in {200, 206}:
            raise TransferError(f"The store answered {answer.status} to a download; try again.")
        yield from answer.stream(CHUNK_BYTES, decode_content=False)


def _http_client() -> urllib3.PoolManager:
    """Return a client that neither repeats requests by itself nor reads proxies from the environment."""
    import urllib3

    return urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False, maxsize=PARALLEL_PARTS)
