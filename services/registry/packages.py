"""The package fields of a version: those that users give, and those that the registry sets."""

from __future__ import annotations

from typing import Any

from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, ModelVersion, PackageInfo
from lathe.type.v1.precision_pb2 import Precision

from engines.package.manifest import Manifest
from services.platform.errors import invalid_argument
from services.platform.words import number, word, words
from services.registry import naming

MANIFEST = "manifest.json"
_FIELD = "model_version.package"


def complete_package(version: ModelVersion) -> None:
    """Check the package fields of a new version, and set those that the registry decides.

    Raises:
        LatheError: INVALID_ARGUMENT for a field that is missing, wrong, or given with files that are no package.
    """
    if version.format != MODEL_FORMAT_PACKAGE:
        if version.HasField("package"):
            raise invalid_argument(_FIELD, "Only a version of format PACKAGE has package fields; leave them out.")
        version.ClearField("parity")
        return
    if not version.HasField("package"):
        raise invalid_argument(_FIELD, "A package needs its repo, package_name, method and version; give them.")
    package = version.package
    if MANIFEST not in {file.path for file in version.files}:
        raise invalid_argument(
            "model_version.files", f"A package needs a file '{MANIFEST}' at its top level, and there is none."
        )
    package.file_name = naming.package_file_name(package)
    # Only a task measures; what a user says of parity is not believed.
    package.directly_uploaded = not version.lineage.task
    if package.directly_uploaded:
        version.ClearField("parity")


def fill_from_manifest(package: PackageInfo, manifest: bytes) -> None:
    """Set device, runtime and precision from the text of a manifest that has been described already.

    Runtime and precision are those of the first component, which is the one that evaluations run.

    Raises:
        LatheError: INVALID_ARGUMENT for a field that says something else than the manifest.
    """
    read = Manifest.model_validate_json(manifest)
    first = read.forms[0]
    found: dict[str, Any] = {
        "device": read.device,
        "runtime": first.runtime.name,
        "precision": number(Precision, first.precision if first.precision in words(Precision) else "UNSPECIFIED"),
    }
    for field, value in found.items():
        given = getattr(package, field)
        if given and value and given != value:
            shown = [word(Precision, each) if field == "precision" else each for each in (value, given)]
            raise invalid_argument(
                f"{_FIELD}.{field}", f"The package's {MANIFEST} says '{shown[0]}', the request '{shown[1]}'."
            )
        setattr(package, field, given or value)
