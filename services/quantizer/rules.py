"""What a quantization may ask for, and what it means where it says nothing. Pure functions."""

from __future__ import annotations

from lathe.quantizer.v1.quantization_service_pb2 import (
    DYNAMIC,
    PER_CHANNEL,
    QUANTIZATION_SCHEME_UNSPECIFIED,
    STATIC,
    WEIGHT_ONLY,
    CalibrationData,
    QuantizationScheme,
    QuantizationSpec,
)
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.template.v1.template_service_pb2 import Template
from lathe.type.v1.precision_pb2 import BF16, FP16, INT4, INT8, PRECISION_UNSPECIFIED, Precision

from engines.runtimes import GRAPH, builds_from
from engines.spec.devices import load_catalog
from services.platform.errors import invalid_argument
from services.siblings.datasets import annotations_missing, can_judge, refuse_steps_on_tensors
from services.tasks.kind import MINIMUM_MEMORY

DEFAULT_SAMPLES = 128
_HALF = frozenset({FP16, BF16})


def normalized(spec: QuantizationSpec) -> QuantizationSpec:
    """Return the specification with its defaults written out, so that equal work is equal bytes.

    A calibration method that was not said stays open: only then may the search try another one than ENTROPY_2.

    Raises:
        LatheError: INVALID_ARGUMENT for a precision that no quantization makes, a scheme that does not go with it, or
            calibration data that it needs and does not have.
    """
    made = QuantizationSpec()
    made.CopyFrom(spec)
    if made.precision == PRECISION_UNSPECIFIED:
        made.precision = INT8
    if made.precision not in (INT8, INT4, *_HALF):
        name = Precision.Name(made.precision)
        raise invalid_argument(
            "task.spec.precision", f"{name} needs no quantization: convert the version. INT8, INT4, FP16 and BF16 do"
        )
    _set_scheme(made)
    made.granularity = made.granularity or PER_CHANNEL
    if made.HasField("calibration_data"):
        made.calibration_data.samples = made.calibration_data.samples or DEFAULT_SAMPLES
        made.calibration_data.batch_size = made.calibration_data.batch_size or 1
    _check_calibration(made)
    if 0 < spec.memory_limit_bytes < MINIMUM_MEMORY:
        raise invalid_argument("task.spec.memory_limit_bytes", f"at least {MINIMUM_MEMORY} bytes are needed, or 0")
    return made


def check_target(template: Template, precision: Precision.ValueType) -> None:
    """Refuse a device, runtime or precision that this release cannot make; LatheError INVALID_ARGUMENT."""
    devices = load_catalog().devices
    device = devices.get(template.device)
    if device is None:
        raise invalid_argument(
            "task.spec.device", f"there is no device '{template.device}'; there are {', '.join(devices)}"
        )
    runtimes = {name: each for name, each in device.buildable_runtimes.items() if builds_from(name, {GRAPH})}
    if template.runtime not in runtimes:
        offered = ", ".join(runtimes) or "none"
        raise invalid_argument(
            "task.spec.runtime",
            f"this release cannot build for '{template.runtime}' on {device.id}; it can for: {offered}",
        )
    name = Precision.Name(precision)
    makes = {each.name: (*each.precisions, *each.quantized) for each in runtimes.values()}
    if name not in makes[template.runtime]:
        others = ", ".join(runtime for runtime, precisions in makes.items() if name in precisions) or "no runtime"
        raise invalid_argument(
            "task.spec.precision",
            f"{template.runtime} on {device.id} does not compute in {name}; it offers "
            f"{', '.join(makes[template.runtime])}. {name} there is offered by {others}",
        )


def check_calibration_dataset(spec: QuantizationSpec, dataset: Dataset) -> None:
    """Refuse a dataset that is smaller than one batch; LatheError INVALID_ARGUMENT naming both numbers."""
    data = spec.calibration_data
    if min(data.samples, dataset.item_count) < data.batch_size:
        raise _too_few(data, f"'{dataset.name}' gives {min(data.samples, dataset.item_count)} samples")
    refuse_steps_on_tensors(dataset, len(data.preprocessing), "task.spec.calibration_data.preprocessing")


def check_judged_dataset(spec: QuantizationSpec, dataset: Dataset, method: str) -> None:
    """Refuse a dataset by whose annotations the method's predictions cannot be judged.

    Raises:
        LatheError: INVALID_ARGUMENT for a method that has no metric; FAILED_PRECONDITION, reason ANNOTATIONS_MISSING.
    """
    if method == "raw":
        raise invalid_argument(
            "task.spec.accuracy",
            "the method of the template is raw, whose outputs nothing judges; name a template with a method, or leave "
            "the bound out",
        )
    if not can_judge(dataset, method):
        raise annotations_missing(dataset, method)
    refuse_steps_on_tensors(dataset, len(spec.accuracy.preprocessing), "task.spec.accuracy.preprocessing")


def _set_scheme(spec: QuantizationSpec) -> None:
    """Write the scheme out: none for half precision, weights alone for INT4, static for INT8 where nothing is said."""
    if spec.precision in _HALF and spec.scheme == QUANTIZATION_SCHEME_UNSPECIFIED:
        return
    if spec.scheme == QUANTIZATION_SCHEME_UNSPECIFIED:
        spec.scheme = WEIGHT_ONLY if spec.precision == INT4 else STATIC
    allowed = {INT8: (STATIC, DYNAMIC, WEIGHT_ONLY), INT4: (WEIGHT_ONLY,)}.get(spec.precision, ())
    if spec.scheme not in allowed:
        asked, name = QuantizationScheme.Name(spec.scheme), Precision.Name(spec.precision)
        fits = " or ".join(QuantizationScheme.Name(each) for each in allowed) or "no scheme"
        raise invalid_argument("task.spec.scheme", f"{asked} does not go with {name}, which takes {fits}")


def _check_calibration(spec: QuantizationSpec) -> None:
    data = spec.calibration_data
    given = spec.HasField("calibration_data") and data.WhichOneof("source") is not None
    if spec.HasField("calibration_data") and not given:
        raise invalid_argument("task.spec.calibration_data", "it names neither a dataset nor an artifact")
    if spec.precision == INT8 and spec.scheme == STATIC and not given:
        raise invalid_argument(
            "task.spec.calibration_data",
            "static INT8 finds the ranges of activations on data: name a dataset or an artifact. The schemes DYNAMIC "
            "and WEIGHT_ONLY need none",
        )
    if given and data.samples < data.batch_size:
        raise _too_few(data, f"{data.samples} samples are asked for")


def _too_few(data: CalibrationData, found: str) -> Exception:
    return invalid_argument(
        "task.spec.calibration_data.samples",
        f"{found}, and one batch takes {data.batch_size}: give more samples or a smaller batch_size",
    )
