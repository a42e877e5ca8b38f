"""The fields of a package: checked, completed, never contradicting its manifest."""

import json

import pytest
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, MODEL_FORMAT_PACKAGE, ModelVersion, PackageInfo
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.measurement_pb2 import ParityReport
from lathe.type.v1.precision_pb2 import PRECISION_BF16, PRECISION_FP32

from services.platform.errors import LatheError
from services.registry.packages import complete_package, fill_from_manifest
from tests.unit.package.test_manifest import MANIFEST as COMPLETE

MANIFEST = json.dumps({**COMPLETE, "precision": "BF16"}).encode()


def _version(**fields: str) -> ModelVersion:
    package = PackageInfo(repo="r", package_name="n", method="m", version="1")
    for name, value in fields.items():
        setattr(package, name, value)
    return ModelVersion(
        format=MODEL_FORMAT_PACKAGE,
        package=package,
        files=[File(path="manifest.json")],
        parity={"main": ParityReport()},
    )


def test_a_users_package_is_named_and_its_parity_not_believed() -> None:
    version = _version()
    complete_package(version)
    assert (version.package.file_name, version.package.directly_uploaded) == ("r_n_m_1.tar", True)
    assert not version.parity


def test_a_tasks_package_keeps_its_parity() -> None:
    version = _version()
    version.lineage.task = "conversionTasks/1"
    version.package.directly_uploaded = True
    complete_package(version)
    assert not version.package.directly_uploaded
    assert "main" in version.parity


def test_what_is_no_package_has_no_parity() -> None:
    version = ModelVersion(format=MODEL_FORMAT_ONNX, parity={"main": ParityReport()})
    complete_package(version)
    assert not version.parity


@pytest.mark.parametrize(
    ("version", "field"),
    [
        (ModelVersion(format=MODEL_FORMAT_PACKAGE), "model_version.package"),
        (ModelVersion(format=MODEL_FORMAT_ONNX, package=PackageInfo()), "model_version.package"),
        (
            ModelVersion(format=MODEL_FORMAT_PACKAGE, package=PackageInfo(), files=[File(path="a/manifest.json")]),
            "model_version.files",
        ),
    ],
)
def test_what_is_wrong_is_named(version: ModelVersion, field: str) -> None:
    with pytest.raises(LatheError) as refusal:
        complete_package(version)
    assert refusal.value.fields[0][0] == field


def test_the_manifest_fills_what_was_not_given() -> None:
    package = PackageInfo(device="cpu-x86-64")
    fill_from_manifest(package, MANIFEST)
    assert (package.device, package.runtime, package.precision) == ("cpu-x86-64", "openvino", PRECISION_BF16)


def test_a_package_is_listed_by_the_form_of_its_first_component() -> None:
    (component,) = COMPLETE["components"]
    parts = [{**component, "precision": "BF16", "runtime": {"name": "onnxruntime", "version": "1"}}, component]
    package = PackageInfo()
    fill_from_manifest(package, json.dumps({**COMPLETE, "components": parts}).encode())
    assert (package.runtime, package.precision) == ("onnxruntime", PRECISION_BF16)


@pytest.mark.parametrize(
    "package", [PackageInfo(device="cpu-arm64"), PackageInfo(runtime="x"), PackageInfo(precision=PRECISION_FP32)]
)
def test_the_manifest_is_not_contradicted(package: PackageInfo) -> None:
    with pytest.raises(LatheError, match=r"manifest\.json says"):
        fill_from_manifest(package, MANIFEST)
