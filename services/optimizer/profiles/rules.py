"""Rules for specifications of profiles, and their defaults. Pure functions."""

from __future__ import annotations

from lathe.optimizer.v1.profile_service_pb2 import ProfileSpec
from lathe.registry.v1.model_service_pb2 import ModelFormat, ModelVersion

from engines.failures import InvalidField
from engines.formats import FORMATS
from engines.package.manifest import Manifest
from engines.profiling.request import ProfileSpec as AskedProfile
from engines.runtimes.targets import check_forms, reading_runtime
from engines.spec.devices import load_catalog
from services.platform.errors import engine_rules, failed_precondition, invalid_argument
from services.platform.words import to_values, word
from services.tasks.kind import check_memory

_OF_SOURCES = ("runtimes", "streams", "tensor_information", "template")
"""Fields about how a source is built. A package is built already."""
# Fields that name a resource, or do not change the work: equal work is equal bytes.
_NAMES = ("model_version", "template", "timeout")


def for_package(spec: ProfileSpec, version: ModelVersion, manifest: Manifest) -> ProfileSpec:
    """Return the specification of a package's profile with its defaults written out.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION, reason DEVICE_NOT_SERVED, for another device
            than the package's.
    """
    for field in _OF_SOURCES:
        if getattr(spec, field):
            raise invalid_argument(
                f"task.spec.{field}",
                f"'{version.name}' is a package, which is measured as it was built; leave the field empty, or profile "
                "its source",
            )
    device = version.package.device
    if spec.device not in {"", device} or device not in load_catalog().devices:
        raise failed_precondition(
            "DEVICE_NOT_SERVED",
            f"'{version.name}' is built for '{device}' and does not run on '{spec.device or device}'. Profile its "
            "source for that device, or convert it first.",
            version.name,
        )
    most = min(component.max_batch for component in manifest.components)
    if max(spec.batch_sizes, default=0) > max(1, most):
        raise invalid_argument(
            "task.spec.batch_sizes",
            f"{max(spec.batch_sizes)} is more than the package takes at once, which is {max(1, most)}; leave it out, "
            "or profile its source",
        )
    return _normalized(spec, device, runtimes=1)


def for_source(spec: ProfileSpec, version: ModelVersion) -> ProfileSpec:
    """Return the specification of a source's profile with its defaults written out.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field that is missing or wrong.
    """
    if not spec.device:
        raise invalid_argument(
            "task.spec.device", f"'{version.name}' is not a package, so nothing names its device: set it here"
        )
    source_format = word(ModelFormat, version.format)
    with engine_rules("task.spec"):
        reading_runtime(spec.device)
        for name in spec.runtimes:
            try:
                check_forms(spec.device, name, source_format, FORMATS[source_format].forms)
            except InvalidField as wrong:
                found = "runtimes", wrong.objection, wrong.suggested_fix
                raise InvalidField(*found, code=wrong.code, reason=wrong.reason) from None
    possible = len(load_catalog().device(spec.device).buildable_runtimes)
    return _normalized(spec, spec.device, runtimes=len(spec.runtimes) or possible)


def without_names(spec: ProfileSpec) -> ProfileSpec:
    """Return what a worker needs of a specification."""
    made = ProfileSpec()
    made.CopyFrom(spec)
    for field in _NAMES:
        made.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
    return made


def _normalized(spec: ProfileSpec, device: str, *, runtimes: int) -> ProfileSpec:
    made = ProfileSpec()
    made.CopyFrom(spec)
    made.device = device
    made.memory_limit_bytes = spec.memory_limit_bytes or load_catalog().device(device).memory_limit_bytes
    if list(made.streams) == [1]:
        made.ClearField("streams")
    check_memory(spec.memory_limit_bytes)
    with engine_rules("task.spec"):
        AskedProfile.model_validate(to_values(made)).check_size(runtimes)
    return made
