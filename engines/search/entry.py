"""The results of a search for one form, and the forms that no other beats in everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.parity.report import ParityReport
from engines.runtimes.form import FormSpec, Made
from engines.timing.paired import Latency
from engines.timing.process import FormProcess
from engines.timing.tournament import Contender

_DIGITS = 4
"""Digits of accuracy that count: cosines of floating-point forms differ behind them, and by nothing that matters."""

Figures = tuple[float, float, float]


@dataclass
class Entry:
    """One form that the search tried, or would have tried.

    Attributes:
        spec: The form.
        parity: Parity with the source, if it was built.
        latency: Latency beside the baseline; of calls at full load if throughput is the objective.
        samples_per_second: Samples per second at full load, if throughput is the objective.
        size_bytes: Bytes on disk.
        memory_bytes: Largest resident memory of its process, loading included.
        accuracy: Its metric on the data, if there is a judge.
        failure: Why it failed.
        note: Why it was left out although nothing failed.
        pareto: Whether no other form is better in latency, accuracy and size.
        recommended: Whether the search recommends it.
        measured_by: sha256 of the record of the earlier work whose measurement this is; empty for this work's own.
        made: The built form; None if it was only measured earlier.
    """

    spec: FormSpec
    parity: ParityReport | None = None
    latency: Latency | None = None
    samples_per_second: float = 0.0
    size_bytes: int = 0
    memory_bytes: int = 0
    accuracy: float | None = None
    failure: EngineFailure | None = None
    note: str = ""
    pareto: bool = False
    recommended: bool = False
    measured_by: str = ""
    made: Made | None = None

    @property
    def cosine(self) -> float:
        """The lowest cosine over its outputs; 1 if nothing was compared."""
        return min((output.cosine for output in self.parity.outputs), default=1.0) if self.parity else 1.0

    @property
    def holds(self) -> bool:
        """Whether it was measured, and nothing speaks against using it."""
        return self.failure is None and self.latency is not None

    @property
    def misses(self) -> bool:
        """Whether it was made and ran, and computes something else than its source or loses too much accuracy."""
        wrong = self.failure is not None and self.failure.reason is FailureReason.PARITY_FAILED
        return wrong and self.parity is not None

    def compare(self, baseline_ms: float) -> None:
        """Scale what was measured beside the baseline of some rounds to one median of it, so that entries compare."""
        if self.latency is None or not self.latency.median_ms:
            return
        before, self.latency = self.latency.median_ms, self.latency.beside(baseline_ms)
        self.samples_per_second *= before / self.latency.median_ms

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.optimizer.v1.Candidate`."""
        values: dict[str, Any] = {
            "form": self.spec.name,
            "runtime": self.spec.runtime,
            "precision": self.spec.precision,
            "quantizer": self.spec.quantized_by,
            "knobs": dict(self.spec.knobs) | ({"reader": self.spec.reader} if self.spec.reader else {}),
            "size_bytes": str(self.size_bytes),
            "memory_bytes": str(self.memory_bytes),
            "samples_per_second": self.samples_per_second,
            "pareto": self.pareto,
            "recommended": self.recommended,
            "note": self.note,
            "measured_by": self.measured_by,
        }
        if self.parity:
            values["parity"] = self.parity.to_dict()
        if self.latency:
            values["latency"] = self.latency.to_dict()
        if self.failure:
            values["failure"] = self.failure.to_dict()
        if self.accuracy is not None:
            values["accuracy"] = self.accuracy
        return values


@dataclass
class FormContender(Contender):
    """A form of a search that takes turns.

    Attributes:
        entry: Its entry.
        objection: Why it may not be chosen although it runs; it is timed nevertheless, as it may be repaired.
    """

    entry: Entry = field(kw_only=True)
    objection: EngineFailure | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls, entry: Entry, process: FormProcess, call_seconds: float, objection: EngineFailure | None = None
    ) -> Self:
        """Return the contender of an entry."""
        return cls(entry.spec.name, process, call_seconds, entry=entry, objection=objection)

    def fail(self, failure: EngineFailure) -> None:
        """Note the failure in the entry, too."""
        super().fail(failure)
        self.entry.failure = failure


def mark_pareto(entries: Sequence[Entry]) -> None:
    """Set `pareto` of every entry: true if it was measured and no other entry dominates it."""
    figures = {id(entry): _figures(entry) for entry in entries if entry.holds}
    for entry in entries:
        own = figures.get(id(entry))
        entry.pareto = own is not None and not any(dominates(other, own) for other in figures.values())


def dominates(first: Figures, second: Figures) -> bool:
    """Return whether the first is nowhere worse and somewhere better; less is better in each figure."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


def _figures(entry: Entry) -> Figures:
    """Return time relative to the baseline, which holds across runs as milliseconds do not; lost accuracy; size."""
    assert entry.latency is not None  # it was measured
    accuracy = entry.cosine if entry.accuracy is None else entry.accuracy
    return 1 / entry.latency.speedup, -round(accuracy, _DIGITS), float(entry.size_bytes)
