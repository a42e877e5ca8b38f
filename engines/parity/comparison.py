"""Compares a built form with its source: metrics per output, and the verdict.

With `s` the source's output and `t` the target's, over all samples, in float64:

    max abs   max |t - s|
    max rel   max |t - s| / max |s|: an error relative to the output's own scale, so that a value near zero among large
              ones does not blow up (the relative L-infinity norm; Golub & Van Loan, Matrix Computations, 2.3)
    cosine    s·t / (|s| |t|), 1 if both are zero
    SQNR      10 log10(sum s² / sum (t - s)²) decibels, at most 200 (Oppenheim & Schafer, Discrete-Time Signal
              Processing, 4.8: quantization noise against signal)
    top-1     part of the samples whose largest source element is also a largest element of the target

A verdict holds max rel, or 1 - cosine, to the tolerance of the form's precision (engines/spec/tolerances.py).

Elements that are not finite match by kind: NaN with NaN, and infinities of one sign; anything else is a FAIL. Integers,
booleans and texts compare exactly, except for the part that the tolerance allows reduced precisions: a class flips if
two scores are close.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.parity.report import OutputParity, ParityReport, Verdict
from engines.spec.tolerances import Measure, Tolerance
from engines.tensors import Array
from engines.tensors.errors import finite_pairs, relative_error, unequal_texts
from engines.tensors.samples import Samples
from engines.tensors.shapes import format_shape

SQNR_CAP_DB = 200.0


@dataclass
class OutputComparison:
    """Accumulates the metrics of one output over feeds."""

    output: str
    classifier: bool = False
    _max_error: float = 0.0
    _max_source: float = 0.0
    _dot: float = 0.0
    _source_energy: float = 0.0
    _target_energy: float = 0.0
    _noise_energy: float = 0.0
    _agreeing: int = 0
    _rows: int = 0
    _compared: int = 0
    _matching_non_finite: int = 0
    _differing_non_finite: int = 0
    _unequal: int = 0

    def add(self, source: Array, target: Array) -> float:
        """Add one feed's output; return its largest relative error, infinite if non-finite elements differ.

        Raises:
            EngineFailure: SHAPE_MISMATCH if the shapes differ.
        """
        if source.shape != target.shape:
            raise EngineFailure(
                FailureReason.SHAPE_MISMATCH,
                f"The output '{self.output}' has the shape {format_shape(target.shape)}; in the source it has "
                f"{format_shape(source.shape)}.",
                suggested_fix="A constant in the model may be the batch size of its tracing; take sizes from the "
                "tensor itself, or set max_batch to 1.",
            )
        if source.dtype.kind in "OSU":
            return self._add_text(source, target)
        if source.dtype.kind in "biu":
            self._unequal += int((source != target).sum())
        if self.classifier and source.ndim > 1 and source.size:
            self._add_rows(source.reshape(len(source), -1), target.reshape(len(target), -1))
        s, t, matching, differing = finite_pairs(source, target)
        self._matching_non_finite += matching
        self._differing_non_finite += differing
        if not s.size:
            return math.inf if differing else 0.0
        difference = np.abs(t - s)
        error, scale = float(difference.max()), float(np.abs(s).max())
        self._compared += s.size
        self._max_error = max(self._max_error, error)
        self._max_source = max(self._max_source, scale)
        self._dot += float(s @ t)
        self._source_energy += float(s @ s)
        self._target_energy += float(t @ t)
        self._noise_energy += float(difference @ difference)
        return math.inf if differing else relative_error(error, scale)

    def _add_text(self, source: Array, target: Array) -> float:
        unequal = unequal_texts(source, target)
        self._unequal += unequal
        self._compared += source.size
        return math.inf if unequal else 0.0

    def result(self, tolerance: Tolerance) -> OutputParity:
        """Return the metrics over everything added, and the verdict at a tolerance."""
        broken = self._differing_non_finite > 0
        error = math.inf if broken else self._max_error
        relative = relative_error(error, self._max_source)
        judged = 1 - self._cosine() if tolerance.measure is Measure.COSINE else relative
        verdict, remark = self._judge(judged, tolerance)
        agreement = self._agreeing / self._rows if self._rows else None
        return OutputParity(
            self.output, error, relative, self._cosine(), self._sqnr(broken), agreement, verdict, remark
        )

    def _judge(self, error: float, tolerance: Tolerance) -> tuple[Verdict, str]:
        if self._differing_non_finite:
            return Verdict.FAIL, f"{self._differing_non_finite} elements are not finite on one side only"
        if not self._compared and self._matching_non_finite:
            return Verdict.FAIL, "the source itself returns no finite element on any sample"
        if self._unequal:
            share = self._unequal / max(1, self._compared)
            verdict = Verdict.FAIL if share > tolerance.unequal else Verdict.WARN
            return verdict, f"{self._unequal} of {self._compared} integers, booleans or texts differ ({share:.2%})"
        remark = f"{self._matching_non_finite} elements are NaN or infinite" if self._matching_non_finite else ""
        if error <= tolerance.threshold:
            return Verdict.PASS, remark and f"{remark} on both sides"
        return (Verdict.WARN if error <= tolerance.limit else Verdict.FAIL), ""

    def _add_rows(self, source: Array, target: Array) -> None:
        rows = np.arange(len(source))
        self._agreeing += int((target[rows, source.argmax(axis=1)] == target.max(axis=1)).sum())
        self._rows += len(source)

    def _cosine(self) -> float:
        if not self._source_energy and not self._target_energy:
            return 1.0
        norms = math.sqrt(self._source_energy) * math.sqrt(self._target_energy)
        return max(-1.0, min(1.0, self._dot / norms)) if norms else 0.0

    def _sqnr(self, broken: bool) -> float:
        if broken:
            return -SQNR_CAP_DB
        if not self._noise_energy:
            return SQNR_CAP_DB
        if not self._source_energy:
            return -SQNR_CAP_DB
        ratio = 10 * (math.log10(self._source_energy) - math.log10(self._noise_energy))
        return max(-SQNR_CAP_DB, min(SQNR_CAP_DB, ratio))


class Parity:
    """Compares a target with its source, feed by feed, and reports."""

    def __init__(self, outputs: tuple[str, ...], *, classifier: bool) -> None:
        self._comparisons = {name: OutputComparison(name, classifier) for name in outputs}

    def add(self, source: Mapping[str, Array], target: Mapping[str, Array]) -> float:
        """Add the outputs of one feed; return the largest relative error over them."""
        return max(comparison.add(source[name], target[name]) for name, comparison in self._comparisons.items())

    def report(self, tolerance: Tolerance, samples: Samples) -> ParityReport:
        """Return the report over all feeds added."""
        return ParityReport(
            tolerance,
            tuple(entry.result(tolerance) for entry in self._comparisons.values()),
            samples.count,
            samples.source,
            samples.seed,
            samples.batch_sizes,
            samples.values,
        )
