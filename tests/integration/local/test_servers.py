"""The embedded servers answer, keep their data, replace a taken port and die with their parent."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import psutil
import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

from services.local.errors import LocalError
from services.local.nats import NatsServer
from services.local.postgres import PostgresServer
from services.local.s3 import S3Server
from tests.children import named

Server = PostgresServer | NatsServer | S3Server
KINDS: list[type[Any]] = [PostgresServer, NatsServer, S3Server]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def s3_client(server: S3Server) -> Minio:
    address = server.endpoint.removeprefix("http://")
    http = urllib3.PoolManager(timeout=60, retries=False)
    return Minio(address, server.access_key, server.secret_key, secure=False, region=server.region, http_client=http)


def listening_addresses(server: Server) -> set[str]:
    assert server.process
    root = psutil.Process(server.process.pid)
    found = set()
    for process in [root, *root.children(recursive=True)]:
        # A process that served one connection may end meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.parametrize("durable", [True, False])
async def test_postgres_answers_and_keeps_its_rows(tmp_path: Path, durable: bool) -> None:
    server = PostgresServer(tmp_path / "pg", durable=durable)
    server.start()
    try:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SHOW fsync") == ("on" if durable else "off")
        await connection.execute("CREATE TABLE t AS SELECT 1 AS x")
        await connection.close()
        assert listening_addresses(server) == {"127.0.0.1"}
        server.stop()
        server.start()
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT x FROM t") == 1
        await connection.close()
    finally:
        server.stop()


async def test_postgres_refuses_a_caller_without_the_password(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "pg", durable=False)
    server.start()
    try:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://postgres:guess@127.0.0.1:{server.port}/lathe")
    finally:
        server.stop()


async def test_postgres_starts_again_after_kill_9_and_after_a_broken_first_start(tmp_path: Path) -> None:
    (tmp_path / "pg" / "cluster.draft").mkdir(parents=True)
    server = PostgresServer(tmp_path / "pg")
    server.start()
    try:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE t AS SELECT 1 AS x")
        assert server.process
        assert server.process.pid
        os.kill(server.process.pid, signal.SIGKILL)
        server.start()
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT x FROM t") == 1
        await connection.close()
    finally:
        server.stop()


async def test_nats_answers_with_jetstream_and_keeps_its_messages(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    try:
        connection = await nats.connect(server.url)
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="S", subjects=["s.>"])
        await jetstream.publish("s.a", b"kept")
        await connection.close()
        assert listening_addresses(server) == {"127.0.0.1"}
        server.stop()
        server.start()
        connection = await nats.connect(server.url)
        message = await connection.jetstream().get_last_msg("S", "s.a")
        assert message.data == b"kept"
        await connection.close()
    finally:
        server.stop()


def test_s3_has_its_bucket_at_once_and_keeps_its_objects_on_other_ports(tmp_path: Path) -> None:
    # A server that was killed leaves its own, and ports come again.
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))
    server = S3Server(tmp_path / "s3")
    server.start()
    try:
        s3_client(server).put_object("lathe", "cas/a", io.BytesIO(b"x" * 100_000), 100_000)
        assert listening_addresses(server) == {"127.0.0.1"}
        server.stop()
        server.port = 0
        server.start()
        with s3_client(server).get_object("lathe", "cas/a") as answer:
            assert answer.read() == b"x" * 100_000
    finally:
        server.stop()
    ports = set(map(str, json.loads((tmp_path / "s3" / "ports.json").read_text()).values()))
    left = set(Path("/tmp").glob("seaweedfs-*.sock")) - before
    # What is served is another server's, which was given the port meanwhile.
    assert not [path for path in left if path.stem.rpartition("-")[2] in ports and not is_served(path)]


def is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "disk", str(folder)]
    if (made := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_s3_takes_objects_again_after_a_full_disk_and_has_lost_none(small_disk: Path) -> None:
    server = S3Server(small_disk / "s3")
    server.start()
    body = b"x" * 40
    stored: set[str] = set()

    def put(count: int) -> None:
        client = s3_client(server)
        for number in range(len(stored), len(stored) + count):
            client.put_object("lathe", f"cas/{number}", io.BytesIO(body), len(body))
            stored.add(f"cas/{number}")

    try:
        put(50)
        # By writing: the server takes some of what is free meanwhile.
        with (small_disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        refused = 0
        while refused < 100:  # one place after another is full: volumes, their index, that of all objects
            try:
                put(1)
            except S3Error:
                refused += 1
        (small_disk / "ballast").unlink()
        deadline = time.monotonic() + 120
        while True:
            try:
                put(50)
                break
            except S3Error:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        assert server.process
        assert server.process.pid
        os.kill(server.process.pid, signal.SIGKILL)
        server.start()
        client = s3_client(server)
        assert {each.object_name for each in client.list_objects("lathe", "cas/")} >= stored
        for name in stored:
            with client.get_object("lathe", name) as answer:
                assert answer.read() == body
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_replaced(kind: type[Any], tmp_path: Path, taken_port: int) -> None:
    server = kind(tmp_path / "server", port=taken_port)
    server.start()
    try:
        assert server.port != taken_port
        address = server.endpoint if isinstance(server, S3Server) else server.url
        assert f":{server.port}" in address
        with socket.create_connection(("127.0.0.1", server.port), timeout=60):
            pass
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_ends_when_its_parent_is_killed(kind: type[Any], tmp_path: Path) -> None:
    program = f"""
        import psutil, time
        from pathlib import Path
        from {kind.__module__} import {kind.__name__}
        server = {kind.__name__}(Path({str(tmp_path / "server")!r}))
        server.start()
        print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    children = list(named(map(int, parent.stdout.readline().split())))
    assert children
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(children, timeout=120)
    assert not left


def test_a_broken_data_directory_is_reported_with_the_log(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "pg", durable=False)
    server.start()
    server.stop()
    (tmp_path / "pg" / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(LocalError, match=r"(?s)postgres ended with status.*pg_control"):
        server.start()
