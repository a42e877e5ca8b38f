"""The log of a task: the engines' log records and the output of tools."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch


class _TaskLog(logging.Handler):
    """Writes to the current standard output, which is the task's log in a child."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        sys.stdout.write(self.format(record) + "\n")
        sys.stdout.flush()


def log_to_stdout() -> None:
    """Send the engines' log records to standard output; repeated calls change nothing."""
    engines = logging.getLogger("engines")
    if not any(isinstance(handler, _TaskLog) for handler in engines.handlers):
        engines.addHandler(_TaskLog())
        engines.setLevel(logging.INFO)
    if not logging.root.handlers:  # otherwise careless tools add one, and every line appears twice
        logging.root.addHandler(logging.NullHandler())


@contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """Redirect the output of Python code and of torch's own loggers to a log.

    Many of these loggers have their own handlers. torch.export prints the graph that it failed to export even if the
    error is caught. TorchScript's exporter prints from C++ because it always switches its log on; that is prevented.

    Args:
        log: Receives the text at the end of the block, at INFO.
    """
    written = io.StringIO()
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "torch"]
    found = [handler for name in names for handler in logging.getLogger(name).handlers]
    handlers = [handler for handler in found if type(handler) is logging.StreamHandler]
    before = [handler.setStream(written) for handler in handlers]
    try:
        import torch

        torch._C._jit_set_onnx_log_enabled(False)  # an export elsewhere in this process may have left it on
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


@contextmanager
def without_stderr() -> Iterator[None]:
    """Suppress warnings, and what C++ prints to standard error, as TensorFlow does before its log level can be set."""
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
