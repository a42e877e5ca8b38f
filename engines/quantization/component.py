"""Quantizes one component: reads it, finds its data, searches for the best form, and puts that into the package."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared
from engines.graph.hygiene import load_model
from engines.graph.nodes import check_excluded
from engines.graph.quantized import quantized_nodes
from engines.package.content import PackagedComponent
from engines.parity.report import Verdict, judged_by_accuracy
from engines.quantization.choosing import FINAL_SECONDS, Stopwatch, latency_of
from engines.quantization.data import Data, find_data
from engines.quantization.direct_quantizers import AsItIs
from engines.quantization.gate import Bound, JudgedForm
from engines.quantization.no_gain import no_gain_reason
from engines.quantization.plan import Candidate, first_candidates, second_candidates, settings_of
from engines.quantization.quantizers import Material
from engines.quantization.search import Search
from engines.quantization.sensing import node_costs
from engines.quantization.sensitivity import NodeSensitivity
from engines.quantization.setup import ComponentJob, float_form, measure_source, open_gate, read_component
from engines.quantization.workshop import Workshop, described
from engines.runtimes import Session
from engines.tensors.signature import Signature
from engines.timing.paired import ProfileReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuantizedComponent:
    """A quantized component, in the package.

    Attributes:
        packaged: What the package tells of it.
        chosen: The form that became the result.
        quantizer: What made it.
        costs: Quantized nodes, the most sensitive first.
        candidates: Every candidate, as the API has them.
        ladder: Rungs, as the API has them.
        source_bytes: Size of the source's weights.
        no_gain: Why it is not faster; empty where it is.
        bound: The accuracy bound, where one was asked for.
        warnings: What a user should know.
    """

    packaged: PackagedComponent
    chosen: JudgedForm
    quantizer: str
    costs: Sequence[NodeSensitivity]
    candidates: Sequence[dict[str, Any]]
    ladder: Sequence[dict[str, Any]]
    source_bytes: int
    no_gain: str
    bound: Bound | None
    warnings: Sequence[str]


def quantize(job: ComponentJob) -> QuantizedComponent:
    """Quantize one component; its files are in the package afterwards.

    Raises:
        EngineFailure: whatever step fails, with its reason; TOOLCHAIN_CRASHED with every candidate's failure where no
            tool made a form; PARITY_FAILED where none computes what the source computes and no accuracy bound says
            that it need not.
    """
    with ExitStack() as sessions:
        return _quantize(job, sessions)


def _quantize(job: ComponentJob, sessions: ExitStack) -> QuantizedComponent:
    name, spec = job.component.name, job.request.spec
    prepared = read_component(job)
    model = load_model(prepared.ready)
    check_excluded(spec.excluded_nodes, [node.name for node in model.graph.node])
    data = find_data(job.request, prepared, job.calibration, job.workdir)
    job.progress(0.2, f"{name}: building in floating point")
    baseline, source_bytes = float_form(job, prepared, data, sessions)
    gate = open_gate(job, prepared, data, sessions)
    if spec.accuracy:
        gate.bound = measure_source(job, prepared, data, baseline)
    material = Material(prepared.ready, data.calibration, job.workdir / "scratch" / name, lambda _words: None)
    workshop = Workshop(material, gate, frozenset(spec.excluded_nodes), _sayer(job))
    material.progress = workshop.say
    stopwatch = _stopwatch(job, data, baseline)
    first, second, warnings = _plan(job, model, (*prepared.warnings, *data.warnings))
    search = Search(workshop, stopwatch)
    chosen = search.run(first, second)
    if chosen is None:
        raise all_failed(search)
    chosen = _let_through(job, chosen, search)

    job.progress(0.85, f"{name}: looking at each node")
    candidate = next(trial.candidate for trial in search.trials if trial.candidate.name == chosen.quantizer)
    costs = node_costs(workshop, candidate, chosen)
    job.progress(0.93, f"{name}: measuring latency")
    profile = stopwatch.compare([chosen], FINAL_SECONDS)
    if candidate in second:
        warnings.append(f"Nothing made as asked for held and was faster, so it was made otherwise: {candidate.name}.")
    if chosen.coverage.is_small:
        warnings.append(f"Most of '{name}' is in floating point: in integers are {chosen.coverage}.")
    if chosen.coverage.products:
        log.info("%s: in integers are %s", name, chosen.coverage)
    return QuantizedComponent(
        _packaged(job, prepared, chosen, profile),
        chosen,
        candidate.name,
        costs,
        search.candidates(chosen),
        search.ladder,
        source_bytes,
        _no_gain(job, chosen, stopwatch, profile),
        gate.bound,
        warnings,
    )


def _plan(job: ComponentJob, model: Any, warnings: Sequence[str]) -> tuple[list[Candidate], list[Candidate], list[str]]:
    settings = settings_of(job.request.spec, model, job.runtime.name)
    present = quantized_nodes(model) if job.request.spec.kind != "HALF" else []
    if present:
        words = f"The source already carries quantization, in {len(present)} nodes; it is kept as it is."
        log.info("%s: %s", job.component.name, words)
        return [Candidate(AsItIs(), settings)], [], [*warnings, words]
    spec, own = job.request.spec, list(warnings)
    if settings.seven_bits:
        own.append("This processor has no VNNI or AMX: weights take 7 bits, so that sums of products do not overflow.")
    return first_candidates(spec, settings), second_candidates(spec, settings), own


def _sayer(job: ComponentJob) -> Any:
    """Return what takes sentences while candidates are made: progress runs from 0.3 towards 0.85."""
    state = {"left": 0.55}

    def say(words: str) -> None:
        state["left"] *= 0.97
        job.progress(0.85 - state["left"], f"{job.component.name}: {words}")

    return say


def _stopwatch(job: ComponentJob, data: Data, baseline: Session) -> Stopwatch:
    label = f"{job.runtime.name} FP32"
    feed, size = data.judged.feeds[0], data.judged.batch_sizes[0]
    return Stopwatch(label, baseline, feed, size, job.threads, job.request.conversion.seed)


def _let_through(job: ComponentJob, chosen: JudgedForm, search: Search) -> JudgedForm:
    """Return the form, its parity with the name of what lets it pass if the verdict is not PASS.

    Raises:
        EngineFailure: PARITY_FAILED with every form's figures, where nothing does.
    """
    waiver = _waiver(job, chosen)
    if chosen.parity.verdict is not Verdict.PASS and waiver:
        log.info("%s: the parity verdict %s is let through: %s", job.component.name, chosen.parity.verdict, waiver)
        return replace(chosen, parity=replace(chosen.parity, waiver=waiver))
    if chosen.parity.verdict is not Verdict.FAIL:
        return chosen
    tried = [f"{trial.candidate.name}: {described(trial.form)}" for trial in search.trials if trial.form]
    rungs = [f"{len(rung['floating_point_nodes'])} nodes: {rung['accuracy']:.4f}" for rung in search.ladder]
    raise EngineFailure(
        FailureReason.PARITY_FAILED,
        f"No form of component '{job.component.name}' computes what its source computes; of the best one, "
        f"{chosen.shortfall}.",
        evidence="; ".join(tried) + (f"; cosine with nodes in floating point: {', '.join(rungs)}" if rungs else ""),
        suggested_fix="Calibrate on data like that which the model will see; choose WEIGHT_ONLY or a floating-point "
        "precision; or bound the accuracy instead (`accuracy`, --max-degradation), which judges in place of parity.",
    )


def _waiver(job: ComponentJob, chosen: JudgedForm) -> str:
    """Return what lets a verdict pass: a name of the user's, or the accuracy bound, which judges in its place."""
    named = job.request.conversion.parity_waivers.get(job.component.name, "")
    if named or chosen.bound is None:
        return named
    return judged_by_accuracy(chosen.bound.judge.metric, chosen.bound.asked.max_degradation)


def _packaged(job: ComponentJob, prepared: Prepared, chosen: JudgedForm, profile: ProfileReport) -> PackagedComponent:
    target = job.package / job.component.name
    shutil.copytree(chosen.form.directory, target)
    form = replace(chosen.form, directory=target)
    signature = Signature(prepared.signature.inputs, chosen.outputs)
    return PackagedComponent(
        prepared.component,
        form,
        signature,
        prepared.ranges,
        chosen.parity,
        profile,
        prepared.source.companions,
        prepared.warnings,
    )


def _no_gain(job: ComponentJob, chosen: JudgedForm, stopwatch: Stopwatch, profile: ProfileReport) -> str:
    for line in profile.lines():
        log.info("%s", line)
    latency = latency_of(profile, chosen)
    if latency is None or "faster" in profile.conclusion(latency):
        return ""
    return no_gain_reason(chosen.form, stopwatch.feed, profile, _computes(job, chosen.form.precision))


def _computes(job: ComponentJob, precision: str) -> str:
    others = job.request.conversion.runtime().computes.items()
    return next((computed for stored, computed in others if stored == precision), precision)


def all_failed(search: Search) -> EngineFailure:
    """Return the failure of a search in which no tool made a form: what each of them said."""
    failures = [(trial.candidate.name, trial.failure) for trial in search.trials if trial.failure]
    if len({failure.message for _, failure in failures}) == 1:
        return failures[0][1]
    kinds = {failure.reason for _, failure in failures}
    fixes = list(dict.fromkeys(failure.suggested_fix for _, failure in failures if failure.suggested_fix))
    return EngineFailure(
        kinds.pop() if len(kinds) == 1 else FailureReason.TOOLCHAIN_CRASHED,
        "No quantizer made a form of this model. "
        + " ".join(f"{name}: {failure.message}" for name, failure in failures),
        evidence="; ".join(failure.evidence for _, failure in failures if failure.evidence)[-2000:],
        suggested_fix=" ".join(fixes) or "Choose another scheme or runtime.",
    )
