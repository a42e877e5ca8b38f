"""The software that a package needs, as a CycloneDX bill of materials: what scanners for known faults read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

FILE_NAME = "sbom.cdx.json"


def bill(name: str, version: str, packages: Mapping[str, str]) -> str:
    """Return the bill of a package, in the JSON of CycloneDX 1.6. Equal arguments give equal texts.

    Args:
        name: Name of the package.
        version: Its version.
        packages: Packages of the Python package index that it needs, with their versions; empty if not known.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    urls = {each: PackageURL("pypi", name=each, version=number or None) for each, number in packages.items()}
    needed = [
        Component(name=each, version=packages[each] or None, purl=url, bom_ref=url.to_string())
        for each, url in urls.items()
    ]
    model = Component(name=name, version=version, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref="package")
    facts = "\n".join([name, version, *(url.to_string() for url in urls.values())])
    bom = Bom(components=needed, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, facts))
    bom.metadata.component = model
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the same inputs give the same bytes
    bom.register_dependency(model, needed)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
