"""The log of a task: what the engines say goes to the child's standard output, which is the task's log."""

from __future__ import annotations

import logging
import sys


class _TaskLog(logging.Handler):
    """Writes to whatever standard output is now: what a child prints is the task's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        sys.stdout.write(self.format(record) + "\n")
        sys.stdout.flush()


def log_to_stdout() -> None:
    """Send what the engines log to standard output; calling it again changes nothing."""
    engines = logging.getLogger("engines")
    if not any(isinstance(handler, _TaskLog) for handler in engines.handlers):
        engines.addHandler(_TaskLog())
        engines.setLevel(logging.INFO)
    if not logging.root.handlers:  # tools that log carelessly would add one, and every line would stand there twice
        logging.root.addHandler(logging.NullHandler())
