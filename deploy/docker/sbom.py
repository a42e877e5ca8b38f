"""Writes the bill of materials of each image, as CycloneDX 1.6: `python deploy/docker/sbom.py FOLDER`, or `make sbom`.

The packages are those of the image's extras and of all that these need, in the versions of the lock file. What needs
what comes from the packages' own metadata, as installed here: of one that is not, as the CUDA builds, only itself is
listed, and the property `lathe:incomplete` names it. What the base image brings is in the base image's own bill.
"""

from __future__ import annotations

import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sizes import IMAGES, ROOT

OURS = ("lathe", "lathe-protos")
# Not installed here as the image has it: its CUDA build needs other packages than the CPU build.
DIFFERENT = {"worker-nvidia": {"torch"}}


def pins() -> dict[str, str]:
    """Return the versions of the lock file, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def own(extras: str) -> list[Requirement]:
    """Return what Lathe itself needs with these extras."""
    asked = [f"lathe[{extras}]", "lathe-protos"]
    projects = {
        name: tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for name, folder in zip(OURS, (".", "protos"), strict=True)
    }
    found: list[Requirement] = []
    while asked:
        wanted = Requirement(asked.pop())
        project = projects[wanted.name]
        optional = (text for extra in wanted.extras for text in project["optional-dependencies"][extra])
        for text in (*project["dependencies"], *optional):
            inner = Requirement(text)
            if inner.name not in OURS and (inner.marker is None or inner.marker.evaluate()):
                found.append(inner)
            elif inner.name in OURS and inner.extras:
                asked.append(text)
    return found


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """Yield what an installed package needs; PackageNotFoundError if it is not here."""
    for text in requires(requirement.name) or []:
        need = Requirement(text)
        extras = ("", *requirement.extras)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield need


def closure(image: str, extras: str) -> tuple[dict[str, set[str]], set[str]]:
    """Return every package of an image with what it needs, by canonical name, and those of which that is not known."""
    edges: dict[str, set[str]] = {}
    unknown, waiting, seen = set[str](), own(extras), set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        edges.setdefault(name, set())
        try:
            if name in DIFFERENT.get(image, ()):
                raise PackageNotFoundError(name)
            found = [*needs(requirement)]
        except PackageNotFoundError:
            unknown.add(name)
            continue
        edges[name] |= {canonicalize_name(each.name) for each in found}
        waiting += found
    return edges, unknown


def bill(image: str, extras: str) -> str:
    """Return the bill of an image."""
    versions = pins()
    edges, unknown = closure(image, extras)
    parts = {}
    for name in sorted(edges):
        url = PackageURL("pypi", name=name, version=versions[name])
        parts[name] = Component(name=name, version=versions[name], purl=url, bom_ref=url.to_string())
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    variable = "CANN_IMAGE" if image == "worker-ascend" else "PYTHON_IMAGE"
    found = re.search(rf"^ARG {variable}=(\S+):(\S+)$", dockerfile, re.MULTILINE)
    assert found is not None, variable
    base = Component(name=found[1], version=found[2], type=ComponentType.CONTAINER, bom_ref="base")
    version = str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    whole = Component(name=f"lathe-{image}", version=version, type=ComponentType.CONTAINER, bom_ref="image")
    bom = Bom(components=[base, *parts.values()])
    bom.metadata.component = whole
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the same lock file gives the same bytes
    bom.metadata.properties.update(Property(name="lathe:incomplete", value=name) for name in sorted(unknown))
    bom.register_dependency(whole, [base, *(parts[canonicalize_name(each.name)] for each in own(extras))])
    for name, needed in edges.items():
        bom.register_dependency(parts[name], [parts[each] for each in sorted(needed)])
    facts = "\n".join([image, version, *(part.bom_ref.value or "" for part in parts.values())])
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, facts)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def main(folder: Path) -> None:
    """Write the bills into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, extras, _ in IMAGES:
        (folder / f"{image}.cdx.json").write_text(bill(image, extras), encoding="utf-8")
        print(folder / f"{image}.cdx.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
