"""The base of embedded servers: a program from pip, a folder, a free port, one process."""

from __future__ import annotations

import shutil
import sysconfig
import threading
from abc import ABC, abstractmethod
from pathlib import Path

from services.local.errors import LocalError
from services.local.ports import free_port
from services.local.process import ChildProcess

_PORT_ATTEMPTS = 3


class LocalServer(ABC):
    """One server over one data directory, on 127.0.0.1.

    Args:
        data_dir: Folder for the server's state, created by the first start.
        port: Preferred port; a free one if it is taken or not given.
        durable: False gives up safety against power loss for speed, for tests.
        log_path: Log file; `<name>.log` in the data directory by default.

    Attributes:
        port: Port that it listens on, once started.
        process: Its process while it runs.
    """

    name: str
    stop_grace_seconds = 10.0

    def __init__(
        self, data_dir: Path, port: int | None = None, *, durable: bool = True, log_path: Path | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or 0
        self.durable = durable
        self.log_path = log_path or self.data_dir / f"{self.name}.log"
        self.process: ChildProcess | None = None

    def start(self) -> None:
        """Start the server, creating its files the first time; returns when it answers.

        Raises:
            LocalError: It did not start; the message has the last lines of its log.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.prepare()
        # Another process may take a free port before the server does.
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = free_port(self.port if attempt == 1 else None)
            self.process = self.make_process()
            self.process.start()
            try:
                self.process.wait_until(self.answers)
                return
            except LocalError:
                self.stop()
                if attempt == _PORT_ATTEMPTS:
                    raise

    def stop(self, hurry: threading.Event | None = None) -> None:
        """Stop the server; setting `hurry` shortens the wait."""
        if self.process:
            self.process.stop(self.stop_grace_seconds, hurry)
            self.process = None

    def prepare(self) -> None:
        """Create files that are needed before the start; nothing by default."""
        return

    @abstractmethod
    def make_process(self) -> ChildProcess:
        """Return the process to start, for the chosen port."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether the server is ready, and is the one that was started."""


def installed_binary(name: str, alternative: str) -> Path:
    """Return the path of a program that a pip package installed next to this Python, or one on PATH.

    Raises:
        LocalError: It is not installed; the message names the package extra and the setting `alternative`.
    """
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise LocalError(
            f"{name} is not installed: `pip install 'lathe[local]'`, or set {alternative} to an existing server."
        )
    return Path(found)
