"""The bill of materials in a package: valid, complete, and the same for the same package."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from engines.package.sbom import bill

NEEDS = {"numpy": "2.4.0", "onnxruntime": "1.31.0", "torch": "2.13.0+cpu", "acl": ""}


def test_a_bill_names_all_that_the_package_needs() -> None:
    text = bill("digits", "1.2", NEEDS)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    assert {part["name"]: part.get("version", "") for part in found["components"]} == NEEDS
    assert {part["purl"] for part in found["components"]} >= {"pkg:pypi/numpy@2.4.0", "pkg:pypi/acl"}
    whole = found["metadata"]["component"]
    assert (whole["name"], whole["version"], whole["type"]) == ("digits", "1.2", "machine-learning-model")
    needed = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    assert len(needed[whole["bom-ref"]]) == len(NEEDS)


def test_equal_packages_have_equal_bills() -> None:
    assert bill("digits", "1", NEEDS) == bill("digits", "1", NEEDS)
    assert bill("digits", "1", NEEDS) != bill("digits", "2", NEEDS)
    assert json.loads(bill("a", "1", {}))["serialNumber"] != json.loads(bill("a", "2", {}))["serialNumber"]
