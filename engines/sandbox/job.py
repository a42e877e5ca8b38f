"""The worker's side of a job: read the request, run the entry function, send the result."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import confine, frames, syscalls
from engines.sandbox.audit import Auditor
from engines.sandbox.faults import from_exception, from_import
from engines.sandbox.paths import code_roots
from engines.sandbox.types import Layer, Progress, Reporter

STACK_SIGNAL = signal.SIGUSR1
"""Signal on which the child prints the stack of every thread to its log."""


def serve(configuration: dict[str, Any], layers: dict[str, Layer]) -> NoReturn:
    """Import the modules, report that the child is ready, wait for the one job, do it, and end the process."""
    faulthandler.enable(file=2)
    faulthandler.register(STACK_SIGNAL, file=2, all_threads=True)
    syscalls.handle_on_usual_stack(STACK_SIGNAL)
    channel = Channel(int(configuration["control"]))
    for module in configuration["preload"]:
        try:
            import_module(module)
        except BaseException as error:
            channel.send({"kind": "failure", "failure": from_import(module, error).to_dict()})
            _end(1)
    channel.send({"kind": "ready", "layers": {name: [layer.active, layer.detail] for name, layer in layers.items()}})
    job = _receive(int(configuration["requests"]))
    if job is None:
        _end(0)
    trusted = code_roots(Path(path) for path in configuration["readable"])
    workdir = Path(configuration["workdir"])
    auditor = Auditor(workdir, trusted, lambda failure: channel.send(_failure(failure, kind="violation")))
    channel.send(_outcome(job, workdir, auditor, channel))
    _end(0)


class Channel:
    """The control pipe to the parent; several threads may report at once."""

    def __init__(self, descriptor: int) -> None:
        """Write messages to `descriptor`."""
        self._descriptor = descriptor
        self._lock = Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Send a complete message; one that is not JSON or too large becomes a failure."""
        try:
            data = frames.encode(message)
        except (TypeError, ValueError) as error:
            data = frames.encode(
                _failure(EngineFailure(FailureReason.INTERNAL_ERROR, f"The engine's result cannot be sent: {error}"))
            )
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]


def _outcome(job: dict[str, Any], workdir: Path, auditor: Auditor, channel: Channel) -> dict[str, Any]:
    reporter = Reporter(
        lambda progress: channel.send(_progress(progress)),
        lambda step: channel.send({"kind": "risk", "step": step}),
    )
    try:
        module, _, function = str(job["entry"]).partition(":")
        entry = getattr(import_module(module), function)
        confine.limit_memory(int(job["memory_bytes"]))
        auditor.install()
        result = entry(job["request"], workdir, reporter)
    except BaseException as error:
        failure = from_exception(error, auditor)
        traceback.print_exc()
        return _failure(failure)
    if not isinstance(result, dict):
        message = f"The engine {job['entry']} returned a {type(result).__name__}, not a dict."
        return _failure(EngineFailure(FailureReason.INTERNAL_ERROR, message))
    return {"kind": "result", "result": result}


def _progress(progress: Progress) -> dict[str, Any]:
    return {"kind": "progress", "fraction": progress.fraction, "message": str(progress.message)[:1000]}


def _failure(failure: EngineFailure, kind: str = "failure") -> dict[str, Any]:
    return {"kind": kind, "failure": failure.to_dict()}


def _receive(descriptor: int) -> dict[str, Any] | None:
    """Return the job, or None if the parent gave up on the child."""
    with os.fdopen(descriptor, "rb") as pipe:
        header = pipe.read(frames.HEADER.size)
        return frames.decode(pipe.read(frames.payload_length(header))) if header else None


def _end(code: int) -> NoReturn:
    """End without running exit handlers of the job."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # The job closed it.
    syscalls.flush_stdio()
    os._exit(code)
