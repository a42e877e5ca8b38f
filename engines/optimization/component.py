"""Optimizes one component: reads it, finds its data, searches, and puts the recommended form into the package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engines.formats.preparation import Prepared, Progress, prepare
from engines.formats.reading import Reader, read_source
from engines.graph.hygiene import load_model
from engines.optimization.component_data import ComponentData, find_component_data
from engines.optimization.eight_bit import EightBit, EightBitForm
from engines.optimization.request import OptimizationRequest
from engines.optimization.result import OptimizedComponent
from engines.package.content import PackagedComponent
from engines.parity.report import Verdict
from engines.parity.verification import describe
from engines.quantization.data import ARTIFACT
from engines.quantization.plan import is_transformer
from engines.runtimes import BuiltForm
from engines.runtimes.candidates import IMAGE_RANK, Situation
from engines.runtimes.form import FormSpec
from engines.search.journal import LASTING, Journal
from engines.search.making import Maker
from engines.search.plan import baselines, candidates
from engines.search.record import Record
from engines.search.search import SearchResult, search
from engines.search.truth import Thresholds, Truth
from engines.spec.template import CLASSIFIERS, Component
from engines.tensors import Arrays
from engines.tensors.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

_READ, _SEARCHED = 0.15, 0.97
_INT8_SHARE = 0.15
"""Part of the search's time that the quantizers of one runtime may take."""


@dataclass(frozen=True)
class ComponentJob:
    """One component of an optimization.

    Attributes:
        request: The optimization.
        component: Which component.
        workdir: Where the inputs lie.
        package: Where the package grows.
        progress: Takes the fraction of this component that is done, and what is being done.
        threads: Threads of every form.
        budget_seconds: Time for its search.
        record: Measurements of earlier searches; this one's are put beside them.
        memory_bytes: Most memory of the work; what the machine has to spare where 0.
        journal: What earlier processes of this work found out about the component.
        reader: Writes the component as ONNX; by its format where not said.
    """

    request: OptimizationRequest
    component: Component
    workdir: Path
    package: Path
    progress: Progress
    threads: int
    budget_seconds: float
    record: Record
    memory_bytes: int = 0
    journal: Journal = field(default_factory=Journal)
    reader: Reader = read_source


def optimize_component(job: ComponentJob) -> OptimizedComponent:
    """Optimize one component; the files of its recommended form are in the package afterwards.

    Raises:
        EngineFailure: where the source cannot be read or run, or its data do not fit. A form that fails never raises.
    """
    request = job.request
    data = find_component_data(request, _prepared(job), job.workdir)
    prepared = data.prepared
    eight_bit = _eight_bit(job, data)
    maker = Maker(
        prepared,
        request.conversion.target,
        job.workdir / "scratch" / job.component.name,
        job.threads,
        request.conversion.seed,
        eight_bit.make if eight_bit else None,
    )
    device, situation = request.conversion.template.device, _situation(job, data)
    specs = candidates(device, situation)
    if situation.is_quantized:  # its own integers stay as they are
        specs = [spec for spec in specs if spec.quantizer]
    truth = Truth(
        prepared.source,
        prepared.samples,
        Thresholds(request.threshold, request.spec.max_degradation),
        request.conversion.template.method in CLASSIFIERS,
        data.judged.judge.score if data.judged else None,
    )
    log.info("%s: %d forms to try in %g s", job.component.name, len(specs), job.budget_seconds)
    found = search(
        specs,
        maker,
        prepared,
        truth,
        baselines(device, situation),
        workdir=job.workdir / "scratch" / "runners",
        threads=job.threads,
        objective=request.spec.aim,
        budget_seconds=job.budget_seconds,
        judged_on=_judged_on(request),
        calibrated_on=_calibrated_on(job),
        earlier=job.record,
        memory_bytes=job.memory_bytes,
        progress=_told(job),
        seed=request.conversion.seed,
        journal=job.journal,
    )
    for line in found.profile.lines():
        log.info("%s: %s", job.component.name, line)
    quantized = _quantized(eight_bit, found.recommended.spec)
    return OptimizedComponent(
        _packaged(job, prepared, truth.expected, found),
        found,
        prepared.samples,
        data.judged.judge.metric if data.judged else "",
        data.judged.source if data.judged else None,
        quantized.quantizer if quantized else "",
        quantized.floating_point_nodes if quantized else (),
        (*prepared.warnings, *_of_baseline(found), *data.warnings),
    )


def _of_baseline(found: SearchResult) -> list[str]:
    """Return what to know of a baseline that is not quite the source."""
    parity = found.baseline.parity
    if parity is None or parity.verdict is Verdict.PASS:
        return []
    seen = "; ".join(describe(output) for output in parity.outputs if output.verdict is not Verdict.PASS)
    return [f"{found.baseline.spec.name} stands for the source and is not quite the same: {seen}."]


def _prepared(job: ComponentJob) -> Prepared:
    def progress(fraction: float, words: str) -> None:
        job.progress(_READ * fraction / 0.4, words)

    return prepare(job.request.conversion, job.component, job.workdir, progress, reader=job.reader)


def _situation(job: ComponentJob, data: ComponentData) -> Situation:
    prepared, spec = data.prepared, job.request.spec
    return Situation(
        "INT8" if data.quantized else spec.goal,
        spec.aim,
        has_module=prepared.source.module is not None,
        has_calibration=data.quantization is not None,
        is_transformer=is_transformer(load_model(prepared.ready)),
        has_images=any(len(tensor.opt) == IMAGE_RANK for tensor in prepared.signature.inputs),
        batch=prepared.samples.batch_sizes[-1] if spec.aim == "THROUGHPUT" else prepared.samples.batch_sizes[0],
        threads=job.threads,
        is_quantized=bool(data.quantized),
    )


def _eight_bit(job: ComponentJob, data: ComponentData) -> EightBit | None:
    if data.quantization is None:
        return None
    return EightBit(
        job.request,
        data.prepared,
        data.quantization,
        data.bound,
        job.workdir / LASTING / job.component.name,
        job.threads,
        _INT8_SHARE * job.budget_seconds,
        lambda words: log.info("%s: %s", job.component.name, words),
        job.journal,
    )


def _quantized(eight_bit: EightBit | None, spec: FormSpec) -> EightBitForm | None:
    return eight_bit.make(spec.runtime) if eight_bit and spec.quantizer else None


def _told(job: ComponentJob) -> Progress:
    def progress(fraction: float, words: str) -> None:
        job.progress(_READ + (_SEARCHED - _READ) * fraction, f"{job.component.name}: {words}")

    return progress


def _judged_on(request: OptimizationRequest) -> str:
    if request.evaluation is None:
        return ""
    words = json.dumps([request.evaluation, request.spec.metric, request.spec.preprocessing], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _calibrated_on(job: ComponentJob) -> str:
    """Return a digest of the calibration and of the time for it: in more time a better quantization may be found."""
    artifact = job.workdir / ARTIFACT
    uploaded = hashlib.sha256(artifact.read_bytes()).hexdigest() if artifact.is_file() else ""
    request = job.request
    words = json.dumps([request.calibration, uploaded, request.spec.preprocessing, job.budget_seconds], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _packaged(
    job: ComponentJob, prepared: Prepared, expected: Sequence[Arrays], found: SearchResult
) -> PackagedComponent:
    made, parity = found.recommended.made, found.recommended.parity
    assert made is not None and parity is not None  # noqa: PT018 - what is recommended was built and compared
    return PackagedComponent(
        prepared.component,
        _copied(made.form, job.package / job.component.name),
        Signature(prepared.signature.inputs, _outputs(prepared, expected)),
        prepared.ranges,
        parity,
        found.profile,
        prepared.source.companions,
        prepared.warnings,
    )


def _copied(form: BuiltForm, target: Path) -> BuiltForm:
    for name in form.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(form.directory / name, target / name)
    return dataclasses.replace(form, directory=target)


def _outputs(prepared: Prepared, expected: Sequence[Arrays]) -> tuple[TensorSpec, ...]:
    """Return the specs of the outputs, wide enough for every shape seen."""
    specs = {spec.name: spec for spec in prepared.source.signature.outputs}
    for outputs in expected:
        for name, value in outputs.items():
            specs[name] = specs[name].including(value.shape)
    return tuple(specs.values())
