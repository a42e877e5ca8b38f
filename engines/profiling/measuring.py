"""Measures forms of one component at one batch: each in a process of its own, in interleaved rounds, with a control."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engines.failures import EngineFailure
from engines.profiling.subjects import Form
from engines.runtimes.protocol import Layer
from engines.tensors import Arrays
from engines.timing.paired import CALLS_PER_TURN, Latency
from engines.timing.process import FormProcess
from engines.timing.tournament import LEAST_ROUNDS, MOST_ROUNDS, Contender, Tournament

log = logging.getLogger(__name__)

CONTROL = "A/A control"
TOGETHER = 4
"""Most forms that are open at the same time, beside the first one and its control."""
ROUNDS_SECONDS = 5.0
"""Time of the rounds of forms that are open together, if no number of rounds is asked for."""
LOAD_SECONDS = 0.5
MEMORY_SHARE = 0.5
"""Part of the memory that one form may take, and that those open together may take before no other is opened."""
_FEED = 0


@dataclass
class Measurement:
    """One form at one batch with one number of threads.

    Attributes:
        form: The form.
        batch: Samples of a call.
        threads: Threads of the form.
        streams: Calls that it computes at the same time.
        latency: Times of a call, and the paired ratio to the first form; None if it failed.
        samples_per_second: Samples per second at full load.
        memory_bytes: Largest resident memory of its process, the framework's included.
        size_bytes: Bytes of its files: weights and program.
        load_ms: Time to open it.
        first_call_ms: Time of its first call.
        failure: Why it was not measured; None if it was.
        layers: Steps of a call; empty if they were not asked for, or its runtime has no profiler.
    """

    form: Form
    batch: int
    threads: int
    streams: int = 1
    latency: Latency | None = None
    samples_per_second: float = 0.0
    memory_bytes: int = 0
    size_bytes: int = 0
    load_ms: float = 0.0
    first_call_ms: float = 0.0
    failure: EngineFailure | None = None
    layers: list[Layer] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name for people: `openvino FP32, 2 streams, batch 8, 1 thread`."""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.form.spec.name}, batch {self.batch}, {threads}"


@dataclass(frozen=True)
class BatchProfile:
    """The measurements of one batch, the control (None if nothing ran), and how many rounds the first form took."""

    measurements: list[Measurement]
    control: Latency | None
    rounds: int


@dataclass(frozen=True)
class Settings:
    """How forms are measured.

    Attributes:
        workdir: Folder in which processes exchange files.
        memory_bytes: Most memory of the work.
        rounds: Rounds; as many as fit into some seconds if 0.
        seed: Seed of the order.
    """

    workdir: Path
    memory_bytes: int
    rounds: int = 0
    seed: int = 0


@dataclass
class _Running(Contender):
    row: Measurement | None = None


class Bench:
    """Measures the forms of one batch.

    Args:
        feed: The feed.
        batch: Samples in it.
        settings: How they are measured.
        tell: Takes what is being done.
    """

    def __init__(self, feed: Arrays, batch: int, settings: Settings, tell: Callable[[str], None]) -> None:
        self._feed, self._batch, self._settings, self._tell = feed, batch, settings, tell
        self._tournament = Tournament(_FEED, batch, seed=settings.seed)

    def measure(self, rows: Sequence[Measurement], layered: Callable[[Measurement], bool]) -> BatchProfile:
        """Fill in the rows, whose forms were built.

        Args:
            rows: Rows of this batch, in order; the first that runs is the baseline of the others.
            layered: Whether a row's layers are wanted.
        """
        waiting = list(rows)
        base: _Running | None = None
        control: _Running | None = None
        group: list[_Running] = []
        try:
            while waiting:
                group = self._next_group(waiting, [form for form in (base, control) if form])
                if base is None and group:
                    base = group.pop(0)
                    control = self._second(base)
                if base is None:
                    break
                self._rounds([form for form in (base, control, *group) if form and form.failure is None])
                for form in group:
                    self._finish(form, base, layered)
            if base is None:
                return BatchProfile(list(rows), None, 0)
            noise = self._tournament.latency(control, base) if control is not None else None
            rounds = len(base.turns)
            self._finish(base, base, layered)
            return BatchProfile(list(rows), noise, rounds)
        finally:
            for each in (base, control, *group):
                if each is not None:
                    each.process.close()

    def _next_group(self, waiting: list[Measurement], opened: Sequence[_Running]) -> list[_Running]:
        """Open the next forms, as many as may be open together."""
        group: list[_Running] = []
        spare = self._settings.memory_bytes * MEMORY_SHARE or math.inf
        while waiting and len(group) < TOGETHER:
            taken = sum(form.process.memory_bytes for form in (*opened, *group))
            if group and taken > spare:
                break
            row = waiting.pop(0)
            self._tell(f"opening {row.name}")
            try:
                group.append(self._open(row))
            except EngineFailure as failure:
                log.info("%s: %s", row.name, failure.message)
                row.failure = failure
        return group

    def _open(self, row: Measurement) -> _Running:
        assert row.form.made is not None  # it was built
        memory = int(self._settings.memory_bytes * MEMORY_SHARE)
        process = FormProcess.open(row.form.made, row.threads, self._settings.workdir, memory_bytes=memory)
        try:
            process.run([self._feed])
            seconds = min(process.turn(_FEED, CALLS_PER_TURN))
        except BaseException:
            process.close()
            raise
        row.streams, row.size_bytes = process.requests, row.form.made.form.size_bytes
        row.load_ms, row.first_call_ms = process.load_seconds * 1e3, process.first_call_seconds * 1e3
        return _Running(row.name, process, seconds, row=row)

    def _second(self, base: _Running) -> _Running | None:
        """Open the baseline once more, under the name of the control; None if that fails."""
        assert base.row is not None
        row = Measurement(base.row.form, base.row.batch, base.row.threads)
        try:
            control = self._open(row)
        except EngineFailure as failure:
            log.info("The control could not be opened: %s", failure.message)
            return None
        control.name = CONTROL
        return control

    def _rounds(self, forms: Sequence[_Running]) -> None:
        self._tell(f"timing {', '.join(form.name for form in forms if form.name != CONTROL)}")
        rounds = self._settings.rounds
        least, most = (rounds, rounds) if rounds else (LEAST_ROUNDS, MOST_ROUNDS)
        self._tournament.rounds(forms, math.inf if rounds else ROUNDS_SECONDS, least=least, most=most)

    def _finish(self, form: _Running, base: _Running, layered: Callable[[Measurement], bool]) -> None:
        row = form.row
        assert row is not None
        try:
            if form.failure is not None:
                raise form.failure
            row.latency = self._tournament.latency(form, base) or self._tournament.latency(form, form)
            row.samples_per_second = form.process.throughput(_FEED, LOAD_SECONDS, self._batch)
            row.memory_bytes = form.process.memory_bytes
            if layered(row):
                self._tell(f"profiling the layers of {row.name}")
                row.layers = self._layers(form, row)
        except EngineFailure as failure:
            row.failure, row.latency = failure, None
        finally:
            form.process.close()

    def _layers(self, form: _Running, row: Measurement) -> list[Layer]:
        try:
            return form.process.layers(_FEED, row.threads)
        except EngineFailure as failure:  # the figures of the whole stay
            log.info("The layers of %s could not be profiled: %s", row.name, failure.message)
            return []
