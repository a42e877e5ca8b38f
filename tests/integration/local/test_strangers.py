"""A process of this machine without the secrets reads, writes and deletes nothing in the embedded S3 store."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from services.local.s3 import S3Server
from services.local.weed_secrets import inner_secrets

BYTES = os.urandom(20_000)
PROBES = [
    ("GET", "/dir/assign"), ("POST", "/dir/assign"), ("GET", "/dir/lookup?volumeId={volume}&fileId={fid}&read=yes"),
    ("GET", "/dir/status"), ("POST", "/submit"), ("GET", "/vol/grow?count=1"), ("GET", "/vol/vacuum"),
    ("GET", "/col/delete?collection=lathe"), ("GET", "/collection/info?collection=lathe"), ("GET", "/{fid}"),
    ("HEAD", "/{fid}"), ("POST", "/{fid}"), ("PUT", "/{fid}"), ("DELETE", "/{fid}"), ("GET", "/buckets/lathe/"),
    ("GET", "/buckets/lathe/cas/a"), ("PUT", "/buckets/lathe/cas/a"), ("POST", "/buckets/lathe/cas/b"),
    ("DELETE", "/buckets/lathe/cas/a"), ("DELETE", "/buckets/lathe?recursive=true"), ("GET", "/lathe/cas/a"),
    ("PUT", "/lathe/cas/a"), ("DELETE", "/lathe/cas/a"), ("GET", "/?proxyChunkId={fid}"), ("POST", "/.tus/x"),
    ("POST", "/?Action=CreateUser&UserName=eve&Version=2010-05-08"),
    ("GET", "/etc/iam/identity.json"), ("GET", "/api/users"),
]  # fmt: skip
CALLS = {
    "s3": "/messaging_pb.SeaweedS3/Configure",
    "master": "/master_pb.Seaweed/VolumeList",
    "volume": "/volume_server_pb.VolumeServer/VolumeServerStatus",
    "filer": "/filer_pb.SeaweedFiler/GetFilerConfiguration",
    "admin": "/worker_pb.WorkerService/WorkerStream",
}


def client(server: S3Server, keys: tuple[str, str]) -> Minio:
    return Minio(server.endpoint.removeprefix("http://"), *keys, secure=False, region=server.region)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("strangers"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def owner(server: S3Server) -> Minio:
    owner = client(server, (server.access_key, server.secret_key))
    for key in ("cas/a", "staging/u/0/0", "triton/c/config", "place/model"):
        owner.put_object(server.bucket, key, io.BytesIO(BYTES), len(BYTES))
    return owner


def ports(server: S3Server) -> set[int]:
    assert server.process
    root, connections = psutil.Process(server.process.pid), []
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            connections += process.net_connections("tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def inner(server: S3Server) -> dict[str, int]:
    found: dict[str, int] = json.loads((server.data_dir / "ports.json").read_text())
    return found


def refused(port: int, method: str, path: str) -> bool:
    """Return whether a request gets nothing that it asks for; pages of sizes and counts are none of these."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body=b"evil" if method in ("PUT", "POST") else None)
        return connection.getresponse().status >= 400
    except (http.client.HTTPException, OSError):
        return True  # a port that speaks something else
    finally:
        connection.close()


def file_id(server: S3Server) -> str:
    """Return the name of stored bytes at the volume server, which its files tell to nobody but their owner."""
    (data,) = [path for path in (server.data_dir / "data").glob("*.dat") if BYTES in path.read_bytes()]
    *_, (key, offset) = struct.iter_unpack(">QL5x", data.with_suffix(".idx").read_bytes())
    cookie = data.read_bytes()[offset * 8 :][:4].hex()
    return f"{re.sub('.*_', '', data.stem)},{key:x}{cookie}"


def test_no_port_answers_a_request_that_nobody_signed(server: S3Server, owner: Minio) -> None:
    fid, deadline = file_id(server), time.monotonic() + 120
    while not set(inner(server).values()) <= (found := ports(server)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wanted = [
        (port, method, path.format(fid=fid, volume=fid.split(",")[0])) for port in found for method, path in PROBES
    ]
    # The master has a page about itself, of sizes and counts: whatever is behind the question mark.
    pages = {(inner(server)["master.port"], "/?")}
    answered = [each for each in wanted if not refused(*each) and (each[0], each[2][:2]) not in pages]
    assert not answered
    with owner.get_object(server.bucket, "cas/a") as answer:
        assert answer.read() == BYTES
    assert {each.object_name for each in owner.list_objects(server.bucket, "cas/", recursive=True)} == {"cas/a"}


@pytest.mark.parametrize("part", CALLS)
def test_no_inner_server_answers_without_the_certificate(server: S3Server, part: str, tmp_path: Path) -> None:
    port = inner(server)[f"{part}.port.grpc"]
    certificate = (server.data_dir / "inner-certificate.pem").read_bytes()
    key = (server.data_dir / "inner-key.pem").read_bytes()
    inner_secrets(tmp_path)
    foreign = [(tmp_path / name).read_bytes() for name in ("inner-key.pem", "inner-certificate.pem")]
    strangers = [None, grpc.ssl_channel_credentials(certificate), grpc.ssl_channel_credentials(certificate, *foreign)]
    for target in (f"127.0.0.1:{port}", f"unix:///tmp/seaweedfs-{part}-grpc-{port}.sock"):
        codes = [code_of(target, credentials, CALLS[part], 120) for credentials in strangers]
        assert codes == [grpc.StatusCode.UNAVAILABLE] * 3
        own = grpc.ssl_channel_credentials(certificate, key, certificate)
        assert code_of(target, own, CALLS[part], 10) is not grpc.StatusCode.UNAVAILABLE


def code_of(target: str, credentials: grpc.ChannelCredentials | None, method: str, patience: float) -> grpc.StatusCode:
    options = [("grpc.ssl_target_name_override", "127.0.0.1")]
    made = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials, options)
    with made as channel:
        try:
            call: Any = channel.unary_unary(method)
            call(b"", timeout=patience)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_its_secrets_are_for_its_owner_alone(server: S3Server) -> None:
    assert server.data_dir.stat().st_mode & 0o077 == 0
    secret = [path for path in server.data_dir.iterdir() if path.is_file() and path.suffix != ".log"]
    assert not [path.name for path in secret if path.name != "ports.json" and path.stat().st_mode & 0o077]


def allowed(action: Callable[[str], object], names: Iterable[str]) -> set[str]:
    """Return the names with which an action is not denied."""
    done = set()
    for name in names:
        try:
            action(name)
        except S3Error as error:
            if error.code != "AccessDenied":
                raise
        else:
            done.add(name)
    return done


RIGHTS = {
    "registry": {did: {"cas", "staging", "triton", "place"} for did in ("read", "write", "copy", "remove")},
    "worker": {"read": {"cas"}, "write": {"cas"}, "copy": {"cas"}, "remove": set()},
    "tasks": {
        "read": {"cas", "staging", "triton", "place"}, "write": {"cas", "place"}, "copy": {"cas", "place"},
        "remove": {"place"},
    },
}  # fmt: skip


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_can_do_in_the_bucket_what_it_has_to_and_nothing_else(server: S3Server, owner: Minio, role: str) -> None:
    own, name = client(server, server.keys(role)), server.bucket
    keys = {"cas": "cas/a", "staging": "staging/u/0/0", "triton": "triton/c/config", "place": "place/model"}

    def remove(folder: str) -> None:
        own.remove_object(name, keys[folder])
        assert not list(own.remove_objects(name, [DeleteObject(keys[folder])]))

    did = {
        "read": allowed(lambda folder: own.get_object(name, keys[folder]).close(), keys),
        "write": allowed(lambda folder: own.put_object(name, f"{folder}/{role}", io.BytesIO(b"new"), 3), keys),
        "copy": allowed(lambda folder: own.copy_object(name, f"{folder}/copy", CopySource(name, "cas/a")), keys),
        "remove": allowed(remove, keys),
    }
    assert did == RIGHTS[role]
    assert own.bucket_exists(name)
    assert not allowed(own.make_bucket, ["another"])
    if role != "registry":
        assert not allowed(own.remove_bucket, [name])
        assert not allowed(lambda each: own.set_bucket_policy(each, "{}"), [name])
    with pytest.raises(S3Error, match="NoSuchKey"):
        own.stat_object(name, "cas/none")
    for each in owner.list_objects(name, recursive=True):
        owner.remove_object(name, str(each.object_name))
