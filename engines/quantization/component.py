"""Quantizes one component: reads it, finds its data, searches for the best form, and puts that into the package."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.datasets.selection import Selection
from engines.formats.preparation import Prepared, Progress, prepare
from engines.graph.hygiene import load_model
from engines.graph.nodes import check_excluded
from engines.graph.quantized import quantized_nodes
from engines.package.content import PackagedComponent
from engines.parity.divergence import Suspect
from engines.parity.report import Verdict
from engines.parity.verification import describe, judged, not_run, verify
from engines.quantization.amct_quantizer import missing_amct
from engines.quantization.choosing import Choice, Found
from engines.quantization.data import Data, find_data, open_judge
from engines.quantization.graphs import QuantizedGraphs, fused, graph_weights, weights_size
from engines.quantization.no_gain import no_gain_reason
from engines.quantization.quantizers import Material
from engines.quantization.recipes import Recipe, first_recipes, kept_recipe, second_recipes, settings_of
from engines.quantization.request import CalibrationData, QuantizationRequest
from engines.quantization.result import ComponentQuantization, all_failed, described, none_holds
from engines.quantization.sensitivity import NodeSensitivity
from engines.runtimes import GRAPH, Runtime, Where, builds_from, check_timed
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.timings import TIMINGS
from engines.search.entry import Entry
from engines.search.journal import LASTING, Journal
from engines.search.making import Maker
from engines.search.packaging import package_form
from engines.search.request import Plan
from engines.search.truth import Thresholds, Truth
from engines.spec.template import CLASSIFIERS, Component

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuantizationJob:
    """One component of a quantization.

    Attributes:
        request: The quantization.
        component: Which component.
        runtime: The runtime that builds it.
        calibration: The calibration items; None if the scheme needs none.
        workdir: Folder of the inputs.
        package: Folder of the package.
        progress: Takes the fraction of this component that is done, and what is being done.
        threads: Threads of every form.
        journal: The state that earlier processes of this work left.
    """

    request: QuantizationRequest
    component: Component
    runtime: Runtime
    calibration: Selection | None
    workdir: Path
    package: Path
    progress: Progress
    threads: int
    journal: Journal = field(default_factory=Journal)


def quantize(job: QuantizationJob) -> ComponentQuantization:
    """Quantize one component; its files are in the package afterwards.

    Raises:
        EngineFailure: whatever step fails, with its reason; TOOLCHAIN_UNAVAILABLE if accuracy is asked for and forms do
            not run here; TOOLCHAIN_CRASHED with every candidate's failure if no tool made a form; PARITY_FAILED if none
            computes what the source computes and no accuracy bound says that it need not.
    """
    name, spec = job.component.name, job.request.spec
    where = job.runtime.where(job.request.conversion.target)
    if where is Where.DEVICE and spec.accuracy is not None:  # what nobody runs, nobody judges
        check_timed(job.runtime, job.request.conversion.target)
    prepared = _prepared(job)
    model = load_model(prepared.ready)
    check_excluded(spec.excluded_nodes, [node.name for node in model.graph.node])
    calibration_data = spec.calibration_data or CalibrationData()
    steps = spec.accuracy.preprocessing if spec.accuracy else ()
    evaluated = steps if job.request.evaluation is not None else None
    data = find_data(calibration_data, evaluated, prepared, job.calibration, job.workdir)
    truth = _truth(job, prepared, data)
    first, second, warnings = _plan(job, prepared, model, (*prepared.warnings, *data.warnings))
    scratch = job.workdir / LASTING / name
    material = Material(
        *(prepared.ready, data.calibration, scratch, lambda words: log.info("%s: %s", name, words)),
        prepared.build_source(),
    )
    graphs = QuantizedGraphs(material, [*first, *second], data.judged, frozenset(spec.excluded_nodes))
    seed, target = job.request.conversion.seed, job.request.conversion.target
    options = job.request.conversion.template.runtime_options
    forms, timings = job.workdir / "scratch" / name, job.workdir / TIMINGS
    maker = _Maker(Maker(prepared, target, forms, job.threads, seed, graphs.graph, options, timings))
    baseline = FormSpec(job.runtime.name, "FP32")
    job.progress(0.2, f"{name}: building in floating point")
    if where is not Where.DEVICE:
        _verify_baseline(job, prepared, data, maker.make_baseline(baseline))
    choice = Choice(
        *(maker, prepared, truth, job.threads, job.workdir / "scratch" / "processes", seed),
        lambda fraction, words: job.progress(0.25 + 0.6 * fraction, f"{name}: {words}"),
        job.journal,
    )
    plan = Plan([baseline], [recipe.spec for recipe in first], [recipe.spec for recipe in second], graphs)
    if where is Where.DEVICE:
        found = choice.by_making(plan, not_run(job.runtime, target))
        warnings.append("Not measured: it is the first form of this kind that could be made, and maybe not the best.")
    else:
        found = choice.by_parity(plan) if where is Where.EMULATOR else choice.by_time(plan)
    for entry in found.entries:
        log.info("%s: %s", entry.spec.name, described(entry, truth))
    chosen = found.best
    if chosen is None:
        raise all_failed(found.entries)
    warnings.extend(graphs.notes(chosen.spec))
    packaged = _packaged(job, prepared, truth, found, chosen)
    coverage = graphs.coverage(chosen.spec)
    if any(recipe.spec.quantizer == chosen.spec.quantizer for recipe in second):
        warnings.append(
            f"No form as requested was correct and faster, so other settings were used: {chosen.spec.quantizer}."
        )
    if coverage.is_small:
        warnings.append(f"Most of '{name}' is in floating point: only {coverage} are in integers.")
    if coverage.products:
        log.info("%s: %s are in integers", name, coverage)
    return ComponentQuantization(
        packaged,
        found,
        chosen,
        truth,
        graphs.excluded,
        coverage,
        _costs(job, graphs, chosen),
        weights_size(maker.baseline.form) if maker.baseline else graph_weights(prepared.ready),
        _no_gain(job, found, chosen, data),
        warnings,
    )


@dataclass
class _Maker:
    """Makes forms; the baseline, which is verified before the search, once."""

    maker: Maker
    baseline: Made | None = None

    def make_baseline(self, spec: FormSpec) -> Made:
        self.baseline = self.maker.make(spec)
        return self.baseline

    def make(self, spec: FormSpec) -> Made:
        return self.baseline if self.baseline and self.baseline.spec == spec else self.maker.make(spec)


def _prepared(job: QuantizationJob) -> Prepared:
    def progress(fraction: float, message: str) -> None:
        job.progress(fraction * 0.4, message)

    request = job.request.conversion
    prepared = prepare(request, job.component, job.workdir, progress)
    target = job.workdir / "scratch" / job.component.name / "fused.onnx"
    return fused(prepared, request.template.execution, target)


def _truth(job: QuantizationJob, prepared: Prepared, data: Data) -> Truth:
    template, asked, metric, score = job.request.conversion.template, job.request.spec.accuracy, "the metric", None
    if asked is not None and data.evaluation is not None:
        judge = open_judge(template, prepared, data.evaluation, asked.metric)
        metric, score = judge.metric, judge.score
    return Truth(
        prepared.source,
        data.judged,
        Thresholds(template.tolerance("FP32").threshold, asked.max_degradation if asked else None),
        template.method in CLASSIFIERS,
        score,
        metric=metric,
        waived=job.component.name in job.request.conversion.parity_waivers,
    )


def _plan(
    job: QuantizationJob, prepared: Prepared, model: Any, warnings: Sequence[str]
) -> tuple[list[Recipe], list[Recipe], list[str]]:
    spec, own = job.request.spec, list(warnings)
    function = prepared.source.tensorflow is not None
    settings = settings_of(spec, model, job.runtime.name, function=function)
    beside = job.request.conversion.target.runtime(job.runtime.name).beside_integers
    settings = replace(settings, halves=beside == "FP16" and spec.kind == "STATIC")
    kept = spec.kind != "HALF" and builds_from(job.runtime.name, {GRAPH})
    present = quantized_nodes(model) if kept else []
    if present:
        words = f"The source is already quantized, in {len(present)} nodes; it is kept as it is."
        log.info("%s: %s", job.component.name, words)
        return [kept_recipe(settings)], [], [*own, words]
    if spec.kind == "STATIC" and (missing := missing_amct(settings.runtime)):
        own.append(f"The chip's own quantizer was not tried; missing is {missing}.")
    if settings.seven_bits:
        own.append("This processor has no VNNI or AMX: weights take 7 bits, so that sums of products do not overflow.")
    return first_recipes(spec, settings), second_recipes(spec, settings), own


def _verify_baseline(job: QuantizationJob, prepared: Prepared, data: Data, made: Made) -> None:
    """Compare the floating-point form, in the runtime that will serve, with its source.

    Raises:
        EngineFailure: PARITY_FAILED, with the node at which they part.
    """
    request, name = job.request.conversion, job.component.name
    tolerance = request.template.tolerance("FP32")
    suspect = Suspect(
        lambda: prepared.ready, prepared.signature, job.runtime, request.target, "FP32", job.threads, tolerance
    )
    with job.runtime.open(made.form, request.target, job.threads) as session:
        classifier = request.template.method in CLASSIFIERS
        report, _ = verify(prepared.source, session, data.judged, suspect, classifier=classifier)
    for output in report.outputs:
        log.info("%s: in floating point: %s", name, describe(output))
    judged(name, report, request.parity_waivers.get(name, ""))


def _packaged(job: QuantizationJob, prepared: Prepared, truth: Truth, found: Found, chosen: Entry) -> PackagedComponent:
    """Put the chosen form into the package; if its parity verdict is not PASS, with the waiver that lets it pass.

    Raises:
        EngineFailure: PARITY_FAILED with every form's figures, if nothing does.
    """
    parity, named = chosen.parity, job.request.conversion.parity_waivers.get(job.component.name, "")
    assert parity is not None  # it was compared
    if parity.verdict not in {Verdict.PASS, Verdict.UNVERIFIED} and (named or parity.waiver):
        parity = replace(parity, waiver=named or parity.waiver)
        log.info("%s: parity is %s and passes: %s", job.component.name, parity.verdict, parity.waiver)
    elif parity.verdict is Verdict.FAIL:
        raise none_holds(job.component.name, truth, found, chosen)
    return package_form(prepared, truth, replace(chosen, parity=parity), found.profile, job.package)


def _costs(job: QuantizationJob, graphs: QuantizedGraphs, chosen: Entry) -> Sequence[NodeSensitivity]:
    step = "the costs of the nodes of the result"
    if job.journal.died_of(step):
        return []
    job.progress(0.9, f"{job.component.name}: measuring the cost of each node")
    with job.journal.risking(step):
        return graphs.costs(chosen.spec)


def _no_gain(job: QuantizationJob, found: Found, chosen: Entry, data: Data) -> str:
    profile, computes = found.profile, job.request.conversion.runtime().computes
    if profile is None or not found.no_gain or "faster" in profile.conclusion(profile.forms[1]) or chosen.made is None:
        return ""
    used = next((used for stored, used in computes.items() if stored == chosen.spec.precision), chosen.spec.precision)
    return no_gain_reason(chosen.made.form, data.judged.feeds[0], profile, used)
