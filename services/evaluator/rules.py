"""What an evaluation may ask of a version and of a dataset: everything that needs no engine. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationSpec
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, ModelFormat, ModelVersion
from lathe.type.v1.precision_pb2 import Precision

from engines.evaluation.request import Spec
from engines.failures import EngineFailure
from engines.package.manifest import Manifest
from engines.spec.devices import load_catalog
from engines.spec.template import DETECTORS
from services.platform.errors import engine_rules, failed_precondition, invalid_argument
from services.platform.words import word
from services.siblings.datasets import refuse_steps_on_tensors
from services.tasks.kind import check_memory


def require_package(version: ModelVersion) -> None:
    """Raise LatheError FAILED_PRECONDITION, reason NOT_A_PACKAGE, for any other format."""
    if version.format != MODEL_FORMAT_PACKAGE:
        found = word(ModelFormat, version.format)
        raise failed_precondition(
            "NOT_A_PACKAGE",
            f"'{version.name}' is of format {found}, and only a package can be run. Convert it first, and evaluate the "
            "version that the conversion makes.",
            version.name,
        )


def check_spec(spec: EvaluationSpec, version: ModelVersion, manifest: Manifest) -> None:
    """Check a specification against the package that it names.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION for a device or precision that the package
            is not for.
    """
    _check_target(spec, version)
    method = _method(spec, manifest)
    if spec.iou_thresholds and method not in DETECTORS:
        raise invalid_argument("task.spec.iou_thresholds", f"the method {method} finds no boxes; leave them out")
    most = manifest.components[0].max_batch  # the one that is evaluated
    if spec.batch_size > most:
        raise invalid_argument(
            "task.spec.batch_size", f"{spec.batch_size} is more than the package takes at once, which is {most}"
        )
    _check_names(
        "class_tasks", spec.class_tasks, [entry.task for entry in manifest.taxonomies], "taxonomies", "package"
    )
    check_memory(spec.memory_limit_bytes)


def check_dataset(spec: EvaluationSpec, dataset: Dataset) -> None:
    """Check a specification against its dataset; LatheError INVALID_ARGUMENT naming the field."""
    known = dict.fromkeys(entry.key for entry in dataset.attributes)
    _check_names("slices", spec.slices, list(known), "attributes", "dataset")
    refuse_steps_on_tensors(dataset, len(spec.preprocessing), "task.spec.preprocessing")


def _check_target(spec: EvaluationSpec, version: ModelVersion) -> None:
    package = version.package
    devices = load_catalog().devices
    if spec.device:
        with engine_rules("task.spec"):
            load_catalog().device(spec.device)
    if spec.device and spec.device != package.device:
        raise failed_precondition(
            "DEVICE_NOT_SERVED",
            f"'{version.name}' is built for '{package.device}' and does not run on '{spec.device}'. Convert its source "
            "for that device, and evaluate the version that the conversion makes.",
            version.name,
        )
    if package.device not in devices:
        message = f"'{version.name}' is built for '{package.device}', which the catalog does not have."
        raise failed_precondition("DEVICE_NOT_SERVED", message, version.name)
    if spec.precision and spec.precision != package.precision:
        asked, has = word(Precision, spec.precision), word(Precision, package.precision)
        raise failed_precondition(
            "PRECISION_NOT_AVAILABLE",
            f"'{version.name}' computes in {has} and has no form in {asked}. Evaluate it in {has}, or convert or "
            f"quantize its source to {asked} first.",
            version.name,
        )


def _method(spec: EvaluationSpec, manifest: Manifest) -> str:
    """Return the method; LatheError INVALID_ARGUMENT if it does not exist or does not take its arguments."""
    args = {name: MessageToDict(value) for name, value in spec.args.items()}
    try:
        return Spec(method=spec.method, args=args).method_of(manifest)[0]
    except EngineFailure as failure:
        field = "task.spec.args" if spec.args else "task.spec.method"
        raise invalid_argument(field, failure.message) from None


def _check_names(field: str, asked: Sequence[str], known: Sequence[str], what: str, whose: str) -> None:
    missing = [name for name in asked if name not in known]
    if missing:
        have = f"they are {', '.join(known)}" if known else "it has none"
        raise invalid_argument(
            f"task.spec.{field}", f"{', '.join(missing)}: not among the {what} of the {whose}; {have}"
        )
