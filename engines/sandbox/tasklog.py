"""The log of a task: the engines' log records and what tools print."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch


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


@contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """Take what Python code prints meanwhile, and what torch's own loggers write, into a log.

    Many of these loggers have a handler of their own. torch.export prints the graph that it could not make, whoever
    catches the error. The exporter of TorchScript does so from C++, because it switches its own log on, whatever it was
    asked: it is kept from that.

    Args:
        log: Takes the text once the block is over, at INFO.
    """
    written = io.StringIO()
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "torch"]
    found = [handler for name in names for handler in logging.getLogger(name).handlers]
    handlers = [handler for handler in found if type(handler) is logging.StreamHandler]
    before = [handler.setStream(written) for handler in handlers]
    try:
        with (
            patch("torch._C._jit_set_onnx_log_enabled", lambda _enabled: None),
            redirect_stdout(written),
            redirect_stderr(written),
        ):
            yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
        if text := written.getvalue().strip():
            log.info("%s", text)
