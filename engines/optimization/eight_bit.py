"""INT8 forms: made by the quantization's own search, once for each runtime, within a part of the optimization's time.

The quantization tries several quantizers in the runtime that will serve, holds each to a cosine of 0.99 or to the
dataset's metric, and climbs its ladder where none holds: the nodes that cost most stay in floating point.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared
from engines.graph.execution import make_ready
from engines.graph.hygiene import load_model, save_model
from engines.graph.nodes import name_nodes
from engines.graph.quantized import quantized_nodes
from engines.optimization.eight_bit_time import BoundedWorkshop, BriefStopwatch, TimeIsUp
from engines.optimization.request import OptimizationRequest
from engines.quantization.choosing import fastest
from engines.quantization.component import all_failed
from engines.quantization.data import Data
from engines.quantization.gate import Bound, JudgedForm
from engines.quantization.plan import first_candidates, second_candidates, settings_of
from engines.quantization.quantizers import Material
from engines.quantization.request import AccuracyBound, CalibrationData, QuantizationRequest, QuantizationSpec
from engines.quantization.search import Search
from engines.quantization.setup import ComponentJob, float_form, open_gate
from engines.runtimes import runtime as runtime_named
from engines.sandbox.deadline import Overrun
from engines.search.journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EightBitForm:
    """A component in INT8 for one runtime.

    Attributes:
        graph: The quantized graph: ONNX, or OpenVINO's IR.
        quantizer: What made it, in words.
        floating_point_nodes: Nodes that stayed in floating point.
    """

    graph: Path
    quantizer: str
    floating_point_nodes: tuple[str, ...]


@dataclass
class EightBit:
    """Makes the INT8 forms of one component.

    Attributes:
        request: The optimization.
        prepared: The component.
        data: What it is calibrated and judged on.
        bound: The bound on lost accuracy; None where the cosine judges.
        workdir: Where intermediate files go.
        threads: Threads of every session.
        seconds: Time after which no further quantizer is tried for a runtime.
        say: Takes a sentence on what is being done.
        journal: What earlier processes of the search made.
    """

    request: OptimizationRequest
    prepared: Prepared
    data: Data
    bound: Bound | None
    workdir: Path
    threads: int
    seconds: float
    say: Callable[[str], None]
    journal: Journal = field(default_factory=Journal)
    _made: dict[str, EightBitForm | EngineFailure] = field(default_factory=dict)

    def make(self, runtime: str) -> EightBitForm:
        """Return the best INT8 form for a runtime; a second call for it returns the same.

        A source that carries quantization stays as it is.

        Raises:
            EngineFailure: PARITY_FAILED where no form holds; as quantizations fail, where none could be made.
        """
        if runtime not in self._made:
            try:
                self._made[runtime] = self._earlier(runtime) or self._new(runtime)
            except EngineFailure as failure:
                self._made[runtime] = failure
            except Overrun:
                # No second try: it would only begin anew what there was no time for.
                self._made[runtime] = late = EngineFailure(
                    FailureReason.TIMEOUT,
                    f"The search's time did not do for quantizing for {runtime}.",
                    suggested_fix="Search for longer.",
                )
                self.journal.keep_made(_step(runtime), {"failure": late.to_dict()})
                raise
        made = self._made[runtime]
        if isinstance(made, EngineFailure):
            raise made
        return made

    def _earlier(self, runtime: str) -> EightBitForm | None:
        """Return what an earlier process of this search made; raises EngineFailure where it failed, or died of it."""
        values = self.journal.made(_step(runtime))
        if values is None:
            return None
        if "failure" in values:
            raise EngineFailure.from_dict(values["failure"])
        return EightBitForm(Path(values["graph"]), values["quantizer"], tuple(values["floating_point_nodes"]))

    def _new(self, runtime: str) -> EightBitForm:
        try:
            with self.journal.risking(_step(runtime)), ExitStack() as sessions:
                form = self._search(runtime, sessions)
        except EngineFailure as failure:
            self.journal.keep_made(_step(runtime), {"failure": failure.to_dict()})
            raise
        self.journal.keep_made(_step(runtime), dataclasses.asdict(form) | {"graph": str(form.graph)})
        return form

    def _search(self, runtime: str, sessions: ExitStack) -> EightBitForm:
        if quantized_nodes(load_model(self.prepared.ready)):
            return EightBitForm(self.prepared.ready, "kept as it is", ())
        scratch = self.workdir / f"int8-{runtime}"
        scratch.mkdir(parents=True, exist_ok=True)
        prepared = _fused(self.prepared, self.request, scratch)
        job = self._job(runtime, scratch)
        baseline, _ = float_form(job, prepared, self.data, sessions)
        gate = open_gate(job, prepared, self.data, sessions)
        gate.bound = self.bound
        material = Material(prepared.ready, self.data.calibration, scratch, lambda _words: None)
        workshop = BoundedWorkshop(material, gate, frozenset(), lambda words: self.say(f"{runtime} INT8: {words}"))
        workshop.deadline = time.monotonic() + self.seconds
        feed, batch = self.data.judged.feeds[0], self.data.judged.batch_sizes[0]
        seed = self.request.conversion.seed
        stopwatch = BriefStopwatch(f"{runtime} FP32", baseline, feed, batch, self.threads, seed)
        search = Search(workshop, stopwatch)
        spec = quantization_spec(self.request)
        settings = settings_of(spec, load_model(prepared.ready), runtime)
        try:
            chosen = search.run(first_candidates(spec, settings), second_candidates(spec, settings))
        except TimeIsUp:
            log.info("%s INT8: the time for it was spent after %d forms", runtime, len(workshop.made))
            holding = [form for form in workshop.made if form.holds]
            timed = fastest(search.report, holding) if search.report else None
            chosen = timed or max(workshop.made, key=lambda form: (form.holds, form.score))
        if chosen is None:
            raise all_failed(search)
        if not chosen.holds:
            raise _none_holds(runtime, chosen)
        return EightBitForm(chosen.graph, chosen.name, tuple(sorted(chosen.excluded)))

    def _job(self, runtime: str, scratch: Path) -> ComponentJob:
        component = self.prepared.component
        return ComponentJob(
            quantization_request(self.request, runtime),
            component,
            runtime_named(runtime),
            None,
            scratch,
            scratch / "package",
            lambda _fraction, words: self.say(words),
            self.threads,
        )


def _step(runtime: str) -> str:
    return f"the quantization for {runtime}"


def quantization_spec(request: OptimizationRequest) -> QuantizationSpec:
    """Return the quantization that an optimization asks for: static, with the method and the ranges left open."""
    spec = request.spec
    accuracy = None
    if spec.max_degradation and request.evaluation is not None:
        accuracy = AccuracyBound(
            max_degradation=spec.max_degradation, metric=spec.metric, preprocessing=spec.preprocessing
        )
    data = CalibrationData(preprocessing=spec.preprocessing, seed=request.conversion.seed)
    return QuantizationSpec(precision="INT8", scheme="STATIC", calibration_data=data, accuracy=accuracy)


def quantization_request(request: OptimizationRequest, runtime: str) -> QuantizationRequest:
    """Return an optimization as the request of its quantization for one runtime."""
    template = request.conversion.template.model_copy(update={"runtime": runtime})
    return QuantizationRequest(
        conversion=request.conversion.model_copy(update={"template": template}),
        template=request.template,
        spec=quantization_spec(request),
        calibration=request.calibration,
        evaluation=request.evaluation,
    )


def _fused(prepared: Prepared, request: OptimizationRequest, scratch: Path) -> Prepared:
    """Return the component with its operators fused, which quantizers need, and every node named."""
    ready = scratch / "fused.onnx"
    execution = request.conversion.template.execution.model_copy(update={"fuse_operators": True})
    try:
        make_ready(prepared.source.graph.path, ready, prepared.component.inputs, execution)
        model = load_model(ready)
    except EngineFailure as failure:
        if failure.reason is not FailureReason.TOOLCHAIN_CRASHED:
            raise
        log.info("%s The operators stay as they are.", failure.message)
        model = load_model(prepared.ready)
    name_nodes(model)
    save_model(model, ready)
    return dataclasses.replace(prepared, make_ready=lambda: ready)


def _none_holds(runtime: str, chosen: JudgedForm) -> EngineFailure:
    return EngineFailure(
        FailureReason.PARITY_FAILED,
        f"No INT8 form for {runtime} computes what the source computes; of the best one, {chosen.shortfall}.",
        evidence=f"{chosen.name}: cosine {chosen.cosine:.5f}, SQNR {chosen.sqnr_db:.1f} dB",
        suggested_fix="Calibrate on data like that which the model will see, or search for longer.",
    )
