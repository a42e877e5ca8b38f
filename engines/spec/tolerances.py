"""How much a built form may differ from its source, by precision: the table behind every parity verdict.

PASS: the error is at most the threshold. WARN: it is over the threshold and at most the limit; the form is made, and
somebody must accept it before a release. FAIL: it is over the limit, or not finite while the source is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self


class Measure(StrEnum):
    """The figure that a verdict compares with the threshold, with the names of `lathe.type.v1.ParityMeasure`."""

    MAX_REL_ERROR = "MAX_REL_ERROR"
    COSINE = "COSINE"
    """1 - cosine: in integers one clipped outlier is a large relative error and means nothing."""


@dataclass(frozen=True)
class Tolerance:
    """Tolerance of a form.

    Attributes:
        measure: The figure that is compared.
        threshold: Largest error of a PASS.
        limit: Largest error of a WARN, at least the threshold.
        unequal: Largest part of an integer output's elements that may differ for a WARN; beyond it, FAIL.
    """

    measure: Measure
    threshold: float
    limit: float
    unequal: float = 0.1

    def at(self, threshold: float) -> Self:
        """Return the tolerance with a user's threshold; 0 stands for the precision's own.

        A lower threshold lowers the limit by the same factor. A higher one never raises the limit: if it is over the
        limit, there is no WARN.
        """
        if not threshold:
            return self
        limit = max(threshold, min(self.limit, threshold * self.limit / self.threshold))
        return replace(self, threshold=threshold, limit=limit)

    def __str__(self) -> str:
        """Return the tolerance in words."""
        if self.measure is Measure.COSINE:
            return f"cosine at least {1 - self.threshold:g}, WARN down to {1 - self.limit:g}"
        warn = f", WARN up to {self.limit:g}" if self.limit > self.threshold else ""
        return f"relative error at most {self.threshold:g}{warn}"


TOLERANCES = {
    # One rounding is 6e-8, and forms of one model differ by a few 1e-5, because sums run in other orders.
    "FP32": Tolerance(Measure.MAX_REL_ERROR, 1e-4, 1e-3, unequal=0.0),
    # One rounding is 5e-4, which tens of layers add up.
    "FP16": Tolerance(Measure.MAX_REL_ERROR, 1e-2, 5e-2),
    # One rounding is 4e-3, eight times that of FP16; a tenth of the output's scale is more than rounding.
    "BF16": Tolerance(Measure.MAX_REL_ERROR, 5e-2, 1e-1),
    "INT8": Tolerance(Measure.COSINE, 1e-3, 1e-2),
    "INT4": Tolerance(Measure.COSINE, 1e-3, 1e-2),
}
"""By the names of `lathe.type.v1.Precision`."""
