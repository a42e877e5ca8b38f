"""Whether a form computes what its source computes: parity first, then the metric if there is data to judge on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engines.failures import EngineFailure, FailureReason
from engines.formats.source import Source
from engines.parity.comparison import SQNR_CAP_DB, Parity
from engines.parity.non_finite import has_numbers, without_numbers
from engines.parity.report import ParityReport, Verdict, judged_by_accuracy
from engines.parity.verification import describe, unfit, unseen
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.spec.tolerances import TOLERANCES
from engines.tensors import Arrays
from engines.tensors.samples import Samples
from engines.tensors.signature import TensorSpec

Run = Callable[[Arrays], Arrays]
Judge = Callable[[Run], float]
"""Returns the metric, 0 to 1, of what computes every output by name from every input by name."""

_LOSSLESS = "FP32"
_WRONG = frozenset({FailureReason.PARITY_FAILED, FailureReason.SHAPE_MISMATCH, FailureReason.OUTPUT_MISMATCH})
"""Failures of forms that ran and compute something else than the source."""


@dataclass(frozen=True)
class Thresholds:
    """The limits that forms have to keep.

    Attributes:
        error: Largest relative error of a form in FP32.
        max_degradation: Largest loss of the metric, in points; None if accuracy is reported and decides nothing.
    """

    error: float = 1e-4
    max_degradation: float | None = None


@dataclass
class Truth:
    """The outputs of the source, which forms are compared with.

    Attributes:
        source: The original.
        samples: The samples that both compute on.
        thresholds: The limits that forms have to keep.
        classifier: Whether outputs are scores of classes.
        judge: Measures accuracy; None if there is no data.
        source_accuracy: The metric of the source form, once it was measured.
        metric: Name of the metric, for people.
        waived: Whether the user waived the parity of the baseline.
    """

    source: Source
    samples: Samples
    thresholds: Thresholds
    classifier: bool = False
    judge: Judge | None = None
    source_accuracy: float | None = None
    metric: str = "the metric"
    waived: bool = False

    @functools.cached_property
    def expected(self) -> list[Arrays]:
        """The source's outputs for every feed.

        Raises:
            EngineFailure: PARITY_FAILED if an output holds no number at all, so that nothing can be compared with it.
        """
        found = [self.source.run(feed) for feed in self.samples.feeds]
        for spec in self.source.signature.outputs:
            if not any(has_numbers(outputs[spec.name]) for outputs in found):
                raise without_numbers(self.source, self.samples, spec.name)
        return found

    def parity(self, spec: FormSpec, outputs: Sequence[Arrays]) -> ParityReport:
        """Return the parity of a form's outputs over all feeds, by the tolerance of the form's precision.

        Raises:
            EngineFailure: SHAPE_MISMATCH; OUTPUT_MISMATCH if an output is missing.
        """
        names = tuple(output.name for output in self.source.signature.outputs)
        missing = [name for name in names if name not in outputs[0]]
        if missing:
            message = f"{spec.name} gives no output '{missing[0]}'; it gives {', '.join(outputs[0])}."
            raise EngineFailure(FailureReason.OUTPUT_MISMATCH, message)
        parity = Parity(names, classifier=self.classifier)
        for expected, actual in zip(self.expected, outputs, strict=True):
            parity.add(expected, actual)
        threshold = self.thresholds.error if spec.precision == _LOSSLESS else 0.0
        report = parity.report(TOLERANCES[spec.precision].at(threshold), self.samples)
        allowed = self._allowed
        if allowed is not None and spec.precision != _LOSSLESS and report.verdict is not Verdict.PASS:
            return replace(report, waiver=judged_by_accuracy(self.metric, allowed))
        return report

    def unseen(self, spec: FormSpec, missing: str) -> ParityReport:
        """Return the report of a form that cannot run here, with what it takes to verify it; raises as `expected`."""
        assert self.expected  # the source has to compute numbers, whoever compares the form with it
        return unseen(TOLERANCES[spec.precision].at(0.0), self.samples, missing)

    def objection(self, spec: FormSpec, report: ParityReport, *, is_baseline: bool = False) -> EngineFailure | None:
        """Return why a form's parity rules it out; None if it does not.

        FP32 is called lossless, so a WARN rules it out, too, except for the baseline, which stands for the source. A
        lower precision may be a FAIL only if accuracy is bounded: the metric says what that costs.
        """
        lossless = spec.precision == _LOSSLESS
        borne = {Verdict.PASS} if lossless and not is_baseline else {Verdict.PASS, Verdict.WARN}
        if report.verdict in borne or (self._allowed is not None and not lossless) or (is_baseline and self.waived):
            return None
        return EngineFailure(
            FailureReason.PARITY_FAILED,
            f"{spec.name} does not compute what the source computes: {report.shortfall}.",
            evidence="; ".join(map(describe, report.outputs)),
            suggested_fix="Other forms are not affected. Raise error_threshold if the model tolerates the error, or "
            "give a dataset to judge accuracy by.",
        )

    def none_holds(self, rejected: Sequence[Entry]) -> EngineFailure:
        """Return the failure of a source that none of its forms reproduces, with the cause if it is known.

        Args:
            rejected: The forms that were tried, each with its failure; at least one.
        """
        failures = [entry.failure for entry in rejected if entry.failure is not None]
        wrong = next((failure for failure in failures if failure.reason in _WRONG), None)
        if wrong is None:
            return failures[-1]
        cause, advice = self._cause()
        return EngineFailure(
            FailureReason.PARITY_FAILED,
            f"No form of the model computes what the model itself computes: {cause or wrong.message.rstrip('.')}.",
            evidence="; ".join(failure.message.rstrip(".") for failure in failures),
            suggested_fix=advice or wrong.suggested_fix,
        )

    def _cause(self) -> tuple[str, str]:
        for feed, expected in zip(self.samples.feeds, self.expected, strict=True):
            if (found := unfit(self.source, feed, expected, self.thresholds.error))[0]:
                return found
        return "", ""

    @property
    def _allowed(self) -> float | None:
        """Points that a form may lose; None if accuracy decides nothing."""
        return self.thresholds.max_degradation if self.judge is not None else None

    @functools.cached_property
    def _floating(self) -> frozenset[str]:
        names = {name for name, array in self.expected[0].items() if array.dtype.kind == "f"}
        return frozenset(names or self.expected[0])

    def fidelity(self, report: ParityReport) -> tuple[float, float]:
        """Return the lowest cosine and the lowest SQNR, in decibels, over the floating-point outputs."""
        compared = [output for output in report.outputs if output.output in self._floating]
        return (
            min((output.cosine for output in compared), default=1.0),
            min((output.sqnr_db for output in compared), default=SQNR_CAP_DB),
        )

    def score(self, entry: Entry) -> float:
        """Return the score of a form: its accuracy if that is bounded, else its cosine."""
        if entry.accuracy is not None and self._allowed is not None:
            return entry.accuracy
        return self.fidelity(entry.parity)[0] if entry.parity else -1.0

    def outputs(self) -> tuple[TensorSpec, ...]:
        """Return the specs of the outputs, wide enough for every shape seen."""
        specs = {spec.name: spec for spec in self.source.signature.outputs}
        for outputs in self.expected:
            specs = {name: spec.including(outputs[name].shape) for name, spec in specs.items()}
        return tuple(specs.values())

    def accuracy_objection(self, spec: FormSpec, accuracy: float) -> EngineFailure | None:
        """Return why a form's accuracy rules it out; None if it does not, or if nothing bounds it."""
        allowed = self._allowed
        if self.source_accuracy is None or allowed is None:
            return None
        lost = (self.source_accuracy - accuracy) * 100
        if lost <= allowed + 1e-9:  # not for a metric that is no number
            return None
        return EngineFailure(
            FailureReason.PARITY_FAILED,
            f"{spec.name} loses {lost:.2f} points of accuracy, more than the {allowed:g} allowed.",
            evidence=f"the source's metric is {self.source_accuracy:.4f}, the form's {accuracy:.4f}",
            suggested_fix="Raise max_degradation if that loss is acceptable, or allow no lower precision.",
        )
