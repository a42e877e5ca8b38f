"""From a spec to a form that may take part: made, opened in a process of its own, compared with the source."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes.form import FormSpec, Made
from engines.sandbox.deadline import Overrun, at_most
from engines.search.entry import Entry, FormContender
from engines.search.truth import Truth
from engines.timing.paired import CALLS_PER_TURN, SLOW_CALL_SECONDS
from engines.timing.process import PATIENCE_SECONDS, FormProcess

log = logging.getLogger(__name__)

LONG_CALL_SECONDS = 4 * SLOW_CALL_SECONDS
LEAST_PATIENCE_SECONDS = 30.0
"""Least time for a process to start and answer, however little of the budget is left."""

TIMED = 0
"""Position of the feed that is timed, in a process that has been given it."""


class FormMaker(Protocol):
    """Builds forms."""

    def make(self, spec: FormSpec) -> Made:
        """Build a form.

        Raises:
            EngineFailure: Why it cannot be built.
        """
        ...


@dataclass
class Workbench:
    """Makes forms, opens them, and compares them with the source.

    Attributes:
        maker: Builds them.
        truth: The outputs of the source, and the limits of forms.
        threads: Threads of each.
        workdir: Folder in which processes exchange files.
        feed: Position of the feed that is timed.
        memory_bytes: Most private memory of a candidate's process; no bound if 0.
        source_seconds: Time that it took to open the source form, which the final does once more.
    """

    maker: FormMaker
    truth: Truth
    threads: int
    workdir: Path
    feed: int
    memory_bytes: int = 0
    source_seconds: float = 0.0
    _too_short: dict[tuple[str, ...], float] = field(default_factory=dict)

    def attempt(self, entry: Entry, seconds: float) -> FormContender | None:
        """Make, open and check a form; return None if it failed, with the failure or a note in its entry.

        Args:
            entry: The entry of the form, which is filled in.
            seconds: Time for making it.
        """
        try:
            entry.made = self._make(entry, seconds)
            if entry.made is None:
                return None
            entry.size_bytes = entry.made.form.size_bytes
            contender = self.open(entry, min(max(LEAST_PATIENCE_SECONDS, seconds), PATIENCE_SECONDS))
        except Exception as error:  # a form may answer anything, and other forms do not depend on it
            entry.failure = _failure(entry.spec, "compared with the source", error)
            log.info("%s: %s", entry.spec.name, entry.failure.message)
            return None
        if entry.failure is not None:
            contender.process.close()
            return None
        return contender

    def source_form(self, specs: Sequence[FormSpec]) -> tuple[FormContender, list[Entry]]:
        """Make and open the source form: the first candidate that can be made and computes what the source computes.

        Also return the candidates before it, with why they cannot stand for the source: a traced network may differ.

        Raises:
            EngineFailure: PARITY_FAILED if none does, with the cause if it is known; why the last cannot be made
                if none could be.
        """
        rejected: list[Entry] = []
        for spec in specs:
            entry = Entry(spec)
            try:
                return self._source_form(entry), rejected
            except EngineFailure as failure:
                log.info("%s cannot stand for the source: %s", spec.name, failure.message)
                entry.failure = failure
                rejected.append(entry)
        raise self.truth.none_holds(rejected)

    def source_process(self, made: Made, memory_bytes: int = 0) -> FormProcess:
        """Open a further process of the source form, with the feed that is timed; raises EngineFailure."""
        process = FormProcess.open(made, self.threads, self.workdir, memory_bytes=memory_bytes, expendable=False)
        try:
            self.first_call(process)
        except BaseException:
            process.close()
            raise
        return process

    def open(self, entry: Entry, patience: float = PATIENCE_SECONDS, *, candidate: bool = True) -> FormContender:
        """Open a form that was made and compare it with the source: note parity, and why it fails if it does.

        Args:
            entry: The entry of the form, which is filled in.
            patience: Longest time for one answer, in seconds.
            candidate: Whether its memory is bounded and it is ended first if memory runs short; the source form's
                is not.

        Raises:
            EngineFailure: The failure of the runtime, or the death of the process.
        """
        assert entry.made is not None  # it was made before
        memory_bytes, start = self.memory_bytes if candidate else 0, time.monotonic()
        process = FormProcess.open(
            *(entry.made, self.threads, self.workdir),
            memory_bytes=memory_bytes,
            patience=patience,
            expendable=candidate,
        )
        if not candidate:
            self.source_seconds = time.monotonic() - start
        try:
            entry.parity = self.truth.parity(entry.spec, process.answers(self.truth.samples.feeds))
            objection = self.truth.objection(entry.spec, entry.parity, is_baseline=not candidate)
            if not (candidate and entry.spec.quantizer):  # a quantized form may be repaired, if it is fast
                entry.failure = objection
            call_seconds = 0.0 if entry.failure else self.call_seconds(process)
        except BaseException:
            process.close()
            raise
        entry.memory_bytes = process.memory_bytes
        process.patience = PATIENCE_SECONDS
        return FormContender.of(entry, process, call_seconds, objection)

    def call_seconds(self, process: FormProcess) -> float:
        """Give a process only the feed that is timed; return the approximate time of a call.

        It is the shortest of a few, as some runtimes compile in the first calls; one long call is enough.
        """
        first = self.first_call(process)
        return first if first > LONG_CALL_SECONDS else min(first, *process.turn(TIMED, CALLS_PER_TURN))

    def first_call(self, process: FormProcess) -> float:
        """Give a process only the feed that is timed; return the time of its first warm call."""
        process.run([self.truth.samples.feeds[self.feed]])
        return process.turn(TIMED, 1)[0]

    def judge(self, contender: FormContender) -> bool:
        """Measure a form's accuracy if there is a judge; return whether it stays in the contest."""
        entry, judge = contender.entry, self.truth.judge
        if judge is None or entry.accuracy is not None:
            return True
        try:
            entry.accuracy = judge(contender.process.call)
            entry.failure = self.truth.accuracy_objection(entry.spec, entry.accuracy)
        except Exception as error:  # a judge may fail on a form's answers
            entry.failure = _failure(entry.spec, "judged on the data", error)
        return entry.failure is None

    def _source_form(self, entry: Entry) -> FormContender:
        entry.made = made = self.maker.make(entry.spec)
        entry.size_bytes = made.form.size_bytes
        contender = self.open(entry, candidate=False)
        try:
            if entry.failure is None and self.judge(contender):
                self.truth.source_accuracy = entry.accuracy
            if entry.failure is not None:
                raise entry.failure
        except BaseException:
            contender.process.close()
            raise
        return contender

    def _make(self, entry: Entry, seconds: float) -> Made | None:
        spec, start = entry.spec, time.monotonic()
        known = self._too_short.get(_making(spec), 0.0)
        if seconds <= known:
            entry.note = f"not tried: a similar form could not be made within {known:.3g} s, and no more time is left"
            return None
        try:
            with at_most(seconds):
                return self.maker.make(spec)
        except Overrun:
            self._too_short[_making(spec)] = seconds
            entry.note = f"could not be made within the {seconds:.3g} s that were left of the budget"
            return None
        except Exception as error:  # a builder's tool may raise anything
            raise _failure(spec, "made", error) from error
        finally:
            log.info("%s: %.1f s to make", spec.name, time.monotonic() - start)


def judged_alone(entry: Entry, truth: Truth, threads: int, workdir: Path) -> None:
    """Run a form that was made in a process of its own, beside no other and untimed; note how it compares.

    Parity, accuracy if there is a judge, memory, and why it may not be chosen go into the entry.

    Raises:
        EngineFailure: The failure of the runtime, or the death of the process.
    """
    assert entry.made is not None  # it was made before
    with FormProcess.open(entry.made, threads, workdir, patience=PATIENCE_SECONDS) as process:
        entry.parity = truth.parity(entry.spec, process.answers(truth.samples.feeds))
        entry.failure = truth.objection(entry.spec, entry.parity)
        if entry.failure is None and truth.judge is not None:
            entry.accuracy = truth.judge(process.call)
            entry.failure = truth.accuracy_objection(entry.spec, entry.accuracy)
        entry.memory_bytes = process.memory_bytes


def _failure(spec: FormSpec, task: str, error: Exception) -> EngineFailure:
    """Return why a form could not be made, compared or judged."""
    if isinstance(error, EngineFailure):
        return error
    if isinstance(error, MemoryError):
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY,
            f"There is not enough memory for {spec.name} to be {task}.",
            suggested_fix="Raise the task's memory limit.",
        )
    log.error("%s could not be %s", spec.name, task, exc_info=error)
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{spec.name} could not be {task}: {first_line(error)}",
        evidence=str(error).strip()[-1000:],
        suggested_fix="Read the task's log for the tool's whole message; other forms are not affected.",
    )


def _making(spec: FormSpec) -> tuple[str, ...]:
    """Return what the time to make a form depends on."""
    return spec.runtime, spec.quantizer, spec.reader, spec.knob("graph"), spec.knob("weights")
