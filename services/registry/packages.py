"""What a package says of itself, and what the registry says of it."""

from __future__ import annotations

import re

from lathe.registry.v1.model_service_pb2 import PACKAGE, ModelVersion

from services.common.errors import LatheError, invalid_argument, invalid_fields
from services.registry import naming

MANIFEST = "manifest.json"
_TEMPLATE = re.compile(r"^templates/[^/]+$")
_FIELD = "model_version.package"
_REQUIRED = ("repo", "package_name", "method", "version")


def complete_package(version: ModelVersion) -> None:
    """Check the package fields of a new version, and set those that the registry decides.

    Raises:
        LatheError: INVALID_ARGUMENT for a field that is missing, wrong, or given with files that are no package.
    """
    if version.format != PACKAGE:
        if version.HasField("package"):
            raise invalid_argument(_FIELD, "Only a version of format PACKAGE has package fields; leave them out.")
        version.ClearField("parity")
        return
    if not version.HasField("package"):
        raise _missing(_REQUIRED)
    package = version.package
    if missing := [field for field in _REQUIRED if not getattr(package, field)]:
        raise _missing(missing)
    if package.template and not _TEMPLATE.fullmatch(package.template):
        raise invalid_argument(f"{_FIELD}.template", f"'{package.template}' is not of the form 'templates/…'.")
    if MANIFEST not in {file.path for file in version.files}:
        raise invalid_argument(
            "model_version.files", f"A package has a file '{MANIFEST}' at its top; none of the files is called so."
        )
    package.file_name = naming.package_file_name(package)
    # Only a task measures; what a user says of parity is not believed.
    package.directly_uploaded = not version.lineage.task
    if package.directly_uploaded:
        version.ClearField("parity")


def _missing(fields: tuple[str, ...] | list[str]) -> LatheError:
    return invalid_fields(
        [(f"{_FIELD}.{field}", f"A package needs its {field}: its file name is made of it.") for field in fields]
    )
