"""Converts one component: read, prepare, build, verify, measure. Each step logs its result."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.conversion.elsewhere import built_elsewhere, fresh_folder
from engines.failures import EngineFailure
from engines.formats.preparation import Prepared, Progress, prepare
from engines.formats.source import Source
from engines.package.content import PackagedComponent
from engines.parity.divergence import Suspect
from engines.parity.report import ParityReport
from engines.parity.verification import describe, judged, not_run, unverified, verify
from engines.runtimes import BuildOptions, BuildSource, BuiltForm, Runtime, Session, Where
from engines.runtimes.onnxruntime.runtime import OnnxRuntime, OnnxRuntimeSession
from engines.runtimes.source import GRAPH
from engines.runtimes.timings import TIMINGS
from engines.runtimes.torchscript.runtime import TorchScript, TorchScriptSession
from engines.spec.request import ConversionRequest
from engines.spec.template import CLASSIFIERS, Component
from engines.spec.toolchain import hardware
from engines.tensors.samples import Samples
from engines.tensors.signature import Signature, TensorSpec
from engines.timing.paired import Call, ProfileReport, profile

log = logging.getLogger(__name__)

OTHER_INPUTS = "a comparison by hand: the form takes inputs of its own, and the source others"
"""What is missing for a verdict on a form whose inputs are not the package's."""


@dataclass(frozen=True)
class ComponentConversion:
    """One component of a conversion.

    Attributes:
        request: The conversion.
        component: The component.
        runtime: Runtime that it is built for.
        workdir: Directory of the inputs.
        package: Directory of the package.
        progress: Receives the finished fraction of this component, and the current step.
        threads: Threads of every session.
    """

    request: ConversionRequest
    component: Component
    runtime: Runtime
    workdir: Path
    package: Path
    progress: Progress
    threads: int


def convert(job: ComponentConversion) -> PackagedComponent:
    """Convert one component; its files are in the package afterwards.

    Raises:
        EngineFailure: The failure of any step.
    """
    prepared = prepare(job.request, job.component, job.workdir, job.progress)
    build_source = prepared.build_source()
    form = built_elsewhere(job.request, job.component, job.workdir, job.package)
    if form is None or not _opens(job, form):
        form = _built(job, build_source)

    report, outputs, measured = _verified(job, prepared, build_source, form)
    return PackagedComponent(
        prepared.component,
        form,
        Signature(form.inputs or prepared.signature.inputs, outputs),
        prepared.ranges,
        report,
        measured,
        prepared.source.companions,
        tuple(dict.fromkeys((*prepared.warnings, *form.warnings))),
    )


def _built(job: ComponentConversion, source: BuildSource) -> BuiltForm:
    name, template = job.component.name, job.request.template
    if source.form_for(job.runtime.title, job.runtime.takes) == GRAPH:
        job.progress(0.2, f"{name}: making the graph ready")
        source.graph()
    job.progress(0.45, f"{name}: building for {job.runtime.name} in {template.arithmetic}")
    form = job.runtime.build(source, job.request.target, _options(job), fresh_folder(job.package / name))
    log.info("%s: built %s, %d bytes, %s", name, ", ".join(form.files), form.size_bytes, form.options)
    return form


def _opens(job: ComponentConversion, form: BuiltForm) -> bool:
    """Return whether a form that another machine built opens here, where its runtime may have another version."""
    name, target = job.component.name, job.request.target
    log.info("%s: going on from %s, which another machine built", name, ", ".join(form.files))
    if job.runtime.where(target) is Where.DEVICE:
        return True
    job.progress(0.5, f"{name}: opening what another machine built")
    try:
        job.runtime.open(form, target, job.threads).close()
    except EngineFailure as failure:
        log.warning("%s: it does not open here, and is built again: %s", name, failure.message)
        return False
    return True


def _options(job: ComponentConversion) -> BuildOptions:
    def progress(fraction: float, words: str) -> None:
        job.progress(0.45 + 0.15 * fraction, f"{job.component.name}: {words}")

    template = job.request.template
    return BuildOptions(template.arithmetic, template.runtime_options, progress, job.workdir / TIMINGS)


def _verified(
    job: ComponentConversion, prepared: Prepared, build_source: BuildSource, form: BuiltForm
) -> tuple[ParityReport, tuple[TensorSpec, ...], ProfileReport | None]:
    """Return the parity of the form as far as it runs here, the specs of its outputs, and its times on its device."""
    name, template, target = job.component.name, job.request.template, job.request.target
    source, samples, where = prepared.source, prepared.samples, job.runtime.where(target)
    tolerance = template.tolerance(template.arithmetic)
    if where is Where.DEVICE or form.inputs:
        job.progress(0.6, f"{name}: running the source; the form runs on {target.id} only, or takes other inputs")
        missing = OTHER_INPUTS if form.inputs else not_run(job.runtime, target)
        report, outputs = unverified(source, samples, tolerance, missing)
        log.warning("%s: %s: missing is %s", name, report.verdict, report.missing)
        return report, outputs, None
    with job.runtime.open(form, target, job.threads) as session:
        job.progress(0.6, f"{name}: comparing with the source on {samples.count} samples")
        suspect = Suspect(
            build_source.graph, prepared.signature, job.runtime, target, template.arithmetic, job.threads, tolerance
        )
        suspect = replace(suspect, network=_network(source), prepare=source.arguments, knobs=template.runtime_options)
        report, outputs = verify(source, session, samples, suspect, classifier=template.method in CLASSIFIERS)
        for output in report.outputs:
            log.info("%s: parity at a %s over batches %s: %s", name, tolerance, samples.batch_sizes, describe(output))
        if report.divergence:
            log.info("%s: first diverging: %s", name, report.divergence)
        report = judged(name, report, job.request.parity_waivers.get(name, ""))
        if report.waiver:
            log.info("%s: the parity verdict %s is waived: %s", name, report.verdict, report.waiver)
        if where is Where.EMULATOR:
            log.info(
                "%s: no latency: the form ran in %s, whose times are not the device's",
                name,
                job.runtime.runs_on(target),
            )
            return report, outputs, None
        job.progress(0.8, f"{name}: measuring latency")
        return report, outputs, _measure(job, source, session, samples)


def _network(source: Source) -> Any:
    return getattr(source.module, "network", source.module)


def _measure(job: ComponentConversion, source: Source, session: Session, samples: Samples) -> ProfileReport:
    feed = samples.feeds[0]
    with ExitStack() as sessions:
        label, baseline = _baseline(job, source, samples, sessions)
        forms: dict[str, Call] = {label: baseline, job.runtime.name: lambda: session.run(feed)}
        report = profile(
            forms, threads=job.threads, batch_size=samples.batch_sizes[0], hardware=hardware(), seed=job.request.seed
        )
    for line in report.lines():
        log.info("%s: %s", job.component.name, line)
    return report


def _baseline(job: ComponentConversion, source: Source, samples: Samples, sessions: ExitStack) -> tuple[str, Call]:
    """Return the baseline that users run today: frozen TorchScript on preprocessed inputs, eager if tracing fails.

    Sessions that it opens are closed with `sessions`.
    """
    arguments = [array.copy() for array in source.arguments(samples.feeds[0])]  # a network may write into them
    inputs = [spec.name for spec in source.signature.inputs]
    outputs = [spec.name for spec in source.signature.outputs]
    feed = dict(zip(inputs, arguments, strict=True))
    if source.module is None:
        reference = sessions.enter_context(OnnxRuntimeSession(source.graph.path, job.threads, optimise=True))
        return f"{OnnxRuntime.name} (source)", lambda: reference.run(feed)
    try:
        traced = sessions.enter_context(TorchScriptSession(source.module, inputs, outputs, feed, job.threads))
        traced.run(feed)
    except EngineFailure as error:
        log.info("%s: %s The baseline is eager PyTorch.", job.component.name, error.message)
        return "pytorch eager", lambda: source.runner(arguments)
    return TorchScript.name, lambda: traced.run(feed)
