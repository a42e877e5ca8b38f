"""The process in which one form runs: opens it, answers, and times it from the inside.

Messages come on stdin and go to what was stdout, as `engines.sandbox.frames` writes them; arrays lie in NPZ files
beside them. What libraries print goes to stderr. The process ends when its parent does.

    open        made, threads, memory_bytes, expendable → seconds, requests
    run         arrays, names, answers, keep            → names of the answers, seconds of each call
    turn        feed, calls, warm                       → seconds of each call
    throughput  feed, seconds                           → calls, seconds
    layers      feed, threads                           → layers
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes import open_form, runtimes
from engines.runtimes.form import Made
from engines.runtimes.protocol import BuiltForm, Session
from engines.sandbox import frames, syscalls
from engines.tensors import Arrays
from engines.timing.exchange import read_arrays, write_arrays
from engines.timing.memory import limit_memory, offer_to_go_first, peak_memory

Values = dict[str, Any]
Opener = Callable[[BuiltForm, int], Session]

MOST_ROUNDS_TOGETHER = 32
"""Most calls of each request that are handed over at once: so many that the end, when some wait, matters little."""


class Server:
    """Does what is asked with one session, which the opener opens."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._session: Session | None = None
        self._made: Made | None = None
        self._feeds: list[Arrays] = []

    def answer(self, message: Mapping[str, Any]) -> Values:
        """Return the answer to a message: its values, or the failure that it met."""
        asked = {
            "open": self._open,
            "run": self._run,
            "turn": self._turn,
            "throughput": self._throughput,
            "layers": self._layers,
        }
        try:
            values = asked[message["do"]](message)
        except EngineFailure as failure:
            return {"failure": failure.to_dict()}
        except MemoryError:
            return {"failure": _out_of_memory().to_dict()}
        except Exception as error:  # a runtime may raise anything
            return {"failure": self._crashed(error).to_dict()}
        return {**values, "memory_bytes": peak_memory()}

    def _open(self, message: Mapping[str, Any]) -> Values:
        if message["expendable"]:
            offer_to_go_first()
        if message["memory_bytes"]:
            limit_memory(int(message["memory_bytes"]))
        self._made = Made.from_dict(message["made"])
        room = runtimes().get(self._made.form.runtime)
        for module in (
            room.modules if room else ()
        ):  # else the time of the first form would count the framework's import
            with contextlib.suppress(ImportError):  # the opener says what is missing
                importlib.import_module(module)
        start = time.perf_counter()
        self._session = self._opener(self._made.form, int(message["threads"]))
        return {"seconds": time.perf_counter() - start, "requests": self._session.requests}

    def _run(self, message: Mapping[str, Any]) -> Values:
        feeds = read_arrays(Path(message["arrays"]), message["names"])
        answers, seconds = [], []
        for feed in feeds:
            start = time.perf_counter()
            answers.append(self._opened.run(feed))
            seconds.append(time.perf_counter() - start)
        if message["keep"]:
            self._feeds = feeds
        return {"names": write_arrays(Path(message["answers"]), answers), "seconds": seconds}

    def _turn(self, message: Mapping[str, Any]) -> Values:
        session, feed = self._opened, self._feeds[message["feed"]]
        for _ in range(message["warm"]):
            session.run(feed)
        seconds = []
        for _ in range(message["calls"]):
            start = time.perf_counter()
            session.run(feed)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}

    def _throughput(self, message: Mapping[str, Any]) -> Values:
        """Keep the form as busy as it can be: calls go to it many at a time, and it computes several at once."""
        session, feed = self._opened, self._feeds[message["feed"]]
        start = time.perf_counter()
        session.run_many([feed] * session.requests)
        first = time.perf_counter() - start
        together = session.requests * max(1, min(MOST_ROUNDS_TOGETHER, int(message["seconds"] / first)))
        calls, start = 0, time.perf_counter()
        while not calls or time.perf_counter() - start < message["seconds"]:
            session.run_many([feed] * together)
            calls += together
        return {"calls": calls, "seconds": time.perf_counter() - start}

    def _layers(self, message: Mapping[str, Any]) -> Values:
        assert self._made is not None  # a form is opened first
        form = self._made.form
        layers = runtimes()[form.runtime].layers(form, self._feeds[message["feed"]], message["threads"])
        return {"layers": [asdict(layer) for layer in layers]}

    @property
    def _opened(self) -> Session:
        assert self._session is not None  # a form is opened first
        return self._session

    def _crashed(self, error: Exception) -> EngineFailure:
        name = self._made.spec.name if self._made else "The form"
        return EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"{name} failed when it was run: {first_line(error)}",
            evidence=str(error).strip()[-1000:],
            suggested_fix="Other forms of the model do not depend on this one.",
        )


def _out_of_memory() -> EngineFailure:
    return EngineFailure(
        FailureReason.OUT_OF_MEMORY,
        "The form needs more memory than one candidate may take.",
        suggested_fix="Raise memory_limit_bytes, or lower the largest batch.",
    )


def _serve(requests: BinaryIO, answers: BinaryIO, opener: Opener) -> None:
    server = Server(opener)
    while header := requests.read(frames.HEADER.size):
        message = frames.decode(requests.read(frames.payload_length(header)))
        answers.write(frames.encode(server.answer(message)))
        answers.flush()


def main(parent: int, opener: Opener = open_form) -> None:
    """Serve until stdin ends; leave without what libraries registered for the exit."""
    syscalls.end_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, answers, opener)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
