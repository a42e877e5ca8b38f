"""One child process of the embedded stack: started with a log file, stopped reliably, and ended with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from services.local.errors import LocalError
from services.local.logfile import prepare_log, rotate, tail

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_SECONDS = 0.01
_KILL_SECONDS = 5.0

# The kernel's parent-death signal depends on the *thread* that started the child, so one lasting thread starts all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawn")


@dataclass
class ChildProcess:
    """A supervised program.

    Attributes:
        name: Name for messages and the log file.
        command: Program (absolute path) and its arguments.
        log_path: File to which standard output and error are appended.
        cwd: Working directory.
        environment: The whole environment of the program.
        death_signal: Signal that it receives when this process dies.
        stop_signal: Signal that asks it to end.
        as_other_user: True for a program that refuses to run as root.
        stdin: Text that the program reads from its standard input.
    """

    name: str
    command: Sequence[str]
    log_path: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    death_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    as_other_user: bool = False
    stdin: str = ""
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """Process id, or None before the start."""
        return self._popen.pid if self._popen else None

    @property
    def exit_status(self) -> int | None:
        """Exit status (negative: ended by that signal), or None while it runs or before the start."""
        return self._popen.poll() if self._popen else None

    @property
    def running(self) -> bool:
        """True between the start and the end of the program."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the program in its own session; returns at once."""
        prepare_log(self.log_path)
        self._popen = _spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(self.death_signal))]
        user = "other" if self.as_other_user and needs_other_user() else "same"
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*launch, user, "--", *self.command],
                stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env=dict(self.environment),
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until `ready()`.

        Raises:
            LocalError: The program ended, or `timeout` seconds passed; the message has the end of its log.
        """
        pause = threading.Event()
        waited = 0.0
        while not ready():
            if not self.running:
                raise LocalError(f"{self.name} ended with status {self.exit_status} while starting.\n{self.log_tail()}")
            if waited > timeout:
                raise LocalError(f"{self.name} did not answer within {timeout:.0f} s.\n{self.log_tail()}")
            pause.wait(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the program's log, below its path."""
        return f"Last lines of {self.log_path}:\n" + "\n".join(tail(self.log_path, lines))

    def finish(self, timeout: float) -> int:
        """Give the program its input and return its exit status; kill it if it takes too long."""
        assert self._popen is not None
        try:
            self._popen.communicate(self.stdin.encode() or None, timeout)
        except subprocess.TimeoutExpired:
            self.stop(grace=0)
        return self._popen.wait()

    def signal_stop(self) -> None:
        """Ask the program to end and return at once."""
        if self._popen and self.running:
            self._popen.send_signal(self.stop_signal)

    def rotate_log(self) -> None:
        """Rotate the log if it is too long."""
        rotate(self.log_path)

    def stop(self, grace: float = 10.0, hurry: threading.Event | None = None) -> None:
        """Ask the program to end, kill it `grace` seconds later, and kill all its remaining processes.

        Args:
            grace: Seconds until it is killed.
            hurry: Ends the wait when set.
        """
        if self._popen is None:
            return
        descendants = self._descendants()
        self.signal_stop()
        deadline = time.monotonic() + grace
        while self.running and time.monotonic() < deadline and not (hurry and hurry.is_set()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(0.1)
        self._kill(descendants)

    def _kill(self, descendants: list[psutil.Process]) -> None:
        assert self._popen is not None
        if self.running:
            self._popen.kill()
            self._popen.wait()
        for process in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + _KILL_SECONDS
        while any(map(_alive, descendants)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True) if self.running else []
        except psutil.NoSuchProcess:
            return []


def _alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def needs_other_user() -> bool:
    """Return whether a program that refuses root, or an account without a name, needs another account."""
    import pwd

    if os.geteuid() == 0:
        return True
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    return False
