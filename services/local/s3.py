"""An embedded S3 store (SeaweedFS), on 127.0.0.1, with credentials of its own for each role."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from services.local.ports import free_port, is_free
from services.local.process import ChildProcess
from services.local.secret import stored_secret, write_private
from services.local.server import LocalServer, installed_binary
from services.local.weed_secrets import inner_secrets
from services.storage.rights import ROLES, policy

_INNER_PORTS = (
    "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "admin.port",
)  # fmt: skip
_ADMIN_GRPC_OFFSET = 10000
# Which object consists of which bytes: weed's default, LevelDB, stays broken after a full disk until weed is ended, and
# then loses what it had acknowledged. SQLite undoes a write that does not fit. The kernel has it before weed answers.
_INDEX = """\
[leveldb2]
enabled = false
[sqlite]
enabled = true
dbFile = "./data/index.db?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
"""


class S3Server(LocalServer):
    """One S3 store over one data directory, with one bucket, an account that owns it, and one for each role."""

    name = "s3"
    bucket = "lathe"
    region = "us-east-1"
    # Its admin server, which nothing here uses, sometimes deadlocks until it is killed. Nothing is lost by that: the
    # kernel has the stored bytes before a request is answered.
    stop_grace_seconds = 4.0

    @property
    def endpoint(self) -> str:
        """URL of the S3 interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_key(self) -> str:
        """Access key of the account that owns the bucket."""
        return "lathe-" + stored_secret(self.data_dir / "access-key")[:16]

    @property
    def secret_key(self) -> str:
        """Secret key of the account that owns the bucket."""
        return stored_secret(self.data_dir / "secret-key")

    def keys(self, role: str) -> tuple[str, str]:
        """Return access key and secret key of a role, one of `services.storage.rights.ROLES`."""
        return f"lathe-{role}", stored_secret(self.data_dir / f"secret-key-{role}")

    def prepare(self) -> None:
        """Make the folders and the file of accounts."""
        (self.data_dir / "data").mkdir(exist_ok=True, mode=0o700)
        write_private(self.data_dir / "s3.json", json.dumps(self._identities()))
        if not (self.data_dir / "data" / "filerldb2").exists():  # the LevelDB of a folder that is older than this
            write_private(self.data_dir / "filer.toml", _INDEX)

    def make_process(self) -> ChildProcess:
        """Return the store's process."""
        self._remove_sockets()
        ports = _inner_ports()
        write_private(self._ports_file, json.dumps(ports))
        return ChildProcess(
            name=self.name,
            command=[str(installed_binary("weed", "LATHE_S3_ENDPOINT")), *self._arguments(ports)],
            log_path=self.log_path,
            cwd=self.data_dir,
            environment={
                # Its own variables would be meant for another store.
                **{name: value for name, value in os.environ.items() if not name.startswith("WEED_")},
                **inner_secrets(self.data_dir),
                "GOMEMLIMIT": "350MiB",
                "HOME": str(self.data_dir),
            },
        )

    def stop(self, hurry: threading.Event | None = None) -> None:
        """End the store and remove its sockets; `hurry` cuts its time short when set."""
        super().stop(hurry)
        self._remove_sockets()

    def _arguments(self, ports: dict[str, int]) -> list[str]:
        return [
            "-logtostderr=true", "mini", "-dir", str(self.data_dir / "data"),
            "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1",
            "-master.telemetry=false", "-s3.config", str(self.data_dir / "s3.json"), "-s3.port", str(self.port),
            "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
            # No HTTP at the filer and the master, whose parts speak gRPC: nobody would have to sign it.
            "-disableHttp=true", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg", "0", "-s3.port.lance", "0",
            # Relative to the working directory: the path of a socket may have 107 characters at most.
            "-filer.localSocket", "filer.sock", "-s3.localSocket", "s3.sock",
            *(part for name, port in ports.items() for part in (f"-{name}", str(port))),
        ]  # fmt: skip

    def _identities(self) -> dict[str, object]:
        accounts = [_account("lathe", self.access_key, self.secret_key) | {"actions": ["Admin"]}]
        accounts += [_account(role, *self.keys(role)) | {"policyNames": [role]} for role in ROLES]
        policies = [{"name": role, "content": json.dumps(policy(role, self.bucket))} for role in ROLES]
        return {"identities": accounts, "policies": policies}

    def answers(self) -> bool:
        """Make the bucket, if it is missing: a store that does this for our account is ready, and ours."""
        # Loaded here, where there is nothing to do but wait for the store.
        import urllib3
        from minio import Minio
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        with urllib3.PoolManager(timeout=5, retries=False) as http:
            address = f"127.0.0.1:{self.port}"
            client = Minio(
                address, self.access_key, self.secret_key, secure=False, region=self.region, http_client=http
            )
            try:
                if not client.bucket_exists(self.bucket):
                    client.make_bucket(self.bucket)
            except (MinioException, HTTPError):
                return False
            return True

    @property
    def _ports_file(self) -> Path:
        return self.data_dir / "ports.json"

    def _remove_sockets(self) -> None:
        """Remove the sockets that the store leaves in /tmp, named by its ports."""
        if self._ports_file.exists():
            for name, port in json.loads(self._ports_file.read_text()).items():
                role = name.split(".")[0]
                Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108


def _account(name: str, access_key: str, secret_key: str) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}]}


def _inner_ports() -> dict[str, int]:
    """Choose every port that the store would otherwise choose itself."""
    ports = {name: free_port() for name in _INNER_PORTS}
    while not is_free(ports["admin.port"] + _ADMIN_GRPC_OFFSET):
        ports["admin.port"] = free_port()
    # The store's own maintenance worker finds the admin server only by this rule.
    ports["admin.port.grpc"] = ports["admin.port"] + _ADMIN_GRPC_OFFSET
    return ports
