"""A form in a process of its own, so that its memory, threads and crashes affect no other form.

The process is stopped between turns, if signals are allowed: pools of threads that spin would disturb other forms.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.form import Made
from engines.runtimes.protocol import Layer
from engines.sandbox import frames
from engines.sandbox.paths import engines_root
from engines.tensors import Array, Arrays
from engines.timing.exchange import parts, read_arrays, write_arrays

PATIENCE_SECONDS = 600.0
"""Longest time for one answer if the caller sets none."""
_END_SECONDS = 5.0
_TAIL_BYTES = 2000


class FormProcess:
    """One form, open in its process; made by `open`. A context manager that closes it.

    Attributes:
        memory_bytes: Largest resident memory of the process so far.
        load_seconds: Time to open the form, without the import of its framework.
        first_call_seconds: Time of the first call; 0 before it.
        requests: How many calls the form computes at the same time.
    """

    program: ClassVar[str] = "engines.timing.process_main"
    """Module that the process runs; benchmarks replace it by one that opens what no runtime of Lathe built."""

    def __init__(self, made: Made, directory: Path, process: subprocess.Popen[bytes], patience: float) -> None:
        """Use `open` instead."""
        self.made = made
        self.memory_bytes = 0
        self.load_seconds = self.first_call_seconds = 0.0
        self.requests = 1
        self.patience = patience
        self._directory = directory
        self._process = process
        self._closed = False

    @classmethod
    def open(
        cls,
        made: Made,
        threads: int,
        workdir: Path,
        *,
        memory_bytes: int = 0,
        patience: float = PATIENCE_SECONDS,
        expendable: bool = True,
    ) -> Self:
        """Start a process and open the form in it.

        The process ends with the thread that calls this.

        Args:
            made: The form.
            threads: Threads of the form.
            workdir: Folder for the files that are exchanged, in a folder of its own.
            memory_bytes: Most private memory of the process; no bound if 0.
            patience: Longest time for one answer, in seconds; `patience` may be changed later.
            expendable: Whether it is ended first if the machine runs out of memory.

        Raises:
            EngineFailure: what the runtime raises; TOOLCHAIN_CRASHED if the process died; TIMEOUT.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="form-", dir=workdir))
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", cls.program, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(engines_root())},
            )
        opened = cls(made, directory, process, patience)
        try:
            values = {"threads": threads, "memory_bytes": memory_bytes, "expendable": expendable}
            found = opened._ask(do="open", made=made.to_dict(), **values)
            opened.load_seconds, opened.requests = found["seconds"], found["requests"]
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def run(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs for each feed, by name; the feeds stay there, and turns name them by position."""
        return self._run(feeds, keep=True)

    def call(self, feed: Mapping[str, Array]) -> Arrays:
        """Return the outputs for one feed, by name."""
        return self._run([feed], keep=False)[0]

    def answers(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs for many feeds, of which the process never holds more than some; it keeps none."""
        return [outputs for part in parts(feeds) for outputs in self._run(part, keep=False)]

    def turn(self, feed_index: int, calls: int, warm: int = 1) -> list[float]:
        """Return the seconds of each of some calls, timed inside the process, after untimed ones that warm it up."""
        return [float(value) for value in self._ask(do="turn", feed=feed_index, calls=calls, warm=warm)["seconds"]]

    def throughput(self, feed_index: int, seconds: float, samples: int = 1) -> float:
        """Return samples per second over some time, with as many calls in flight as the form has streams.

        Args:
            feed_index: Which of the feeds that were run.
            seconds: How long; calls that began in time are finished.
            samples: Samples in that feed.
        """
        found = self._ask(do="throughput", feed=feed_index, seconds=seconds)
        return float(found["calls"] * samples / found["seconds"])

    def layers(self, feed_index: int, threads: int) -> list[Layer]:
        """Return the steps of a call by the runtime's own profiler, which opens the form again; none if it has none."""
        return [Layer(**values) for values in self._ask(do="layers", feed=feed_index, threads=threads)["layers"]]

    def close(self) -> None:
        """End the process and remove its files; harmless when done again."""
        if self._closed:
            return
        self._closed = True
        self._process.kill()  # it may be stopped, and has nothing left to report
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _run(self, feeds: Sequence[Mapping[str, Array]], *, keep: bool) -> list[Arrays]:
        self._check_open()
        given, answers = self._directory / "given.npz", self._directory / "answers.npz"
        names = write_arrays(given, [dict(feed) for feed in feeds])
        found = self._ask(do="run", arrays=str(given), names=names, answers=str(answers), keep=keep)
        arrays = read_arrays(answers, found["names"])
        self.first_call_seconds = self.first_call_seconds or found["seconds"][0]
        given.unlink()
        answers.unlink()
        return arrays

    def _check_open(self) -> None:
        if self._closed:
            raise EngineFailure(FailureReason.TOOLCHAIN_CRASHED, f"The process of {self.made.spec.name} was closed.")

    def _ask(self, **message: Any) -> dict[str, Any]:
        self._check_open()
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - both are pipes
        self._signal(signal.SIGCONT)
        until = time.monotonic() + self.patience
        try:
            self._process.stdin.write(frames.encode(message))
            self._process.stdin.flush()
            header = self._read(frames.HEADER.size, until)
            answer = frames.decode(self._read(frames.payload_length(header), until))
        except (BrokenPipeError, EOFError):
            raise self._died(message["do"]) from None
        except TimeoutError:
            self.close()
            raise self._too_slow(message["do"]) from None
        self._signal(signal.SIGSTOP)
        self.memory_bytes = max(self.memory_bytes, int(answer.get("memory_bytes", 0)))
        if "failure" in answer:
            raise EngineFailure.from_dict(answer["failure"])
        return answer

    def _read(self, size: int, until: float) -> bytes:
        assert self._process.stdout is not None  # it is a pipe
        descriptor, data = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(data) < size:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(descriptor, size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            self._process.send_signal(number)

    def _died(self, action: str) -> EngineFailure:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        tail = self._tail()
        self.close()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with the exit status {code}"
        memory = " (which is also how the system takes memory back)" if code == -signal.SIGKILL else ""
        return EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"The process of {self.made.spec.name} {how}{memory} when it was asked to {_VERBS[action]}.",
            evidence=tail,
            suggested_fix="This form alone is lost: other forms run in processes of their own.",
        )

    def _too_slow(self, action: str) -> EngineFailure:
        return EngineFailure(
            FailureReason.TIMEOUT,
            f"{self.made.spec.name} gave no answer within {self.patience:.3g} s when it was asked to "
            f"{_VERBS[action]}; it was stopped.",
            suggested_fix="Give the search more time, or make the largest batch smaller.",
        )

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            return (self._directory / "log").read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return ""


_VERBS = {
    "open": "open the form",
    "run": "run",
    "turn": "run",
    "throughput": "run at full load",
    "layers": "profile its layers",
}
