"""The bills of materials of the images: valid, and of what the lock file pins."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.manifests.deployed import DEPLOY
from tests.unit.test_lock import canonical, pins

INSTALLED_HERE = {"api", "registry", "evaluator", "worker-cpu", "worker-ascend"}


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sbom")
    subprocess.run([sys.executable, str(DEPLOY / "docker/sbom.py"), str(folder)], check=True, capture_output=True)
    return {path.name.removesuffix(".cdx.json"): path.read_text() for path in folder.iterdir()}


def test_every_image_has_a_valid_bill(bills: dict[str, str]) -> None:
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    assert set(bills) == {
        line.split("--target ")[1].split()[0] for line in dockerfile.splitlines() if "--target" in line
    }
    for image, text in bills.items():
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None, image


def test_a_bill_holds_what_the_lock_pins_and_says_what_it_does_not_know(bills: dict[str, str]) -> None:
    pinned = pins()
    for image, text in bills.items():
        found: dict[str, Any] = json.loads(text)
        libraries = {part["name"]: part["version"] for part in found["components"] if part["type"] == "library"}
        assert {canonical(name): version for name, version in libraries.items()}.items() <= pinned.items(), image
        assert {"grpcio", "protobuf", "numpy"} <= libraries.keys()
        incomplete = {each["value"] for each in found["metadata"].get("properties", [])}
        assert bool(incomplete) == (image not in INSTALLED_HERE), image
        assert incomplete <= libraries.keys()


def test_what_an_image_needs_is_reached_from_it(bills: dict[str, str]) -> None:
    found = json.loads(bills["worker-cpu"])
    edges = {each["ref"]: set(each.get("dependsOn", [])) for each in found["dependencies"]}
    reached, waiting = set[str](), {"image"}
    while waiting:
        reached |= waiting
        waiting = {needed for each in waiting for needed in edges[each]} - reached
    assert reached == {"image", *(part["bom-ref"] for part in found["components"])}
    names = {reference.partition("@")[0] for reference in reached}
    assert {"pkg:pypi/onnxruntime", "pkg:pypi/torch", "pkg:pypi/sympy"} <= names
