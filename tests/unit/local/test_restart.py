from __future__ import annotations

import errno
from pathlib import Path

import pytest

from services.local import restart
from services.local.errors import LocalError
from services.local.restart import Backoff
from services.local.stack import Stack


def test_delays_double_up_to_half_a_minute_and_reset_after_a_minute_of_running() -> None:
    now = [0.0]
    backoff = Backoff(clock=lambda: now[0])
    delays = []
    for _ in range(9):
        delays.append(backoff.schedule())
        now[0] += delays[-1]
        backoff.started()
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    now[0] += 61
    assert backoff.schedule() == 0.5


def test_a_start_is_due_at_its_time() -> None:
    now = [10.0]
    backoff = Backoff(clock=lambda: now[0])
    assert not backoff.due()
    backoff.schedule()
    assert not backoff.due()
    now[0] += 0.5
    assert backoff.due()
    backoff.started()
    assert not backoff.due()
    assert backoff.pending is None


def test_a_full_disk_does_not_end_the_supervision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    stack = Stack(tmp_path, with_worker=False, services=(), environment={}, say=told.append)

    def full(_name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restart, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(stack, "_restart_server", full)
    for _ in range(4):
        stack.watch_once()
    for name in ("postgres", "nats", "s3"):
        assert told.count(f"{name} does not start: [Errno 28] No space left on device") == 2


def test_a_server_that_moves_after_a_start_that_failed_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    ended: list[object] = []
    stack = Stack(tmp_path, with_worker=False, services=(), environment={}, say=told.append)
    server = stack.servers.own["s3"]
    starts: list[int] = []

    def start() -> None:
        starts.append(server.port)
        server.port = 2
        if len(starts) == 1:
            raise LocalError("It did not answer.")

    server.port = 1
    monkeypatch.setattr(server, "start", start)
    monkeypatch.setattr(stack, "_end", lambda names, grace: ended.append(names))
    for _ in range(2):
        stack._restart_server("s3")
    assert starts == [1, 1]
    assert told == ["s3 does not start: It did not answer.", "s3 moved to port 2; all processes restart to find it"]
    assert ended
