"""Measurements that outlive a search: what an earlier one measured under the same conditions is not measured again.

Times do not compare across runs, so what counts of an earlier measurement is its speed-up over the baseline, which was
paired. The form that is recommended is always built and measured anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import external_files, load_model
from engines.parity.report import OutputParity, ParityReport, Verdict, tolerance_of
from engines.runtimes import runtime_packages
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.spec.toolchain import fingerprint, software
from engines.tensors.samples import Samples, SampleSource
from engines.timing.paired import Latency

VERSION = 3
_SOFTWARE = ("onnx", "nncf", "numpy", "lathe")
"""Packages whose version may change a measurement."""
_PASSING = frozenset(
    {
        FailureReason.TIMEOUT,
        FailureReason.OUT_OF_MEMORY,
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        FailureReason.INFRASTRUCTURE,
        FailureReason.INTERNAL_ERROR,
    }
)
"""Failures that may not occur again in another try."""


@dataclass
class Record:
    """Measurements by key.

    Attributes:
        measurements: The measurements that `put` wrote, by key.
    """

    measurements: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, key: str, entry: Entry) -> None:
        """Keep what is known of a form, unless it was not tried or failed for a reason that may pass."""
        if not (entry.latency or entry.failure) or (entry.failure and entry.failure.reason in _PASSING):
            return
        self.measurements[key] = values_of(entry) | {"measured_by": entry.measured_by}

    def find(self, key: str) -> Entry | None:
        """Return what was found out under a key; None if there is nothing, or it cannot be read."""
        values = self.measurements.get(key)
        try:
            return entry_of(values) if values else None
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> str:
        """Return the record as text."""
        return json.dumps({"version": VERSION, "measurements": self.measurements}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record that a text holds: an empty one if the text is of another version or no record.

        The sha256 of the text names the search that wrote it, in the measurements that were new then.
        """
        try:
            values = json.loads(text)
        except ValueError:
            return cls()
        if not isinstance(values, dict) or values.get("version") != VERSION:
            return cls()
        measurements = values.get("measurements")
        if not isinstance(measurements, dict):
            return cls()
        name = hashlib.sha256(text.encode()).hexdigest()
        entries = {key: entry for key, entry in measurements.items() if isinstance(entry, dict)}
        return cls({key: entry | {"measured_by": entry.get("measured_by") or name} for key, entry in entries.items()})


@dataclass(frozen=True)
class Conditions:
    """The conditions under which forms are measured: everything that a measurement depends on except the form.

    Attributes:
        digest: sha256 of them.
        calibrated_on: Digest of the calibration, on which quantized forms depend as well.
    """

    digest: str
    calibrated_on: str = ""

    @classmethod
    def of(cls, graph: Path, samples: Samples, settings: Mapping[str, Any], calibrated_on: str = "") -> Self:
        """Return the conditions of a graph, feeds, settings (JSON), and of this machine and what is installed."""
        digest = hashlib.sha256()
        for part in (graph, *(graph.parent / name for name in external_files(load_model(graph, weights=False), graph))):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        for feed in samples.feeds:
            for name, array in sorted(feed.items()):
                digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
                digest.update(array.tobytes())
        surroundings = [dict(settings), software((*_SOFTWARE, *runtime_packages())), fingerprint()]
        digest.update(json.dumps(surroundings, sort_keys=True).encode())
        return cls(digest.hexdigest(), calibrated_on)

    def key(self, spec: FormSpec) -> str:
        """Return the key of a form's measurement."""
        calibrated_on = self.calibrated_on if spec.quantizer else ""
        words = (self.digest, json.dumps(spec.to_dict(), sort_keys=True), calibrated_on)
        return hashlib.sha256("\0".join(words).encode()).hexdigest()


def values_of(entry: Entry) -> dict[str, Any]:
    """Return everything that is known of a form except the built form, as JSON-ready values."""
    return entry.to_dict() | {"spec": entry.spec.to_dict()}


def entry_of(values: Mapping[str, Any]) -> Entry:
    """Return the entry that `values_of` wrote."""
    entry = Entry(
        FormSpec.from_dict(values["spec"]),
        latency=Latency(**values["latency"]) if "latency" in values else None,
        samples_per_second=float(values["samples_per_second"]),
        size_bytes=int(values["size_bytes"]),
        memory_bytes=int(values["memory_bytes"]),
        accuracy=values.get("accuracy"),
        note=str(values["note"]),
        measured_by=str(values["measured_by"]),
    )
    if "parity" in values:
        entry.parity = _parity(values["parity"])
    if "failure" in values:
        entry.failure = EngineFailure.from_dict(values["failure"])
    return entry


def _parity(values: Mapping[str, Any]) -> ParityReport:
    outputs = tuple(
        OutputParity(
            output["output"],
            float(output["max_abs_error"]),  # a string if it is not finite
            float(output["max_rel_error"]),
            float(output["cosine"]),
            float(output["sqnr_db"]),
            output.get("top1_agreement"),
            Verdict(output["verdict"]),
            output["remark"],
        )
        for output in values["outputs"]
    )
    return ParityReport(
        tolerance_of(values),
        outputs,
        batch_sizes=tuple(values["batch_sizes"]),
        sample_values=tuple(values["sample_values"]),
        sample_source=SampleSource(values["sample_source"]),
        **{key: values[key] for key in ("samples", "seed", "waiver")},
    )
