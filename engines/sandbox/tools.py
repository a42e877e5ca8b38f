"""Runs tools that cannot be told to stop: in a process group of their own, which ends when the work's time does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.sandbox.deadline import Overrun, seconds_left

_LONGEST_SECONDS = 24 * 3600.0
_MOST_LINES = 20_000


@dataclass(frozen=True)
class Ended:
    """How a tool ended: its exit status, and the last lines of what it wrote to both of its streams."""

    status: int
    text: str


def run_tool(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Ended:
    """Run a tool to its end; when it returns, neither the tool nor anything that it started is left.

    Args:
        command: The program and its arguments.
        environment: All of its variables.
        folder: Where it is started; here if None.
        on_line: Told each line of its output.

    Raises:
        Overrun: There was not enough time (`deadline.at_most`).
    """
    kept: deque[str] = deque(maxlen=_MOST_LINES)
    seconds = seconds_left()
    with subprocess.Popen(
        list(command),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        process_group=0,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        late = threading.Event()

        def watch() -> None:
            try:
                process.wait(timeout=max(min(seconds, _LONGEST_SECONDS), 0.0))
            except subprocess.TimeoutExpired:
                late.set()
            # What it started may hold the pipe open, and would be read from for as long as it lives.
            _kill(process.pid)

        threading.Thread(target=watch, daemon=True).start()
        try:
            for line in process.stdout or ():
                kept.append(line.rstrip())
                on_line(kept[-1])
            status = process.wait()
        finally:
            _kill(process.pid)
    if late.is_set():
        raise Overrun
    return Ended(status, "\n".join(kept))


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
