"""Finds a component's samples: those that calibrate, those that a form is judged on, those that accuracy counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.datasets.selection import Selection, unpack_selection
from engines.failures import EngineFailure, FailureReason, invalid
from engines.formats.preparation import Prepared
from engines.quantization.feeds import (
    MOST_HELD_OUT,
    Feeds,
    SampleSet,
    calibration_batch,
    chosen_and_rest,
    hold_out,
    judged_on,
)
from engines.quantization.request import DEFAULT_SAMPLES, CalibrationData, QuantizationRequest
from engines.tensors.samples import SampleRange, Samples

CALIBRATION_DIR = "calibration"
EVALUATION_DIR = "evaluation"
ARTIFACT = "calibration.bin"


@dataclass(frozen=True)
class Data:
    """What one component is quantized with.

    Attributes:
        calibration: Feeds that ranges are found on; None where there is no calibration data.
        judged: Feeds that forms are judged on.
        evaluation: The evaluation items; None where there are none.
        warnings: What a user should know about them.
    """

    calibration: Feeds | None
    judged: Samples
    evaluation: SampleSet | None
    warnings: tuple[str, ...]


def open_calibration(request: QuantizationRequest, workdir: Path) -> Selection | None:
    """Return the calibration items, unpacked where they came as an upload; None where the work has none.

    Raises:
        EngineFailure: INVALID_SPEC where the scheme needs them, INVALID_DATA where they cannot be read.
    """
    if request.calibration is not None:
        return Selection(workdir / CALIBRATION_DIR)
    if (workdir / ARTIFACT).is_file():
        return unpack_selection(workdir / ARTIFACT, workdir / "scratch" / "calibration")
    if request.spec.kind == "STATIC":
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            "Static quantization needs calibration data, from which the ranges of activations are found.",
            suggested_fix="Name a dataset or an upload in calibration_data; or choose DYNAMIC or WEIGHT_ONLY.",
        )
    return None


def find_data(request: QuantizationRequest, prepared: Prepared, calibration: Selection | None, workdir: Path) -> Data:
    """Return the samples of a component.

    Raises:
        EngineFailure: INVALID_DATA or INVALID_SPEC for too few samples, or samples that do not fit the inputs.
    """
    spec, inputs = request.spec, prepared.signature.inputs
    asked = spec.calibration_data or CalibrationData()
    component = manifest_component(prepared)
    evaluation = None
    if request.evaluation is not None:
        steps = spec.accuracy.preprocessing if spec.accuracy and spec.accuracy.preprocessing else asked.preprocessing
        evaluation = SampleSet(Selection(workdir / EVALUATION_DIR), component, steps)
    if calibration is None:
        judged = judged_on(evaluation, _first(evaluation), inputs, asked.seed) if evaluation else prepared.samples
        return Data(None, judged, evaluation, ())
    samples = SampleSet(calibration, component, asked.preprocessing)
    chosen, rest = chosen_and_rest(samples.count, asked.samples or DEFAULT_SAMPLES, asked.seed)
    batch_size = calibration_batch(inputs, asked.batch_size, len(chosen))
    warnings = [*calibration.warnings]
    if asked.samples > samples.count:
        warnings.append(f"{asked.samples} calibration samples were asked for; the data has {samples.count}.")
    held = _first(evaluation) if evaluation else rest
    judging = evaluation or samples
    if not held:
        chosen, held = hold_out(chosen, batch_size)
    if not held:
        held = chosen
        warnings.append(
            f"The {len(chosen)} calibration samples are too few to hold any out: the result was judged on the samples "
            "that it was calibrated on."
        )
    judged = dataclasses.replace(judged_on(judging, held, inputs, asked.seed), seed=0)
    feeds = Feeds(samples, chosen, batch_size)
    for _ in feeds:  # what is wrong with the data is told before any tool stumbles over it
        pass
    return Data(feeds, judged, evaluation, tuple(warnings))


def manifest_component(prepared: Prepared) -> dict[str, object]:
    """Return what a manifest says of a component's inputs, before there is a package."""
    component = prepared.component
    return {
        "name": component.name,
        "signature": {"inputs": [_with_value(spec.to_dict(), prepared.ranges) for spec in prepared.signature.inputs]},
        "preprocessing": {given.name: given.preprocessing.model_dump(mode="json") for given in component.inputs},
        "max_batch": component.largest_batch,
        "num_classes": component.num_classes,
    }


def _with_value(tensor: dict[str, Any], ranges: Mapping[str, SampleRange]) -> dict[str, Any]:
    values = ranges[tensor["name"]].values if tensor["name"] in ranges else ()
    return {**tensor, "value": list(values)} if values else tensor


def _first(samples: SampleSet) -> list[int]:
    if not samples.count:
        raise invalid("The evaluation dataset holds no items.")
    step = max(1, samples.count // MOST_HELD_OUT)
    return list(range(0, samples.count, step))[:MOST_HELD_OUT]
