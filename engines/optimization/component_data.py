"""The data that the forms of a component are tested, calibrated and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.evaluation.judge import Judge
from engines.failures import EngineFailure
from engines.formats.preparation import Prepared
from engines.graph.hygiene import load_model
from engines.graph.quantized import quantized_nodes
from engines.optimization.request import OptimizationRequest
from engines.quantization.data import ARTIFACT, Data, find_data, open_calibration, open_judge
from engines.quantization.request import CalibrationData

NO_CALIBRATION = "INT8 was left out: it needs calibration data. Name a dataset, or upload calibration samples."


@dataclass(frozen=True)
class Judged:
    """The judge of accuracy, and its score of the source.

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
        data: The data that forms are calibrated, compared and judged on.
        judged: The judge of accuracy; None if there is no dataset for it.
        quantized: Nodes of the source that compute on quantized values.
        warnings: Warnings for the user.
    """

    prepared: Prepared
    data: Data
    judged: Judged | None
    quantized: Sequence[str]
    warnings: tuple[str, ...]


def find_component_data(request: OptimizationRequest, prepared: Prepared, workdir: Path) -> ComponentData:
    """Return the data that a component's forms are tested, calibrated and judged on.

    The user's test data go first, then samples of the dataset that calibration left, then random ones.

    Raises:
        EngineFailure: INVALID_DATA or INVALID_SPEC for data that cannot be read or do not fit the inputs.
    """
    quantized = quantized_nodes(load_model(prepared.ready))
    wanted = request.spec.goal == "INT8" and not quantized
    has_calibration = request.calibration is not None or (workdir / ARTIFACT).is_file()
    warnings = [NO_CALIBRATION] if wanted and not has_calibration else []
    if quantized:
        warnings.append(f"The source is already quantized, in {len(quantized)} nodes; it is kept as it is.")
    elif request.spec.quantization_aware:
        warnings.append(
            "The request says that the source was trained quantization-aware, but its graph has no quantization."
        )
    steps = request.spec.preprocessing
    calibration = open_calibration(workdir, is_dataset=request.calibration is not None) if wanted else None
    asked = CalibrationData(preprocessing=steps, seed=request.conversion.seed)
    data = find_data(asked, steps if request.evaluation is not None else None, prepared, calibration, workdir)
    if not request.conversion.samples_path:
        prepared = replace(prepared, samples=data.judged)
    judged, unjudged = _judged(request, prepared, data)
    warnings += [*unjudged, *data.warnings]
    return ComponentData(prepared, data, judged, quantized, tuple(warnings))


def _judged(request: OptimizationRequest, prepared: Prepared, data: Data) -> tuple[Judged | None, list[str]]:
    """Return the judge of accuracy if there is a dataset, and warnings if it cannot judge.

    Raises:
        EngineFailure: if accuracy is bounded and cannot be measured.
    """
    if data.evaluation is None:
        return None, []
    template, metric = request.conversion.template, request.spec.metric
    try:
        judge = open_judge(template, prepared, data.evaluation, metric)
        return Judged(judge, judge.score(prepared.source.run)), []
    except EngineFailure as failure:
        if request.spec.max_degradation or metric:
            raise
        return None, [f"Accuracy was not measured. {failure.message}"]
