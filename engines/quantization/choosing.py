"""Chooses among the forms that hold: the fastest in a paired measurement; where that cannot tell, the simplest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.quantization.gate import JudgedForm
from engines.quantization.workshop import Trial
from engines.runtimes import Session
from engines.spec.toolchain import hardware
from engines.tensors import Arrays
from engines.timing.paired import Call, Latency, ProfileReport, profile

RUNG_SECONDS = 1.0
"""Time for the paired measurement of one rung of the ladder."""
FINAL_SECONDS = 3.0
"""Time for the paired measurement that chooses, and for that of the result."""


@dataclass(frozen=True)
class Stopwatch:
    """Measures forms against the source in floating point, in the same runtime.

    Attributes:
        label: Name of the floating-point form.
        baseline: That form, open.
        feed: What both compute on.
        batch_size: Its batch.
        threads: Threads of every session.
        seed: Seed of the order of calls.
    """

    label: str
    baseline: Session
    feed: Arrays
    batch_size: int
    threads: int
    seed: int

    def compare(self, forms: Sequence[JudgedForm], budget_seconds: float) -> ProfileReport:
        """Return the latencies of the baseline and the forms, in one interleaved run with an A/A control."""
        calls: dict[str, Call] = {self.label: lambda: self.baseline.run(self.feed)}
        for form in forms:
            calls[form.name] = lambda session=form.session: session.run(self.feed)  # type: ignore[misc]
        return profile(
            calls,
            threads=self.threads,
            batch_size=self.batch_size,
            hardware=hardware(),
            budget_seconds=budget_seconds,
            seed=self.seed,
        )


def latency_of(report: ProfileReport, form: JudgedForm) -> Latency | None:
    """Return what a report tells of a form; None where it was not measured."""
    return next((latency for latency in report.forms[1:] if latency.form == form.name), None)


def faster_than_source(report: ProfileReport, form: JudgedForm) -> bool:
    """Return whether a form beats the baseline beyond noise."""
    latency = latency_of(report, form)
    return latency is not None and "faster" in report.conclusion(latency)


def fastest(report: ProfileReport, forms: Sequence[JudgedForm]) -> JudgedForm | None:
    """Return the fastest form; an earlier one, which is simpler, gives way only to a win beyond noise."""
    best, best_speed = None, 0.0
    for form in forms:
        latency = latency_of(report, form)
        if latency is not None and (best is None or latency.speedup > best_speed * report.noise):
            best, best_speed = form, latency.speedup
    return best


def candidate_fields(
    trials: Sequence[Trial], report: ProfileReport | None, chosen: JudgedForm, from_trial: str
) -> list[dict[str, Any]]:
    """Return every candidate as `lathe.quantizer.v1.QuantizationCandidate`, with why it was not chosen.

    Args:
        trials: The candidates, in the order in which they were tried.
        report: Latencies; None where nothing was measured.
        chosen: The result.
        from_trial: Name of the candidate that the result was made from by keeping nodes in floating point.
    """
    return [_fields(trial, report, chosen, from_trial) for trial in trials]


def _fields(trial: Trial, report: ProfileReport | None, chosen: JudgedForm, from_trial: str) -> dict[str, Any]:
    form = trial.form
    if form is None:
        return {"quantizer": trial.candidate.name, "reason": trial.failure.message if trial.failure else ""}
    latency = latency_of(report, form) if report else None
    values: dict[str, Any] = {
        "quantizer": trial.candidate.name,
        "cosine": form.cosine,
        "sqnr_db": form.sqnr_db,
        "median_ms": latency.median_ms if latency else 0.0,
        "size_bytes": str(form.size_bytes),
    }
    if form.accuracy is not None:
        values["accuracy"] = form.accuracy
    if form.name == chosen.name:
        return {**values, "chosen": True, "reason": form.shortfall}
    if form.shortfall:
        reason = form.shortfall
        if trial.candidate.name == from_trial:
            reason += f"; with {len(chosen.excluded)} nodes in floating point it became the result"
        return {**values, "reason": reason}
    best = latency_of(report, chosen) if report else None
    if latency is None or best is None or latency.speedup < best.speedup:
        return {**values, "reason": "the result is faster"}
    return {**values, "reason": "no faster than the result beyond noise, and less simple"}
