"""Rules for specifications of quantizations, and their defaults. Pure functions."""

from __future__ import annotations

from lathe.quantizer.v1.quantization_service_pb2 import (
    GRANULARITY_PER_CHANNEL,
    QUANTIZATION_SCHEME_STATIC,
    CalibrationData,
    QuantizationScheme,
    QuantizationSpec,
)
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.template.v1.template_service_pb2 import Template
from lathe.type.v1.precision_pb2 import PRECISION_INT8, Precision

from engines.quantization import request as quantization
from engines.runtimes.targets import quantization_target
from engines.spec.targets import check_quantized
from engines.spec.template import check_judged
from services.platform.errors import engine_rules, invalid_argument
from services.platform.words import number, to_values, word
from services.siblings.datasets import annotations_missing, can_judge, refuse_steps_on_tensors
from services.tasks.kind import check_memory


def normalized(spec: QuantizationSpec) -> QuantizationSpec:
    """Return the specification with its defaults written out, so that equal work is equal bytes.

    A calibration method that was not said stays open: only then may the search try another one than ENTROPY_2.

    Raises:
        LatheError: INVALID_ARGUMENT for a precision that no quantization makes, a scheme that does not go with it, or
            calibration data that it needs and does not have.
    """
    made = QuantizationSpec()
    made.CopyFrom(spec)
    said = quantization.QuantizationSpec.model_validate(to_values(spec))
    made.precision = number(Precision, said.arithmetic)
    with engine_rules("task.spec"):
        check_quantized(said.arithmetic)
        said.check_scheme()
    if said.kind != "HALF":
        made.scheme = number(QuantizationScheme, said.kind)
    made.granularity = made.granularity or GRANULARITY_PER_CHANNEL
    if made.HasField("calibration_data"):
        made.calibration_data.samples = made.calibration_data.samples or quantization.DEFAULT_SAMPLES
        made.calibration_data.batch_size = made.calibration_data.batch_size or 1
    _check_calibration(made)
    check_memory(spec.memory_limit_bytes)
    return made


def check_target(template: Template, precision: Precision.ValueType) -> None:
    """Refuse a device, runtime or precision that this release cannot make; LatheError INVALID_ARGUMENT."""
    with engine_rules("task.spec"):
        quantization_target(template.device, template.runtime, word(Precision, precision))


def check_calibration_dataset(spec: QuantizationSpec, dataset: Dataset) -> None:
    """Refuse a dataset that is smaller than one batch; LatheError INVALID_ARGUMENT naming both numbers."""
    data = spec.calibration_data
    if min(data.samples, dataset.item_count) < data.batch_size:
        raise _too_few(data, f"'{dataset.name}' gives {min(data.samples, dataset.item_count)} samples")
    refuse_steps_on_tensors(dataset, len(data.preprocessing), "task.spec.calibration_data.preprocessing")


def check_judged_dataset(spec: QuantizationSpec, dataset: Dataset, template: Template) -> None:
    """Refuse a dataset without the annotations that the template's method is judged by.

    Raises:
        LatheError: INVALID_ARGUMENT for several components or a method without a metric; FAILED_PRECONDITION,
            reason ANNOTATIONS_MISSING.
    """
    with engine_rules("task.spec"):
        check_judged(len(template.components), template.method, "accuracy")
    if not can_judge(dataset, template.method):
        raise annotations_missing(dataset, template.method)
    refuse_steps_on_tensors(dataset, len(spec.accuracy.preprocessing), "task.spec.accuracy.preprocessing")


def _check_calibration(spec: QuantizationSpec) -> None:
    data = spec.calibration_data
    given = spec.HasField("calibration_data") and data.WhichOneof("source") is not None
    if spec.HasField("calibration_data") and not given:
        raise invalid_argument("task.spec.calibration_data", "it names neither a dataset nor an artifact")
    if spec.precision == PRECISION_INT8 and spec.scheme == QUANTIZATION_SCHEME_STATIC and not given:
        raise invalid_argument(
            "task.spec.calibration_data",
            "static INT8 finds the ranges of activations on data: name a dataset or an artifact. The schemes DYNAMIC "
            "and WEIGHT_ONLY need none",
        )
    if given and data.samples < data.batch_size:
        raise _too_few(data, f"the specification wants {data.samples} samples")


def _too_few(data: CalibrationData, found: str) -> Exception:
    return invalid_argument(
        "task.spec.calibration_data.samples",
        f"{found}, and one batch takes {data.batch_size}: give more samples or a smaller batch_size",
    )
