"""A hostile program inside the sandbox, beside a model that is described, and beside one that is read."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Limits, disk, run_sync
from engines.sandbox.confine import MAX_OPEN_FILES
from engines.sandbox.outcome import MAX_THREADS
from tests.integration.sandbox.conftest import GENEROUS, TESTS, Run
from tests.integration.sandbox.inside_jobs import ATTEMPTS
from tests.integration.sandbox.test_kernel import NO_NAMESPACES, needs_landlock, under
from tests.integration.sandbox.test_lifecycle import left_behind

INSIDE = "tests.integration.sandbox.inside_jobs"
REFUSED = {
    *(errno.EPERM, errno.EACCES, errno.EROFS, errno.EXDEV),
    *(errno.ENOENT, errno.ESRCH, errno.EBADF, errno.ENOSYS),  # what is not there for it
}
"""Any other error, as EFAULT, says that the attempt was badly made, and nothing of who may make it."""


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a program may want: another task's files, and services that listen."""
    other, abstract = tmp_path_factory.mktemp("other"), f"lathe-{uuid.uuid4().hex}"
    (other / "secret").write_text("secret")
    (other / "secret").chmod(0o640)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        local.bind(str(other / "s"))
        hidden.bind(f"\0{abstract}")
        local.listen()
        hidden.listen()
        yield {
            "other_task": str(other),
            "unix_socket": str(other / "s"),
            "abstract": abstract,
            "tcp_port": tcp.getsockname()[1],
            "parent": os.getpid(),
            "home": os.path.expanduser("~"),
            "readable": __file__,
            "engines": str(Path(engines.__file__).parent),
        }
    assert (other / "secret").read_text() == "secret"
    assert (other / "secret").stat().st_mode & 0o777 == 0o640


@pytest.fixture(scope="module")
def surrounded(bait: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """What came of each attempt beside a model that was described, and beside one that was read."""
    needs_landlock()
    return run_sync(f"{INSIDE}:surround", bait, tmp_path_factory.mktemp("task"), GENEROUS, readable=[TESTS])


@pytest.fixture(scope="module")
def bare(bait: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What came of each attempt on a machine that forbids namespaces, as a container without privileges."""
    needs_landlock()
    prefix = ["unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh"]
    found: dict[str, int] = under(prefix, "inside_jobs:bare", bait, tmp_path_factory.mktemp("bare"))["result"]["bare"]
    return found


@pytest.fixture
async def ends(spawn: Any) -> Run:
    """Run one of the jobs in a new child, which must fail, and return its failure."""

    async def one(job: str, request: dict[str, Any] | None = None, limits: Limits = GENEROUS) -> EngineFailure:
        with pytest.raises(EngineFailure) as caught:
            await (await spawn()).run(f"{INSIDE}:{job}", request or {}, limits)
        return caught.value

    return one


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_fails(attempt: str, surrounded: dict[str, dict[str, int]]) -> None:
    assert surrounded["describe"][attempt] in REFUSED
    assert surrounded["read"][attempt] in REFUSED


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_fails_without_namespaces(attempt: str, bare: dict[str, int]) -> None:
    assert bare[attempt] in REFUSED or attempt == "become another user"  # there is no other in its user namespace


async def test_handles_are_bounded(spawn: Any) -> None:
    done = await (await spawn()).run(f"{INSIDE}:take_handles", {}, GENEROUS)
    assert done["held"] <= MAX_OPEN_FILES


async def test_threads_are_bounded(ends: Run) -> None:
    failure = await ends("take_threads")
    assert failure.reason is FailureReason.UNSAFE_MODEL
    assert f"{MAX_THREADS} threads are allowed" in failure.message


async def test_who_hears_no_signal_ends_at_its_time(ends: Run, tmp_path: Path) -> None:
    failure = await ends("hear_nothing", limits=Limits(1 << 30, 1))
    assert failure.reason is FailureReason.TIMEOUT
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("named", [True, False])
async def test_who_fills_the_disk_is_stopped(ends: Run, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    failure = await ends("fill_disk", {"bytes": 4 << 20, "named": named})
    assert (failure.reason, failure.retryable) == (FailureReason.INFRASTRUCTURE, True)
    assert "1 MiB are left, and the files of the work take" in failure.message


async def test_work_that_cannot_be_watched_is_stopped(
    spawn: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreadable(_: Path) -> bool:
        raise OSError(errno.EIO, "the disk does not answer")

    monkeypatch.setattr(disk, "is_short", unreadable)
    with pytest.raises(OSError, match="does not answer"):
        await (await spawn()).run(f"{INSIDE}:hear_nothing", {}, GENEROUS)
    assert left_behind(tmp_path) == []
