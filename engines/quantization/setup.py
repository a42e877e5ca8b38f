"""Sets up the quantization of a component: reads it, builds it in floating point, and measures what it is held to."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from engines.datasets.selection import Selection
from engines.evaluation.judge import Judge
from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared, Progress, prepare
from engines.graph.hygiene import load_model, save_model
from engines.graph.nodes import name_nodes
from engines.parity.divergence import Suspect
from engines.parity.verification import describe, judged, verify
from engines.postprocess import plain
from engines.quantization.data import Data
from engines.quantization.feeds import SampleSet, batch_bounds
from engines.quantization.gate import Bound, Gate, weights_size
from engines.quantization.request import QuantizationRequest
from engines.runtimes import BuildOptions, Runtime, Session
from engines.spec.template import CLASSIFIERS, Component, Template

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComponentJob:
    """One component of a quantization.

    Attributes:
        request: The quantization.
        component: Which component.
        runtime: What builds it.
        calibration: The calibration items; None where the scheme needs none.
        workdir: Where the inputs lie.
        package: Where the package grows.
        progress: Takes the fraction of this component that is done, and what is being done.
        threads: Threads of every session.
    """

    request: QuantizationRequest
    component: Component
    runtime: Runtime
    calibration: Selection | None
    workdir: Path
    package: Path
    progress: Progress
    threads: int


def read_component(job: ComponentJob) -> Prepared:
    """Read the component with its operators fused, which quantizers need, and every node named."""

    def progress(fraction: float, message: str) -> None:
        job.progress(fraction * 0.4, message)

    request = job.request.conversion
    execution = request.template.execution.model_copy(update={"fuse_operators": True})
    try:
        prepared = prepare(request, job.component, job.workdir, progress, execution)
        model = load_model(prepared.ready)
    except EngineFailure as failure:
        if failure.reason is not FailureReason.TOOLCHAIN_CRASHED:
            raise
        log.info("%s: %s The operators stay as they are.", job.component.name, failure.message)
        prepared = prepare(request, job.component, job.workdir, progress)
        model = load_model(prepared.ready)
    name_nodes(model)
    save_model(model, prepared.ready)
    return prepared


def float_form(job: ComponentJob, prepared: Prepared, data: Data, sessions: ExitStack) -> tuple[Session, int]:
    """Return the floating-point form in the runtime that will serve, held to its source, and its weights' size.

    It is closed with `sessions`.
    """
    request, name = job.request.conversion, job.component.name
    folder = job.workdir / "scratch" / name / "float"
    form = job.runtime.build(prepared.build_source(), request.target, BuildOptions("FP32"), folder)
    session = sessions.enter_context(job.runtime.open(form, request.target, job.threads))
    tolerance = request.template.tolerance("FP32")
    suspect = Suspect(
        lambda: prepared.ready, prepared.signature, job.runtime, request.target, "FP32", job.threads, tolerance
    )
    classifier = request.template.method in CLASSIFIERS
    report, _ = verify(prepared.source, session, data.judged, suspect, classifier=classifier)
    for output in report.outputs:
        log.info("%s: in floating point: %s", name, describe(output))
    judged(name, report, request.parity_waivers.get(name, ""))
    return session, weights_size(form)


def open_gate(job: ComponentJob, prepared: Prepared, data: Data, sessions: ExitStack) -> Gate:
    """Return what judges the component's forms; the accuracy bound is put in once the source was measured.

    The forms that it opens are closed with `sessions`.
    """
    return Gate(
        prepared.source,
        prepared.signature,
        job.runtime,
        job.request.conversion.target,
        job.request.spec.arithmetic,
        data.judged,
        job.request.conversion.template.method in CLASSIFIERS,
        job.threads,
        sessions,
    )


def measure_source(job: ComponentJob, prepared: Prepared, data: Data, baseline: Session) -> Bound:
    """Return the accuracy bound, with the metric of the floating-point form.

    Raises:
        EngineFailure: where the outputs do not fit the method, or nothing in the data can be judged.
    """
    asked = job.request.spec.accuracy
    assert asked is not None and data.evaluation is not None  # noqa: PT018 - the request was checked
    judge = open_judge(job.request.conversion.template, prepared, data.evaluation, asked.metric)
    job.progress(0.25, f"{job.component.name}: measuring the source's accuracy")
    source = judge.score(baseline.run)
    log.info("%s: %s of the source: %.4f", job.component.name, judge.metric, source)
    return Bound(judge, source, asked)


def open_judge(
    template: Template, prepared: Prepared, evaluation: SampleSet, metric: str, *, most_at_once: int = 1
) -> Judge:
    """Return what measures the accuracy of a component's forms.

    Args:
        template: Its method, arguments and classes.
        prepared: The component.
        evaluation: Annotated samples.
        metric: Which figure; the method's main one where empty.
        most_at_once: Most samples of a call, as far as the inputs take them.

    Raises:
        EngineFailure: INVALID_SPEC for a method without figures, or wrong arguments of it.
    """
    low, high = batch_bounds(prepared.signature.inputs)
    return Judge(
        evaluation.selection,
        evaluation.steps,
        evaluation.component,
        template.method,
        plain(template.args),
        [taxonomy.model_dump() for taxonomy in template.taxonomies],
        metric,
        max(low, min(high, most_at_once)),
    )
