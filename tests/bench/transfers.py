"""Uploads and downloads against raw S3, and finalizing beside large files: `python -m tests.bench.transfers`.

Starts the embedded servers and a registry. Sends files as the command line does, hashing included, and the same bytes
by MinIO's client alone, which hashes what it sends, too, but not what it receives; the rounds take turns. Then small
files are finalized, alone and while four large ones are. Goals: ≥ 0.9× of raw S3; ≤ 2× alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

from lathe.registry.v1.artifact_service_pb2 import CreateUploadRequest, FinalizeUploadRequest
from lathe_client import transfers
from lathe_client.connection import Connection
from rich.console import Console
from rich.table import Table

from services.local.roster import SERVICES
from services.local.s3 import S3Server
from services.local.stack import Stack

MIB = 1 << 20
REGISTRY = [entry for entry in SERVICES if entry.name == "registry"]


def seconds(action: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def move(connection: Connection, stack: Stack, folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """Send and fetch files of `size` bytes in every way, in turn; return the seconds of each way."""
    from minio import Minio

    server, port = S3Server(stack.data_dir / "s3"), stack.environment()["LATHE_S3_ENDPOINT"].rpartition(":")[2]
    raw = Minio(f"127.0.0.1:{port}", server.access_key, server.secret_key, secure=False, region=server.region)
    path, copy = folder / "file", folder / "copy"
    taken: dict[str, list[float]] = {}

    def note(way: str, action: Callable[[], object]) -> None:
        taken.setdefault(way, []).append(seconds(action))

    def upload() -> None:
        transfers.upload_file(connection, path, lambda _count: None)

    def in_parts() -> None:
        with mock.patch.object(transfers, "AT_ONCE_BYTES", 0):
            upload()

    for number in range(rounds):
        ways: list[tuple[str, Callable[[], object]]] = [
            ("raw upload", lambda: raw.fput_object("lathe", "bench", str(path))),
            ("upload at once", upload),
            ("upload in parts", in_parts),
        ]
        for way, action in ways if number % 2 else reversed(ways):
            path.write_bytes(os.urandom(size))
            note(way, action)
        digest = transfers.upload_file(connection, path, lambda _count: None)
        raw.fput_object("lathe", "bench", str(path))
        note("raw download", lambda: raw.fget_object("lathe", "bench", str(copy)))
        note("download", lambda: transfers.download_file(connection, digest, copy, lambda _count: None))  # noqa: B023
    return taken


def staged(connection: Connection, folder: Path, size: int) -> FinalizeUploadRequest:
    """Send a file in parts; return the request that finalizes it."""
    path = folder / f"staged-{size}"
    path.write_bytes(os.urandom(size))
    digest = transfers.digest_of(path)
    upload = connection.artifacts.CreateUpload(CreateUploadRequest(size_bytes=size))
    client = transfers._http_client()
    assert all(transfers._send_part(client, path, part, lambda _count: None) for part in upload.parts)
    return FinalizeUploadRequest(name=upload.name, digest=digest)


def sent_at_once(connection: Connection, folder: Path, size: int) -> FinalizeUploadRequest:
    """Send a file at once; return the request that finalizes it."""
    path = folder / f"direct-{size}"
    path.write_bytes(os.urandom(size))
    digest = transfers.digest_of(path)
    upload = connection.artifacts.CreateUpload(CreateUploadRequest(size_bytes=size, sha256=digest.sha256))
    assert transfers._send_at_once(transfers._http_client(), path, upload, lambda _count: None)
    return FinalizeUploadRequest(name=upload.name, digest=digest)


def finalize_small(connection: Connection, folder: Path, large: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds that finalizing 1 MiB takes, sent at once and in parts, alone and beside four large files."""

    def once(request: FinalizeUploadRequest) -> None:
        transfers.wait_verified(connection, connection.artifacts.FinalizeUpload(request), lambda _upload: None)

    ways = {"at once": sent_at_once, "in parts": staged}
    taken = {
        f"{way}, alone": [seconds(partial(once, make(connection, folder, MIB))) for _ in range(rounds)]
        for way, make in ways.items()
    }
    big = [staged(connection, folder, large) for _ in range(4)]
    small = [(way, make(connection, folder, MIB)) for _ in range(100) for way, make in ways.items()]
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(once, request) for request in big]
        time.sleep(0.3)
        for way, request in small:
            if any(each.done() for each in running):
                break
            taken.setdefault(f"{way}, beside", []).append(seconds(partial(once, request)))
            time.sleep(0.05)
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=256)
    options = parser.parse_args()
    table = Table("what", "measured", "goal", title="Transfers on this machine")
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as name:
        folder = Path(name)
        stack = Stack(folder / "state", with_worker=False, services=REGISTRY)
        stack.start()
        try:
            with Connection({"registry": stack.address("registry")}, user="bench") as connection:
                taken = move(connection, stack, folder, options.mebibytes * MIB, options.rounds)
                small = finalize_small(connection, folder, 200 * MIB, 10)
        finally:
            stack.stop()
    for way, raw in (("upload at once", "raw upload"), ("upload in parts", "raw upload"), ("download", "raw download")):
        ratio = statistics.median(theirs / ours for theirs, ours in zip(taken[raw], taken[way], strict=True))
        ours, theirs = (options.mebibytes / statistics.median(taken[each]) for each in (way, raw))
        table.add_row(
            f"{way}, {options.mebibytes} MiB, against raw S3",
            f"{ratio:.2f}× ({ours:.0f}, {theirs:.0f} MiB/s)",
            "≥ 0.9×",
        )
    for way in ("at once", "in parts"):
        alone, beside = small[f"{way}, alone"], small[f"{way}, beside"]
        first, second = (statistics.median(each) * 1000 for each in (alone, beside))
        table.add_row(f"finalizing 1 MiB sent {way}, alone", f"{first:.0f} ms", "")
        table.add_row("…beside four of 200 MiB in parts", f"{second:.0f} ms ({second / first:.1f}×)", "≤ 2×")
    Console().print(table)


if __name__ == "__main__":
    main()
