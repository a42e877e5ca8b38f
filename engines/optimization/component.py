"""Optimizes one component: reads it, finds its data, searches, and puts the recommended form into the package."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from engines.formats.preparation import Prepared, Progress, prepare
from engines.formats.reading import Reader, read_source
from engines.graph.hygiene import load_model
from engines.optimization.component_data import ComponentData, find_component_data
from engines.optimization.eight_bit import offered_recipes
from engines.optimization.request import OptimizationRequest
from engines.optimization.result import OptimizedComponent
from engines.parity.report import Verdict
from engines.parity.verification import describe
from engines.quantization.data import ARTIFACT
from engines.quantization.graphs import QuantizedGraphs, fused
from engines.quantization.quantizers import Material
from engines.quantization.recipes import is_transformer
from engines.runtimes.candidates import IMAGE_RANK, Situation
from engines.runtimes.timings import TIMINGS
from engines.search.journal import LASTING, Journal
from engines.search.making import Maker
from engines.search.packaging import package_form
from engines.search.plan import baselines, candidates
from engines.search.record import Record
from engines.search.request import Plan, SearchSettings
from engines.search.search import SearchResult, search
from engines.search.truth import Thresholds, Truth
from engines.spec.template import CLASSIFIERS, Component

log = logging.getLogger(__name__)

_READ, _SEARCHED = 0.15, 0.97


@dataclass(frozen=True)
class OptimizationJob:
    """One component of an optimization.

    Attributes:
        request: The optimization.
        component: Which component.
        workdir: Folder of the inputs.
        package: Folder of the package.
        progress: Takes the fraction of this component that is done, and what is being done.
        threads: Threads of every form.
        budget_seconds: Time for its search.
        record: Measurements of earlier searches, to which this one's are added.
        memory_bytes: Most memory of the work; the machine's free memory if 0.
        journal: The state that earlier processes of this work left.
        reader: Reads the component; by its format if not given.
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


def optimize_component(job: OptimizationJob) -> OptimizedComponent:
    """Optimize one component; the files of its recommended form are in the package afterwards.

    Raises:
        EngineFailure: The source cannot be read or run, or its data do not fit; never for a form that fails.
    """
    request = job.request
    data = find_component_data(request, _prepared(job), job.workdir)
    prepared = data.prepared
    plan, graphs = _plan(job, data)
    maker = Maker(
        prepared,
        request.conversion.target,
        job.workdir / "scratch" / job.component.name,
        job.threads,
        request.conversion.seed,
        graphs.graph if graphs else None,
        timings=job.workdir / TIMINGS,
    )
    truth = Truth(
        prepared.source,
        prepared.samples,
        Thresholds(request.threshold, request.spec.max_degradation or None),
        request.conversion.template.method in CLASSIFIERS,
        data.judged.judge.score if data.judged else None,
    )
    log.info("%s: %d forms to try in %g s", job.component.name, len(plan.specs), job.budget_seconds)
    found = search(
        plan,
        maker,
        prepared,
        truth,
        SearchSettings(
            job.workdir / "scratch" / "processes",
            job.threads,
            request.spec.aim,
            job.budget_seconds,
            judged_on=_judged_on(request),
            calibrated_on=_calibrated_on(job),
            memory_bytes=job.memory_bytes,
            seed=request.conversion.seed,
        ),
        earlier=job.record,
        progress=_told(job),
        journal=job.journal,
    )
    for line in found.profile.lines():
        log.info("%s: %s", job.component.name, line)
    chosen = found.recommended
    packaged = package_form(prepared, truth, chosen, found.profile, job.package)
    return OptimizedComponent(
        packaged,
        found,
        prepared.samples,
        data.judged.judge.metric if data.judged else "",
        data.judged.source if data.judged else None,
        chosen.spec.quantized_by,
        chosen.spec.kept,
        (*packaged.warnings, *_of_baseline(found), *data.warnings),
    )


def _of_baseline(found: SearchResult) -> list[str]:
    """Return a warning about a baseline whose outputs differ slightly from the source's."""
    parity = found.baseline.parity
    if parity is None or parity.verdict is Verdict.PASS:
        return []
    seen = "; ".join(describe(output) for output in parity.outputs if output.verdict is not Verdict.PASS)
    return [f"The baseline {found.baseline.spec.name} differs slightly from the source: {seen}."]


def _prepared(job: OptimizationJob) -> Prepared:
    def progress(fraction: float, words: str) -> None:
        job.progress(_READ * fraction / 0.4, words)

    return prepare(job.request.conversion, job.component, job.workdir, progress, reader=job.reader)


def _plan(job: OptimizationJob, data: ComponentData) -> tuple[Plan, QuantizedGraphs | None]:
    """Return the candidates and the quantized graphs; a quantized source has only candidates that keep it as it is."""
    prepared, device, model = data.prepared, job.request.conversion.template.device, load_model(data.prepared.ready)
    situation = _situation(job, data, is_transformer=is_transformer(model))
    specs, sources = candidates(device, situation), baselines(device, situation)
    if data.quantized:
        specs = [spec for spec in specs if spec.quantizer]
    target = job.request.conversion.target
    recipes = offered_recipes(
        model,
        specs,
        is_quantized=bool(data.quantized),
        function=situation.has_function,
        halves=[name for name, each in target.buildable_runtimes.items() if each.beside_integers == "FP16"],
    )
    if not recipes.all:
        return Plan(sources, specs), None
    lasting, ready = job.workdir / LASTING / job.component.name, prepared.ready
    if not data.quantized:
        ready = fused(prepared, job.request.conversion.template.execution, lasting / "fused.onnx").ready
    say = lambda words: log.info("%s: %s", job.component.name, words)  # noqa: E731 - as short as it can be
    material = Material(ready, data.data.calibration, lasting, say, prepared.build_source())
    graphs = QuantizedGraphs(material, recipes.all, prepared.samples)
    return Plan(recipes.put_into(sources), recipes.put_into(specs), recipes.otherwise, graphs), graphs


def _situation(job: OptimizationJob, data: ComponentData, *, is_transformer: bool) -> Situation:
    prepared, spec = data.prepared, job.request.spec
    return Situation(
        "INT8" if data.quantized else spec.goal,
        spec.aim,
        has_module=prepared.source.module is not None,
        has_function=prepared.source.tensorflow is not None,
        has_calibration=bool(data.quantized) or data.data.calibration is not None,
        is_transformer=is_transformer,
        has_images=any(len(tensor.opt) == IMAGE_RANK for tensor in prepared.signature.inputs),
        batch=prepared.samples.batch_sizes[-1] if spec.aim == "THROUGHPUT" else prepared.samples.batch_sizes[0],
        threads=job.threads,
        is_quantized=bool(data.quantized),
    )


def _told(job: OptimizationJob) -> Progress:
    def progress(fraction: float, words: str) -> None:
        job.progress(_READ + (_SEARCHED - _READ) * fraction, f"{job.component.name}: {words}")

    return progress


def _judged_on(request: OptimizationRequest) -> str:
    if request.evaluation is None:
        return ""
    words = json.dumps([request.evaluation, request.spec.metric, request.spec.preprocessing], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _calibrated_on(job: OptimizationJob) -> str:
    """Return a digest of the calibration data."""
    artifact = job.workdir / ARTIFACT
    uploaded = hashlib.sha256(artifact.read_bytes()).hexdigest() if artifact.is_file() else ""
    request = job.request
    words = json.dumps([request.calibration, uploaded, request.spec.preprocessing], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()
