"""What the forms of a component are tested, calibrated and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.evaluation.judge import Judge
from engines.failures import EngineFailure
from engines.formats.preparation import Prepared
from engines.graph.hygiene import load_model
from engines.graph.quantized import quantized_nodes
from engines.optimization.eight_bit import quantization_request
from engines.optimization.request import OptimizationRequest
from engines.quantization.data import ARTIFACT, Data, find_data, open_calibration
from engines.quantization.gate import Bound
from engines.quantization.setup import open_judge

NO_CALIBRATION = "INT8 was left out: it needs calibration data. Name a dataset, or hand over calibration samples."

_AT_ONCE = 32
"""Samples that accuracy is measured on at once: forms run in other processes, where every call has its price."""


@dataclass(frozen=True)
class Judged:
    """What measures accuracy.

    Attributes:
        judge: Scores a form.
        source: The metric of the source, 0 to 1.
    """

    judge: Judge
    source: float


@dataclass(frozen=True)
class ComponentData:
    """The data of one component.

    Attributes:
        prepared: The component, its samples those that forms are tested on.
        quantization: What INT8 forms are calibrated and judged on; None where there are none to be made.
        judged: What measures accuracy, and that of the source; None where no dataset can.
        bound: The bound on lost accuracy; None where none was asked for: accuracy is told then, and decides nothing.
        quantized: Nodes of the source that compute on quantized values.
        warnings: What a user should know.
    """

    prepared: Prepared
    quantization: Data | None
    judged: Judged | None
    bound: Bound | None
    quantized: Sequence[str]
    warnings: tuple[str, ...]


def find_component_data(request: OptimizationRequest, prepared: Prepared, workdir: Path) -> ComponentData:
    """Return what a component's forms are tested, calibrated and judged on.

    The user's test data go first, then samples of the dataset that calibration left, then random ones.

    Raises:
        EngineFailure: INVALID_DATA or INVALID_SPEC for data that cannot be read or do not fit the inputs.
    """
    quantized = quantized_nodes(load_model(prepared.ready))
    wanted = request.spec.goal == "INT8" and not quantized
    has_calibration = request.calibration is not None or (workdir / ARTIFACT).is_file()
    warnings = [NO_CALIBRATION] if wanted and not has_calibration else []
    if quantized:
        warnings.append(f"The source already carries quantization, in {len(quantized)} nodes; it is kept as it is.")
    elif request.spec.quantization_aware:
        warnings.append("The source was said to be trained quantization-aware, but its graph carries no quantization.")
    asked = quantization_request(request, request.conversion.template.runtime)
    calibration = open_calibration(asked, workdir) if wanted and has_calibration else None
    data = find_data(asked, prepared, calibration, workdir)
    if not request.conversion.samples_path:
        prepared = replace(prepared, samples=data.judged)
    judged, unjudged = _judged(request, prepared, data)
    accuracy = asked.spec.accuracy
    bound = Bound(judged.judge, judged.source, accuracy) if judged and accuracy else None
    needed = bool(quantized) or calibration is not None
    warnings += [*unjudged, *data.warnings]
    return ComponentData(prepared, data if needed else None, judged, bound, quantized, tuple(warnings))


def _judged(request: OptimizationRequest, prepared: Prepared, data: Data) -> tuple[Judged | None, list[str]]:
    """Return what measures accuracy where there is a dataset; why it is not measured, where it need not be.

    Raises:
        EngineFailure: where accuracy is bounded and cannot be measured.
    """
    if data.evaluation is None:
        return None, []
    template, metric = request.conversion.template, request.spec.metric
    try:
        judge = open_judge(template, prepared, data.evaluation, metric, most_at_once=_AT_ONCE)
        return Judged(judge, judge.score(prepared.source.run)), []
    except EngineFailure as failure:
        if request.spec.max_degradation or metric:
            raise
        return None, [f"Accuracy was not measured. {failure.message}"]
