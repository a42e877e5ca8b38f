"""What the search found out about a form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.failures import EngineFailure
from engines.parity.report import ParityReport
from engines.runtimes.form import FormSpec, Made
from engines.timing.paired import Latency


@dataclass
class Entry:
    """One form that the search tried, or would have.

    Attributes:
        spec: What it is.
        parity: Parity with the source, where it was built.
        latency: Latency beside the baseline; of calls at full load where throughput is what counts.
        samples_per_second: Samples per second at full load, where throughput is what counts.
        size_bytes: Bytes on disk.
        memory_bytes: Largest resident memory of its process, loading included.
        accuracy: Its metric on the data, where there is a judge.
        failure: Why it failed.
        note: Why it was left out though nothing failed.
        pareto: Whether no other form is better in latency, accuracy and size.
        recommended: Whether it is the one.
        measured_by: sha256 of the record of the earlier work whose measurement this is; empty for this work's own.
        made: The built form; not for one that was only measured earlier.
        quantizer: What quantized it, in words, where it was quantized and that is known.
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
    quantizer: str = ""

    @property
    def cosine(self) -> float:
        """The lowest cosine over its outputs; 1 where nothing was compared."""
        return min((output.cosine for output in self.parity.outputs), default=1.0) if self.parity else 1.0

    @property
    def holds(self) -> bool:
        """Whether it was measured, and nothing speaks against using it."""
        return self.failure is None and self.latency is not None

    def compare(self, baseline_ms: float) -> None:
        """Bring what was measured beside the baseline of some rounds to a median of it, so that entries compare."""
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
            "quantizer": self.quantizer,
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
