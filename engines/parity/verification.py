"""Verifies a built form against its source: runs both on every sample, judges, and locates the first difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from engines.failures import EngineFailure, FailureReason
from engines.formats.source import Source
from engines.parity.comparison import Parity
from engines.parity.divergence import Suspect, largest_error, locate
from engines.parity.non_finite import has_numbers, without_numbers
from engines.parity.report import OutputParity, ParityReport, Verdict
from engines.runtimes import Runtime, Session
from engines.spec.devices import Device
from engines.spec.tolerances import Tolerance
from engines.tensors import Array, Arrays
from engines.tensors.samples import Samples
from engines.tensors.signature import TensorSpec

RANDOM = "the source itself returns other outputs when the same input is run again: it draws random numbers"


@dataclass
class _Worst:
    """The feed on which the outputs differ most."""

    error: float = -1.0
    feed: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    expected: Arrays = dataclasses.field(default_factory=dict)
    actual: Arrays = dataclasses.field(default_factory=dict)


def verify(
    source: Source, session: Session, samples: Samples, suspect: Suspect, *, classifier: bool
) -> tuple[ParityReport, tuple[TensorSpec, ...]]:
    """Return the parity of a form with its source, and the specs of the outputs, wide enough for every observed shape.

    If the verdict is not PASS, the report names the first diverging node.

    Args:
        source: The original.
        session: The built form, in the runtime that will serve it.
        samples: Feeds of the package.
        suspect: The form to examine if they differ; its tolerance applies to the outputs.
        classifier: Whether outputs are scores of classes.

    Raises:
        EngineFailure: SHAPE_MISMATCH if an output has another shape; PARITY_FAILED if the source returns no finite
            number, with the cause; any failure of the original or the runtime.
    """
    specs = {spec.name: spec for spec in source.signature.outputs}
    parity, worst = Parity(tuple(specs), classifier=classifier), _Worst()
    silent = set(specs)
    for feed in samples.feeds:
        expected, actual = source.run(feed), session.run(feed)
        silent -= {name for name in silent if has_numbers(expected[name])}
        error = parity.add(expected, actual)
        if error > worst.error:
            worst = _Worst(error, feed, expected, actual)
        specs = {name: spec.including(expected[name].shape) for name, spec in specs.items()}
    if silent:
        raise without_numbers(source, samples, min(silent))
    report = parity.report(suspect.tolerance, samples)
    if report.verdict is not Verdict.PASS and worst.error:
        report = _with_place(report, source, suspect, worst)
    return report, tuple(specs.values())


def not_run(room: Runtime, device: Device) -> str:
    """Return what it takes to verify a form that does not run on this machine."""
    worker = f"make the version again on a worker for {device.id}"
    return f"a run on {device.id} by {room.title}, beside the source ({worker})"


def unverified(
    source: Source, samples: Samples, tolerance: Tolerance, missing: str
) -> tuple[ParityReport, tuple[TensorSpec, ...]]:
    """Return the report of a form that cannot run here, and the specs of the source's outputs, as `verify` does.

    The source alone runs: what it computes has to be numbers, whoever compares the form with it.

    Args:
        source: The original.
        samples: Feeds of the package.
        tolerance: What the form will be held to.
        missing: What it takes to verify the form.

    Raises:
        EngineFailure: PARITY_FAILED if the source returns no finite number; any failure of the original.
    """
    specs = {spec.name: spec for spec in source.signature.outputs}
    silent = set(specs)
    for feed in samples.feeds:
        expected = source.run(feed)
        silent -= {name for name in silent if has_numbers(expected[name])}
        specs = {name: spec.including(expected[name].shape) for name, spec in specs.items()}
    if silent:
        raise without_numbers(source, samples, min(silent))
    return unseen(tolerance, samples, missing), tuple(specs.values())


def unseen(tolerance: Tolerance, samples: Samples, missing: str) -> ParityReport:
    """Return the report of a form that did not run, with what it takes to verify it."""
    report = Parity((), classifier=False).report(tolerance, samples)
    return dataclasses.replace(report, samples=0, batch_sizes=(), missing=missing)


def _with_place(report: ParityReport, source: Source, suspect: Suspect, worst: _Worst) -> ParityReport:
    cause, advice = unfit(source, worst.feed, worst.expected, suspect.tolerance.threshold)
    if cause == RANDOM:
        return dataclasses.replace(report, divergence=f"nowhere: {cause}", advice=advice)
    try:
        suspect.onnx_path  # noqa: B018 - it is made here
    except EngineFailure as failure:
        return dataclasses.replace(report, divergence=f"unknown, as the network has no graph: {failure.message}")
    found = locate(suspect, worst.feed, worst.expected, worst.actual)
    report = dataclasses.replace(
        report,
        first_diverging_node=found.node,
        first_diverging_operator=found.operator,
        first_diverging_error=found.error,
        divergence=str(found),
    )
    if not cause:
        return report
    return dataclasses.replace(report, divergence=f"{report.divergence}; {cause}", advice=advice)


def unfit(source: Source, feed: Mapping[str, Array], expected: Arrays, threshold: float) -> tuple[str, str]:
    """Return why no form can reproduce a source, and what to do; two empty texts if no reason is known.

    Args:
        source: The original.
        feed: A feed of the package.
        expected: The source's outputs.
        threshold: Largest relative error between two equal runs.
    """
    if largest_error(expected, source.run(feed)) > threshold:
        return RANDOM, (
            "Export the model for inference, with dropout off and without random operators."
            if source.module is None
            else "Take random numbers out of 'forward', or hand them in as an input; dropout belongs in a module, "
            "which evaluation switches off."
        )
    try:
        constants = source.graph.constants
    except EngineFailure:  # the network cannot be exported: it was built from as it is
        constants = ()
    if not constants:
        return "", ""
    lines = ", ".join(constants)
    return (
        f"tracing turned decisions about values into constants at {lines}",
        f"Write {lines} with tensor operators (torch.where instead of if).",
    )


def judged(component: str, report: ParityReport, waiver: str) -> ParityReport:
    """Return the report, with the waiver if a verdict other than PASS needs it.

    Raises:
        EngineFailure: PARITY_FAILED with the evidence, if there is no waiver.
    """
    if report.verdict is Verdict.UNVERIFIED:  # a waiver speaks of errors that were measured
        return report
    if report.verdict is not Verdict.PASS and waiver:
        return dataclasses.replace(report, waiver=waiver)
    if report.verdict is not Verdict.FAIL:
        return report
    evidence = [describe(output) for output in report.outputs]
    if report.divergence:
        evidence.append(f"first diverging: {report.divergence}")
    raise EngineFailure(
        FailureReason.PARITY_FAILED,
        f"Component '{component}' does not compute what its source computes: {report.shortfall}.",
        node=report.first_diverging_node,
        operator=report.first_diverging_operator,
        evidence="; ".join(evidence),
        suggested_fix=report.advice
        or "Look at the named node; choose a wider precision or another runtime; raise error_threshold if "
        f"the model tolerates the error; or waive it by name: parity_waivers {{'{component}': 'reason'}}.",
    )


def describe(output: OutputParity) -> str:
    """Return one output's metrics as a line for people."""
    top1 = "" if output.top1_agreement is None else f", top-1 agreement {output.top1_agreement:.2%}"
    remark = f" ({output.remark})" if output.remark else ""
    return (
        f"output '{output.output}': {output.verdict}, max abs {output.max_abs_error:.3g}, max rel "
        f"{output.max_rel_error:.3g}, cosine {output.cosine:.7f}, SQNR {output.sqnr_db:.1f} dB{top1}{remark}"
    )
