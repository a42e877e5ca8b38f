"""Converts one component: read, make ready, build, verify, measure. Each step says in the log what it did."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.backends import Backend, BuiltForm, Session
from engines.backends.onnxruntime import OnnxRuntimeSession
from engines.backends.torchscript import TorchScriptSession
from engines.conversion_request import CLASSIFIERS, Component, ComponentInput, ConversionRequest, inside
from engines.divergence import Suspect
from engines.failures import EngineFailure
from engines.package import PackagedComponent
from engines.profile import Call, ProfileReport, profile
from engines.readiness import make_ready
from engines.reading import read_source, with_inputs
from engines.samples import SampleRange, Samples, from_npz, generated
from engines.signature import Signature, TensorSpec
from engines.source import Source, network_dtype, package_inputs, preprocess
from engines.toolchain import hardware
from engines.verification import describe, judged, verify

log = logging.getLogger(__name__)

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ComponentJob:
    """One component of a conversion.

    Attributes:
        request: The conversion.
        component: Which component.
        backend: What builds it.
        workdir: Where the inputs lie.
        package: Where the package grows.
        progress: Takes the fraction of this component that is done, and what is being done.
        threads: Threads of every session.
    """

    request: ConversionRequest
    component: Component
    backend: Backend
    workdir: Path
    package: Path
    progress: Progress
    threads: int

    @property
    def scratch(self) -> Path:
        """Directory of intermediate files."""
        return self.workdir / "scratch" / self.component.name

    @property
    def first(self) -> bool:
        """Whether it is the template's first component, whose samples need no prefix."""
        return self.request.template.components[0].name == self.component.name


def convert(job: ComponentJob) -> PackagedComponent:
    """Convert one component; its files are in the package afterwards.

    Raises:
        EngineFailure: whatever step fails, with its reason.
    """
    name, template = job.component.name, job.request.template
    job.scratch.mkdir(parents=True, exist_ok=True)
    job = replace(job, component=with_inputs(job.request, job.component, job.workdir))
    inputs = package_inputs(job.component)
    ranges = {given.name: _range(given) for given in job.component.inputs}
    samples = _samples(job, inputs, ranges)

    job.progress(0.05, f"{name}: reading the model and exporting it to ONNX")
    source = _read(job, samples)
    log.info("%s: read by %s: %d bytes of ONNX", name, source.reader, source.onnx_path.stat().st_size)

    job.progress(0.35, f"{name}: making the graph ready")
    signature = Signature(inputs, source.signature.outputs)
    ready = job.scratch / "ready.onnx"
    steps = make_ready(source.onnx_path, ready, job.component, template.execution)
    log.info("%s: made ready: %s", name, " → ".join(steps))

    job.progress(0.45, f"{name}: building for {job.backend.name} in {template.arithmetic}")
    form = job.backend.build(ready, job.package / name, template.arithmetic, signature)
    session = job.backend.open(form, job.threads)
    log.info("%s: built %s, %d bytes, %s", name, ", ".join(form.files), _size(form), form.options)

    job.progress(0.6, f"{name}: comparing with the source on {samples.count} samples")
    suspect = Suspect(ready, signature, job.backend, template.arithmetic, job.threads, template.threshold)
    suspect = replace(suspect, network=_network(source), prepare=source.arguments)
    report, outputs = verify(source, session, samples, suspect, classifier=template.method in CLASSIFIERS)
    signature = Signature(inputs, outputs)
    for output in report.outputs:
        log.info("%s: parity at %g over batches %s: %s", name, report.threshold, samples.batch_sizes, describe(output))
    if report.divergence:
        log.info("%s: first diverging: %s", name, report.divergence)
    report = judged(name, report, job.request.parity_waivers.get(name, ""))
    if report.waiver:
        log.info("%s: the failed parity is waived: %s", name, report.waiver)

    job.progress(0.8, f"{name}: measuring latency")
    measured = _measure(job, source, session, samples)
    return PackagedComponent(job.component, form, signature, ranges, report, measured)


def _range(given: ComponentInput) -> SampleRange:
    return SampleRange(given.sample_min, given.sample_max, pixels=given.preprocessing.active)


def _samples(job: ComponentJob, inputs: tuple[TensorSpec, ...], ranges: dict[str, SampleRange]) -> Samples:
    request = job.request
    if request.samples_path:
        return from_npz(inside(job.workdir, request.samples_path), job.component.name, inputs, only=job.first)
    return generated(inputs, ranges, request.seed)


def _read(job: ComponentJob, samples: Samples) -> Source:
    feed = samples.feeds[0]
    arguments = [
        preprocess(feed[given.name], given.preprocessing, network_dtype(given)) for given in job.component.inputs
    ]
    return read_source(job.request, job.component, job.workdir, arguments, job.scratch / "source.onnx")


def _network(source: Source) -> Any:
    return getattr(source.module, "network", source.module)


def _measure(job: ComponentJob, source: Source, session: Session, samples: Samples) -> ProfileReport:
    feed = samples.feeds[0]
    label, baseline = _baseline(job, source, samples)
    forms: dict[str, Call] = {label: baseline, job.backend.name: lambda: session.run(feed)}
    report = profile(
        forms, threads=job.threads, batch_size=samples.batch_sizes[0], hardware=hardware(), seed=job.request.seed
    )
    name, first, control = job.component.name, report.forms[0], report.control
    log.info(
        "%s: %s: median %.3f ms, p99 %.3f ms, the baseline; against itself %.2fx to %.2fx in %d rounds",
        *(name, first.form, first.median_ms, first.p99_ms, control.speedup_low, control.speedup_high, report.rounds),
    )
    for form in report.forms[1:]:
        words = report.conclusion(form)
        log.info("%s: %s: median %.3f ms, p99 %.3f ms: %s", name, form.form, form.median_ms, form.p99_ms, words)
    return report


def _baseline(job: ComponentJob, source: Source, samples: Samples) -> tuple[str, Call]:
    """Return what users run today: frozen TorchScript on preprocessed inputs, eager where it cannot be traced."""
    arguments = [array.copy() for array in source.arguments(samples.feeds[0])]  # a network may write into them
    inputs = [spec.name for spec in source.signature.inputs]
    outputs = [spec.name for spec in source.signature.outputs]
    feed = dict(zip(inputs, arguments, strict=True))
    if source.module is None:
        reference = OnnxRuntimeSession(source.onnx_path, job.threads, optimise=True)
        return "onnxruntime (source)", lambda: reference.run(feed)
    try:
        traced = TorchScriptSession(source.module, inputs, outputs, feed, job.threads)
        traced.run(feed)
    except EngineFailure as error:
        log.info("%s: %s The baseline is eager PyTorch.", job.component.name, error.message)
        return "pytorch eager", lambda: source.runner(arguments)
    return "torchscript", lambda: traced.run(feed)


def _size(form: BuiltForm) -> int:
    return sum((form.directory / name).stat().st_size for name in form.files)


def available_threads() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))
