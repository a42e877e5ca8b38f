"""Finds a component's samples: those that calibrate, those that a form is judged on, those that accuracy counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.datasets.selection import Selection, unpack_selection
from engines.evaluation.judge import Judge
from engines.failures import invalid
from engines.formats.preparation import Prepared
from engines.postprocess import plain
from engines.quantization.feeds import (
    MOST_HELD_OUT,
    Feeds,
    SampleSet,
    batch_bounds,
    calibration_batch,
    chosen_and_rest,
    hold_out,
    judged_on,
)
from engines.quantization.request import DEFAULT_SAMPLES, CalibrationData
from engines.spec.template import Template
from engines.tensors.samples import SampleRange, Samples

CALIBRATION_DIR = "calibration"
EVALUATION_DIR = "evaluation"
ARTIFACT = "calibration.bin"
JUDGED_AT_ONCE = 32
"""Samples that accuracy is measured on at once: every call of a form in another process has a cost."""


@dataclass(frozen=True)
class Data:
    """The data that one component is quantized with.

    Attributes:
        calibration: Feeds that ranges are found on; None if there is no calibration data.
        judged: Feeds that forms are compared with the source on.
        evaluation: The evaluation items; None if there are none.
        warnings: Warnings about them for the user.
    """

    calibration: Feeds | None
    judged: Samples
    evaluation: SampleSet | None
    warnings: tuple[str, ...]


def open_calibration(workdir: Path, *, is_dataset: bool) -> Selection | None:
    """Return the calibration items, unpacked if they were uploaded; None if the work has none.

    Args:
        workdir: Folder of the items.
        is_dataset: Whether they come from a dataset.

    Raises:
        EngineFailure: INVALID_DATA if they cannot be read.
    """
    if is_dataset:
        return Selection(workdir / CALIBRATION_DIR)
    if (workdir / ARTIFACT).is_file():
        return unpack_selection(workdir / ARTIFACT, workdir / "scratch" / "calibration")
    return None


def open_judge(template: Template, prepared: Prepared, evaluation: SampleSet, metric: str) -> Judge:
    """Return the judge that measures the accuracy of a component's forms.

    Args:
        template: Its method, arguments and classes.
        prepared: The component.
        evaluation: Annotated samples.
        metric: Which figure; the method's main one if empty.

    Raises:
        EngineFailure: INVALID_SPEC for a method without figures, or wrong arguments of it.
    """
    low, high = batch_bounds(prepared.signature.inputs)
    return Judge(
        evaluation.selection,
        evaluation.steps,
        evaluation.component,
        template.method,
        plain(template.args),
        [taxonomy.model_dump() for taxonomy in template.taxonomies],
        metric,
        max(low, min(high, JUDGED_AT_ONCE)),
    )


def find_data(
    asked: CalibrationData,
    evaluation_steps: Sequence[dict[str, Any]] | None,
    prepared: Prepared,
    calibration: Selection | None,
    workdir: Path,
) -> Data:
    """Return the samples of a component.

    Args:
        asked: How many samples calibrate, and how they are prepared.
        evaluation_steps: Preprocessing of the evaluation items; None if there are no such items.
        prepared: The component.
        calibration: The calibration items; None if there are none.
        workdir: Folder of the evaluation items.

    Raises:
        EngineFailure: INVALID_DATA or INVALID_SPEC for too few samples, or samples that do not fit the inputs.
    """
    inputs, component = prepared.signature.inputs, manifest_component(prepared)
    evaluation = None
    if evaluation_steps is not None:
        steps = tuple(evaluation_steps) or asked.preprocessing
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
    for _ in feeds:  # reports invalid data before a tool fails on it
        pass
    return Data(feeds, judged, evaluation, tuple(warnings))


def manifest_component(prepared: Prepared) -> dict[str, object]:
    """Return a component's inputs and outputs as a manifest states them, before there is a package."""
    component = prepared.component
    return {
        "name": component.name,
        "signature": {
            "inputs": [_with_value(spec.to_dict(), prepared.ranges) for spec in prepared.signature.inputs],
            "outputs": [spec.to_dict() for spec in prepared.signature.outputs],
        },
        "preprocessing": {given.name: given.steps.model_dump(mode="json") for given in component.inputs},
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
