"""The report of a parity comparison: verdicts, metrics per output, and the divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from engines.spec.tolerances import Measure, Tolerance

if TYPE_CHECKING:
    from engines.tensors.samples import SampleSource


class Verdict(StrEnum):
    """A judgement of parity, with the names of `lathe.type.v1.Verdict`."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    WARN = "WARN"
    UNVERIFIED = "UNVERIFIED"
    FAIL = "FAIL"


_ORDER = (Verdict.PASS, Verdict.WARN, Verdict.UNVERIFIED, Verdict.FAIL)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts; PASS if there are none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


@dataclass(frozen=True)
class OutputParity:
    """Metrics of one output against the source's; `remark` adds what numbers cannot express."""

    output: str
    max_abs_error: float
    max_rel_error: float
    cosine: float
    sqnr_db: float
    top1_agreement: float | None
    verdict: Verdict
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.type.v1.OutputParity`."""
        values: dict[str, Any] = {
            "output": self.output,
            "max_abs_error": json_number(self.max_abs_error),
            "max_rel_error": json_number(self.max_rel_error),
            "cosine": json_number(self.cosine),
            "sqnr_db": json_number(self.sqnr_db),
            "verdict": self.verdict.value,
            "remark": self.remark,
        }
        if self.top1_agreement is not None:
            values["top1_agreement"] = self.top1_agreement
        return values


@dataclass(frozen=True)
class ParityReport:
    """The comparison of all outputs; on failure, `divergence` says where, and `advice` what to do, in words.

    `sample_values` names the kinds of generated samples (`engines.tensors.sample_values`); empty for a user's own.
    `missing` says what it takes to verify a form that did not run; such a report has no outputs.
    """

    tolerance: Tolerance
    outputs: tuple[OutputParity, ...]
    samples: int
    sample_source: SampleSource
    seed: int
    batch_sizes: tuple[int, ...]
    sample_values: tuple[str, ...] = ()
    first_diverging_node: str = ""
    first_diverging_operator: str = ""
    first_diverging_error: float = 0.0
    waiver: str = ""
    divergence: str = ""
    advice: str = ""
    missing: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict over all outputs; UNVERIFIED if the form did not run."""
        if self.missing:
            return Verdict.UNVERIFIED
        return worst([output.verdict for output in self.outputs])

    @property
    def shortfall(self) -> str:
        """The worst output with its figure and the requirement, in words; empty if the verdict is PASS."""
        found = next((output for output in self.outputs if output.verdict is self.verdict), None)
        if found is None or self.verdict is Verdict.PASS:
            return ""
        if found.remark:
            return f"output '{found.output}': {found.remark}"
        if self.tolerance.measure is Measure.COSINE:
            figure = f"the cosine {found.cosine:.4f}"
        else:
            figure = f"the relative error {found.max_rel_error:.3g}"
        return f"output '{found.output}' has {figure}; required: {self.tolerance}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.type.v1.ParityReport`."""
        return {
            "verdict": self.verdict.value,
            "measure": self.tolerance.measure.value,
            "threshold": self.tolerance.threshold,
            "limit": self.tolerance.limit,
            "outputs": [output.to_dict() for output in self.outputs],
            "samples": self.samples,
            "sample_source": self.sample_source,
            "seed": self.seed,
            "batch_sizes": list(self.batch_sizes),
            "sample_values": list(self.sample_values),
            "first_diverging_node": self.first_diverging_node,
            "first_diverging_operator": self.first_diverging_operator,
            "first_diverging_error": json_number(self.first_diverging_error),
            "waiver": self.waiver,
            "missing": self.missing,
        }


def judged_by_accuracy(metric: str, points: float) -> str:
    """Return the waiver of a form that is judged by lost accuracy, in points, instead of parity."""
    return f"accuracy is judged instead: {metric} may lose {points:g} points"


def tolerance_of(report: Mapping[str, Any]) -> Tolerance:
    """Return the tolerance of a report in its JSON form."""
    return Tolerance(Measure(report["measure"]), report["threshold"], report["limit"])


def json_number(value: float) -> float | str:
    """Return a number as protobuf's JSON writes it: as a string if it is not finite."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
