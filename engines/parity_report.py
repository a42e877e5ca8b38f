"""The report of a parity comparison: verdicts, metrics per output, and where they diverge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """A judgement of parity, with the names of `lathe.type.v1.Verdict`."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    WARN = "WARN"
    FAIL = "FAIL"


_ORDER = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts; PASS of none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


@dataclass(frozen=True)
class OutputParity:
    """How one output of the target compares with the source's. `remark` says what numbers cannot."""

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
        }
        if self.top1_agreement is not None:
            values["top1_agreement"] = self.top1_agreement
        return values


@dataclass(frozen=True)
class ParityReport:
    """The comparison of all outputs, and where it fails: `divergence` says in words where, `advice` what to do."""

    threshold: float
    outputs: tuple[OutputParity, ...]
    samples: int
    sample_source: str
    seed: int
    batch_sizes: tuple[int, ...]
    first_diverging_node: str = ""
    first_diverging_operator: str = ""
    first_diverging_error: float = 0.0
    waiver: str = ""
    divergence: str = ""
    advice: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict over all outputs."""
        return worst([output.verdict for output in self.outputs])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of `lathe.type.v1.ParityReport`."""
        return {
            "verdict": self.verdict.value,
            "threshold": self.threshold,
            "outputs": [output.to_dict() for output in self.outputs],
            "samples": self.samples,
            "sample_source": self.sample_source,
            "seed": self.seed,
            "batch_sizes": list(self.batch_sizes),
            "first_diverging_node": self.first_diverging_node,
            "first_diverging_operator": self.first_diverging_operator,
            "first_diverging_error": json_number(self.first_diverging_error),
            "waiver": self.waiver,
        }


def json_number(value: float) -> float | str:
    """Return a number as protobuf's JSON writes it: what is not finite as a string."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
