"""What the kernel itself refuses, tried with system calls that the audit hook never sees."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from errno import EACCES, ENOENT, EPERM, EROFS, ESRCH
from pathlib import Path
from typing import Any

import pytest

from engines.sandbox import Child, landlock
from tests.integration.sandbox.conftest import GENEROUS, TESTS, Run

REFUSED = {EACCES, EPERM, EROFS}
# The machine as a container without privileges and without namespaces shows it.
NOBODY = 65534
# An ordinary user, for whom a Python under the home of root is made reachable.
AS_NOBODY = """
home=$(getent passwd 0 | cut -d: -f6)
case "$1" in "$home"/*)
  keep=$(mktemp -d); mount --bind "$1" "$keep"
  mount -t tmpfs -o mode=755 tmpfs "$home"
  mkdir -p "$1"; mount --move "$keep" "$1" || mount --bind "$keep" "$1"; rmdir "$keep" || true
esac
shift
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""
NO_NAMESPACES = 'for f in /proc/sys/user/max_*_namespaces; do echo 0 > $f; done; exec "$@"'


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A secret file, a TCP and a local service that exist, for the job to try."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(outside / "s"))
        local.listen()
        yield {
            "outside": str(outside),
            "home": os.path.expanduser("~"),
            "unix_socket": str(outside / "s"),
            "tcp_port": tcp.getsockname()[1],
            "parent": os.getpid(),
        }


def needs_landlock() -> None:
    try:
        landlock.abi()
    except OSError as error:
        pytest.skip(f"this kernel has no Landlock: {error}")


def assert_confined(errors: dict[str, int], bait: dict[str, Any]) -> None:
    assert errors["write_workdir"] == 0
    assert errors["read_system"] in (0, ENOENT)
    for attempt in [
        "connect_tcp",
        "connect_unix",
        "write_outside",
        "write_home",
        "write_shm",
        "read_outside",
        "remove_outside",
        "mkdir_outside",
        "unshare_user",
        "ptrace",
        "memfd",
        "signal_supervisor",
    ]:
        assert errors[attempt] in REFUSED, attempt
    assert errors["rename_outside"] != 0
    assert errors["read_shadow"] in REFUSED | {ENOENT}
    assert errors["parent_environ"] in REFUSED | {ENOENT}
    assert errors["signal_parent"] in REFUSED | {ESRCH}
    assert (Path(bait["outside"]) / "secret").read_text() == "secret"


async def test_files_network_and_other_processes_are_out_of_reach(run: Run, bait: dict[str, Any]) -> None:
    needs_landlock()
    assert_confined((await run("kernel", bait))["errors"], bait)


async def test_there_is_no_network_and_nobody_else(spawn: Any, bait: dict[str, Any]) -> None:
    child = await spawn()
    await child.ready()
    layers = child.sandbox.layers
    for name in ("network_namespace", "own_proc"):
        if name not in layers or not layers[name].active:
            pytest.skip(f"{name} is not to be had here: {child.sandbox.sentence()}")
    result = await child.run("tests.integration.sandbox.jobs:kernel", bait, GENEROUS)
    assert result["interfaces"] == ["lo"]
    assert result["processes"] == ["1", "2"]


def under(prefix: list[str], job: str, request: dict[str, Any], workdir: Path) -> dict[str, Any]:
    """Run a job with a parent that is started by `prefix`."""
    entry = job if ":" in job else f"jobs:{job}"
    stage = subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    if stage.returncode:
        pytest.skip(f"this machine does not let a test set the stage: {stage.stderr.strip()[-300:]}")
    command = [
        *prefix,
        sys.executable,
        "-m",
        "tests.integration.sandbox.jobs",
        str(workdir),
        entry,
        json.dumps(request),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_an_ordinary_user_gets_namespaces_through_a_user_namespace(bait: dict[str, Any]) -> None:
    needs_landlock()
    if os.geteuid():
        pytest.skip("the tests run as an ordinary user already")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        prefix = ["unshare", "-m", "sh", "-ec", AS_NOBODY, "sh", sys.base_prefix]
        done = under(prefix, "kernel", bait, Path(folder) / "work")
    if not done["layers"]["layers"].get("user_namespace", {}).get("active"):
        pytest.skip("user namespaces are forbidden here")
    assert done["layers"]["layers"]["network_namespace"]["active"]
    assert done["layers"]["layers"]["pid_namespace"]["active"]
    assert_confined(done["result"]["errors"], bait)


def test_where_namespaces_are_forbidden_landlock_and_seccomp_hold(tmp_path: Path, bait: dict[str, Any]) -> None:
    needs_landlock()
    done = under(["unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh"], "kernel", bait, tmp_path / "work")
    layers = done["layers"]["layers"]
    assert not any(layer["active"] for name, layer in layers.items() if name.endswith("_namespace"))
    assert done["layers"]["network_absent"]
    assert done["layers"]["writes_confined"]
    assert_confined(done["result"]["errors"], bait)


def test_where_namespaces_are_forbidden_a_daemon_does_not_survive(tmp_path: Path) -> None:
    prefix = ["unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh"]
    done = under(prefix, "daemon", {}, tmp_path / "work")
    assert "result" in done
    alive = tmp_path / "work" / "alive"
    alive.unlink()
    assert not alive.exists()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _bytes(path)]


@pytest.mark.parametrize(("devices", "admitted"), [(["/dev/ptm*"], True), (["/dev/nvidia*"], False), ([], False)])
async def test_a_job_uses_the_device_files_of_its_own_device_alone(
    devices: list[str], admitted: bool, tmp_path: Path
) -> None:
    needs_landlock()
    async with await Child.spawn(tmp_path / "work", readable=[TESTS], devices=devices) as child:
        done = await child.run("tests.integration.sandbox.jobs:use_device", {"path": "/dev/ptmx"}, GENEROUS)
    assert ("number" in done) is admitted, done
    assert admitted or done["errno"] == EACCES


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
